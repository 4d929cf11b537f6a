"""How much of a running average comes from rows that exclude each other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


class SameEpoch:
    r"""The weight that pairs of observations of one epoch have in a product of two averages.

    .. math:: s = \sum_e W_e^2, \qquad W_e = \sum_{i \in e} d^{t - i} \Big/ \sum_{i \le t} d^{t - i}

    An epoch takes each of its N rows once, so that different rows of it are correlated by -1 /
    (N - 1): two averages over different rows, with weights W_e each, have the covariance -s v / N,
    with v the variance of a row (as of a sample, with N - 1 below). Rows of different epochs are
    independent.

    Args:
        decay: d of the averages, per observation.

    Example:
        Two observations of one epoch, one of the next, d = 1/2: weights 1/7, 2/7, 4/7, and
        (3/7)^2 + (4/7)^2 = 25/49.

        >>> shared = SameEpoch(0.5)
        >>> for epoch in (0, 0, 1):
        ...     shared.update(epoch)
        >>> round(49 * shared.share.item(), 9)
        25.0

    Source:
        Derived; covariance of sampling without replacement: Cochran (1977), chapter 2.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        # The last epoch, and of the weights: sum, that of this epoch, sum of squares. On the CPU.
        self._numbers = torch.tensor([-1.0, 0.0, 0.0, 0.0], dtype=torch.float64)

    @property
    def share(self) -> Float[Tensor, ""]:
        """The sum of the squared weights of the epochs, in [0, 1]; 0 before the first one."""
        _, mass, _, squares = self._numbers.unbind(-1)
        return squares / (mass * mass).clamp_min(1.0)

    def update(self, epoch: int) -> None:
        """Take in that an observation was made, and in which epoch, counted from 0."""
        last, mass, own, squares = self._numbers.unbind(-1)
        before = torch.where(last == epoch, self.decay * own, 0.0)
        self._numbers = torch.stack(
            [
                torch.full_like(last, epoch),
                self.decay * mass + 1,
                before + 1,
                self.decay**2 * squares + 2 * before + 1,
            ]
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the numbers that make up the state."""
        return {"numbers": self._numbers.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of :meth:`state_dict`."""
        self._numbers = state["numbers"].clone().cpu()
