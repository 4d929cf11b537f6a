"""Entropy and mutual information of tables of counts, with corrections of their bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Int, Integer, Real

from limbeck.checks import DataError, ShapeError, check_choice
from limbeck.information.certificate import xlogx
from limbeck.randomness import derive_seed


Correction = Literal["none", "miller-madow", "quadratic"]
CORRECTIONS = ("none", "miller-madow", "quadratic")
SUM_TOLERANCE = 1e-9
MOST_SAMPLES = 10**9  # numpy draws parts of no larger table
Values = TypeVar("Values", float, np.ndarray)


def table_entropy(
    table: Real[np.ndarray, "*cells"], *, correction: Correction = "none", seed: int = 0
) -> float:
    r"""Return the entropy of a table.

    .. math:: \hat H = -\sum_k \frac{n_k}{N} \log_2 \frac{n_k}{N}, \qquad
              \hat H_{MM} = \hat H + \frac{K - 1}{2 N \ln 2}

    with K the number of cells that hold a sample. The plug-in value (``"none"``) is too small on
    average, by about as much as Miller and Madow add. ``"quadratic"`` extrapolates to N without
    end; see :func:`extrapolated`.

    Args:
        table: Counts as integers, or probabilities as floats, which allow no correction.
        correction: "none", "miller-madow" or "quadratic".
        seed: Of the random parts that "quadratic" needs; see :func:`disjoint_parts`.

    Returns:
        The entropy [bits]; zero where one cell holds all. A corrected one may lie outside of what
        an entropy can be; it is not clipped, since that would be a bias again.

    Raises:
        DataError: If the table is empty, negative, not finite, or its floats do not sum to one;
            if a correction is asked for without counts, or "quadratic" with fewer than 4 samples.
        ArgumentError: If there is no such correction.

    Example:
        A fair coin has 1 bit; Miller and Madow add 1 / (2 * 4 * ln 2) = 0.1803 at 4 throws.

        >>> table_entropy(np.array([2, 2]))
        1.0
        >>> round(table_entropy(np.array([2, 2]), correction="miller-madow"), 4)
        1.1803

    Source:
        Miller (1955), "Note on the bias of information estimates". Strong, Koberle, de Ruyter van
        Steveninck and Bialek (1998), arXiv:cond-mat/9603127, for the quadratic extrapolation.
    """
    return _corrected("table_entropy", table, _entropy, _entropy_excess, correction, seed)


def table_mutual_information(
    table: Real[np.ndarray, "x y"], *, correction: Correction = "none", seed: int = 0
) -> float:
    r"""Return the mutual information of the rows and the columns of a table.

    .. math:: \hat I(X;Y) = \hat H(X) + \hat H(Y) - \hat H(X,Y), \qquad
              \hat I_{MM} = \hat I - \frac{K_{XY} - K_X - K_Y + 1}{2 N \ln 2}

    with K the numbers of occupied cells, rows and columns. The plug-in value (``"none"``) is too
    large on average. For several variables on one side, reshape them into one axis.

    Args:
        table: Counts as integers, or probabilities as floats, which allow no correction.
        correction: "none", "miller-madow" or "quadratic"; see :func:`table_entropy`.
        seed: Of the random parts that "quadratic" needs; see :func:`disjoint_parts`.

    Returns:
        The mutual information [bits]; zero where rows and columns are independent in the table. A
        corrected one may be negative; it is not clipped, since that would be a bias again.

    Raises:
        ShapeError: If the table has not two dimensions.
        DataError: As for :func:`table_entropy`.
        ArgumentError: If there is no such correction.

    Example:
        Two bits that always agree share 1 bit. Two cells, two rows and two columns are occupied,
        so Miller and Madow take off (2 - 2 - 2 + 1) / (2 * 4 * ln 2) = -0.1803 at 4 samples.

        >>> table_mutual_information(np.array([[2, 0], [0, 2]]))
        1.0
        >>> round(
        ...     table_mutual_information(np.array([[2, 0], [0, 2]]), correction="miller-madow"), 4
        ... )
        1.1803

    Source:
        Miller (1955); Panzeri and Treves (1996) for the bias of an information.
    """
    name = "table_mutual_information"
    if np.ndim(table) != 2:
        raise ShapeError(
            f"{name}: expected a table indexed [x, y]; got shape {np.shape(table)}. "
            "Reshape or sum until two axes are left."
        )
    return _corrected(name, table, _mutual_information, _information_excess, correction, seed)


def extrapolated(full: Values, half: Values, quarter: Values) -> Values:
    r"""Extrapolate estimates to a sample without end by a parabola in 1/N.

    .. math:: v(N) = a + b/N + c/N^2 \quad\Rightarrow\quad
              a = \tfrac{1}{3} \left( 8 v_N - 6 v_{N/2} + v_{N/4} \right)

    It removes the two leading terms of the bias of a plug-in value, and makes its spread larger.
    For a decomposition, extrapolate I(Y;T), I(Y;S), I(Y;T,S) and the union information, then
    rebuild the atoms: their identities survive.

    Args:
        full: Estimate from the whole sample; a number, or an array of several quantities.
        half: Mean of the estimates from two disjoint halves of it.
        quarter: Mean of the estimates from four disjoint quarters.

    Returns:
        The extrapolated estimate, in the unit of the estimates; not clipped.

    Example:
        v(N) = 1 + 8/N + 64/N² is 2.0 + 1.0 at N = 8, 1 + 2 + 4 at 4 and 1 + 4 + 16 at 2.

        >>> extrapolated(3.0, 7.0, 21.0)
        1.0

    Source:
        Strong, Koberle, de Ruyter van Steveninck and Bialek (1998), arXiv:cond-mat/9603127.
    """
    return (8.0 * full - 6.0 * half + quarter) / 3.0


def disjoint_parts(
    counts: Integer[np.ndarray, "*cells"], *, seed: int = 0
) -> tuple[Int[np.ndarray, "2 ..."], Int[np.ndarray, "4 ..."]]:
    """Split the samples of a table at random into two halves, and these into quarters.

    It is a split of the samples themselves: which of them went into a cell is all that a table has
    forgotten, and a random split does not depend on it.

    Args:
        counts: Numbers of samples, at least 4 in all and at most 10⁹.
        seed: The same seed and table give the same parts.

    Returns:
        The halves [2, cells] and the quarters [4, cells]; each adds up to ``counts``, and their
        sizes differ by at most one sample.

    Raises:
        DataError: If these are no counts, or too few or too many.

    Example:
        >>> halves, quarters = disjoint_parts(np.array([[6, 2], [0, 8]]))
        >>> [int(part.sum()) for part in (*halves, *quarters)]
        [8, 8, 4, 4, 4, 4]
    """
    given = checked_counts("disjoint_parts", counts)
    total = int(given.sum())
    if not 4 <= total < MOST_SAMPLES:
        raise DataError(
            f"disjoint_parts: expected 4 to 10⁹ samples; got {total}. "
            "Use the correction 'miller-madow' or 'none'."
        )
    source = np.random.default_rng(derive_seed(seed, "parts of a table"))

    def split(whole: np.ndarray) -> list[np.ndarray]:
        part = source.multivariate_hypergeometric(whole, int(whole.sum()) // 2, method="marginals")
        return [part, whole - part]

    halves = split(given.ravel())
    quarters = [quarter for half in halves for quarter in split(half)]
    shape = given.shape
    return np.reshape(halves, (2, *shape)), np.reshape(quarters, (4, *shape))


def count_table(
    *symbols: Integer[np.ndarray, " n"], sizes: tuple[int, ...] | None = None
) -> Int[np.ndarray, "*cells"]:
    """Count how often each combination of symbols occurs.

    Args:
        symbols: One array of n symbols 0, 1, ... for each axis of the table.
        sizes: How many symbols each axis has; None takes the largest one seen plus one.

    Returns:
        The counts, one axis for each array.

    Raises:
        ShapeError: If there are no arrays, or they differ in length.
        DataError: If they are empty or not integers, or a symbol is outside of its axis.

    Example:
        >>> count_table(np.array([0, 0, 1]), np.array([1, 1, 0]))
        array([[0, 2],
               [1, 0]])
    """
    columns = [np.asarray(column) for column in symbols]
    shapes = [column.shape for column in columns]
    if not columns or len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ShapeError(
            f"count_table: expected vectors of one length; got shapes {shapes}. "
            "Pass one symbol a sample for each axis."
        )
    if columns[0].size == 0 or any(column.dtype.kind not in "iu" for column in columns):
        raise DataError(
            f"count_table: expected integer symbols; got {columns[0].size} of types "
            f"{', '.join(str(column.dtype) for column in columns)}. Number the symbols from 0."
        )
    shape = tuple(int(column.max()) + 1 for column in columns) if sizes is None else sizes
    if len(shape) != len(columns):
        raise ShapeError(
            f"count_table: expected {len(columns)} sizes; got {len(shape)}. Pass one an axis."
        )
    for axis, (column, size) in enumerate(zip(columns, shape, strict=True)):
        if column.min() < 0 or column.max() >= size:
            raise DataError(
                f"count_table: expected symbols 0 to {size - 1} on axis {axis}; got "
                f"{column.min()} to {column.max()}. Drop unlabelled samples or raise `sizes`."
            )
    flat = np.ravel_multi_index(tuple(columns), shape)
    return np.bincount(flat, minlength=math.prod(shape)).reshape(shape)


def checked_table(
    where: str, table: Real[np.ndarray, "*cells"], axes: int | None = None
) -> Float[np.ndarray, "*cells"]:
    """Return a table of counts or probabilities as float64 that sums to one.

    Args:
        where: The function that was given the table, for the message.
        table: Probabilities that sum to one as floats, or counts as integers.
        axes: How many dimensions it must have: 3 for [y, t, s], None for any.

    Raises:
        ShapeError: If it has other dimensions.
        DataError: If it is empty, negative, not finite, or its floats do not sum to one.
    """
    given = np.asarray(table)
    if axes is not None and given.ndim != axes:
        raise ShapeError(
            f"{where}: expected a table indexed {'[y, t, s]' if axes == 3 else f'by {axes}'}; "
            f"got shape {given.shape}. Count or sum over everything else first."
        )
    if given.dtype.kind in "iu":
        counts = checked_counts(where, given).astype(np.float64)
        return counts / counts.sum()
    if given.size == 0 or given.dtype.kind != "f":
        raise DataError(
            f"{where}: expected real numbers; got {given.size} of type {given.dtype}. "
            "Pass probabilities as floats or counts as integers."
        )
    values = given.astype(np.float64)
    fine = np.isfinite(values) & (values >= 0)
    if not fine.all():
        raise DataError(
            f"{where}: expected finite cells >= 0; got {np.count_nonzero(~fine)} others of "
            f"{values.size}. Look for what made them; nothing is clipped here."
        )
    total = float(values.sum())
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise DataError(
            f"{where}: expected probabilities that sum to 1; got {total:.12g}. Divide the table "
            "by its sum in float64, or pass counts as integers."
        )
    return values / total


def checked_counts(where: str, counts: Real[np.ndarray, "*cells"]) -> Int[np.ndarray, "*cells"]:
    """Return counts as int64; raise DataError unless they are integers >= 0, not all zero."""
    given = np.asarray(counts)
    if given.size == 0 or given.dtype.kind not in "iu":
        raise DataError(
            f"{where}: expected counts as integers; got {given.size} of type {given.dtype}. "
            "Count samples; probabilities have forgotten how many there were."
        )
    if (given < 0).any() or not given.any():
        raise DataError(
            f"{where}: expected counts >= 0, not all zero; got a sum of {given.sum()} with "
            f"{np.count_nonzero(given < 0)} below zero. Count some samples."
        )
    return given.astype(np.int64)


def _corrected(
    where: str,
    table: Real[np.ndarray, "*cells"],
    plug_in: Callable[[Float[np.ndarray, "*cells"]], float],
    excess: Callable[[Int[np.ndarray, "*cells"]], int],
    correction: str,
    seed: int,
) -> float:
    """Return a quantity of a table, linear in entropies, with its bias corrected [bits]."""
    check_choice(where, "correction", correction, CORRECTIONS)
    value = plug_in(checked_table(where, table))
    if correction == "none":
        return value
    counts = checked_counts(where, table)
    if correction == "miller-madow":
        return value + excess(counts) / (2.0 * float(counts.sum()) * math.log(2.0))
    parts = disjoint_parts(counts, seed=seed)
    half, quarter = (float(np.mean([plug_in(n / n.sum()) for n in part])) for part in parts)
    return extrapolated(value, half, quarter)


def _entropy(p: Float[np.ndarray, "*cells"]) -> float:
    return max(-float(xlogx(p).sum()) / math.log(2.0), 0.0)


def _mutual_information(p: Float[np.ndarray, "x y"]) -> float:
    return max(_entropy(p.sum(1)) + _entropy(p.sum(0)) - _entropy(p), 0.0)


def _entropy_excess(counts: Int[np.ndarray, "*cells"]) -> int:
    return int(np.count_nonzero(counts)) - 1


def _information_excess(counts: Int[np.ndarray, "x y"]) -> int:
    rows, columns = counts.any(1).sum(), counts.any(0).sum()
    return int(rows + columns - np.count_nonzero(counts)) - 1
