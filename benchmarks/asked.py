"""A teacher that is asked once about all rows of a data set, and then only remembered."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.data import Data
from limbeck.types import Batch, Outputs


class Remembered:
    """What a teacher said about each row: logits, and features of one layer.

    Holds for rows that come without augmentation only. In the loop it answers by the rows' numbers.
    """

    def __init__(self, logits: Tensor, features: Tensor, layer: str = "penultimate") -> None:
        self.logits, self.features, self.layer = logits, features, layer

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(self.logits[batch.index], {self.layer: self.features[batch.index]})


@torch.inference_mode()
def ask(model: nn.Module, rows: Data) -> Remembered:
    """Ask a network, in eval mode, about every row: logits, and what goes into ``classifier``."""
    seen: list[Tensor] = []
    head = model.get_submodule("classifier")
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.eval()
    logits = []
    for one in rows.batches(rows.in_order(250)):
        given = one.inputs
        said = model(**given) if isinstance(given, dict) else model(given)
        logits.append(said if isinstance(said, Tensor) else said.logits)
    hook.remove()
    return Remembered(*(torch.cat(part).clone() for part in (logits, seen)))


def ask_once(model: nn.Module, rows: Data, path: Path) -> Remembered:
    """Ask a network about every row, or return what it said the last time."""
    if not path.exists():
        found = ask(model, rows)
        part = path.with_suffix(".part")
        torch.save([found.logits, found.features], part)
        part.replace(path)
    return Remembered(*torch.load(path))


def targets_of(rows: Data) -> Tensor:
    """Return the labels of all rows."""
    found = [batch.targets for batch in rows.batches(rows.in_order(1000))]
    return torch.cat([one for one in found if one is not None])


def accuracy(logits: Tensor, rows: Data) -> float:
    """Return the share of rows whose label has the largest logit."""
    return (logits.argmax(1) == targets_of(rows)).float().mean().item()
