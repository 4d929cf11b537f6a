"""Columns: what a row of a store is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int32": torch.int32,
}
# How a safetensors file calls them.
CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int32": "I32"}
FEATURES = "features."


@dataclass(frozen=True, slots=True)
class Column:
    """One number, or one array of fixed shape, that every row has.

    Attributes:
        dtype: A key of ``DTYPES``.
        shape: Behind the row axis; empty for a single number.
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: Tensor) -> Column:
        """Return the column that a tensor of rows is."""
        return cls(str(values.dtype).removeprefix("torch."), tuple(values.shape[1:]))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return DTYPES[self.dtype].itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


Columns = dict[str, Column]


def row_bytes(columns: Mapping[str, Column]) -> int:
    """Return the bytes of one row of all columns.

    Example:
        >>> row_bytes({"logits": Column("float16", (100,)), "tail": Column("float32", ())})
        204
    """
    return sum(column.row_bytes for column in columns.values())


def layers_of(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """Return the names of the layers whose features are among the columns."""
    return tuple(name.removeprefix(FEATURES) for name in columns if name.startswith(FEATURES))
