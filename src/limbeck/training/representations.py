"""What networks say at chosen layers over chosen rows, in one pass: one vector a row and layer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck.capture import FORWARD_ERRORS, PENULTIMATE, Capture, failure_of
from limbeck.checks import DataError, LayerError, LimbeckError, ModelError, ShapeError
from limbeck.data import Data
from limbeck.losses.features import feature_of, pooled
from limbeck.ranks import gather_rows, world_size
from limbeck.types import Batch, Outputs, Teacher


LOGITS = "logits"


@dataclass(frozen=True, eq=False)
class Said:
    """One network's vectors on the rows of a pass, on the CPU.

    Attributes:
        layers: float32 [rows, width] by layer.
        logits: The network's class scores, float32 [rows, classes], where there are such.
    """

    layers: dict[str, Tensor]
    logits: Tensor | None


class Network:
    """A network in eval mode with the layers that are read from it.

    Args:
        given: A module, or a Teacher (``teacher(batch) -> Outputs``).
        layers: Names of layers; None takes ``penultimate`` where there is such a layer, else
            ``logits``.
        example: A few rows, on the device; the network is run on them once.
        name: What messages call it.
        with_logits: Keep its class scores where they are one vector a row.

    Raises:
        LayerError: If a layer is unknown or gives no tensor.
        ModelError: If the forward pass fails.
        ShapeError: If the output of a layer is none of those that can be pooled.
        DataError: If it is not finite.
    """

    def __init__(
        self,
        given: nn.Module | Teacher,
        layers: Sequence[str] | None,
        example: Batch,
        name: str,
        *,
        with_logits: bool,
    ) -> None:
        self.given, self.name = given, name
        self._keeps_logits = False
        self.layers, self._capture = _watched(given, layers, example, name)
        try:
            with torch.inference_mode():
                outputs = self._outputs(example)
                scores = outputs.logits
                self._keeps_logits = with_logits and scores is not None and scores.ndim == 2
                found = self._vectors(outputs, example)
            self.widths = {layer: rows.shape[1] for layer, rows in found.items()}
        except BaseException:
            self.close()
            raise

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return one vector a row by layer, and the class scores under ``LOGITS`` where kept.

        Raises:
            DataError: If one is not finite; layer, network and row are named.
        """
        return self._vectors(self._outputs(batch), batch)

    def _vectors(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        found = {layer: self._pooled(outputs, layer, batch) for layer in self.layers}
        if self._keeps_logits and outputs.logits is not None:
            found[LOGITS] = outputs.logits.float()
        for layer, rows in found.items():
            self._check_finite(layer, rows, batch)
        return found

    def said(self, rows: dict[str, Tensor]) -> Said:
        """Return gathered vectors as what this network said."""
        return Said(
            {layer: rows[layer] for layer in self.layers},
            rows[LOGITS] if self._keeps_logits else None,
        )

    def close(self) -> None:
        """Remove the hooks."""
        if self._capture is not None:
            self._capture.close()

    def _outputs(self, batch: Batch) -> Outputs:
        try:
            if self._capture is not None:
                return self._capture(batch.inputs)
            return cast(Teacher, self.given)(batch)
        except LimbeckError:
            raise
        except FORWARD_ERRORS as problem:
            message = failure_of(self.name, self.given, batch.inputs, problem)
            raise ModelError(message) from None

    def _pooled(self, outputs: Outputs, layer: str, batch: Batch) -> Tensor:
        if layer == LOGITS:
            if outputs.logits is None:
                raise LayerError(
                    f"{self.name}: expected logits; it gives features alone. Name one."
                )
            rows = outputs.logits
        else:
            rows = feature_of("measure", self.name, outputs, layer)
        if rows.ndim < 2 or rows.shape[0] != len(batch):
            raise ShapeError(
                f"measure: expected one vector a row from layer {layer!r} of {self.name}; got "
                f"{tuple(rows.shape)} for {len(batch)} rows. Choose a layer that keeps the rows."
            )
        try:
            return pooled(rows, batch).float()
        except ShapeError as problem:
            raise ShapeError(f"layer {layer!r} of {self.name}: {problem}") from None

    def _check_finite(self, layer: str, rows: Tensor, batch: Batch) -> None:
        bad = ~torch.isfinite(rows).all(1)
        if bool(bad.any()):
            raise DataError(
                f"measure: expected finite features from layer {layer!r} of {self.name}; got NaN "
                f"or infinity in {int(bad.sum())} of {len(batch)} rows, first in row "
                f"{int(batch.index[bad][0])}. Look for what made them: weights, or the precision."
            )


@contextlib.contextmanager
def in_eval(given: nn.Module | Teacher, device: torch.device) -> Generator[None]:
    """Put a module on a device and into eval mode; both are as before at the end."""
    if not isinstance(given, nn.Module):
        yield
        return
    modes = {part: part.training for part in given.modules()}
    before = next((tensor.device for tensor in given.parameters()), None)
    given.to(device).eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        if before is not None and before != device:
            given.to(before)


def read(
    networks: Sequence[Network],
    rows: Data,
    chosen: Tensor,
    example: Batch,
    *,
    batch_size: int,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda _: None,
) -> tuple[Tensor, Tensor, list[Said]]:
    """Run networks over chosen rows in one pass, without gradient.

    Under several processes each takes whole batches in turn, so that a batch is made of the same
    rows however many there are, and all get all rows.

    Args:
        networks: Which to run.
        rows: The data.
        chosen: Positions of rows, ascending.
        example: A few rows of the data, on the device.
        batch_size: Rows at a time.
        device: Where the batches go.
        on_batch: Called with the number of rows of each batch that this process has done.

    Returns:
        The positions and targets of the rows that have a label, and what the networks said there.

    Raises:
        DataError: If the data has no targets, or a vector is not finite.
    """
    plan = [(part, torch.zeros_like(part)) for part in chosen.split(batch_size)]
    mine = plan[dist.get_rank() :: world_size()] if world_size() > 1 else plan
    count = sum(len(part) for part, _ in mine)
    kept = [
        {layer: torch.empty(count, width) for layer, width in network.widths.items()}
        for network in networks
    ]
    places, targets = [torch.empty(0, dtype=torch.int64)], [_labels(example, rows.name)[:0].cpu()]
    start = 0
    with torch.inference_mode():
        for batch in rows.batches(mine, device):
            labels = _labels(batch, rows.name)
            known = known_rows(labels)
            end = start + int(known.sum())
            for network, into in zip(networks, kept, strict=True):
                for layer, found in network(batch).items():
                    into[layer][start:end] = found[known].cpu()
            places.append(batch.index[known].cpu())
            targets.append(labels[known].cpu())
            start = end
            on_batch(len(batch))
    where = device if device.type == "cuda" else torch.device("cpu")
    positions = _all(torch.cat(places), where)
    order = positions.argsort() if world_size() > 1 else slice(None)
    labels = _all(torch.cat(targets), where)
    said = [
        network.said({layer: _all(each[:start], where)[order] for layer, each in into.items()})
        for network, into in zip(networks, kept, strict=True)
    ]
    return positions[order], labels[order], said


def known_rows(targets: Tensor) -> Tensor:
    """Say which targets are known: class indices from 0, or finite numbers."""
    known = torch.isfinite(targets) if targets.is_floating_point() else targets >= 0
    return known if known.ndim == 1 else known.flatten(1).all(1)


def _watched(
    given: nn.Module | Teacher, layers: Sequence[str] | None, example: Batch, name: str
) -> tuple[tuple[str, ...], Capture | None]:
    """Return the layers to read, and the capture of those inside of a module."""
    chosen = tuple(layers or (LOGITS,))
    if not isinstance(given, nn.Module):
        return chosen, None
    if layers is None:
        try:
            return (PENULTIMATE,), Capture(given, (PENULTIMATE,), example=example.inputs, name=name)
        except LayerError:  # it has no linear head
            pass
    inner = [layer for layer in chosen if layer != LOGITS]
    return chosen, Capture(given, inner, example=example.inputs, name=name)


def _labels(batch: Batch, name: str) -> Tensor:
    if batch.targets is None:
        raise DataError(
            f"measure: expected targets in {name} to measure information about; got inputs alone. "
            "Give (input, target) rows."
        )
    return batch.targets


def _all(rows: Tensor, device: torch.device) -> Tensor:
    return rows if world_size() == 1 else gather_rows(rows.to(device)).cpu()
