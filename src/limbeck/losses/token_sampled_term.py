"""Training term of language models: tokens that the teacher drew at every position of a text."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ArgumentError, check_choice
from limbeck.losses.answers import refused
from limbeck.losses.control_variate import AdaptiveControlVariate
from limbeck.losses.features import logits_of, logits_of_student
from limbeck.losses.k3 import CLIP
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.losses.token_answers import check_answers, drawn_tokens
from limbeck.losses.token_sampled import TAKES, SampledLoss, token_sampled_loss
from limbeck.losses.token_terms import Positions, TokenLoss
from limbeck.ranks import share_of_batch
from limbeck.types import Answers, Batch, Outputs


class TokenSampled(TokenLoss):
    """:func:`token_sampled_loss` as a training term: tokens that the teacher drew.

    They are those of the teacher's answers, else drawn from a live teacher's logits; a token then
    depends on (seed, row, position) alone, so that a text costs ``draws`` queries a position,
    however long the student trains. Several draws of one position share its weight.

    Args:
        loss: "cross_entropy" learns from the tokens alone; "sel", "k3" and "control_variate" from
            what the teacher reported of them too.
        draws: Tokens a position, of a live teacher; of answers all are used.
        huber: Of "sel": 5 where it is None.
        clip: Largest r in the gradient of "k3" and "control_variate": e^3 where it is None.
        weight: Of "control_variate": a fixed lambda in [0, 1]; None follows the one of least noise.
        seed: Of the tokens of a live teacher.
        redraw: Draw anew for every view of a row (views are epochs, unless a run has ``views``).
        positions: See :class:`TokenLoss`.
        vocabulary: See :class:`TokenLoss`.
    """

    def __init__(
        self,
        *,
        loss: SampledLoss = "k3",
        draws: int = 1,
        huber: float | None = None,
        clip: float | None = None,
        weight: float | None = None,
        seed: int = 0,
        redraw: bool = False,
        positions: Positions = "labelled",
        vocabulary: int | None = None,
    ) -> None:
        super().__init__(positions=positions, vocabulary=vocabulary)
        check_choice("TokenSampled", "loss", loss, TAKES)
        options: dict[str, float | None] = {"huber": huber, "clip": clip, "weight": weight}
        for name, value in options.items():
            if value is not None and name not in TAKES[loss]:
                fitting = " or ".join(one for one, names in TAKES.items() if name in names)
                raise ArgumentError(
                    f"TokenSampled: expected `{name}` only with {fitting}; got it with {loss}. "
                    "Drop it."
                )
        self.loss: SampledLoss = loss
        defaults = {"huber": 5.0, "clip": CLIP}
        self.options: dict[str, Any] = {
            name: options[name] if options[name] is not None else defaults.get(name)
            for name in TAKES[loss]
        }
        adaptive = loss == "control_variate" and weight is None
        self.adaptive = AdaptiveControlVariate(clip=self.options.pop("clip")) if adaptive else None
        self._check_numbers()
        self.drawn = TeacherDraws("TokenSampled", draws=draws, seed=seed, redraw=redraw)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the positions that count."""
        mine, answers = self._answers(student, teacher, batch)
        mask = self.mask(mine, batch)
        check_answers("TokenSampled", answers, tuple(mask.shape))
        labels = answers.labels.masked_fill(~mask[:, :, None], -1)
        counts = torch.ones_like(labels) if answers.counts is None else answers.counts
        counts = counts.to(torch.float32).masked_fill(labels < 0, 0.0)
        shares = counts / counts.sum(dim=2, keepdim=True).clamp_min(1.0)
        options: dict[str, Any] = self.options
        if self.adaptive is not None:
            options = {"weight": self.adaptive}
        value = token_sampled_loss(
            mine,
            labels,
            None if self.loss == "cross_entropy" else answers.log_probabilities,
            loss=self.loss,
            mask=mask,
            weights=shares,
            **options,
        )
        return share_of_batch(value, (shares > 0).any(dim=2).sum())

    def _answers(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Answers]:
        given = teacher.answers
        if given is None:
            mine, theirs = (self.cut(z) for z in logits_of("TokenSampled", student, teacher))
            self.mask(theirs, batch)  # before anything is drawn by position
            return mine, drawn_tokens(theirs, batch, self.drawn)
        text = self.loss == "cross_entropy"
        # The one most likely token, without a number, is the text of greedy decoding.
        greedy = text and given.log_probabilities is None and given.labels.shape[-1] == 1
        if not (given.drawn or greedy) or (not text and given.log_probabilities is None):
            numbers = "" if text else " with their log-probabilities"
            raise refused("TokenSampled", f"tokens that the teacher drew{numbers}", given)
        return self.cut(logits_of_student("TokenSampled", student)), given

    def _check_numbers(self) -> None:
        """Raise ArgumentError for a number out of range, before anything is trained."""
        zeros, label = torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.int64)
        options: dict[str, Any] = self.options if self.adaptive is None else {"weight": 0.0}
        numbers = None if self.loss == "cross_entropy" else torch.zeros(1, 1)
        token_sampled_loss(zeros, label, numbers, loss=self.loss, **options)
