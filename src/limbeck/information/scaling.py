"""Accelerated alternating scaling for the union information."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from limbeck.information.certificate import Bracket, Pairs, xlogx


SWEEPS = 2  # of row and column scaling between two updates of the weights
CHECK = 20  # iterations between two looks at the bounds
FLOOR = -600.0  # of the logarithm of a weight, above the underflow of exp


class Scaled(NamedTuple):
    """Where scaling stopped."""

    teacher: Float[np.ndarray, "y t"]
    student: Float[np.ndarray, "y s"]
    weight: Float[np.ndarray, "t s"]
    iterations: int

    def coupling(self) -> Float[np.ndarray, "y t s"]:
        """Return exp(teacher + student) times the weight; neither factor alone need be finite."""
        logs = self.teacher[:, :, None] + self.student[:, None, :]
        return np.exp(logs, out=logs) * self.weight


def scaling(bracket: Bracket, tolerance: float, *, max_iterations: int, patience: int) -> Scaled:
    r"""Close the bracket by scaling one table of weights onto every label's pair marginals.

    With weights R(t, s), scale :math:`Q_y = \mathrm{diag}(a_y) R\, \mathrm{diag}(b_y)` onto
    P(y, t) and P(y, s), then take :math:`R \leftarrow \sum_y Q_y`; both steps lower one jointly
    convex objective. The second is extrapolated in log R as by Nesterov and restarted where it
    points uphill. No array over (y, t, s) is made before the bounds look close enough.

    Args:
        bracket: Where the bounds are kept. Every symbol and label of its pairs has mass.
        tolerance: The gap to reach [nats].
        max_iterations: The most updates of R.
        patience: Updates without half the gap after which to stop.

    Returns:
        The last iterate that the bounds were taken of.
    """
    A, B = bracket.pairs.teacher, bracket.pairs.student
    used = (A > 0, B > 0)
    blank = tuple((~mask).astype(np.float64) for mask in used)
    open_ = (used[0].astype(np.float64).T @ used[1] > 0).astype(np.float64)
    closed = 1.0 - open_
    log_weight, weight = _normalised(np.log(np.outer(A.sum(0), B.sum(0))), open_)
    log_last, last, momentum = log_weight, weight, 0
    found = _start(bracket, open_)
    a, b = (mask.astype(np.float64) for mask in used)
    mark, marked = np.inf, 0
    for iteration in range(1, max_iterations + 1):
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            for _ in range(SWEEPS):
                a = A / (b @ weight.T + blank[0])
                b = B / (a @ weight + blank[1])
        sums = a.T @ b + closed
        if not (sums.min() > 0 and sums.max() < np.inf):  # also where one is not a number
            break
        step, following = np.log(sums), weight * sums
        if iteration % CHECK == 0:
            with np.errstate(divide="ignore"):
                found = Scaled(np.log(a), np.log(b), weight, iteration)
            bracket.offer_duals(found.teacher, found.student)
            upper = _information(bracket.pairs, found, a * (b @ weight.T), following, step)
            gap = min(upper, bracket.upper) - bracket.lower
            if gap <= tolerance:
                bracket.offer_coupling(found.coupling())
                gap = bracket.gap
            if gap <= tolerance:
                return found
            if gap < 0.5 * mark:
                mark, marked = gap, iteration
            elif iteration - marked >= patience:
                break
        total = float(following.sum())
        log_next, following = log_weight + step - np.log(total), following / total
        if momentum > 0 and float(np.vdot(step, following - last)) < 0:
            momentum = 0
        share = momentum / (momentum + 3.0)
        momentum += 1
        ahead = log_next + share * (log_next - log_last)
        log_last, last = log_next, following
        log_weight, weight = _normalised(ahead, open_)
    bracket.offer_coupling(found.coupling())
    return found


def _start(bracket: Bracket, weight: Float[np.ndarray, "t s"]) -> Scaled:
    """Return the coupling in which teacher and student are independent for a given label."""
    pairs = bracket.pairs
    with np.errstate(divide="ignore"):
        logs = np.log(pairs.teacher), np.log(pairs.student)
    return Scaled(logs[0] - np.log(pairs.targets)[:, None], logs[1], weight, 0)


def _information(
    pairs: Pairs,
    found: Scaled,
    teacher: Float[np.ndarray, "y t"],
    mass: Float[np.ndarray, "t s"],
    logs: Float[np.ndarray, "t s"],
) -> float:
    """Return the information of the coupling, but for how far it is off P(y, t) [nats]."""
    value = -float(xlogx(pairs.targets).sum()) - float(np.vdot(mass, logs))
    for part, dual in ((teacher, found.teacher), (pairs.student, found.student)):
        value += float(np.vdot(part, np.where(part > 0, dual, 0.0)))
    return value


def _normalised(
    logs: Float[np.ndarray, "t s"], open_: Float[np.ndarray, "t s"]
) -> tuple[Float[np.ndarray, "t s"], Float[np.ndarray, "t s"]]:
    """Return logarithms of weights that sum to one, none below the floor, and the weights."""
    logs = np.maximum(logs, FLOOR)
    weight = np.exp(logs) * open_
    total = weight.sum()
    return logs - np.log(total), weight / total
