"""A small network that corrects another classifier's log posteriors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.information.threads import one_thread
from limbeck.randomness import generator


HIDDEN = 64
BATCH = 256
STEPS = 1200  # at most
EPOCHS = 20
HELD = 0.12  # share of the rows that says when to stop
LOOKS = 12  # at those rows


def correction(
    rows: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    start: Float[np.ndarray, "n classes"],
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Train a network whose output is added to log posteriors, from zero.

    One hidden layer beside a linear one; AdamW with a one-cycle rate; the weights of the look at
    held rows with the lowest cross-entropy are kept, the start itself included: the result is
    never worse than the start on those rows.

    Args:
        rows: Features; they are standardised here.
        targets: Labels.
        start: Log posteriors that are corrected [nats].
        seed: Of weights, batches and held rows.
        device: Where to train.

    Returns:
        A function from features and their start to corrected log posteriors [nats].
    """
    random = generator(seed, "network")
    centre, scale = rows.mean(0), rows.std(0)
    scale = np.where(scale > 0, scale, 1.0)

    def tensor(given: np.ndarray) -> Tensor:
        return torch.as_tensor((given - centre) / scale, dtype=torch.float32).to(device)

    x, y = tensor(rows), torch.as_tensor(targets, dtype=torch.int64).to(device)
    offset = torch.tensor(start, dtype=torch.float32).to(device)
    order = torch.randperm(len(rows), generator=random).to(device)
    held, used = order.tensor_split([max(int(HELD * len(rows)), 1)])
    network = _Network(rows.shape[1], start.shape[1], random).to(device)
    with one_thread():
        _train(network, x, y, offset, used, held, random)

    @torch.no_grad()
    def corrected(given: np.ndarray, start: np.ndarray) -> np.ndarray:
        found = torch.tensor(start, dtype=torch.float32).to(device)
        return F.log_softmax(found + network(tensor(given)), dim=1).cpu().double().numpy()

    return corrected


class _Network(nn.Module):
    def __init__(self, width: int, classes: int, random: torch.Generator) -> None:
        super().__init__()
        self.into = nn.Linear(width, HIDDEN)
        self.out = nn.Linear(HIDDEN, classes)
        self.straight = nn.Linear(width, classes, bias=False)
        bound = width**-0.5
        with torch.no_grad():
            for parameter in self.into.parameters():
                parameter.uniform_(-bound, bound, generator=random)
            for parameter in (*self.out.parameters(), *self.straight.parameters()):
                parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.into(x))) + self.straight(x)


def _train(
    network: _Network,
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    offset: Float[Tensor, "n classes"],
    used: Int[Tensor, " m"],
    held: Int[Tensor, " h"],
    random: torch.Generator,
) -> None:
    batches = max(len(used) // BATCH, 1)
    steps = min(STEPS, EPOCHS * batches)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.2)

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(network(x[rows]) + offset[rows], y[rows])

    best = float("inf")
    kept = {name: p.detach().clone() for name, p in network.named_parameters()}
    for step in range(steps + 1):
        if step % max(steps // LOOKS, 1) == 0 or step == steps:
            with torch.no_grad():
                value = float(loss(held))
            if value < best:
                best = value
                kept = {name: p.detach().clone() for name, p in network.named_parameters()}
        if step == steps:
            break
        if step % batches == 0:
            used = used[torch.randperm(len(used), generator=random).to(used.device)]
        at = step % batches * BATCH
        value = loss(used[at : at + BATCH])
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        rate.step()
    network.load_state_dict(kept)
