"""The curvature along the teacher's bias, looked at now and then while a student trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.types import Batch


ITERATIONS, ROWS = 6, 256
SPARE = 500  # looks come after so many times their rows, once the first doublings are through
Vector = list[Tensor]


class RunningCurvature:
    r"""The harmonic curvature along a direction, from a few conjugate gradients on recent rows.

    .. math:: \hat\mu = \frac{|b|^2}{b' (H + \epsilon I)^{-1} b}, \qquad
              \epsilon = \frac{1}{\gamma t} + \omega

    H is the Gauss-Newton matrix of the task, b the teacher's bias. The bias costs
    :math:`\tfrac12 b' H^{-1} b` at the plateau, so that :math:`\hat\mu` makes the weight of the
    long run exact for any spectrum; the Rayleigh quotient, the value after a single iteration, is
    larger, and the weight with it. Directions that t steps of size :math:`\gamma` do not reach, and
    those that weight decay :math:`\omega` holds, count for little: that is the damping.

    Conjugate gradients that end early leave :math:`\hat\mu` between the two. Rows are the latest
    of the measured batches, not those of the bias alone: a direction lies in the span of the rows
    it is made of, which bend along it more than others do.

    Looks are taken at the first, second, fourth, eighth ... measurement, and whenever 500 times
    their rows went by. Nothing here waits for the device.

    Args:
        rows: Collected for a look, on this process.
        iterations: Of conjugate gradients in a look.

    Source:
        Derived; conjugate gradients: Hestenes and Stiefel (1952).
    """

    def __init__(self, *, rows: int = ROWS, iterations: int = ITERATIONS) -> None:
        self.rows, self.iterations = rows, iterations
        self.value: Tensor | None = None
        self._batches: list[tuple[int, Batch]] = []  # with the steps they were of
        self._measured, self._passed = 0, 0

    def collect(self, step: int, batch: Batch, rows: int) -> bool:
        """Keep the rows of a measured step and say whether to look now.

        Args:
            step: Its number, from which the rows can be had again.
            batch: This process's rows.
            rows: That training saw since the last measurement, over all processes.
        """
        self._batches.append((step, batch))
        while sum(len(one) for _, one in self._batches[1:]) >= self.rows:
            del self._batches[0]
        self._measured += 1
        self._passed += rows
        doubled = self._measured & (self._measured - 1) == 0
        if doubled or self._passed >= SPARE * self.rows:
            self._passed = 0
            return True
        return False

    def collected(self) -> Batch:
        """Return the latest rows as one batch."""
        return joined([batch for _, batch in self._batches])

    def look(
        self, product: Callable[[Vector], Vector], along: Vector, damping: Tensor | float
    ) -> None:
        """Solve for the curvature along a direction; one of zeros leaves what was found before.

        Args:
            product: With the Gauss-Newton matrix.
            along: b, one tensor a parameter.
            damping: Epsilon, at least 0.
        """
        found = harmonic_curvature(product, along, damping, self.iterations)
        self.value = found if self.value is None else torch.where(found > 0, found, self.value)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next looks depend on, but rows by the number of their step."""
        return {
            "value": self.value,
            "steps": [step for step, _ in self._batches],
            "measured": self._measured,
            "passed": self._passed,
        }

    def load_state_dict(self, state: Mapping[str, Any], rows_of: Callable[[int], Batch]) -> None:
        """Go on from a state of :meth:`state_dict`.

        Args:
            state: As it was returned.
            rows_of: Serves the rows of a step again, where they were.
        """
        self.value = state["value"]
        self._batches = [(step, rows_of(step)) for step in state["steps"]]
        self._measured, self._passed = state["measured"], state["passed"]


def harmonic_curvature(
    product: Callable[[Vector], Vector], along: Vector, damping: Tensor | float, iterations: int
) -> Tensor:
    r"""Return :math:`|b|^2 / b' (H + \epsilon I)^{-1} b` by conjugate gradients from zero.

    After one iteration this is the Rayleigh quotient plus the damping; it falls with each further
    one, to the harmonic curvature. A direction of zeros gives 0.

    Args:
        product: With H, positive semi-definite.
        along: b, one tensor a parameter.
        damping: Epsilon, at least 0.
        iterations: At least 1.

    Returns:
        The curvature [loss per squared parameter], a scalar on the device of ``along``.

    Example:
        H = diag(1, 3), b = (1, 1): the Rayleigh quotient is 2, the harmonic mean 2 / (1 + 1/3).

        >>> h = torch.tensor([1.0, 3.0])
        >>> for steps in (1, 2):
        ...     harmonic_curvature(lambda v: [h * v[0]], [torch.ones(2)], 0.0, steps)
        tensor(2.)
        tensor(1.5000)

    Source:
        Hestenes and Stiefel (1952), Journal of Research of the NBS 49, 409-436.
    """
    residual = along
    square = first = _inner(residual, residual)
    solved = torch.zeros_like(first)
    direction = along
    for _ in range(iterations):
        bent = [h + damping * d for h, d in zip(product(direction), direction, strict=True)]
        step = _ratio(square, _inner(direction, bent))
        solved = solved + step * square
        residual = [r - step * b for r, b in zip(residual, bent, strict=True)]
        before, square = square, _inner(residual, residual)
        again = _ratio(square, before)
        direction = [r + again * d for r, d in zip(residual, direction, strict=True)]
    return _ratio(first, solved)


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches of one process as one."""
    first = batches[0]
    if len(batches) == 1:
        return first

    def column(name: str) -> Any:
        parts = [getattr(batch, name) for batch in batches]
        if parts[0] is None:
            return None
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    return Batch(**{name: column(name) for name in Batch.__dataclass_fields__})


def _inner(first: Vector, second: Vector) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    return torch.where(bottom > 0, top / bottom, torch.zeros_like(top))
