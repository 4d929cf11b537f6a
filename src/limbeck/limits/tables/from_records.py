"""Teacher records to counts: inputs of any kind are numbered, numbers go where they belong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.checks import DataError
from limbeck.limits.tables.counts import PairCounts
from limbeck.records import Input, TeacherRecord, as_records


SMALLEST = -700.0  # log-probability below which there is nothing; of a drawn label it is this
MOST_DRAWS = 10**15  # that records may stand for together: sums stay exact, and whole numbers


@dataclass(frozen=True, slots=True, eq=False)
class RecordCounts:
    """What records say, counted.

    Attributes:
        counts: Of (number of the input, label), with every probability that was reported.
        inputs: The different inputs, in the order in which they came; their places are the numbers.
        left_out: How many faulty lines were left out.
    """

    counts: PairCounts
    inputs: tuple[Input, ...]
    left_out: int


def counts_from_records(records: Any, *, labels: int | None = None) -> RecordCounts:
    """Count teacher records.

    Args:
        records: A path to JSON lines, or a list of records or dicts, as
            :func:`limbeck.records.as_records` takes them.
        labels: How many labels there are; None for one more than the largest that occurs.

    Returns:
        Counts for the learners: hard labels add draws, sampled probabilities draws with a number,
        top-k lists and whole rows further numbers without draws (entries of probability 0 are
        left out). Temperatures are not looked at: the law that was sampled from is learnt.

    Raises:
        DataError: If no record can be used.

    Example:
        >>> found = counts_from_records([{"input": "cat", "label": 1, "probability": 0.75}])
        >>> found.inputs, found.counts.pairs.probabilities.tolist()
        (('cat',), [0.75])

    Source:
        Limbeck's own.
    """
    found = as_records(records, labels=labels).needed("counts_from_records")
    total_draws("counts_from_records", found.records)
    width = labels if labels is not None else 1 + max(_largest(one) for one in found.records)
    counts = PairCounts(width)
    numbers: dict[Input, int] = {}
    plain: list[tuple[int, int, int]] = []
    told: list[tuple[int, int, int, float]] = []
    for one in found.records:
        at = numbers.setdefault(one.input, len(numbers))
        own = one.log_probability
        further = dict(_further(one))
        if own is None:
            own = further.get(one.label)
        if own is None:
            plain.append((at, one.label, one.count))
        else:
            told.append((at, one.label, one.count, max(own, SMALLEST)))
        told += [(at, label, 0, log) for label, log in further.items() if label != one.label]
    if plain:
        at, label, times = np.array(plain, np.int64).T
        counts.add(at, label, counts=times)
    if told:
        at, label, times = np.array([one[:3] for one in told], np.int64).T
        counts.add(at, label, counts=times, log_probabilities=[one[3] for one in told])
    left = sum(found.left_out.values())
    return RecordCounts(counts, tuple(numbers), left)


def total_draws(where: str, records: Sequence[TeacherRecord]) -> int:
    """Return how many draws records stand for.

    Raises:
        DataError: If they are more than can be counted.
    """
    draws = sum(record.count for record in records)
    if draws > MOST_DRAWS:
        raise DataError(
            f"{where}: expected records of at most {MOST_DRAWS:.0e} draws in all; got {draws:.3g}. "
            "Check `count`: it is how many equal draws a record stands for."
        )
    return draws


def _further(record: TeacherRecord) -> Iterable[tuple[int, float]]:
    """Yield labels and log-probabilities that came beside the drawn label's."""
    if record.row is not None:
        for label in np.flatnonzero(np.isfinite(record.row) & (record.row > SMALLEST)):
            yield int(label), float(record.row[label])
    else:
        for label, log in record.top:
            if log > SMALLEST:
                yield int(label), float(log)


def _largest(record: TeacherRecord) -> int:
    if record.row is not None:
        return max(len(record.row) - 1, record.label)
    return max(record.label, *(label for label, _ in record.top), 0)
