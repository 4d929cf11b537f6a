"""Logit standardisation (LSKD): any loss on logits, told apart from their scale and shift."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError
from limbeck.losses.features import logits_of
from limbeck.losses.kd import KD
from limbeck.losses.numerics import at_least_float32
from limbeck.types import Batch, Outputs


EPS = 1e-7  # added to the deviation, as in the authors' code


def standardised(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    r"""Give every row of logits mean 0 and deviation 1.

    .. math:: z_k \mapsto \frac{z_k - \bar z}{\sigma + 10^{-7}}, \qquad
              \sigma^2 = \frac{1}{c - 1} \sum_k (z_k - \bar z)^2

    A student then need not reach the size of the teacher's logits, only their order and ratios.

    Args:
        logits: Scores of classes; gradients flow through mean and deviation too.

    Returns:
        The standardised rows [no unit], in float32 at least. A row of constant logits (so every
        row of a single class) gives zeros, with a gradient as if it were only centred.

    Raises:
        Nothing: every matrix is accepted.

    Example:
        Mean 2, deviation 1.

        >>> standardised(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.0000,  0.0000,  1.0000]])

    Source:
        Sun, Ren, Li, Wang and Cao (2024), arXiv:2403.01427; constant as in
        sunshangquan/logit-standardization-KD.
    """
    (z,) = at_least_float32(logits)
    if z.numel() == 0:
        return z
    # Shifted by the largest value, a constant row is exactly 0 and so is its deviation.
    shifted = z - z.detach().amax(dim=1, keepdim=True)
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / max(z.shape[1] - 1, 1)
    varies = variance > 0
    deviation = torch.where(varies, variance, 1.0).sqrt() + EPS
    return centred / torch.where(varies, deviation, 1.0)


class Standardised(nn.Module):
    """A loss on logits that is given :func:`standardised` logits of student and teacher.

    It needs the layers and suits the tasks of the loss inside, and is a mean over samples where
    that is one. Features pass unchanged.

    Args:
        loss: The loss inside; None takes :class:`~limbeck.losses.KD` with ``temperature``. The
            published weights are 0.1 for the task and 9 for that; of another loss, its own ones.
        temperature: Of that KD, above zero; None means 2. Other losses bring their own.

    Raises:
        ArgumentError: If the loss compares no logits or alternates with an auxiliary loss, or if
            ``temperature`` is given beside a loss.

    Example:
        Equal up to scale and shift is equal.

        >>> rows = torch.arange(1)
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 50.0]])
        >>> loss = Standardised()(Outputs(student), Outputs(teacher), Batch(rows, None, rows, rows))
        >>> round(loss.item(), 5)
        0.0

    Source:
        See :func:`standardised`. The authors weigh DKD and MLKD inside by 6 to 18 as well.
    """

    needs_logits: bool = True
    tasks: frozenset[str] | None = frozenset({"classification"})
    published_weights: tuple[float, float] = (0.1, 9.0)

    def __init__(self, loss: nn.Module | None = None, *, temperature: float | None = None) -> None:
        super().__init__()
        if loss is None:
            loss = KD(temperature=2.0 if temperature is None else temperature)
        else:
            _check_inner(loss, temperature)
            self.tasks = getattr(loss, "tasks", None)
            self.published_weights = getattr(loss, "published_weights", (1.0, 1.0))
        self.loss = loss
        layers = getattr(loss, "layers", {})
        self.layers = {side: tuple(layers.get(side, ())) for side in ("student", "teacher")}
        self.mean_over_samples = bool(getattr(loss, "mean_over_samples", False))

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Prepare the loss inside, where it wants that, with a first batch."""
        prepare = getattr(self.loss, "prepare", None)
        if prepare is not None:
            prepare(*_standardised_pair(student, teacher), batch)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return what the loss inside says of the standardised logits."""
        return self.loss(*_standardised_pair(student, teacher), batch)


def _standardised_pair(student: Outputs, teacher: Outputs) -> tuple[Outputs, Outputs]:
    mine, theirs = logits_of("Standardised", student, teacher)
    return (
        Outputs(standardised(mine), student.features),
        Outputs(standardised(theirs), teacher.features),
    )


def _check_inner(loss: nn.Module, temperature: float | None) -> None:
    name = type(loss).__name__
    if not getattr(loss, "needs_logits", False):
        raise ArgumentError(
            f"Standardised: expected a loss on logits; got {name}, which compares none. "
            "Use it without standardisation."
        )
    if hasattr(loss, "auxiliary_loss"):
        raise ArgumentError(
            f"Standardised: expected a loss without phases of its own; got {name}, which "
            "alternates with an auxiliary loss. Distil with it alone."
        )
    if temperature is not None:
        raise ArgumentError(
            f"Standardised: expected `temperature` only without a loss; got {temperature} beside "
            f"{name}. Give {name} its temperature."
        )
