"""A teacher that answers with labels, as a store or a service does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.types import Answers, Batch, Outputs


def drawn_answers(logits: Tensor, batch: Batch, *, draws: int, seed: int = 0) -> Answers:
    """Return the labels that a loss with this seed draws itself, one draw a column."""
    labels, numbers = TeacherDraws("test", draws=draws, seed=seed)(logits, batch)
    return Answers(labels, numbers, torch.ones_like(labels))


def top_answers(logits: Tensor, k: int) -> Answers:
    """Return the most likely labels, by sorting."""
    order = logits.argsort(dim=1, descending=True)[:, :k]
    return Answers(order, logits.log_softmax(1).gather(1, order))


class Answering:
    """Answers with drawn labels; ``uneven`` leaves 1 to ``draws`` of them, by sample."""

    def __init__(self, network: nn.Module, draws: int, *, seed: int = 0, uneven: bool = False):
        self.network, self.draws, self.seed, self.uneven = network, draws, seed, uneven

    def __call__(self, batch: Batch) -> Outputs:
        with torch.no_grad():
            logits = self.network(batch.inputs)
        found = drawn_answers(logits, batch, draws=self.draws, seed=self.seed)
        if self.uneven:
            kept = 1 + batch.index % self.draws
            absent = torch.arange(self.draws) >= kept[:, None]
            found.labels.masked_fill_(absent, -1)
            found = found.map(lambda value: value[:, : int(kept.max())])
        return Outputs(None, answers=found)
