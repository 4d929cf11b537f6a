"""What RID takes for granted, measured: the student's filter tells all that the teacher's does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limbeck.checks import LimbeckError
from limbeck.data import Data
from limbeck.information.estimate import estimate_pid
from limbeck.training.loop import Loop


ROWS = 20_000  # held-out rows at most
NAME = "I(Y; teacher's filter | student's filter)"


def note_assumption(loop: Loop) -> None:
    r"""Put :math:`I(Y; f_t(T) \mid f_s(S))` of every layer pair into the record's results.

    The bound by which redundant information distillation is derived is tight where this is zero.
    It is what only the teacher's filter knows plus the synergy, of filtered features averaged over
    positions, on validation or else test rows; the interval adds both intervals [bits]. Losses
    without ``filtered`` have no such assumption.
    """
    rows = loop.validation or loop.test
    filtering = [loss for loss in loop.inner.losses if hasattr(loss, "filtered")]
    if rows is None or not filtering or not loop.accelerator.is_main_process:
        return
    for position, loss in enumerate(filtering):
        targets, layers = _filtered(loop, loss, position, rows)
        for place, (mine, theirs) in enumerate(layers):
            name = f"{NAME}, layer {place + 1}"
            name += f", teacher {position}" if len(filtering) > 1 else ""
            try:
                found = estimate_pid(targets, theirs, mine, seed=loop.seed)
            except LimbeckError as problem:
                loop.record.warnings.append(f"{name} was not measured: {problem}")
                continue
            parts = found.unique_teacher, found.synergistic
            bits = {key: sum(getattr(part, key) for part in parts) for key in ("lower", "upper")}
            value = sum(part.value for part in parts)
            cell = {"bits": value, **bits, "rows": float(len(targets))}
            loop.record.results.setdefault("last", {})[name] = cell


def _filtered(
    loop: Loop, loss: Any, position: int, rows: Data
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return the labels of labelled rows and both sides' filtered features of every layer."""
    device, batch_size = loop.accelerator.device, max(256, loop.batch_size)
    plan = Data.of(rows).viewed(None).in_order(batch_size)
    modes = {part: part.training for part in (*loop.inner.modules(), *loss.modules())}
    loop.inner.eval()
    targets, found = [], []
    try:
        with torch.no_grad():
            for batch in Data.of(rows).viewed(None).batches(plan, device):
                student, said = loop.inner.capture(batch.inputs), loop.teachers[position](batch)
                assert batch.targets is not None
                kept = batch.targets >= 0
                targets.append(batch.targets[kept].cpu())
                pairs = loss.filtered(student, said, batch)
                found.append([tuple(_vectors(side)[kept].cpu() for side in pair) for pair in pairs])
                if sum(map(len, targets)) >= ROWS:
                    break
    finally:
        for part, mode in modes.items():
            part.training = mode
    layers = [
        (torch.cat([one[0] for one in layer]), torch.cat([one[1] for one in layer]))
        for layer in zip(*found, strict=True)
    ]
    return torch.cat(targets), layers


def _vectors(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2) if features.ndim > 2 else features
