"""Traced programs: made by torch.export or torch.onnx, written as bytes, and run from them."""

from __future__ import annotations

import importlib.util
import io
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import call, logits_of
from limbeck.checks import ModelError


Inputs = Tensor | dict[str, Tensor]
Run = Callable[[Inputs], Tensor]

_LIBRARIES = ("torch", "transformers", "onnxscript", "onnx", "limbeck")
_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)', overload='(\w+)'\)|\b(aten[.:]+\w+(?:\.\w+)?)")


class _Logits(nn.Module):
    def __init__(self, model: nn.Module, names: list[str] | None) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *args: Any) -> Tensor:
        given = args[0] if self.names is None else dict(zip(self.names, args, strict=True))
        return logits_of(call(self.model, given), "export")


def traced(model: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """Return a model in eval mode as a program for any number of rows.

    Raises:
        ModelError: If it cannot be traced; line and operator are named where torch knows them.
    """
    names = list(inputs) if isinstance(inputs, dict) else None
    shapes = {"args": tuple({0: torch.export.Dim.DYNAMIC} for _ in tensors(inputs))}
    try:
        with torch.no_grad():
            return torch.export.export(
                _Logits(model, names).eval(), tensors(inputs), dynamic_shapes=shapes
            )
    except Exception as problem:  # torch's own errors, and whatever the model raises
        raise ModelError(
            f"export: expected a model that torch.export can trace for any number of rows; "
            f"{type(model).__name__} failed{_line(problem)}: {_first(problem)}."
            f"{_operators(problem)} Its forward() may branch on values, or fix the batch size."
        ) from problem


def torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    """Return what ``torch.export.load`` reads."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def torch_runner(written: bytes) -> Run:
    """Return the program in these bytes as a function."""
    program = torch.export.load(io.BytesIO(written)).module()

    def run(inputs: Inputs) -> Tensor:
        with torch.no_grad():
            return program(*tensors(inputs))

    return run


def check_onnx() -> None:
    """Raise ModelError where a package for ONNX is missing."""
    wanted = ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"export: expected the packages {', '.join(wanted)} for format='onnx'; missing are "
            f"{', '.join(missing)}. pip install 'limbeck[export]'"
        )


def onnx_bytes(program: torch.export.ExportedProgram, inputs: Inputs) -> bytes:
    """Return a program as ONNX.

    Raises:
        ModelError: If ONNX has no translation for one of its operators, which is named.
    """
    if any(tensor.dtype == torch.bfloat16 for tensor in tensors(inputs)):
        raise ModelError(
            "export: expected inputs in float32 or float16 for format='onnx'; got bfloat16, which "
            "onnxruntime does not take. Export a copy in float32: model.float()."
        )
    names = list(inputs) if isinstance(inputs, dict) else ["inputs"]
    talk = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = talk.level
    talk.setLevel(logging.ERROR)  # that torchvision is not installed is no news
    try:
        made = torch.onnx.export(
            program, input_names=names, output_names=["logits"], dynamo=True, verbose=False
        )
    except Exception as problem:  # of torch.onnx and onnxscript, which have no common type
        raise ModelError(
            f"export: expected operators that ONNX knows; got {_last(problem)}."
            f"{_operators(problem)} Use another layer in its place, or format='torch'."
        ) from problem
    finally:
        talk.setLevel(before)
    if made is None:
        raise ModelError("export: expected torch.onnx to return a program; got None.")
    return made.model_proto.SerializeToString()


def onnx_runner(written: bytes) -> Run:
    """Return the ONNX program in these bytes as a function, run by onnxruntime on the CPU.

    Raises:
        ModelError: If onnxruntime has no kernel for it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's own types, one for each of its status codes
        raise ModelError(
            f"export: expected a program that onnxruntime can run; got {_first(problem)}. Use "
            "format='torch', or a student in float32."
        ) from problem
    names = [argument.name for argument in session.get_inputs()]

    def run(inputs: Inputs) -> Tensor:
        given = dict(zip(names, (tensor.numpy() for tensor in tensors(inputs)), strict=True))
        found = session.run(None, given)
        return torch.from_numpy(found[0])

    return run


def tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the tensors of inputs, in their order."""
    return tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _first(problem: BaseException) -> str:
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0].rstrip(".")


def _last(problem: BaseException) -> str:
    """Return what the innermost error says: those around it repeat torch's own advice."""
    return _first(list(_chain(problem))[-1])


def _operators(problem: BaseException) -> str:
    """Name the operators that errors speak of; empty where they name none."""
    found: dict[str, None] = {}
    for one in _chain(problem):
        for name, overload, plain in _OPERATOR.findall(str(one)):
            found[plain.replace("::", ".") or f"{name}.{overload}"] = None
    return f" Operator: {', '.join(list(found)[:3])}." if found else ""


def _line(problem: BaseException) -> str:
    """Return the innermost line outside of libraries that led to an error, where there is one."""
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        parts = Path(frame.filename).parts
        if frame.line and not set(parts) & set(_LIBRARIES) and "site-packages" not in parts:
            return f" at {frame.line!r} ({parts[-1]}, line {frame.lineno})"
    return ""
