"""Draws against the probabilities that were reported for them: which power of the law was drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, stats


STEEPEST = 50.0  # an exponent from here on: always the most likely label


@dataclass(frozen=True, eq=False)
class Groups:
    """Draws from laws of which the proportions on some labels are known.

    A group is a context with two or more labels whose log-probabilities are known, and how often
    each was drawn afterwards; draws of other labels are left out, which conditions on the labels
    known and needs nothing about the others.

    Attributes:
        logs: Log-probabilities, group after group [nats], finite.
        counts: How often each of these labels was drawn.
        starts: Where each group begins.
    """

    logs: Float[np.ndarray, " elements"]
    counts: Float[np.ndarray, " elements"]
    starts: Int[np.ndarray, " groups"]

    @property
    def group(self) -> np.ndarray:
        """Number of every element's group."""
        sizes = np.diff(np.append(self.starts, len(self.logs)))
        return np.repeat(np.arange(len(self.starts)), sizes)

    @property
    def draws(self) -> np.ndarray:
        """Draws of each group."""
        return np.add.reduceat(self.counts, self.starts)


@dataclass(frozen=True)
class PowerFit:
    """The power of the reported law that was drawn from.

    Attributes:
        exponent: Maximum-likelihood estimate, in [0, 50]; 1 is the reported law itself.
        lower: Lower end of its interval, by the likelihood ratio.
        upper: Upper end.
        p_value: Of the exponent 1, by the likelihood ratio.
        draws: How many draws it comes from.
        information: Expected information about the exponent under the reported law.
    """

    exponent: float
    lower: float
    upper: float
    p_value: float
    draws: int
    information: float

    @property
    def temperature(self) -> tuple[float, float, float]:
        """The temperature with its interval, 1 / exponent; inf for an exponent of 0."""
        value, low, high = (
            np.inf if x <= 0 else (0.0 if x >= STEEPEST else 1 / x)
            for x in (self.exponent, self.upper, self.lower)
        )
        return float(value), float(low), float(high)


def fit_power(groups: Groups, *, confidence: float = 0.95) -> PowerFit:
    r"""Fit the exponent of the reported law that draws follow.

    .. math:: q_\gamma(a) = \frac{\pi(a)^\gamma}{\sum_{b \in K} \pi(b)^\gamma}, \qquad a \in K

    over the labels K whose probabilities are known. A sampler of temperature tau, whose law before
    the temperature was reported, gives gamma = 1 / tau; draws weighted by their own probability
    give gamma = 2.

    Args:
        groups: One or more, with draws.
        confidence: Of the interval, in (0, 1).

    Returns:
        The fit; its exponent is 1 where the draws follow the reported law.

    Example:
        A label of probability 1/3 and one of 2/3, the second drawn 4 times as often: gamma = 2.

        >>> law = np.log([1 / 3, 2 / 3])
        >>> fit = fit_power(Groups(law, np.array([20.0, 80.0]), np.array([0])))
        >>> round(fit.exponent, 6), fit.lower < 2 < fit.upper, fit.p_value < 0.01
        (2.0, True, True)

    Source:
        Derived: an exponential family in gamma, so that the likelihood is concave.
    """
    seen = float(groups.counts @ groups.logs)

    def likelihood(exponent: float) -> float:
        return exponent * seen - float(groups.draws @ _normaliser(groups, exponent))

    def score(exponent: float) -> float:
        return seen - float(groups.draws @ _moments(groups, exponent)[0])

    if score(0.0) <= 0:
        best = 0.0
    elif score(STEEPEST) >= 0:
        best = STEEPEST
    else:
        best = _root(score, 0.0, STEEPEST)
    top = likelihood(best)
    reach = 0.5 * float(stats.chi2.ppf(confidence, 1))

    def fallen(exponent: float) -> float:
        return top - likelihood(exponent) - reach

    lower = 0.0 if fallen(0.0) <= 0 else _root(fallen, 0.0, best)
    upper = STEEPEST
    if fallen(STEEPEST) > 0:
        upper = _root(fallen, best, STEEPEST)
    ratio = max(2 * (top - likelihood(1.0)), 0.0)
    return PowerFit(
        exponent=best,
        lower=min(lower, best),
        upper=max(upper, best),
        p_value=float(stats.chi2.sf(ratio, 1)),
        draws=int(groups.draws.sum()),
        information=float(groups.draws @ _moments(groups, 1.0)[1]),
    )


