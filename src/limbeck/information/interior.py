"""Interior-point Newton steps for the union information."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from limbeck.information.certificate import Bracket, Pairs, tightened


TO_BOUNDARY = 0.99  # share of the way to the boundary that a step may go
MARGIN = 0.5  # of the duals at the start [nats]
PATIENCE = 15  # steps without a better gap before it is called stalled


class _State(NamedTuple):
    teacher: Float[np.ndarray, "y t"]  # duals of P(y, t)
    student: Float[np.ndarray, "y s"]  # duals of P(y, s)
    mass: Float[np.ndarray, "t s y"]  # the coupling; above zero on the support
    push: Float[np.ndarray, "t s y"]  # multipliers of mass >= 0; above zero


def interior_point(bracket: Bracket, tolerance: float, *, max_steps: int = 150) -> int:
    r"""Close the bracket by primal-dual Newton steps; return how many were taken.

    The coupling q(y, t, s) and the duals of its marginals solve

    .. math:: \log \frac{q_{yts}}{\sum_{y'} q_{y'ts}} = \lambda_{yt} + \mu_{ys} + v_{yts}, \qquad
              q_{yts} v_{yts} = \tau \to 0, \qquad v \ge 0,

    where v >= 0 says that no sum of exp(lambda + mu) over y exceeds one. Each step
    solves the linearised conditions, with Mehrotra's choice of tau and second-order correction.
    The marginals are linear in q and hold throughout; v is raised to what the duals leave.

    Args:
        bracket: Where the bounds are kept. Every symbol and label of its pairs has mass.
        tolerance: The gap to reach [nats].
        max_steps: The most steps to take.
    """
    system = _System(bracket.pairs)
    state = _start(system)
    best, waited = bracket.gap, 0
    for step in range(1, max_steps + 1):
        moved = _step(system, state)
        if moved is None:
            return step
        state = moved
        bracket.offer_duals(state.teacher, state.student)
        bracket.offer_coupling(np.ascontiguousarray(state.mass.transpose(2, 0, 1)))
        if bracket.gap <= tolerance:
            return step
        waited = 0 if bracket.gap < 0.9 * best else waited + 1
        best = min(best, bracket.gap)
        if waited >= PATIENCE:
            return step
    return max_steps


class _System:
    """The linear system of a step; the teacher's duals are eliminated symbol by symbol."""

    def __init__(self, pairs: Pairs) -> None:
        A, B = pairs.teacher.T, pairs.student.T
        self.pairs = pairs
        self.rows = np.flatnonzero(A > 0)
        kept = B > 0
        # lambda[y] + const, mu[y] - const changes nothing: one dual of each label stays put.
        kept[B.argmax(0), np.arange(B.shape[1])] = False
        self.columns = np.flatnonzero(kept)
        self.empty = (A == 0).astype(np.float64)
        self.support = (A[:, None, :] > 0) & (B[None, :, :] > 0)
        self.cells = int(self.support.sum())
        y = self.columns % len(B.T)
        ends = np.cumsum([0, *(A > 0).sum(1)])
        self.parts = []
        for (first, last), used in zip(pairwise(ends), A > 0, strict=True):
            of_row, own = np.flatnonzero(used), np.flatnonzero(used[y])
            self.parts.append((first, last, of_row, own, np.searchsorted(of_row, y[own])))
        self.cross = np.empty((self.rows.size, self.columns.size))
        self.half = np.empty_like(self.cross)

    def factorise(self, state: _State) -> bool:
        """Form and factorise the Newton matrix; return whether rounding let it."""
        kept = state.mass / (1.0 + state.push)
        lost = (kept * state.push).sum(2)
        self.kept, self.lost = kept, np.where(lost > 0, lost, 1.0)
        scaled = kept / self.lost[:, :, None]
        diagonal = np.arange(kept.shape[2])
        by_teacher = kept.transpose(0, 2, 1) @ scaled
        by_teacher[:, diagonal, diagonal] += kept.sum(1) + self.empty
        by_student = kept.transpose(1, 2, 0) @ scaled.transpose(1, 0, 2)
        by_student[:, diagonal, diagonal] += kept.sum(0)
        # Unit diagonals: masses from 1 to 1e-20 stand side by side.
        self.left = 1.0 / np.sqrt(by_teacher[:, diagonal, diagonal])
        right = np.sqrt(by_student[:, diagonal, diagonal])
        self.right = 1.0 / np.where(right > 0, right, 1.0)
        by_teacher *= self.left[:, :, None] * self.left[:, None, :]
        by_student *= self.right[:, :, None] * self.right[:, None, :]
        try:
            self.inverse = np.linalg.inv(np.linalg.cholesky(by_teacher))
            self._couple(scaled * self.right)
            schur = self.half.T @ self.half
            np.negative(schur, out=schur)
            self._add_blocks(schur, by_student)
            self.factor = _factorised(schur)
        except np.linalg.LinAlgError:
            return False
        return True

    def _couple(self, scaled: Float[np.ndarray, "t s y"]) -> None:
        """Fill the part of the matrix between teacher and student, and what elimination needs."""
        labels = self.empty.shape[1]
        s, y = np.divmod(self.columns, labels)
        for t, (first, last, of_row, own, at) in enumerate(self.parts):
            block, kept = self.cross[first:last], self.kept[t]
            np.multiply(kept[:, of_row].T[:, s], scaled[t][s, y], out=block)
            block[at, own] += (kept * self.right)[s[own], y[own]]
            block *= self.left[t, of_row][:, None]
            inverse = self.inverse[t][of_row[:, None], of_row]
            np.matmul(inverse, block, out=self.half[first:last])

    def _add_blocks(
        self, schur: Float[np.ndarray, "n n"], blocks: Float[np.ndarray, "s y y"]
    ) -> None:
        """Add the blocks of the student's symbols on the diagonal."""
        s, y = np.divmod(self.columns, blocks.shape[1])
        ends = np.searchsorted(s, np.arange(len(blocks) + 1))
        for symbol, (first, last) in enumerate(pairwise(ends)):
            of_block = y[first:last]
            schur[first:last, first:last] += blocks[symbol][np.ix_(of_block, of_block)]

    def solve(
        self, teacher: Float[np.ndarray, "t y"], student: Float[np.ndarray, "s y"]
    ) -> tuple[Float[np.ndarray, "t y"], Float[np.ndarray, "s y"]]:
        """Return the change of the duals for a right-hand side."""
        given = self.left * teacher
        rest = (self.right * student).ravel()[self.columns]
        rest -= self._inner(given).ravel()[self.rows] @ self.cross
        solved = cho_solve(self.factor, rest, check_finite=False)
        taken, found = np.zeros(given.size), np.zeros(student.size)
        taken[self.rows] = self.cross @ solved
        found[self.columns] = solved
        inner = self._inner(given - taken.reshape(given.shape))
        return self.left * inner, self.right * found.reshape(student.shape)

    def _inner(self, given: Float[np.ndarray, "t y"]) -> Float[np.ndarray, "t y"]:
        half = self.inverse @ given[:, :, None]
        return (self.inverse.transpose(0, 2, 1) @ half)[:, :, 0]

    def spread(self, change: Float[np.ndarray, "t s y"]) -> Float[np.ndarray, "t s y"]:
        """Return the change of the coupling that a change of its slopes makes."""
        moved = self.kept * change
        return moved + self.kept * (moved.sum(2) / self.lost)[:, :, None]


