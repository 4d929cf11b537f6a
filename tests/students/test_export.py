"""Exported programs, read back by torch and onnxruntime."""

import copy
import importlib.util
import json
import sys

import pytest
import torch
from helpers.students import (
    STUDENTS,
    Bag,
    bag_inputs,
    images,
    needs_onnx,
    needs_torchao,
    scrambled,
    seeded,
    small,
    trained,
)
from torch import nn

from limbeck.checks import (
    ArgumentError,
    DataError,
    ModelError,
    StorageError,
)
from limbeck.students.export import export
from limbeck.students.packed_file import fixed, load_packed
from limbeck.students.quantised import quantised


module = sys.modules["limbeck.students.export"]  # the function hides it in the package


@pytest.fixture(params=STUDENTS)
def student(request):
    return trained(STUDENTS[request.param]())


def test_programs_of_torch(student, tmp_path):
    x = images()
    made = export(student, x, tmp_path / "out")
    student.eval()
    assert made.program == tmp_path / "out" / "student.pt2"
    program = torch.export.load(made.program).module()
    other = images(3, seed=5)
    torch.testing.assert_close(program(other), student(other), atol=2e-2, rtol=0)
    apart = (program(x) - student(x)).abs().max().item()
    assert made.parity.max_difference == pytest.approx(apart, abs=1e-3)
    assert (made.parity.rows, made.parity.same_answer) == (6, 1.0)
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["parity"]["rows"] == 6
    assert record["program"] == "student.pt2"
    assert [row["layer"] for row in record["sizes_in_bytes"]] == ["0", "1", "3", "4.1", "7"]
    assert torch.equal(load_packed(scrambled(student), made.packed)(x), student(x))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "student.pt2", "student.safetensors", "export.json",
    }  # fmt: skip


@needs_onnx
@pytest.mark.parametrize("name", ["bits=8", "bits=1", "binary"])
def test_programs_of_onnx(name, tmp_path):
    import onnxruntime

    student = trained(STUDENTS[name]())
    made = export(student, images(), tmp_path, format="onnx")
    student.eval()
    session = onnxruntime.InferenceSession(made.program, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["inputs"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    for rows in (1, 4):
        x = images(rows, seed=5)
        (found,) = session.run(None, {"inputs": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), student(x), atol=2e-2, rtol=0)
    assert made.parity.same_answer == 1.0
    assert made.parity.max_difference < 2e-2


@needs_onnx
@needs_torchao
def test_named_inputs_and_layers_of_torchao(tmp_path):
    import onnxruntime

    model = trained(quantised(seeded(Bag), bits=4), bag_inputs())
    for format, suffix in (("onnx", "onnx"), ("torch", "pt2")):
        made = export(model, bag_inputs(), tmp_path, format=format)
        assert made.program.name == f"student.{suffix}"
        assert made.parity.max_difference < 1e-5
    model.eval()
    given = bag_inputs(3)
    session = onnxruntime.InferenceSession(
        tmp_path / "student.onnx", providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    torch.testing.assert_close(torch.from_numpy(found), model(**given)["logits"])
    program = torch.export.load(tmp_path / "student.pt2").module()
    torch.testing.assert_close(program(*given.values()), model(**given)["logits"])


def test_plain_students_have_nothing_packed(tmp_path):
    made = export(trained(small()), images(), tmp_path)
    assert made.packed is None
    assert made.parity.max_difference < 1e-5
    assert all(row.float_bytes == row.packed_bytes for row in made.sizes)
    assert json.loads((tmp_path / "export.json").read_text())["packed"] is None


def test_the_model_is_left_alone(tmp_path):
    model = trained(quantised(small(), bits=4).double(), images(16).double())
    before = copy.deepcopy(model.state_dict())
    made = export(model, images(), tmp_path)  # float32 inputs are made those of the model
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert made.parity.max_difference < 1e-2


def test_programs_that_disagree_are_not_written(tmp_path, monkeypatch):
    model = trained(quantised(small(), bits=1))
    monkeypatch.setattr(module, "fixed", lambda m: _turned(fixed(m)))
    made_none = tmp_path / "out"
    with pytest.raises(ModelError, match=r"answer as Sequential does on 90% of 6 rows; got 0%"):
        export(model, images(), made_none)
    assert not made_none.exists()
    made = export(model, images(), made_none, agreement=0.0)
    assert made.parity.same_answer == 0.0
    assert made.parity.max_difference > 0


def _turned(model):
    with torch.no_grad():
        model[7].weight.neg_()
        model[7].bias.neg_()
    return model


def test_parity_by_hand():
    wanted = torch.tensor([[1.0, 2.0], [4.0, 3.0], [0.0, 1.0], [5.0, 0.0]])
    found = torch.tensor([[1.0, 2.5], [3.0, 3.5], [0.0, 1.0], [5.0, 0.0]])
    parity = module._parity(wanted, found)
    assert (parity.rows, parity.max_difference, parity.same_answer) == (4, 1.0, 0.75)


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"missing are onnx, .*'limbeck\[export\]'"):
        export(small(), images(), tmp_path, format="onnx")


@pytest.mark.usefixtures("without_shape_hook")
def test_messages_of_export(tmp_path):
    with pytest.raises(ArgumentError, match="export: expected `format` to be one of torch, onnx"):
        export(small(), images(), tmp_path, format="onx")
    with pytest.raises(ArgumentError, match="export: expected `agreement`"):
        export(small(), images(), tmp_path, agreement=2.0)
    with pytest.raises(DataError, match=r"export: expected inputs with two rows .*got \[1\]"):
        export(small(), images(1), tmp_path)
    uneven = {"ids": torch.zeros(3, 2), "mask": torch.zeros(2, 2)}
    with pytest.raises(DataError, match=r"got \[2, 3\]"):
        export(Bag(), uneven, tmp_path)
    with pytest.raises(ModelError, match="export: expected Sequential to take a batch of"):
        export(small(), torch.zeros(2, 5), tmp_path)

    class Branching(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum().item() > 0 else -x.flatten(1)

    with pytest.raises(ModelError, match=r"torch\.export can trace .*Branching failed"):
        export(Branching(), images(), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        export(trained(small()), images(), tmp_path / "file")
