"""Teacher records: the type, lines of JSON, faults by kind, files."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import records as module
from limbeck.checks import ArgumentError, DataError, StorageError
from limbeck.record_lines import KEYS, SENTINELS
from limbeck.records import (
    Problem,
    RecordError,
    Records,
    TeacherRecord,
    as_records,
    read_records,
    write_records,
)


HALF = math.log(0.5)
GOOD = {"input": 3, "label": 1}


def read(tmp_path, *lines, **options):
    file = tmp_path / "r.jsonl"
    file.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return read_records(file, **options)


def kinds(found):
    return [(problem.line, problem.kind) for problem in found.problems]


def test_the_privilege_is_what_the_teacher_said():
    row = np.log([0.25, 0.75])
    assert TeacherRecord(0, 1).privilege == "hard_labels"
    assert TeacherRecord(0, 1, HALF).privilege == "sampled_probabilities"
    soft = TeacherRecord(0, 1, row=row)
    assert (soft.privilege, soft.log_probability) == ("soft_labels", math.log(0.75))
    top = TeacherRecord(0, 1, top=((1, -0.1), (0, -3.0)))
    assert (top.privilege, top.log_probability, top.censored) == (
        *("sampled_probabilities", -0.1, False),
    )
    censored = TeacherRecord(0, 2, top=((1, -0.1), (0, -3.0)))
    assert (censored.privilege, censored.censored) == ("hard_labels", True)
    assert not TeacherRecord(0, 2, -5.0, top=((1, -0.1),)).censored
    assert not TeacherRecord(0, 2).censored


@pytest.mark.usefixtures("without_shape_hook")
def test_numpy_numbers_become_python_s_and_rows_are_frozen():
    record = TeacherRecord(
        np.int32(4),
        np.uint8(1),
        np.float32(-0.5),
        row=np.float32([0.0, -0.5]) - 1,
        count=np.int64(2),
    )
    assert [type(x) for x in (record.input, record.label, record.count)] == [int, int, int]
    assert type(record.log_probability) is float
    assert record.row.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        record.row[0] = 0.0
    assert TeacherRecord(np.array([1, 2]), 0).input == (1, 2)
    assert TeacherRecord(0, 1.0).label == 1


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"label": -1}, "label_out_of_range"),
        ({"label": 2**63}, "label_out_of_range"),
        ({"label": True}, "wrong_type"),
        ({"label": 1.5}, "wrong_type"),
        ({"label": math.nan}, "not_finite"),
        ({"label": "1"}, "wrong_type"),
        ({"input": None}, "wrong_type"),
        ({"input": -1}, "input_out_of_range"),
        ({"input": b"x"}, "wrong_type"),
        ({"input": (1, "a")}, "wrong_type"),
        ({"log_probability": 0.01}, "above_one"),
        ({"log_probability": math.nan}, "not_finite"),
        ({"log_probability": -math.inf}, "zero_probability"),
        ({"row": np.array([HALF])}, "label_out_of_range"),
        ({"row": np.array([0.0, -math.inf])}, "drawn_outside"),
        ({"row": np.array([math.nan, 0.0])}, "not_finite"),
        ({"row": np.array([HALF, 0.7])}, "above_one"),
        ({"row": np.zeros((2, 2))}, "wrong_type"),
        ({"top": ((0, -3.0), (1, -0.1))}, "top_order"),
        ({"top": ((1, -0.1), (1, -3.0))}, "top_duplicates"),
        ({"top": ((1, -0.1, 0),)}, "wrong_type"),
        ({"count": 0}, "count_out_of_range"),
        ({"temperature": -0.1}, "temperature_out_of_range"),
        ({"position": -1}, "position_out_of_range"),
        ({"sequence": 1.5}, "wrong_type"),
        ({"teacher": 3}, "wrong_type"),
        ({"weight": -1.0}, "weight_out_of_range"),
    ],
)
@pytest.mark.usefixtures("without_shape_hook")
def test_a_wrong_field_is_named(fields, kind):
    with pytest.raises(RecordError) as raised:
        TeacherRecord(**{"input": 0, "label": 1, **fields})
    assert raised.value.kind == kind
    assert str(raised.value).startswith("expected ")


def test_rounding_above_one_is_taken_off():
    assert TeacherRecord(0, 1, 5e-4).log_probability == 0.0
    assert TeacherRecord(0, 0, row=np.array([5e-4, -20.0])).row[0] == 0.0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('{"input": 3, "lab', "not_json"),
        ("label", "not_json"),
        ('{"input": 3, "label": ' + "9" * 5000 + "}", "not_json"),
        ("[" * 100_000, "not_json"),
        ('[{"input": 3, "label": 1}]', "not_object"),
        ("null", "not_object"),
        (b'{"input": "\xff", "label": 1}', "not_utf8"),
        ('{"input": 3, "label": 1, "label": 2}', "duplicate_key"),
        ('{"label": 1}', "missing_key"),
        ('{"input": 3}', "missing_key"),
        ('{"input": 3, "label": null}', "missing_key"),
        ('{"input": 3, "label": -1}', "label_out_of_range"),
        ('{"input": 3, "label": 1.5}', "wrong_type"),
        ('{"input": {"a": 1}, "label": 1}', "wrong_type"),
        ('{"input": 3, "label": 1, "probability": 1.2}', "above_one"),
        ('{"input": 3, "label": 1, "probability": 0}', "zero_probability"),
        ('{"input": 3, "label": 1, "probability": -0.5}', "below_zero"),
        ('{"input": 3, "label": 1, "probability": NaN}', "not_finite"),
        ('{"input": 3, "label": 1, "probability": "0.5"}', "wrong_type"),
        ('{"input": 3, "label": 1, "log_probability": 0.5}', "above_one"),
        ('{"input": 3, "label": 1, "log_probability": -Infinity}', "zero_probability"),
        ('{"input": 3, "label": 1, "log_probability": 1e999}', "not_finite"),
        ('{"input": 3, "label": 1, "probability": 0.5, "log_probability": -0.5}', "disagreement"),
        ('{"input": 3, "label": 1, "probabilities": [0.5, 0.6]}', "row_sum"),
        ('{"input": 3, "label": 1, "probabilities": [1.2, -0.2]}', "below_zero"),
        ('{"input": 3, "label": 1, "probabilities": [0.1, 1.9]}', "above_one"),
        ('{"input": 3, "label": 1, "probabilities": [1.0, 0.0]}', "drawn_outside"),
        ('{"input": 3, "label": 2, "probabilities": [0.5, 0.5]}', "label_out_of_range"),
        ('{"input": 3, "label": 1, "probabilities": [0.5, null]}', "wrong_type"),
        ('{"input": 3, "label": 1, "probabilities": []}', "wrong_type"),
        ('{"input": 3, "label": 1, "log_probabilities": [NaN, -1]}', "not_finite"),
        (
            '{"input": 3, "label": 1, "log_probabilities": [0], "probabilities": [0.5, 0.5]}',
            "disagreement",
        ),
        ('{"input": 3, "label": 1, "top": [[1, -0.1], [0, -0.1]]}', "top_sum"),
        ('{"input": 3, "label": 1, "top": [[0, -2.0], [1, -0.2]]}', "top_order"),
        ('{"input": 3, "label": 1, "top": [1, -0.1]}', "wrong_type"),
        ('{"input": 3, "label": 1, "count": 0}', "count_out_of_range"),
    ],
)
def test_a_faulty_line_is_reported_and_left_out(tmp_path, line, kind):
    found = read(tmp_path, '{"input": 1, "label": 0}', line, '{"input": 2, "label": 1}')
    assert kinds(found) == [(2, kind)]
    assert [record.line for record in found] == [1, 3]
    assert found.left_out == {kind: 1}


def test_labels_bounds_every_label_there_is(tmp_path):
    lines = [
        '{"input": 0, "label": 3}',
        '{"input": 0, "label": 1, "top": [[1, -0.2], [3, -3.0]]}',
        '{"input": 0, "label": 1, "probabilities": [0.5, 0.5]}',
        '{"input": 0, "label": 2}',
    ]
    found = read(tmp_path, *lines, labels=3)
    assert found.left_out == {"label_out_of_range": 3}
    assert [record.label for record in found] == [2]
    assert len(read(tmp_path, *lines)) == 4


def test_the_tolerance_is_that_of_sums(tmp_path):
    line = '{"input": 3, "label": 1, "probabilities": [0.5, 0.52]}'
    assert len(read(tmp_path, line, tolerance=0.03)) == 1
    assert read(tmp_path, line, tolerance=0.01).left_out == {"row_sum": 1}


def test_placeholders_become_labels_without_a_number_or_censored(tmp_path):
    top = '"top": [[0, -0.1], [2, -3.0]]'
    found = read(
        tmp_path,
        '{"input": 3, "label": 1, "log_probability": -9999.0, ' + top + "}",
        '{"input": 3, "label": 1, "log_probability": -9999}',
        '{"input": 3, "label": 1, "log_probability": -9998.0}',
    )
    assert [record.log_probability for record in found] == [None, None, -9998.0]
    assert [record.censored for record in found] == [True, False, False]
    (note,) = found.problems
    assert (note.kind, note.line, note.lines, note.left_out) == ("sentinel", 1, 2, False)
    assert found.left_out == {}


def test_notes_come_once_with_their_count(tmp_path):
    found = read(tmp_path, *['{"input": 3, "label": 1, "foo": 2, "bar": 1}'] * 3)
    assert [(p.kind, p.lines, p.left_out) for p in found.problems] == [
        ("unknown_key", 3, False),
        ("unknown_key", 3, False),
    ]
    assert "'foo'" in "".join(p.text for p in found.problems)
    two = read(tmp_path, '{"input": 3, "label": 1, "log_probability": -0.1, "top": [[1, -0.5]]}')
    assert (len(two), kinds(two)) == (1, [(1, "two_laws")])
    rounded = '{"input": 3, "label": 1, "log_probability": -0.6931, "top": [[1, -0.69]]}'
    assert kinds(read(tmp_path, rounded)) == []


def test_probabilities_are_taken_for_logarithms(tmp_path):
    found = read(
        tmp_path,
        '{"input": 3, "label": 1, "probability": 0.25}',
        '{"input": 3, "label": 0, "probabilities": [0.75, 0.25, 0]}',
        '{"input": 3, "label": 0, "log_probabilities": [0, null, -9999]}',
    )
    assert found.records[0].log_probability == math.log(0.25)
    np.testing.assert_array_equal(found.records[1].row, [math.log(0.75), math.log(0.25), -np.inf])
    np.testing.assert_array_equal(found.records[2].row, [0, -np.inf, -np.inf])


def test_empty_lines_marks_and_line_ends_of_windows_are_no_faults(tmp_path):
    found = read(
        tmp_path, b'\xef\xbb\xbf{"input": "a", "label": 1}\r\n\r\n  \n{"input": 2, "label": 0}'
    )
    assert ([r.input for r in found], found.problems) == (["a", 2], [])


def test_an_empty_file_is_a_stated_problem(tmp_path):
    found = read(tmp_path, "", "")
    assert kinds(found) == [(0, "empty")]
    with pytest.raises(DataError, match=r"audit: expected teacher records; got none .*empty"):
        found.needed("audit")
    broken = read(tmp_path, "{")
    with pytest.raises(DataError, match="line 1: not_json"):
        broken.needed("certify")
    good = read(tmp_path, '{"input": 3, "label": 1}')
    assert good.needed("x") is good


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="got no such file"):
        read_records(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="got a folder"):
        read_records(tmp_path)
    plain = tmp_path / "plain.gz"
    plain.write_bytes(b'{"input": 3, "label": 1}')
    with pytest.raises(DataError, match="expected a gzip file"):
        read_records(plain)
    with pytest.raises(ArgumentError, match="`labels` >= 1; got 0"):
        read_records(plain, labels=0)
    with pytest.raises(ArgumentError, match="`tolerance`"):
        as_records([], tolerance=1.0)


def test_a_packed_file_that_was_cut_keeps_what_is_whole(tmp_path):
    generator = np.random.default_rng(0)
    made = [TeacherRecord(i, 1, -float(x)) for i, x in enumerate(generator.random(4_000))]
    file = write_records(tmp_path / "r.jsonl.gz", made)
    assert file.read_bytes()[:2] == b"\x1f\x8b"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = read_records(file)
    assert 800 < len(found) < 3_200
    assert found.problems[-1].kind == "truncated"
    assert found.left_out["truncated"] == 1


def test_a_line_that_is_too_long_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 100)
    long = '{"input": "' + "x" * 1000 + '", "label": 1}'
    found = read(tmp_path, '{"input": 3, "label": 1}', long, '{"input": 4, "label": 1}', long)
    assert kinds(found) == [(2, "too_long"), (4, "too_long")]
    assert [(r.input, r.line) for r in found] == [(3, 1), (4, 3)]


def test_a_line_of_megabytes_is_read(tmp_path):
    row = np.random.default_rng(0).dirichlet(np.ones(60_000))
    made = TeacherRecord("x" * 2_000_000, 5, row=np.log(row))
    (back,) = read_records(write_records(tmp_path / "r.jsonl", [made]))
    np.testing.assert_array_equal(back.row, made.row)
    assert back.input == made.input


TEXT = st.text(max_size=8)
INDEX = st.integers(0, 2**63 - 1)
LOG = st.floats(-1e300, 0.0, allow_nan=False)


@st.composite
def fields_of_a_record(draw):
    row = top = None
    if draw(st.booleans()):
        weights = draw(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6))
        row = np.log(np.array(weights) / sum(weights))
        if len(row) > 1 and draw(st.booleans()):
            row[1:] = -np.inf
            row[0] = 0.0
    elif draw(st.booleans()):
        values = sorted(draw(st.lists(st.floats(-50, -3.0), max_size=4)), reverse=True)
        top = tuple(enumerate(values))
    label = 0 if row is not None else draw(INDEX)
    return {
        "input": draw(st.one_of(INDEX, TEXT, st.lists(INDEX, max_size=4).map(tuple))),
        "label": label,
        "log_probability": None if row is not None else draw(st.none() | LOG),
        "row": row,
        "top": top or (),
        "count": draw(st.integers(1, 2**40)),
        "temperature": draw(st.floats(0, 1e6)),
        "sequence": draw(st.none() | TEXT | st.integers(-(2**62), 2**62)),
        "position": draw(st.none() | INDEX),
        "teacher": draw(st.none() | TEXT),
        "weight": draw(st.none() | st.floats(0, 1e300)),
    }


FIELDS = (
    *("input", "label", "log_probability", "top", "count", "temperature", "sequence", "position"),
    *("teacher", "weight", "privilege", "censored"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(fields_of_a_record(), min_size=1, max_size=4), st.booleans())
def test_records_come_back_exactly(tmp_path_factory, made, packed):
    made = [TeacherRecord(**one) for one in made if one["log_probability"] not in SENTINELS]
    file = tmp_path_factory.mktemp("r") / f"r.jsonl{'.gz' * packed}"
    found = read_records(write_records(file, made))
    assert found.left_out in ({}, {"empty": 1})
    for line, (one, back) in enumerate(zip(made, found, strict=True), 1):
        for name in FIELDS:
            assert getattr(back, name) == getattr(one, name), name
        assert back.line == line
        assert (back.row is None) == (one.row is None)
        if one.row is not None:
            np.testing.assert_array_equal(back.row, one.row)


def test_half_a_surrogate_pair_survives(tmp_path):
    made = TeacherRecord("\ud800 and é", 1)
    assert read_records(write_records(tmp_path / "r.jsonl", [made])).records[0].input == made.input
    plain = write_records(tmp_path / "r.jsonl", [TeacherRecord("é", 1)])
    assert "é" in plain.read_text("utf8")


def test_a_file_is_whole_or_absent(tmp_path):
    file = tmp_path / "sub" / "r.jsonl"
    write_records(file, [TeacherRecord(1, 1)])
    before = file.read_bytes()

    def breaking():
        yield TeacherRecord(2, 2)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_records(file, breaking())
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["r.jsonl"]
    with pytest.raises(StorageError):
        write_records(file / "below", [TeacherRecord(1, 1)])
    one, two = (write_records(tmp_path / f"{n}.gz", [TeacherRecord(1, 1)]) for n in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes()[4:8] == bytes(4)  # no time of writing in the head
    assert gzip.decompress(one.read_bytes()) == b'{"input": 1, "label": 1}\n'


@pytest.mark.usefixtures("without_shape_hook")
def test_as_records_takes_paths_records_and_dicts(tmp_path):
    record = TeacherRecord(3, 1, HALF)
    file = write_records(tmp_path / "r.jsonl", [record])
    for source in (file, str(file), [record], iter([record]), [GOOD], Records([record])):
        assert [(r.input, r.label) for r in as_records(source)] == [(3, 1)]
    assert as_records([record]).records[0] is record
    found = as_records([GOOD, {"input": 1}, 7, {**GOOD, "label": np.int64(2)}, record], labels=2)
    assert kinds(found) == [
        *((2, "missing_key"), (3, "not_object"), (4, "label_out_of_range")),
    ]
    kept = Problem(9, "not_json", "x")
    assert as_records(Records([record], [kept])).problems == [kept]
    for wrong in (GOOD, 5, None):
        with pytest.raises(DataError, match="as_records: expected a path"):
            as_records(wrong)
    unnormalised = TeacherRecord(0, 0, row=np.array([-1.0, -1.0]))
    assert as_records([unnormalised]).left_out == {"row_sum": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
KEY = st.sampled_from(
    [*KEYS, "x"],
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEY, JSON | st.integers(0, 3) | st.lists(st.floats(0, 1), max_size=3)))
def test_no_object_crashes_the_reader(fields):
    given_ = {"input": 1, "label": 0, **fields}
    found = as_records([given_])
    assert len(found) + sum(found.left_out.values()) == 1
    for record in found:
        assert record.log_probability is None or -math.inf < record.log_probability <= 0
        assert record.row is None or not np.isnan(record.row).any()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 40), st.booleans())
def test_no_bytes_crash_the_reader(tmp_path_factory, noise, place, whole):
    line = json.dumps({**GOOD, "log_probability": -0.5}).encode()
    file = tmp_path_factory.mktemp("r") / "r.jsonl"
    file.write_bytes(noise if whole else line[:place] + noise + line[place:])
    found = read_records(file)
    assert len(found) + len(found.problems) >= 1 or not file.read_bytes().strip()
    for problem in found.problems:
        assert str(problem)
