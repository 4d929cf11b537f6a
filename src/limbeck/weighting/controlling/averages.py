"""Running averages of measurements that stay on the device, with what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.numerics import at_least_float32


class RunningMean:
    r"""An exponential moving average of a list of tensors, without the pull of its start at zero.

    .. math:: m_t = \frac{\sum_{i \le t} d^{t - i} x_i}{\sum_{i \le t} d^{t - i}}, \qquad
              n_\mathrm{eff} = \frac{(\sum_i d^{t - i})^2}{\sum_i d^{2 (t - i)}} =
              \frac{1 + d}{1 - d} \cdot \frac{1 - d^t}{1 + d^t}

    The first form is the usual average divided by :math:`1 - d^t`. The state is float32 or wider,
    lies where the values lie, and nothing here waits for the device.

    Args:
        decay: Factor d of an observation's weight with each later one, in [0, 1); 0 keeps the last.

    Raises:
        ArgumentError: If the decay is outside of its range.

    Example:
        Weights 1/2 and 1: (1/2 * 3 + 6) / (3/2) = 5, worth (3/2)^2 / (5/4) = 1.8 observations.

        >>> running = RunningMean(0.5)
        >>> for value in (3.0, 6.0):
        ...     running.update([torch.tensor(value)])
        >>> running.mean, round(running.count.item(), 6)
        ([tensor(5.)], 1.8)
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError(
                f"RunningMean: expected `decay` in [0, 1); got {decay}. With 0.99 about the last "
                "100 observations count."
            )
        self.decay = decay
        self._mean: list[Tensor] = []
        self._mass = self._squares = torch.zeros(())

    @property
    def started(self) -> bool:
        """Whether anything was observed."""
        return bool(self._mean)

    @property
    def mean(self) -> list[Tensor]:
        """The average, in the order of the values; empty before the first one."""
        return self._mean

    @property
    def count(self) -> Float[Tensor, ""]:
        """The effective number of independent observations; 0 before the first one."""
        return self._mass**2 / self._squares.clamp_min(1.0)

    @property
    def mass(self) -> Float[Tensor, ""]:
        """The sum of the weights, at least 1; the last observation has weight 1."""
        return self._mass.clamp_min(1.0)

    def update(self, values: Sequence[Tensor], keep: Bool[Tensor, ""] | None = None) -> None:
        """Take one observation in.

        Args:
            values: Tensors of the same number and shapes every time; gradients stop here.
            keep: Where False, on the device, the observation is left out.

        Raises:
            ShapeError: If number or shapes differ from those of the first observation.
        """
        wide = [at_least_float32(value.detach())[0] for value in values]
        self._prepare(wide)
        mass, squares = self.decay * self._mass + 1, self.decay**2 * self._squares + 1
        if keep is not None:
            # A product with zero would keep what is not finite.
            wide = [torch.where(keep, new, old) for new, old in zip(wide, self._mean, strict=True)]
            mass = torch.where(keep, mass, self._mass)
            squares = torch.where(keep, squares, self._squares)
        self._mass, self._squares = mass, squares
        share = 1 / self.mass
        self._mean = [
            torch.lerp(old, new, share.to(old.dtype))
            for old, new in zip(self._mean, wide, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors that make up the state; empty before the first value."""
        if not self.started:
            return {}
        return {
            "mean": [tensor.clone() for tensor in self._mean],
            "mass": self._mass.clone(),
            "squares": self._squares.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`; it moves to the device of the next value."""
        self._mean = [tensor.clone() for tensor in state.get("mean", [])]
        self._mass = state["mass"].clone() if state else torch.zeros(())
        self._squares = state["squares"].clone() if state else torch.zeros(())

    def _prepare(self, values: list[Tensor]) -> None:
        if not values:
            raise ShapeError("RunningMean: expected one tensor or more; got none. Pass a list.")
        if not self._mean:
            self._mean = [torch.zeros_like(value) for value in values]
            self._mass = self._squares = values[0].new_zeros(())
        shapes = [tuple(value.shape) for value in values]
        expected = [tuple(tensor.shape) for tensor in self._mean]
        if shapes != expected:
            raise ShapeError(
                f"RunningMean: expected tensors of shapes {expected}, as before; got {shapes}. "
                "Pass the same parameters in the same order every time."
            )
        self._mean = [old.to(new.device) for old, new in zip(self._mean, values, strict=True)]
        self._mass = self._mass.to(values[0].device)
        self._squares = self._squares.to(values[0].device)


class RunningMoments:
    r"""A :class:`RunningMean` of a scalar, or of a few, that knows the variance of its mean.

    .. math:: \widehat{\mathrm{Var}}(m_t) = \frac{s_t}{n_\mathrm{eff} - 1}, \qquad
              s_t = \frac{\sum_i d^{t - i} (x_i - m_t)^2}{\sum_i d^{t - i}}

    Unbiased for independent observations of one distribution. Observations that follow each other
    closely are alike, and then the variance comes out too small.

    Args:
        decay: As for the mean.

    Example:
        Weights 1/2 and 1, mean 5: s = (1/2 * 4 + 1) / (3/2) = 2, and 2 / (1.8 - 1) = 2.5.

        >>> running = RunningMoments(0.5)
        >>> for value in (3.0, 6.0):
        ...     running.update(torch.tensor(value))
        >>> running.mean, round(running.covariance.item(), 5)
        (tensor(5.), 2.5)
    """

    def __init__(self, decay: float) -> None:
        self._first = RunningMean(decay)
        self._spread = torch.zeros(())

    @property
    def started(self) -> bool:
        """Whether anything was observed."""
        return self._first.started

    @property
    def mean(self) -> Tensor:
        """The average, a scalar or a vector as observed."""
        if not self.started:
            raise ArgumentError("RunningMoments: expected a value first; got none. Call update().")
        return self._first.mean[0]

    @property
    def count(self) -> Float[Tensor, ""]:
        """The effective number of independent observations."""
        return self._first.count

    @property
    def covariance(self) -> Tensor:
        """Variance of the mean, or [k, k] covariance; infinite up to the second observation."""
        spare = self.count - 1
        # Two observations leave 2 d / (1 + d^2) to spare; one leaves nothing but rounding.
        return torch.where(spare > 1e-4, self._spread / spare, torch.inf)

    def update(self, value: Tensor, keep: Bool[Tensor, ""] | None = None) -> None:
        """Take a scalar or a vector [k] in; ``keep`` as for the mean.

        Raises:
            ShapeError: If the value is a matrix or more, or differs in shape from the first one.
        """
        if value.ndim > 1:
            raise ShapeError(
                f"RunningMoments: expected a scalar or a vector; got {tuple(value.shape)}. Use "
                "RunningMean where no variance is needed."
            )
        before = self._first.mean[0] if self.started else None
        self._first.update([value], keep)
        new = at_least_float32(value.detach())[0]
        step = new if before is None else new - before.to(new.device)
        square = step * step if step.ndim == 0 else torch.outer(step, step)
        old = torch.zeros_like(square) if before is None else self._spread.to(new.device)
        share = 1 / self._first.mass
        spread = (1 - share) * (old + share * square)
        self._spread = spread if keep is None else torch.where(keep, spread, old)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors that make up the state; empty before the first value."""
        if not self.started:
            return {}
        return {"first": self._first.state_dict(), "spread": self._spread.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`."""
        self._first.load_state_dict(state.get("first", {}))
        self._spread = state["spread"].clone() if state else torch.zeros(())
