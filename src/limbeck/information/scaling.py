"""Accelerated alternating scaling for the union information."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from limbeck.information.certificate import Bracket


SWEEPS = 2  # of row and column scaling between two updates of the weights
CHECK = 20  # iterations between two looks at the bounds
FLOOR = -600.0  # of the logarithm of a weight, above the underflow of exp


def scaling(bracket: Bracket, tolerance: float, *, max_iterations: int, patience: int) -> int:
    r"""Close the bracket by scaling one table of weights onto every label's pair marginals.

    With weights R(t, s), scale :math:`Q_y = \mathrm{diag}(a_y) R\, \mathrm{diag}(b_y)` onto
    P(y, t) and P(y, s), then take :math:`R \leftarrow \sum_y Q_y`; both steps lower one jointly
    convex objective. The second is extrapolated in log R as by Nesterov and restarted where it
    points uphill. No array over (y, t, s) is made between two looks at the bounds.

    Args:
        bracket: Where the bounds are kept. Every symbol and label of its pairs has mass.
        tolerance: The gap to reach [nats].
        max_iterations: The most updates of R.
        patience: Updates without half the gap after which to stop.

    Returns:
        The number of updates.
    """
    pairs = bracket.pairs
    A, B = pairs.teacher, pairs.student
    open_ = (A > 0).astype(np.float64).T @ (B > 0) > 0
    used = (A > 0, B > 0)
    log_weight = np.where(open_, np.log(np.outer(A.sum(0), B.sum(0))), -np.inf)
    log_weight, weight = _normalised(log_weight, open_)
    log_last, last, momentum = log_weight, weight, 0
    b = used[1].astype(np.float64)
    a = used[0].astype(np.float64)
    mark, marked = bracket.gap, 0
    for iteration in range(1, max_iterations + 1):
        for _ in range(SWEEPS):
            a = _divided(A, b @ weight.T, used[0])
            b = _divided(B, a @ weight, used[1])
        sums = a.T @ b
        if not (np.isfinite(sums).all() and (sums[open_] > 0).all()):
            return iteration
        if iteration % CHECK == 0:
            _look(bracket, a, b, weight)
            if bracket.gap <= tolerance:
                return iteration
            if bracket.gap < 0.5 * mark:
                mark, marked = bracket.gap, iteration
            elif iteration - marked >= patience:
                return iteration
        step = np.log(np.where(open_, sums, 1.0))
        log_next, following = _normalised(log_weight + step, open_)
        if momentum > 0 and float((step * (following - last)).sum()) < 0:
            momentum = 0
        share = momentum / (momentum + 3.0)
        momentum += 1
        ahead = np.where(open_, log_next + share * _difference(log_next, log_last, open_), -np.inf)
        log_last, last = log_next, following
        log_weight, weight = _normalised(ahead, open_)
    return max_iterations


def _look(
    bracket: Bracket,
    a: Float[np.ndarray, "y t"],
    b: Float[np.ndarray, "y s"],
    weight: Float[np.ndarray, "t s"],
) -> None:
    with np.errstate(divide="ignore"):
        bracket.offer_duals(np.log(a), np.log(b))
    bracket.offer_coupling(a[:, :, None] * weight * b[:, None, :])


def _divided(
    mass: Float[np.ndarray, "y x"], by: Float[np.ndarray, "y x"], used: Bool[np.ndarray, "y x"]
) -> Float[np.ndarray, "y x"]:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(used, mass / by, 0.0)


def _difference(
    new: Float[np.ndarray, "t s"], old: Float[np.ndarray, "t s"], open_: Bool[np.ndarray, "t s"]
) -> Float[np.ndarray, "t s"]:
    return np.where(open_, new, 0.0) - np.where(open_, old, 0.0)


def _normalised(
    logs: Float[np.ndarray, "t s"], open_: Bool[np.ndarray, "t s"]
) -> tuple[Float[np.ndarray, "t s"], Float[np.ndarray, "t s"]]:
    """Return logarithms of weights that sum to one, none below the floor, and the weights."""
    logs = logs - logs.max()
    logs = np.where(open_, np.maximum(logs, FLOOR), -np.inf)
    weight = np.exp(logs)
    total = weight.sum()
    return logs - np.log(total), weight / total
