"""Moments by random directions: forward passes with derivatives, and one backward pass a mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.randomness import generator
from limbeck.weighting.measuring.collecting import checked
from limbeck.weighting.measuring.curvature import rows_along
from limbeck.weighting.measuring.problem import Parameters, Part, Problem
from limbeck.weighting.measuring.products import Numbers, Products, influences
from limbeck.weighting.measuring.stripes import all_stripes


PROBES = 16


class Probed(NamedTuple):
    """Products of all rows, estimated, and the error that the random directions add.

    Attributes:
        products: Of the whole model, as one layer.
        added: Covariance of the five moments over the directions, [5, 5].
    """

    products: Products
    added: Numbers


def collect(
    problem: Problem,
    parts: list[Part],
    means: tuple[Parameters, Parameters],
    *,
    probes: int = PROBES,
    seed: int = 0,
    preconditioner: Mapping[str, Tensor] | None = None,
) -> Probed:
    r"""Estimate every row's products from derivatives along random directions.

    With signs v, :math:`\langle g_i, v \rangle \langle h_i, v \rangle` is
    :math:`\langle g_i, h_i \rangle` on average; derivatives along gbar and hbar themselves give the
    products with the means, so that those carry no error of the directions.

    Args:
        problem: The student, in eval mode.
        parts: The rows.
        means: gbar and hbar over all rows.
        probes: Number of random directions, at least 2.
        seed: Of the directions.
        preconditioner: Factors of the inner product, as the other ways take them.
    """
    directions = [_signs(problem.parameters, preconditioner, seed, at) for at in range(probes)]
    directions += [
        mean
        if preconditioner is None
        else {k: v * preconditioner[k].to(v) for k, v in mean.items()}
        for mean in means
    ]
    along = [rows_along(problem, parts, direction) for direction in directions]
    g, h = (all_stripes(torch.stack(side, 1)).cpu().numpy() for side in zip(*along, strict=True))
    drawn_g, drawn_h = g[:, :probes], h[:, :probes]
    own = np.stack([drawn_g * drawn_h, drawn_g**2, drawn_h**2], axis=2)
    with_means = np.concatenate([g[:, probes:], h[:, probes:]], axis=1)
    values = np.concatenate([own.mean(1), with_means], axis=1)
    each = [influences(np.concatenate([own[:, at], with_means], axis=1))[0] for at in range(probes)]
    return Probed(checked(Products(("model",), values[None])), np.cov(np.stack(each).T) / probes)


def _signs(
    parameters: Parameters, preconditioner: Mapping[str, Tensor] | None, seed: int, at: int
) -> Parameters:
    found = {}
    for name, value in parameters.items():
        drawn = torch.randint(2, value.shape, generator=generator(seed, "probe", at, name))
        signs = (2 * drawn - 1).to(value)
        found[name] = (
            signs if preconditioner is None else signs * preconditioner[name].to(value).sqrt()
        )
    return found
