"""The losses on sampled labels at every position of a text, without all logits in memory."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError, check_between, check_choice, check_positive
from limbeck.losses.control_variate import AdaptiveControlVariate, control_variate_terms
from limbeck.losses.k3 import k3_terms
from limbeck.losses.sampled import (
    check_clip,
    check_values,
    log_ratio,
    mean_of_draws,
    weights_of_draws,
)
from limbeck.losses.sel import sel_terms
from limbeck.losses.streamed import KeptSums
from limbeck.losses.tokens import BLOCK, Logits, blocks_of, scores_of


SampledLoss = Literal["cross_entropy", "sel", "k3", "control_variate"]
TAKES = {
    "cross_entropy": (),
    "sel": ("huber",),
    "k3": ("clip",),
    "control_variate": ("weight", "clip"),
}


def token_sampled_loss(
    student: Logits,
    labels: Int[Tensor, "batch length *draws"],
    log_probabilities: Float[Tensor, "batch length *draws"] | None = None,
    *,
    loss: SampledLoss,
    huber: float | None = None,
    clip: float | None = None,
    weight: float | Float[Tensor, ""] | AdaptiveControlVariate | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    block: tuple[int, int] = BLOCK,
) -> Float[Tensor, ""]:
    r"""Score the tokens that the teacher drew at every position, with what it reported of them.

    .. math:: -\log p(a), \quad \tfrac12 (\log r)^2, \quad r - 1 - \log r, \quad
              \lambda r - \log p(a), \qquad r = p(a) / t(a), \quad a \sim t

    These are ``loss`` "cross_entropy" (labels alone), "sel", "k3" and "control_variate":
    :func:`~limbeck.losses.sel_loss`, :func:`~limbeck.losses.k3_loss` and
    :func:`~limbeck.losses.control_variate_loss` over positions. Several labels a position, with
    their counts as ``weights``, are random sampling KD, with or without probabilities.

    Args:
        student: The student's logits [batch, length, classes], or
            :class:`~limbeck.losses.LazyLogits`; gradients flow into all of it.
        labels: Tokens that the teacher drew, one or several a position, [batch, length] or [batch,
            length, draws]; -1 is an absent one.
        log_probabilities: What the teacher reported for them [nats, at most 0], of the same shape;
            needed by all but "cross_entropy". Detached here.
        loss: Which of the four.
        huber: Only for "sel"; see there.
        clip: Only for "k3" and "control_variate": largest r in the gradient, at least 1.
        weight: Only for "control_variate", and needed there: the lambda in [0, 1], or an
            :class:`~limbeck.losses.AdaptiveControlVariate`, which brings its own clip and learns
            from these labels while it is in training mode.
        mask: Which positions count, [batch, length]; None means all. What stands at the others is
            never looked at, and has a gradient of zero.
        weights: Weight of every label, at least zero, of the shape of ``labels``; None means 1.
        block: How many positions and classes a block of logits has.

    Returns:
        The weighted mean over the labels that count [nats; squared for "sel"], zero where there is
        none; sign and zero are those of the loss. In several processes it is the mean of this
        one's; turn it into a share of all with ``limbeck.ranks.share_of_batch``.

    Raises:
        ShapeError: If logits, labels, numbers, mask and weights do not fit each other.
        ArgumentError: If ``loss`` is unknown, an option is out of range, missing or of another
            loss, or ``log_probabilities`` are missing or not used.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        The student has 1/2 where the teacher reported 1/4: 2 - 1 - ln 2.

        >>> label, reported = torch.tensor([[0]]), torch.tensor([[0.25]]).log()
        >>> token_sampled_loss(torch.zeros(1, 1, 2), label, reported, loss="k3")
        tensor(0.3069)

    Note:
        Products are computed in the type of hidden states and embedding, all sums in float32 at
        least; first derivatives only.

    Source:
        As of the three functions; blocks derived.
    """
    where = "token_sampled_loss"
    _check_options(where, loss, {"huber": huber, "clip": clip, "weight": weight}, log_probabilities)
    scores = scores_of(where, "student", student, mask)
    positions = tuple((student[0] if isinstance(student, tuple) else student).shape[:2])
    given = {"labels": labels, "log_probabilities": log_probabilities, "weights": weights}
    known = {name: tuple(value.shape) for name, value in given.items() if value is not None}
    if tuple(labels.shape[:2]) != positions or len(set(known.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in known.items())
        raise ShapeError(
            f"{where}: expected labels, and what belongs to them, [batch, length] or [batch, "
            f"length, draws] for the positions {positions}; got {got}."
        )
    rows = scores.source.shape[0]
    flat = labels.reshape(rows, -1 if labels.numel() else 0)
    if mask is not None:
        flat = flat.masked_fill(mask.flatten()[:, None] == 0, -1)
    reported, counted = (
        None if value is None else value.reshape(flat.shape)
        for value in (log_probabilities, weights)
    )
    check_values(where, scores.classes, flat, reported)
    at, total, _, purity = KeptSums.apply(*scores, flat, blocks_of(where, block), False)
    mine = (at - total[:, None]).masked_fill(flat < 0, 0.0)
    if loss == "cross_entropy" or reported is None:
        return mean_of_draws(-mine, flat, counted)
    ratio = log_ratio(mine, reported, flat)
    if loss == "sel":
        return mean_of_draws(sel_terms(ratio, huber), flat, counted)
    if loss == "k3":
        return mean_of_draws(k3_terms(ratio, clip), flat, counted)
    adaptive = weight if isinstance(weight, AdaptiveControlVariate) else None
    if isinstance(weight, AdaptiveControlVariate):
        weight, clip = weight.weight, weight.clip
    assert weight is not None  # checked above
    terms = control_variate_terms(mine, ratio, weight, clip)
    if adaptive is not None and adaptive.training and torch.is_grad_enabled():
        squares = 1.0 - 2.0 * mine.detach().exp() + purity[:, None]
        adaptive.observe(ratio, squares, weights_of_draws(mine, flat, counted))
    return mean_of_draws(terms, flat, counted)


def _check_options(
    where: str, loss: str, options: dict[str, object], log_probabilities: Tensor | None
) -> None:
    check_choice(where, "loss", loss, TAKES)
    for name, value in options.items():
        if value is not None and name not in TAKES[loss]:
            fitting = " or ".join(repr(one) for one, names in TAKES.items() if name in names)
            raise ArgumentError(
                f"{where}: expected `{name}` only with {fitting}; got it with {loss!r}. Drop it."
            )
    if (log_probabilities is None) != (loss == "cross_entropy"):
        raise ArgumentError(
            f"{where}: expected `log_probabilities` with every loss but 'cross_entropy'; got "
            f"{'none' if log_probabilities is None else 'some'} with {loss!r}. "
            "Give them with a loss that uses them."
        )
    huber, clip, weight = options["huber"], options["clip"], options["weight"]
    if isinstance(huber, (int, float)):
        check_positive(where, huber=huber)
    if isinstance(clip, (int, float)):
        check_clip(where, clip)
    if loss == "control_variate" and weight is None:
        raise ArgumentError(
            f"{where}: expected `weight` with 'control_variate'; got none. Give a number in "
            "[0, 1] or an AdaptiveControlVariate."
        )
    if isinstance(weight, (int, float)):
        check_between(where, 0.0, 1.0, weight=weight)
    if isinstance(weight, AdaptiveControlVariate) and clip is not None:
        raise ArgumentError(
            f"{where}: expected no `clip` beside an AdaptiveControlVariate, which has its own; "
            f"got {clip}. Give it to that."
        )
