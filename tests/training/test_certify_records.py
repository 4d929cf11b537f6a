"""Which records count: faulty lines, training rows, dependent draws, doubtful teachers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from torch import nn

import limbeck
from limbeck.checks import ArgumentError, DataError, LimbeckError
from limbeck.records import TeacherRecord
from limbeck.training.certify import certify


HALF = math.log(0.5)


def even(inputs):
    """Return a student that does not know."""
    return [[0.25] * 4] * len(inputs)


def good(count=20, first=0):
    """Return answers of a law: the student's 1/4 over 1/2 and 1/6 is 1 on average."""
    logs = (HALF, math.log(1 / 6))
    return [
        {"input": i, "label": i % 4, "log_probability": logs[i % 2]}
        for i in range(first, first + count)
    ]


def write(path, lines):
    path.write_text(
        "".join(one if isinstance(one, str) else json.dumps(one) + "\n" for one in lines)
    )
    return path


def test_faulty_lines_are_left_out_and_counted(tmp_path):
    bad = [
        "{half a line\n",
        "[1, 2]\n",
        {"label": 1},
        {"input": 3, "label": -1, "log_probability": HALF},
        {"input": 3, "label": 1, "probability": 1.5},
        {"input": 3, "label": 1, "probability": 0.0},
        {"input": 3, "label": 1, "log_probability": "often"},
        {"input": 3, "label": 1, "log_probability": HALF, "count": 0},
    ]
    path = write(tmp_path / "records.jsonl", [*bad[:4], *good(), *bad[4:]])
    found = certify(even, path)
    assert found.records == 20
    assert sum(found.left_out.values()) == len(bad)
    assert all(reason.startswith("faulty lines (") for reason in found.left_out)
    assert certify(even, [one for one in bad if isinstance(one, dict)] + good()).records == 20


def test_nothing_but_faults_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected teacher records"):
        certify(even, write(tmp_path / "a.jsonl", ["nonsense\n"]))
    with pytest.raises(DataError, match="expected teacher records"):
        certify(even, write(tmp_path / "b.jsonl", []))
    with pytest.raises(DataError, match="no such file"):
        certify(even, tmp_path / "c.jsonl")


values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 6), st.floats(), st.text(max_size=3),
    st.lists(st.integers(-1, 5), max_size=3), st.lists(st.floats(-5, 1), max_size=5),
    st.lists(st.tuples(st.integers(0, 5), st.floats(-5, 0)), max_size=3),
)  # fmt: skip
keys = st.sampled_from(
    ["input", "label", "log_probability", "probability", "log_probabilities", "probabilities",
     "top", "count", "temperature", "sequence", "position", "teacher", "else"]
)  # fmt: skip


@given(st.lists(st.dictionaries(keys, values, max_size=6), max_size=6))
@example([{"count": 888678299.0}])
@settings(max_examples=30, deadline=None)
def test_no_record_crashes_it(records):
    """Whatever stands in the fields: a certificate with counts, or one of limbeck's errors."""
    made = [{"input": 1, "label": 0, **one} for one in records]
    rows = nn.Linear(2, 4)
    for student, data in ((even, None), (rows, torch.zeros(3, 2))):
        text, found = "certify: ", None
        try:
            found = certify(student, good(5) + made, data, device="cpu")
        except LimbeckError as problem:
            text = str(problem)
        assert text.startswith(("certify: ", "units_of: "))
        if found is not None:
            assert found.records + sum(found.left_out.values()) >= 5
            json.dumps(found.to_dict(), allow_nan=False)


def test_indices_outside_of_the_data_and_other_kinds_are_left_out():
    data, student = torch.zeros(10, 2), nn.Linear(2, 4)
    others = [TeacherRecord(10, 0, HALF), TeacherRecord("a", 0, HALF), TeacherRecord((1,), 0, HALF)]
    inside = [TeacherRecord(i, 0, HALF) for i in range(10)]
    found = certify(student, [*others, *inside], data, device="cpu")
    assert found.records == 10
    assert found.left_out == {
        "with an index outside of the data": 1,
        "with another kind of input": 2,
    }
    with pytest.raises(DataError, match="got none \\(1 with an index outside of the data\\)"):
        certify(student, [TeacherRecord(10, 0, HALF)], data)


