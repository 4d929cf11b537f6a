"""``limbeck export``: programs and folders of a run's student."""

import json
import shutil

import pytest
import torch
import typer
from helpers.students import needs_onnx
from typer.testing import CliRunner

import limbeck as lb
from limbeck.checks import ArgumentError, ModelError
from limbeck.cli.export import export
from limbeck.zoo.data import load_dataset


@pytest.fixture
def call():
    """Return a caller of the command: what it prints; its errors are raised."""
    app = typer.Typer()
    app.command()(export)

    def run(*arguments):
        done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=True)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_a_program_answers_as_the_student_does(call, teacher, tmp_path):
    said = call(teacher, "--format", "torch", "--out", tmp_path / "out", "--rows", 20, "--json")
    found = json.loads(said)
    assert found["rows"] == 20
    assert found["same answer"] == 1.0
    assert found["largest difference of logits"] <= found["allowed"]
    program = torch.export.load(found["program"]).module()
    images = load_dataset("digits").test.source.inputs[30:60].float() / 255
    with torch.no_grad():
        torch.testing.assert_close(program(images), lb.load(teacher)(images), atol=1e-4, rtol=0)
    card = (tmp_path / "out" / "README.md").read_text("utf8")
    assert "| data | digits |" in card
    assert "on 539 test rows" in card
    assert "student.pt2 against the student on 20 rows" in card


@needs_onnx
def test_onnx_is_the_default_and_lies_in_the_runs_folder(call, teacher, tmp_path):
    run = shutil.copytree(teacher, tmp_path / "run")
    said = call(run)
    assert (run / "export" / "student.onnx").is_file()
    assert "64" in said


def test_a_folder_to_give_away(call, teacher, tmp_path):
    found = json.loads(call(teacher, "--format", "safetensors", "--out", tmp_path, "--json"))
    assert found["card"] == str(tmp_path / "README.md")
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(lb.load(tmp_path)(images), lb.load(teacher)(images))
    best = json.loads(
        call(teacher / "best", "--format", "safetensors", "--out", tmp_path / "b", "--json")
    )
    assert best["folder"] == str(tmp_path / "b")


def test_what_is_refused(call, teacher, recipe, tmp_path):
    out = ("--format", "torch", "--out", tmp_path / "out")
    with pytest.raises(ModelError, match="within 0 of those of"):
        call(teacher, *out, "--tolerance", 0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArgumentError, match="--data-of or --data; got both"):
        call(teacher, *out, "--data-of", recipe, "--data", "digits")
    alone = shutil.copytree(teacher / "student", tmp_path / "alone")
    with pytest.raises(ArgumentError, match=r"expected recipe\.yaml beside the model"):
        call(alone, *out)
    with pytest.raises(ModelError, match=r"expected record\.json"):
        call(alone, "--format", "safetensors", "--out", tmp_path / "x")
    assert json.loads(call(alone, *out, "--data", "digits", "--json"))["card"] is None
