"""Students as programs: torch.export or ONNX, compared with the model, beside a table of sizes."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.capture import evaluated, floating_type, in_type
from limbeck.checks import (
    ArgumentError,
    DataError,
    LayerError,
    ModelError,
    check_between,
    check_choice,
)
from limbeck.files import atomic, write_text
from limbeck.students.packed_file import fixed, save_packed
from limbeck.students.packing import LayerSize, size_table
from limbeck.students.programs import (
    Inputs,
    check_onnx,
    onnx_bytes,
    onnx_runner,
    tensors,
    torch_bytes,
    torch_runner,
    traced,
)


SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}


@dataclass(frozen=True)
class Parity:
    """How an exported program's logits compare with the model's, on the rows given.

    Attributes:
        rows: Their number.
        max_difference: Largest magnitude of a difference, in units of the logits.
        same_answer: Share of rows whose largest logit is at the same place (of positions, where a
            row has one set of logits for each of several).
        allowed: Largest difference that was allowed; None where only answers were compared.
    """

    rows: int
    max_difference: float
    same_answer: float
    allowed: float | None = None


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote.

    Attributes:
        program: The program, ``student.pt2`` or ``student.onnx``; its weights are float32.
        packed: ``student.safetensors`` of :func:`save_packed`; None for a student without binary or
            quantised layers.
        parity: Of the program, read back from its file.
        sizes: As :func:`size_table` returns them [bytes].
    """

    program: Path
    packed: Path | None
    parity: Parity
    sizes: list[LayerSize]


