"""From gradients of units, a few at a time, to their inner products: nothing else is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.checks import DataError
from limbeck.losses.numerics import at_least_float32
from limbeck.randomness import generator
from limbeck.weighting.measuring.problem import Parameters
from limbeck.weighting.measuring.products import Numbers, Products
from limbeck.weighting.measuring.stripes import all_stripes


TOLERANCE = 1e-3  # relative, of means that were computed in two ways
NARROW_TOLERANCE = 0.03  # of gradients in bfloat16 or half precision
SKETCH = 4096  # numbers that a unit's h is folded into, to see how many directions its noise has


class Factored(NamedTuple):
    """Gradients of a linear layer, one outer product a unit: derivative times input.

    Attributes:
        inputs: [units, in], with a last column of ones where the layer has a bias.
        g: Derivatives by the layer's output, [units, out].
        h: The same of task minus distillation.
        bias: Whether there is that column.
    """

    inputs: Tensor
    g: Tensor
    h: Tensor
    bias: bool


def layers_of(names: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the parameters of each layer: those whose dotted names differ in the last part.

    The model's own parameters are those of layer "".
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


class Collector:
    """Takes gradients of units and keeps their products with each other and with the means.

    Args:
        means: The mean gradients gbar and hbar over all units of all processes.
        preconditioner: For each parameter the factors D_k of the inner product
            sum_k D_k u_k w_k, of its shape; None for ones.
        rows: Rows in a unit.
    """

    def __init__(
        self,
        means: tuple[Parameters, Parameters],
        *,
        preconditioner: Mapping[str, Tensor] | None = None,
        rows: int = 1,
    ) -> None:
        self.rows, self.preconditioner = rows, preconditioner
        self.layers = layers_of(means[0])
        self._means = [
            self._flat({name: value[None] for name, value in side.items()}, self.layers)
            for side in means
        ]
        self._tolerance = TOLERANCE
        self._found: list[Tensor] = []
        self._sketches: list[Tensor] = []
        self._factors: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._signs: dict[str, Tensor] = {}

    def add(
        self, g: Parameters, h: Parameters, factored: Mapping[str, Factored] | None = None
    ) -> None:
        """Take in the gradients of some units.

        Args:
            g: Each [units, *shape of the parameter].
            h: The same of task minus distillation.
            factored: Layers whose gradients are given as factors instead.
        """
        factored = factored or {}
        given = [*g.values(), *(one.g for one in factored.values())]
        if any(one.itemsize < 4 for one in given):
            self._tolerance = NARROW_TOLERANCE
        whole = [layer for layer in self.layers if layer not in factored]
        flat_g, flat_h = self._flat(g, whole), self._flat(h, whole)
        numbers = []
        for layer in self.layers:
            gbar, hbar = (mean[layer][0] for mean in self._means)
            if layer in factored:
                numbers.append(_of_factors(factored[layer], gbar, hbar))
                self._factors.setdefault(layer, []).append(
                    (factored[layer].inputs, factored[layer].h)
                )
            else:
                numbers.append(_of_vectors(flat_g[layer], flat_h[layer], gbar, hbar))
        self._found.append(torch.stack(numbers))
        if whole:
            self._sketches.append(self._sketch(flat_h))

    def products(self) -> Products:
        """Return what was collected, by all processes.

        Raises:
            DataError: If a gradient was NaN or infinite; the layers are named.
        """
        found = torch.cat(self._found, dim=1).transpose(0, 1).contiguous()
        values = all_stripes(found).transpose(0, 1).cpu().numpy()
        return checked(Products(tuple(name or "model" for name in self.layers), values, self.rows))

    def disagreeing(self) -> list[str]:
        """Return the layers whose collected gradients do not have the means that were given."""
        found = self.products().values
        odd = []
        for layer, numbers in zip(self.layers, found, strict=True):
            _, gg, hh, g_gbar, _, _, h_hbar = numbers.mean(0)
            for own, mean, along in ((gg, self._means[0], g_gbar), (hh, self._means[1], h_hbar)):
                square = float(mean[layer].double().square().sum())
                noise = math.sqrt(max(own, 0.0) * square / len(numbers))
                if abs(along - square) > self._tolerance * (square + noise):
                    odd.append(layer or "model")
                    break
        return odd

    def gram(self) -> Numbers:
        """Return the inner products of all units' h, [units, units]; in large layers estimates."""
        total: Tensor | float = 0.0
        if self._sketches:
            rows = all_stripes(torch.cat(self._sketches)).double()
            total = rows @ rows.T
        for kept in self._factors.values():
            inputs, h = (all_stripes(torch.cat(one)).double() for one in zip(*kept, strict=True))
            total = total + (inputs @ inputs.T) * (h @ h.T)
        assert isinstance(total, Tensor)
        return total.cpu().numpy()

    def _flat(self, gradients: Parameters, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return one matrix a layer, in coordinates where the inner product is the plain one."""
        found: dict[str, Tensor] = {}
        for layer in layers:
            parts = []
            for name in self.layers[layer]:
                value = at_least_float32(gradients[name])[0]
                if self.preconditioner is not None:
                    value = value * self.preconditioner[name].to(value.dtype).sqrt()
                parts.append(value.flatten(1))
            found[layer] = torch.cat(parts, dim=1)
        return found

    def _sketch(self, h: dict[str, Tensor]) -> Tensor:
        """Fold all coordinates, with random signs, into SKETCH sums: inner products stay unbiased.

        Fewer coordinates are kept as they are.
        """
        if sum(value.shape[1] for value in h.values()) <= SKETCH:
            return torch.cat(list(h.values()), dim=1)
        first = next(iter(h.values()))
        folded = first.new_zeros(len(first), SKETCH)
        for layer, value in h.items():
            if layer not in self._signs:
                drawn = torch.randint(2, (value.shape[1],), generator=generator(0, "fold", layer))
                self._signs[layer] = (2 * drawn.to(torch.int8) - 1).to(value.device)
            for part, signs in zip(
                value.split(SKETCH, dim=1), self._signs[layer].split(SKETCH), strict=True
            ):
                folded[:, : part.shape[1]] += part * signs
        return folded


def checked(products: Products) -> Products:
    """Return the products if all are finite.

    Raises:
        DataError: If one is not; the layers are named.
    """
    bad = [
        layer
        for layer, own in zip(products.layers, products.values, strict=True)
        if not np.isfinite(own).all()
    ]
    if bad:
        raise DataError(
            "gradient_moments: expected finite gradients; got NaN or infinite ones in the layers "
            f"{', '.join(bad[:5])}{' and more' if len(bad) > 5 else ''}. Look for NaN in the "
            "inputs and the weights."
        )
    return products


def noise_dimensions(gram: Numbers, tr_hh: float, rows: int = 1) -> float:
    r"""Return over how many directions the noise of h is spread.

    .. math:: r = \frac{(\mathrm{tr}\, C)^2}{\mathrm{tr}\, C^2}, \qquad C = \mathrm{Cov}(h),
              \qquad \mathrm{tr}\, C^2 = \mathrm{E}_{i \ne j}
              \bigl(K_{ij} + \mathrm{tr}\, C / n\bigr)^2

    K holds the inner products of two units' h after centring.

    Args:
        gram: Inner products of the units' h, [units, units].
        tr_hh: The trace of its covariance, a row.
        rows: Rows in a unit.

    Returns:
        At least 1 up to sampling error; infinite where h does not vary.

    Source:
        Derived; 7 % high at 64 units, within 1 % from 256.
    """
    units = len(gram)
    trace = tr_hh / rows
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    apart = (centred + trace / units) ** 2
    square = (apart.sum() - np.trace(apart)) / (units * (units - 1))
    return float(trace**2 / square) if square > 0 else float("inf")


def _of_vectors(g: Tensor, h: Tensor, gbar: Tensor, hbar: Tensor) -> Tensor:
    own = [torch.linalg.vecdot(a, b) for a, b in ((g, h), (g, g), (h, h))]
    return torch.stack([*own, g @ gbar, g @ hbar, h @ gbar, h @ hbar], dim=1).double()


def _of_factors(factored: Factored, gbar: Tensor, hbar: Tensor) -> Tensor:
    inputs, g, h = at_least_float32(*factored[:3])
    bias = factored.bias
    size = inputs.square().sum(1)
    own = [size * torch.linalg.vecdot(x, y) for x, y in ((g, h), (g, g), (h, h))]
    shape = g.shape[1], inputs.shape[1] - bias
    onto = []
    for mean in (gbar, hbar):
        weight, rest = mean.split([shape[0] * shape[1], len(mean) - shape[0] * shape[1]])
        image = inputs[:, : shape[1]] @ weight.view(shape).T
        onto.append(image + rest if bias else image)
    with_means = [torch.linalg.vecdot(side, image) for side in (g, h) for image in onto]
    return torch.stack([*own, *with_means], dim=1).double()
