"""Training terms of language models: whole rows and top tokens at every position of a text."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_choice, check_positive
from limbeck.losses.answers import refused
from limbeck.losses.features import logits_of, logits_of_student
from limbeck.losses.teacher_draws import check_count
from limbeck.losses.token_answers import check_answers, top_tokens
from limbeck.losses.token_kd import token_kd_loss
from limbeck.losses.token_top_k import token_top_k_loss
from limbeck.losses.top_k import TAILS, Tail
from limbeck.next_tokens import follows, next_tokens
from limbeck.ranks import share_of_batch
from limbeck.types import Answers, Batch, Outputs


Positions = Literal["labelled", "all"]
POSITIONS = ("labelled", "all")


class TokenLoss(nn.Module):
    """What token losses have in common: which positions count, and how much of the vocabulary.

    The row of logits at a position is of the token after it. Padding, the borders of packed
    documents and the last position of a row never count (:func:`limbeck.next_tokens.follows`).
    The value is the mean over the positions that do, of all processes, and not over rows.

    Args:
        positions: "labelled" leaves out tokens that the targets leave out (prompts, in training on
            answers alone), "all" has them too: no label is needed to learn from a teacher.
        vocabulary: Compare the first so many logits of both; None for all. Models of one family
            and tokenizer may pad their output layers to unlike sizes.
    """

    layers: ClassVar[dict[str, tuple[str, ...]]] = {"student": (), "teacher": ()}
    needs_logits: ClassVar[bool] = True
    tasks: ClassVar[frozenset[str] | None] = frozenset({"language_model"})
    published_weights: ClassVar[tuple[float, float]] = (0.0, 1.0)
    mean_over_samples: ClassVar[bool] = False  # over tokens, of which rows have unlike numbers

    def __init__(self, *, positions: Positions = "labelled", vocabulary: int | None = None) -> None:
        super().__init__()
        where = type(self).__name__
        check_choice(where, "positions", positions, POSITIONS)
        if vocabulary is not None:
            check_count(where, "vocabulary", vocabulary)
        self.positions: Positions = positions
        self.vocabulary = vocabulary

    def mask(self, logits: Tensor, batch: Batch) -> Bool[Tensor, "batch length"]:
        """Return which positions count, or raise ShapeError where the logits are not by token."""
        found = self._positions(batch)
        if logits.ndim != 3 or logits.shape[:2] != found.shape:
            raise ShapeError(
                f"{type(self).__name__}: expected logits [batch, length, vocabulary] for token ids "
                f"{tuple(found.shape)}; got {tuple(logits.shape)}. Use causal language models; a "
                "classifier or an encoder gives one row a text."
            )
        return found

    def counted(self, batch: Batch) -> Tensor:
        """Return how many positions the value of this batch is a mean of."""
        return self._positions(batch).sum()

    def _positions(self, batch: Batch) -> Bool[Tensor, "batch length"]:
        return follows(batch) if self.positions == "all" else next_tokens(batch) >= 0

    def cut(self, logits: Float[Tensor, "batch length classes"]) -> Tensor:
        """Return the logits of the part of the vocabulary that is compared."""
        if self.vocabulary is None:
            return logits
        if self.vocabulary > logits.shape[-1]:
            raise ArgumentError(
                f"{type(self).__name__}: expected `vocabulary` up to {logits.shape[-1]}, the "
                f"logits there are; got {self.vocabulary}. Give the tokenizer's size."
            )
        return logits[..., : self.vocabulary]


class TokenKD(TokenLoss):
    """:func:`token_kd_loss` as a training term: whole rows of a live teacher or a store.

    Args:
        temperature: Softening of both distributions, above zero; 1 is the plain divergence.
        positions: See :class:`TokenLoss`.
        vocabulary: See :class:`TokenLoss`.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        positions: Positions = "labelled",
        vocabulary: int | None = None,
    ) -> None:
        super().__init__(positions=positions, vocabulary=vocabulary)
        check_positive("TokenKD", temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the positions that count."""
        mine, theirs = (self.cut(z) for z in logits_of("TokenKD", student, teacher))
        mask = self.mask(mine, batch)
        value = token_kd_loss(mine, theirs, temperature=self.temperature, mask=mask)
        return share_of_batch(value, mask.sum())


class TokenTopK(TokenLoss):
    """:func:`token_top_k_loss` as a training term.

    The k most likely tokens are those of the teacher's answers, as a store or a service has them,
    else of a live teacher's logits, of which nothing else is used.

    Args:
        k: How many tokens are kept of a live teacher's, at least 1; of answers all are used.
        tail: As in the function.
        positions: See :class:`TokenLoss`.
        vocabulary: See :class:`TokenLoss`.
    """

    def __init__(
        self,
        *,
        k: int = 20,
        tail: Tail = "bucket",
        positions: Positions = "labelled",
        vocabulary: int | None = None,
    ) -> None:
        super().__init__(positions=positions, vocabulary=vocabulary)
        check_count("TokenTopK", "k", k)
        check_choice("TokenTopK", "tail", tail, TAILS)
        self.k = k
        self.tail: Tail = tail

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return this rank's share of the mean over the positions that count."""
        mine, answers = self._answers(student, teacher, batch)
        mask = self.mask(mine, batch)
        check_answers("TokenTopK", answers, tuple(mask.shape))
        assert answers.log_probabilities is not None  # refused else
        value = token_top_k_loss(
            mine, answers.labels, answers.log_probabilities, tail=self.tail, mask=mask
        )
        return share_of_batch(value, (mask & (answers.labels >= 0).any(dim=2)).sum())

    def _answers(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Answers]:
        given = teacher.answers
        if given is None:
            mine, theirs = (self.cut(z) for z in logits_of("TokenTopK", student, teacher))
            self.mask(theirs, batch)  # before anything is looked for by position
            return mine, top_tokens(theirs, self.k)
        if given.drawn or given.log_probabilities is None:
            expected = "the teacher's most likely tokens with their log-probabilities"
            raise refused("TokenTopK", expected, given)
        return self.cut(logits_of_student("TokenTopK", student)), given
