"""Gradients that keep the noise reduction of distillation and leave its bias out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError, check_positive
from limbeck.losses.numerics import at_least_float32
from limbeck.weighting.controlling.averages import RunningMean


Scalar = float | int | Tensor
LARGEST_COEFFICIENT = 2.0


def unbiased(
    task: Sequence[Tensor],
    difference: Sequence[Tensor],
    mean_difference: Sequence[Tensor],
    weight: Scalar | Sequence[Tensor],
) -> list[Tensor]:
    r"""Return the gradient of unbiased distillation, a tensor a parameter.

    .. math:: g - \lambda\, (h - \bar h)

    Args:
        task: Gradients g of the task loss on the batch.
        difference: Gradients h of task loss minus distillation loss on the same batch.
        mean_difference: The mean of h over all samples at the same student: exact from a full pass
            while teacher and student stand still; see :class:`RunningControl` for an average.
        weight: lambda, a number or scalar, or a tensor a parameter. The best number is
            tr_gh / tr_hh, and with it the noise is 1 - rho^2 of that without.

    Returns:
        Tensors like ``task``; their mean over batches is that of ``task``.

    Raises:
        ShapeError: If the lists do not fit each other.

    Example:
        1 - 0.5 (3 - 2) = 0.5.

        >>> one, three, two = (torch.tensor([x]) for x in (1.0, 3.0, 2.0))
        >>> unbiased([one], [three], [two], 0.5)
        [tensor([0.5000])]

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; derived for any h.
    """
    _check_same("unbiased", task, difference, mean_difference)
    weights = list(weight) if isinstance(weight, Sequence) else [weight] * len(task)
    if len(weights) != len(task):
        raise ShapeError(
            f"unbiased: expected one weight or {len(task)}, one a parameter; got {len(weights)}. "
            "Keep the order of the parameters."
        )
    moved: list[Tensor] = []
    for g, h, mean, share in zip(task, difference, mean_difference, weights, strict=True):
        wide, *others = at_least_float32(g, h, mean)
        moved.append((wide - share * (others[0] - others[1])).to(g.dtype))
    return moved


def svrg(
    gradients: Sequence[Tensor],
    at_snapshot: Sequence[Tensor],
    full: Sequence[Tensor],
    coefficient: Scalar | Sequence[Tensor] = 1.0,
) -> list[Tensor]:
    r"""Return the gradient of SVRG: unbiased distillation from a snapshot of the student itself.

    .. math:: \nabla f_B(x) - \alpha\, (\nabla f_B(\tilde x) - \nabla f(\tilde x))

    Args:
        gradients: Of the batch, at the student x.
        at_snapshot: Of the same batch, seen in the same way, at the snapshot.
        full: Of all samples at the snapshot.
        coefficient: alpha; 1 is SVRG, less is alpha-SVRG; a number, or a tensor a parameter as from
            :func:`alpha_svrg_coefficient`.

    Returns:
        Tensors like ``gradients``; with alpha = 1 and a fresh snapshot they are ``full``.

    Raises:
        ShapeError: If the lists do not fit each other.

    Example:
        >>> one, two = torch.tensor([1.0]), torch.tensor([2.0])
        >>> svrg([one], [one], [two])
        [tensor([2.])]

    Source:
        Johnson and Zhang (2013); with alpha: Yin et al. (2025), arXiv:2311.05589.
    """
    return unbiased(gradients, at_snapshot, full, coefficient)


def alpha_svrg_coefficient(
    gradients: Sequence[Float[Tensor, "batches ..."]],
    at_snapshot: Sequence[Float[Tensor, "batches ..."]],
    *,
    first: bool = False,
) -> list[Tensor]:
    r"""Return the coefficient of SVRG that is best for each component of each parameter.

    .. math:: \alpha = \mathrm{clamp}\left( \frac{\mathrm{Cov}(\nabla f_B(x),
              \nabla f_B(\tilde x))}{\mathrm{Var}(\nabla f_B(\tilde x)) + 10^{-24}}, -2, 2 \right)

    over the batches, each a component on its own. It takes the gradients of all batches at the
    present student, so it is for study; :func:`alpha_svrg_schedule` is for use.

    Args:
        gradients: For each parameter the gradients of all batches, [batches, ...].
        at_snapshot: The same of the same batches at the snapshot.
        first: Whether this is the first step after a snapshot; then all are 1.

    Returns:
        A tensor a parameter without the first dimension, in [-2, 2]; a component that does not vary
        over the batches has 0.

    Raises:
        ShapeError: If the lists do not fit each other.

    Example:
        Covariance 1 and variance 4.

        >>> alpha_svrg_coefficient([torch.tensor([1.0, 2.0])], [torch.tensor([2.0, 6.0])])
        [tensor(0.2500)]

    Source:
        Yin et al. (2025), arXiv:2311.05589, and davidyyd/alpha-SVRG, which takes the second
        moments apart; here they are centred first, which loses fewer digits.
    """
    _check_same("alpha_svrg_coefficient", gradients, at_snapshot)
    found: list[Tensor] = []
    for now, then in zip(gradients, at_snapshot, strict=True):
        x, y = at_least_float32(now.detach(), then.detach())
        if first:
            found.append(torch.ones_like(x[0]))
            continue
        x, y = x - x.mean(0), y - y.mean(0)
        best = (x * y).mean(0) / ((y * y).mean(0) + 1e-24)
        found.append(best.clamp(-LARGEST_COEFFICIENT, LARGEST_COEFFICIENT))
    return found


def alpha_svrg_schedule(snapshot: int, snapshots: int, *, start: float = 0.75) -> float:
    r"""Return the coefficient of alpha-SVRG between two snapshots: from ``start`` down to 0.

    .. math:: \alpha_k = \alpha_0 \left(1 - \frac{k}{K - 1}\right)

    Args:
        snapshot: Number k of the latest snapshot, from 0 on.
        snapshots: How many the run takes, K, at least 1; with one the coefficient stays.
        start: First coefficient, above 0; the authors use 0.75 or 0.5.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> [alpha_svrg_schedule(k, 4) for k in range(4)]
        [0.75, 0.5, 0.25, 0.0]

    Source:
        Yin et al. (2025), arXiv:2311.05589; steps as in davidyyd/alpha-SVRG.
    """
    check_positive("alpha_svrg_schedule", snapshots=snapshots, start=start)
    if not 0 <= snapshot < snapshots:
        raise ArgumentError(
            f"alpha_svrg_schedule: expected `snapshot` in [0, {snapshots}); got {snapshot}. Count "
            "snapshots from 0, not steps."
        )
    last = max(snapshots - 1, 1)
    return start * (last - snapshot) / last


def predicted_factor(weight: Scalar, tr_gg: Scalar, tr_gh: Scalar, tr_hh: Scalar) -> Scalar:
    r"""Return what unbiased distillation, or SVRG, leaves of the gradient's variance.

    .. math:: 1 - 2 \lambda \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{gg}} +
              \lambda^2 \frac{\mathrm{tr}_{hh}}{\mathrm{tr}_{gg}}

    Known before either runs. At lambda = tr_gh / tr_hh it is lowest, 1 - rho^2. The plateau of the
    loss scales alike.

    Args:
        weight: lambda, or alpha of SVRG.
        tr_gg: Trace of the covariance of the task gradient g, above 0.
        tr_gh: The same of g and h.
        tr_hh: The same of h.

    Returns:
        The factor, at least 0; above 1 the noise rises. Tensors give a tensor, unchecked.

    Raises:
        ArgumentError: If ``tr_gg`` is a number that is not above zero.

    Example:
        1 - 2 * 0.5 * 1 + 0.25 * 1.036.

        >>> round(predicted_factor(0.5, 2.5, 2.5, 2.59), 9)
        0.259

    Source:
        Derived; the setting is that of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    if not isinstance(tr_gg, Tensor):
        check_positive("predicted_factor", tr_gg=tr_gg)
    return 1 - 2 * weight * tr_gh / tr_gg + weight**2 * tr_hh / tr_gg


