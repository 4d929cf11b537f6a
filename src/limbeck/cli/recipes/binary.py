"""Recipes of binary students."""

from __future__ import annotations


BINARY = {
    "binary/resnet56-resnet20": """\
# A binary student (1-bit weights and activations) of a full-precision teacher, CIFAR-10: the
# recipe of ReCU (arXiv:2103.12369) with ITRD's loss. Alone: 87.5 %, with teacher=null.
# Teacher:  limbeck train RECIPE teacher=null student=zoo:resnet56 out=runs/resnet56-c10
seed: 0
out: runs/binary/resnet56-resnet20
data: {name: cifar10, folder: data/cifar10, validation: 0.1}
teacher: {folder: runs/resnet56-c10}
student: {model: "binary:resnet20"}       # or any CNN: {model: "zoo:resnet20", convert: binary}
loss: itrd
weight: null                              # null: the published additive combination
training:
  epochs: 600                             # tau rises from 0.85 to 0.99 over them
  warmup_epochs: 5
  batch_size: 256
  learning_rate: 0.1
  momentum: 0.9
  schedule: cosine
  weight_decay: 0.0005
""",
}
"""Binary students, as texts."""
