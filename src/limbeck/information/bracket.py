"""How far the hull's bound may lie below the union information of the same posteriors."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64

from limbeck.information.broja import broja_pid
from limbeck.information.hull import Hull
from limbeck.information.threads import one_thread
from limbeck.randomness import derive_seed


ROWS = 150  # whose table is solved exactly
MOST = 100  # classes: with more the table takes minutes, and so few rows say little
TOLERANCE = 2e-3  # bits


@one_thread()
def hull_gap(
    hull: Hull,
    teacher: Float32[np.ndarray, "n classes"],
    student: Float32[np.ndarray, "n classes"],
    *,
    seed: int,
) -> float | None:
    """Return how many bits more than the hull's bound the union information may be.

    Some rows' posteriors are made a table, each row a symbol, that :func:`broja_pid` solves. Its
    upper bound is what any pair of duals reaches at most on these rows; how far the hull stays
    below it there is too large rather than too small in expectation, since the best duals of few
    rows fit them better than those that are best for all.

    Args:
        hull: A hull that was fitted on other rows.
        teacher: The teacher's posteriors, above zero, rows summing to one.
        student: The student's.
        seed: Chooses the rows.

    Returns:
        The gap [bits], at least zero; None for more than 100 classes.
    """
    if teacher.shape[1] > MOST:
        return None
    random = np.random.default_rng(derive_seed(seed, "bracket"))
    some = random.permutation(len(teacher))[:ROWS]
    p, q = (
        rows[some] / rows[some].sum(1, keepdims=True, dtype=float) for rows in (teacher, student)
    )
    # Both sides get the same shares of the labels, or no joint law would have them.
    shares = 0.5 * (p.mean(0) + q.mean(0))
    first, second = (rows.T * (shares / rows.sum(0))[:, None] for rows in (p, q))
    exact = broja_pid(first[:, :, None] * (second / shares[:, None])[:, None], tolerance=TOLERANCE)
    entropy = -float(shares @ np.log(shares))
    bound = (entropy + _value(hull, first, second)) / np.log(2.0)
    return float(max(exact.union_bounds[1] - bound, 0.0))


def _value(
    hull: Hull, teacher: Float64[np.ndarray, "classes m"], student: Float64[np.ndarray, "classes m"]
) -> float:
    """Return the mean of the hull's scores over two tables [nats]."""

    def rows(table: Float[np.ndarray, "classes m"]) -> torch.Tensor:
        return torch.as_tensor((table / table.sum(0)).T.copy()).to(hull.vertices)

    scores = hull.duals(rows(teacher), rows(student))
    return sum(
        float((table.T * score.double().cpu().numpy()).sum())
        for table, score in zip((teacher, student), scores, strict=True)
    )
