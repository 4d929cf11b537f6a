"""Where the rows of a Data stand: in tensors, or in a data set that is read item by item."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from limbeck.checks import DataError


Inputs = Tensor | dict[str, Tensor]
Rows = tuple[Tensor, Tensor]

_TARGET_KEYS = ("labels", "label")


class Arrays:
    """Rows held in tensors."""

    def __init__(self, inputs: Any, targets: Any = None, *, name: str = "data") -> None:
        self.inputs: Inputs = (
            {key: _as_tensor(value, f"{name}: {key}") for key, value in inputs.items()}
            if isinstance(inputs, Mapping)
            else _as_tensor(inputs, name)
        )
        self.targets = None if targets is None else _as_targets(targets, f"{name}: targets")
        parts = self.inputs if isinstance(self.inputs, dict) else {"inputs": self.inputs}
        lengths = {key: len(value) for key, value in parts.items()}
        if self.targets is not None:
            lengths["targets"] = len(self.targets)
        if len(set(lengths.values())) != 1:
            got = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise DataError(f"{name}: expected one target for each input; got rows: {got}.")
        for key, value in parts.items():
            _check_finite(value, torch.arange(len(value)), f"{name}: {key}")

    def __len__(self) -> int:
        first = next(iter(self.inputs.values())) if isinstance(self.inputs, dict) else self.inputs
        return len(first)

    def to(self, device: torch.device | str) -> Arrays:
        """Return the same rows on a device."""
        return self._mapped(lambda tensor: tensor.to(device))

    def subset(self, rows: Tensor) -> Arrays:
        """Return the rows at these positions."""
        return self._mapped(lambda tensor: tensor[rows.to(tensor.device)])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Arrays:
        copy = object.__new__(Arrays)
        copy.inputs = (
            {key: change(value) for key, value in self.inputs.items()}
            if isinstance(self.inputs, dict)
            else change(self.inputs)
        )
        copy.targets = None if self.targets is None else change(self.targets)
        return copy

    def read(self, plan: Iterable[Rows]) -> Iterator[tuple[Rows, tuple[Inputs, Tensor | None]]]:
        """Read rows in the order of the plan: (position, view), (inputs, targets)."""
        for index, view in plan:
            rows = self.subset(index)
            yield (index, view), (rows.inputs, rows.targets)


class Items:
    """Rows read one by one from a map-style data set, in worker processes if asked.

    Attributes:
        classes: Number of classes that the labels of every batch are checked against, or None.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        collate: Callable[[list[Any]], Any] = default_collate,
        workers: int = 0,
        name: str = "data",
    ) -> None:
        self.dataset, self.collate, self.workers, self.name = dataset, collate, workers, name
        self.classes: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def subset(self, rows: Tensor) -> Items:
        """Return the rows at these positions."""
        chosen = Subset(self.dataset, rows.tolist())
        return Items(chosen, collate=self.collate, workers=self.workers, name=self.name)

    def read(self, plan: Iterable[Rows]) -> Iterator[tuple[Rows, tuple[Inputs, Tensor | None]]]:
        """Read rows in the order of the plan: (position, view), (inputs, targets)."""
        rows = list(plan)
        loader = DataLoader(
            self.dataset,
            batch_sampler=[index.tolist() for index, _ in rows],
            num_workers=self.workers,
            collate_fn=partial(_collated, self.collate, self.name),
            pin_memory=torch.cuda.is_available(),
        )
        for (index, view), collated in zip(rows, loader, strict=True):
            inputs, targets = self._parted(collated)
            for key, value in inputs.items() if isinstance(inputs, dict) else [("inputs", inputs)]:
                if len(value) != len(index):
                    raise DataError(
                        f"{self.name}: expected {len(index)} rows of {key} for as many items; got "
                        f"{len(value)}. Let the collate_fn keep every item, one row each."
                    )
                _check_finite(value, index, f"{self.name}: {key}")
            yield (index, view), (inputs, self._targets(targets, index))

    def _targets(self, targets: Any, index: Tensor) -> Tensor | None:
        if targets is None:
            return None
        found = _as_targets(targets, f"{self.name}: targets")
        if len(found) != len(index):
            raise DataError(
                f"{self.name}: expected one target for each input; got {len(found)} for "
                f"{len(index)} inputs."
            )
        if self.classes is not None:
            check_classes(found, self.classes, self.name, index)
        return found

    def _parted(self, collated: Any) -> tuple[Inputs, Any]:
        inputs, targets = collated, None
        if isinstance(collated, (tuple, list)) and len(collated) in (1, 2):
            inputs, targets = collated if len(collated) == 2 else (collated[0], None)
        elif isinstance(collated, Mapping):
            inputs, targets = parted(collated)
        if isinstance(inputs, Mapping) and all(is_array(part) for part in inputs.values()):
            named = {key: _as_tensor(part, f"{self.name}: {key}") for key, part in inputs.items()}
            return named, targets
        if is_array(inputs):
            return _as_tensor(inputs, self.name), targets
        raise DataError(
            f"{self.name}: expected items (input, target), inputs alone, or dicts of tensors; got "
            f"batches of {_kinds(collated)}. Give the DataLoader a collate_fn."
        )


