"""Classifiers with probabilities in closed form or by EM, on few directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from limbeck.information.directions import class_means
from limbeck.information.threads import one_thread
from limbeck.randomness import derive_seed


Classifier = Callable[[np.ndarray], np.ndarray]
"""From coordinates [n, d] to log posteriors [n, classes], in nats."""

POOLED = 10  # rows of the pooled covariance that every class starts from, beside one a dimension
FITTED = 5000  # rows that a mixture is fitted on, at most
BLOCK = 2000  # rows that stay in the cache
CLUSTER_PRIOR = 1.0  # rows of the labels' shares that every cluster starts from


def linear(
    rows: Float[np.ndarray, "n d"], targets: Int[np.ndarray, " n"], classes: int
) -> Classifier:
    """Fit a linear discriminant on shrunk whitened coordinates (:class:`Directions`)."""
    means, counts = class_means(rows, targets, classes)
    bias = _log_shares(counts) - 0.5 * np.square(means).sum(1)
    return lambda given: _normalised(given @ means.T + bias)


def quadratic(
    rows: Float[np.ndarray, "n d"], targets: Int[np.ndarray, " n"], classes: int
) -> Classifier:
    """Fit a Gaussian for every class, its covariance drawn towards the pooled one."""
    means, counts = class_means(rows, targets, classes)
    residuals = rows - means[targets]
    centre = rows.mean(0)
    pooled = residuals.T @ residuals / len(rows) + 1e-6 * np.eye(rows.shape[1])
    start = rows.shape[1] + POOLED
    factors = []
    for label, count in enumerate(counts):
        own = residuals[targets == label]
        factors.append(np.linalg.cholesky((own.T @ own + start * pooled) / (count + start)))
    bias = _log_shares(counts) - [np.log(np.diag(factor)).sum() for factor in factors]
    # Products in single precision are ample, and several times as fast as solving for each row.
    whiteners = [np.linalg.inv(factor).astype(np.float32) for factor in factors]

    def classifier(given: np.ndarray) -> np.ndarray:
        far = np.empty((len(given), classes), np.float32)
        for at in range(0, len(given), BLOCK):
            block = (given[at : at + BLOCK] - centre).astype(np.float32)
            for label, (whitener, mean) in enumerate(zip(whiteners, means, strict=True)):
                apart = (block - (mean - centre).astype(np.float32)) @ whitener.T
                far[at : at + BLOCK, label] = np.einsum("nd,nd->n", apart, apart)
        return _normalised(bias - 0.5 * far)

    return classifier


def clusters(
    rows: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    classes: int,
    *,
    count: int,
    seed: int,
) -> Classifier:
    """Fit Gaussian clusters without labels, then each cluster's shares of the labels."""
    mixture = _mixture(rows, count, 1e-3, seed)
    member = mixture.predict_proba(rows)
    shares = np.zeros((classes, count))
    for label in range(classes):
        shares[label] = member[targets == label].sum(0)
    prior = np.bincount(targets, minlength=classes) + 0.5
    shares += CLUSTER_PRIOR * (prior / prior.sum())[:, None]
    shares /= shares.sum(0)
    return lambda given: _normalised(np.log(mixture.predict_proba(given) @ shares.T + 1e-12))


def subclasses(
    rows: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    classes: int,
    *,
    count: int,
    seed: int,
) -> Classifier:
    """Fit a mixture of Gaussians for every class, or one each where a class has few rows."""
    counts = np.bincount(targets, minlength=classes).astype(np.float64)
    if counts.min() < 5 * count * (rows.shape[1] + 1):
        return quadratic(rows, targets, classes)
    mixtures = [_mixture(rows[targets == label], count, 2e-2, seed) for label in range(classes)]
    bias = _log_shares(counts)
    return lambda given: _normalised(
        bias + np.stack([mixture.score_samples(given) for mixture in mixtures], 1)
    )


def _mixture(
    rows: Float[np.ndarray, "n d"], count: int, floor: float, seed: int
) -> GaussianMixture:
    if len(rows) > FITTED:
        random = np.random.default_rng(derive_seed(seed, "mixture"))
        rows = rows[random.choice(len(rows), FITTED, replace=False)]
    mixture = GaussianMixture(
        min(count, len(rows)),
        reg_covar=floor,
        max_iter=30,
        init_params="k-means++",
        random_state=derive_seed(seed, "mixture") % 2**32,
    )
    with one_thread():
        return mixture.fit(rows)


def _log_shares(counts: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    shares = counts + 0.5
    return np.log(shares / shares.sum())


def _normalised(scores: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    return scores - logsumexp(scores, axis=1, keepdims=True)
