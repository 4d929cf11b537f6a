"""A teacher that is asked once about all rows of a data set, and then only remembered."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.data import Data
from limbeck.types import Batch, Outputs


class Remembered:
    """What a teacher said about each row: logits, and what went into its classifier.

    Holds for rows that come without augmentation only. In the loop it answers by the rows' numbers.
    """

    def __init__(self, logits: Tensor, features: Tensor) -> None:
        self.logits, self.features = logits, features

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(self.logits[batch.index], {"penultimate": self.features[batch.index]})


@torch.inference_mode()
def ask(model: nn.Module, rows: Data, head: str = "classifier", batch: int = 250) -> Remembered:
    """Ask a network, in eval mode, about every row."""
    seen: list[Tensor] = []
    hook = model.get_submodule(head).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.eval()
    logits = []
    for one in rows.batches(rows.in_order(batch)):
        given = one.inputs
        said = model(**given) if isinstance(given, dict) else model(given)
        logits.append(said if isinstance(said, Tensor) else said.logits)
    hook.remove()
    return Remembered(*(torch.cat(part).clone() for part in (logits, seen)))


def ask_once(model: nn.Module, rows: Data, path: Path, head: str = "classifier") -> Remembered:
    """Ask a network about every row, or return what it said the last time."""
    if not path.exists():
        found = ask(model, rows, head)
        part = path.with_suffix(".part")
        torch.save([found.logits, found.features], part)
        part.replace(path)
    return Remembered(*torch.load(path))
