"""A linear model and its data: the problem that distillation by SGD solves exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Real
from scipy.linalg import eigh

from limbeck.checks import DataError, ShapeError


Vector = Float[np.ndarray, " d"]
Matrix = Float[np.ndarray, "d d"]


@dataclass(frozen=True, eq=False)
class LeastSquares:
    r"""A linear problem with the loss :math:`f(x) = \tfrac{1}{2} E (a^T x - b)^2`.

    Attributes:
        inputs: Rows a, of full column rank.
        targets: One b a row.
        weights: How likely each row is drawn, up to a factor, at least 0; None draws all alike.

    Raises:
        ShapeError: If there is not one target and one weight a row.
        DataError: If values are not finite, weights are negative or add up to 0, or inputs are
            not of full column rank.

    Example:
        Rows (1, 1, 2, 2) with targets (2, 0, 3, 1): a'b / a'a = 10 / 10.

        >>> rows = np.array([[1.0], [1], [2], [2]])
        >>> problem = LeastSquares(rows, np.array([2.0, 0, 3, 1]))
        >>> round(float(problem.optimum[0]), 9), round(problem.mu, 9)
        (1.0, 2.5)
    """

    inputs: Real[np.ndarray, "n d"]
    targets: Real[np.ndarray, " n"]
    weights: Real[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        """Check the arrays."""
        rows = np.shape(self.inputs)
        given = [self.targets] if self.weights is None else [self.targets, self.weights]
        if len(rows) != 2 or any(np.shape(array) != rows[:1] for array in given):
            raise ShapeError(
                "LeastSquares: expected inputs [n, d] with one target and one weight a row; got "
                f"shapes {', '.join(str(np.shape(array)) for array in (self.inputs, *given))}. "
                "Pass one output at a time."
            )
        if not all(np.isfinite(array).all() for array in (self.inputs, *given)):
            raise DataError(
                "LeastSquares: expected finite inputs, targets and weights; got others. Drop those "
                "rows or look for what made them."
            )
        if self.weights is not None and (self.weights.min(initial=0) < 0 or not self.weights.any()):
            raise DataError(
                "LeastSquares: expected weights >= 0, some above 0; got others. Pass how likely "
                "each row is drawn."
            )
        drawn = np.asarray(self.inputs)[self.shares > 0]
        rank = np.linalg.matrix_rank(drawn) if drawn.size else 0
        if not 0 < rows[1] == rank:
            raise DataError(
                f"LeastSquares: expected inputs of full column rank; got rank {rank} of {rows[1]} "
                "columns. Drop columns that are combinations of others, or pass more rows."
            )

    @cached_property
    def shares(self) -> Float[np.ndarray, " n"]:
        """How likely each row is drawn."""
        if self.weights is None:
            return np.full(len(self.inputs), 1 / max(len(self.inputs), 1))
        return np.asarray(self.weights, dtype=np.float64) / self.weights.sum(dtype=np.float64)

    @cached_property
    def hessian(self) -> Matrix:
        """H = E a a'."""
        return self.inputs.T @ (self.shares[:, None] * self.inputs)

    @cached_property
    def optimum(self) -> Vector:
        """The parameters of least loss."""
        roots = np.sqrt(self.shares)
        return np.linalg.lstsq(roots[:, None] * self.inputs, roots * self.targets, rcond=None)[0]

    @cached_property
    def residuals(self) -> Float[np.ndarray, " n"]:
        """Targets minus predictions at the optimum."""
        return self.targets - self.inputs @ self.optimum

    @cached_property
    def mu(self) -> float:
        """Smallest eigenvalue of the Hessian: strong convexity."""
        return float(np.linalg.eigvalsh(self.hessian)[0])

    @cached_property
    def smoothness(self) -> float:
        """Largest eigenvalue of the Hessian: L."""
        return float(np.linalg.eigvalsh(self.hessian)[-1])

    @cached_property
    def expected_smoothness(self) -> float:
        """Largest eigenvalue of H^-1/2 E[|a|^2 a a'] H^-1/2, for batches of one."""
        weights = self.shares * (np.asarray(self.inputs, dtype=np.float64) ** 2).sum(1)
        fourth = self.inputs.T @ (weights[:, None] * self.inputs)
        return float(eigh(fourth, self.hessian, eigvals_only=True)[-1])


def checked_vector(
    where: str, problem: LeastSquares, name: str, vector: Real[np.ndarray, " d"]
) -> Vector:
    """Return parameters in float64 after a check that they fit the problem."""
    if np.shape(vector) != np.shape(problem.optimum):
        raise ShapeError(
            f"{where}: expected `{name}` of shape {np.shape(problem.optimum)}; got shape "
            f"{np.shape(vector)}. Pass one parameter a column of the inputs."
        )
    if not np.isfinite(vector).all():
        raise DataError(
            f"{where}: expected a finite `{name}`; got {np.count_nonzero(~np.isfinite(vector))} "
            "other values. Look for what made them."
        )
    return np.asarray(vector, dtype=np.float64)