def export(
    model: nn.Module,
    example_inputs: Inputs,
    folder: str | Path,
    *,
    format: Literal["torch", "onnx"] = "torch",
    agreement: float = 0.9,
    tolerance: float | None = None,
) -> Exported:
    """Write a student as a program that needs no limbeck, and compare the two.

    The program takes any number of rows and returns logits. Quantised weights are on their grids in
    it, stored and multiplied as floats: no kernel of few bits runs. What a layer takes packed is in
    the size table, and the packed weights themselves in a file beside the program.

    Args:
        model: The student; it is not changed. It is exported from the CPU, in eval mode.
        example_inputs: Rows of a tensor, or of a dict of tensors that are passed by name; two rows
            at least. They are what parity is measured on: take real ones. The program takes the
            tensors of a dict in its order; in ONNX they have their names, and one tensor is called
            ``inputs``. The output is ``logits``.
        folder: Where ``student.pt2`` or ``student.onnx``, ``student.safetensors`` and
            ``export.json`` (parity and sizes) go.
        format: ``"torch"`` for torch.export, ``"onnx"`` for ONNX, run by onnxruntime on the CPU.
        agreement: Share of rows, in [0, 1], on which program and model must give the same answer;
            below it nothing is written. Rounded activations may tip over between two kernels, and
            with them the logits of a row that was undecided.
        tolerance: Largest difference between the logits of program and model, in their unit; beyond
            it nothing is written. None allows a student without binary and quantised layers 0.001
            of its largest logit (of 1 where that is smaller; 4 rounding units in half precision),
            and leaves a binary or quantised one to ``agreement``.

    Returns:
        Paths, parity and sizes.

    Raises:
        ArgumentError: If ``format`` is unknown, ``agreement`` is not in [0, 1], or ``tolerance``
            is negative.
        DataError: If there are fewer than two rows, or inputs of different lengths.
        ModelError: If the model cannot be run or exported, a package is missing, or the program
            does not agree with the model. The operator is named where one is to blame.
        StorageError: If the folder cannot be written.
    """
    check_choice("export", "format", format, SUFFIXES)
    check_between("export", 0.0, 1.0, agreement=agreement)
    if tolerance is not None and not tolerance >= 0:
        raise ArgumentError(
            f"export: expected `tolerance` of at least 0, in units of the logits; got {tolerance}. "
            "Leave it out for the default."
        )
    rows = _rows(example_inputs)
    if format == "onnx":
        check_onnx()
    wanted = evaluated(model, example_inputs, "export").cpu()
    inputs = _on_cpu(in_type(example_inputs, floating_type(model)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself, and torchao's plain attributes
        program = traced(fixed(model).cpu(), inputs)
        written = torch_bytes(program) if format == "torch" else onnx_bytes(program, inputs)
        run = torch_runner(written) if format == "torch" else onnx_runner(written)
        # two sizes of batch: the program must not have kept the one it was traced with
        found = torch.cat([run(_cut(inputs, 0, rows - 1)), run(_cut(inputs, rows - 1, rows))])
    if tolerance is None and not _is_packed(model):
        tolerance = _default_tolerance(wanted)
    parity = _parity(wanted, found, tolerance)
    far = tolerance is not None and not parity.max_difference <= tolerance
    if not parity.same_answer >= agreement or math.isnan(parity.max_difference):
        raise ModelError(
            f"export: expected the program to answer as {type(model).__name__} does on "
            f"{agreement:.0%} of {rows} rows; got {parity.same_answer:.0%}, with logits up to "
            f"{parity.max_difference:.3g} apart. Nothing was written."
        )
    if far:
        raise ModelError(
            f"export: expected logits of the program within {tolerance:.3g} of those of "
            f"{type(model).__name__}; got up to {parity.max_difference:.3g} on {rows} rows. "
            "Nothing was written. Give a larger `tolerance` if that is near enough."
        )
    return _write(model, Path(folder), SUFFIXES[format], written, parity)


def _write(model: nn.Module, folder: Path, suffix: str, program: bytes, parity: Parity) -> Exported:
    sizes = size_table(model)
    exported = Exported(
        folder / f"student{suffix}", _packed(model, folder / "student.safetensors"), parity, sizes
    )
    with atomic(exported.program) as aside:
        aside.write_bytes(program)
    record = {
        "program": exported.program.name,
        "packed": exported.packed and exported.packed.name,
        "parity": dataclasses.asdict(parity),
        "sizes_in_bytes": [dataclasses.asdict(row) for row in sizes],
    }
    write_text(folder / "export.json", json.dumps(record, indent=2) + "\n")
    return exported


def _packed(model: nn.Module, path: Path) -> Path | None:
    try:
        save_packed(model, path)
    except LayerError:
        return None
    return path


def _is_packed(model: nn.Module) -> bool:
    return any(row.packed_bytes != row.float_bytes for row in size_table(model))


def _default_tolerance(logits: Tensor) -> float:
    share = max(1e-3, 4 * torch.finfo(logits.dtype).eps)
    return share * max(1.0, logits.abs().max().item())


def _parity(wanted: Tensor, found: Tensor, allowed: float | None = None) -> Parity:
    wide = torch.promote_types(wanted.dtype, torch.float32)
    wanted, found = wanted.to(wide), found.to(wide)
    if wanted.ndim == 1:  # one number a row
        wanted, found = wanted[:, None], found[:, None]
    same = (wanted.argmax(-1) == found.argmax(-1)).double().mean()
    apart = torch.where(wanted == found, 0.0, (wanted - found).abs())  # masked logits are -inf
    return Parity(len(wanted), apart.max().item(), same.item(), allowed)


def _rows(inputs: Inputs) -> int:
    lengths = {len(tensor) for tensor in tensors(inputs)}
    if len(lengths) != 1 or min(lengths) < 2:
        raise DataError(
            f"export: expected inputs with two rows at least, as many in each; got "
            f"{sorted(lengths)}. Give some rows of real data."
        )
    return lengths.pop()


def _cut(inputs: Inputs, start: int, stop: int) -> Inputs:
    if isinstance(inputs, dict):
        return {name: value[start:stop] for name, value in inputs.items()}
    return inputs[start:stop]


def _on_cpu(inputs: Inputs) -> Inputs:
    if isinstance(inputs, dict):
        return {name: value.cpu() for name, value in inputs.items()}
    return inputs.cpu()
