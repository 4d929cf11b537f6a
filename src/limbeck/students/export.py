"""Students as programs: torch.export or ONNX, compared with the model, beside a table of sizes."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.capture import call, evaluated, floating_type, in_type, logits_of
from limbeck.checks import DataError, LayerError, ModelError, check_between, check_choice
from limbeck.files import atomic, write_text
from limbeck.students.packed_file import fixed, save_packed
from limbeck.students.packing import LayerSize, size_table


Inputs = Tensor | dict[str, Tensor]
SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}


@dataclass(frozen=True)
class Parity:
    """How an exported program's logits compare with the model's, on the rows given.

    Attributes:
        rows: Their number.
        max_difference: Largest magnitude of a difference, in units of the logits.
        same_answer: Share of rows whose largest logit is at the same place.
    """

    rows: int
    max_difference: float
    same_answer: float


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

    Returns:
        Paths, parity and sizes.

    Raises:
        ArgumentError: If ``format`` is unknown or ``agreement`` is not in [0, 1].
        DataError: If there are fewer than two rows, or inputs of different lengths.
        ModelError: If the model cannot be run or exported, a package is missing, or the program
            does not agree with the model.
        StorageError: If the folder cannot be written.
    """
    check_choice("export", "format", format, SUFFIXES)
    check_between("export", 0.0, 1.0, agreement=agreement)
    rows = _rows(example_inputs)
    if format == "onnx":
        _check_onnx()
    wanted = evaluated(model, example_inputs, "export").cpu()
    inputs = _on_cpu(in_type(example_inputs, floating_type(model)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself, and torchao's plain attributes
        program = _traced(fixed(model).cpu(), inputs)
        written = _torch_bytes(program) if format == "torch" else _onnx_bytes(program, inputs)
        run = _torch_runner(written) if format == "torch" else _onnx_runner(written)
        # two sizes of batch: the program must not have kept the one it was traced with
        found = torch.cat([run(_cut(inputs, 0, rows - 1)), run(_cut(inputs, rows - 1, rows))])
    parity = _parity(wanted, found)
    if not parity.same_answer >= agreement:
        raise ModelError(
            f"export: expected the program to answer as {type(model).__name__} does on "
            f"{agreement:.0%} of {rows} rows; got {parity.same_answer:.0%}, with logits up to "
            f"{parity.max_difference:.3g} apart. Nothing was written."
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


class _Logits(nn.Module):
    def __init__(self, model: nn.Module, names: list[str] | None) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *args: Any) -> Tensor:
        given = args[0] if self.names is None else dict(zip(self.names, args, strict=True))
        return logits_of(call(self.model, given), "export")


def _traced(model: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    names = list(inputs) if isinstance(inputs, dict) else None
    shapes = {"args": tuple({0: torch.export.Dim.DYNAMIC} for _ in _tensors(inputs))}
    try:
        with torch.no_grad():
            return torch.export.export(
                _Logits(model, names).eval(), _tensors(inputs), dynamic_shapes=shapes
            )
    except Exception as problem:  # torch's own errors, and whatever the model raises
        first = (str(problem) or type(problem).__name__).strip().splitlines()[0]
        raise ModelError(
            f"export: expected a model that torch.export can trace for any number of rows; "
            f"{type(model).__name__} failed: {first}. Its forward() may branch on values, or fix "
            "the batch size."
        ) from problem


def _torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def _torch_runner(written: bytes) -> Any:
    program = torch.export.load(io.BytesIO(written)).module()

    def run(inputs: Inputs) -> Tensor:
        with torch.no_grad():
            return program(*_tensors(inputs))

    return run


def _check_onnx() -> None:
    wanted = ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"export: expected the packages {', '.join(wanted)} for format='onnx'; missing are "
            f"{', '.join(missing)}. pip install 'limbeck[export]'"
        )


def _onnx_bytes(program: torch.export.ExportedProgram, inputs: Inputs) -> bytes:
    names = list(inputs) if isinstance(inputs, dict) else ["inputs"]
    made = torch.onnx.export(
        program, input_names=names, output_names=["logits"], dynamo=True, verbose=False
    )
    if made is None:
        raise ModelError("export: expected torch.onnx to return a program; got None.")
    return made.model_proto.SerializeToString()


def _onnx_runner(written: bytes) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        given = dict(zip(names, (tensor.numpy() for tensor in _tensors(inputs)), strict=True))
        found = session.run(None, given)
        return torch.from_numpy(found[0])

    return run


def _parity(wanted: Tensor, found: Tensor) -> Parity:
    wide = torch.promote_types(wanted.dtype, torch.float32)
    wanted, found = wanted.to(wide), found.to(wide)
    same = (wanted.flatten(1).argmax(1) == found.flatten(1).argmax(1)).double().mean()
    return Parity(len(wanted), (wanted - found).abs().max().item(), same.item())


def _rows(inputs: Inputs) -> int:
    lengths = {len(tensor) for tensor in _tensors(inputs)}
    if len(lengths) != 1 or min(lengths) < 2:
        raise DataError(
            f"export: expected inputs with two rows at least, as many in each; got "
            f"{sorted(lengths)}. Give some rows of real data."
        )
    return lengths.pop()


def _tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)


def _cut(inputs: Inputs, start: int, stop: int) -> Inputs:
    if isinstance(inputs, dict):
        return {name: value[start:stop] for name, value in inputs.items()}
    return inputs[start:stop]


def _on_cpu(inputs: Inputs) -> Inputs:
    if isinstance(inputs, dict):
        return {name: value.cpu() for name, value in inputs.items()}
    return inputs.cpu()
