"""The report's section on what was left to distil."""

import html
import json
import re

import pytest

from limbeck.record import RunRecord
from limbeck.report.beside import read_beside
from limbeck.report.bits import section
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
    assert [figure["title"] for figure in found["figures"]] == [
        "What teacher and student know about the targets",
        "Distilled and distillable bits over students",
    ]
    assert all(figure["picture"].svg().startswith("<svg role=") for figure in found["figures"])
    assert [row["gap"] for row in found["rows"]] == [("", ""), ("", "")]


def test_the_gap_of_scores_and_its_verdict_stand_beside_the_bits():
    told = {"gap": {"value": 1.5, "lower": -0.25, "upper": 3.0}, "verdict": "cannot tell"}
    found = section(measurement(entry("after", 0.5) | told, entry("of old", 0.5)))
    after, old = found["rows"]
    assert after["gap"] == ("+1.50", "-0.25 to +3.00")
    assert after["verdict"] == "cannot tell"
    assert old["gap"] == ("", "")
    assert old["verdict"] == entry("of old", 0.5)["estimate"]["verdict"] != "cannot tell"


def heads_of(page, title):
    """Return what stands over the columns of the first table after a title, but for the first."""
    table = page[page.index(title) :]
    return re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table[: table.index("</thead>")])[1:]


def labels_of(page, title):
    """Return what the cells of its first row are called where they are stacked on a phone."""
    table = page[page.index(title) :]
    row = table[table.index("<tbody>") : table.index("</tr>", table.index("<tbody>"))]
    assert '<table class="results">' in table[: table.index("<thead>")]
    return re.findall('data-label="(.*?)"', row)


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
    assert labels_of(text, "What was left to distil") == heads_of(text, "What was left to distil")


def test_without_a_measurement_there_is_no_section(tmp_path):
    record = RunRecord(kind="train", seed=0, status="finished")
    record.results = {"last": {"test": {"accuracy": 0.5}}}
    record.save(tmp_path / "control" / "seed0")
    assert read_beside([tmp_path]).measurements == {}
    assert "left to distil" not in write_report([tmp_path], tmp_path / "r.html").read_text("utf8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected what limbeck measure writes; Expecting property name"),
        ('{"kind": "run"}', "it holds something else"),
        ("[]", "it holds something else"),
        ('{"kind": "measurement"}', "it has no entries, warnings"),
        (json.dumps(measurement() | {"entries": [{"student": "a"}]}), "KeyError: 'estimate'"),
    ],
)
def test_another_file_is_named_and_left_out(tmp_path, text, said):
    record = RunRecord(kind="train", seed=0, status="finished")
    record.save(tmp_path / "control" / "seed0")
    (tmp_path / "measurement").mkdir()
    (tmp_path / "measurement" / "measurement.json").write_text(text, "utf8")
    page = html.unescape(write_report([tmp_path], tmp_path / "r.html").read_text("utf8"))
    assert said in page[: page.index("How it was made")]
    assert "What was left to distil" not in page
