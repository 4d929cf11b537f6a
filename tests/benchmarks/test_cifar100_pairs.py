"""The slices of the published comparison, end to end at toy scale: digits instead of CIFAR-100."""

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file


FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TOY = (
    *("data.name=digits", "data.limit=64", "training.epochs=2", "training.batch_size=32"),
    "training.checkpoint_seconds=0",
)


@pytest.fixture
def pairs(monkeypatch, tmp_path):
    """Return the script's module, which writes its result into a folder of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("common", "cifar100_pairs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import cifar100_pairs  # pyright: ignore[reportMissingImports]
    import common  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    return cifar100_pairs


def called(pairs, monkeypatch, capsys, *options: str) -> list[dict]:
    monkeypatch.setattr(sys, "argv", ["cifar100_pairs.py", *options])
    pairs.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line[:1] == "{"]


@pytest.mark.slow
def test_slices_go_on_to_the_end(pairs, monkeypatch, capsys, tmp_path):
    options = (
        *("--data", "null", "--out", str(tmp_path / "runs"), "--device", "cpu"),
        *("--pairs", "wrn_40_2-wrn_16_2", "--methods", "itrd", "--changes", *TOY),
    )
    assert called(pairs, monkeypatch, capsys, "--minutes", "0.0", *options) == []
    # Cut short while Python still starts: the run is told to stop, and is gone on with below.
    first = called(pairs, monkeypatch, capsys, "--minutes", "0.02", *options)
    cells = called(pairs, monkeypatch, capsys, "--minutes", "9", "--final", *options)
    names = ["train/wrn_40_2", "train/wrn_16_2", "itrd/wrn_40_2-wrn_16_2"]
    assert [cell["recipe"] for cell in cells] == names
    assert len(first) < len(cells)
    assert [cell["epochs"] for cell in cells] == [2, 2, 2]
    assert "76.12" in cells[2]["comment"]
    assert all(0 <= cell["last_percent"] <= 100 for cell in cells)
    written = json.loads((tmp_path / "results" / "cifar100_pairs.json").read_text())
    assert [cell["recipe"] for cell in written["runs"]] == names
    assert written["planned"] == 3
    half = load_file(tmp_path / "runs" / "train" / "wrn_40_2" / "weights-fp16.safetensors")
    assert {str(one.dtype) for one in half.values() if one.is_floating_point()} == {"torch.float16"}
    records = {name: (tmp_path / "runs" / name / "record.json") for name in names}
    before = {name: path.stat().st_mtime_ns for name, path in records.items()}
    assert called(pairs, monkeypatch, capsys, *options) == cells
    assert {name: path.stat().st_mtime_ns for name, path in records.items()} == before


def test_teachers_come_before_their_students(pairs):
    runs = list(pairs.planned(list(pairs.PAIRS), list(pairs.METHODS)))
    seen: set[str] = set()
    for one in runs:
        assert one.teacher is None or one.teacher in seen
        seen.add(one.recipe)
    assert len(seen) == len(runs) == 10