def _collated(collate: Callable[[list[Any]], Any], name: str, items: list[Any]) -> Any:
    try:
        return collate(items)
    except (RuntimeError, TypeError) as problem:
        raise DataError(
            f"{name}: expected items that make a batch; they do not: "
            f"{str(problem).splitlines()[0]}. "
            "Bring them to one shape, or give a DataLoader with a collate_fn."
        ) from None


def check_classes(targets: Tensor, classes: int, name: str, index: Tensor) -> None:
    """Raise DataError unless targets are class indices below ``classes``, or -1."""
    if targets.is_floating_point() or targets.ndim != 1:
        raise DataError(
            f"{name}: expected one integer class index a row for classification; got "
            f"{str(targets.dtype).removeprefix('torch.')} of shape {tuple(targets.shape)}. "
            "Convert them, or name another task: multilabel or regression."
        )
    if targets.numel() and int(targets.max()) >= classes:
        row = int(index[int(targets.argmax())])
        raise DataError(
            f"{name}: expected labels from 0 to {classes - 1}, the student's {classes} outputs; "
            f"got {int(targets.max())} in row {row}. Correct the labels or the student's classes."
        )


def is_array(value: Any) -> bool:
    """Say whether a value is a tensor or an array of numpy."""
    return isinstance(value, (Tensor, np.ndarray))


def parted(named: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Split a dict, or the BatchEncoding of a tokenizer, into inputs and targets."""
    inputs = {key: value for key, value in named.items() if key not in _TARGET_KEYS}
    return inputs, next((named[key] for key in _TARGET_KEYS if key in named), None)


def _kinds(collated: Any) -> str:
    parts = collated.values() if isinstance(collated, Mapping) else collated
    if not isinstance(collated, (tuple, list, Mapping)):
        return f"type {type(collated).__name__}"
    inside = ", ".join(type(part).__name__ for part in parts)
    return f"type {type(collated).__name__} ({inside})"


def _as_tensor(value: Any, name: str) -> Tensor:
    try:
        tensor = value if isinstance(value, Tensor) else _from_numpy(np.asarray(value))
    except (TypeError, ValueError) as problem:
        raise DataError(
            f"{name}: expected arrays of numbers; got {type(value).__name__} ({problem}). "
            f"{_advice(name, value)}"
        ) from None
    if tensor.ndim == 0:
        raise DataError(f"{name}: expected one row a sample; got a single number.")
    return tensor


def _advice(name: str, value: Any) -> str:
    """Return what to do with a value that is no array of numbers, by its first item."""
    depth, first = 0, value
    while isinstance(first, (list, tuple, np.ndarray)) and getattr(first, "ndim", 1) and len(first):
        depth, first = depth + 1, first[0]
    if isinstance(first, str) and name.endswith(": targets"):
        return "Number the classes from 0; -1 marks a row without a label."
    if isinstance(first, str):
        return (
            "A tokenizer turns texts into numbers: limbeck.zoo.text.load_text reads a table of "
            "texts. Give categories as numbers, or leave them out."
        )
    if depth > 1:
        return "Pad the rows to one length, and mask the padding (attention_mask of a text)."
    return "Encode text or categories as numbers first."


def _from_numpy(array: NDArray[Any]) -> Tensor:
    if array.dtype.hasobject or array.dtype.kind in "USVMm":
        raise TypeError(f"type {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    with warnings.catch_warnings():  # rows are copied before anybody writes to them
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _as_targets(value: Any, name: str) -> Tensor:
    tensor = _as_tensor(value, name)
    if tensor.is_floating_point():
        if bool(torch.isinf(tensor).any()):
            raise DataError(
                f"{name}: expected finite targets, or NaN for unlabelled rows; got infinity in "
                f"{int(torch.isinf(tensor).sum())} places."
            )
        return tensor
    tensor = tensor.to(torch.int64)
    if tensor.ndim == 2:  # by token, as transformers marks those without a label
        tensor = tensor.masked_fill(tensor == -100, -1)
    if tensor.numel() and int(tensor.min()) < -1:
        raise DataError(
            f"{name}: expected targets >= 0, or -1 for unlabelled rows; got {int(tensor.min())}. "
            "For a regression give targets as real numbers, NaN where a row has none."
        )
    return tensor


def _check_finite(values: Tensor, index: Tensor, where: str) -> None:
    if not values.is_floating_point():
        return
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(index[bad.reshape(len(values), -1).any(1).nonzero()[0].to(index.device)])
        raise DataError(
            f"{where}: expected finite numbers; got NaN or infinity in {int(bad.sum())} places, "
            f"first in row {row}. Remove or repair these rows."
        )
