"""The report's section on what was left to distil."""

import json

import pytest

from limbeck.checks import DataError
from limbeck.record import RunRecord
from limbeck.report.bits import read_measurement, section
from limbeck.report.html import write_report


def estimate(value, status="resolved"):
    return {
        "value": value,
        "lower": value - 0.1,
        "upper": value + 0.2,
        "n": 791,
        "unit": "bits",
        "status": status,
        "settings": {},
        "raw": value,
    }


def entry(student, distillable, warnings=(), status="resolved"):
    found = {
        name: estimate(1.5)
        for name in (
            "redundant",
            "unique_student",
            "synergistic",
            "mutual_teacher",
            "mutual_student",
            "mutual_joint",
        )
    }
    found |= {"unique_teacher": estimate(distillable, status), "target_entropy": 3.0}
    found |= {"verdict": "distil", "warnings": list(warnings), "null": {}}
    layers = {"teacher_layer": "penultimate", "student_layer": "penultimate"}
    return {"teacher": "t", "student": student, **layers, "estimate": found}


def measurement(*entries):
    return {"kind": "measurement", "entries": list(entries), "warnings": ["too few."]}


def test_numbers_and_warnings_are_words():
    found = section(
        measurement(
            entry("before", 0.75, ["few rows.", "no synergy."], "unresolved"),
            entry("after", 0.25, ["few rows."]),
        )
    )
    assert found["rows"][0]["cells"][0] == ("unresolved", "0.65 to 0.95")
    assert found["rows"][1]["cells"][0] == ("0.25", "0.15 to 0.45")
    assert found["rows_used"] == 791
    assert found["warnings"] == ["Too few.", "Few rows.", "Before: no synergy."]
    assert found["svg"].startswith("<svg")
    assert [row["gap"] for row in found["rows"]] == ["", ""]


def test_the_gap_of_scores_stands_beside_the_bits():
    known = {"student": {"before": {"value": 2.5}, "after": {"value": 0.5}}}
    known["teacher"] = {"t": {"value": 1.0}}
    rows = [entry(name, 0.5) for name in ("before", "after", "unknown")]
    found = section(measurement(*rows) | {"cross_entropy": known})
    assert [row["gap"] for row in found["rows"]] == ["+1.50", "-0.50", ""]


def test_it_stands_in_the_report_and_names_are_escaped(tmp_path):
    record = RunRecord(kind="train", seed=0, status="finished")
    record.results = {"last": {"test": {"accuracy": 0.5}}}
    record.save(tmp_path / "control" / "seed0")
    folder = tmp_path / "measurement"
    folder.mkdir()
    held = measurement(entry("<b>bold</b>", 0.75))
    (folder / "measurement.json").write_text(json.dumps(held), "utf8")
    text = write_report([tmp_path], tmp_path / "report.html").read_text("utf8")
    assert "What was left to distil" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold" not in text
    assert "0.65 to 0.95" in text


def test_without_a_measurement_there_is_no_section(tmp_path):
    record = RunRecord(kind="train", seed=0, status="finished")
    record.results = {"last": {"test": {"accuracy": 0.5}}}
    record.save(tmp_path / "control" / "seed0")
    assert read_measurement(tmp_path) is None
    assert "left to distil" not in write_report([tmp_path], tmp_path / "r.html").read_text("utf8")


@pytest.mark.parametrize("text", ["{", '{"kind": "run"}', "[]"])
def test_another_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "measurement").mkdir()
    (tmp_path / "measurement" / "measurement.json").write_text(text, "utf8")
    with pytest.raises(DataError, match=r"measurement\.json: expected"):
        read_measurement(tmp_path)
