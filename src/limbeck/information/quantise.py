"""Symbols from posteriors or features, fitted once and used for every sample after."""

from __future__ import annotations

import math
import operator
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64, Real

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information.entropy import table_entropy


STARTS = 10  # one start of k-means lets the information of 5 symbols wander by 0.07 bits
SUM_TOLERANCE = 1e-4  # of posteriors that were made in single precision
FAR = 1e-9  # a spread below this share of the largest value is rounding


@dataclass(frozen=True, eq=False)
class PosteriorCells:
    r"""Cells of the probability simplex: symbols that keep what posteriors say about the label.

    K-means on :math:`\sqrt{p(y \mid x)}`, where Euclidean distance is that of Hellinger: near a
    corner, where probabilities are small, cells are finer than K-means on p would make them.

    Attributes:
        centres: The cells' centres, in square roots of probabilities; a cell's number is its row.
    """

    centres: Float[np.ndarray, "symbols classes"]

    @classmethod
    def fit(
        cls, posteriors: Real[np.ndarray, "n classes"], n_symbols: int, *, seed: int
    ) -> PosteriorCells:
        """Find the cells, best of ten starts.

        Fit on rows that are not measured later, and fit the teacher's once for all students.

        Args:
            posteriors: Rows that sum to one.
            n_symbols: How many cells; fewer are made where there are fewer distinct rows.
            seed: Equal seeds give equal cells.

        Returns:
            The cells.

        Raises:
            ShapeError: If ``posteriors`` is no matrix.
            DataError: If a row is no distribution, or there is none.
            ArgumentError: If ``n_symbols`` is below 1.

        Example:
            >>> sure = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
            >>> cells = PosteriorCells.fit(sure, 3, seed=0)
            >>> cells.symbols(np.array([[0.9, 0.1], [0.6, 0.4]])).tolist() == (
            ...     cells.symbols(sure[:2]).tolist()
            ... )
            True
        """
        roots = np.sqrt(_posteriors("PosteriorCells.fit", posteriors))
        return cls(_centres("PosteriorCells.fit", roots, roots, n_symbols, seed))

    def symbols(self, posteriors: Real[np.ndarray, "n classes"]) -> Int64[np.ndarray, " n"]:
        """Return the number of each row's cell, from 0.

        Raises:
            ShapeError: If the rows have another width than those fitted.
            DataError: If a row is no distribution.
        """
        where = "PosteriorCells.symbols"
        return _nearest(where, np.sqrt(_posteriors(where, posteriors)), self.centres)


