"""Live teachers: frozen, in eval and inference mode, with a precision and device of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.capture import Capture, Inputs
from limbeck.checks import ModelError
from limbeck.types import Batch, Outputs, Teacher


class LiveTeacher:
    """A module that answers for each batch; its weights and statistics never change.

    Args:
        module: The network; put into eval mode and kept there.
        layers: Names of the layers whose features are wanted.
        example: Inputs of a batch, to find the penultimate layer with.
        device: Where it runs.
        precision: "fp32" leaves its weights as they are, "bf16" converts them.
        compiled_rows: Run batches of so many rows through torch.compile; others, such as the last
            of an epoch, would have it compiled again.
        channels_last: Put its weights into this memory format, which changes no value.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str] = (),
        *,
        example: Inputs | None = None,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        compiled_rows: int | None = None,
        channels_last: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.module = module.to(self.device).eval()
        if precision == "bf16":
            self.module.to(torch.bfloat16)
        if channels_last:
            self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if example is not None:
            example = _to(example, self.device)
        self.capture = Capture(self.module, layers, example=example, name="teacher")
        # After the hooks, which a compiled module keeps.
        self._compiled = torch.compile(self.module) if compiled_rows else None
        self._compiled_rows = compiled_rows
        self._parts = list(self.module.modules())

    def __call__(self, batch: Batch) -> Outputs:
        """Return logits and features, in float32 at least, on the batch's device."""
        if any(part.training for part in self._parts):  # somebody called train() on it
            self.module.eval()
        through = self._compiled if len(batch) == self._compiled_rows else None
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            outputs = self.capture(_to(batch.inputs, self.device), through=through)
        # Cloned outside of inference mode: autograd may not save inference tensors.
        target = batch.index.device
        logits = None if outputs.logits is None else _plain(outputs.logits, target)
        return Outputs(
            logits, {name: _plain(value, target) for name, value in outputs.features.items()}
        )

    def close(self) -> None:
        """Remove the hooks."""
        self.capture.close()


def teachers_of(teacher: Any, layers: Sequence[str], **settings: Any) -> list[Teacher]:
    """Return the teachers given: none, one or several modules or Teacher objects.

    Args:
        teacher: What the user gave.
        layers: Names of the layers whose features are wanted of modules.
        settings: The other arguments of :class:`LiveTeacher`.

    Raises:
        ModelError: If one of them is neither a module nor callable.
    """
    given = [] if teacher is None else teacher if isinstance(teacher, (list, tuple)) else [teacher]
    found: list[Teacher] = []
    for one in given:
        if isinstance(one, nn.Module):
            found.append(LiveTeacher(one, layers, **settings))
        elif callable(one):
            found.append(cast(Teacher, one))
        elif isinstance(one, (str, Path)):
            raise ModelError(
                f"teacher: expected a torch module or a Teacher; got the path {str(one)!r}. Read a "
                f"model with limbeck.load({str(one)!r}), a stored teacher with "
                f"limbeck.TeacherStore.open({str(one)!r})."
            )
        else:
            raise ModelError(
                "teacher: expected a torch module, a Teacher (teacher(batch) -> Outputs), "
                "several of "
                f"them or None; got {type(one).__name__}."
            )
    return found


def with_targets(batch: Batch, outputs: Outputs) -> Batch:
    """Return the batch with the teacher's outputs as targets, where it has none of its own."""
    return batch if batch.targets is not None else replace(batch, targets=outputs.logits)


def _plain(value: Tensor, device: torch.device) -> Tensor:
    kept = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return kept.detach().to(device).clone()


def _to(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, dict):
        return {key: value.to(device) for key, value in inputs.items()}
    return inputs.to(device)
