"""The teacher's k most likely tokens at every position of a text, without all logits in memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.checks import ShapeError, check_choice
from limbeck.losses.censored import censored_rows
from limbeck.losses.sampled import check_values
from limbeck.losses.streamed import KeptSums
from limbeck.losses.tokens import (
    BLOCK,
    Logits,
    blocks_of,
    mean_of_positions,
    scores_of,
    weights_of_positions,
)
from limbeck.losses.top_k import TAILS, KeptLabels, Tail, top_k_rows


def token_top_k_loss(
    student: Logits,
    labels: Int[Tensor, "batch length kept"],
    log_probabilities: Float[Tensor, "batch length kept"],
    *,
    tail: Tail = "bucket",
    drawn: Int[Tensor, "batch length *draws"] | None = None,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    block: tuple[int, int] = BLOCK,
) -> Float[Tensor, ""]:
    r"""Match the student to the teacher's most likely tokens and to the mass of all others.

    .. math:: \sum_{a \in K} t(a) \log \frac{t(a)}{p(a)} + (1 - t_K) \log \frac{1 - t_K}{1 - p_K}

    It is :func:`~limbeck.losses.top_k_loss` over positions, with ``drawn`` tokens
    :func:`~limbeck.losses.censored_loss`.

    Args:
        student: The student's logits [batch, length, classes], or
            :class:`~limbeck.losses.LazyLogits`; gradients flow into all of it.
        labels: The kept tokens of every position, all distinct; -1 is an absent one. A position
            without any (and without a drawn one) counts nowhere.
        log_probabilities: Their log t [nats, at most 0], not renormalised; detached here.
        tail: "bucket", "renormalised" or "raw"; the last two are biased, see
            :func:`~limbeck.losses.top_k_loss`.
        drawn: Tokens drawn from the whole of t, [batch, length] or [batch, length, draws], of which
            those outside of the kept ones teach the tail's split; only with the bucket.
        mask: Which positions count, [batch, length]; None means all. What stands at the others is
            never looked at, and has a gradient of zero.
        weights: Weight of every position, at least zero, [batch, length]; None means 1.
        block: How many positions and classes a block of logits has.

    Returns:
        The weighted mean over the positions that count [nats]; sign and zero are those of
        :func:`~limbeck.losses.top_k_loss`, or of :func:`~limbeck.losses.censored_loss`. In several
        processes it is the mean of this one's; turn it into a share of all with
        ``limbeck.ranks.share_of_batch``.

    Raises:
        ShapeError: If logits, tokens, numbers, mask and weights do not fit each other.
        ArgumentError: If ``tail`` is none of the three, or not the bucket beside ``drawn``.
        DataError: If a label is no class, or a number no log-probability (looked at on the CPU).

    Example:
        1/2 is known of the first of four tokens, of which the student gives 1/4 each:
        0.5 ln 2 + 0.5 ln(0.5 / 0.75).

        >>> kept, half = torch.tensor([[[0]]]), torch.tensor([[[0.5]]]).log()
        >>> token_top_k_loss(torch.zeros(1, 1, 4), kept, half)
        tensor(0.1438)

    Note:
        Products are computed in the type of hidden states and embedding, all sums in float32 at
        least; first derivatives only.

    Source:
        As of the two functions; blocks derived.
    """
    where = "token_top_k_loss"
    check_choice(where, "tail", tail, TAILS if drawn is None else TAILS[:1])
    scores = scores_of(where, "student", student, mask)
    positions = tuple((student[0] if isinstance(student, tuple) else student).shape[:2])
    _check_shapes(where, positions, labels, log_probabilities, drawn)
    kept = _by_row(labels, mask)
    reported = log_probabilities.reshape(kept.shape)
    check_values(where, scores.classes, kept, reported)
    blocks = blocks_of(where, block)
    at, total, others, _ = KeptSums.apply(*scores, kept, blocks, True)
    has_tail = ~torch.isneginf(others)
    mine = KeptLabels(kept >= 0, at - total[:, None], others - total, has_tail)
    known = (kept >= 0).any(dim=1)
    if drawn is None:
        rows = top_k_rows(mine, reported, tail)
    else:
        below = _by_row(drawn, mask)
        check_values(where, scores.classes, below)
        at, total, _, _ = KeptSums.apply(*scores, below, blocks, False)
        rows = censored_rows(mine, kept, reported, below, at - total[:, None])
        known = known | (below >= 0).any(dim=1)
    counted = weights_of_positions(where, rows, positions, mask, weights)
    return mean_of_positions(rows, counted.masked_fill(~known, 0.0))


def _by_row(labels: Tensor, mask: Tensor | None) -> Tensor:
    rows = labels.shape[0] * labels.shape[1]
    flat = labels.reshape(rows, -1 if labels.numel() else 0)
    return flat if mask is None else flat.masked_fill(mask.flatten()[:, None] == 0, -1)


def _check_shapes(
    where: str,
    positions: tuple[int, ...],
    labels: Tensor,
    log_probabilities: Tensor,
    drawn: Tensor | None,
) -> None:
    fits = labels.ndim == 3 and labels.shape == log_probabilities.shape
    fits = fits and tuple(labels.shape[:2]) == positions
    if not fits or (drawn is not None and tuple(drawn.shape[:2]) != positions):
        beside = "" if drawn is None else f", drawn {tuple(drawn.shape)}"
        raise ShapeError(
            f"{where}: expected labels and log_probabilities [batch, length, kept] for the "
            f"positions {positions}; got labels {tuple(labels.shape)}, log_probabilities "
            f"{tuple(log_probabilities.shape)}{beside}."
        )