@dataclass(frozen=True, eq=False)
class FeatureClusters:
    """Clusters of features after principal components: the usual way, blind to the label.

    It follows directions of large variance. What the label is written into may be lost: compare
    :func:`kept_information`.

    Attributes:
        normalise_rows: Whether rows are scaled to length one first.
        mean: The features' mean.
        directions: Principal directions; none where the features are constant.
        centres: The clusters' centres along the directions; a cluster's number is its row.

    Source:
        Dissanayake et al. (2025), arXiv:2411.07483, D.3: principal components, then K-means, with
        as many components as clusters. Their code also scales rows to length one, which the paper
        does not say (``normalise_rows=True``), refits at each call without a seed from one start,
        and replaces NaN by zeros; here fitted once, best of ten starts, NaN refused.
    """

    normalise_rows: bool
    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "components d"]
    centres: Float[np.ndarray, "symbols components"]

    @classmethod
    def fit(
        cls,
        features: Real[np.ndarray, "n d"],
        n_symbols: int,
        *,
        components: int = 10,
        normalise_rows: bool = False,
        seed: int,
    ) -> FeatureClusters:
        """Find principal components and clusters, best of ten starts.

        Args:
            features: One row a sample, flattened or pooled.
            n_symbols: How many clusters; fewer are made where there are fewer distinct rows.
            components: How many principal components are kept, at most n and d.
            normalise_rows: Scale rows to length one first; rows of zeros stay.
            seed: Equal seeds give equal clusters.

        Returns:
            The clusters. Constant features give one.

        Raises:
            ShapeError: If ``features`` is no matrix.
            DataError: If a number is not finite, or there is none.
            ArgumentError: If ``n_symbols`` or ``components`` is below 1.

        Example:
            >>> line = np.array([[0.0, 1.0], [0.1, 1.0], [5.0, 1.0], [5.1, 1.0]])
            >>> first, near, far, last = FeatureClusters.fit(line, 2, seed=0).symbols(line)
            >>> bool(first == near != far == last)
            True
        """
        from sklearn.decomposition import PCA

        where = "FeatureClusters.fit"
        if operator.index(components) < 1:
            raise ArgumentError(
                f"{where}: expected `components` >= 1; got {components}. Ten is the usual number."
            )
        rows = _scaled(_features(where, features), normalise_rows)
        mean = rows.mean(0)
        directions = np.zeros((0, rows.shape[1]))
        if np.ptp(rows, axis=0).max() > FAR * np.abs(rows).max():
            found = PCA(min(components, *rows.shape), random_state=seed).fit(rows)
            mean, directions = np.asarray(found.mean_), np.asarray(found.components_)
        along = (rows - mean) @ directions.T
        return cls(normalise_rows, mean, directions, _centres(where, along, rows, n_symbols, seed))

    def symbols(self, features: Real[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
        """Return the number of each row's cluster, from 0.

        Raises:
            ShapeError: If the rows have another width than those fitted.
            DataError: If a number is not finite.
        """
        where = "FeatureClusters.symbols"
        rows = _features(where, features)
        if rows.shape[1] != len(self.mean):
            raise _width(where, len(self.mean), rows.shape[1])
        along = (_scaled(rows, self.normalise_rows) - self.mean) @ self.directions.T
        return _nearest(where, along, self.centres)


def kept_information(
    targets: Int[np.ndarray, " n"],
    symbols: Int[np.ndarray, " n"],
    posteriors: Real[np.ndarray, "n classes"],
) -> float:
    r"""Return which share of a probe's information about the targets its symbols keep.

    .. math:: \frac{\hat I(Y; \text{symbol})}{\hat H(Y) + \frac 1n \sum_i \log_2 p(y_i \mid x_i)}

    Args:
        targets: Class numbers, from 0.
        symbols: Each row's symbol.
        posteriors: The probe's, on rows held out from it; above zero at the targets.

    Returns:
        The share. Above 1 the symbols know more than the probe: it is the probe that is short. 1
        where the probe's information is within two standard errors of zero: nothing to lose.

    Raises:
        ShapeError: If the numbers of rows differ.
        DataError: If a row is no distribution or gives its target no probability.

    Example:
        Four rows, of which the probe is sure; one symbol for two labels keeps half of it.

        >>> targets, sure = np.arange(4000) % 4, np.eye(4)[np.arange(4000) % 4]
        >>> round(kept_information(targets, targets // 2, sure), 3)
        0.5

    Note:
        Entropies of counts carry the correction of Miller and Madow: half of the number of occupied
        cells less one, over n, in nats.
    """
    where = "kept_information"
    known = _posteriors(where, posteriors)
    rows = len(known)
    if targets.shape != (rows,) or symbols.shape != (rows,):
        raise ShapeError(
            f"{where}: expected a target and a symbol a row of `posteriors` {known.shape}; got "
            f"targets {targets.shape}, symbols {symbols.shape}. Take all three from the same rows."
        )
    if targets.min() < 0 or targets.max() >= known.shape[1]:
        raise DataError(
            f"{where}: expected targets in [0, {known.shape[1] - 1}]; got {targets.min()} to "
            f"{targets.max()}. Number the classes as the columns of `posteriors`."
        )
    own = known[np.arange(rows), targets]
    if own.min() <= 0:
        raise DataError(
            f"{where}: expected posteriors > 0 at the targets; got 0 in {np.sum(own <= 0)} rows. "
            "Floor the probe's probabilities, at 1e-5 for instance, and renormalise."
        )
    _, label = np.unique(targets, return_inverse=True)
    _, symbol = np.unique(symbols, return_inverse=True)
    pair = label * (symbol.max() + 1) + symbol
    gained = np.log2(own) - np.log2(np.bincount(label) / rows)[label]
    if gained.mean() <= 2.0 * gained.std() / math.sqrt(rows):
        return 1.0
    target_entropy = _entropy(label)
    probe = target_entropy + float(np.log2(own).mean())
    return max(target_entropy + _entropy(symbol) - _entropy(pair), 0.0) / probe


def _entropy(numbers: Int[np.ndarray, " n"]) -> float:
    """Return the entropy [bits] of what was counted, corrected as Miller and Madow do."""
    return table_entropy(np.bincount(numbers), correction="miller-madow")


def _centres(
    where: str,
    points: Float[np.ndarray, "n d"],
    rows: Float[np.ndarray, "n width"],
    n_symbols: int,
    seed: int,
) -> Float[np.ndarray, "symbols d"]:
    """Return centres of ``points``; the distinct ones where ``rows`` has no more than symbols."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if operator.index(n_symbols) < 1:
        raise ArgumentError(
            f"{where}: expected `n_symbols` >= 1; got {n_symbols}. Ten to fifty are usual."
        )
    if points.shape[1] == 0:
        return np.zeros((1, 0))
    packed = np.ascontiguousarray(rows).view(f"V{rows.shape[1] * rows.itemsize}").ravel()
    _, first = np.unique(packed, return_index=True)
    if len(first) <= n_symbols:
        return np.unique(points[first], axis=0)
    settings: dict[str, Any] = {"n_init": STARTS, "random_state": seed}
    with warnings.catch_warnings():
        # Rows that differ by rounding alone; centres that are nobody's are dropped below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(n_symbols, **settings).fit(points)
    centres = np.asarray(found.cluster_centers_)
    return centres[np.unique(_nearest(where, points, centres))]


def _nearest(
    where: str, points: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "symbols d"]
) -> Int64[np.ndarray, " n"]:
    """Return the number of the nearest centre of each point."""
    from sklearn.metrics import pairwise_distances_argmin

    if points.shape[1] != centres.shape[1]:
        raise _width(where, centres.shape[1], points.shape[1])
    if len(centres) == 1:
        return np.zeros(len(points), dtype=np.int64)
    return np.asarray(pairwise_distances_argmin(points, centres), dtype=np.int64)


def _width(where: str, expected: int, got: int) -> ShapeError:
    return ShapeError(
        f"{where}: expected rows of width {expected}; got {got}. Pass what was fitted, for other "
        "samples."
    )


def _features(where: str, features: Real[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return a checked matrix as float64."""
    given = np.asarray(features)
    if given.ndim != 2:
        raise ShapeError(
            f"{where}: expected one row a sample; got shape {given.shape}. Flatten or pool first."
        )
    if given.size == 0:
        raise DataError(f"{where}: expected some rows; got shape {given.shape}. Pass samples.")
    rows = given.astype(np.float64)
    if not np.isfinite(rows).all():
        bad = int(np.count_nonzero(~np.isfinite(rows).all(1)))
        raise DataError(
            f"{where}: expected finite numbers; got NaN or infinity in {bad} of {len(rows)} rows. "
            "Look for what made them; nothing is replaced here."
        )
    return rows


def _posteriors(where: str, posteriors: Real[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Return checked distributions as float64."""
    rows = _features(where, posteriors)
    off = float(np.abs(rows.sum(1) - 1.0).max())
    if rows.min() < 0 or off > SUM_TOLERANCE:
        raise DataError(
            f"{where}: expected probabilities whose rows sum to 1; got a minimum of "
            f"{rows.min():.3g} and sums off by up to {off:.3g}. Pass softmax outputs, not logits."
        )
    return rows


def _scaled(rows: Float[np.ndarray, "n d"], to_length_one: bool) -> Float[np.ndarray, "n d"]:
    """Return rows of length one where asked to; rows of zeros stay."""
    if not to_length_one:
        return rows
    largest = np.abs(rows).max(1, keepdims=True)
    shrunk = rows / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(shrunk, axis=1, keepdims=True)
    return shrunk / np.where(lengths > 0, lengths, 1.0)
