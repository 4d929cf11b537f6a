"""Forty kinds of bad input, each answered on one screen with what to do."""

from __future__ import annotations

import gzip
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.small import QUICK, good_teacher, network, rows
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import limbeck as lb
from limbeck.checks import LimbeckError
from limbeck.cli.arguments import Flags
from limbeck.cli.running import run_recipe
from limbeck.cli.weights import load_weights_from
from limbeck.training.building import build
from limbeck.training.saving import save_model
from limbeck.zoo.data import load_dataset


def distil(data=None, student=None, teacher=None, **options):
    """Distil small things, one of which is bad."""
    options = {"loss": "kd"} | options
    return lb.distill(
        student or network(), teacher or good_teacher(), data or rows(), **QUICK | options
    )


def recipe(folder: Path, **fields):
    """Run a recipe of the command line, one field of which is bad."""
    whole = {
        "data": "digits",
        "student": {"model": "zoo:small_cnn", "width": 4},
        "training": {"epochs": 1},
        "out": str(folder / "run"),
    } | fields
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(whole))
    run_recipe("train" if whole.get("teacher") is None else "distill", str(path), [], Flags())


def with_nan():
    """Return rows of which one holds a NaN."""
    x, y = rows()
    x[7, 2] = float("nan")
    return x, y


class Stream(IterableDataset):
    """A data set without positions."""

    def __iter__(self):
        return iter([])


class Ragged(Dataset):
    """Images of different sizes."""

    def __len__(self):
        return 16

    def __getitem__(self, position):
        return torch.zeros(3 + position % 2), position % 3


