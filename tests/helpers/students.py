"""Small binary and quantised students, and what they are fed."""

import copy
import importlib.util

import pytest
import torch
from torch import nn

from limbeck.students.binary import binary
from limbeck.students.grids import GRIDS
from limbeck.students.quantised import quantised


def absent(*names):
    return any(importlib.util.find_spec(name) is None for name in names)


needs_onnx = pytest.mark.skipif(
    absent("onnx", "onnxruntime", "onnxscript"),
    reason="needs onnx, onnxruntime and onnxscript: pip install limbeck[export]",
)
needs_torchao = pytest.mark.skipif(
    absent("torchao"), reason="needs torchao: pip install limbeck[quant]"
)


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def small() -> nn.Sequential:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.Sequential(nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        )
    )


class Bag(nn.Module):
    """Takes named inputs and returns a dict, as text models do."""

    def __init__(self):
        super().__init__()
        self.table, self.inner = nn.Embedding(10, 6), nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, mask):
        mean = (self.table(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"logits": self.head(self.inner(mean).relu())}


def bag_inputs(rows=5):
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(rows, 7)
    mask[:, 5:] = 0
    return {"mask": mask, "ids": torch.randint(0, 10, (rows, 7), generator=generator)}


def images(rows=6, seed=0):
    return torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def trained(model, inputs=None):
    """Let batch norms and activation ranges see something."""
    model.train()
    inputs = images(16, seed=9) if inputs is None else inputs
    model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return model


def scrambled(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.uniform_(0.1, 0.3)
    return other


STUDENTS = {
    **{f"bits={bits}": lambda bits=bits: quantised(small(), bits=bits) for bits in GRIDS},
    "binary": lambda: binary(small()),
    "mixed": lambda: quantised(binary(small(), keep="4"), bits=2, activation_bits=None),
}
