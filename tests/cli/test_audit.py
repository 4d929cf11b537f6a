"""``limbeck audit``."""

import json
import subprocess
import sys

import pytest
from helpers.simulated_records import law, records

from limbeck.records import write_records


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    rows = law(0, inputs=10, labels=6, concentration=2.0)
    clean = write_records(folder / "clean.jsonl.gz", records(rows, 300, 0, privilege="soft_labels"))
    warm = records(rows, 300, 0, privilege="soft_labels", power=2.0)
    return clean, write_records(folder / "warm.jsonl", warm)


def test_a_clean_set_ends_with_0(limbeck, files):
    said, remarks = limbeck("audit", files[0])
    assert "300 records, 300 draws, 10 inputs" in said
    assert "No fault found." in said
    assert "cost_of_probability_weighting" in said
    assert remarks == ""


def test_a_serious_fault_ends_with_1_and_is_written(limbeck, files, tmp_path):
    said, _ = limbeck("audit", files[1], "--out", tmp_path / "new", code=1)
    assert "serious: temperature" in said
    saved = json.loads((tmp_path / "new" / "audit.json").read_text())
    printed, remarks = limbeck("audit", files[1], "--json", "--out", tmp_path / "new", code=1)
    assert json.loads(printed) == saved
    assert "audit.json" in remarks
    assert saved["passed"] is False
    assert saved["findings"][0]["name"] == "temperature"


def test_labels_and_confidence_are_used(limbeck, files):
    found = limbeck.json("audit", files[0], "--labels", "6", "--confidence", "0.9")
    assert (found["labels"], found["settings"]["confidence"]) == (6, 0.9)
    _, said = limbeck("audit", files[0], "--labels", "5", code=2)
    assert "expected teacher records; got none that can be used" in " ".join(said.split())
    assert "label_out_of_range" in said


def test_what_is_given_wrongly_ends_with_2(limbeck, tmp_path):
    _, said = limbeck("audit", tmp_path / "absent.jsonl", code=2)
    assert "no such file" in said
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    _, said = limbeck("audit", empty, code=2)
    assert "Give one JSON object a line" in " ".join(said.split())
    limbeck("audit", empty, "--labels", "0", code=2)
    _, said = limbeck("audit", empty, "--confidence", "2", code=2)
    assert "`confidence`" in said


def test_help_documents_exit_codes_and_loads_nothing(limbeck):
    said, _ = limbeck("audit", "--help")
    assert "Exit codes: 0 nothing serious found; 1 a serious fault" in " ".join(said.split())
    script = (
        "import sys\nfrom limbeck.cli.main import app\n"
        "try:\n    app(['audit', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]")
