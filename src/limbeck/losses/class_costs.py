"""How far apart classes are: costs of moving probability from one to another, for WKD-L."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.checks import ShapeError, check_positive
from limbeck.losses.numerics import at_least_float32, unit_rows, without_autocast


def costs_of(
    likeness: Float[Tensor, "classes classes"], *, sharpness: float = 1.0
) -> Float[Tensor, "classes classes"]:
    r"""Return the costs :math:`1 - e^{-\kappa (1 - s)}` of classes that are alike by s in [-1, 1].

    Example:
        >>> costs_of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor([[0.0000, 0.6321],
                [0.6321, 0.0000]])
    """
    check_positive("costs_of", sharpness=sharpness)
    return -torch.expm1(-sharpness * (1.0 - likeness).clamp_min(0.0))


def costs_from_features(
    features: Float[Tensor, "batch width"],
    targets: Int[Tensor, " batch"],
    classes: int,
    *,
    sharpness: float = 1.0,
) -> Float[Tensor, "classes classes"]:
    r"""Return the costs between classes, from how their features lie in the teacher's space.

    .. math:: 1 - e^{-\kappa (1 - s_{kl})}, \qquad
              s_{kl} = \frac{\langle G_k, G_l \rangle}{\|G_k\| \, \|G_l\|}, \qquad
              G_k = H X_k^\top X_k H

    with the features :math:`X_k` of the samples of class k and the centring matrix H over the
    features: the linear centred kernel alignment of two classes, whose samples are in no pairs.

    Args:
        features: The teacher's features of labelled samples, of the training set as a rule.
        targets: Their classes; rows with a negative one are left out.
        classes: Number of classes. A class without a sample is as far as can be from all others.
        sharpness: Factor kappa, above zero.

    Returns:
        The costs [no unit], from 0 to 1 - exp(-kappa), with zeros on the diagonal; for ``cost`` of
        :class:`limbeck.losses.WKDL`. Needs classes x width^2 numbers of memory.

    Raises:
        ShapeError: If there is not one target a row.
        ArgumentError: If ``sharpness`` is not above zero.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]])
        >>> costs_from_features(features, torch.tensor([0, 1, 1]), 2)[0]
        tensor([0., 0.])

    Source:
        Lv, Yang and Li (2024), arXiv:2412.08139, whose text and code take kappa = 1.
    """
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise ShapeError(
            "costs_from_features: expected features [batch, width] and one target a row; got "
            f"features {tuple(features.shape)}, targets {tuple(targets.shape)}. Pool them first."
        )
    (rows,) = at_least_float32(features.detach())
    rows = rows - rows.mean(dim=1, keepdim=True)
    grams = []
    with without_autocast(rows):
        for k in range(classes):
            of_class = rows[targets == k]
            grams.append((of_class.T @ of_class).flatten())
        flat = unit_rows(torch.stack(grams))
        likeness = flat @ flat.T
    return costs_of(likeness, sharpness=sharpness).fill_diagonal_(0.0)
