"""Data: what a user may pass as data, and the batches and views made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from limbeck.checks import ArgumentError, DataError
from limbeck.types import Batch


Inputs = Tensor | dict[str, Tensor]
Augment = Callable[[Tensor, Tensor, Tensor], Tensor]
Rows = tuple[Tensor, Tensor]

_TARGET_KEYS = ("labels", "label")


class Data:
    """Rows of inputs and targets that can be served in any order, each in any of its views.

    Images may be uint8: they stay so until they are augmented and reach the model as float in
    [0, 1]. Targets may be absent, or -1 (NaN for real-valued targets) for unlabelled rows.

    Args:
        source: A map-style Dataset of ``(input, target)`` or of inputs alone (an input is a tensor
            or a dict of tensors), a DataLoader over one (its batch size, workers and collation are
            kept, its sampler is replaced), a pair of arrays, or a single array of inputs.
        augment: ``augment(inputs, index, view)`` on a whole batch, on the device: a pure function
            of its arguments, so that a view can be made again. Dict inputs are passed as they are.
        weights: Weight of each row in the task term, [rows], not negative.
        class_names: Names of the classes, for tables and reports.
        name: What messages call this data.

    Raises:
        DataError: If there are no rows, lengths differ, inputs are not finite, or targets lie
            below -1.
        ArgumentError: If ``source`` is none of the kinds above.
    """

    def __init__(
        self,
        source: Any,
        *,
        augment: Augment | None = None,
        weights: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "data",
    ) -> None:
        self.name = name
        self.augment = augment
        self.class_names = list(class_names) if class_names is not None else None
        self.batch_size: int | None = None
        self.source = self._opened(source)
        if len(self) == 0:
            raise DataError(
                f"{name}: expected at least one row; got none. Check the path or split."
            )
        self.weights = self._checked_weights(weights)

    @classmethod
    def of(cls, data: Any, name: str = "data") -> Data:
        """Return ``data`` if it is a Data already, or make one of it."""
        return data if isinstance(data, Data) else cls(data, name=name)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.source)

    @property
    def targets(self) -> Tensor | None:
        """All targets where they are at hand without reading inputs, else None."""
        return self.source.targets if isinstance(self.source, Arrays) else None

    def to(self, device: torch.device | str) -> Data:
        """Return this data with arrays resident on ``device``; data sets of items stay."""
        if not isinstance(self.source, Arrays):
            return self
        return self._like(self.source.to(device), self.weights)

    def subset(self, index: Any) -> Data:
        """Return the rows at ``index`` as data of their own; their positions start at 0 again."""
        rows = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        return self._like(
            self.source.subset(rows), None if self.weights is None else self.weights[rows]
        )

    def viewed(self, augment: Augment | None) -> Data:
        """Return the same rows under another augmentation, or none."""
        copy = self._like(self.source, self.weights)
        copy.augment = augment
        return copy

    def batches(self, plan: Iterable[Rows], device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Serve batches in the order of ``plan``, augmented, on ``device``.

        Args:
            plan: Pairs of row positions and view numbers, int64 [batch] each.
            device: Where the batches go.
        """
        where = torch.device(device)
        for (index, view), (inputs, targets) in self.source.read(plan):
            index, view = index.to(where), view.to(where)
            inputs = _moved(inputs, where)
            if self.augment is not None:
                inputs = self.augment(cast(Tensor, inputs), index, view)
            yield Batch(
                inputs=_as_float_images(inputs),
                targets=None if targets is None else targets.to(where, non_blocking=True),
                index=index,
                view=view,
                weights=None if self.weights is None else self.weights[index.cpu()].to(where),
            )

    def in_order(self, batch_size: int, view: int = 0) -> list[Rows]:
        """Return the plan that reads every row once, in order."""
        return [
            (rows, torch.full_like(rows, view))
            for rows in torch.arange(len(self)).split(batch_size)
        ]

    def _like(self, source: Arrays | Items, weights: Tensor | None) -> Data:
        copy = object.__new__(Data)
        copy.__dict__.update(self.__dict__)
        copy.source, copy.weights = source, weights
        return copy

    def _opened(self, source: Any) -> Arrays | Items:
        if isinstance(source, (Arrays, Items)):
            return source
        if isinstance(source, DataLoader):
            self.batch_size = source.batch_size
            if isinstance(source.dataset, IterableDataset):
                raise ArgumentError(_refused_stream(self.name))
            return Items(
                source.dataset,
                collate=source.collate_fn,
                workers=source.num_workers,
                name=self.name,
            )
        if isinstance(source, IterableDataset):
            raise ArgumentError(_refused_stream(self.name))
        if isinstance(source, TensorDataset) and len(source.tensors) <= 2:
            return Arrays(*source.tensors, name=self.name)
        if _is_array(source) or isinstance(source, dict):
            return Arrays(source, name=self.name)
        if isinstance(source, (tuple, list)) and len(source) == 2 and _is_inputs(source[0]):
            return Arrays(source[0], source[1], name=self.name)
        if (
            hasattr(source, "__getitem__")
            and hasattr(source, "__len__")
            and not isinstance(source, str)
        ):
            return Items(cast(Dataset[Any], source), name=self.name)
        raise ArgumentError(
            f"{self.name}: expected a Dataset with __len__ and __getitem__, a DataLoader, a pair "
            "of "
            f"arrays or a Data; got {type(source).__name__}. Wrap it in one of these."
        )

    def _checked_weights(self, weights: Any) -> Tensor | None:
        if weights is None:
            return None
        tensor = torch.as_tensor(np.asarray(weights), dtype=torch.float32)
        if tensor.shape != (len(self),) or not bool((torch.isfinite(tensor) & (tensor >= 0)).all()):
            raise DataError(
                f"{self.name}: expected `weights` of shape ({len(self)},), finite and not "
                "negative; "
                f"got shape {tuple(tensor.shape)}."
            )
        return tensor


