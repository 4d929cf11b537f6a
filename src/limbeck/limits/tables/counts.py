"""Counts of (input, label) pairs with the probabilities reported for them, kept sparsely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import ArrayLike

from limbeck.checks import ArgumentError, DataError, ShapeError


PENDING = 65536  # rows that wait before they are merged, so that small additions stay cheap
TOLERANCE = 1e-6  # by which a probability may exceed 1, or two reports of one pair may differ
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The different (input, label) pairs, sorted by input and then by label.

    Attributes:
        inputs: Input of each pair.
        labels: Label of each pair.
        counts: How often it was drawn; 0 where only its probability was reported.
        reports: How often a probability was reported for it.
        probabilities: Mean of what was reported; 0 where nothing was.
        spreads: Standard deviation of what was reported; 0 where all reports agree.
        disagree: Whether reports differ by more than rounding.
        seen: The different inputs, sorted.
        starts: Where the pairs of each of ``seen`` begin, and the number of pairs at the end.
    """

    inputs: Int64[np.ndarray, " pairs"]
    labels: Int64[np.ndarray, " pairs"]
    counts: Int64[np.ndarray, " pairs"]
    reports: Int64[np.ndarray, " pairs"]
    probabilities: Float[np.ndarray, " pairs"]
    spreads: Float[np.ndarray, " pairs"]
    disagree: Bool[np.ndarray, " pairs"]
    seen: Int64[np.ndarray, " seen"]
    starts: Int64[np.ndarray, " ends"]

    def per_input(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of the pairs' values over each of ``seen``."""
        if not len(self.seen):
            return np.zeros(0, values.dtype)
        return np.add.reduceat(values, self.starts[:-1])

    @property
    def place(self) -> Int64[np.ndarray, " pairs"]:
        """Where each pair's input stands in ``seen``."""
        return np.repeat(np.arange(len(self.seen)), np.diff(self.starts))


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    keys: Int64[np.ndarray, " rows"]
    counts: Int64[np.ndarray, " rows"]
    reports: Int64[np.ndarray, " rows"]
    means: Float[np.ndarray, " rows"]
    squares: Float[np.ndarray, " rows"]  # summed squared deviations of the reports
    low: Float[np.ndarray, " rows"]
    high: Float[np.ndarray, " rows"]


class PairCounts:
    r"""Count draws of labels from a teacher, with the probabilities that it reported.

    Holds :math:`c(s, a)`, how often label a was drawn at input s, and the mean and spread of the
    reported :math:`\pi^*(a | s)`; memory is linear in the number of different pairs, however many
    draws are added. The order of additions changes nothing.

    Args:
        labels: A, how many labels there are, at least 1; they count from 0.

    Raises:
        ArgumentError: If ``labels`` is below 1.

    Example:
        >>> counts = PairCounts(4)
        >>> counts.add([0, 0, 7], [1, 1, 3], probabilities=[0.5, 0.5, 0.25])
        >>> counts.n, counts.pairs.inputs.tolist(), counts.pairs.counts.tolist()
        (3, [0, 7], [2, 1])

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, sections 2 and 4; merging derived.
    """

    def __init__(self, labels: int) -> None:
        if labels < 1:
            raise ArgumentError(
                f"PairCounts: expected `labels` >= 1; got {labels}. Give the number of labels."
            )
        self.labels = int(labels)
        self._blocks: list[_Block] = []
        self._pairs: Pairs | None = None

    def add(
        self,
        inputs: ArrayLike,
        labels: ArrayLike,
        *,
        probabilities: ArrayLike | None = None,
        log_probabilities: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> None:
        """Add draws, with or without the teacher's numbers.

        Args:
            inputs: Index of each draw's input, integers >= 0.
            labels: The label drawn, integers in [0, A).
            probabilities: What the teacher reported for it, in (0, 1]; None where only labels came.
            log_probabilities: The same in nats, at most 0; give one of the two.
            counts: How many draws each line stands for, at least 0: 0 reports a number without
                a draw, as the entries of a top-k list do. None for 1 each.

        Raises:
            ShapeError: If lengths differ.
            DataError: If an index is out of range, a number is not a probability, or 0.
            ArgumentError: If both kinds of numbers are given, or neither with a count of 0.
        """
        if probabilities is not None and log_probabilities is not None:
            raise ArgumentError(
                "PairCounts.add: expected `probabilities` or `log_probabilities`; got both. Give "
                "one of the two."
            )
        at, drawn = _integers("inputs", inputs), _integers("labels", labels)
        times = np.ones(len(at), np.int64) if counts is None else _integers("counts", counts)
        numbers = _numbers(probabilities, log_probabilities)
        lengths = {
            "inputs": len(at),
            "labels": len(drawn),
            "counts": len(times),
            "probabilities": len(at) if numbers is None else len(numbers),
        }
        if len(set(lengths.values())) > 1:
            raise ShapeError(
                f"PairCounts.add: expected one entry a draw; got lengths {lengths}. Cut them alike."
            )
        self._check(at, drawn, times)
        if numbers is None and not times.all():
            raise ArgumentError(
                "PairCounts.add: expected `counts` >= 1 where no probability is reported; got 0. "
                "Leave such lines out."
            )
        if len(at):
            self._append(_block(at * self.labels + drawn, times, numbers))

    @property
    def n(self) -> int:
        """How many draws were added."""
        return sum(int(block.counts.sum()) for block in self._blocks)

    @property
    def pairs(self) -> Pairs:
        """The different pairs, sorted; made when asked for and kept until more is added."""
        if self._pairs is None:
            self._pairs = self._table()
        return self._pairs

    def _check(self, at: np.ndarray, drawn: np.ndarray, times: np.ndarray) -> None:
        if not len(at):
            return
        limit = LARGEST // self.labels - 1
        if at.min() < 0 or at.max() > limit:
            wrong = at.min() if at.min() < 0 else at.max()
            raise DataError(
                f"PairCounts.add: expected inputs in [0, {limit}]; got {wrong}. Number the inputs "
                "from 0."
            )
        if drawn.min() < 0 or drawn.max() >= self.labels:
            wrong = drawn.min() if drawn.min() < 0 else drawn.max()
            raise DataError(
                f"PairCounts.add: expected labels in [0, {self.labels}); got {wrong}. Count from "
                "0, or make the counts for more labels."
            )
        if times.min() < 0:
            raise DataError(
                f"PairCounts.add: expected counts >= 0; got {times.min()}. Draws cannot be taken "
                "back."
            )

    def _append(self, block: _Block) -> None:
        self._pairs = None
        self._blocks.append(block)
        waiting = sum(len(one.keys) for one in self._blocks[1:])
        if waiting > max(PENDING, len(self._blocks[0].keys)):
            self._blocks = [_merged(self._blocks)]

    def _table(self) -> Pairs:
        self._blocks = [_merged(self._blocks)] if self._blocks else []
        nothing = np.zeros(0, np.int64)
        one = self._blocks[0] if self._blocks else _block(nothing, nothing, None)
        inputs = one.keys // self.labels
        first = np.flatnonzero(np.diff(inputs, prepend=-1))
        reported = np.maximum(one.reports, 1)
        return Pairs(
            inputs=inputs,
            labels=one.keys - inputs * self.labels,
            counts=one.counts,
            reports=one.reports,
            probabilities=one.means,
            spreads=np.sqrt(np.maximum(one.squares, 0.0) / reported),
            disagree=(one.reports > 0) & (one.high - one.low > TOLERANCE * one.high),
            seen=inputs[first],
            starts=np.append(first, len(inputs)),
        )


def _integers(name: str, values: ArrayLike) -> Int64[np.ndarray, " rows"]:
    found = np.asarray(values)
    if found.ndim != 1:
        raise ShapeError(
            f"PairCounts.add: expected `{name}` in one dimension; got shape {found.shape}. Flatten "
            "it."
        )
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise DataError(
            f"PairCounts.add: expected integers for `{name}`; got {found.dtype}. Give indices."
        )
    return found.astype(np.int64)


def _numbers(
    probabilities: ArrayLike | None, logs: ArrayLike | None
) -> Float[np.ndarray, " rows"] | None:
    if probabilities is None and logs is None:
        return None
    given = np.asarray(probabilities if logs is None else logs, dtype=np.float64)
    found = given if logs is None else np.exp(np.minimum(given, 1.0))
    if found.ndim != 1:
        raise ShapeError(
            f"PairCounts.add: expected probabilities in one dimension; got shape {found.shape}. "
            "Flatten them."
        )
    wrong = ~((found > 0) & (found <= 1 + TOLERANCE))  # true for what is not a number, too
    if wrong.any():
        name = "probabilities in (0, 1]" if logs is None else "log-probabilities in (-745, 0]"
        raise DataError(
            f"PairCounts.add: expected {name}; got {given[wrong][0]}. A label that was drawn has "
            "a positive probability: if the teacher gives no number there (such as -9999), add "
            "those draws without numbers."
        )
    return np.minimum(found, 1.0)


def _block(
    keys: Int64[np.ndarray, " rows"],
    times: Int64[np.ndarray, " rows"],
    numbers: Float[np.ndarray, " rows"] | None,
) -> _Block:
    told = np.zeros(len(keys)) if numbers is None else numbers
    reports = np.zeros(len(keys), np.int64) if numbers is None else np.maximum(times, 1)
    none = numbers is None
    low = np.full(len(keys), np.inf) if none else told
    high = np.zeros(len(keys)) if none else told
    return _merged([_Block(keys, times, reports, told, np.zeros(len(keys)), low, high)])


def _merged(blocks: Sequence[_Block]) -> _Block:
    """Merge blocks into one with sorted, different keys."""
    names = ("keys", "counts", "reports", "means", "squares", "low", "high")
    parts = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
    if not len(parts["keys"]):
        return _Block(**parts)
    order = np.argsort(parts["keys"], kind="stable")
    keys, counts, reports, means, squares, low, high = (parts[name][order] for name in names)
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    total = np.add.reduceat(reports, first)
    least, most = np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)
    mean = np.add.reduceat(reports * means, first) / np.maximum(total, 1)
    # Equal reports give their own number back, to the last bit, in any order.
    mean = np.where(least == most, most, mean)
    away = means - np.repeat(mean, np.diff(np.append(first, len(keys))))
    return _Block(
        keys=keys[first],
        counts=np.add.reduceat(counts, first),
        reports=total,
        means=mean,
        squares=np.add.reduceat(squares + reports * away**2, first),
        low=least,
        high=most,
    )
