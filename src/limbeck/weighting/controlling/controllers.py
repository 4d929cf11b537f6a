"""The distillation weight from gradients of two half-batches, while the student trains."""

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
    check_same_parameters,
    check_setting,
    check_started,
    halves_apart,
    inner,
    kept,
    ratio_interval,
    setting_of,
    student_quantile,
)
from limbeck.weighting.controlling.losspair import LossPairController
from limbeck.weighting.controlling.same_epoch import SameEpoch
from limbeck.weighting.theory.reshuffling import reshuffled_share


__all__ = ["HbarController", "LossPairController"]


class HbarController:
    r"""The weight from the bias of the teacher and the noise that it removes, both measured.

    With gradients g of the task and h = grad(task) - grad(distillation) of two halves of m rows,

    .. math:: c = \overline{\tfrac{m}{2} \langle g_1 - g_2, h_1 - h_2 \rangle}, \quad
              v = \overline{\tfrac{m}{2} \| h_1 - h_2 \|^2}, \quad
              U = \langle \overline{h_1}, \overline{h_2} \rangle, \quad
              \lambda = \frac{c}{v + \frac{2 B}{\gamma \hat\mu} \max(U, 0)}

    cut to [0, maximum]; c and v count with the share of the noise that an epoch without
    replacement leaves, where its steps are told. They are traces of covariances of a sample (fast
    average), U is the squared length of the mean of h (slow average of both vectors: it needs
    memory for twice the parameters), unbiased as the halves are independent. 0 / 0 (the teacher
    agrees with the labels) gives 0. A measurement that is not finite, as when a scaled loss
    overflows, is left out.

    The interval is Fieller's for c / D, D = v + (2 B / (gamma mu)) U with U not clipped: the
    variances of c and v and their covariance are those of the fast average; that of U is 4 times
    the variance of the slow average of :math:`t = (\langle h_1, \overline{h_2} \rangle + \langle
    h_2, \overline{h_1} \rangle)/2` with the averages before this measurement, up to twice too
    large. U is taken as independent of c and v, mu as exact, the lag of the averages as zero.
    Student's quantile stands for 1.96, as few measurements count. Where D may be zero at this
    level, and up to the third measurement, it is all of [0, maximum].

    Args:
        fast_decay: Of c and v, **per measurement**, in [0, 1).
        slow_decay: Of the means of h, per measurement. An average over halves of m rows is worth
            m (1 + d) / (1 - d) samples; |hbar|^2 is seen at three standard deviations from
            3 B_T / sqrt(r_eff) on, with the teacher's noise scale B_T = v / U and
            r_eff = (tr Cov h)^2 / tr (Cov h)^2.
        maximum: Largest weight, in (0, 1].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        Gradients of halves of m = 2 rows: c = v = 9 and U = 91/4; with B = 4, gamma = 1/20 and
        mu = 5/2 the weight is 9 / (9 + 64 * 91/4) = 9/1465.

        >>> controller = HbarController()
        >>> controller.observe(
        ...     ([torch.tensor([-1.5])], [torch.tensor([1.5])]),
        ...     ([torch.tensor([3.5])], [torch.tensor([6.5])]),
        ...     rows=2,
        ...     learning_rate=0.05,
        ...     batch_size=4,
        ...     curvature=2.5,
        ... )
        >>> round(1465 * controller.weight().item(), 4)
        9.0

    Source:
        Derived; the setting is that of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """

    def __init__(
        self, *, fast_decay: float = 0.99, slow_decay: float = 0.999, maximum: float = 1.0
    ) -> None:
        check_maximum("HbarController", maximum)
        self.maximum = maximum
        self._traces = RunningMoments(fast_decay)
        self._means = (RunningMean(slow_decay), RunningMean(slow_decay))
        self._slopes = RunningMoments(slow_decay)
        self._same = SameEpoch(slow_decay)
        self._setting: dict[str, Tensor] = {}

    def observe(
        self,
        task: Halves,
        difference: Halves,
        *,
        rows: float | int,
        learning_rate: Scalar,
        batch_size: int,
        curvature: Scalar,
        preconditioner: Sequence[Tensor] | None = None,
        steps_per_epoch: int | None = None,
        epoch: int = 0,
    ) -> None:
        """Take the gradients of two half-batches in; nothing waits for the device.

        Args:
            task: For both halves the gradients g of the mean task loss, one tensor a parameter
                (zeros where there is none), without weight decay.
            difference: The same for h, the gradient of task loss minus distillation loss.
            rows: Samples m in each half, over all processes.
            learning_rate: The effective one: divide by 1 - momentum before, unless the average
                of the gradients is normalised (dampening, Adam).
            batch_size: Samples B of a training step, over all processes.
            curvature: Of the task loss along the mean of h, above 0 [loss per squared parameter;
                in the metric of the preconditioner]: the harmonic one is exact, the Rayleigh
                quotient makes the weight too large. A tensor is not looked at; below 0 it counts
                as 0, and then so does the weight.
            preconditioner: D >= 0, one tensor a parameter, where steps are along D times the
                gradient (Adam: 1 / (sqrt(v) + eps)): inner products become sum of D u w.
            steps_per_epoch: Where every epoch takes each row once, its steps: noise counts with
                :func:`~limbeck.weighting.theory.reshuffling.reshuffled_share` then, and U is
                freed of the covariance that rows of one epoch have. None: independent batches.
            epoch: Number of this step's epoch, beside ``steps_per_epoch``.

        Raises:
            ArgumentError: If a number is outside of its range.
            ShapeError: If the gradients do not fit each other or earlier ones.
        """
        where = "HbarController"
        check_setting(where, rows, learning_rate, batch_size, curvature=curvature)
        noise, other = halves_apart(where, task), halves_apart(where, difference)
        check_same_parameters(where, noise, other)
        pairs = ((noise, noise), (noise, other), (other, other))
        traces = torch.stack([rows / 2 * inner(a, b, preconditioner) for a, b in pairs])
        one, two = self._means
        slope = traces.new_zeros(())
        if one.started:
            there = inner(difference[0], two.mean, preconditioner)
            slope = (there + inner(difference[1], one.mean, preconditioner)) / 2
        seen = one.count.to(traces.device) > 0
        setting = setting_of(traces, learning_rate, batch_size)
        bent = setting["curvature"] = beside(curvature, traces).clamp_min(0.0)
        setting["noise_left"] = torch.ones_like(bent)
        if steps_per_epoch is not None:
            setting["noise_left"] = reshuffled_share(
                setting["learning_rate"] * bent, steps_per_epoch
            )
        keep = torch.stack([*traces, slope, *setting.values()]).isfinite().all()
        self._traces.update(traces, keep)
        self._slopes.update(slope, keep & seen)
        one.update(difference[0], keep)
        two.update(difference[1], keep)
        setting["hbar2"] = inner(one.mean, two.mean, preconditioner)
        if steps_per_epoch is not None:
            self._same.update(epoch)
            apart = self._same.share / (steps_per_epoch * batch_size)
            setting["hbar2"] = setting["hbar2"] + apart * self._traces.mean[2]
        self._setting = kept(keep, setting, self._setting)

    def weight(self) -> Float[Tensor, ""]:
        """Return the weight from what was observed, in [0, maximum]."""
        top = self._ratio()[0]
        bias = self._pull() * self._setting["hbar2"].clamp_min(0.0)
        bottom = self._scale() * self._traces.mean[2] + bias
        found = torch.where(bottom > 0, top / bottom, torch.zeros_like(top))
        return found.clamp(0.0, self.maximum)

    def interval(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the ends of the 95 % interval, in [0, maximum]; the weight lies inside."""
        top, bottom, covariance = self._ratio()
        z = student_quantile(torch.minimum(self._traces.count, self._slopes.count))
        low, high = ratio_interval(top, bottom, covariance, z)
        weight = self.weight()
        return (
            torch.minimum(low.clamp(0.0, self.maximum), weight),
            torch.maximum(high.clamp(0.0, self.maximum), weight),
        )

    def mean_difference(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Return the slow averages of h of both halves; None before the first measurement."""
        one, two = self._means
        return (one.mean, two.mean) if one.started else None

    def ingredients(self) -> dict[str, Tensor]:
        """Return what the weight is made of, as scalars on the device.

        ``tr_gg``, ``tr_gh`` = c and ``tr_hh`` = v [squared gradient, of a sample], ``hbar2`` = U
        (not clipped), ``learning_rate``, ``batch_size`` and ``curvature`` as given last, and
        ``noise_left``, the share of the noise that counts.
        """
        check_started("HbarController", self._setting)
        traces = dict(zip(("tr_gg", "tr_gh", "tr_hh"), self._traces.mean, strict=True))
        return traces | self._setting

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors that make up the state."""
        return {
            "traces": self._traces.state_dict(),
            "means": [running.state_dict() for running in self._means],
            "slopes": self._slopes.state_dict(),
            "same": self._same.state_dict(),
            "setting": {name: value.clone() for name, value in self._setting.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`, of a controller with the same decays."""
        self._traces.load_state_dict(state["traces"])
        for running, part in zip(self._means, state["means"], strict=True):
            running.load_state_dict(part)
        self._slopes.load_state_dict(state["slopes"])
        self._same.load_state_dict(state["same"])
        self._setting = {name: value.clone() for name, value in state["setting"].items()}

    def _ratio(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return c and D, both times gamma mu so that mu may be 0, and their covariance."""
        check_started("HbarController", self._setting)
        scale, pull = self._scale(), self._pull()
        mean, spread = self._traces.mean, self._traces.covariance
        bottom = scale * mean[2] + pull * self._setting["hbar2"]
        corner = scale**2 * spread[2, 2] + pull**2 * 4 * self._slopes.covariance
        covariance = torch.stack([scale**2 * spread[1, 1], scale**2 * spread[1, 2], corner])
        return scale * mean[1], bottom, covariance

    def _scale(self) -> Tensor:
        pace = self._setting["learning_rate"] * self._setting["curvature"]
        return pace * self._setting["noise_left"]

    def _pull(self) -> Tensor:
        return 2 * self._setting["batch_size"]