def _factorised(matrix: Float[np.ndarray, "n n"]) -> tuple[np.ndarray, bool]:
    """Return the Cholesky factor, of a matrix with more on its diagonal where rounding needs it."""
    diagonal = np.diag(matrix).copy()
    for power in range(-15, -6):
        try:
            return cho_factor(matrix, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            np.fill_diagonal(matrix, diagonal + 10.0**power)
    raise np.linalg.LinAlgError


def _start(system: _System) -> _State:
    """Return the start where teacher and student are independent given the label."""
    pairs, support = system.pairs, system.support
    with np.errstate(divide="ignore"):
        teacher = np.log(pairs.teacher) - np.log(pairs.targets)[:, None]
        student = np.log(pairs.student)
    teacher, student = tightened(teacher, student)
    teacher = teacher - MARGIN
    mass = np.where(support, pairs.independent().transpose(1, 2, 0), 0.0)
    push = np.where(support, _slopes(mass, support) - _sums(teacher, student, support), 1.0)
    return _State(teacher, student, mass, np.maximum(push, MARGIN))


def _slopes(mass: Float[np.ndarray, "t s y"], support: np.ndarray) -> Float[np.ndarray, "t s y"]:
    """Return log q(y | t, s) on the support, zero elsewhere."""
    total = mass.sum(2, keepdims=True)
    return np.log(np.where(support, mass, 1.0)) - np.where(
        support, np.log(np.where(total > 0, total, 1.0)), 0.0
    )


def _sums(
    teacher: Float[np.ndarray, "y t"], student: Float[np.ndarray, "y s"], support: np.ndarray
) -> Float[np.ndarray, "t s y"]:
    return np.where(support, teacher.T[:, None, :] + student.T[None, :, :], 0.0)


def _step(system: _System, state: _State) -> _State | None:
    """Return the next state; None where rounding lets no step succeed."""
    mass, push, support = state.mass, state.push, system.support
    if not system.factorise(state):
        return None
    pairs = system.pairs
    over = np.where(support, mass, 1.0)
    steep = _slopes(mass, support) - _sums(state.teacher, state.student, support)
    missing = pairs.teacher.T - mass.sum(1), pairs.student.T - mass.sum(0)

    def direction(target: np.ndarray) -> tuple[np.ndarray, ...]:
        pull = np.where(support, target / over - steep, 0.0)
        flow = system.spread(pull)
        teacher, student = system.solve(missing[0] - flow.sum(1), missing[1] - flow.sum(0))
        duals = np.where(support, teacher[:, None, :] + student[None, :, :], 0.0)
        grown = flow + system.spread(duals)
        pushed = np.where(support, (target - push * grown) / over - push, 0.0)
        return teacher.T, student.T, grown, pushed

    level = float((mass * push).sum()) / system.cells
    _, _, grown, pushed = direction(np.zeros_like(mass))
    ahead = (mass + _longest(mass, grown) * grown) * (push + _longest(push, pushed) * pushed)
    centring = min(max(float(ahead.sum()) / system.cells / level, 0.0), 1.0) ** 3
    target = np.where(support, max(centring, 1e-4) * level, 0.0) - grown * pushed
    teacher, student, grown, pushed = direction(target)
    along, up = TO_BOUNDARY * _longest(mass, grown), TO_BOUNDARY * _longest(push, pushed)
    teacher, student = state.teacher + up * teacher, state.student + up * student
    mass, push = mass + along * grown, push + up * pushed
    # Where the duals leave more room than the linearised step saw, it is taken at once: without
    # this, steps get short and the gap stalls.
    room = _slopes(mass, support) - _sums(teacher, student, support)
    return _State(teacher, student, mass, np.where(support, np.maximum(push, room), 1.0))


def _longest(value: Float[np.ndarray, "t s y"], change: Float[np.ndarray, "t s y"]) -> float:
    """Return the longest step, at most 1, that leaves no value below zero."""
    falling = change < 0
    if not falling.any():
        return 1.0
    return min(1.0, float((value[falling] / -change[falling]).min()))
