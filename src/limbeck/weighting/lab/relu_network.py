"""ReLU students with one hidden layer on images, and how their two gradients are aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.randomness import generator


TEACHER_EPOCHS, LOOK_EVERY = 2, 5
Layers = list[Tensor]  # W1, b1, W2, b2, each [series, ...]


def network_run(
    rows: Float[Tensor, "n pixels"],
    targets: Int[Tensor, " n"],
    *,
    hidden: int,
    weights: tuple[float, ...],
    traced: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> dict[str, Any]:
    r"""Train students of one teacher at several weights on the same batches.

    The cosine is that of the true gradient of distillation, :math:`g - \lambda J(x)^T (q - y)`, and
    of :math:`\nabla f(x) - \lambda \nabla f(\theta)`, on the same batch, at temperature 1 and
    without weight decay. The teacher has the students' shape and another start.

    Args:
        rows: Standardised pixels.
        targets: Class indices.
        hidden: Units.
        weights: lambda of each student.
        traced: Which student's cosines are taken.
        epochs: Of the students; rows without replacement.
        batch_size: Rows in a batch; a short last one is left out.
        learning_rate: Of SGD with constant steps.
        weight_decay: On weights and biases.
        seed: Of the order.

    Returns:
        ``weights``, ``losses`` (training cross-entropy at the end [nats]) and ``cosines``, an epoch
        a row: mean, standard deviation, smallest and largest.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, and its code.
    """
    classes = int(targets.max()) + 1
    labels = F.one_hot(targets, classes).to(rows.dtype)
    teacher = _start(rows.shape[1], hidden, classes, 1, seed=1)
    order = generator(0, "lab teacher")
    shares = torch.zeros(1)
    for _ in range(TEACHER_EPOCHS):
        for batch in torch.randperm(len(rows), generator=order).split(batch_size):
            g, _ = gradients(teacher, rows[batch], labels[batch], labels[batch])
            _descend(teacher, g, 5 * learning_rate, weight_decay)
    soft = said_by(teacher, rows)[0].softmax(1)
    shares = torch.tensor(weights)
    students = _start(rows.shape[1], hidden, classes, len(weights), seed=2)
    order, cosines = generator(seed, "lab students"), []
    for _ in range(epochs):
        seen = []
        batches = torch.randperm(len(rows), generator=order).split(batch_size)
        for number, batch in enumerate(batches):
            if len(batch) < batch_size:
                continue
            g, h = gradients(students, rows[batch], labels[batch], soft[batch])
            moved = [
                a - shares.view(-1, *[1] * (a.dim() - 1)) * b for a, b in zip(g, h, strict=True)
            ]
            if number % LOOK_EVERY == 0:
                own, _ = gradients(teacher, rows[batch], labels[batch], labels[batch])
                other = [a[traced] - weights[traced] * b[0] for a, b in zip(g, own, strict=True)]
                seen.append(cosine([a[traced] for a in moved], other))
            _descend(students, moved, learning_rate, weight_decay)
        array = np.array(seen)
        cosines.append([array.mean(), array.std(), array.min(), array.max()])
    losses = [float(F.cross_entropy(one.double(), targets)) for one in said_by(students, rows)]
    return {"weights": weights, "losses": losses, "cosines": np.array(cosines)}


def said_by(layers: Layers, rows: Tensor) -> Tensor:
    """Return logits [series, rows, classes]."""
    w1, b1, w2, b2 = layers
    return (rows @ w1.mT + b1[:, None]).relu_() @ w2.mT + b2[:, None]


def gradients(layers: Layers, rows: Tensor, labels: Tensor, soft: Tensor) -> tuple[Layers, Layers]:
    """Return g of the cross-entropy and h = J'(q - y), the means over a batch, of each series."""
    w1, b1, w2, b2 = layers
    hidden = (rows @ w1.mT + b1[:, None]).relu()
    p = (hidden @ w2.mT + b2[:, None]).softmax(2)
    found = []
    for missed in (p - labels, (soft - labels).expand_as(p)):
        missed = missed / len(rows)
        pulled = (missed @ w2) * (hidden > 0)
        found.append([pulled.mT @ rows, pulled.sum(1), missed.mT @ hidden, missed.sum(1)])
    return found[0], found[1]


def cosine(one: list[Tensor], two: list[Tensor]) -> float:
    """Return the cosine of two gradients over all parameters; 0 where one is zero."""
    a, b = (torch.cat([part.flatten() for part in parts]).double() for parts in (one, two))
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0


def _descend(layers: Layers, gradient: Layers, rate: float, decay: float) -> None:
    for value, slope in zip(layers, gradient, strict=True):
        value.mul_(1 - rate * decay).sub_(slope, alpha=rate)


def _start(pixels: int, hidden: int, classes: int, series: int, *, seed: int) -> Layers:
    source = generator(seed, "lab images", "network")
    w1 = torch.randn(hidden, pixels, generator=source) / pixels**0.5
    w2 = torch.randn(classes, hidden, generator=source) / hidden**0.5
    parts = [w1, torch.zeros(hidden), w2, torch.zeros(classes)]
    return [part[None].repeat(series, *[1] * part.dim()) for part in parts]
