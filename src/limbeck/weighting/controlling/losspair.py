"""The distillation weight from the losses of student and teacher, and the noise of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.weighting.controlling.averages import RunningMean, RunningMoments
from limbeck.weighting.controlling.half_batches import (
    Halves,
    Scalar,
    beside,
    check_maximum,
    check_setting,
    check_started,
    halves_apart,
    inner,
    kept,
    ratio_interval,
    setting_of,
    student_quantile,
)


LARGEST_MEAN = 0.95  # beyond it losses say little of the teacher: both sides vanish


class LossPairController:
    r"""The weight from the losses of student and teacher: no curvature, no gradient of h.

    With gradients g of the task of two halves of m rows, the weight lambda in use and the losses of
    student and teacher on the same samples,

    .. math:: A = \frac{\gamma}{4 B}\, \overline{\tfrac{m}{2} \| g_1 - g_2 \|^2}, \quad
              E = \overline{\mathrm{CE}_S - \mathrm{CE}_T}, \quad
              \ell = \min(\overline{\lambda}, 0.95), \quad
              \Delta = \max\left(\frac{(1 - \ell)^2 A - E}{1 - \ell^2}, 0\right)

    and :math:`\lambda = A / (A + \Delta)`, cut to [0, maximum]. A is the floor that noise leaves
    plain SGD on, Delta the excess loss of the teacher [both nats]. While the student is far behind,
    Delta is 0 and the weight large: follow the teacher. Valid only where the teacher's excess is a
    bias within the student's class (same architecture and basin): with another teacher it trusts
    too much. 0 / 0 gives 0; a measurement that is not finite is left out.

    The interval is that of Fieller for E / A, carried through the formula, which rises with E / A;
    variances are those of the averages, taken as independent, lbar as exact, and Student's quantile
    stands for 1.96. Losses of a student that moves slowly are alike from one measurement to the
    next: then it is too narrow. Where A may be zero at this level, and up to the second
    measurement, it is all of [0, maximum].

    Args:
        fast_decay: Of the noise, **per measurement**, in [0, 1).
        slow_decay: Of losses and weight, which need the same window.
        maximum: Largest weight, in (0, 1].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        tr_gg = 9, gamma = 1/20, B = 4: A = 9/320 nats. E = -0.01 and a weight in use of 1/2 give
        Delta = (A/4 + 0.01) / (3/4) = 0.0227 and A / (A + Delta) = 0.5533.

        >>> controller = LossPairController()
        >>> controller.observe(
        ...     ([torch.tensor([-1.5])], [torch.tensor([1.5])]),
        ...     torch.tensor(0.69),
        ...     torch.tensor(0.70),
        ...     rows=2,
        ...     learning_rate=0.05,
        ...     batch_size=4,
        ...     weight=0.5,
        ... )
        >>> round(controller.weight().item(), 4)
        0.5533

    Source:
        Derived from the plateau E = (1 - lambda)^2 A - (1 - lambda^2) Delta; the setting is that of
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """

    def __init__(
        self, *, fast_decay: float = 0.99, slow_decay: float = 0.999, maximum: float = 0.95
    ) -> None:
        check_maximum("LossPairController", maximum)
        self.maximum = maximum
        self._noise = RunningMoments(fast_decay)
        self._gap = RunningMoments(slow_decay)
        self._weights = RunningMean(slow_decay)
        self._setting: dict[str, Tensor] = {}

    def observe(
        self,
        task: Halves,
        student_loss: Scalar,
        teacher_loss: Scalar,
        *,
        rows: float | int,
        learning_rate: Scalar,
        batch_size: int,
        weight: Scalar,
        preconditioner: Sequence[Tensor] | None = None,
    ) -> None:
        """Take the task gradients of two half-batches and two losses in, without waiting.

        Args:
            task: For both halves the gradients g of the mean task loss, one tensor a parameter
                (zeros where there is none), without weight decay.
            student_loss: Mean task loss of the student on the batch [nats].
            teacher_loss: The same of the teacher, on the same samples as they were seen by the
                student. A penalty belongs into both.
            rows: Samples m in each half, over all processes.
            learning_rate: The effective one: divide by 1 - momentum before, unless the average
                of the gradients is normalised (dampening, Adam).
            batch_size: Samples B of a training step, over all processes.
            weight: The distillation weight that the student was trained with up to here.
            preconditioner: As in :meth:`HbarController.observe`.

        Raises:
            ArgumentError: If a number is outside of its range.
            ShapeError: If the gradients do not fit each other.
        """
        where = "LossPairController"
        check_setting(where, rows, learning_rate, batch_size)
        noise = halves_apart(where, task)
        trace = rows / 2 * inner(noise, noise, preconditioner)
        gap = beside(student_loss, trace) - beside(teacher_loss, trace)
        setting = setting_of(trace, learning_rate, batch_size)
        used = beside(weight, trace)
        keep = torch.stack([trace, gap, used, *setting.values()]).isfinite().all()
        self._noise.update(trace, keep)
        self._gap.update(gap, keep)
        self._weights.update([used], keep)
        self._setting = kept(keep, setting, self._setting)

    def weight(self) -> Float[Tensor, ""]:
        """Return the weight from what was observed, in [0, maximum]."""
        parts = self.ingredients()
        floor, excess = parts["noise_floor"], parts["teacher_excess"]
        found = torch.where(floor > 0, floor / (floor + excess), torch.zeros_like(floor))
        return found.clamp(0.0, self.maximum)

    def interval(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the ends of the 95 % interval, in [0, maximum]; the weight lies inside."""
        parts = self.ingredients()
        per_trace = self._per_trace()
        variances = [self._gap.covariance, per_trace**2 * self._noise.covariance]
        covariance = torch.stack([variances[0], torch.zeros_like(variances[0]), variances[1]])
        z = student_quantile(torch.minimum(self._noise.count, self._gap.count))
        ends = ratio_interval(parts["loss_difference"], parts["noise_floor"], covariance, z)
        mean = parts["mean_weight"]
        weight = self.weight()
        low, high = (
            (1 / (1 + (((1 - mean) ** 2 - end) / (1 - mean**2)).clamp_min(0.0))).clamp(
                0.0, self.maximum
            )
            for end in ends
        )
        return torch.minimum(low, weight), torch.maximum(high, weight)

    def ingredients(self) -> dict[str, Tensor]:
        """Return what the weight is made of, as scalars on the device.

        ``tr_gg`` [squared gradient, of a sample], ``noise_floor`` = A, ``loss_difference`` = E and
        ``teacher_excess`` = Delta [nats], ``mean_weight`` (cut to 0.95), ``learning_rate`` and
        ``batch_size`` as given last.
        """
        check_started("LossPairController", self._setting)
        trace, gap = self._noise.mean, self._gap.mean
        mean = self._weights.mean[0].clamp_max(LARGEST_MEAN)
        floor = self._per_trace() * trace
        excess = (((1 - mean) ** 2 * floor - gap) / (1 - mean**2)).clamp_min(0.0)
        measured = {
            "tr_gg": trace,
            "noise_floor": floor,
            "loss_difference": gap,
            "mean_weight": mean,
            "teacher_excess": excess,
        }
        return measured | self._setting

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors that make up the state."""
        return {
            "noise": self._noise.state_dict(),
            "gap": self._gap.state_dict(),
            "weights": self._weights.state_dict(),
            "setting": {name: value.clone() for name, value in self._setting.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`, of a controller with the same decays."""
        self._noise.load_state_dict(state["noise"])
        self._gap.load_state_dict(state["gap"])
        self._weights.load_state_dict(state["weights"])
        self._setting = {name: value.clone() for name, value in state["setting"].items()}

    def _per_trace(self) -> Tensor:
        return self._setting["learning_rate"] / (4 * self._setting["batch_size"])