def distance_of_power(groups: Groups, exponent: float) -> float:
    r"""Return how far the power of a law is from the law, on the known labels, a mean over draws.

    .. math:: \frac1n \sum_s n_s\, \mathrm{TV}(q_{\gamma,s}, q_{1,s})

    Args:
        groups: One or more, with draws.
        exponent: gamma, at least 0.

    Returns:
        The distance, in [0, 1]; zero for gamma = 1, and for laws that are uniform on their labels.

    Example:
        (1/3, 2/3) squared is (1/5, 4/5) after division by its sum: 2/15 away.

        >>> law = np.log([1 / 3, 2 / 3])
        >>> round(distance_of_power(Groups(law, np.ones(2), np.array([0])), 2.0), 6)
        0.133333

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, lemma 4.2, for gamma = 2.
    """
    apart = np.abs(_law(groups, exponent) - _law(groups, 1.0))
    each = 0.5 * np.add.reduceat(apart, groups.starts)
    return float(groups.draws @ each / groups.draws.sum())


def misfit(groups: Groups, exponent: float, *, bins: int = 8) -> tuple[float, float]:
    r"""Compare draws with a power of the reported law, in bins of the probability.

    .. math:: \chi^2 = (o - e)^\top V^+ (o - e), \qquad
              V = \sum_s n_s\,(\mathrm{diag}(b_s) - b_s b_s^\top)

    with b_s the law's mass in the bins, e their expected and o their observed draws. One degree of
    freedom is taken off for the fitted exponent.

    Args:
        groups: One or more, with draws.
        exponent: The power to compare with.
        bins: Of about equal expected mass.

    Returns:
        The p-value (1 where nothing is left to compare), and half the summed deviation in draws per
        draw, a distance of at least 0.

    Source:
        Derived (Pearson's statistic for draws from different laws).
    """
    law, group = _law(groups, exponent), groups.group
    expected = law * groups.draws[group]
    order = np.argsort(groups.logs, kind="stable")
    mass = np.cumsum(expected[order]) / expected.sum()
    edge = np.minimum((mass * bins - 1e-9).astype(np.int64), bins - 1)
    place = np.empty(len(order), np.int64)
    place[order] = edge
    apart = np.bincount(place, groups.counts - expected, minlength=bins)
    by_group = np.bincount(group * bins + place, law, minlength=len(groups.starts) * bins)
    by_group = by_group.reshape(-1, bins)
    weighted = by_group * groups.draws[:, None]
    covariance = np.diag(weighted.sum(0)) - by_group.T @ weighted
    freedom = int(np.linalg.matrix_rank(covariance, hermitian=True)) - 1
    if freedom < 1:
        return 1.0, 0.0
    statistic = float(apart @ np.linalg.pinv(covariance, hermitian=True) @ apart)
    distance = 0.5 * float(np.abs(apart).sum()) / float(groups.draws.sum())
    return float(stats.chi2.sf(statistic, freedom)), distance


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.root_scalar(function, bracket=(low, high), xtol=1e-9).root)


def _normaliser(groups: Groups, exponent: float) -> np.ndarray:
    largest = np.maximum.reduceat(groups.logs, groups.starts)
    scaled = np.exp(exponent * (groups.logs - largest[groups.group]))
    return exponent * largest + np.log(np.add.reduceat(scaled, groups.starts))


def _law(groups: Groups, exponent: float) -> np.ndarray:
    return np.exp(exponent * groups.logs - _normaliser(groups, exponent)[groups.group])


def _moments(groups: Groups, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of the log-probabilities in each group."""
    law = _law(groups, exponent)
    mean = np.add.reduceat(law * groups.logs, groups.starts)
    spread = np.add.reduceat(law * (groups.logs - mean[groups.group]) ** 2, groups.starts)
    return mean, spread
