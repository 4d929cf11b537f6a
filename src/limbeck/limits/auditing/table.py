"""Teacher records as arrays: contexts, pairs and what was said of them."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from limbeck.limits.auditing.result import SHOWN_LINES
from limbeck.records import TeacherRecord


LOWEST = -1e6  # of a log-probability [nats], so that squares don't overflow


@dataclass(frozen=True, eq=False)
class Table:
    """Records as arrays; one entry a record unless said otherwise.

    A context is an input with a teacher and a temperature: draws of one context follow one law.

    Attributes:
        records: As they were given.
        labels: Number of labels where it is known.
        confidence: Of every interval.
        tolerance: Of sums.
    """

    records: Sequence[TeacherRecord]
    labels: int | None
    confidence: float
    tolerance: float

    @functools.cached_property
    def input(self) -> np.ndarray:
        """Number of the input."""
        return _numbered([record.input for record in self.records])

    @functools.cached_property
    def context(self) -> np.ndarray:
        """Number of the context."""
        return _numbered([(r.input, r.teacher, r.temperature) for r in self.records])

    @functools.cached_property
    def contexts(self) -> int:
        """How many contexts there are."""
        return int(self.context.max()) + 1

    @functools.cached_property
    def label(self) -> np.ndarray:
        """The label drawn."""
        return np.array([record.label for record in self.records], dtype=np.int64)

    @functools.cached_property
    def count(self) -> np.ndarray:
        """How many draws the record stands for."""
        return np.array([record.count for record in self.records], dtype=np.int64)

    @functools.cached_property
    def log(self) -> np.ndarray:
        """Log-probability of the label [nats]; NaN where the teacher gave none."""
        said = [np.nan if r.log_probability is None else r.log_probability for r in self.records]
        return np.maximum(np.array(said), LOWEST)

    @functools.cached_property
    def temperature(self) -> np.ndarray:
        """The sampler's temperature."""
        return np.array([record.temperature for record in self.records])

    @functools.cached_property
    def first(self) -> np.ndarray:
        """A context's first record."""
        return np.unique(self.context, return_index=True)[1]

    @functools.cached_property
    def pair(self) -> np.ndarray:
        """Number of the pair of context and label."""
        return self._pairs[1]

    @functools.cached_property
    def pair_first(self) -> np.ndarray:
        """A pair's first record."""
        return self._pairs[0]

    @functools.cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        numbered = np.unique(self.label, return_inverse=True)[1]
        code = self.context * (numbered.max() + 1) + numbered
        return np.unique(code, return_index=True, return_inverse=True)[1:]

    @functools.cached_property
    def pair_context(self) -> np.ndarray:
        """A pair's context; pairs of one context stand together."""
        return self.context[self.pair_first]

    @functools.cached_property
    def pair_label(self) -> np.ndarray:
        """A pair's label."""
        return self.label[self.pair_first]

    @functools.cached_property
    def pair_draws(self) -> np.ndarray:
        """How often a pair was drawn."""
        return np.bincount(self.pair, weights=self.count).astype(np.int64)

    @functools.cached_property
    def pair_probability(self) -> np.ndarray:
        """Mean of the probabilities that were reported for a pair; NaN where there is none."""
        said = ~np.isnan(self.log)
        number = len(self.pair_first)
        total = np.bincount(self.pair[said], weights=np.exp(self.log[said]), minlength=number)
        times = np.bincount(self.pair[said], minlength=number)
        return np.divide(total, times, out=np.full(number, np.nan), where=times > 0)

    @functools.cached_property
    def context_draws(self) -> np.ndarray:
        """How often a context was drawn from."""
        return np.bincount(self.context, weights=self.count).astype(np.int64)

    @functools.cached_property
    def draws(self) -> int:
        """All draws."""
        return int(self.count.sum())

    @functools.cached_property
    def rows(self) -> dict[int, np.ndarray]:
        """The first row of each context that has one."""
        found: dict[int, np.ndarray] = {}
        for context, record in zip(self.context.tolist(), self.records, strict=True):
            if record.row is not None:
                found.setdefault(context, record.row)
        return found

    @functools.cached_property
    def tops(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Labels and log-probabilities of the first top list of each context that has one."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for context, record in zip(self.context.tolist(), self.records, strict=True):
            if record.top and context not in found:
                labels, logs = zip(*record.top, strict=True)
                found[context] = (np.array(labels, np.int64), np.array(logs))
        return found

    def lines(self, which: np.ndarray) -> tuple[int, ...]:
        """Return the first lines (or places from 1) of records, given by a mask or numbers."""
        numbers = np.flatnonzero(which) if which.dtype == bool else np.sort(which)
        return tuple(
            self.records[number].line or number + 1 for number in numbers[:SHOWN_LINES].tolist()
        )


def _numbered(values: Sequence[Hashable]) -> np.ndarray:
    """Number values from 0 in the order in which they first come."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)
