"""Small texts, models and batches that the tests of language models share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.types import Batch


VOCABULARY = 11


class Tiny(nn.Module):
    """A causal model without attention: what is said hangs on the token and on a running sum."""

    def __init__(
        self, width: int = 6, vocabulary: int = VOCABULARY, seed: int = 0, *, looks: str = "back"
    ) -> None:
        super().__init__()
        self.looks = looks
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.words = nn.Embedding(vocabulary, width)
            self.head = nn.Linear(width, vocabulary)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        states = self.words(input_ids)
        if attention_mask is not None:
            states = states * attention_mask[:, :, None]
        before = states.cumsum(1)
        if self.looks == "ahead":
            before = before + states.flip(1).cumsum(1).flip(1)
        if position_ids is not None and self.looks != "across":
            start = torch.arange(input_ids.shape[1]) - position_ids
            own = torch.cat([torch.zeros_like(before[:, :1]), before], 1)
            index = start[:, :, None].expand_as(before)
            before = before - own.gather(1, index)
        return self.head(torch.tanh(states + 0.3 * before))


def batch_of(ids: Tensor, targets: Tensor | None = None, **inputs: Tensor) -> Batch:
    """Return a batch of token ids with masks or positions."""
    rows = torch.arange(len(ids))
    return Batch({"input_ids": ids, **inputs}, targets, rows, torch.zeros_like(rows))


def ids_of(*shape: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Return random token ids."""
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def pattern(rows: int, length: int, seed: int = 0) -> Tensor:
    """Return texts that can be learned: every token is the one before it plus 1, 2 or 3."""
    source = torch.Generator().manual_seed(seed)
    steps = 1 + torch.randint(3, (rows, length), generator=source) // 2
    return steps.cumsum(1) % VOCABULARY


QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.05,
    "schedule": "constant",
    "device": "cpu",
    "progress": False,
}


def sets() -> tuple[Any, Any, Any]:
    """Return packed texts of unlike numbers of labelled tokens, for recipes that name this."""

    def rows(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
        ids = pattern(count, 9, seed)
        places = torch.arange(9).repeat(count, 1)
        places[::2, 4:] -= 4
        kept = torch.arange(9)[None] <= 1 + torch.arange(count)[:, None] % 8
        return {"input_ids": ids, "position_ids": places}, ids.masked_fill(~kept, -100)

    return rows(29, 0), rows(13, 1), rows(12, 2)


def double_student() -> nn.Module:
    """Return a small student in float64."""
    return Tiny(4, seed=1).double()


def double_teacher() -> nn.Module:
    """Return a teacher in float64 that knows what :func:`pattern` does."""
    return knowing().double()


def knowing() -> nn.Module:
    """Return a teacher that gives the next token of :func:`pattern` most of the mass."""
    model = Tiny(VOCABULARY, seed=3)
    with torch.no_grad():
        model.words.weight.copy_(2.0 * torch.eye(VOCABULARY))
        follows = torch.eye(VOCABULARY).roll(1, 0) + torch.eye(VOCABULARY).roll(2, 0)
        model.head.weight.copy_(2.0 * follows + 0.05 * model.head.weight)
    return model
