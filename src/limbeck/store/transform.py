"""The fingerprint of an augmentation: its name, and what it does to some rows."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.checks import StoreError
from limbeck.data import Data
from limbeck.randomness import keyed_uniform
from limbeck.sources import Items
from limbeck.store.fingerprint import SHOWN, digest_tensor, probe_rows


PROBES = 16
VIEWS = 4
PROJECTIONS = 8
TOLERANCE = 1e-3  # of a row's norm: other devices and versions round otherwise


@dataclass(frozen=True, slots=True)
class TransformFingerprint:
    """Which augmentation the views of a store are of.

    Attributes:
        name: What it calls itself, parameters included where it says them.
        digest: Of what it made of 16 rows in their first four views.
        norms: Euclidean norm of each of these.
        projections: Projections of each on eight keyed vectors of +-1, one after another.
    """

    name: str
    digest: str
    norms: tuple[float, ...]
    projections: tuple[float, ...]

    def difference(self, asked: TransformFingerprint) -> str | None:
        """Return how another augmentation differs, both sides named, or None."""
        if self.name != asked.name:
            return f"augmentation {self.name} in the store, {asked.name} now"
        if self.digest == asked.digest or self._is_close(asked):
            return None
        return (
            f"augmentation {self.name} with behaviour {self.digest[:SHOWN]} in the store, "
            f"{asked.digest[:SHOWN]} now, which gives other views: its seed, its parameters or its "
            "code have changed"
        )

    def _is_close(self, asked: TransformFingerprint) -> bool:
        if len(self.norms) != len(asked.norms) or len(self.projections) != len(asked.projections):
            return False
        mine, other = (torch.tensor(part.projections).double() for part in (self, asked))
        scale = torch.tensor(self.norms).double().clamp_min(1e-30)
        apart = (mine - other).reshape(len(scale), -1).abs() / scale[:, None]
        return bool((apart <= TOLERANCE).all())


def transform_fingerprint(data: Data) -> TransformFingerprint | None:
    """Return the fingerprint of a data set's augmentation; None where it has none.

    The augmentation is run on the CPU, for 16 rows in four views, twice and in another order.

    Args:
        data: The data.

    Raises:
        StoreError: If it is not a pure function of (sample, view).
    """
    if data.augment is None:
        return None
    rows = probe_rows(len(data), PROBES)
    name = name_of(data.augment)
    digest = hashlib.blake2b(digest_size=32)
    norms: list[float] = []
    projections: list[float] = []
    with torch.random.fork_rng(devices=[]):
        first, again, mixed = (_augmented(data, order) for order in (rows, rows, rows.flip(0)))
    for once, twice, other in zip(first, again, mixed, strict=True):
        apart, _ = _projected({key: value.flip(0) for key, value in other.items()})
        found, norm = _projected(once)
        close = (apart - found).abs() <= TOLERANCE * norm[:, None]
        if any(not torch.equal(once[key], twice[key]) for key in once) or not bool(close.all()):
            raise StoreError(
                f"store: expected an augmentation that is a pure function of (sample, view); "
                f"{name} gives another result each time, or in another batch. Draw its numbers "
                "with limbeck.randomness.keyed_uniform(seed, index, view, count)."
            )
        for key in sorted(once):
            digest_tensor(digest, key, once[key])
        norms += norm.tolist()
        projections += found.flatten().tolist()
    return TransformFingerprint(
        name, digest.hexdigest(), tuple(map(_short, norms)), tuple(map(_short, projections))
    )


def name_of(transform: Any) -> str:
    """Return a name that is the same in every process: no address in memory, no module.

    Example:
        >>> name_of(functools.partial(int, base=2))
        'partial(int, base=2)'
    """
    if isinstance(transform, functools.partial):
        parts = [name_of(transform.func), *map(name_of, transform.args)]
        parts += [f"{key}={name_of(value)}" for key, value in sorted(transform.keywords.items())]
        return f"partial({', '.join(parts)})"
    for attribute in ("__qualname__", "__name__"):
        if isinstance(getattr(transform, attribute, None), str):
            return getattr(transform, attribute)
    told = repr(transform)
    if re.search(r" at 0x[0-9a-fA-F]+", told):
        return type(transform).__qualname__
    return told if len(told) <= 1000 else f"{told[:1000]}..."


def _augmented(data: Data, rows: Tensor) -> list[dict[str, Tensor]]:
    """Return the inputs of rows in the first views, one batch a view."""
    if isinstance(data.source, Items):
        source = Items(data.source.dataset, collate=data.source.collate, name=data.name)
        data = Data(source, augment=data.augment, name=data.name)
    plan = [(rows, torch.full_like(rows, view)) for view in range(VIEWS)]
    batches = [batch.inputs for batch in data.batches(plan)]
    return [dict(found) if isinstance(found, dict) else {"inputs": found} for found in batches]


def _projected(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return projections [rows, 8] on keyed +-1 vectors, and norms [rows]."""
    flat = torch.cat(
        [inputs[key].reshape(len(inputs[key]), -1).double() for key in sorted(inputs)], 1
    )
    place = torch.arange(flat.shape[1])
    signs = keyed_uniform(0, place, torch.zeros_like(place), PROJECTIONS).double().sub(0.5).sign()
    return flat @ signs, flat.norm(dim=1)


def _short(number: float) -> float:
    return float(f"{number:.7g}")
