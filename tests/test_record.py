import getpass
import json
import math
import platform
import sys

import pytest

from limbeck import RunRecord
from limbeck.checks import DataError
from limbeck.record import hardware, this_command, versions


def record(**more):
    return RunRecord(kind="distill", seed=3, **more)


def test_round_trip(tmp_path):
    saved = record(
        settings={"lr": 0.1, "layers": ["a", "b"]},
        results={"last": {"test": {"accuracy": 0.25}}},
        warnings=["Überanpassung"],
        status="finished",
    )
    saved.add_to_curves({"loss": 0.5})
    path = saved.save(tmp_path / "run")
    assert path == tmp_path / "run" / "record.json"
    assert RunRecord.open(path) == RunRecord.open(tmp_path / "run") == saved


def test_a_run_that_diverged_can_be_read_again(tmp_path):
    saved = record(results={"last": {"test": {"mse": math.nan, "mae": math.inf}}})
    saved.add_to_curves({"loss": math.nan})
    text = saved.save(tmp_path).read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    found = RunRecord.open(tmp_path)
    assert math.isnan(found.results["last"]["test"]["mse"])
    assert found.results["last"]["test"]["mae"] == math.inf
    assert math.isnan(found.curves["loss"][0])


def test_curves_that_start_late_or_pause():
    one = record()
    one.add_to_curves({"loss": 3.0})
    one.add_to_curves({"loss": 2.0, "accuracy": 0.5})
    one.add_to_curves({"accuracy": 0.75})
    one.add_to_curves({})
    assert one.curves == {"loss": [3.0, 2.0, None, None], "accuracy": [None, 0.5, 0.75, None]}


def test_records_do_not_share_their_curves():
    record().add_to_curves({"loss": 1.0})
    assert record().curves == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
    ],
)
def test_another_layout_is_refused(tmp_path, change, message):
    path = record().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        RunRecord.open(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 100, -3])
def test_a_damaged_file_is_refused(tmp_path, cut):
    path = record().save(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="may be damaged"):
        RunRecord.open(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="may be damaged"):
        RunRecord.open(tmp_path)


def test_no_record(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        RunRecord.open(tmp_path)


def test_nothing_names_the_person_or_the_machine(tmp_path, monkeypatch):
    home, here = tmp_path / "home" / "ada.lovelace", tmp_path / "home" / "ada.lovelace" / "work"
    here.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    arguments = ["train", f"{here}/recipe.yaml", f"out={here}/runs/a b", f"{home}/teacher"]
    monkeypatch.setattr(sys, "argv", [f"{home}/.venv/bin/limbeck", *arguments])
    assert this_command() == "limbeck train recipe.yaml 'out=runs/a b' '~/teacher'"
    text = record(command=this_command()).save(tmp_path).read_text()
    words = json.dumps([hardware(), versions()]) + text
    assert "ada.lovelace" not in words
    assert platform.node() not in text
    assert getpass.getuser() not in json.dumps([hardware(), versions()])
    assert str(tmp_path) not in words
    assert not any(str(part).startswith("/") for part in json.loads(text).values())


def test_hardware_and_versions_say_what_numbers_depend_on():
    assert {"machine", "processor", "cores", "threads"} <= set(hardware())
    assert versions()["python"] == platform.python_version()
    assert set(versions()) == {"python", "limbeck", "torch", "accelerate", "numpy", "scikit-learn"}
