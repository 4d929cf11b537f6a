"""Interior-point Newton steps for the union information."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from limbeck.information.certificate import Bracket, Pairs, log_sums, tightened
from limbeck.information.scaling import Scaled


TO_BOUNDARY = 0.99  # share of the way to the boundary that a step may go
LEAST_CENTRING = 1e-4
SPREAD = 0.1  # of the level at the start, that every pair of symbols has at least
FLOOR = 0.1  # of the tolerance: below, the matrix would only get harder to factorise
PATIENCE = 30  # steps without a better gap before it is called stalled

(_syrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
_potrf, _potrs = get_lapack_funcs(("potrf", "potrs"), dtype=np.float64)


class _State(NamedTuple):
    teacher: Float[np.ndarray, "t y"]  # duals of P(y, t)
    student: Float[np.ndarray, "s y"]  # duals of P(y, s)
    weight: Float[np.ndarray, "t s"]  # of the pairs of symbols; above zero where they can meet
    slack: Float[np.ndarray, "t s"]  # above zero


def interior_point(
    bracket: Bracket, start: Scaled, tolerance: float, *, max_steps: int = 100
) -> int:
    r"""Close the bracket by primal-dual Newton steps; return how many were taken.

    The duals, a weight w and a slack z of every pair of symbols solve

    .. math:: \sum_s w_{ts} p_{yts} = P(y, t), \qquad \sum_t w_{ts} p_{yts} = P(y, s), \qquad
              w_{ts} z_{ts} = \tau \to 0, \qquad
              z_{ts} = -\log \sum_y e^{\lambda_{yt} + \mu_{ys}},

    where :math:`p_{yts} \propto e^{\lambda_{yt} + \mu_{ys}}` sums to one over y, so that w p is the
    coupling. Each step solves the linearised conditions, with Mehrotra's choice of tau and
    second-order correction. Conditions hold in the limit only; the bracket moves every iterate
    onto its constraints.

    Args:
        bracket: Where the bounds are kept. Every symbol and label of its pairs has mass.
        start: Where to start: the closer to the solution, the fewer steps.
        tolerance: The gap to reach [nats].
        max_steps: The most steps to take.
    """
    system = _System(bracket.pairs)
    state = system.start(start, max(bracket.gap, tolerance))
    best, waited = bracket.gap, 0
    for step in range(1, max_steps + 1):
        moved = system.step(state, FLOOR * tolerance / system.pairs)
        if moved is None:
            return step
        state = moved
        system.linearise(state)
        bracket.offer_duals(state.teacher.T, state.student.T)
        bracket.offer_coupling(np.ascontiguousarray(system.mass.transpose(2, 0, 1)))
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
        self.teacher, self.student, self.targets = A, B, pairs.targets
        self.used = A > 0, B > 0
        self.empty = ~self.used[0], ~self.used[1]
        self.open = self.used[0].astype(np.float64) @ self.used[1].T > 0
        self.pairs = int(self.open.sum())
        self.rows = np.flatnonzero(self.used[0])
        kept = B > 0
        # lambda[y] + const, mu[y] - const changes nothing: one dual of each label stays put, unless
        # that leaves none.
        if np.count_nonzero(kept) > B.shape[1]:
            kept[B.argmax(0), np.arange(B.shape[1])] = False
        self.columns = np.flatnonzero(kept)
        self.s, self.y = np.divmod(self.columns, B.shape[1])
        self.ends = np.cumsum([0, *self.used[0].sum(1)])
        # Where the blocks of the student's symbols lie in the matrix.
        first = np.searchsorted(self.s, self.s)
        width = np.searchsorted(self.s, self.s, side="right") - first
        self.block_row = np.repeat(np.arange(self.s.size), width)
        start = np.cumsum(width) - width
        self.block_column = np.arange(width.sum()) - np.repeat(start - first, width)
        self.half = np.empty((self.columns.size, self.rows.size))
        self.matrix = np.empty((self.columns.size, self.columns.size), order="F")

    def start(self, found: Scaled, level: float) -> _State:
        """Return a coupling and its duals, moved into the interior by a level."""
        teacher, student = tightened(found.teacher, found.student)
        teacher, student = teacher.T - level, student.T
        slack = self._room(teacher, student)
        weight = found.weight * np.exp(log_sums(found.teacher, found.student))
        weight = np.maximum(weight, SPREAD * level / self.pairs / slack)
        state = _State(teacher, student, np.where(self.open, weight, 0.0), slack)
        self.linearise(state)
        return state

    def _room(
        self, teacher: Float[np.ndarray, "t y"], student: Float[np.ndarray, "s y"]
    ) -> Float[np.ndarray, "t s"]:
        """Return minus the log of the sums over y where symbols can meet, one elsewhere."""
        return np.where(self.open, -log_sums(teacher.T, student.T), 1.0)

    def linearise(self, state: _State) -> None:
        """Compute what the linearised conditions are made of."""
        room = self._room(state.teacher, state.student)
        self.miss = np.where(self.open, state.slack - room, 0.0)
        logs = state.teacher[:, None, :] + state.student
        logs += np.where(self.open, room, 0.0)[:, :, None]
        self.given = np.exp(logs, out=logs)
        self.mass = state.weight[:, :, None] * self.given

    def factorise(self, state: _State) -> bool:
        """Form and factorise the Newton matrix; return whether rounding let it."""
        given, mass = self.given, self.mass
        curved = (state.weight / state.slack - state.weight)[:, :, None] * given
        diagonal = np.arange(given.shape[2])
        by_teacher = given.transpose(0, 2, 1) @ curved
        by_teacher[:, diagonal, diagonal] += mass.sum(1) + self.empty[0]
        by_student = given.transpose(1, 2, 0) @ curved.transpose(1, 0, 2)
        by_student[:, diagonal, diagonal] += mass.sum(0) + self.empty[1]
        # Unit diagonals: masses from 1 to 1e-20 stand side by side.
        with np.errstate(divide="ignore", invalid="ignore"):
            self.left = 1.0 / np.sqrt(by_teacher[:, diagonal, diagonal])
            self.right = 1.0 / np.sqrt(by_student[:, diagonal, diagonal])
        if not (np.isfinite(self.left).all() and np.isfinite(self.right).all()):
            return False
        for blocks, scale in ((by_teacher, self.left), (by_student, self.right)):
            blocks *= scale[:, :, None]
            blocks *= scale[:, None, :]
        try:
            self.inverse = np.linalg.inv(np.linalg.cholesky(by_teacher))
        except np.linalg.LinAlgError:
            return False
        self._couple(mass * self.right, curved * self.right)
        blocks = by_student[
            self.s[self.block_row], self.y[self.block_row], self.y[self.block_column]
        ]
        for ridge in (0.0, *(10.0**power for power in range(-15, -6))):
            self.matrix[...] = 0.0
            self.matrix[self.block_row, self.block_column] = blocks
            self.matrix.flat[:: len(self.matrix) + 1] += ridge
            _syrk(-1.0, self.half.T, 1.0, self.matrix, trans=1, lower=1, overwrite_c=1)
            _, failed = _potrf(self.matrix, lower=1, clean=0, overwrite_a=1)
            if not failed:
                return True
        return False

    def _couple(self, mass: Float[np.ndarray, "t s y"], curved: Float[np.ndarray, "t s y"]) -> None:
        """Fill the part of the matrix between teacher and student, times the inverse factors."""
        inverse = (self.inverse * self.left[:, None, :]).transpose(0, 2, 1)
        spread = self.given @ inverse
        for t, (first, last) in enumerate(pairwise(self.ends)):
            used = self.used[0][t]
            straight, bent = inverse[t][:, used], spread[t][:, used]
            block = straight[self.y]
            block *= mass[t][self.s, self.y, None]
            block += bent[self.s] * curved[t][self.s, self.y, None]
            self.half[:, first:last] = block

    def solve(
        self, teacher: Float[np.ndarray, "t y"], student: Float[np.ndarray, "s y"]
    ) -> tuple[Float[np.ndarray, "t y"], Float[np.ndarray, "s y"]]:
        """Return the change of the duals for a right-hand side."""
        inner = (self.inverse @ (self.left * teacher)[:, :, None]).ravel()
        rest = (self.right * student).ravel()[self.columns] - self.half @ inner[self.rows]
        solved, _ = _potrs(self.matrix, rest, lower=1)
        inner[self.rows] -= solved @ self.half
        outer = self.inverse.transpose(0, 2, 1) @ inner.reshape(*teacher.shape, 1)
        found = np.zeros(student.size)
        found[self.columns] = solved
        return self.left * outer[:, :, 0], self.right * found.reshape(student.shape)

    def direction(
        self, state: _State, target: Float[np.ndarray, "t s"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the changes that bring weight times slack to the target, to first order."""
        pull = (target + state.weight * self.miss) / state.slack
        teacher, student = self.solve(
            self.teacher - (pull[:, None, :] @ self.given)[:, 0],
            self.student - np.einsum("ts,tsy->sy", pull, self.given),
        )
        rise = (self.given @ teacher[:, :, None])[:, :, 0]
        rise += np.einsum("tsy,sy->ts", self.given, student)
        weight = np.where(self.open, pull - state.weight + state.weight / state.slack * rise, 0.0)
        return teacher, student, weight, np.where(self.open, -rise - self.miss, 0.0)

    def step(self, state: _State, least: float) -> _State | None:
        """Return the next state, not below a level; None where rounding lets no step succeed."""
        if not self.factorise(state):
            return None
        weight, slack = state.weight, state.slack
        level = float((weight * slack).sum()) / self.pairs
        _, _, heavier, looser = self.direction(state, np.zeros_like(weight))
        along, up = _longest(weight, heavier), _longest(slack, looser)
        ahead = (weight + along * heavier) * (slack + up * looser)
        centring = min(max(float(ahead.sum()) / self.pairs / level, 0.0), 1.0) ** 3
        level = max(max(centring, LEAST_CENTRING) * level, least)
        target = level - along * up * heavier * looser
        target = np.where(self.open, target, 0.0)
        teacher, student, heavier, looser = self.direction(state, target)
        along, up = (TO_BOUNDARY * _longest(*pair) for pair in ((weight, heavier), (slack, looser)))
        if not np.isfinite([along, up]).all():
            return None
        teacher, student = self._damped(up * teacher, up * student)
        teacher, student = state.teacher + teacher, state.student + student
        # Where the duals leave more room than the linearised step saw, it is taken at once.
        slack = np.maximum(slack + up * looser, self._room(teacher, student))
        return _State(teacher, student, weight + along * heavier, slack)

    def _damped(
        self, teacher: Float[np.ndarray, "t y"], student: Float[np.ndarray, "s y"]
    ) -> tuple[Float[np.ndarray, "t y"], Float[np.ndarray, "s y"]]:
        """Return the changes of the duals, large ones replaced by 1 + their logarithm.

        A mass that is to grow a thousandfold asks the linearised exponential for a change of a
        thousand where log 1000 is enough. The constant that a label's duals share is split first.
        """
        shift = (self.teacher * teacher).sum(0) - (self.student * student).sum(0)
        shift /= 2 * self.targets
        return tuple(
            np.where(
                abs(change) > 1, np.sign(change) * (1 + np.log(np.maximum(abs(change), 1))), change
            )
            for change in (teacher - shift, student + shift)
        )


def _longest(value: Float[np.ndarray, "t s"], change: Float[np.ndarray, "t s"]) -> float:
    """Return the longest step, at most 1, that leaves no value below zero."""
    falling = change < 0
    if not falling.any():
        return 1.0
    return min(1.0, float((value[falling] / -change[falling]).min()))
