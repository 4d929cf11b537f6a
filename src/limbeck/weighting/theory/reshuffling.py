"""What gradient noise is left where every epoch takes each row once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ArgumentError


def reshuffled_share(pace: float | Tensor, steps_per_epoch: int) -> Float[Tensor, ""]:
    r"""Return the noise at the end of an epoch without replacement, as a share of that with it.

    .. math:: f = \frac{n}{n - 1} - \frac{1}{n - 1}\, \frac{1 + a}{1 - a}\,
              \frac{1 - a^n}{1 + a^n}, \qquad a = 1 - \gamma \mu

    The batches of an epoch sum to the full gradient, so that what one puts in the next take out
    again, unless it is forgotten by then. The smaller the steps, the less noise is left:
    :math:`f \approx (\gamma \mu n)^2 / 12` below one, and 1 - 2 / (gamma mu n) far above. The bias
    of a teacher stays as it is, so that the best weight is smaller than for independent batches.

    Args:
        pace: gamma mu, learning rate times curvature, at least 0; a tensor is not looked at. From 1
            on a step forgets all before it, and f is 1.
        steps_per_epoch: n; 1 is the full gradient, without noise.

    Returns:
        f in [0, n / (n - 1)], on the device of ``pace``.

    Raises:
        ArgumentError: If ``steps_per_epoch`` is below 1, or a ``pace`` that is known below 0.

    Example:
        a = 1/2, n = 2: 2 - 3 * (3/4) / (5/4) = 1/5. By hand: noise +1, -1 or -1, +1 in each epoch
        leaves +-1/2 and a quarter of what was before: (1/4) / (1 - 1/16) = 4/15, of 1 / (1 - 1/4).

        >>> reshuffled_share(0.5, 2)
        tensor(0.2000)

    Source:
        Derived: variance of x <- a x - gamma xi, with xi drawn without replacement in each epoch.
    """
    if steps_per_epoch < 1:
        raise ArgumentError(
            f"reshuffled_share: expected `steps_per_epoch` >= 1; got {steps_per_epoch}."
        )
    if not isinstance(pace, Tensor):
        if not pace >= 0:
            raise ArgumentError(f"reshuffled_share: expected `pace` >= 0; got {pace}.")
        pace = torch.tensor(float(pace))
    if steps_per_epoch == 1:
        return torch.zeros_like(pace)
    n, wide = steps_per_epoch, pace.double().clamp(0.0, 1.0)
    kept = torch.exp(n * torch.log1p(-wide))
    # The limit n of a steady pace of zero, where both parts of the fraction vanish.
    lost = torch.where(wide > 0, (2 - wide) / wide * (1 - kept) / (1 + kept), float(n))
    return ((n - lost) / (n - 1)).clamp_min(0.0).to(pace.dtype)
