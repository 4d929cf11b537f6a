"""KL divergence at every position of a text, without all logits in memory."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ShapeError, check_positive
from limbeck.losses.streamed import Divergences
from limbeck.losses.tokens import (
    BLOCK,
    Logits,
    blocks_of,
    detached,
    mean_of_positions,
    scores_of,
    weights_of_positions,
)


def token_kd_loss(
    student: Logits,
    teacher: Logits,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    block: tuple[int, int] = BLOCK,
) -> Float[Tensor, ""]:
    r"""Match the student's distribution of the next token to the teacher's at every position.

    .. math:: \tau^2\, \mathrm{KL}(p^T_\tau \,\|\, p^S_\tau), \qquad
              p_\tau = \mathrm{softmax}(z / \tau)

    It is :func:`~limbeck.losses.kd_loss` over positions. Give :class:`~limbeck.losses.LazyLogits`
    where the vocabulary is large: blocks of logits are computed for the value and once more for the
    gradient, and never kept.

    Args:
        student: The student's logits [batch, length, classes], or what they are made of; gradients
            flow into all of it.
        teacher: The teacher's, in either form; detached here. Its width may be another.
        temperature: Softening of both distributions, above zero.
        mask: Which positions count, [batch, length]; None means all. What stands at the others is
            never looked at, and has a gradient of zero.
        weights: Weight of every position, at least zero, [batch, length]; None means 1.
        block: How many positions and classes a block of logits has.

    Returns:
        The weighted mean over the positions that count [nats, times temperature squared], at least
        zero; zero when the two distributions agree everywhere (and where no position counts). In
        several processes it is the mean of this one's; turn it into a share of all with
        ``limbeck.ranks.share_of_batch``.

    Raises:
        ShapeError: If the two do not have the same positions and classes, or mask and weights do
            not fit them.
        ArgumentError: If ``temperature`` or ``block`` is not above zero.

    Example:
        3/4 and 1/4 against 1/2 and 1/2: 0.75 ln 1.5 + 0.25 ln 0.5.

        >>> import torch
        >>> token_kd_loss(torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log())
        tensor(0.1308)

    Note:
        Products are computed in the type of hidden states and embedding, all sums in float32 at
        least; first derivatives only.

    Source:
        Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 2, at every position; blocks
        derived.
    """
    where = "token_kd_loss"
    mine = scores_of(where, "student", student, mask)
    theirs = detached(scores_of(where, "teacher", teacher, mask))
    check_positive(where, temperature=temperature)
    shapes = [
        (*_positions(side), rows.classes) for side, rows in ((student, mine), (teacher, theirs))
    ]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"{where}: expected logits [batch, length, classes] of one shape; got student "
            f"{shapes[0]}, teacher {shapes[1]}. Vocabularies must be the same, id by id."
        )
    rows = Divergences.apply(*mine, theirs, temperature, blocks_of(where, block))
    counted = weights_of_positions(where, rows, shapes[0][:2], mask, weights)
    return temperature**2 * mean_of_positions(rows, counted)


def _positions(logits: Logits) -> tuple[int, ...]:
    return tuple((logits[0] if isinstance(logits, tuple) else logits).shape[:2])
