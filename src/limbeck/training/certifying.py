"""Run a student on the inputs of teacher records, each different input once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.capture import FORWARD_ERRORS, call, failure_of, floating_type, in_type, logits_of
from limbeck.checks import ArgumentError, DataError, ModelError
from limbeck.data import Data
from limbeck.records import Input
from limbeck.training.next_token import TokenStudent
from limbeck.training.saving import load


KINDS: dict[type, str] = {int: "index into data", tuple: "list of token ids", str: "string"}
CHUNK = 2**22  # probabilities of the student that are held as float64 at a time
SUM = 1e-3  # by which a callable's probabilities may miss a sum of 1


class Chunk(NamedTuple):
    """Log-probabilities of some inputs.

    Attributes:
        positions: Which of the inputs, int64 [rows].
        log_probabilities: float64 [rows, labels], on the CPU.
    """

    positions: np.ndarray
    log_probabilities: Tensor


@dataclass(frozen=True, eq=False)
class Student:
    """A student that can be asked for probabilities.

    Attributes:
        network: A module, or a callable from a list of inputs to probabilities.
        name: For messages and tables.
        data: What indices point into, or None.
        tokenizer: From strings to token ids, or None.
        batch_size: Inputs at a time.
        device: Where a module runs.
    """

    network: nn.Module | Callable[[list[Any]], Any]
    name: str
    data: Data | None
    tokenizer: Callable[..., Any] | None
    batch_size: int
    device: torch.device

    def lacks(self, kind: type) -> str | None:
        """Say what must be given so that the student can take a kind of input; None if nothing."""
        if not isinstance(self.network, nn.Module):
            return None
        if kind is int and self.data is None:
            return "Give the data that the indices point into as `data`."
        if kind is str and self.tokenizer is None:
            return "Give `tokenizer`, or a callable from a list of strings to probabilities."
        return None

    def refusal(self, value: Input, kind: type) -> str | None:
        """Say why an input cannot be given to the student; None where it can."""
        if type(value) is not kind:
            return "with another kind of input"
        if isinstance(value, int) and self.data is not None and value >= len(self.data):
            return "with an index outside of the data"
        if isinstance(value, tuple) and isinstance(self.network, nn.Module):
            return TokenStudent.refusal(self.network, value)
        return None

    def chunks(self, inputs: Sequence[Input]) -> Iterator[Chunk]:
        """Yield log-probabilities of every input, in any order; a module's mode is restored.

        Raises:
            ModelError: If the module fails on the inputs, or gives no scores.
            DataError: If what comes is not finite, or a callable gives no probabilities.
        """
        if not isinstance(self.network, nn.Module):
            yield from self._of_callable(inputs)
            return
        if isinstance(inputs[0], int):
            source = self._of_rows(self.network, np.array(inputs))
        else:
            tokens = self._encoded(inputs) if isinstance(inputs[0], str) else list(inputs)
            source = TokenStudent(self.network, self.name, self.device, self.batch_size).rows(
                tokens  # pyright: ignore[reportArgumentType]
            )
        with evaluating(self.network, self.device):
            for positions, logits in source:
                yield from self._normalised(positions, logits)

    def _normalised(self, positions: np.ndarray, logits: Tensor) -> Iterator[Chunk]:
        rows = max(1, CHUNK // logits.shape[1])
        for start in range(0, len(logits), rows):
            part = logits[start : start + rows].cpu().double()
            if part.isnan().any() or part.isposinf().any() or part.isneginf().all(1).any():
                raise DataError(
                    f"certify: expected finite scores of {self.name}; got NaN or infinity. Check "
                    "its weights, and its floating type."
                )
            yield Chunk(positions[start : start + rows], part.log_softmax(1))

    def _of_rows(
        self, network: nn.Module, index: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        assert self.data is not None  # common_kind() saw to it
        kind = floating_type(network)
        for batch, positions in _batches(self.data, index, self.batch_size, self.device):
            with torch.inference_mode():
                try:
                    said = call(network, in_type(batch, kind))
                except FORWARD_ERRORS as problem:
                    raise ModelError(failure_of(self.name, network, batch, problem)) from None
            logits = logits_of(said, self.name)
            if logits.ndim == 3:  # a language model on rows of tokens: after the last real one
                mask = batch.get("attention_mask") if isinstance(batch, dict) else None
                logits = _after_last(logits, mask)
            if logits.ndim != 2 or len(logits) != len(positions):
                raise ModelError(
                    f"{self.name}: expected scores [rows, labels] for {len(positions)} rows; got "
                    f"shape {tuple(logits.shape)}. Certificates are for classifiers and language "
                    "models."
                )
            yield positions, logits

    def _of_callable(self, inputs: Sequence[Input]) -> Iterator[Chunk]:
        assert callable(self.network)
        indices = isinstance(inputs[0], int) and self.data is not None
        served = (
            _rows_as_list(self.data, np.array(inputs), self.batch_size)
            if indices and self.data is not None
            else (
                (list(inputs[start : start + self.batch_size]), start)
                for start in range(0, len(inputs), self.batch_size)
            )
        )
        for given, start in served:
            rows = _probabilities(self.network(given), len(given), self.name)
            positions = np.arange(start, start + len(given))
            yield Chunk(positions, (rows / rows.sum(1, keepdim=True)).log())

    def _encoded(self, texts: Sequence[Any]) -> list[tuple[int, ...]]:
        assert self.tokenizer is not None  # common_kind() saw to it
        found: Any = self.tokenizer(list(texts))
        ids = found["input_ids"] if hasattr(found, "keys") else found
        return [tuple(int(token) for token in one) for one in ids]


def opened(
    student: Any,
    data: Any,
    *,
    name: str | None = None,
    tokenizer: Callable[..., Any] | None,
    batch_size: int,
    device: torch.device,
    trust: bool,
) -> Student:
    """Return a student from a module, a saved folder or a callable.

    Raises:
        ArgumentError: If it is none of these.
        ModelError: If a folder cannot be loaded.
    """
    called = getattr(student, "__name__", type(student).__name__)
    if isinstance(student, (str, Path)):
        called, student = str(student), load(student, trust=trust)
    if not callable(student):
        raise ArgumentError(
            "certify: expected `student` to be a module, a folder that limbeck saved, or a "
            f"callable from a list of inputs to probabilities; got {type(student).__name__}."
        )
    rows = None if data is None else Data.of(data, "data").viewed(None)
    return Student(student, name or called, rows, tokenizer, batch_size, device)


@contextlib.contextmanager
def evaluating(module: nn.Module, device: torch.device) -> Generator[None]:
    """Put a module into eval mode on a device; modes and device are restored."""
    modes = {part: part.training for part in module.modules()}
    home = next((p.device for p in module.parameters()), device)
    module.eval()
    try:
        module.to(device)
        yield
    finally:
        module.to(home)
        for part, mode in modes.items():
            part.training = mode


def _batches(
    data: Data, index: np.ndarray, batch_size: int, device: torch.device | str
) -> Iterator[tuple[Any, np.ndarray]]:
    parts = torch.from_numpy(index).split(batch_size)
    plan = [(part, torch.zeros_like(part)) for part in parts]
    start = 0
    for batch in data.batches(plan, device):
        yield batch.inputs, np.arange(start, start + len(batch))
        start += len(batch)


def _rows_as_list(
    data: Data, index: np.ndarray, batch_size: int
) -> Iterator[tuple[list[Any], int]]:
    for inputs, positions in _batches(data, index, batch_size, "cpu"):
        if isinstance(inputs, dict):
            rows = [{key: value[i] for key, value in inputs.items()} for i in range(len(positions))]
        else:
            rows = list(inputs)
        yield rows, int(positions[0])


def _after_last(logits: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return logits[:, -1]
    last = mask.shape[1] - 1 - mask.flip(1).to(torch.int64).argmax(1)
    return logits[torch.arange(len(logits), device=logits.device), last]


def _probabilities(said: Any, rows: int, name: str) -> Tensor:
    found = said.detach() if isinstance(said, Tensor) else torch.as_tensor(np.asarray(said))
    found = found.cpu().double()
    if found.ndim != 2 or len(found) != rows:
        raise DataError(
            f"certify: expected {name} to return probabilities [{rows}, labels] for {rows} inputs; "
            f"got shape {tuple(found.shape)}. Return one row an input."
        )
    sums = found.sum(1)
    if not (found >= 0).all() or not ((sums - 1).abs() <= SUM).all():
        raise DataError(
            f"certify: expected {name} to return probabilities >= 0 that sum to 1; got sums from "
            f"{sums.min().item():.4g} to {sums.max().item():.4g}, least {found.min().item():.4g}. "
            "Apply a softmax to scores."
        )
    return found
