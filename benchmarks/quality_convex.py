"""The convex case of weighting_quality.py: softmax regression with teachers of its own class."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck.data import Data
from limbeck.randomness import generator


ROWS, WIDTH, BATCH, RATE = 2000, 10, 8, 0.4
EXCESS = (5e-4, 5e-3, 5e-2)
TEACHERS = tuple(f"{excess:.0e} nats" for excess in EXCESS)
MEASURES = tuple(f"excess at rate {RATE * 0.25**at:g}" for at in range(3))
STEPS = 1000  # of each of three phases


class Problem:
    """Rows, the optimum of the training loss, and teachers at a distance from it."""

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(4)
        scale = torch.linspace(0.7, 1.3, WIDTH, dtype=torch.float64)
        self.x = torch.randn(ROWS, WIDTH, generator=source, dtype=torch.float64) * scale
        truth = torch.randn(WIDTH, generator=source, dtype=torch.float64)
        p = torch.sigmoid(self.x @ (1.2 * truth / truth.norm()))
        self.y = (torch.rand(ROWS, generator=source) < p).long()
        self.best = torch.zeros(2, WIDTH, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [self.best],
            max_iter=500,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = self.loss(self.best)
            loss.backward()
            return loss

        solver.step(closure)
        self.best = self.best.detach()
        self.least = self.loss(self.best).item()
        away = torch.randn(2, WIDTH, generator=source, dtype=torch.float64)
        self.teachers = [self.best + self._size(away, excess) * away for excess in EXCESS]

    def loss(self, weight: Tensor) -> Tensor:
        """Return the training loss [nats]."""
        return F.cross_entropy(self.x @ weight.T, self.y)

    def _size(self, away: Tensor, excess: float) -> float:
        low, high = 0.0, 10.0
        for _ in range(80):
            middle = (low + high) / 2
            above = self.loss(self.best + middle * away).item() - self.least
            low, high = (middle, high) if above < excess else (low, middle)
        return low


@lru_cache(maxsize=1)
def problem() -> Problem:
    return Problem()


def network(weight: Tensor) -> nn.Module:
    model = nn.Linear(WIDTH, 2, bias=False).double()
    model.weight.data = weight.clone()
    return model


def term(student: Any, teacher: Any, batch: Any) -> Tensor:  # noqa: ARG001
    return limbeck.kd_loss(student.logits, teacher.logits, temperature=1.0)


def run(weight: Any, teacher: int, seed: int, share: float = 1.0) -> dict[str, Any]:
    """Train one student and return its mean excess loss at the end of each phase [nats].

    Args:
        weight: As :func:`limbeck.distill` takes it.
        teacher: Which.
        seed: Of start and order.
        share: Of the epochs.
    """
    torch.set_num_threads(1)
    given = problem()
    start = given.best + 0.1 * torch.randn(
        2, WIDTH, generator=generator(seed, "start"), dtype=torch.float64
    )
    student, seen = network(start), []

    def look(inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:  # noqa: ARG001
        with torch.no_grad():
            seen.append(given.loss(student.weight).item() - given.least)
        return inputs

    epochs = max(3, round(share * 3 * STEPS * BATCH / ROWS))
    result = limbeck.distill(
        student,
        network(given.teachers[teacher]),
        Data((given.x, given.y), augment=look),
        loss=term,
        weight=weight,
        seed=seed,
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="step",
        milestones=(epochs // 3, 2 * epochs // 3),
        decay=0.25,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        views=1,  # `look` changes nothing: epochs take the same rows
        validation=(given.x, given.y),
        evaluate_every=epochs,
        device="cpu",
        progress=False,
        force=True,
    )
    phases = np.array(seen[-(epochs * ROWS // BATCH) :]).reshape(3, -1)
    last = phases[:, -phases.shape[1] // 10 :].mean(1)
    return {
        **dict(zip(MEASURES, last.tolist(), strict=True)),
        "score": float(last[-1]),
        "weight": result.record.curves.get("distillation weight", [None])[-1],
        "race": result.record.settings.get("weight_race", {}).get("winner"),
    }
