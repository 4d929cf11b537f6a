"""A proxy of the moments without any backward pass: the last linear layer alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.capture import find_head
from limbeck.checks import ArgumentError
from limbeck.ranks import sum_over_ranks
from limbeck.weighting.measuring.collecting import checked
from limbeck.weighting.measuring.problem import Part, Problem
from limbeck.weighting.measuring.products import Products
from limbeck.weighting.measuring.stripes import all_stripes


def collect(problem: Problem, parts: list[Part], rows: int) -> Products:
    r"""Return the products of the gradients of the layer that gives the logits.

    With :math:`\phi_i` what goes into it and :math:`d_i` the derivatives by the logits,
    :math:`\langle g_i, h_j \rangle = \langle d^g_i, d^h_j \rangle (\phi_i' \phi_j + 1)`, the 1 only
    with a bias. The other layers are left out, so that weights made of these are biased.

    Args:
        problem: The student, in eval mode.
        parts: The rows.
        rows: The number of rows of all processes.

    Raises:
        LayerError: If no linear layer's output is the logits.
    """
    name = find_head(problem.student, parts[0].batch.inputs, "student")
    head = problem.student.get_submodule(name)
    assert isinstance(head, nn.Linear)
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            for part in parts:
                problem.function(problem.parameters, part.batch.inputs)
    finally:
        handle.remove()
    phi = torch.cat(seen).double()
    if phi.ndim != 2:
        raise ArgumentError(
            "gradient_moments: expected one vector a row before the last layer for "
            f"method='last_layer'; got shape {tuple(phi.shape)}. Take another method."
        )
    if cast(Any, head.bias) is not None:
        phi = torch.cat([phi, phi.new_ones(len(phi), 1)], dim=1)
    g = torch.cat([part.g[0] for part in parts]).double()
    h = torch.cat([part.h[0] for part in parts]).double()
    size = phi.square().sum(1)
    own = [size * torch.linalg.vecdot(a, b) for a, b in ((g, h), (g, g), (h, h))]
    means = [sum_over_ranks(one.T @ phi) / rows for one in (g, h)]
    with_means = [torch.linalg.vecdot(one, phi @ mean.T) for one in (g, h) for mean in means]
    values = all_stripes(torch.stack([*own, *with_means], dim=1)).cpu().numpy()
    return checked(Products((name,), values[None]))
