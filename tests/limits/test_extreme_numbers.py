"""Plans, certificates and audits at the ends of what numbers can be."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

from limbeck import TeacherRecord, certify, plan
from limbeck.checks import ArgumentError, DataError
from limbeck.limits.planning import pilot_records
from limbeck.limits.planning.draws import draws_needs
from limbeck.limits.planning.pilot_records import fit_law
from limbeck.limits.tables.from_records import counts_from_records


SIZES = (1, 2, 3, 1000, 10**30)
LABELS = (2, 3, 10**18)
ERRORS = (1e-30, 0.05, 0.5, 1 - 1e-9)


@pytest.mark.parametrize(
    "options",
    [{}, {"draws": 1}, {"draws": 10**6}, {"horizon": 10**6}, {"top": 2, "tail_mass": 0.01}],
    ids=str,
)
def test_plans_are_finite_and_in_order_everywhere(options):
    for inputs in SIZES:
        for labels in LABELS:
            for error in ERRORS:
                for confidence in (None, 0.9, 1 - 1e-12):
                    made = plan(
                        inputs=inputs, labels=labels, error=error, confidence=confidence, **options
                    )
                    _check_order(made)


def _check_order(made):
    json.dumps(made.to_dict(), allow_nan=False)
    enough = [one.sufficient for one in made.privileges]
    for one in made.privileges:
        if one.sufficient is not None:
            assert (one.impossible_below or 0) <= one.sufficient
            assert one.planning <= one.sufficient * (1 + 1e-12) + 1 or one.status != "resolved"
    # Numbers that come with a label can be looked away from.
    assert enough[1] <= enough[0]
    if enough[2] is not None and "tail_mass" not in made.settings:
        assert enough[2] <= enough[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"error": 1e-300}, "an error of at least 1e-60 for each query; got 1e-300"),
        ({"error": 1e-30, "horizon": 10**40}, "an error of at least 1e-60"),
        ({"error": 0.1, "inputs": 10**320}, "`inputs` <= 1e"),
        ({"error": 0.1, "labels": 10**320}, "`labels` <= 1e"),
        ({"error": 0.1, "draws": 10**320}, "`draws` <= 1e"),
        ({"error": 0.1, "horizon": 10**320}, "`horizon` <= 1e"),
        ({"error": 0.1, "confidence": 1 - 1e-15}, "at least 1e-12 away from 0 and 1"),
    ],
)
def test_numbers_that_floats_cannot_hold_are_refused_by_name(options, message):
    with pytest.raises(ArgumentError, match=f"plan: .*{message}|.*{message}"):
        plan(**{"inputs": 10, "labels": 5, **options})


def test_small_errors_of_counted_draws_lose_no_digits():
    """S/(e n) + sqrt(S A / (2 N n)) is the error again, to rounding, however small it is."""
    for error in (1e-3, 1e-8, 1e-14, 1e-25):
        n = draws_needs(inputs=3, labels=7, draws=5, error=error)["hard_labels"].sufficient
        back = 3 / (math.e * n) + math.sqrt(3 * 7 / (2 * 5 * n))
        assert back == pytest.approx(error, rel=1e-12)


def test_one_input_needs_one_row():
    for confidence in (None, 0.95):
        made = plan(inputs=1, labels=50, error=0.05, confidence=confidence)
        assert (made.soft_labels.planning, made.soft_labels.sufficient) == (1, 1)
    assert plan(inputs=2, labels=50, error=0.05).soft_labels.planning > 1
    assert plan(inputs=1, labels=50, error=0.05, top=9, tail_mass=0.01).soft_labels.planning == 1
    cut = plan(inputs=1, labels=50, error=0.05, top=9, tail_mass=0.1)
    assert cut.soft_labels.status == "not reachable"


@pytest.mark.parametrize("confidence", [1e-16, 1 - 1e-16, 0.0, 1.0])
def test_a_confidence_of_next_to_nothing_is_named_as_given(confidence):
    records = [TeacherRecord(place, 0, -0.5) for place in range(5)]
    with pytest.raises(ArgumentError, match=f"certify: .*got {confidence}"):
        certify(lambda rows: [[0.5, 0.5]] * len(rows), records, confidence=confidence)


def test_counts_that_fill_the_memory_are_refused_with_both_numbers():
    records = [TeacherRecord(0, 0, -0.5, count=10**8), TeacherRecord(1, 0, -0.5)]
    with pytest.raises(DataError, match="at most 10,000,000 draws in all; got 100,000,001"):
        certify(lambda rows: [[0.5, 0.5]] * len(rows), records)


def test_labels_that_the_teacher_all_but_excludes():
    """e^-800 is 0 in floats, and the label was drawn all the same."""
    records = [TeacherRecord(place % 7, place % 2, -0.7) for place in range(40)]
    records.append(TeacherRecord(0, 2, -800.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        json.dumps(plan(error=0.1, pilot=records).to_dict(), allow_nan=False)
        even = certify(lambda rows: [[1 / 3] * 3] * len(rows), records, built_from=records)
    assert even["missing_mass"].n == 41
    assert (counts_from_records(records).counts.pairs.probabilities > 0).all()


@pytest.mark.parametrize("sequences", [False, True])
def test_intervals_of_many_records_are_those_of_resamples(monkeypatch, sequences):
    random = np.random.default_rng(0)
    law = np.log(random.dirichlet(np.full(8, 0.5), 30))
    at = np.sort(random.integers(0, 30, 2400))  # sequences of one input, if there are any
    drawn = (random.random((2400, 1)) > np.exp(law)[at].cumsum(1)).sum(1).clip(0, 7)
    records = [
        TeacherRecord(int(s), int(a), row=law[s], sequence=place // 8 if sequences else None)
        for place, (s, a) in enumerate(zip(at, drawn, strict=True))
    ]
    slow = fit_law(records)
    monkeypatch.setattr(pilot_records, "MANY", 0)
    fast = fit_law(records)
    assert fast.row_spread.settings["interval"] == "normal, linearised"
    for one, other in ((slow.row_spread, fast.row_spread), (slow.size, fast.size)):
        assert other.value == one.value
        width = one.upper - one.lower
        assert abs(other.lower - one.lower) < 0.2 * width
        assert abs(other.upper - one.upper) < 0.2 * width
