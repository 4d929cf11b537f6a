"""What a live teacher would have answered at every position of a text: top tokens, or draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from limbeck.checks import ShapeError
from limbeck.losses.numerics import at_least_float32
from limbeck.losses.teacher_draws import TeacherDraws, labels_at
from limbeck.losses.top_k import top_of
from limbeck.randomness import keyed_uniform
from limbeck.types import Answers, Batch


BLOCK = 2**22  # logits at a time: 32 MB in float64


def top_tokens(teacher_logits: Float[Tensor, "batch length classes"], k: int) -> Answers:
    """Return the k most likely tokens of every position with their log-probabilities [nats]."""
    found = _by_block(lambda logits, _: top_of(logits, k), teacher_logits, None)
    return Answers(*found)


def drawn_tokens(
    teacher_logits: Float[Tensor, "batch length classes"], batch: Batch, draws: TeacherDraws
) -> Answers:
    """Return tokens drawn at every position, with their log-probabilities [nats] and counts of 1.

    A token is a pure function of (seed, row, position, number of the draw), as
    :class:`~limbeck.losses.teacher_draws.TeacherDraws` has it for samples.
    """
    rows, length = teacher_logits.shape[:2]
    view = batch.view if draws.redraw else torch.zeros_like(batch.view)
    count = 2 * draws.draws
    # 24 bits would never draw the rare tokens of a large vocabulary; two draws make 48.
    kind = torch.float32 if teacher_logits.device.type == "mps" else torch.float64
    pairs = keyed_uniform(draws.seed, batch.index, view, length * count).to(kind)
    pairs = pairs.reshape(rows * length, count)
    uniform = pairs[:, ::2] + pairs[:, 1::2] / (1 << 24)

    def draw(logits: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        log_t = F.log_softmax(logits, dim=1)
        labels = labels_at(log_t.exp(), levels)
        return labels, log_t.gather(1, labels)

    labels, numbers = _by_block(draw, teacher_logits, uniform)
    return Answers(labels, numbers, torch.ones_like(labels))


def check_answers(where: str, answers: Answers, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless answers are [batch, length, kept] for a batch's positions."""
    parts = {"log_probabilities": answers.log_probabilities, "counts": answers.counts}
    known = {name: value for name, value in parts.items() if value is not None}
    labels = answers.labels
    fits = labels.ndim == 3 and tuple(labels.shape[:2]) == shape
    if not fits or any(value.shape != labels.shape for value in known.values()):
        got = "".join(f", {name} {tuple(value.shape)}" for name, value in known.items())
        raise ShapeError(
            f"{where}: expected the teacher's answers [batch, length, kept] for the positions "
            f"{shape}; got labels {tuple(labels.shape)}{got}. Give every position one row: what "
            "is said of the token after it."
        )


def _by_block(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    logits: Tensor,
    beside: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Apply a function to some positions at a time, so that no copy of all logits is made."""
    flat = logits.detach().flatten(0, 1)
    size = max(1, BLOCK // logits.shape[-1])
    levels = flat.new_empty(len(flat), 0) if beside is None else beside
    found = [
        function(at_least_float32(part)[0], level)
        for part, level in zip(flat.split(size), levels.split(size), strict=True)
    ]
    labels, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    shape = (*logits.shape[:2], labels.shape[1])
    return labels.reshape(shape), numbers.reshape(shape)
