"""Which directions of a representation know something about the label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.linalg import solve_triangular
from sklearn.covariance import ledoit_wolf

from limbeck.randomness import derive_seed


SPREADS = 32  # directions whose spread tells the label, at most
ABOVE_CHANCE = 1.05  # times what permuted labels reach
ENOUGH = 20  # rows a dimension: with fewer the covariance is drawn towards a diagonal one
RIDGE = 1e-9  # of the mean variance, for directions that are copies of others


@dataclass(frozen=True, eq=False)
class Directions:
    """A linear reduction that keeps what means and spreads of the classes tell.

    Attributes:
        centre: Mean of the features.
        means: Whitened directions in which class means differ, each shrunk by the share of the
            difference that is not chance; the linear discriminant uses them.
        kept: Whitened directions in which means or spreads differ beyond chance.
    """

    centre: Float[np.ndarray, " d"]
    means: Float[np.ndarray, "d m"]
    kept: Float[np.ndarray, "d r"]

    @classmethod
    def fit(
        cls, features: Float[np.ndarray, "n d"], targets: Int[np.ndarray, " n"], *, seed: int
    ) -> Directions:
        r"""Find the directions of rows with labels.

        The within-class covariance W whitens: where rows are enough, no invertible map of the
        features changes anything. Directions of means are eigenvectors of
        :math:`\sum_y n_y m_y m_y^\top`; where nothing differs the matrix of the means is noise,
        and its singular values are shrunk as is best for a matrix in such noise. Directions of
        spreads are eigenvectors of :math:`\sum_y p_y (W_y - I)^2` above the largest one for
        permuted labels.

        Source:
            Gavish and Donoho (2017), arXiv:1405.7511, equation 7, for the shrinkage; the directions
            of spreads are sliced average variance estimation (Cook and Weisberg 1991). Their union
            is limbeck's.
        """
        centre = features.mean(0, dtype=np.float64)
        scale = features.std(0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
        labels, targets = np.unique(targets, return_inverse=True)
        rows = features - centre
        rows /= scale
        means, counts = class_means(rows, targets, len(labels))
        for label, mean in enumerate(means):
            rows[targets == label] -= mean
        if len(rows) < ENOUGH * rows.shape[1]:
            within, _ = ledoit_wolf(rows, assume_centered=True)
        else:
            within = rows.T @ rows / (len(rows) - len(labels))
        within[np.diag_indices_from(within)] += RIDGE * max(
            float(np.trace(within)) / len(within), 1e-12
        )
        factor = np.linalg.cholesky(within)
        means = solve_triangular(factor, means.T, lower=True).T

        size, axes = np.linalg.eigh((means * counts[:, None]).T @ means)
        shrunk = _shrunk(size, len(labels) - 1)
        # Single precision is ample for spreads, and they are most of the work.
        rows = solve_triangular(factor, rows.T, lower=True, overwrite_b=True).T.astype(np.float32)
        spread = _spread_axes(rows, targets, counts, seed)
        used = shrunk > 0
        kept = _joined(axes[:, used], spread)
        back = solve_triangular(factor, np.eye(len(factor)), lower=True).T / scale[:, None]
        return cls(centre, back @ (axes * np.sqrt(shrunk))[:, used], back @ kept)

    def linear(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Return the shrunk coordinates of the means' directions."""
        return (features - self.centre) @ self.means

    def reduced(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"]:
        """Return the whitened coordinates that are kept; a column of zeros where none is."""
        if self.kept.shape[1] == 0:
            return np.zeros((len(features), 1))
        return (features - self.centre) @ self.kept


def _shrunk(size: Float[np.ndarray, " d"], others: int) -> Float[np.ndarray, " d"]:
    """Return by what squared singular values of a matrix in unit noise should be multiplied."""
    long, short = max(len(size), others), min(len(size), others)
    share, height = short / long, np.maximum(size / long, 1e-12)
    beyond = np.square(height - share - 1.0) - 4.0 * share
    signal = (height > (1.0 + np.sqrt(share)) ** 2) & (beyond > 0)
    return np.where(signal, np.sqrt(np.maximum(beyond, 0.0)) / height, 0.0)


def class_means(
    rows: Float[np.ndarray, "n d"], targets: Int[np.ndarray, " n"], classes: int
) -> tuple[Float[np.ndarray, "classes d"], Float[np.ndarray, " classes"]]:
    """Return the mean row and the number of rows of every class."""
    counts = np.bincount(targets, minlength=classes).astype(np.float64)
    onehot = np.zeros((classes, len(rows)))
    onehot[targets, np.arange(len(rows))] = 1.0
    return (onehot @ rows) / np.maximum(counts, 1.0)[:, None], counts


def _spread_axes(
    residuals: Float32[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    counts: Float[np.ndarray, " classes"],
    seed: int,
) -> Float[np.ndarray, "d r"]:
    """Return orthonormal axes along which classes spread differently, the strongest first."""
    width = residuals.shape[1]

    def differences(labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "d d"]:
        total = np.zeros((width, width))
        for label, count in enumerate(counts):
            rows = residuals[labels == label]
            apart = (rows.T @ rows).astype(np.float64) / max(count, 1.0) - np.eye(width)
            total += count / len(residuals) * (apart @ apart)
        return total

    size, axes = np.linalg.eigh(differences(targets))
    random = np.random.default_rng(derive_seed(seed, "spread"))
    chance = np.linalg.eigvalsh(differences(random.permutation(targets)))[-1]
    return axes[:, size > ABOVE_CHANCE * chance][:, ::-1][:, :SPREADS]


def _joined(
    first: Float[np.ndarray, "d a"], second: Float[np.ndarray, "d b"]
) -> Float[np.ndarray, "d r"]:
    """Return the first axes and what the second ones add to them."""
    rest = second - first @ (first.T @ second)
    axes, size, _ = np.linalg.svd(rest, full_matrices=False)
    return np.hstack([first, axes[:, size > 0.1]])
