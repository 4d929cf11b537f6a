"""Products with the Gauss-Newton matrix of a loss, from its graph alone: no module is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.checks import ArgumentError


def gauss_newton_of(
    task: Tensor, logits: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    r"""Return the product with :math:`J' (\nabla_z^2 \ell) J` of a loss :math:`\ell(z)`.

    J is the Jacobian of the logits z by the parameters; its products are two backward passes each,
    of which the second differentiates the first: every operator must have a second derivative.
    Fused attention has none; ask for plain ("eager") attention.

    Args:
        task: A scalar, with its graph, which stays alive.
        logits: All that lies between parameters and loss.
        parameters: Leaves.

    Returns:
        A function of one tensor a parameter that returns the same.

    Raises:
        ArgumentError: If the loss was not computed from the logits.

    Example:
        z = 3 x and z^2: 3 * 2 * 3.

        >>> x = torch.ones(1, requires_grad=True)
        >>> z = 3 * x
        >>> gauss_newton_of((z**2).sum(), [z], [x])([torch.ones(1)])
        [tensor([18.])]

    Source:
        Schraudolph (2002), Neural Computation 14, 1723-1738.
    """
    keep: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
    try:
        slopes = torch.autograd.grad(task, logits, create_graph=True)
    except RuntimeError as error:
        raise ArgumentError(
            "gauss_newton_of: expected `logits` that the task loss was computed from; got others. "
            "Pass the student's output itself, not a copy of it."
        ) from error
    ends = tuple(torch.zeros_like(one, requires_grad=True) for one in logits)
    pulled = torch.autograd.grad(logits, parameters, ends, create_graph=True, **keep)

    def product(direction: Sequence[Tensor]) -> list[Tensor]:
        linear = [(p, d) for p, d in zip(pulled, direction, strict=True) if p.requires_grad]
        moved = torch.autograd.grad([p for p, _ in linear], ends, [d for _, d in linear], **keep)
        curved = [(s, m) for s, m in zip(slopes, moved, strict=True) if s.requires_grad]
        if not curved:
            return [torch.zeros_like(d) for d in direction]
        bent = torch.autograd.grad([s for s, _ in curved], logits, [m for _, m in curved], **keep)
        return list(torch.autograd.grad(logits, parameters, bent, **keep))

    return product
