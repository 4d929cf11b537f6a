"""Measure the moments of a student's and a teacher's gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, DataError, ModelError, check_choice
from limbeck.data import Data, bound
from limbeck.randomness import generator
from limbeck.ranks import sum_over_ranks
from limbeck.tasks import task_of
from limbeck.types import Batch, Task, Teacher
from limbeck.weighting.measuring import (
    groups,
    last_layer,
    layerwise,
    per_sample,
    probes,
    training_groups,
)
from limbeck.weighting.measuring.collecting import Collector, noise_dimensions
from limbeck.weighting.measuring.curvature import teacher_bias_in_loss
from limbeck.weighting.measuring.gradient_moments import GradientMoments, moments_of
from limbeck.weighting.measuring.mean_gradients import mean_gradients, wide_zeros
from limbeck.weighting.measuring.problem import Parameters, Part, Problem, loss_module
from limbeck.weighting.measuring.stripes import stripe


METHODS = ("auto", "per_sample", "groups", "probes", "last_layer", "gram")
LEAST_ROWS, LEAST_COUPLED, GROUPS, CHUNK = 8, 8, 64, 64
LARGEST = 2_000_000  # parameters up to which gradients of single rows are formed without need


def gradient_moments(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    data: Any,
    *,
    n: int = 512,
    method: str = "auto",
    loss: Any = "kd",
    curvature: bool = True,
    seed: int = 0,
    task: str | Task = "classification",
    group_rows: int | None = None,
    training: bool = False,
    preconditioner: Mapping[str, Tensor] | None = None,
    force: bool = False,
) -> GradientMoments:
    r"""Measure the moments of the gradients g of the task and h of task minus distillation.

    The gradient of :math:`(1 - \lambda)\,\mathrm{task} + \lambda\,\mathrm{distillation}` is
    :math:`g - \lambda h`. Weight decay belongs to neither. The student is not trained: weights,
    statistics and modes are afterwards as they were.

    Args:
        student: The network; its parameters that require gradients count.
        teacher: A module, run in eval mode, or anything that answers ``teacher(batch) -> Outputs``.
        data: What :class:`limbeck.Data` takes; augmented rows are seen in view 0, the same by
            student and teacher.
        n: Rows, drawn without replacement; all of them where the data has no more. At least 8.
        method: ``"per_sample"`` (gradients of single rows), ``"gram"`` (the same, layer by layer:
            linear layers, 2-d convolutions and normalisations), ``"groups"`` (means over groups of
            rows), ``"probes"`` (random directions), ``"last_layer"`` (a proxy), or ``"auto"``:
            ``"gram"`` where all layers are known, ``"per_sample"`` for other models of up to two
            million parameters, ``"groups"`` for the rest and in training mode.
        loss: A name in ``limbeck.losses.LOSSES``, a loss module, a function of student and teacher
            logits, or one of Outputs, Outputs and batch. A mean over samples.
        curvature: Measure D_T and mu_hat too (not in training mode): 60 to 200 products with the
            curvature for either half of the rows, the fewer the larger the network, each worth
            five forward passes over all rows. Networks beyond some hundred thousand parameters
            may not converge in these; then the weight in loss units is unresolved.
        seed: Of the rows, halves and directions.
        task: As in :func:`limbeck.distill`.
        group_rows: Rows in a group of ``"groups"``; so many that there are 64 groups where None,
            and 8 at least where the rows of a batch see each other.
        training: Leave the student in training mode; each group is then a batch of its own, with
            its own BatchNorm statistics and dropout, the same for both losses.
        preconditioner: Factors D_k >= 0 of the inner product, for each parameter by name a tensor
            of its shape, as of an adaptive optimiser 1 / (sqrt(v) + eps).
        force: Measure losses too that are no means over samples.

    Returns:
        Moments with standard errors, of the model and of each layer, over all processes.

    Raises:
        ArgumentError: If an argument is out of range, or the loss no mean over samples.
        ModelError: If no parameter is trained, or a method cannot handle a layer.
        DataError: If there are fewer than 8 rows, or a gradient is not finite.

    Example:
        Logits of nothing but a bias: g = p - y and h = q - y; with p = q they are the same.

        >>> import torch
        >>> model = torch.nn.Linear(1, 2)
        >>> _ = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
        >>> rows = torch.zeros(8, 1), torch.tensor([0, 1] * 4)
        >>> plain = lambda s, t: torch.nn.functional.cross_entropy(s, t.softmax(1))
        >>> found = gradient_moments(model, model, rows, loss=plain, curvature=False)
        >>> round(found.tr_gg, 6), round(found.lambda_cv, 6)
        (0.571429, 1.0)

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; estimators derived.
    """
    check_choice("gradient_moments", "method", method, METHODS)
    rows = Data.of(data)
    teacher = bound(teacher, rows)
    count = min(n, len(rows))
    if n < LEAST_ROWS or len(rows) < LEAST_ROWS:
        kind = ArgumentError if n < LEAST_ROWS else DataError
        raise kind(
            f"gradient_moments: expected {LEAST_ROWS} rows at least; got n={n} and data of "
            f"{len(rows)}. Intervals need far more: 512 is the default."
        )
    term = loss_module(loss, force=force)
    order = torch.randperm(len(rows), generator=generator(seed, "moments"))[:count]
    example = next(iter(rows.batches([(order[:2], torch.zeros_like(order[:2]))]))).inputs
    with Problem(
        student, teacher, task_of(task), term, example=example, training=training
    ) as problem:
        _check_preconditioner(problem, preconditioner)
        coupled = _coupling_layers(student)
        methods = _methods(method, problem, coupled, training)
        for taken in methods:
            size = CHUNK
            if taken == "groups":
                size = _group_rows(group_rows, count, bool(training or coupled))
            whole = count // size * size if taken == "groups" else count
            each = size if taken == "groups" else 1
            units = order[:whole].unflatten(0, (-1, each))
            mine = stripe(units).flatten()
            plan = [(one, torch.zeros_like(one)) for one in mine.split(size)]
            batches = list(rows.batches(plan, problem.device))
            measured = _Measured(problem, batches, whole, size, seed, preconditioner)
            settings = {
                "method": taken,
                "loss": loss if isinstance(loss, str) else type(term).__name__,
                "seed": seed,
                "training": training,
                "proxy": taken == "last_layer",
            }
            try:
                found = (
                    measured.in_training(settings)
                    if training
                    else measured.by(taken, settings, curvature)
                )
                return replace(found, index=units.numpy())
            except (ModelError, RuntimeError):  # such as an operator that torch cannot vectorise
                if taken == methods[-1]:
                    raise
    raise AssertionError("unreachable")


class _Measured:
    """Rows that are ready, and the ways to their moments."""

    def __init__(
        self,
        problem: Problem,
        batches: list[Batch],
        count: int,
        size: int,
        seed: int,
        preconditioner: Mapping[str, Tensor] | None,
    ) -> None:
        self.problem, self.batches, self.count, self.size = problem, batches, count, size
        self.seed, self.preconditioner = seed, preconditioner

    def by(self, method: str, settings: Mapping[str, Any], curvature: bool) -> GradientMoments:
        problem = self.problem
        parts = problem.parts(self.batches)
        each = self.size if method == "groups" else 1
        found = self._without_curvature(method, parts, settings, each)
        if not curvature:
            return found
        bent = teacher_bias_in_loss(
            problem,
            parts,
            seed=self.seed,
            group_rows=each,
            preconditioner=self.preconditioner,
        )
        return replace(found, curvature=bent)

    def _without_curvature(
        self, method: str, parts: list[Part], settings: Mapping[str, Any], each: int
    ) -> GradientMoments:
        problem = self.problem
        if method == "last_layer":
            return moments_of(last_layer.collect(problem, parts, self.count), settings=settings)
        means = mean_gradients(problem, parts, self.count)
        if method == "probes":
            probed = probes.collect(
                problem, parts, means, seed=self.seed, preconditioner=self.preconditioner
            )
            return moments_of(probed.products, settings=settings, added=probed.added)
        collector = Collector(means, preconditioner=self.preconditioner, rows=each)
        collect = {"per_sample": per_sample, "gram": layerwise, "groups": groups}[method].collect
        collect(problem, parts, collector)
        odd = collector.disagreeing()
        if odd:
            raise ModelError(
                f"gradient_moments: expected method={method!r} to see all uses of a layer's "
                f"weights; got other gradients for {', '.join(odd[:3])}, which may be read past "
                "the layer's forward. Take method='per_sample' or 'groups'."
            )
        return _of_collector(collector, settings)

    def in_training(self, settings: Mapping[str, Any]) -> GradientMoments:
        problem, names = self.problem, list(self.problem.parameters)
        sums = [{k: wide_zeros(v) for k, v in problem.parameters.items()} for _ in range(2)]
        for batch in self.batches:
            for total, one in zip(sums, self._group(batch), strict=True):
                for name in names:
                    total[name] += one[name]
        g, h = (
            {name: sum_over_ranks(total[name]) * (self.size / self.count) for name in names}
            for total in sums
        )
        collector = Collector((g, h), preconditioner=self.preconditioner, rows=self.size)
        for batch in self.batches:
            g, h = ({k: v[None] for k, v in one.items()} for one in self._group(batch))
            collector.add(g, h)
        return _of_collector(collector, settings)

    def _group(self, batch: Batch) -> tuple[Parameters, Parameters]:
        return training_groups.gradients(
            self.problem, batch, self.seed, "group", int(batch.index[0])
        )


def _of_collector(collector: Collector, settings: Mapping[str, Any]) -> GradientMoments:
    found = moments_of(collector.products(), settings=settings)
    spread = noise_dimensions(collector.gram(), found.tr_hh, collector.rows)
    return replace(found, noise_dimensions=spread)


def _methods(method: str, problem: Problem, coupled: list[str], training: bool) -> tuple[str, ...]:
    """Return the ways to try, one after the other."""
    if method == "auto":
        if training or coupled:
            return ("groups",)
        count = sum(value.numel() for value in problem.parameters.values())
        known = () if layerwise.unknown_layers(problem.student) else ("gram",)
        return (*known, *(("per_sample",) if count <= LARGEST else ()), "groups")
    if training and method != "groups":
        raise ArgumentError(
            f"gradient_moments: expected method='groups' with training=True; got {method!r}. In "
            "training mode BatchNorm and dropout make a row's gradient depend on the batch."
        )
    if coupled and method != "groups":
        raise ArgumentError(
            f"gradient_moments: expected rows that do not see each other for method={method!r}; "
            f"got layers with the statistics of the batch: {', '.join(coupled[:3])}. Take "
            "method='groups'."
        )
    return (method,)


def _coupling_layers(model: nn.Module) -> list[str]:
    """Return the names of layers that use the batch's own statistics in eval mode."""
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.modules.batchnorm._NormBase)
        and part.running_mean is None
        and isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]


def _group_rows(given: int | None, count: int, coupled: bool) -> int:
    size = max(LEAST_COUPLED if coupled else 1, count // GROUPS) if given is None else given
    if size < 1 or count // size < 2:
        raise ArgumentError(
            f"gradient_moments: expected two groups of `group_rows` at least; got {size} rows a "
            f"group of {count}. About 30 groups make an interval."
        )
    return size


def _check_preconditioner(problem: Problem, factors: Mapping[str, Tensor] | None) -> None:
    if factors is None:
        return
    for name, value in problem.parameters.items():
        given = factors.get(name)
        if given is None or given.shape != value.shape or not bool((given >= 0).all()):
            got = "nothing" if given is None else f"shape {tuple(given.shape)}"
            raise ArgumentError(
                f"gradient_moments: expected in `preconditioner` factors >= 0 of shape "
                f"{tuple(value.shape)} for {name!r}; got {got}."
            )
