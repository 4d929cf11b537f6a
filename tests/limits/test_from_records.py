"""Records of each privilege end up in counts, and the learners say of them what they should."""

import numpy as np
import pytest

from limbeck.checks import DataError
from limbeck.limits import fit_censored, fit_sampled_probabilities
from limbeck.limits.tables.from_records import counts_from_records
from limbeck.records import TeacherRecord


def test_inputs_of_every_kind_are_numbered_in_order():
    found = counts_from_records(
        [
            {"input": "cat", "label": 1, "probability": 0.75, "count": 3},
            {"input": [4, 5], "label": 0, "probability": 0.5},
            {"input": "cat", "label": 0, "probability": 0.25},
            {"input": 7, "label": 2},
        ]
    )
    assert found.inputs == ("cat", (4, 5), 7)
    assert (found.counts.labels, found.counts.n, found.left_out) == (3, 6, 0)
    pairs = found.counts.pairs
    assert pairs.inputs.tolist() == [0, 0, 1, 2]
    assert pairs.counts.tolist() == [1, 3, 1, 1]
    np.testing.assert_allclose(pairs.probabilities, [0.25, 0.75, 0.5, 0.0], atol=1e-15)
    assert pairs.reports.tolist() == [1, 3, 1, 0]


def test_whole_rows_tell_all_labels():
    row = np.log([0.5, 0.25, 0.25])
    found = counts_from_records([TeacherRecord(input=0, label=1, row=row)])
    student = fit_sampled_probabilities(found.counts)
    np.testing.assert_allclose(student.rows([0]), [[0.5, 0.25, 0.25]], atol=1e-15)
    assert found.counts.n == 1


def test_labels_of_probability_0_are_left_out():
    row = np.array([np.log(0.5), np.log(0.5), -np.inf])
    found = counts_from_records([TeacherRecord(input=0, label=1, row=row)])
    rows = fit_sampled_probabilities(found.counts).rows([0])
    np.testing.assert_allclose(rows, [[0.5, 0.5, 0.0]], atol=1e-15)


def test_top_lists_tell_the_head_and_censored_draws_the_tail():
    top = [[0, np.log(0.5)], [1, np.log(0.25)]]
    records = [{"input": "a", "label": label, "top": top} for label in (0, 2, 2, 3)]
    found = counts_from_records(records, labels=5)
    assert found.counts.n == 4
    rows = fit_censored(found.counts).rows([0])
    np.testing.assert_allclose(rows, [[0.5, 0.25, 1 / 6, 1 / 12, 0]], atol=1e-14)


def test_faulty_lines_are_counted_and_none_is_refused():
    found = counts_from_records([{"input": 0, "label": 0}, {"input": 0}, {"label": 1}])
    assert (found.counts.n, found.left_out) == (1, 2)
    with pytest.raises(DataError, match="expected teacher records"):
        counts_from_records([])
