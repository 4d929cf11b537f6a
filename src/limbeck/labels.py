"""Cross-entropy with labels, some of which may be missing."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ShapeError, check_between


UNLABELLED = -1


def cross_entropy(
    student_logits: Float[Tensor, "batch classes"],
    targets: Int[Tensor, " batch"],
    *,
    weights: Float[Tensor, " batch"] | None = None,
    class_weights: Float[Tensor, " classes"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Score the student's class distribution by the labels of the rows that have one.

    .. math:: \frac{\sum_i w_i c_{y_i} \ell_i}{\sum_i w_i c_{y_i}}, \qquad
              \ell_i = -\log \mathrm{softmax}(z_i)_{y_i}, \qquad i: y_i \ne -1

    With label smoothing :math:`\epsilon` the row's loss is :math:`(1-\epsilon)\,\ell_i` plus
    :math:`\epsilon` times the mean of :math:`-\log \mathrm{softmax}(z_i)_k` over the classes, in
    which class weights enter as :func:`torch.nn.functional.cross_entropy` has it.

    Args:
        student_logits: The student's logits; gradients flow into these.
        targets: Class indices; a row with -1 is unlabelled and left out.
        weights: Weight of every row, at least zero; None means 1.
        class_weights: Weight of every class, at least zero; None means 1.
        label_smoothing: Share of the uniform distribution in the targets, in [0, 1].

    Returns:
        The weighted mean over the labelled rows [nats], at least zero; zero when all of them get
        probability 1, and zero with a zero gradient when there is none.

    Raises:
        ShapeError: If logits, targets and weights do not fit each other.
        ArgumentError: If ``label_smoothing`` is outside of [0, 1].

    Example:
        The first row has two equal scores (loss ln 2), the second is unlabelled.

        >>> cross_entropy(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([0, -1]))
        tensor(0.6931)

    Source:
        Label smoothing: Szegedy and others (2016), arXiv:1512.00567, section 7.
    """
    _check(student_logits, targets, weights, class_weights)
    check_between("cross_entropy", 0.0, 1.0, label_smoothing=label_smoothing)
    logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    each = F.cross_entropy(
        logits,
        targets.long(),
        weight=None if class_weights is None else class_weights.to(logits),
        ignore_index=UNLABELLED,
        reduction="sum" if weights is None else "none",
        label_smoothing=label_smoothing,
    )
    if weights is not None:
        each = (each * weights.to(each)).sum()
    total = total_weight(targets, weights, class_weights, like=each.detach())
    return each / total.clamp_min(torch.finfo(total.dtype).tiny)


def total_weight(
    targets: Int[Tensor, " batch"],
    weights: Float[Tensor, " batch"] | None = None,
    class_weights: Float[Tensor, " classes"] | None = None,
    *,
    like: Tensor,
) -> Float[Tensor, ""]:
    """Return what :func:`cross_entropy` divides by, as a number of the type of ``like``.

    Example:
        >>> total_weight(
        ...     torch.tensor([1, -1, 0]), torch.tensor([2.0, 9.0, 0.5]), like=torch.ones(1)
        ... )
        tensor(2.5000)
    """
    if weights is None and class_weights is None:
        return (targets != UNLABELLED).sum(dtype=like.dtype)
    each = (targets != UNLABELLED).to(like)
    if weights is not None:
        each = each * weights.to(like)
    if class_weights is not None:
        each = each * class_weights.to(like)[targets.clamp_min(0).long()]
    return each.sum()


def _check(
    logits: Tensor, targets: Tensor, weights: Tensor | None, class_weights: Tensor | None
) -> None:
    rows = tuple(logits.shape[:1])
    fits = logits.ndim == 2 and tuple(targets.shape) == rows
    fits = fits and (weights is None or tuple(weights.shape) == rows)
    if not (fits and (class_weights is None or class_weights.shape == logits.shape[1:])):
        given = {"targets": targets, "weights": weights, "class_weights": class_weights}
        got = [f"{name} {tuple(x.shape)}" for name, x in given.items() if x is not None]
        raise ShapeError(
            "cross_entropy: expected logits [batch, classes] with one target and weight a row; "
            f"got student_logits {tuple(logits.shape)}, {', '.join(got)}."
        )
