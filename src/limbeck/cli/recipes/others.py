"""Recipes outside of the CIFAR-100 pairs: first steps, ImageNet, linear probes."""

from __future__ import annotations

from typing import Any

from limbeck.cli.recipes.composing import flow, joined, loss_lines, weight_line


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

_TEXT = """\
# Classify texts: a table with columns text and label (docs/text.md), and in the folder `encoder`
# a model that transformers saved with its tokenizer. The number of classes is the data's.
# First:  limbeck train RECIPE teacher=null 'student={model: "hf:encoder", num_labels: 2}' \\
#             training.learning_rate=5e-5 training.epochs=4 out=runs/reviews-teacher
# Then:   limbeck distill RECIPE --seeds 3
seed: 0
out: runs/reviews
data:
  module: "limbeck.zoo.text:load_text"
  options: {table: reviews.csv, tokenizer: encoder, tokens: 64, labels: 1.0}   # or labels: 200
teacher: {folder: runs/reviews-teacher}     # or {model: "hf:FOLDER"}, of the same tokenizer
student:                                    # new, like the encoder in all that is not said here
  model: "hf-config:encoder"
  num_hidden_layers: 2
  hidden_size: 64
  num_attention_heads: 2
  intermediate_size: 128
loss: {name: kd, temperature: 2}
training: {epochs: 10, batch_size: 32, optimizer: adamw, learning_rate: 5e-4, schedule: cosine}
"""

START = {"digits": _DIGITS, "fashion-mnist": _FASHION, "folder": _FOLDER, "text": _TEXT}
"""The first steps, as texts."""

#: Names in recipes: (as people write it, timm's teacher, timm's student).
_IMAGENET_PAIRS = {
    "resnet34-resnet18": ("ResNet-34 into ResNet-18", "resnet34.tv_in1k", "resnet18"),
    "resnet50-mobilenetv1": ("ResNet-50 into MobileNet", "resnet50.tv_in1k", "mobilenetv1_100"),
}

_MD = "megvii-research/mdistiller"
_KD = {"name": "kd", "temperature": 1.0}
_CRD = {"crd": {"weight": 0.8, "bank": 1_281_167}}


def _dkd(beta: float) -> dict[str, Any]:
    return {"dkd": {"weight": 1.0, "temperature": 1.0, "nontarget_weight": beta}}


def _wttm(exponent: float, weight: float) -> dict[str, Any]:
    return {"wttm": {"weight": weight, "exponent": exponent}}


#: Method: title, source, rows of a step, weight, warm-up; then accuracy [percent] and loss by pair.
#: Batches of 512 go with learning rate 0.2 (megvii-research/mdistiller), of 256 with 0.1 (CRD).
_IMAGENET: dict[str, tuple[str, str, int, float | None, int, list[tuple[str, dict[str, Any]]]]] = {
    "kd": ("KD", _MD, 512, 0.5, 0, [("71.03", _KD), ("70.50", _KD)]),
    "crd": ("CRD", _MD, 256, None, 0, [("71.17", _CRD), ("71.37", _CRD)]),
    "dkd": ("DKD", _MD, 512, None, 1, [("71.70", _dkd(0.5)), ("72.05", _dkd(2.0))]),
    "wttm": (
        "WTTM",
        "Zheng and Yang 2024",
        256,
        None,
        0,
        [("72.19", _wttm(0.8, 1.6)), ("73.09", _wttm(0.7, 3.5))],
    ),
}


def _of_imagenet(method: str, place: int) -> str:
    title, source, rows, weight, warmup, published = _IMAGENET[method]
    name, (said, teacher, student) = list(_IMAGENET_PAIRS.items())[place]
    accuracy, loss = published[place]
    lines = [
        f"# {title} on ImageNet, {said}, published: {accuracy} % ({source}).",
        "# Needs timm, torchvision and imagenet.py (in docs/recipes.md), which reads the images.",
        "seed: 0",
        f"out: runs/{method}/{name}",
        'data: {module: "imagenet:load", options: {folder: data/imagenet}}',
        f'teacher: {{model: "timm:{teacher}", pretrained: true}}   # torchvision\'s weights',
        f'student: {{model: "timm:{student}"}}',
        *loss_lines(loss),
        weight_line(weight, loss),
        "training:",
        "  epochs: 100",
        f"  batch_size: {rows}",
        f"  learning_rate: {flow(rows / 2560)}",
        "  milestones: [30, 60, 90]",
        "  weight_decay: 0.0001",
    ]
    return joined([*lines, f"  loss_warmup_epochs: {warmup}"] if warmup else lines)


_PROBE = """\
# Transfer by linear probe to {said}: the WRN-16-2 that pair A distilled on CIFAR-100 is
# frozen, a new classifier is trained. Published, with mirroring: {accuracies}.
# Images as train/CLASS/NAME.png (or .jpg) and test/CLASS/... Run it with: limbeck train RECIPE
seed: 0
out: runs/probe/{name}
data: {{name: folder, folder: {folder}, size: 32, validation: 0, augment: none}}
teacher: null
student:
  model: "zoo:wrn_16_2"
  normalisation: imagenet
  weights: runs/itrd/wrn_40_2-wrn_16_2      # any run, or a file of weights
  fresh: [classifier, normalise]            # not from there: other classes, other images
training:
  train_only: [classifier]                  # the rest keeps weights and batch-norm statistics
  epochs: 120
  batch_size: 64
  learning_rate: 0.05
  milestones: [30, 60, 90]
  weight_decay: 0.0005
"""

_PROBES = {
    "stl10": ("STL-10", "alone 69.7, KD 70.9, CRD 71.6 %"),
    "tiny-imagenet": ("Tiny-ImageNet", "alone 33.7, KD 33.9, CRD 35.6 %"),
}

PROBES = {
    f"probe/{name}": _PROBE.format(
        said=said, accuracies=accuracies, name=name, folder=f"data/{name}"
    )
    for name, (said, accuracies) in _PROBES.items()
}
"""Linear probes, as texts."""

IMAGENET = {
    f"{method}/{name}": _of_imagenet(method, place)
    for method in _IMAGENET
    for place, name in enumerate(_IMAGENET_PAIRS)
}
"""ImageNet, as texts."""