@pytest.mark.parametrize(
    "trained_on",
    [range(12), np.arange(12), torch.arange(12), [TeacherRecord(i, 3) for i in range(12)]],
)
def test_training_rows_are_left_out(trained_on):
    found = certify(even, good(20), trained_on=trained_on)
    assert found.records == 8
    assert found.left_out == {"that the student was trained on": 12}
    assert any(
        "12 records are of inputs that the student was trained on" in w for w in found.warnings
    )
    assert certify(even, good(20, first=12), trained_on=trained_on).warnings == ()
    with pytest.raises(DataError, match="held out from training"):
        certify(even, good(12), trained_on=trained_on)


def test_training_inputs_of_every_kind(tmp_path):
    records = [TeacherRecord(one, 0, HALF) for one in ("a", "b")]
    assert certify(even, records, trained_on=["a", 3]).records == 1
    tokens = [TeacherRecord(one, 0, HALF) for one in ((1, 2), (3,))]
    assert certify(even, tokens, trained_on=[[1, 2]]).records == 1
    path = write(tmp_path / "t.jsonl", good(5))
    assert certify(even, good(20), trained_on=path).records == 15
    with pytest.raises(ArgumentError, match="list of inputs or records; got int"):
        certify(even, good(3), trained_on=4)


def test_labels_alone_are_refused_early_and_after_others_are_left_out(tmp_path):
    bare = [TeacherRecord(i, 0) for i in range(20, 25)]
    with pytest.raises(DataError, match="neither total variation nor KL"):
        certify(tmp_path / "no student here", bare)
    with pytest.raises(DataError, match=r"got 5 with labels alone\. These give neither"):
        certify(even, [TeacherRecord(i, 0, HALF) for i in range(20)] + bare, trained_on=range(20))


def test_sequences_are_the_units_where_they_are_named():
    records = [
        TeacherRecord(f"{s}.{place}", 0, HALF, sequence=s, position=place)
        for s in range(30)
        for place in range(4)
    ]
    found = certify(even, records)
    assert (found.unit, found.units, found.records) == ("sequence", 30, 120)
    alone = certify(even, records, units="record")
    assert (alone.unit, alone.units) == ("record", 120)
    assert alone.total_variation.upper < found.total_variation.upper
    some = certify(even, [*records, TeacherRecord("x", 0, HALF)])
    assert (some.unit, some.units) == ("sequence", 31)
    assert any("1 records name no sequence" in text for text in some.warnings)
    # The same name twice is the same sequence; a name and a number are not.
    named = certify(even, [TeacherRecord("a", 0, HALF, sequence=one) for one in (1, "1", 1)])
    assert named.units == 2
    with pytest.raises(ArgumentError, match="expected records with `sequence`"):
        certify(even, good(), units="sequence")


def test_draws_at_one_input():
    designed = [TeacherRecord(i, a, HALF) for i in range(20) for a in (0, 1)]
    assert certify(even, designed).unit == "input"
    uneven = [*designed, TeacherRecord(0, 0, HALF)]
    found = certify(even, uneven)
    assert (found.unit, found.units) == ("record", 41)
    assert any("41 records share their input" in text for text in found.warnings)
    chosen = certify(even, uneven, units="input", longest=5)
    assert (chosen.unit, chosen.units) == ("input", 20)
    with pytest.raises(ArgumentError, match="`units` to be one of auto"):
        certify(even, designed, units="inputs")


