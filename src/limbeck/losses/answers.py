"""Answers in the place of logits: what a teacher gave, and which losses can learn from it."""

from __future__ import annotations

from limbeck.checks import ArgumentError, ShapeError
from limbeck.types import Answers, Batch


def described(answers: Answers) -> str:
    """Return in words what the teacher gave.

    Example:
        >>> import torch
        >>> described(Answers(torch.tensor([[3]]), counts=torch.tensor([[1]])))
        'labels that it drew, without log-probabilities'
    """
    labels = "labels that it drew" if answers.drawn else "its most likely labels"
    return labels + (
        ", without log-probabilities"
        if answers.log_probabilities is None
        else " with log-probabilities"
    )


def is_hard(answers: Answers) -> bool:
    """Whether all there is of a row is its one most likely label, without a number."""
    return answers.labels.shape[-1] == 1 and not answers.drawn and answers.log_probabilities is None


def fitting(answers: Answers) -> tuple[str, ...]:
    """Return the names in ``limbeck.losses.LOSSES`` of the losses that can learn from answers."""
    text = answers.log_probabilities is None
    if answers.labels.ndim == 3:  # by token
        if answers.drawn or is_hard(answers):
            return ("token_sampled",)
        return () if text else ("token_top_k",)
    if answers.drawn:
        with_numbers = () if text else ("control_variate", "k3", "sel")
        return (*with_numbers, "sampled_counts", "sampled_labels")
    if not text:
        return ("top_k",)
    return ("sampled_labels",) if is_hard(answers) else ()


def refused(where: str, expected: str, answers: Answers) -> ArgumentError:
    """Return the error of a loss that cannot learn from what the teacher gave."""
    names = fitting(answers)
    advice = f"Take {' or '.join(names)}, or have" if names else "Have"
    return ArgumentError(
        f"{where}: expected {expected}; got {described(answers)}. {advice} the teacher give, or "
        f"its store keep, what {where} needs."
    )


def check_rows(where: str, answers: Answers, batch: Batch) -> None:
    """Raise ShapeError unless answers are [batch, kept], with a row for every row of a batch."""
    labels = answers.labels
    numbers = {"log_probabilities": answers.log_probabilities, "counts": answers.counts}
    known = {name: value for name, value in numbers.items() if value is not None}
    fits = labels.ndim == 2 and labels.shape[0] == len(batch)
    if not fits or any(value.shape != labels.shape for value in known.values()):
        got = "".join(f", {name} {tuple(value.shape)}" for name, value in known.items())
        raise ShapeError(
            f"{where}: expected the teacher's answers [batch, kept] for {len(batch)} rows; got "
            f"labels {tuple(labels.shape)}{got}. Give every sample one row; answers by token are "
            "for token_sampled and token_top_k."
        )
