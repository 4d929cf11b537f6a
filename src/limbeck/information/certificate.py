"""Bounds of the union information that anybody can check, and the arrays that prove them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Real

from limbeck.checks import ShapeError


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""Three arrays that bracket the union information of a table, whoever made them.

    .. math:: H(Y) + \sum_{y,t} P(y,t) \lambda_{yt} + \sum_{y,s} P(y,s) \mu_{ys}
              \;\le\; I_\cup \;\le\; I_Q(Y;T,S)

    The right side holds for every coupling Q with the table's pair marginals P(y,t) and P(y,s), the
    left side for all duals with :math:`\sum_y e^{\lambda_{yt} + \mu_{ys}} \le 1` at every (t, s).

    Attributes:
        coupling: Q, of the table's shape [y, t, s].
        teacher_dual: :math:`\lambda` [nats]; minus infinity where P(y, t) is zero.
        student_dual: :math:`\mu` [nats]; minus infinity where P(y, s) is zero.
    """

    coupling: Float[np.ndarray, "y t s"]
    teacher_dual: Float[np.ndarray, "y t"]
    student_dual: Float[np.ndarray, "y s"]

    def verify(self, pmf: Real[np.ndarray, "y t s"]) -> tuple[float, float]:
        """Return lower and upper bound of the union information, from these arrays alone.

        The bounds hold whatever the arrays are: a coupling that misses the marginals is moved onto
        them and duals that break a constraint are lowered first. They are tight only for the table
        that the certificate was made for.

        Args:
            pmf: The table, indexed [y, t, s]; counts are normalised.

        Returns:
            Lower and upper bound [bits]; the lower one is minus infinity where a dual is so at a
            cell that has mass.

        Raises:
            ShapeError: If the table has another shape than the coupling.
        """
        table = np.asarray(pmf, dtype=np.float64)
        if table.shape != self.coupling.shape:
            raise ShapeError(
                f"Certificate.verify: expected a table of shape {self.coupling.shape}; got "
                f"{table.shape}. Pass the table that the certificate was made for."
            )
        pairs = Pairs.of(table / table.sum())
        lower = pairs.dual_value(self.teacher_dual, self.student_dual)
        upper = information(pairs.repaired(self.coupling))
        return lower / math.log(2.0), upper / math.log(2.0)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The two pair marginals, which are all that the union information depends on."""

    teacher: Float[np.ndarray, "y t"]
    student: Float[np.ndarray, "y s"]
    targets: Float[np.ndarray, " y"]

    @classmethod
    def of(cls, pmf: Float[np.ndarray, "y t s"]) -> Pairs:
        """Return the pair marginals of a table."""
        return cls(pmf.sum(2), pmf.sum(1), pmf.sum((1, 2)))

    def swapped(self) -> Pairs:
        """Return the same with teacher and student exchanged."""
        return Pairs(self.student, self.teacher, self.targets)

    def dual_value(
        self, teacher_dual: Float[np.ndarray, "y t"], student_dual: Float[np.ndarray, "y s"]
    ) -> float:
        """Return the lower bound that duals give [nats], shifted where they break a constraint."""
        shift = max(float(log_sums(teacher_dual, student_dual).max()), 0.0)
        value = -xlogx(self.targets).sum()
        for mass, dual in ((self.teacher, teacher_dual), (self.student, student_dual)):
            value += float(np.sum(mass[mass > 0] * dual[mass > 0]))
        return float(value - shift)

    def independent(self) -> Float[np.ndarray, "y t s"]:
        """Return the coupling in which teacher and student are independent for a given label."""
        with np.errstate(divide="ignore", invalid="ignore"):
            given = np.where(self.targets[:, None] > 0, self.student / self.targets[:, None], 0.0)
        return self.teacher[:, :, None] * given[:, None, :]

    def repaired(self, coupling: Float[np.ndarray, "y t s"]) -> Float[np.ndarray, "y t s"]:
        """Move a non-negative array onto the pair marginals: shrink rows and columns, then fill."""
        fixed = coupling.copy()
        for axis, mass in ((2, self.teacher), (1, self.student)):
            got = fixed.sum(axis)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                fixed *= np.expand_dims(np.where(got > mass, mass / got, 1.0), axis)
        rows = np.maximum(self.teacher - fixed.sum(2), 0.0)
        columns = np.maximum(self.student - fixed.sum(1), 0.0)
        total = columns.sum(1)
        share = columns / np.where(total > 0, total, 1.0)[:, None]
        fixed += rows[:, :, None] * share[:, None, :]
        return fixed


@dataclass
class Bracket:
    """The best bounds of the union information seen so far [nats], with what proves them."""

    pairs: Pairs
    lower: float = -math.inf
    upper: float = math.inf
    coupling: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))
    duals: tuple[np.ndarray, np.ndarray] = field(
        default_factory=lambda: (np.zeros((0, 0)), np.zeros((0, 0)))
    )

    @property
    def gap(self) -> float:
        """Return how far the bounds are apart [nats]."""
        return max(self.upper - self.lower, 0.0)

    def swapped(self) -> Bracket:
        """Return the same with teacher and student exchanged."""
        coupling, (teacher, student) = self.coupling.transpose(0, 2, 1), self.duals
        return Bracket(self.pairs.swapped(), self.lower, self.upper, coupling, (student, teacher))

    def offer_coupling(self, coupling: Float[np.ndarray, "y t s"]) -> None:
        """Keep the coupling, moved onto the marginals, where it is better than the best."""
        fixed = self.pairs.repaired(coupling)
        value = information(fixed)
        if value < self.upper:
            self.upper, self.coupling = value, fixed

    def offer_duals(
        self, teacher_dual: Float[np.ndarray, "y t"], student_dual: Float[np.ndarray, "y s"]
    ) -> None:
        """Keep the duals, shifted onto the constraints, where they are better than the best."""
        duals = tightened(teacher_dual, student_dual)
        value = self.pairs.dual_value(*duals)
        if value > self.lower:
            self.lower, self.duals = value, duals


def tightened(
    teacher_dual: Float[np.ndarray, "y t"], student_dual: Float[np.ndarray, "y s"]
) -> tuple[Float[np.ndarray, "y t"], Float[np.ndarray, "y s"]]:
    r"""Shift every symbol's duals until its tightest constraint holds with equality.

    With :math:`m_{ts} = \sum_y e^{\lambda_{yt} + \mu_{ys}}`, take :math:`c_t = \max_s m_{ts}` from
    the teacher's symbols and :math:`d_s = \max_t m_{ts} / c_t` from the student's. Two numbers per
    pair of symbols are never needed: the slack that one side cannot use goes to the other.
    """
    sums = log_sums(teacher_dual, student_dual)
    by_teacher = sums.max(1)
    by_student = (sums - by_teacher[:, None]).max(0)
    return teacher_dual - by_teacher, student_dual - by_student


def log_sums(
    teacher_dual: Float[np.ndarray, "y t"], student_dual: Float[np.ndarray, "y s"]
) -> Float[np.ndarray, "t s"]:
    """Return log of the sum over y of exp(teacher_dual + student_dual) for every pair [nats]."""
    high, other = teacher_dual.max(0), student_dual.max(0)
    high, other = (np.where(np.isfinite(top), top, 0.0) for top in (high, other))
    product = np.exp(teacher_dual - high).T @ np.exp(student_dual - other)
    # Below this, underflow may have eaten terms: such pairs are summed again in the log domain.
    low = np.argwhere(product < 1e-200)
    with np.errstate(divide="ignore"):
        sums = np.log(product) + high[:, None] + other
    if len(low):
        t, s = low.T
        sums[t, s] = np.logaddexp.reduce(teacher_dual[:, t] + student_dual[:, s], axis=0)
    return sums


def information(coupling: Float[np.ndarray, "y t s"]) -> float:
    """Return I(Y; T, S) of a coupling [nats]."""
    joint = coupling.reshape(len(coupling), -1)
    return max(float(mutual_information(joint)), 0.0)


def mutual_information(table: Float[np.ndarray, "y x"]) -> float:
    """Return the mutual information of a table [nats]."""
    outer = xlogx(table.sum(1)).sum() + xlogx(table.sum(0)).sum()
    return max(float(xlogx(table).sum() - outer), 0.0)


def xlogx(p: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """Return p log p, zero at zero."""
    return p * np.log(np.where(p > 0, p, 1.0))
