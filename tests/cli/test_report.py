"""``report`` from the shell."""

import json

import pytest

from limbeck.record import RunRecord


def save(folder, name, seed, accuracy):
    RunRecord(
        kind="train" if name.startswith("plain") else "distill",
        seed=seed,
        status="finished",
        curves={"loss task": [2.0, 1.0]},
        results={"last": {"test": {"accuracy": accuracy}}},
    ).save(folder / name / f"seed{seed}")


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / 'it\'s "here" <b>'
    for seed in range(2):
        for name, accuracy in (("plain", 0.5), ("plainer", 0.25), ("kd", 0.75)):
            save(folder, name, seed, accuracy + seed / 100)
    return folder


def test_the_file_is_written_and_named(limbeck, runs, tmp_path):
    out = tmp_path / "deep" / "report.html"
    said, _ = limbeck("report", runs, "--out", out)
    assert said.strip() == str(out)
    assert "2 runs" not in out.read_text("utf8")
    assert "6 runs" in out.read_text("utf8")


def test_control_figures_tables_and_json(limbeck, runs, tmp_path):
    folders = (tmp_path / "figures", tmp_path / "tables")
    found = limbeck.json(
        "report", runs, "--out", tmp_path / "r.html", "--control", "plainer", "--figures",
        folders[0], "--csv", folders[1],
    )  # fmt: skip
    assert found["control"] == "plainer"
    kd = next(row for row in found["rows"] if row["name"] == "kd")
    assert kd["difference"]["estimate"]["value"] == pytest.approx(0.5)
    names = {path.name for folder in folders for path in folder.iterdir()}
    assert names == {
        "loss-task.png",
        "loss-task.pdf",
        "results.csv",
        "differences.csv",
        "curves.csv",
    }
    written = [str(path) for folder in folders for path in folder.iterdir()]
    assert sorted(found["written"]) == sorted([str(tmp_path / "r.html"), *written])


def test_two_studies_are_compared(limbeck, runs, tmp_path):
    save(tmp_path / "other", "kd", 0, 0.9)
    out = tmp_path / "r.html"
    limbeck("report", runs, tmp_path / "other", "--out", out)
    text = out.read_text("utf8")
    assert "other/kd" in text
    assert "it&#39;s &#34;here&#34; &lt;b&gt;/kd" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--control", "nobody"], "nobody"),
        (["nowhere"], "expected a folder with record.json"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(limbeck, runs, tmp_path, arguments, said):
    out = tmp_path / "r.html"
    _, told = limbeck("report", runs, "--out", out, *arguments, code=2)
    assert said in " ".join(told.split())
    assert not out.exists()


def test_json_is_json_alone(limbeck, runs, tmp_path):
    said, _ = limbeck("report", runs, "--out", tmp_path / "r.html", "--json")
    assert set(json.loads(said)) >= {"verdict", "warnings", "metric", "rows", "written"}
