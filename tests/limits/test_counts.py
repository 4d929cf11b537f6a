"""Sparse counts: against dictionaries, in any portions, and what they refuse."""

import collections

import numpy as np
import pytest

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.tables import counts as module
from limbeck.limits.tables.counts import PairCounts


@pytest.mark.parametrize("portions", [1, 3, 200])
@pytest.mark.parametrize("pending", [0, 65536])
def test_counts_means_and_spreads_are_those_of_dictionaries(monkeypatch, portions, pending):
    monkeypatch.setattr(module, "PENDING", pending)
    random = np.random.default_rng(portions)
    n = 600
    at, label = random.integers(0, 10**12, 40)[random.integers(40, size=n)], None
    label = random.integers(5, size=n)
    told, times = random.uniform(0.1, 0.9, n), random.integers(1, 4, n)
    counts, reports = collections.Counter(), collections.defaultdict(list)
    sparse = PairCounts(5)
    for part in np.array_split(np.arange(n), portions):
        with_numbers = part % 3 > 0
        one, other = part[with_numbers], part[~with_numbers]
        sparse.add(at[one], label[one], probabilities=told[one], counts=times[one])
        sparse.add(at[other], label[other], counts=times[other])
    for i in range(n):
        counts[at[i], label[i]] += times[i]
        reports[at[i], label[i]] += [told[i]] * int(times[i]) if i % 3 else []
    pairs = sparse.pairs
    keys = list(zip(pairs.inputs.tolist(), pairs.labels.tolist(), strict=True))
    assert keys == sorted(counts)
    assert pairs.counts.tolist() == [counts[key] for key in keys]
    assert pairs.reports.tolist() == [len(reports[key]) for key in keys]
    for key, mean, spread, off in zip(
        keys, pairs.probabilities, pairs.spreads, pairs.disagree, strict=True
    ):
        right = reports[key] or [0.0]
        assert mean == pytest.approx(np.mean(right), abs=1e-14)
        assert spread == pytest.approx(np.std(right), abs=1e-14)
        assert off == (np.ptp(right) > 0)
    assert sparse.n == times.sum()
    assert pairs.seen.tolist() == sorted({s for s, _ in counts})
    sums = {s: sum(c for (t, _), c in counts.items() if t == s) for s in pairs.seen.tolist()}
    assert pairs.per_input(pairs.counts).tolist() == list(sums.values())
    assert pairs.place.tolist() == [pairs.seen.tolist().index(s) for s, _ in keys]


def test_memory_is_that_of_the_different_pairs():
    counts = PairCounts(3)
    for _ in range(400):
        counts.add(np.zeros(1000, np.int64), np.ones(1000, np.int64))
    held = sum(len(block.keys) for block in counts._blocks)
    assert held <= 400
    assert (len(counts.pairs.counts), counts.n) == (1, 400_000)
    assert sum(len(block.keys) for block in counts._blocks) == 1


def test_pending_additions_are_merged(monkeypatch):
    monkeypatch.setattr(module, "PENDING", 10)
    counts = PairCounts(3)
    for _ in range(100):
        counts.add([0, 1], [1, 2])
    assert sum(len(block.keys) for block in counts._blocks) <= 14


def test_pairs_are_made_anew_after_an_addition():
    counts = PairCounts(2)
    counts.add([0], [1])
    assert counts.pairs is counts.pairs
    counts.add([4], [1])
    assert counts.pairs.seen.tolist() == [0, 4]


def test_rounding_is_no_disagreement():
    counts = PairCounts(2)
    counts.add([0, 0, 1, 1], [0, 0, 0, 0], probabilities=[0.5, 0.5 + 1e-8, 0.5, 0.5 + 1e-5])
    assert counts.pairs.disagree.tolist() == [False, True]


def test_empty_counts():
    counts = PairCounts(2)
    counts.add([], np.zeros(0, np.int64))
    assert (counts.n, len(counts.pairs.inputs), counts.pairs.starts.tolist()) == (0, 0, [0])


@pytest.mark.parametrize(
    ("inputs", "labels", "more", "error", "message"),
    [
        ([0], [2], {}, DataError, r"labels in \[0, 2\); got 2"),
        ([0], [-1], {}, DataError, "got -1"),
        ([-3], [0], {}, DataError, "got -3. Number the inputs"),
        ([2**62], [0], {}, DataError, "expected inputs in"),
        ([0.5], [0], {}, DataError, "integers for `inputs`; got float64"),
        ([[0]], [[0]], {}, ShapeError, "one dimension"),
        ([0, 1], [0], {}, ShapeError, "one entry a draw"),
        ([0], [0], {"probabilities": [0.0]}, DataError, r"\(0, 1\]; got 0.0"),
        ([0], [0], {"probabilities": [1.1]}, DataError, "got 1.1"),
        ([0], [0], {"probabilities": [np.nan]}, DataError, "got nan"),
        ([0], [0], {"log_probabilities": [-9999.0]}, DataError, "got -9999.0. A label that"),
        ([0], [0], {"log_probabilities": [0.5]}, DataError, "got 0.5"),
        ([0], [0], {"log_probabilities": [-np.inf]}, DataError, "got -inf"),
        ([0], [0], {"probabilities": [0.5, 0.5]}, ShapeError, "'probabilities': 2"),
        ([0], [0], {"counts": [0]}, ArgumentError, "`counts` >= 1 where no probability"),
        ([0], [0], {"counts": [-1], "probabilities": [0.5]}, DataError, "counts >= 0; got -1"),
        (
            [0],
            [0],
            {"probabilities": [0.5], "log_probabilities": [-1.0]},
            ArgumentError,
            "got both",
        ),
    ],
)
def test_what_is_refused(inputs, labels, more, error, message):
    counts = PairCounts(2)
    with pytest.raises(error, match=message):
        counts.add(inputs, labels, **more)
    assert counts.n == 0


def test_a_probability_of_1_may_be_rounded_up():
    counts = PairCounts(2)
    counts.add([0, 1], [0, 0], log_probabilities=[1e-9, 0.0])
    assert counts.pairs.probabilities.tolist() == [1.0, 1.0]


def test_labels_below_1_are_refused():
    with pytest.raises(ArgumentError, match="`labels` >= 1; got 0"):
        PairCounts(0)
