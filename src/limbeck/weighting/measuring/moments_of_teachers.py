"""The moments of several teachers' gradients, and the weights that follow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError
from limbeck.data import Data, bound
from limbeck.tasks import task_of
from limbeck.types import Answers, Batch, Outputs, Task, Teacher
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.problem import loss_module
from limbeck.weighting.theory.several import TeacherWeights, teacher_loss_weights


Square = Float[np.ndarray, "teachers teachers"]

_ANSWERS = ("labels", "log_probabilities", "counts")


@dataclass(frozen=True, eq=False)
class TeachersMoments:
    """Second moments of g of the task and of every teacher's h, and their biases.

    Attributes:
        tr_gg: Variance of a sample's task gradient.
        tr_gh: Its covariance with each teacher's h [teachers].
        tr_hh: Covariances of the teachers' h with each other [teachers, teachers].
        hbar_products: Inner products of their means, unbiased [teachers, teachers].
        bias: Half of hbar_j' (GGN + damping)^-1 hbar_k [nats; teachers, teachers].
        each: The moments of every teacher alone, with their errors.
    """

    tr_gg: float
    tr_gh: Float[np.ndarray, " teachers"]
    tr_hh: Square
    hbar_products: Square
    bias: Square
    each: tuple[GradientMoments, ...] = field(repr=False)

    def weights(
        self, *, learning_rate: float, batch_size: int, momentum: float = 0.0
    ) -> TeacherWeights:
        """Return the weights of least excess training loss in the long run.

        Matrices are unbiased estimates, whose negative eigenvalues are taken for zero.

        Args:
            learning_rate: Of training, above 0.
            batch_size: Rows of a step.
            momentum: Of u <- mom u + grad, in [0, 1).

        Returns:
            As :func:`limbeck.weighting.theory.several.teacher_loss_weights`.

        Raises:
            ArgumentError: If a number is outside of its range, or more than 10 teachers leave the
                simplex.
        """
        return teacher_loss_weights(
            self.tr_gg,
            self.tr_gh,
            _without_negative(self.tr_hh),
            _without_negative(self.bias),
            learning_rate=learning_rate,
            batch_size=batch_size,
            momentum=momentum,
        )


def moments_of_teachers(
    student: nn.Module,
    teachers: Sequence[nn.Module | Teacher],
    data: Any,
    *,
    loss: Any = "kd",
    task: str | Task = "classification",
    force: bool = False,
    **options: Any,
) -> TeachersMoments:
    r"""Measure the moments that several teachers' weights depend on.

    .. math:: \mathrm{Cov}(h_j, h_k) = \tfrac12 \left( \mathrm{Var}(h_j + h_k) - \mathrm{Var}(h_j)
              - \mathrm{Var}(h_k) \right)

    and the same for biases: :math:`h_j + h_k` is the h of the distillation term :math:`d_j + d_k -
    \mathrm{task}`, so that every pair is measured as one teacher would be, on the same rows.

    Args:
        student: As in :func:`limbeck.gradient_moments`.
        teachers: Two or more, with the student's classes.
        data: As in :func:`limbeck.gradient_moments`.
        loss: One that compares logits, a mean over samples.
        task: As in :func:`limbeck.distill`.
        force: Measure losses too that are no means over samples.
        **options: n, method, seed and others of :func:`limbeck.gradient_moments`.

    Returns:
        The moments; ``.weights(...)`` gives each teacher's share.

    Raises:
        ArgumentError: If there are fewer than two teachers, or the loss needs a teacher's layers,
            and as :func:`limbeck.gradient_moments` does.

    Source:
        Derived; one teacher as in Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    if len(teachers) < 2:
        raise ArgumentError(
            f"moments_of_teachers: expected two teachers or more; got {len(teachers)}. For one use "
            "gradient_moments."
        )
    term = loss_module(loss, force=force)
    if tuple(getattr(term, "layers", {}).get("teacher", ())):
        raise ArgumentError(
            f"moments_of_teachers: expected a loss on logits; {type(term).__name__} needs layers "
            "of the teacher. Measure such teachers one by one."
        )
    chosen = task_of(task)
    common = {"task": chosen, "curvature": True, "force": True, **options}
    if not common["curvature"]:
        raise ArgumentError(
            "moments_of_teachers: expected `curvature` to be measured, as biases are weighed in "
            "the unit of the loss; got False. Leave it out."
        )
    teachers = [bound(one, Data.of(data)) for one in teachers]
    each = [gradient_moments(student, one, data, loss=term, **common) for one in teachers]
    size = len(teachers)
    numbers = ("tr_hh", "hbar2", "D_T")
    whole = {name: np.diag([_number(one, name) for one in each]) for name in numbers}
    for j, k in itertools.combinations(range(size), 2):
        pair = _Pair(teachers[j], teachers[k])
        both = gradient_moments(student, pair, data, loss=_PairTerm(term, chosen), **common)
        for name in numbers:
            apart = _number(each[j], name) + _number(each[k], name)
            whole[name][j, k] = whole[name][k, j] = (_number(both, name) - apart) / 2
    return TeachersMoments(
        tr_gg=each[0].tr_gg,
        tr_gh=np.array([one.tr_gh for one in each]),
        tr_hh=whole["tr_hh"],
        hbar_products=whole["hbar2"],
        bias=whole["D_T"],
        each=tuple(each),
    )


class _Pair:
    """Two teachers as one, whose logits or answers are its features, by teacher and name."""

    def __init__(self, *teachers: nn.Module | Teacher) -> None:
        self.teachers = teachers

    def __call__(self, batch: Batch) -> Outputs:
        found: dict[str, Tensor] = {}
        for place, teacher in enumerate(self.teachers):
            said = _asked(teacher, batch)
            parts = {"logits": said.logits} | {
                name: getattr(said.answers, name, None) for name in _ANSWERS
            }
            found |= {f"{place}.{name}": part for name, part in parts.items() if part is not None}
        return Outputs(None, found)


class _PairTerm(nn.Module):
    """d_j + d_k - task of the two teachers of a :class:`_Pair`."""

    mean_over_samples = True

    def __init__(self, term: Callable[..., Tensor], task: Task) -> None:
        super().__init__()
        self.term, self.task = term, task

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        first, second = (self.term(student, _of_pair(teacher, at), batch) for at in range(2))
        return first + second - self.task.loss(student, batch)


def _of_pair(pair: Outputs, place: int) -> Outputs:
    logits, labels, *others = (pair.features.get(f"{place}.{n}") for n in ("logits", *_ANSWERS))
    return Outputs(logits, answers=None if labels is None else Answers(labels, *others))


def _asked(teacher: nn.Module | Teacher, batch: Batch) -> Outputs:
    if not isinstance(teacher, nn.Module):
        return teacher(batch)
    modes = {part: part.training for part in teacher.modules()}
    teacher.eval()
    try:
        with torch.no_grad():
            inputs = batch.inputs
            said = teacher(**inputs) if isinstance(inputs, dict) else teacher(inputs)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return Outputs(said if isinstance(said, Tensor) else said.logits)


def _number(moments: GradientMoments, name: str) -> float:
    value = getattr(moments, name)
    assert value is not None  # curvature is measured
    return float(value)


def _without_negative(matrix: Square) -> Square:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values.clip(0.0)) @ vectors.T
