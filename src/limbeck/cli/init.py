"""``limbeck init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


_DIGITS = """\
# Distil a large network for handwritten digits into a small one (a minute on a laptop).
# First:  limbeck train digits.yaml teacher=null student.width=32 student.depth=3 out=runs/teacher
# Then:   limbeck distill digits.yaml --seeds 5
seed: 0
out: runs/digits
data: {name: digits}                        # ships with scikit-learn
teacher: {folder: runs/teacher}             # or {model: "zoo:...", weights: FILE}
student: {model: "zoo:small_cnn", width: 4, depth: 2}
loss: kd                                    # kd, itrd, match; or {name: kd, temperature: 4}
weight: null                                # share of the loss in [0, 1]; null: as published
training: {epochs: 30, batch_size: 64, learning_rate: 0.05, schedule: cosine}
"""

_CIFAR = """\
# The CIFAR-100 comparison of the literature: {teacher} into {student}, 240 epochs.
# Teacher:  limbeck train RECIPE teacher=null student.model=zoo:{teacher} out=runs/{teacher}
seed: 0
out: runs/cifar100-{student}
data: {{name: cifar100, folder: data/cifar100, validation: 0.1}}
teacher: {{folder: runs/{teacher}}}          # or {{model: "zoo:{teacher}", weights: FILE}}
student: {{model: "zoo:{student}"}}
loss: itrd          # kd, itrd, match; several: {{kd: {{weight: 0.5}}, itrd: {{}}}}
weight: null                              # null: the published additive combination
training:
  epochs: 240
  batch_size: 64
  learning_rate: 0.05
  milestones: [150, 180, 210]             # the rate falls to a tenth after each
  weight_decay: 0.0005
"""

_FASHION = """\
# Fashion-MNIST; on Debian and Ubuntu: apt-get install dataset-fashion-mnist
# First:  limbeck train RECIPE teacher=null student.width=64 out=runs/fashion-teacher
seed: 0
out: runs/fashion
data: {name: fashion-mnist, labels: 1.0}    # labels: 0.1 keeps a tenth of the labels
teacher: {folder: runs/fashion-teacher}
student: {model: "zoo:small_cnn", width: 8}
loss: {name: kd, temperature: 4}
weight: null                                # null: the published additive combination
training: {epochs: 30, batch_size: 128, learning_rate: 0.05, schedule: cosine}
"""

_FOLDER = """\
# Your own images: data/train/CLASS/NAME.png, and perhaps data/val and data/test.
# First:  limbeck train RECIPE teacher=null student.model=zoo:resnet56 out=runs/own-teacher
seed: 0
out: runs/own
data: {name: folder, folder: data, size: 32}
teacher: {folder: runs/own-teacher}         # or {model: "package.module:callable", weights: FILE}
student: {model: "zoo:resnet20"}            # class count and channels are the data's
loss: itrd
weight: null                                # null: the published additive combination
training: {epochs: 60, batch_size: 64, learning_rate: 0.05, patience: 20}
"""

RECIPES = {
    "digits": _DIGITS,
    "cifar100/resnet56-resnet20": _CIFAR.format(teacher="resnet56", student="resnet20"),
    "cifar100/resnet32x4-resnet8x4": _CIFAR.format(teacher="resnet32x4", student="resnet8x4"),
    "fashion-mnist": _FASHION,
    "folder": _FOLDER,
}


def init(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it. Default: standard output.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help=f"Which recipe: {', '.join(RECIPES)}.", show_default=True)
    ] = "digits",
) -> None:
    """Print a recipe to start from, with remarks."""
    from limbeck.checks import RecipeError, check_choice
    from limbeck.files import write_text

    check_choice("init", "--recipe", recipe, RECIPES)
    if file is None:
        typer.echo(RECIPES[recipe], nl=False)
        return
    if file.exists():
        raise RecipeError(f"{file}: expected a new file; there is one. Choose another name.")
    write_text(file, RECIPES[recipe])
    typer.echo(str(file))
