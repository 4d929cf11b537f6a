"""Checked input laws, teacher rows and priors over a finite domain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike

from limbeck.checks import ArgumentError, DataError, ShapeError


TOLERANCE = 1e-6  # by which a law may miss the sum 1
Rows = Callable[[np.ndarray], np.ndarray]
Prior = ArrayLike | Rows | str | None


def checked_law(where: str, name: str, law: ArrayLike) -> Float[np.ndarray, " k"]:
    """Return a probability vector as float64 with sum 1, or raise what is wrong with it."""
    found = np.asarray(law, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise ShapeError(
            f"{where}: expected `{name}` as a vector; got shape {found.shape}. Give one "
            "probability an entry."
        )
    return checked_rows(where, name, found[None])[0]


def checked_rows(where: str, name: str, rows: ArrayLike) -> Float[np.ndarray, "k labels"]:
    """Return conditional laws as float64 rows with sum 1, or raise what is wrong with them."""
    found = np.asarray(rows, dtype=np.float64)
    if found.ndim != 2 or not found.shape[1]:
        raise ShapeError(
            f"{where}: expected `{name}` as [inputs, labels]; got shape {found.shape}. Give one "
            "row an input."
        )
    if not np.isfinite(found).all() or (found < 0).any():
        wrong = found[~np.isfinite(found) | (found < 0)][0]
        raise DataError(
            f"{where}: expected `{name}` >= 0 and finite; got {wrong}. Give probabilities, not "
            "logits."
        )
    sums = found.sum(1)
    off = np.abs(sums - 1) > TOLERANCE
    if off.any():
        raise DataError(
            f"{where}: expected `{name}` to sum to 1; got {sums[off][0]}. Normalise it, or find "
            "what is missing."
        )
    return found / sums[:, None]


def checked_pair(
    where: str, input_law: ArrayLike, rows: ArrayLike
) -> tuple[Float[np.ndarray, " inputs"], Float[np.ndarray, "inputs labels"]]:
    """Return an input law and one row for each of its inputs."""
    rho, pi = checked_law(where, "input_law", input_law), checked_rows(where, "rows", rows)
    if len(rho) != len(pi):
        raise ShapeError(
            f"{where}: expected one row an input; got {len(rho)} inputs and {len(pi)} rows. Cut "
            "them alike."
        )
    return rho, pi


def checked_draws(where: str, n: int, least: int = 0) -> int:
    """Return a number of draws, or raise if it is below the least one."""
    if n < least or int(n) != n:
        raise ArgumentError(
            f"{where}: expected `n` as a whole number >= {least}; got {n}. Give a number of draws."
        )
    return int(n)


def prior_rows(where: str, prior: Prior, labels: int) -> Rows:
    """Return what answers with a row for each input: what a learner says where it saw nothing.

    Args:
        where: Function that was called, for messages.
        prior: "uniform" or None, one row [labels] for all inputs, a matrix [inputs, labels], or
            a callable from input indices to rows, such as the student before it learnt.
        labels: Width of a row.

    Returns:
        A callable from input indices [k] to rows [k, labels].
    """
    if prior is None or (isinstance(prior, str) and prior == "uniform"):
        return lambda inputs: np.full((len(inputs), labels), 1 / labels)
    if isinstance(prior, str):
        raise ArgumentError(
            f'{where}: expected `prior` to be "uniform", a row, a matrix or a callable; got '
            f"{prior!r}. Leave it out for the uniform law."
        )
    if callable(prior):
        ask: Rows = prior
        return lambda inputs: _of_width(where, ask(inputs), labels, len(inputs))
    given = np.asarray(prior, dtype=np.float64)
    if given.ndim == 1:
        row = _of_width(where, given[None], labels, 1)
        return lambda inputs: np.repeat(row, len(inputs), 0)
    matrix = _of_width(where, given, labels, len(given))
    return lambda inputs: matrix[_inside(where, inputs, len(matrix))]


def _of_width(
    where: str, rows: ArrayLike, labels: int, count: int
) -> Float[np.ndarray, "k labels"]:
    found = checked_rows(where, "prior", rows)
    if found.shape != (count, labels):
        raise ShapeError(
            f"{where}: expected `prior` rows of shape {(count, labels)}; got {found.shape}. Give "
            "one probability a label."
        )
    return found


def _inside(where: str, inputs: Int64[np.ndarray, " k"], count: int) -> Int64[np.ndarray, " k"]:
    if len(inputs) and inputs.max() >= count:
        raise DataError(
            f"{where}: expected `prior` to have a row for input {inputs.max()}; got {count} rows. "
            "Give a row for each input, or one for all."
        )
    return inputs
