"""Tables and JSON against the records they are made of."""

import csv
import json
import math

import pytest
from scipy import stats

from limbeck.record import RunRecord
from limbeck.report import read_study
from limbeck.report.export import comparison_dict, write_figures, write_tables
from limbeck.report.html import contents, pictures_of


NASTY = '<script>alert(1)</script>, "quoted"'
ACCURACY = {"control": [0.5, 0.6], "kd": [0.75, 0.8]}


@pytest.fixture
def study(tmp_path):
    bins = [
        {"rows": 0, "confidence": None, "accuracy": None},
        {"rows": 4, "confidence": 0.75, "accuracy": 0.5},
    ]
    details = {
        "part": "test",
        "classes": {"rows": [3, 1], "right": [2, 0], "predicted": [4, 0]},
        "calibration": {"error": 0.25, "bins": bins},
        "agreement": {"teacher": {"rows": 4, "same_class": 0.75, "kl": 0.125}},
    }
    for name, values in ACCURACY.items():
        for seed, value in enumerate(values):
            RunRecord(
                kind="train" if name == "control" else "distill",
                seed=seed,
                status="finished",
                data={"class_names": ["zero", NASTY]},
                curves={"loss task": [2.0, 1.0 + seed], "validation accuracy": [None, value]},
                results={"last": {"test": {"accuracy": value, "cross_entropy": 1.5}}},
                details=details if name == "kd" else {},
                time={"seconds": 3.0},
                memory={"resident": 100.5},
            ).save(tmp_path / "runs" / name / f"seed{seed}")
    return read_study([tmp_path / "runs"])


def table(path):
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_the_numbers_of_the_records_with_their_units(study, tmp_path):
    paths = {path.stem: path for path in write_tables(study, tmp_path / "csv")}
    assert list(paths) == [
        "results", "differences", "curves", "classes", "calibration", "agreement",
    ]  # fmt: skip
    results = table(paths["results"])
    assert [
        (row["network"], int(row["seed"]), float(row["accuracy [fraction]"])) for row in results
    ] == [
        (name, seed, value) for name, found in ACCURACY.items() for seed, value in enumerate(found)
    ]
    assert results[0]["cross_entropy [nats]"] == "1.5"
    assert (results[0]["moment"], results[0]["rows"], results[0]["status"]) == (
        "last",
        "test",
        "finished",
    )
    assert results[0]["time of the run [s]"] == "3.0"
    assert results[0]["peak resident memory [MiB]"] == "100.5"
    curves = table(paths["curves"])
    assert len(curves) == 8
    assert curves[3] == {
        "network": "control", "seed": "1", "epoch": "2", "loss task [nats]": "2.0",
        "validation accuracy [fraction]": "0.6",
    }  # fmt: skip
    assert curves[0]["validation accuracy [fraction]"] == ""
    classes = table(paths["classes"])
    assert [row["class"] for row in classes] == ["zero", NASTY] * 2
    assert float(classes[0]["recall [fraction]"]) == pytest.approx(2 / 3)
    assert float(classes[0]["precision [fraction]"]) == 0.5
    assert (classes[1]["recall [fraction]"], classes[1]["precision [fraction]"]) == ("0.0", "")
    calibration = table(paths["calibration"])
    assert [row["confidence up to [fraction]"] for row in calibration] == ["0.5", "1.0"] * 2
    assert [row["accuracy [fraction]"] for row in calibration[:2]] == ["", "0.5"]
    assert table(paths["agreement"])[1]["KL [nats]"] == "0.125"


def test_differences_are_those_of_the_paired_test(study, tmp_path):
    paths = {path.stem: path for path in write_tables(study, tmp_path)}
    control, method = table(paths["differences"])
    paired = stats.ttest_rel(ACCURACY["kd"], ACCURACY["control"]).confidence_interval(0.95)
    assert float(method["difference [fraction]"]) == pytest.approx(0.225)
    assert float(method["difference from [fraction]"]) == pytest.approx(paired.low)
    assert float(method["difference to [fraction]"]) == pytest.approx(paired.high)
    assert (method["verdict"], method["seeds won"], method["seeds compared"]) == (
        "inconclusive" if paired.low <= 0 else "better",
        "2",
        "2",
    )
    assert (control["difference [fraction]"], control["verdict"]) == ("", "")


def test_json_is_the_comparison(study):
    found = json.loads(json.dumps(comparison_dict(study), allow_nan=False))
    assert (found["metric"], found["part"], found["control"]) == ("accuracy", "test", "control")
    control, method = found["rows"]
    assert control["values"] == {"0": 0.5, "1": 0.6}
    assert control["difference"] is None
    assert method["estimate"]["value"] == pytest.approx(0.775)
    assert method["difference"]["estimate"]["value"] == pytest.approx(0.225)
    assert (method["difference"]["wins"], method["difference"]["pairs"]) == (2, 2)
    assert found["verdict"].startswith("Against")


def test_without_an_interval_json_has_no_infinity(tmp_path):
    results = {"last": {"test": {"accuracy": 0.5}}}
    RunRecord(kind="train", seed=0, status="finished", results=results).save(tmp_path / "kd")
    found = json.loads(json.dumps(comparison_dict(read_study([tmp_path])), allow_nan=False))
    assert found["rows"][0]["estimate"]["lower"] is None
    assert found["rows"][0]["seconds"] is None
    (path,) = [one for one in write_tables(read_study([tmp_path]), tmp_path) if "diff" in one.name]
    row = table(path)[0]
    assert (row["from [fraction]"], row["mean [fraction]"]) == ("", "0.5")
    RunRecord(kind="train", seed=0, status="running").save(tmp_path / "kd")
    found = comparison_dict(read_study([tmp_path]))
    assert (found["metric"], found["rows"]) == (None, [])
    assert not math.isnan(len(found["warnings"]))


def test_every_figure_of_the_page_is_written_twice_under_its_own_name(study, tmp_path):
    paths = write_figures(study, tmp_path)
    names = [path.name for path in paths]
    assert len(names) == len(set(names)) == 2 * len(list(pictures_of(contents(study))))
    assert {
        "calibration.png",
        "calibration.pdf",
        "loss-task.png",
        "validation-accuracy.pdf",
    } <= set(names)
    assert all(path.stat().st_size > 1000 for path in paths)