class Pairs(Dataset):
    """Rows that are read one by one."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, position):
        return self.inputs[position], self.targets[position]


class Silent(nn.Module):
    """A network with a layer that forward() does not call."""

    def __init__(self):
        super().__init__()
        self.body, self.unused = network(), nn.Linear(2, 2)

    def forward(self, x):
        return self.body(x)


def truncated_safetensors(folder: Path):
    """Load a student whose weights were cut."""
    save_model(network(), folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    lb.load(folder, model=network())


def corrupt_checkpoint(folder: Path):
    """Resume from bytes that are no checkpoint."""
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    distil(out=folder, resume=True)


def damaged_record(folder: Path):
    """Resume where the record is cut."""
    (folder / "record.json").write_text('{"schema_version": 1, "kind": "tra')
    distil(out=folder, resume=True)


def newer_record(folder: Path):
    """Open a record of a later version."""
    (folder / "record.json").write_text(
        json.dumps({"schema_version": 9, "kind": "train", "seed": 0})
    )
    lb.RunRecord.open(folder)


def other_run(folder: Path):
    """Write over a run that is there."""
    distil(out=folder)
    distil(out=folder)


def weights_of_another(folder: Path):
    """Load a state dict of another network."""
    torch.save(network(width=5).state_dict(), folder / "w.pt")
    load_weights_from(network(), folder / "w.pt")


def pickled_module(folder: Path):
    """Load a whole pickled module."""
    torch.save(network(), folder / "w.pt")
    load_weights_from(network(), folder / "w.pt")


def short_idx(folder: Path):
    """Read an IDX file that ends early."""
    header = np.array([0x803, 100, 28, 28], dtype=">i4").tobytes()
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + b"\0" * 50))
    load_dataset("mnist", folder=folder)


def one_class_folder(folder: Path):
    """Read an image folder with one class."""
    (folder / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "train" / "cat" / "1.png")
    load_dataset("folder", folder=folder)


def unreadable_image(folder: Path):
    """Read an image folder with a broken image."""
    for name in ("cat", "dog"):
        (folder / "train" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8)).save(folder / "train" / name / f"{number}.png")
    (folder / "train" / "dog" / "4.png").write_bytes(b"no image")
    load_dataset("folder", folder=folder)


x, y = rows()
wide = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 5))

CASES = {
    # recipes
    "unknown field": (lambda f: recipe(f, stduent={}), "`stduent`.*Did you mean student"),
    "unknown option": (
        lambda f: recipe(f, training={"epoch": 3}),
        r"`training\.epoch`.*Did you mean epochs",
    ),
    "another library's name of an option": (
        lambda f: recipe(f, training={"lr": 0.1}),
        r"`training\.lr`.*Did you mean learning_rate\?",
    ),
    "the same in Python": (lambda f: distil(lr=0.1), r"`lr`.*Did you mean learning_rate\?"),
    "a loss in capitals": (lambda f: distil(loss="KD"), r"got 'KD'\. Did you mean kd\?"),
    "wrong type": (
        lambda f: recipe(f, training={"epochs": "many"}),
        r"`training\.epochs`: .*valid integer.*'many'",
    ),
    "value out of range": (
        lambda f: recipe(f, training={"momentum": 1.5}),
        r"`training\.momentum`: .*less than 1.*1\.5",
    ),
    "missing field": (lambda f: recipe(f, student=None), "`student`"),
    "missing weights": (
        lambda f: recipe(f, student={"model": "zoo:small_cnn", "weights": "gone.safetensors"}),
        r"gone\.safetensors",
    ),
    "unknown network": (
        lambda f: recipe(f, student={"model": "zoo:resnet21"}),
        "Did you mean .*resnet20",
    ),
    "unknown argument": (
        lambda f: recipe(f, student={"model": "zoo:small_cnn", "widht": 4}),
        r"`student\.widht`.*Did you mean width",
    ),
    "unknown data set": (lambda f: recipe(f, data="digit"), "Did you mean digits"),
    "missing data folder": (
        lambda f: recipe(f, data={"name": "cifar10", "folder": str(f / "nowhere")}),
        "nowhere",
    ),
    "unknown loss": (
        lambda f: recipe(f, teacher={"model": "zoo:small_cnn"}, loss="itdr"),
        "Did you mean itrd",
    ),
    "unknown option of a loss": (
        lambda f: recipe(f, teacher={"model": "zoo:small_cnn"}, loss={"name": "kd", "tau": 2}),
        "temperature",
    ),
    "weight out of range": (lambda f: distil(weight=1.5), r"`weight` in \[0\.0, 1\.0\]; got 1\.5"),
    "weight that is no number": (lambda f: distil(weight="atuo"), "got 'atuo'"),
    "unknown task": (lambda f: distil(task="clasification"), "Did you mean classification"),
    "a loss for another task": (
        lambda f: distil(task="regression"),
        "Losses that fit: .*itrd, match",
    ),
    # data
    "no rows": (lambda f: distil((x[:0], y[:0])), "expected at least one row; got none"),
    "NaN in the inputs": (lambda f: distil(with_nan()), "NaN or infinity.*row 7"),
    "labels beyond the classes": (
        lambda f: distil((x, y + 1)),
        "labels from 0 to 2.*got 3 in row 2",
    ),
    "labels beyond the classes in a data set of items": (
        lambda f: distil(Pairs(x, y + 1)),
        "labels from 0 to 2.*got 3 in row",
    ),
    "labels below -1": (lambda f: distil((x, y - 5)), "-1 for unlabelled rows; got -5"),
    "one class": (lambda f: distil((x, torch.zeros_like(y))), "at least two classes; all 48"),
    "unequal lengths": (lambda f: distil((x, y[:40])), "inputs 48, targets 40"),
    "real-valued class labels": (lambda f: distil((x, y.float())), "integer class index.*float32"),
    "text as inputs": (lambda f: distil((np.array(["a", "b"]), [0, 1])), "arrays of numbers"),
    "a stream": (lambda f: distil(Stream()), "IterableDataset"),
    "something else": (lambda f: distil(7), "expected a Dataset.*got int"),
    "rows of unequal size": (lambda f: distil(Ragged()), "size|shape|stack"),
    "a short IDX file": (short_idx, "train-images"),
    "an image folder with one class": (one_class_folder, "at least two classes|one class"),
    "an unreadable image": (unreadable_image, r"4\.png"),
    # models
    "a student that takes other inputs": (
        lambda f: distil(student=nn.Linear(9, 3)),
        r"student: .*\(16, 6\) float32",
    ),
    "a teacher that takes other inputs": (
        lambda f: distil(teacher=nn.Linear(9, 3)),
        r"teacher: .*\(16, 6\) float32",
    ),
    "a teacher with other classes": (lambda f: distil(teacher=wide), "expected 3 classes.*got 5"),
    "a teacher that guesses": (
        lambda f: distil(
            teacher=nn.Sequential(nn.Linear(6, 3).requires_grad_(False), nn.Tanh()).apply(
                lambda m: m.weight.zero_() if isinstance(m, nn.Linear) else None
            )
        ),
        "where guessing gives",
    ),
    "a frozen student": (
        lambda f: distil(student=network().requires_grad_(False)),
        "all are frozen",
    ),
    "no module": (lambda f: distil(student="zoo:resnet20"), "expected a torch module; got str"),
    "a missing layer": (
        lambda f: distil(loss="itrd", layers={"student": "layer9", "teacher": "0"}),
        "got 'layer9'",
    ),
    "layers without a side": (
        lambda f: distil(loss="itrd", layers="0"),
        r'`layers` as \{"student": \[\.\.\.\], "teacher": \[\.\.\.\]\}.*got \'0\'',
    ),
    "layers as pairs": (
        lambda f: distil(loss="itrd", layers=[("0", "0")]),
        r"`layers` as .*got \[\('0', '0'\)\]",
    ),
    "layers that are no names": (
        lambda f: distil(loss="itrd", layers={"student": [0], "teacher": "0"}),
        r"`layers` as .*got \{'student': \[0\]",
    ),
    "a teacher by its folder": (
        lambda f: distil(teacher="runs/teacher"),
        r"the path 'runs/teacher'.*limbeck\.load.*limbeck\.TeacherStore\.open",
    ),
    "a layer that does not run": (
        lambda f: distil(student=Silent(), loss="itrd", layers={"student": "unused"}),
        "unused.*did not",
    ),
    "no penultimate layer": (
        lambda f: distil(student=nn.Sequential(nn.Linear(6, 3), nn.Tanh()), loss="itrd"),
        "expected a linear layer whose output is the model's output",
    ),
    "unknown package": (lambda f: build("no_such_package:net"), "no_such_package"),
    # files
    "truncated safetensors": (truncated_safetensors, "expected a whole safetensors file"),
    "weights of another network": (weights_of_another, r"other shape 0\.weight"),
    "a pickled module": (pickled_module, "w.pt"),
    "a corrupt checkpoint": (corrupt_checkpoint, "expected a whole checkpoint"),
    "a damaged record": (damaged_record, r"record\.json.*may be damaged"),
    "a newer record": (newer_record, "schema version 1"),
    "a folder that is in use": (other_run, "holds a run"),
    "a folder that cannot be": (lambda f: distil(out="/dev/null/run"), "Not a directory|another"),
    # machine
    "a device that is not there": (lambda f: distil(device="cuda:5"), "expected one of cpu"),
    "a device that does not exist": (lambda f: distil(device="abacus"), "got 'abacus'"),
    "losses that explode": (
        lambda f: distil(weight=0.0, learning_rate=1e30),
        "Lower `learning_rate`",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_bad_input_is_answered_on_one_screen(kind, tmp_path, monkeypatch, without_shape_hook):
    monkeypatch.setenv("NO_COLOR", "1")
    bad, expected = CASES[kind]
    with pytest.raises(LimbeckError, match=f"(?s){expected}") as raised:
        bad(tmp_path)
    screen = [part for line in str(raised.value).splitlines() for part in textwrap.wrap(line, 100)]
    assert 0 < len(screen) <= 24
    assert "Traceback" not in str(raised.value)
    assert raised.value.__cause__ is None or isinstance(raised.value.__cause__, OSError)


def test_there_are_forty_kinds():
    assert len(CASES) >= 40