class RunningControl:
    r"""Unbiased distillation whose mean of h is an average over the batches before.

    .. math:: g_t - \lambda\, (h_t - \bar h_{t-1}), \qquad \bar h_t = \mathrm{average}(h_1 .. h_t)

    The batch's own h is not yet in the average, which would weaken the correction. What is left of
    the bias is the drift of h over the window of the average, and its noise.

    Args:
        decay: Of the average, per batch, in [0, 1).

    Raises:
        ArgumentError: If the decay is outside of its range.

    Example:
        The first batch has no average yet: g passes. Then 1 - 0.5 (3 - 5) = 2.

        >>> control = RunningControl(0.9)
        >>> one, three, five = (torch.tensor([x]) for x in (1.0, 3.0, 5.0))
        >>> control([one], [five], 0.5), control([one], [three], 0.5)
        ([tensor([1.])], [tensor([2.])])

    Source:
        Derived; the setting is that of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self._running = RunningMean(decay)

    @property
    def mean_difference(self) -> list[Tensor]:
        """The average of h so far; empty before the first batch."""
        return self._running.mean

    def __call__(
        self, task: Sequence[Tensor], difference: Sequence[Tensor], weight: Scalar
    ) -> list[Tensor]:
        """Return the corrected gradients, then take ``difference`` into the average.

        A batch whose h is not finite is left out of the average.
        """
        _check_same("RunningControl", task, difference)
        moved = list(task)
        if self._running.started:
            known = self._running.count > 0
            means = zip(self._running.mean, difference, strict=True)
            before = [torch.where(known.to(h.device), m.to(h.device), h) for m, h in means]
            moved = unbiased(task, difference, before, weight)
        finite = torch.stack([h.detach().isfinite().all() for h in difference]).all()
        self._running.update(difference, finite)
        return moved

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors that make up the state."""
        return self._running.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`."""
        self._running.load_state_dict(state)


def _check_same(where: str, *lists: Sequence[Tensor]) -> None:
    shapes = [[tuple(tensor.shape) for tensor in one] for one in lists]
    if not shapes[0] or any(other != shapes[0] for other in shapes):
        raise ShapeError(
            f"{where}: expected gradients of the same parameters, one at least; got shapes "
            f"{' and '.join(str(other) for other in shapes)}. Keep one order of the parameters."
        )
