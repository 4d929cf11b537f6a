"""The variance report: what a weight does to gradient noise, bias and the plateau."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from limbeck.checks import ArgumentError, DataError, check_between, check_positive
from limbeck.data import Data
from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.ranks import world_size
from limbeck.record import hardware, versions
from limbeck.tasks import task_of
from limbeck.types import Task, Teacher
from limbeck.weighting.arguments import check_momentum
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.measuring.problem import loss_module
from limbeck.weighting.reporting import variance_text
from limbeck.weighting.reporting.advice import WeightAdvice, recommend_weight
from limbeck.weighting.reporting.outlook import Outlook, outlook
from limbeck.weighting.reporting.same_shapes import compared, have_same_shapes, measured_rows
from limbeck.weighting.reporting.shares import Share, class_shares, layer_shares, unbiased_weight


FILE_NAME = "weights.json"
WEIGHTS = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True, eq=False)
class VarianceReport:
    """What distillation does to the noise of the gradient, in one step and in the long run.

    Attributes:
        moments: On training rows.
        held_out: On held-out rows, without curvature; None where there were none.
        advice: The weights that the moments ask for.
        weight: The weight in use, or None.
        grid: What each weight 0, 0.1, ..., 1 does, and the one in use, in order.
        outlooks: The same of "one_step" and "long_run", where those weights are resolved, and of
            "in_use".
        unbiased: lambda_cv = tr_gh / tr_hh, the weight were there no bias.
        layers: The part of each layer.
        classes: The part of each class; None where targets are no classes, or units no rows.
        interpolation: Task loss of (1 - lambda) x + lambda theta on the training rows, for each
            weight of the grid [nats]: the free baseline. None where shapes differ.
        cosine: Of the mean gradient gbar - lambda hbar and grad f(x) - lambda grad f(theta), alike.
        rows_in_data: Training rows that there are.
        notes: What to mind.
        settings: How it was made.
    """

    moments: GradientMoments
    held_out: GradientMoments | None
    advice: WeightAdvice
    weight: float | None
    grid: tuple[Outlook, ...]
    outlooks: Mapping[str, Outlook]
    unbiased: Estimate
    layers: Mapping[str, Share]
    classes: Mapping[str, Share] | None
    interpolation: tuple[float, ...] | None
    cosine: tuple[float | None, ...] | None
    rows_in_data: int
    notes: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def advised_name(self) -> str:
        """Which weight is advised: "loss", else, or where a horizon was named, "horizon"."""
        return _advised_name(self.advice)

    @property
    def advised(self) -> Estimate:
        """The weight that is advised, with its interval."""
        return getattr(self.advice, self.advised_name)

    @property
    def distance(self) -> float:
        """|gbar|^2 B / tr_gg: above 1 the student is far from the plateau that the law is about."""
        return self.moments.gbar2 * self.advice.settings["batch_size"] / self.moments.tr_gg

    @property
    def cannot_lower_training_loss(self) -> bool:
        """Whether the advised weight is 0, or its interval, though bounded, holds 0."""
        told = self.advised
        zero = told.upper <= 0 or self.moments.tr_gh <= 0
        return zero or (told.status == "resolved" and told.lower <= 0)

    @property
    def verdict(self) -> str:
        """Whether, and by how much, distillation lowers the training loss, in a sentence."""
        return variance_text.verdict_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; what is not finite becomes None."""
        outlooks = {name: one.to_dict() for name, one in self.outlooks.items()}
        return variance_text.plain(
            {
                "format": 1,
                "kind": "weights",
                "unit": "nats",
                "train": self.moments.to_dict(),
                "held_out": None if self.held_out is None else self.held_out.to_dict(),
                "advice": self.advice.to_dict(),
                "advised": self.advised_name,
                "weight_in_use": self.weight,
                "grid": [one.to_dict() for one in self.grid],
                "outlooks": outlooks,
                "unbiased": self.unbiased.to_dict(),
                "layers": {name: one.to_dict() for name, one in self.layers.items()},
                "classes": None
                if self.classes is None
                else {name: one.to_dict() for name, one in self.classes.items()},
                "interpolation": self.interpolation,
                "cosine": self.cosine,
                "distance": self.distance,
                "cannot_lower_training_loss": self.cannot_lower_training_loss,
                "verdict": self.verdict,
                "notes": self.notes,
                "rows_in_data": self.rows_in_data,
                "settings": self.settings,
                "versions": versions(),
                "hardware": hardware(),
            }
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``weights.json`` and the figure; under a launcher one process does.

        Args:
            folder: Made if absent; an earlier report in it is replaced.

        Returns:
            The folder.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(folder)
        if world_size() > 1 and dist.get_rank() > 0:
            return folder
        record = self.to_dict()
        write_text(folder / FILE_NAME, json.dumps(record, indent=1, allow_nan=False) + "\n")
        from limbeck.report import weights

        for name, text in weights.figures_of(record).items():
            write_text(folder / name, text)
        return folder

    def __str__(self) -> str:
        """Return moments, weights, the grid, the largest layers and the verdict, as plain text."""
        return "\n".join(variance_text.lines_of(self))


def variance_report(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    data: Any,
    *,
    learning_rate: float,
    batch_size: int,
    momentum: float = 0.0,
    horizon: int | None = None,
    steps_per_epoch: int | None = None,
    held_out: Any = None,
    weight: float | None = None,
    n: int = 512,
    method: str = "auto",
    loss: Any = "kd",
    curvature: bool = True,
    seed: int = 0,
    task: str | Task = "classification",
    **options: Any,
) -> VarianceReport:
    r"""Report what a distillation weight does to gradient noise, bias and the plateau of the loss.

    .. math:: A R(\lambda) + \lambda^2 D_T, \qquad A = \frac{\gamma\, \mathrm{tr}_{gg}}{4 B},
              \qquad R(\lambda) = 1 - 2 \lambda \frac{\mathrm{tr}_{gh}}{\mathrm{tr}_{gg}} +
              \lambda^2 \frac{\mathrm{tr}_{hh}}{\mathrm{tr}_{gg}}

    One step and the long run stand side by side: noise averages out over the steps and bias does
    not, so that the weight of one step is far too large for training.

    Args:
        student: The network at its present state, best near its plateau; it is not trained.
        teacher: A module, or anything that answers ``teacher(batch) -> Outputs``. Where it has the
            student's parameter names and shapes, weights between the two are tried as well.
        data: The training rows, as :class:`limbeck.Data` takes them.
        learning_rate: :math:`\gamma` of plain SGD.
        batch_size: B.
        momentum: Of u <- mom u + grad, in [0, 1): gamma becomes gamma / (1 - mom).
        horizon: Steps that are left; None is the long run.
        steps_per_epoch: Where epochs take each row once, as in :func:`limbeck.recommend_weight`.
        held_out: Rows that neither network saw, for the teacher's bias there.
        weight: The weight in use, in [0, 1], to be told about too.
        n: Rows of either kind, as the next six of :func:`limbeck.gradient_moments`.
        method: Way of measuring.
        loss: The distillation term.
        curvature: Measure D_T, without which there is no plateau.
        seed: Of the rows.
        task: As in :func:`limbeck.distill`.
        options: ``group_rows``, ``training``, ``preconditioner``, ``force``.

    Returns:
        The report: printable, ``.to_dict()``, ``.save(folder)``. Losses in nats, or in the unit of
        the task.

    Raises:
        ArgumentError: If an argument is out of range, or the loss no mean over samples.
        ModelError: If no parameter is trained, or a method cannot handle a layer.
        DataError: If there are fewer than 8 rows, a gradient is not finite, or none varies.

    Example:
        Logits of nothing but a bias, a teacher that says 1/2 always: h is g, without a bias.

        >>> import torch
        >>> model = torch.nn.Linear(1, 2)
        >>> _ = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
        >>> rows = torch.zeros(8, 1), torch.tensor([0, 1] * 4)
        >>> plain = lambda s, t: torch.nn.functional.cross_entropy(s, t.softmax(1))
        >>> found = variance_report(
        ...     model, model, rows, loss=plain, curvature=False, learning_rate=0.1, batch_size=2
        ... )
        >>> [round(one.noise_left, 6) for one in found.grid[::5]]
        [1.0, 0.25, 0.0]

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; laws and estimators derived.
    """
    where = "variance_report"
    check_positive(where, learning_rate=learning_rate, batch_size=batch_size)
    check_momentum(where, momentum)
    if weight is not None:
        check_between(where, 0.0, 1.0, weight=weight)
    if horizon is not None and horizon < 1:
        raise ArgumentError(
            f"{where}: expected `horizon` of 1 step at least, or None for the long run; got "
            f"{horizon}."
        )
    rows = Data.of(data)
    options |= {"n": n, "method": method, "loss": loss, "seed": seed, "task": task}
    moments = gradient_moments(student, teacher, rows, curvature=curvature, **options)
    if moments.tr_gg <= 0:
        raise DataError(
            f"{where}: expected task gradients that differ from row to row; got none that do in "
            f"{moments.n} rows. There is no noise for a teacher to remove."
        )
    unseen = None
    if held_out is not None:
        unseen = gradient_moments(student, teacher, held_out, curvature=False, **options)
    setting = {"learning_rate": learning_rate, "batch_size": batch_size, "momentum": momentum}
    advice = recommend_weight(moments, **setting, horizon=horizon, steps_per_epoch=steps_per_epoch)
    weights = sorted({*WEIGHTS, *(() if weight is None else (float(weight),))})
    outlooks = {
        name: outlook(moments, advice, value)
        for name, value in _worth_telling(advice, weight).items()
    }
    device = next(value.device for value in student.parameters() if value.requires_grad)
    batches = measured_rows(rows, moments, device)
    alike = None
    if isinstance(teacher, nn.Module) and have_same_shapes(student, teacher):
        term = loss_module(loss, force=options.get("force", False))
        alike = compared(student, teacher, batches, task=task_of(task), loss=term, weights=weights)
    targets = None if batches[0].targets is None else torch.cat([b.targets for b in batches])  # pyright: ignore[reportArgumentType]
    return VarianceReport(
        moments=moments,
        held_out=unseen,
        advice=advice,
        weight=weight,
        grid=tuple(outlook(moments, advice, one) for one in weights),
        outlooks=outlooks,
        unbiased=unbiased_weight(moments),
        layers=layer_shares(moments),
        classes=class_shares(moments, targets, rows.class_names),
        interpolation=None if alike is None else alike.losses,
        cosine=None if alike is None else alike.cosines,
        rows_in_data=len(rows),
        notes=variance_text.notes_on(moments, unseen, advice),
        settings={**setting, "horizon": horizon, "weight": weight, **moments.settings},
    )


def _advised_name(advice: WeightAdvice) -> str:
    named = advice.settings["horizon"] is not None
    return "horizon" if named or advice.loss is None else "loss"


def _worth_telling(advice: WeightAdvice, weight: float | None) -> dict[str, float]:
    """Return the weights that may be told as numbers."""
    told = {"one_step": advice.one_step, "long_run": getattr(advice, _advised_name(advice))}
    found = {name: one.value for name, one in told.items() if one.status != "unresolved"}
    return found if weight is None else {**found, "in_use": float(weight)}
