"""Several distillation terms as one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError
from limbeck.types import Batch, Loss, Outputs


class WeightedSum(nn.Module):
    r"""Add distillation terms, each with a weight of its own.

    .. math:: L = \sum_k w_k L_k

    It is itself a loss: it needs the layers of all its terms, suits the tasks that all of them
    suit, and is a mean over samples where all of them are.

    Args:
        terms: For every name the weight, at least zero, and the loss, an ``nn.Module``.

    Returns:
        From ``forward``: the weighted sum [nats where its terms are]; from ``terms``: each term by
        name, without its weight.

    Raises:
        ArgumentError: If there is no term, a weight is negative or not finite, a term is no
            module or alternates with a loss of its own (``auxiliary_loss``), or no task suits all.

    Example:
        >>> import torch
        >>> from limbeck.losses import KD, Match
        >>> both = WeightedSum({"kd": (0.5, KD(temperature=1.0)), "match": (2.0, Match())})
        >>> rows = torch.arange(1)
        >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> both(Outputs(student), Outputs(teacher), Batch(student, None, rows, rows))
        tensor(8.7616)
    """

    def __init__(self, terms: Mapping[str, tuple[float, Loss]]) -> None:
        super().__init__()
        if not terms:
            raise ArgumentError("WeightedSum: expected at least one term; got none.")
        for name, (weight, loss) in terms.items():
            _check_term(name, weight, loss)
        losses = [loss for _, loss in terms.values()]
        self.weights = {name: float(weight) for name, (weight, _) in terms.items()}
        self.losses = nn.ModuleDict({name: loss for name, (_, loss) in terms.items()})  # pyright: ignore[reportArgumentType]
        self.layers = {side: _union(losses, side) for side in ("student", "teacher")}
        self.needs_logits = any(getattr(loss, "needs_logits", False) for loss in losses)
        self.mean_over_samples = all(getattr(loss, "mean_over_samples", False) for loss in losses)
        self.tasks = _common_tasks(losses)
        self.published_weights = (1.0, 1.0)

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Prepare every term that wants it, with a first batch."""
        for loss in self.losses.values():
            prepare = getattr(loss, "prepare", None)
            if prepare is not None:
                prepare(student, teacher, batch)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tell every term that wants to know which epoch, counted from 0, begins."""
        for loss in self.losses.values():
            tell = getattr(loss, "begin_epoch", None)
            if tell is not None:
                tell(epoch, epochs)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return every term's value by name, without its weight, for logging."""
        return {name: loss(student, teacher, batch) for name, loss in self.losses.items()}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms."""
        return self.combined(self.terms(student, teacher, batch))

    def combined(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of what :meth:`terms` gave."""
        weighted = [self.weights[name] * value for name, value in terms.items()]
        return sum(weighted[1:], start=weighted[0])


def _check_term(name: str, weight: float, loss: object) -> None:
    where = f"WeightedSum: term {name!r}"
    if not (math.isfinite(weight) and weight >= 0):
        raise ArgumentError(f"{where}: expected a weight that is finite and >= 0; got {weight}.")
    if not isinstance(loss, nn.Module):
        raise ArgumentError(
            f"{where}: expected an nn.Module, so that its parameters are trained; "
            f"got {type(loss).__name__}. Wrap the function in a module."
        )
    if hasattr(loss, "auxiliary_loss"):
        raise ArgumentError(
            f"{where}: expected a loss without phases of its own; got {type(loss).__name__}, "
            "which alternates with an auxiliary loss. Distil with it alone."
        )


def _union(losses: list[Loss], side: str) -> tuple[str, ...]:
    names = [name for loss in losses for name in getattr(loss, "layers", {}).get(side, ())]
    return tuple(dict.fromkeys(names))


def _common_tasks(losses: list[Loss]) -> frozenset[str] | None:
    given = [tasks for loss in losses if (tasks := getattr(loss, "tasks", None)) is not None]
    if not given:
        return None
    common = frozenset.intersection(*given)
    if not common:
        listed = "; ".join(", ".join(sorted(tasks)) for tasks in given)
        raise ArgumentError(
            f"WeightedSum: expected terms with a task in common; got {listed}. Drop one of them."
        )
    return common
