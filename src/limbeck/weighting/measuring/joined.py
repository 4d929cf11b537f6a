"""What a model said of several batches, on all processes, as of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.types import Answers, Outputs


def joined(said: Sequence[Outputs], gather: Callable[[Tensor], Tensor]) -> Outputs:
    """Return the rows of all batches one after the other.

    Args:
        said: What was said of each batch; all of them have the same parts.
        gather: Returns these and all other processes' rows.
    """
    first = said[0]
    answers = [one.answers for one in said if one.answers is not None]
    return Outputs(
        None if first.logits is None else gather(torch.cat([_there(one.logits) for one in said])),
        {name: gather(torch.cat([one.features[name] for one in said])) for name in first.features},
        _joined_answers(answers, gather) if answers else None,
    )


def _joined_answers(answers: list[Answers], gather: Callable[[Tensor], Tensor]) -> Answers:
    # A row may have more labels in one batch, or on one process, than in the next.
    here = torch.tensor([max(one.labels.shape[-1] for one in answers)])
    width = int(gather(here.to(answers[0].labels.device)).max())

    def column(name: str, absent: int) -> Tensor:
        parts = [_there(getattr(one, name)) for one in answers]
        padded = [F.pad(part, (0, width - part.shape[-1]), value=absent) for part in parts]
        return gather(torch.cat(padded))

    return Answers(
        column("labels", -1),
        None if answers[0].log_probabilities is None else column("log_probabilities", 0),
        None if answers[0].counts is None else column("counts", 0),
    )


def _there(part: Tensor | None) -> Tensor:
    assert part is not None  # what one batch has, all have
    return part
