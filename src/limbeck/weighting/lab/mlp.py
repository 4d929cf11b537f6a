"""Case ``mlp``: the weight that measured moments ask for, against a grid of trained networks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.lab_result import (
    Check,
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    line,
)
from limbeck.randomness import generator
from limbeck.weighting.controlling.unbiased import predicted_factor
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.reporting.advice import recommend_weight
from limbeck.weighting.theory.laws import noise_floor


WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LEARNING_RATE, BATCH, WIDTH, WIDE = 0.2, 4, 16, 128
CHAINS = {"full": 6, "quick": 4}
STEPS = {"full": 14000, "quick": 3000}
EVERY = {"full": 50, "quick": 100}
DISTINCT = 2.0  # standard errors by which one weight is better than another
Rows = tuple[Float[Tensor, "n inputs"], Int[Tensor, " n"]]


def example_classes() -> Rows:
    """Return 2000 rows of five Gaussian classes in 20 dimensions; always the same."""
    rng = np.random.default_rng(3)
    means = 0.6 * rng.normal(size=(5, 20))
    drawn = rng.integers(5, size=2000)
    rows = means[drawn] + rng.normal(size=(2000, 20))
    redrawn = rng.uniform(size=2000) < 0.1
    labels = np.where(redrawn, rng.integers(5, size=2000), drawn)
    return torch.from_numpy(rows).float(), torch.from_numpy(labels)


def mlp(settings: LabSettings) -> LabResult:
    r"""Check the weight of :func:`limbeck.recommend_weight` on a tanh network.

    Moments of the trained student and of teachers give a weight for each; then students are
    trained at six weights by SGD with constant steps and their training cross-entropy is averaged
    over the second half. The weight lies within 1.5 steps of the grid of the best one, which is the
    best grid value or its neighbour, where values that are worse by less than two standard errors
    of the paired difference count as best too.

    Args:
        settings: A quick run takes two teachers of six, fewer chains and steps; the criterion is
            the same.

    Returns:
        A check a teacher whose weight is resolved, remarks on the others, and the excess
        cross-entropy [nats] over the weight with the quadratic law of the same moments.

    Source:
        Derived, for the analysis of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    began = time.perf_counter()
    found = measure(settings)
    checks, curves, remarks = [], [], []
    for name, excess in found["excess"].items():
        moments: GradientMoments = found["moments"][name]
        advice = recommend_weight(moments, learning_rate=LEARNING_RATE, batch_size=BATCH)
        weight = advice.loss
        means = excess.mean(0)
        curves.append(
            LabCurve(
                name,
                "distillation weight",
                "excess cross-entropy [nats]",
                WEIGHTS,
                line(means),
                line(_law(moments)),
            )
        )
        if weight is None or weight.status == "unresolved":
            remarks.append(
                f"{name}: the weight is unresolved ({advice.diagnosis}); measured best "
                f"{WEIGHTS[int(means.argmin())]:g}"
            )
            continue
        checks.append(near_best(name, excess, weight.value))
    sizes = {**found["settings"], "learning_rate": LEARNING_RATE, "batch_size": BATCH}
    return LabResult(
        "mlp",
        tuple(checks),
        tuple(curves),
        sizes,
        round(time.perf_counter() - began, 3),
        tuple(remarks),
    )


def near_best(name: str, excess: Float[np.ndarray, "chains weights"], weight: float) -> Check:
    """Judge a weight by the best of the grid, or by the nearest that is as good within noise.

    Args:
        name: Of the teacher.
        excess: Measured at each weight of the grid, by chain.
        weight: That is recommended.

    Returns:
        A check of kind "absolute" within 1.5 steps of the grid.
    """
    best = int(excess.mean(0).argmin())
    apart = excess - excess[:, [best]]
    errors = apart.std(0, ddof=1) / np.sqrt(len(excess))
    as_good = [
        w for w, d, e in zip(WEIGHTS, apart.mean(0), errors, strict=True) if d <= DISTINCT * e
    ]
    nearest = min(as_good, key=lambda w: abs(w - weight))
    tolerance = 1.5 * (WEIGHTS[1] - WEIGHTS[0])
    return compare(f"{name}: best weight", nearest, weight, tolerance)


def _law(moments: GradientMoments) -> list[float]:
    """Return floor and bias as measured, at each weight."""
    bias = max(moments.D_T or 0.0, 0.0)
    floor = noise_floor(moments.tr_gg, learning_rate=LEARNING_RATE, batch_size=BATCH)
    traces = (moments.tr_gg, moments.tr_gh, moments.tr_hh)
    return [floor * float(predicted_factor(w, *traces)) + w**2 * bias for w in WEIGHTS]


def measure(settings: LabSettings) -> dict[str, Any]:
    """Train teachers and students; return excess by chain, and moments, for each teacher."""
    size = "quick" if settings.quick else "full"
    rows, steps = example_classes(), STEPS[size]
    student = _polished(_by_sgd(_network(WIDTH, 0), rows, steps=4000, seed=0), rows)
    other = _by_sgd(_network(WIDTH, 2), rows, steps=4000, seed=2)
    teachers = {
        "same basin, raw": _by_sgd(_copied(student), rows, steps=2000, seed=1),
        "other start, polished": _polished(other, rows),
    }
    if not settings.quick:
        wide = _by_sgd(_network(WIDE, 3), rows, steps=2000, seed=3)
        teachers |= {
            "uniform": _uniform(),
            "same basin, polished": student,
            "wide, stopped early": _by_sgd(_network(WIDE, 3), rows, steps=400, seed=3),
            "wide, interpolating": _polished(wide, rows),
        }
    with torch.no_grad():
        said = {name: one(rows[0]) for name, one in teachers.items()}
        least = float(F.cross_entropy(student(rows[0]), rows[1]))
    moments = {
        name: gradient_moments(
            student,
            one,
            (rows[0], rows[1]),
            n=len(rows[1]),
            loss=_plain,
            seed=settings.seed,
        )
        for name, one in teachers.items()
    }
    losses = _grid(student, rows, said, size, settings.seed)
    return {
        "excess": {name: loss - least for name, loss in losses.items()},
        "moments": moments,
        "settings": {
            "seed": settings.seed,
            "chains": CHAINS[size],
            "steps": steps,
            "cross_entropy": {
                name: round(float(F.cross_entropy(logits, rows[1])), 4)
                for name, logits in said.items()
            },
        },
    }


