"""Softmax regression on images: its optimum, its moments, and many students on common batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn import functional as F

from limbeck.randomness import generator


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax regression with a ridge, which teacher and student share.

    Attributes:
        rows: Inputs with a last column of ones, float32 [n, d].
        targets: Class indices [n].
        classes: K.
        ridge: Times half of the squared length of the parameters.
    """

    rows: Float[Tensor, "n d"]
    targets: Int[Tensor, " n"]
    classes: int
    ridge: float

    @cached_property
    def labels(self) -> Float[Tensor, "n classes"]:
        """One-hot targets."""
        return F.one_hot(self.targets, self.classes).to(self.rows.dtype)

    @cached_property
    def squares(self) -> Float[Tensor, " n"]:
        """Squared length of each row."""
        return self.rows.double().square().sum(1)

    def soft(self, x: Float[Tensor, "d classes"]) -> Float[Tensor, "n classes"]:
        """Return class probabilities."""
        return (self.rows @ x.to(self.rows.dtype)).softmax(1)

    def losses(self, x: Float[Tensor, "d series classes"]) -> Float[Tensor, " series"]:
        """Return the loss of each series [nats]."""
        total = torch.zeros(x.shape[1], dtype=torch.float64)
        for rows, targets in zip(self.rows.split(2000), self.targets.split(2000), strict=True):
            said = (rows @ x.flatten(1)).unflatten(1, x.shape[1:]).log_softmax(2)
            index = targets[:, None, None].expand(-1, x.shape[1], 1)
            total -= said.gather(2, index)[..., 0].sum(0, dtype=torch.float64)
        return total / len(self.targets) + 0.5 * self.ridge * x.double().square().sum((0, 2))

    def mean_gradient(self, x: Float[Tensor, "d classes"]) -> Float[Tensor, "d classes"]:
        """Return the gradient of the loss without the ridge's part."""
        missed = self.soft(x) - self.labels
        return self.rows.T @ missed / len(self.targets)

    def fitted(
        self, keep: Int[Tensor, " m"] | None = None, mask: Float[Tensor, "d classes"] | None = None
    ) -> Float[Tensor, "d classes"]:
        """Return the optimum by L-BFGS, on some rows alone, or with a mask on the parameters."""
        part = self if keep is None else self._at(keep)
        rows, labels = part.rows.double(), part.labels.double()
        shape = (rows.shape[1], self.classes)
        held = torch.ones(shape, dtype=torch.float64) if mask is None else mask.double()

        def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
            x = torch.from_numpy(flat).view(shape) * held
            logs = (rows @ x).log_softmax(1)
            loss = -(labels * logs).sum(1).mean() + 0.5 * self.ridge * x.square().sum()
            slope = rows.T @ (logs.exp() - labels) / len(rows) + self.ridge * x
            return float(loss), (slope * held).numpy().ravel()

        options: dict[str, Any] = {"maxiter": 2000, "gtol": 1e-6, "ftol": 1e-12, "maxcor": 20}
        start = np.zeros(shape[0] * shape[1])
        found = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
        return torch.from_numpy(found.x).view(shape) * held

    def traces(
        self,
        x: Float[Tensor, "d classes"],
        teacher: Float[Tensor, "d classes"],
        mask: Float[Tensor, "d classes"] | None = None,
    ) -> tuple[float, float, float]:
        """Return tr_gg, tr_gh and tr_hh of a row at x, over the parameters that a mask keeps."""
        g, h = ((self.soft(one) - self.labels).double() for one in (x, teacher))
        means = [self.rows.double().T @ part / len(part) for part in (g, h)]
        if mask is None:
            lengths, held = self.squares[:, None], torch.ones_like(means[0])
        else:
            held = mask.double()
            lengths = self.rows.double().square() @ held
        gg, gh, hh = (
            float((lengths * g_ * h_).sum(1).mean() - (held * mg * mh).sum())
            for g_, h_, mg, mh in (
                (g, g, means[0], means[0]),
                (g, h, means[0], means[1]),
                (h, h, means[1], means[1]),
            )
        )
        return gg, gh, hh

    def bias_in_loss(
        self, x: Float[Tensor, "d classes"], teacher: Float[Tensor, "d classes"]
    ) -> float:
        """Return half of hbar' H^-1 hbar with the Hessian at x, by conjugate gradients [nats]."""
        p, shape = self.soft(x), x.shape
        hbar = (self.mean_gradient(teacher) + self.ridge * teacher).double().numpy().ravel()

        def times(flat: np.ndarray) -> np.ndarray:
            direction = torch.from_numpy(flat).view(shape)
            moved = p * (self.rows @ direction.to(p.dtype))
            moved = moved - p * moved.sum(1, keepdim=True)
            bent = self.rows.T @ moved / len(p)
            return (bent.double() + self.ridge * direction).numpy().ravel()

        size = len(hbar)
        operator = LinearOperator((size, size), matvec=times, dtype=np.float64)  # type: ignore[call-arg]
        return 0.5 * float(hbar @ cg(operator, hbar, rtol=1e-3, maxiter=300)[0])

    def _at(self, keep: Tensor) -> Softmax:
        return Softmax(self.rows[keep], self.targets[keep], self.classes, self.ridge)


