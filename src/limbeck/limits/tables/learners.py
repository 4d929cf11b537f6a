"""Tabular learners for each privilege, in closed form, on sparse counts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from limbeck.checks import DataError, ShapeError
from limbeck.limits.tables.counts import PairCounts, Pairs
from limbeck.limits.tables.laws import TOLERANCE, Prior, checked_rows, prior_rows
from limbeck.limits.tables.table import Repairs, Table


def fit_hard_labels(counts: PairCounts, *, prior: Prior = None) -> Table:
    r"""Learn from drawn labels alone, by maximum likelihood.

    .. math:: \hat\pi(a | s) = c(s, a) / n_s

    Its risk falls as :math:`\sqrt{S A / n}`. Reported probabilities are not looked at.

    Args:
        counts: Draws.
        prior: What it says of inputs without a draw: "uniform" (None), a row [labels], a matrix
            [inputs, labels], or a callable from indices to rows.

    Returns:
        The table.

    Raises:
        ArgumentError: If the prior is a string other than "uniform".
        ShapeError: If its rows have another width.
        DataError: If they are no probabilities.

    Example:
        >>> counts = PairCounts(2)
        >>> counts.add([0, 0, 0, 0], [1, 1, 1, 0])
        >>> fit_hard_labels(counts).rows([0, 5]).tolist()
        [[0.25, 0.75], [0.5, 0.5]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equations 3.2 and 3.3.
    """
    pairs = counts.pairs
    return _weighted("hard_labels", counts, pairs.counts.astype(np.float64), prior)


def fit_naive_probabilities(counts: PairCounts, *, prior: Prior = None) -> Table:
    r"""Learn by cross-entropy weighted with the teacher's probability: a negative control.

    .. math:: \hat\pi(a | s) = \frac{c(s, a) \pi^*(a | s)}{\sum_b c(s, b) \pi^*(b | s)}
              \to \frac{\pi^*(a | s)^2}{\sum_b \pi^*(b | s)^2}

    It does not find the teacher however many draws there are, unless each of the teacher's rows is
    uniform on its support. Use :func:`fit_sampled_probabilities`, which sees the same data.

    Args:
        counts: Draws with a probability each.
        prior: What it says of inputs without a draw, as in :func:`fit_hard_labels`.

    Returns:
        The table.

    Raises:
        DataError: If a pair that was drawn has no reported probability.
        ArgumentError: If the prior is a string other than "uniform".

    Example:
        3 * 0.5 against 1 * 0.5: the same; 1 * 0.8 against 1 * 0.2: four to one.

        >>> counts = PairCounts(2)
        >>> counts.add([0, 0], [0, 1], probabilities=[0.8, 0.2])
        >>> fit_naive_probabilities(counts).rows([0]).round(12).tolist()
        [[0.8, 0.2]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equations 4.2 to 4.4, lemma 4.2, theorem 4.3.
    """
    pairs = counts.pairs
    _all_reported("fit_naive_probabilities", pairs)
    return _weighted("sampled_probabilities", counts, pairs.counts * pairs.probabilities, prior)


def fit_sampled_probabilities(counts: PairCounts, *, prior: Prior = None) -> Table:
    r"""Learn from drawn labels with their probabilities, by squared error of log-probabilities.

    .. math:: \hat\pi(a | s) = \pi^*(a | s) \text{ if seen}, \qquad
              r_s \frac{\pi_0(a | s)}{\sum_{b \text{ unseen}} \pi_0(b | s)} \text{ if not}, \qquad
              r_s = 1 - \sum_{a \text{ seen}} \pi^*(a | s)

    A label that was drawn takes the teacher's own number; what is left, known exactly, goes to the
    others in the prior's shares. The risk is at most the missing mass of pairs, S A / (e n) in the
    mean. The estimator k3, r - 1 - log r with :math:`r = \hat\pi / \pi^*`, has the same minimisers
    among tables. Neither the order of the draws nor repetitions matter.

    Args:
        counts: Draws with a probability each; reports without a draw count alike.
        prior: Shares of what is left, and rows for inputs that were never seen, as in
            :func:`fit_hard_labels`; the student's own rows before learning, for example.

    Returns:
        The table. ``repairs`` says which sums were above 1, or below with every label seen, by
        more than 1e-6 (these rows are renormalised), and which pairs had several values.

    Raises:
        DataError: If a pair that was drawn has no reported probability: see :func:`fit_censored`.
        ArgumentError: If the prior is a string other than "uniform".

    Example:
        0.4 is known, and 0.6 is left for the two others.

        >>> counts = PairCounts(3)
        >>> counts.add([0, 0], [1, 1], probabilities=[0.4, 0.4])
        >>> fit_sampled_probabilities(counts).rows([0]).tolist()
        [[0.3, 0.4, 0.3]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equations 4.6 and 4.7; edge rules derived.
    """
    _all_reported("fit_sampled_probabilities", counts.pairs)
    return fit_censored(counts, prior=prior)


def fit_censored(counts: PairCounts, *, prior: Prior = None) -> Table:
    r"""Learn where probabilities are reported for some labels only, such as the top k.

    .. math:: \hat\pi(a | s) = \pi^*(a | s) \text{ if reported}, \qquad
              r_s \frac{c(s, a)}{\sum_{b \text{ not reported}} c(s, b)} \text{ if not}

    Head labels are exact, the tail's mass is exact, and its shares come from counts, so the risk
    falls as that of hard labels does, with a smaller constant (:func:`censored_gain`). Where no
    draw fell outside of the reported labels, the prior shares the mass. With all pairs reported
    this is :func:`fit_sampled_probabilities`.

    Args:
        counts: Draws with and without probabilities; entries of top-k lists that were not drawn
            are added with ``counts=0``.
        prior: As in :func:`fit_sampled_probabilities`.

    Returns:
        The table.

    Raises:
        ArgumentError: If the prior is a string other than "uniform".

    Example:
        Head 0.5; of the other 0.5 label 1 has two draws out of three.

        >>> counts = PairCounts(3)
        >>> counts.add([0], [0], probabilities=[0.5], counts=[0])
        >>> counts.add([0, 0, 0], [1, 1, 2])
        >>> fit_censored(counts).rows([0]).round(6).tolist()
        [[0.5, 0.333333, 0.166667]]

    Source:
        Derived, for the setting of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    pairs, labels = counts.pairs, counts.labels
    told = pairs.reports > 0
    values = np.where(told, pairs.probabilities, 0.0)
    sums = pairs.per_input(values)
    reported = pairs.per_input(told.astype(np.int64))
    drawn = np.where(told, 0, pairs.counts).astype(np.float64)
    tail = pairs.per_input(drawn)
    above, full = sums > 1, reported == labels
    repairs = _repairs(pairs, sums, full)
    values /= np.where(above | full, np.where(sums > 0, sums, 1.0), 1.0)[pairs.place]
    left = np.where(above | full, 0.0, 1 - sums)
    values += np.where(told, 0.0, (left / np.maximum(tail, 1))[pairs.place] * drawn)
    return Table(
        privilege="sampled_probabilities",
        labels=labels,
        seen=pairs.seen,
        starts=pairs.starts,
        listed=pairs.labels,
        values=values,
        rest=np.where(tail > 0, 0.0, left),
        unknown=left,
        prior=prior_rows("fit_censored", prior, labels),
        repairs=repairs,
    )


def fit_soft_labels(
    inputs: ArrayLike, rows: ArrayLike, *, prior: Prior = None, earlier: Table | None = None
) -> Table:
    r"""Learn from whole rows of the teacher, by KL divergence.

    .. math:: \hat\pi(\cdot | s) = \pi^*(\cdot | s) \text{ if seen}

    The risk is at most the missing mass of inputs, S / (e n) in the mean; the number of labels does
    not matter. An input with several different rows takes their mean.

    Args:
        inputs: Index of each row's input, integers >= 0 [m].
        rows: The teacher's probabilities [m, labels].
        prior: Rows for inputs that were never seen, as in :func:`fit_hard_labels`; with
            ``earlier`` and None, the earlier one.
        earlier: A table of soft labels that is added to; its row stands for one of each input.

    Returns:
        The table; ``repairs`` counts the inputs whose rows differ by more than 1e-6.

    Raises:
        ShapeError: If lengths or widths differ.
        DataError: If a row is no probability law, or an index no integer >= 0.

    Example:
        >>> fit_soft_labels([4], [[0.25, 0.75]]).rows([4, 0]).tolist()
        [[0.25, 0.75], [0.5, 0.5]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 5.2.
    """
    given = checked_rows("fit_soft_labels", "rows", rows)
    at = np.asarray(inputs)
    if at.shape != (len(given),):
        raise ShapeError(
            f"fit_soft_labels: expected one input a row; got {at.shape} inputs and {len(given)} "
            "rows. Cut them alike."
        )
    if len(at) and (not np.issubdtype(at.dtype, np.integer) or at.min() < 0):
        raise DataError(
            f"fit_soft_labels: expected inputs as integers >= 0; got {at.dtype} with smallest "
            f"{at.min()}. Number the inputs."
        )
    labels, before = given.shape[1], Repairs()
    if earlier is not None:
        if (earlier.privilege, earlier.labels) != ("soft_labels", labels):
            raise ShapeError(
                f"fit_soft_labels: expected `earlier` from soft labels of width {labels}; got "
                f"{earlier.privilege} of width {earlier.labels}. Start a new table."
            )
        before = earlier.repairs
        at = np.concatenate([earlier.seen, at])
        given = np.concatenate([earlier.values.reshape(-1, labels), given])
    seen, mean, repairs = _means(at.astype(np.int64), given, before)
    own = earlier.prior if earlier is not None and prior is None else None
    return Table(
        privilege="soft_labels",
        labels=labels,
        seen=seen,
        starts=np.arange(len(seen) + 1) * labels,
        listed=np.tile(np.arange(labels), len(seen)),
        values=mean.ravel(),
        rest=np.zeros(len(seen)),
        unknown=np.zeros(len(seen)),
        prior=own or prior_rows("fit_soft_labels", prior, labels),
        repairs=repairs,
    )


def _weighted(
    privilege: str, counts: PairCounts, weights: Float[np.ndarray, " pairs"], prior: Prior
) -> Table:
    """Normalise weights within each input that was drawn."""
    pairs = counts.pairs
    kept = pairs.counts > 0  # reports without a draw say nothing here
    total = pairs.per_input(weights)
    widths = pairs.per_input(kept.astype(np.int64))
    drawn = widths > 0
    return Table(
        privilege=privilege,
        labels=counts.labels,
        seen=pairs.seen[drawn],
        starts=np.append(0, np.cumsum(widths[drawn])),
        listed=pairs.labels[kept],
        values=weights[kept] / total[pairs.place[kept]],
        rest=np.zeros(int(drawn.sum())),
        unknown=None,
        prior=prior_rows(f"fit_{privilege}", prior, counts.labels),
        repairs=Repairs(),
    )


def _all_reported(where: str, pairs: Pairs) -> None:
    silent = int((pairs.reports == 0).sum())
    if silent:
        raise DataError(
            f"{where}: expected a probability for each pair; got none for {silent} of "
            f"{len(pairs.reports)}. Use fit_censored, or fit_hard_labels for labels alone."
        )


def _repairs(pairs: Pairs, sums: np.ndarray, full: np.ndarray) -> Repairs:
    above, below = sums > 1 + TOLERANCE, full & (sums < 1 - TOLERANCE)
    off = np.abs(sums - 1)[above | below]
    spreads = pairs.spreads[pairs.disagree]
    return Repairs(
        above_one=int(above.sum()),
        below_one=int(below.sum()),
        largest=float(off.max(initial=0.0)),
        disagreeing=len(spreads),
        largest_spread=float(spreads.max(initial=0.0)),
    )


def _means(
    at: np.ndarray, rows: np.ndarray, before: Repairs
) -> tuple[np.ndarray, np.ndarray, Repairs]:
    """Return the different inputs, the mean of their rows, and how many had several."""
    if not len(at):
        return at, rows, before
    order = np.argsort(at, kind="stable")
    at, rows = at[order], rows[order]
    first = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
    number = np.diff(np.append(first, len(at)))
    low, high = np.minimum.reduceat(rows, first), np.maximum.reduceat(rows, first)
    mean = np.add.reduceat(rows, first) / number[:, None]
    mean = np.where(low == high, low, mean)
    away = (rows - np.repeat(mean, number, axis=0)) ** 2
    spread = np.sqrt(np.add.reduceat(away, first) / number[:, None]).max(1)
    several = (high - low).max(1) > TOLERANCE
    return (
        at[first],
        mean,
        Repairs(
            disagreeing=before.disagreeing + int(several.sum()),
            largest_spread=max(before.largest_spread, float(spread[several].max(initial=0.0))),
        ),
    )