def _plain(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy to the teacher's soft labels."""
    return F.cross_entropy(student, teacher.softmax(1))


def _network(width: int, seed: int) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(20, width), nn.Tanh(), nn.Linear(width, 5))
    source = generator(seed, "lab", "network")
    with torch.no_grad():
        for layer in (made[0], made[2]):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(
                torch.randn(layer.weight.shape, generator=source) / layer.in_features**0.5
            )
            layer.bias.zero_()
    return made


def _uniform() -> nn.Sequential:
    made = _network(WIDTH, 0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    return made


def _copied(network: nn.Module) -> nn.Sequential:
    made = _network(WIDTH, 0)
    made.load_state_dict(network.state_dict())
    return made


def _by_sgd(network: nn.Sequential, rows: Rows, *, steps: int, seed: int) -> nn.Sequential:
    """Train by plain SGD; by hand, as small steps of autograd take a hundred times as long."""
    parameters = list(network.parameters())
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in parameters)
    x, truth = rows[0].numpy().astype(np.float64), np.eye(len(b2))[rows[1].numpy()]
    source = generator(seed, "lab", "batches")
    for batch in torch.randint(len(truth), (steps, BATCH), generator=source).numpy():
        hidden = np.tanh(x[batch] @ w1.T + b1)
        said = hidden @ w2.T + b2
        odds = np.exp(said - said.max(1, keepdims=True))
        missed = (odds / odds.sum(1, keepdims=True) - truth[batch]) * (LEARNING_RATE / BATCH)
        pulled = (missed @ w2) * (1 - hidden**2)
        w2, b2 = w2 - missed.T @ hidden, b2 - missed.sum(0)
        w1, b1 = w1 - pulled.T @ x[batch], b1 - pulled.sum(0)
    with torch.no_grad():
        for parameter, value in zip(parameters, (w1, b1, w2, b2), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return network


def _polished(network: nn.Sequential, rows: Rows) -> nn.Sequential:
    """Follow the full gradient to the bottom of the basin."""
    made = nn.Sequential(*[type(layer)(*_sizes(layer)) for layer in network]).double()
    made.load_state_dict(network.state_dict())
    wide = rows[0].double()
    optimizer = torch.optim.LBFGS(
        made.parameters(), max_iter=1500, history_size=30, line_search_fn="strong_wolfe",
        tolerance_grad=1e-7, tolerance_change=1e-12,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(made(wide), rows[1])
        loss.backward()
        return loss

    optimizer.step(closure)
    return made.float()


def _sizes(layer: nn.Module) -> tuple[int, ...]:
    return (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else ()


def _grid(
    student: nn.Sequential, rows: Rows, said: dict[str, Tensor], size: str, seed: int
) -> dict[str, np.ndarray]:
    """Train all teachers, weights and chains side by side; mean loss [chains, weights] of each."""
    chains, steps = CHAINS[size], STEPS[size]
    weights = torch.tensor(WEIGHTS)
    truth = F.one_hot(rows[1], 5).float()
    tables = torch.stack([logits.softmax(1) for logits in said.values()])
    many = len(said) * len(WEIGHTS)
    # [teachers, weights, n, 5], then a series for each pair.
    mixed = (1 - weights)[None, :, None, None] * truth + weights[None, :, None, None] * tables[
        :, None
    ]
    mixed = mixed.reshape(many, len(truth), 5)
    w1, b1, w2, b2 = (
        p.detach().clone()[None].repeat(many * chains, *[1] * p.dim()) for p in student.parameters()
    )
    drawn = torch.randint(len(truth), (steps, chains, BATCH), generator=generator(seed, "lab mlp"))
    total, seen = torch.zeros(many * chains, dtype=torch.float64), 0
    for step in range(steps):
        at = drawn[step]
        x = rows[0][at].repeat(many, 1, 1)  # series change slowest, chains fastest
        wanted = mixed[:, at].reshape(many * chains, BATCH, 5)
        hidden = torch.baddbmm(b1[:, None], x, w1.mT).tanh_()
        missed = (torch.baddbmm(b2[:, None], hidden, w2.mT).softmax(2) - wanted) / BATCH
        pulled = (missed @ w2) * (1 - hidden * hidden)
        w2.baddbmm_(missed.mT, hidden, alpha=-LEARNING_RATE)
        b2.sub_(missed.sum(1), alpha=LEARNING_RATE)
        w1.baddbmm_(pulled.mT, x, alpha=-LEARNING_RATE)
        b1.sub_(pulled.sum(1), alpha=LEARNING_RATE)
        if step >= steps // 2 and step % EVERY[size] == 0:
            logits = torch.matmul((rows[0] @ w1.mT + b1[:, None]).tanh_(), w2.mT) + b2[:, None]
            losses = F.cross_entropy(
                logits.flatten(0, 1), rows[1].repeat(many * chains), reduction="none"
            )
            total += losses.view(many * chains, -1).double().mean(1)
            seen += 1
    means = (total / seen).view(len(said), len(WEIGHTS), chains)
    return {name: means[i].T.numpy() for i, name in enumerate(said)}
