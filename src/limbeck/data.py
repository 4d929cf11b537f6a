"""Data: what a user may pass as data, and the batches and views made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from limbeck.checks import ArgumentError, DataError
from limbeck.sources import (
    Arrays as Arrays,
    Inputs as Inputs,
    Items as Items,
    Rows as Rows,
    is_array,
    parted,
)
from limbeck.types import Batch, Teacher


Augment = Callable[[Tensor, Tensor, Tensor], Tensor]


class Data:
    """Rows of inputs and targets that can be served in any order, each in any of its views.

    Images may be uint8: they stay so until they are augmented and reach the model as float in
    [0, 1]. Targets may be absent, or -1 (NaN for real-valued targets) for unlabelled rows.

    Args:
        source: A map-style Dataset of ``(input, target)`` or of inputs alone (an input is a tensor
            or a dict of tensors, in which ``labels`` or ``label`` are the targets), a DataLoader
            over one (its batch size, workers, collation and the rows of a SubsetRandomSampler are
            kept, its order is not), a pair ``(inputs, targets)`` of arrays or lists, a dict of
            arrays, or a single array of inputs.
        augment: ``augment(inputs, index, view)`` on a whole batch, on the device: a pure function
            of its arguments, so that a view can be made again. Dict inputs are passed as they are.
        weights: Weight of each row in the task term, [rows], not negative.
        class_names: Names of the classes, for tables and reports.
        name: What messages call this data.

    Raises:
        DataError: If there are no rows, lengths differ, inputs or real-valued targets are
            infinite, inputs are NaN, or integer targets lie below -1.
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
        self._check_rows()
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
        """Return the rows at ``index`` as data of their own; their positions start at 0 again.

        Args:
            index: Positions, or a mask of one truth value a row.

        Raises:
            DataError: If a position lies outside of the data, or no row is chosen.
        """
        rows = self._positions(index)
        chosen = self._like(
            self.source.subset(rows), None if self.weights is None else self.weights[rows]
        )
        chosen._check_rows()
        return chosen

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
            weights = None if self.weights is None else self.weights[index.cpu()].to(where)
            index, view = index.to(where), view.to(where)
            inputs = _moved(inputs, where)
            if self.augment is not None:
                inputs = self.augment(cast(Tensor, inputs), index, view)
            yield Batch(
                inputs=_as_float_images(inputs),
                targets=None if targets is None else targets.to(where, non_blocking=True),
                index=index,
                view=view,
                weights=weights,
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

    def _check_rows(self) -> None:
        if len(self) == 0:
            raise DataError(
                f"{self.name}: expected at least one row; got none. Check the path or split."
            )

    def _positions(self, index: Any) -> Tensor:
        given = index.cpu() if isinstance(index, Tensor) else torch.as_tensor(np.asarray(index))
        if given.dtype == torch.bool and given.shape == (len(self),):
            return given.nonzero()[:, 0]
        if not given.numel():
            return given.flatten().to(torch.int64)
        whole = not (given.is_floating_point() or given.dtype == torch.bool) and given.ndim == 1
        rows = given.to(torch.int64)
        if not whole or int(rows.min()) < -len(self) or int(rows.max()) >= len(self):
            raise DataError(
                f"{self.name}: expected row positions from 0 to {len(self) - 1}, or a mask of "
                f"{len(self)} truth values; got {str(given.dtype).removeprefix('torch.')} of shape "
                f"{tuple(given.shape)} from {given.min().item()} to {given.max().item()}."
            )
        return rows % len(self)

    def _opened(self, source: Any) -> Arrays | Items:
        if isinstance(source, (Arrays, Items)):
            return source
        if isinstance(source, DataLoader):
            self.batch_size = source.batch_size
            return self._items_of_loader(source)
        if isinstance(source, IterableDataset):
            raise ArgumentError(_refused_stream(self.name))
        if isinstance(source, TensorDataset) and len(source.tensors) <= 2:
            return Arrays(*source.tensors, name=self.name)
        if is_array(source):
            return Arrays(source, name=self.name)
        if isinstance(source, Mapping):
            return Arrays(*parted(source), name=self.name)
        if _is_pair(source):
            return Arrays(source[0], source[1], name=self.name)
        if _is_map_style(source):
            return Items(source, name=self.name)
        raise ArgumentError(
            f"{self.name}: expected a Dataset with __len__ and __getitem__, a DataLoader, or a "
            f"pair of arrays; got {type(source).__name__}. Wrap it in one of these."
        )

    def _items_of_loader(self, loader: DataLoader[Any]) -> Items:
        dataset = loader.dataset
        if isinstance(dataset, IterableDataset) or not _is_map_style(dataset):
            raise ArgumentError(_refused_stream(self.name))
        if isinstance(loader.sampler, SubsetRandomSampler):
            dataset = Subset(dataset, list(loader.sampler.indices))
        # Without batches of its own the loader would convert rows one by one.
        alone = loader.batch_sampler is None and loader.collate_fn is default_convert
        collate = default_collate if alone else loader.collate_fn
        return Items(dataset, collate=collate, workers=loader.num_workers, name=self.name)

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


def bound(teacher: Teacher, data: Data) -> Teacher:
    """Return the teacher of these rows: a store answers only for the data it was written for.

    Raises:
        StoreError: If the teacher is a store of other data.
    """
    on = None if isinstance(teacher, nn.Module) else getattr(teacher, "on", None)
    return teacher if on is None else on(data)


def _is_pair(value: Any) -> bool:
    """Tell (inputs, targets) from a list of two items, whose first is an item of its own."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    return isinstance(value, tuple) or is_array(value[0]) or isinstance(value[0], Mapping)


def _is_map_style(value: Any) -> bool:
    has_both = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return has_both and not isinstance(value, (str, bytes))


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
