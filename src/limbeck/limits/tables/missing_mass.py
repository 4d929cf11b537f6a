"""Estimates of the missing mass from counts: Good-Turing, its sharper form, and extrapolation."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import bdtrc

from limbeck.checks import ArgumentError, DataError, ShapeError, check_positive
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.laws import checked_pair


Number = float | int
TERMS = 12  # of Euler's transformation; its remainder falls as 2^-12 up to twice the sample


def good_turing(counts: ArrayLike) -> float:
    r"""Estimate the probability that the next draw is new.

    .. math:: \hat m_0 = N_1 / n, \qquad E[N_1 / n] = E[m_0 \text{ after } n - 1 \text{ draws}]

    Args:
        counts: How often each symbol was drawn, integers >= 0: of inputs for soft labels, of
            pairs for sampled probabilities.

    Returns:
        In [0, 1].

    Raises:
        ShapeError: If the counts are no vector.
        DataError: If they are no integers >= 0, or all 0.

    Example:
        One symbol of six draws was seen once.

        >>> round(good_turing([3, 2, 1]), 6)
        0.166667

    Source:
        Good (1953).
    """
    found = _counts("good_turing", counts)
    return float((found == 1).sum()) / int(found.sum())


def pair_good_turing(counts: PairCounts) -> float:
    r"""Estimate the missing mass of pairs with the probabilities that the teacher reported.

    .. math:: \hat m_0 = \frac{1}{n} \sum_i u_i, \qquad u_i = 1 \text{ if } n_{s_i} = 1,
              \text{ else } r_{s_i} + \pi^*(a_i | s_i) 1\{c(s_i, a_i) = 1\}

    :math:`u_i` is the probability that a fresh draw at the input of draw i would be new, were i
    not there. It has the mean of :func:`good_turing` over pairs with a smaller spread: 6 times
    smaller where most is known.

    Args:
        counts: Draws with a probability each; numbers reported without a draw are left out.

    Returns:
        In [0, 1].

    Raises:
        DataError: If there are no draws, or a pair that was drawn has no probability.

    Example:
        Two draws at one input, of probability 0.5 and 0.25: 0.25 + 0.5 and 0.25 + 0.25.

        >>> counts = PairCounts(3)
        >>> counts.add([0, 0], [0, 1], probabilities=[0.5, 0.25])
        >>> pair_good_turing(counts)
        0.625

    Source:
        Derived, by conditioning Good's (1953) estimate on the inputs.
    """
    if not counts.n:
        raise DataError("pair_good_turing: expected at least one draw; got none. Draw first.")
    return float(counts.pairs.counts @ _pair_terms("pair_good_turing", counts)) / counts.n


def pair_good_turing_terms(counts: PairCounts) -> Float[np.ndarray, " n"]:
    r"""Return :math:`u_i` of each draw, whose mean :func:`pair_good_turing` is.

    Args:
        counts: As for :func:`pair_good_turing`.

    Returns:
        In [0, 1] [n], sorted by input and then by label. They are not independent.

    Raises:
        DataError: If a pair that was drawn has no probability.

    Example:
        >>> counts = PairCounts(3)
        >>> counts.add([0, 0], [0, 1], probabilities=[0.5, 0.25])
        >>> pair_good_turing_terms(counts).tolist()
        [0.75, 0.5]

    Source:
        Derived.
    """
    return np.repeat(_pair_terms("pair_good_turing_terms", counts), counts.pairs.counts)


def good_toulmin(
    times: ArrayLike, number: ArrayLike, *, n: Number, ratio: Number, smoothing: int | None = None
) -> float:
    r"""Extrapolate the missing mass to (1 + x) n draws from frequencies of frequencies.

    .. math:: \hat m_0((1 + x) n) = \frac{1}{n} \sum_{k \ge 1} (-x)^{k - 1} k N_k w_k, \qquad
              w_k = P(\mathrm{Bin}(k_0, \tfrac{1}{1 + x}) \ge k)

    With all weights 1 the mean is exact for Poisson counts, but frequent symbols make the sum
    useless near x = 1, and beyond it explodes. The weights are its Euler transformation, cut after
    k_0 terms: up to x = 1 this moves the mean by at most 2^-12 and takes the noise away.
    Beyond, the answer is a guess that gets worse with x; trust it to x of about log n.

    Args:
        times: k, how often a symbol was drawn, integers >= 1.
        number: :math:`N_k`, how many symbols were drawn so often, at least 0.
        n: Draws.
        ratio: x, further draws in units of those that there are, at least 0.
        smoothing: k_0; 0 for the plain series, None for 12 up to x = 1 and
            1/2 log2(n x^2 / (x - 1)), at most 12, beyond.

    Returns:
        An estimate of a number in [0, 1], which sampling error may take outside.

    Raises:
        ArgumentError: If ``ratio`` or ``smoothing`` is negative or not finite, or ``n`` not
            above 0.

    Example:
        N_1 = 4, N_2 = 1, n = 6: (4 - 2 x) / 6.

        >>> good_toulmin([1, 2], [4, 1], n=6, ratio=0.5, smoothing=0)
        0.5

    Source:
        Good and Toulmin (1956); weights of Efron and Thisted (1976), with k_0 beyond x = 1 of
        Orlitsky, Suresh and Wu (2016), arXiv:1511.07428. Theirs are for numbers of species; that
        the same weights are Euler's for the missing mass is derived.
    """
    check_positive("good_toulmin", n=n)
    if not 0 <= ratio < math.inf:
        raise ArgumentError(
            f"good_toulmin: expected `ratio` >= 0; got {ratio}. It is the number of further draws "
            "over that of draws."
        )
    if smoothing is not None and smoothing < 0:
        raise ArgumentError(
            f"good_toulmin: expected `smoothing` >= 0; got {smoothing}. Leave it out."
        )
    terms = TERMS if smoothing is None else smoothing
    if smoothing is None and ratio > 1:
        terms = min(TERMS, max(1, math.floor(0.5 * math.log2(n * ratio**2 / (ratio - 1)))))
    k, found = np.asarray(times, np.int64), np.asarray(number, np.float64)
    if terms:
        kept = k <= terms
        k, found = k[kept], found[kept]
        found = found * bdtrc(k - 1, terms, 1 / (1 + ratio))
    sign = np.where(k % 2, 1.0, -1.0)
    return math.fsum(sign * float(ratio) ** (k - 1.0) * k * found) / n


def missing_mass_after(counts: ArrayLike, ratio: Number, *, smoothing: int | None = None) -> float:
    r"""Estimate the missing mass after (1 + x) n draws from n of them.

    Args:
        counts: How often each symbol was drawn, integers >= 0.
        ratio: x, further draws in units of those that there are, at least 0; see
            :func:`good_toulmin` for how far it may go.
        smoothing: As in :func:`good_toulmin`.

    Returns:
        In [0, 1]: what sampling error takes outside is cut off.

    Raises:
        ArgumentError: If ``ratio`` or ``smoothing`` is negative or not finite.
        ShapeError: If the counts are no vector.
        DataError: If they are no integers >= 0, or all 0.

    Example:
        N_1 = 4, N_2 = 1, n = 6: 4 / 6 for no further draws.

        >>> round(missing_mass_after([1, 1, 1, 1, 2], 0.0), 6)
        0.666667

    Source:
        Good and Toulmin (1956), Efron and Thisted (1976).
    """
    found = _counts("missing_mass_after", counts)
    k, number = np.unique(found[found > 0], return_counts=True)
    told = good_toulmin(k, number, n=int(found.sum()), ratio=ratio, smoothing=smoothing)
    return float(np.clip(told, 0.0, 1.0))


def pair_missing_mass(input_law: ArrayLike, rows: ArrayLike, counts: PairCounts) -> float:
    r"""Return the true missing mass of pairs, for a known law.

    .. math:: m_0 = \sum_{s, a} \rho(s) \pi^*(a | s) 1\{(s, a) \text{ not drawn}\}

    It is at least the risk of :func:`~limbeck.limits.tables.learners.fit_sampled_probabilities`,
    whatever the prior.

    Args:
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].
        counts: What was drawn.

    Returns:
        In [0, 1]; 0 where every pair was drawn.

    Raises:
        ShapeError: If there is not one row an input, or the widths differ.
        DataError: If a law does not sum to 1, or a draw's input is not in the law.

    Example:
        >>> counts = PairCounts(2)
        >>> counts.add([0, 1], [0, 0])
        >>> pair_missing_mass([0.5, 0.5], [[0.75, 0.25], [0.5, 0.5]], counts)
        0.375

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation B.1.
    """
    rho, pi = checked_pair("pair_missing_mass", input_law, rows)
    pairs = counts.pairs
    if pi.shape[1] != counts.labels:
        raise ShapeError(
            f"pair_missing_mass: expected rows of {counts.labels} labels; got {pi.shape[1]}. Give "
            "the law that was drawn from."
        )
    if len(pairs.seen) and pairs.seen[-1] >= len(rho):
        raise DataError(
            f"pair_missing_mass: expected inputs in [0, {len(rho)}); got {pairs.seen[-1]}. Give "
            "the law that was drawn from."
        )
    open_ = rho[:, None] * pi
    drawn = pairs.counts > 0
    open_[pairs.inputs[drawn], pairs.labels[drawn]] = 0.0
    return float(open_.sum())


def _counts(where: str, counts: ArrayLike) -> np.ndarray:
    found = np.asarray(counts)
    if found.ndim != 1:
        raise ShapeError(
            f"{where}: expected counts in one dimension; got shape {found.shape}. Flatten them."
        )
    if found.size and (not np.issubdtype(found.dtype, np.integer) or found.min() < 0):
        raise DataError(
            f"{where}: expected counts as integers >= 0; got {found.dtype} with smallest "
            f"{found.min()}. Count draws."
        )
    if not found.sum():
        raise DataError(f"{where}: expected at least one draw; got none. Draw first.")
    return found


def _pair_terms(where: str, counts: PairCounts) -> Float[np.ndarray, " pairs"]:
    pairs = counts.pairs
    drawn = pairs.counts > 0
    silent = int((drawn & (pairs.reports == 0)).sum())
    if silent:
        raise DataError(
            f"{where}: expected a probability for each pair; got none for {silent}. Use "
            "good_turing on the counts of pairs."
        )
    told = np.where(drawn, pairs.probabilities, 0.0)
    left = np.maximum(1 - pairs.per_input(told), 0.0)
    once = np.where(pairs.counts == 1, told, 0.0)
    alone = pairs.per_input(pairs.counts) == 1
    return np.where(alone[pairs.place], 1.0, np.minimum(left[pairs.place] + once, 1.0))