@dataclass(eq=False)
class Series:
    """One student of a stack.

    Attributes:
        weight: lambda.
        teacher: Parameters of the teacher.
        start: Parameters at step 0.
        mask: Which parameters it has, or None for all.
        unbiased: Add back the mean of h.
        snapshots: Take a copy of itself as teacher every so many steps; 0 for never.
    """

    weight: float
    teacher: Float[Tensor, "d classes"]
    start: Float[Tensor, "d classes"]
    mask: Float[Tensor, "d classes"] | None = None
    unbiased: bool = False
    snapshots: int = 0
    losses: list[float] = field(default_factory=list)


def run_stack(
    problem: Softmax,
    series: list[Series],
    *,
    learning_rate: float,
    batch_size: int,
    steps: int,
    dropped: int,
    every: int,
    seed: int,
) -> Float[np.ndarray, "times series"]:
    r"""Train all students on the same batches; return their losses at the times looked at [nats].

    .. math:: g - \lambda h, \qquad g = a \otimes (p - y) + \mathrm{ridge}\, x, \qquad
              h = a \otimes (q - y) + \mathrm{ridge}\, \theta

    which is the gradient of distillation, and, for unbiased series, :math:`+ \lambda \bar h`.
    """
    many, (n, d), k = len(series), problem.rows.shape, problem.classes
    x = torch.stack([one.start for one in series], 1).to(problem.rows.dtype)
    held = torch.stack(
        [torch.ones(d, k) if one.mask is None else one.mask.float() for one in series], 1
    )
    shift = torch.zeros(d, many, k)
    shares = torch.tensor([one.weight for one in series], dtype=problem.rows.dtype)[:, None]
    # One table of soft labels a teacher: one a student would not fit in memory.
    tables: list[Tensor] = []
    table_of: dict[int, int] = {}
    which = torch.zeros(many, dtype=torch.int64)

    def teach(place: int, teacher: Tensor, table: int) -> None:
        one = series[place]
        if table == len(tables):
            tables.append(problem.soft(teacher))
        which[place] = table
        moved = problem.mean_gradient(teacher) if one.unbiased else -problem.ridge * teacher
        shift[:, place] = one.weight * moved.float()

    for place, one in enumerate(series):
        # A student that takes snapshots changes its table; others may share theirs.
        key = -1 - place if one.snapshots else id(one.teacher)
        teach(place, one.teacher, table_of.setdefault(key, len(tables)))
    source = generator(seed, "lab images")
    seen = []
    for step in range(steps):
        for place, one in enumerate(series):
            if one.snapshots and step and step % one.snapshots == 0:
                own = x[:, place].clone()
                tables[int(which[place])] = problem.soft(own)
                teach(place, own, int(which[place]))
        batch = torch.randint(n, (batch_size,), generator=source)
        rows = problem.rows[batch]
        said = (rows @ x.flatten(1)).unflatten(1, (many, k)).softmax(2)
        soft = torch.stack([table[batch] for table in tables])[which].swapaxes(0, 1)
        missed = said - torch.lerp(problem.labels[batch][:, None], soft, shares)
        x.mul_(1 - learning_rate * problem.ridge).sub_(shift, alpha=learning_rate)
        x.view(d, -1).addmm_(rows.T, missed.flatten(1), alpha=-learning_rate / batch_size)
        x.mul_(held)
        if step >= dropped and step % every == 0:
            seen.append(problem.losses(x).numpy())
    return np.stack(seen)