class Arrays:
    """Rows held in tensors."""

    def __init__(self, inputs: Any, targets: Any = None, *, name: str = "data") -> None:
        self.inputs: Inputs = (
            {key: _as_tensor(value, name) for key, value in inputs.items()}
            if isinstance(inputs, dict)
            else _as_tensor(inputs, name)
        )
        self.targets = None if targets is None else _as_targets(targets, name)
        parts = self.inputs if isinstance(self.inputs, dict) else {"inputs": self.inputs}
        lengths = {key: len(value) for key, value in parts.items()}
        if self.targets is not None:
            lengths["targets"] = len(self.targets)
        if len(set(lengths.values())) != 1:
            got = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise DataError(f"{name}: expected one target for each input; got rows: {got}.")
        for key, value in parts.items():
            _check_finite(value, f"{name}: {key}")

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
    """Rows read one by one from a map-style data set, in worker processes if asked."""

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        collate: Callable[[list[Any]], Any] = default_collate,
        workers: int = 0,
        name: str = "data",
    ) -> None:
        self.dataset, self.collate, self.workers, self.name = dataset, collate, workers, name

    def __len__(self) -> int:
        return len(cast(Any, self.dataset))

    def subset(self, rows: Tensor) -> Items:
        """Return the rows at these positions."""
        chosen = torch.utils.data.Subset(self.dataset, rows.tolist())
        return Items(chosen, collate=self.collate, workers=self.workers, name=self.name)

    def read(self, plan: Iterable[Rows]) -> Iterator[tuple[Rows, tuple[Inputs, Tensor | None]]]:
        """Read rows in the order of the plan: (position, view), (inputs, targets)."""
        rows = list(plan)
        loader = DataLoader(
            self.dataset,
            batch_sampler=[index.tolist() for index, _ in rows],
            num_workers=self.workers,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
        )
        for position, collated in zip(rows, loader, strict=True):
            inputs, targets = self._parted(collated)
            for key, value in inputs.items() if isinstance(inputs, dict) else [("inputs", inputs)]:
                _check_finite(value, f"{self.name}: {key} of rows {position[0][:3].tolist()}...")
            yield position, (inputs, None if targets is None else _as_targets(targets, self.name))

    def _parted(self, collated: Any) -> tuple[Inputs, Tensor | None]:
        if isinstance(collated, (tuple, list)) and len(collated) == 2:
            return collated[0], collated[1]
        if isinstance(collated, Mapping):  # a dict, or the BatchEncoding of a tokenizer
            inputs = {key: value for key, value in collated.items() if key not in _TARGET_KEYS}
            return inputs, next((collated[key] for key in _TARGET_KEYS if key in collated), None)
        if isinstance(collated, Tensor):
            return collated, None
        raise DataError(
            f"{self.name}: expected items (input, target), inputs alone, or dicts of tensors; got "
            f"batches of type {type(collated).__name__}. Give the DataLoader a collate_fn."
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _is_inputs(value: Any) -> bool:
    return _is_array(value) or (
        isinstance(value, dict) and all(_is_array(part) for part in value.values())
    )


def _as_tensor(value: Any, name: str) -> Tensor:
    try:
        tensor = (
            value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        )
    except TypeError as problem:
        raise DataError(
            f"{name}: expected arrays of numbers; got {type(value).__name__} ({problem}). "
            "Encode text or categories as numbers first."
        ) from None
    if tensor.ndim == 0:
        raise DataError(f"{name}: expected one row a sample; got a single number.")
    return tensor


def _as_targets(value: Any, name: str) -> Tensor:
    tensor = _as_tensor(np.asarray(value) if isinstance(value, (list, tuple)) else value, name)
    if tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.int64)
    if tensor.numel() and int(tensor.min()) < -1:
        raise DataError(
            f"{name}: expected targets >= 0, or -1 for unlabelled rows; got {int(tensor.min())}."
        )
    return tensor


def _check_finite(values: Tensor, where: str) -> None:
    if not values.is_floating_point():
        return
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(bad.reshape(len(values), -1).any(1).nonzero()[0])
        raise DataError(
            f"{where}: expected finite numbers; got NaN or infinity in {int(bad.sum())} places, "
            f"first in row {row}. Remove or repair these rows."
        )


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, dict):
        return {key: value.to(device, non_blocking=True) for key, value in inputs.items()}
    return inputs.to(device, non_blocking=True)


def _as_float_images(inputs: Inputs) -> Inputs:
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8:
        return inputs.to(torch.float32).div_(255)
    return inputs


def _refused_stream(name: str) -> str:
    return (
        f"{name}: expected a map-style data set; got an IterableDataset, whose rows have no "
        "positions to store or to resume from. Give it __len__ and __getitem__."
    )