def test_designed_draws_taken_for_records_would_not_cover():
    """Inputs are far apart and each is asked 30 times: the interval must be that of inputs."""
    generator = np.random.default_rng(0)
    truth, missed = {"input": 0.25, "record": 0.25}, {"input": 0, "record": 0}
    for _ in range(30):
        # Half of the inputs have total variation 0.5, the others none.
        hard = generator.random(25) < 0.5
        records = [
            TeacherRecord(i, a, math.log(0.5), count=30 // 2)
            if not hard[i]
            else TeacherRecord(i, a, 0.0, count=15)
            for i in range(25)
            for a in (0, 1)
        ]
        for unit in missed:
            found = certify(
                lambda rows: [[0.5, 0.5]] * len(rows), records, units=unit, confidence=0.9
            ).total_variation
            missed[unit] += not found.lower <= truth[unit] <= found.upper
    assert missed["input"] <= 3 + 3 * 1.7
    assert missed["record"] > 9


def test_temperature_several_teachers_and_contradictions_are_warned_of():
    records = [
        TeacherRecord(0, 0, HALF, temperature=0.7, teacher="a"),
        TeacherRecord(1, 0, HALF, teacher="b"),
        TeacherRecord(1, 0, HALF - 0.2, teacher="b"),
        TeacherRecord(2, 0, math.log(0.8)),
        TeacherRecord(2, 1, math.log(0.8)),
    ]
    texts = certify(even, records).warnings
    for part in (
        "1 labels were drawn at temperature 0.7",
        "name 2 teachers",
        "different log-probabilities for 1 pairs",
        "at 1 inputs the probabilities of the labels seen sum to more than 1",
    ):
        assert any(part in text for text in texts)
    assert certify(even, good()).warnings == ()


def test_labels_that_were_not_drawn_by_their_probabilities_are_told():
    """A sampler at another temperature, unsaid: ratios do not average to 1."""
    generator, alarms = np.random.default_rng(3), {1.0: 0, 0.5: 0}
    for tau in alarms:
        for _ in range(8):
            teacher = generator.dirichlet(np.ones(4), 500)
            student = 0.5 * teacher + 0.5 / 4
            law = teacher ** (1 / tau) / (teacher ** (1 / tau)).sum(1, keepdims=True)
            labels = (law.cumsum(1) > generator.random((500, 1))).argmax(1)
            records = [
                TeacherRecord(i, int(a), math.log(teacher[i, a])) for i, a in enumerate(labels)
            ]
            texts = certify(lambda rows: student[rows], records).warnings  # noqa: B023
            alarms[tau] += any("where every student has 1" in text for text in texts)
    assert alarms[0.5] == 8
    assert alarms[1.0] <= 1


def test_compare_students_says_who_is_nearer(tmp_path):
    generator = np.random.default_rng(1)
    teacher = generator.dirichlet(np.ones(4), 600)
    labels = [int(generator.choice(4, p=row)) for row in np.repeat(teacher, 4, 0)]
    records = [TeacherRecord(place // 4, label) for place, label in enumerate(labels)]
    near = 0.9 * teacher + 0.1 / 4
    first, second = (lambda rows: near[rows]), even
    found = limbeck.compare_students(first, second, records, names=("near", "even"))
    kl = (teacher * np.log(0.25 / near)).sum(1).mean()
    squared = ((near - teacher) ** 2).sum(1).mean() - ((0.25 - teacher) ** 2).sum(1).mean()
    assert found.kl.lower < kl < found.kl.upper < 0
    assert found.squared_distance.lower < squared < found.squared_distance.upper < 0
    assert found.verdict == "near is nearer to the teacher (a guarantee, in squared distance)"
    back = limbeck.compare_students(second, first, records)
    assert back.kl.value == pytest.approx(-found.kl.value)
    assert back.squared_distance.value == pytest.approx(-found.squared_distance.value)
    assert back.verdict.startswith("<lambda> is nearer")
    same = limbeck.compare_students(even, even, records)
    assert (same.kl.value, same.squared_distance.value) == (0, 0)
    assert same.verdict == "no difference is resolved"
    found.save(tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text())["verdict"] == found.verdict
    assert "near less even, 2400 records" in str(found)
    assert found.settings["unit"] == "input"


def test_compare_students_where_kl_is_not_finite():
    never = [TeacherRecord(i, 0) for i in range(300)]
    found = limbeck.compare_students(
        lambda rows: [[0.0, 1.0]] * len(rows), lambda rows: [[0.5, 0.5]] * len(rows), never
    )
    assert found.kl.status == "unresolved"
    # ||(0, 1) - (1, 0)||^2 - ||(1/2, 1/2) - (1, 0)||^2 = 2 - 1/2.
    assert found.squared_distance.value == pytest.approx(1.5)
    assert "is nearer" in found.verdict
    assert any("probability 0" in text for text in found.warnings)


def test_the_paired_squared_distance_covers():
    generator = np.random.default_rng(2)
    teacher = generator.dirichlet(np.ones(3), 30)
    first, second = generator.dirichlet(np.ones(3), (2, 30))
    truth = ((first - teacher) ** 2).sum(1).mean() - ((second - teacher) ** 2).sum(1).mean()
    missed = 0
    for _ in range(30):
        places = generator.integers(0, 30, 200)
        labels = (teacher[places].cumsum(1) > generator.random((200, 1))).argmax(1)
        records = [TeacherRecord(int(s), int(a)) for s, a in zip(places, labels, strict=True)]
        found = limbeck.compare_students(
            lambda rows: first[rows],
            lambda rows: second[rows],
            records,
            confidence=0.8,
            units="record",
        ).squared_distance
        missed += not found.lower <= truth <= found.upper
    assert missed <= 6 + 3 * 2.2
