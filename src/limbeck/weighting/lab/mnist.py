"""Case ``mnist``: linear students of three teachers, masks, unbiased modes, and a ReLU network."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.checks import ArgumentError, DataError, nearest
from limbeck.lab_result import (
    Check,
    LabCurve,
    LabResult,
    LabSettings,
)
from limbeck.weighting.lab.images import Series, Softmax, run_stack
from limbeck.weighting.lab.mnist_checks import (
    MASKED_WEIGHTS,
    QUALITIES,
    WEIGHTS,
    MnistSizes,
    judge_linear,
    judge_mask,
    judge_network,
    judge_unbiased,
)
from limbeck.weighting.lab.relu_network import network_run
from limbeck.weighting.theory.laws import noise_floor


MEAN, STD = 0.1307, 0.3081


QUICK = MnistSizes()
FULL = MnistSizes(
    rows=60000,
    steps=60000,
    dropped=20000,
    every=1000,
    snapshots=12000,
    svrg_snapshots=4000,
    epochs=50,
)


def mnist(settings: LabSettings) -> LabResult:
    r"""Check the best weight of linear students on images, and what removes the bias.

    A softmax regression with a ridge by SGD with constant steps at 11 weights, for teachers of
    three qualities. With the measured floor A of plain SGD the best weight of the grid is the one
    nearest to :math:`A / (A + \Delta)` or a neighbour, and for teachers near the optimum the whole
    curve is :math:`(1 - \lambda)^2 A + \lambda^2 \Delta`. The weight from moments alone,
    :math:`\lambda^*_f = \mathrm{tr}_{gh} / (\mathrm{tr}_{hh} + (4 B / \gamma) D_T)`, must not be
    worse than plain SGD; it is too small where steps are large, as here, and a remark says so.

    Then a student with a fixed random mask and a dense optimal teacher; unbiased distillation;
    SVRG, which must converge; repeated self-distillation; and a ReLU network whose distillation
    gradient is aligned with :math:`\nabla f(x) - \lambda \nabla f(\theta)`.

    Args:
        settings: ``images`` are rows of pixels in [0, 1] and labels; ``sizes`` may change any size
            of :class:`MnistSizes`, by name.

    Returns:
        Checks, and excess losses [nats] over the weight, those predicted with the measured floor
        beside those from the moments alone.

    Raises:
        DataError: If no images were given, or they do not fit.
        ArgumentError: If a size is unknown.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581, and the code of that paper: MNIST,
        linear and 784-100-10, learning rates 0.05 and 0.01, batches of 10. A ridge is added, so
        that there is an optimum. Laws derived.
    """
    began = time.perf_counter()
    sizes = _sizes(settings)
    found = measure(settings, sizes)
    checks: list[Check] = []
    curves: list[LabCurve] = []
    remarks: list[str] = []
    judge_linear(found, sizes, checks, curves, remarks)
    judge_mask(found, checks, curves)
    judge_unbiased(found, sizes, checks)
    judge_network(found["network"], checks, curves)
    shown = {"seed": settings.seed, **{f.name: getattr(sizes, f.name) for f in fields(sizes)}}
    seconds = round(time.perf_counter() - began, 3)
    return LabResult("mnist", tuple(checks), tuple(curves), shown, seconds, tuple(remarks))


def measure(settings: LabSettings, sizes: MnistSizes) -> dict[str, Any]:
    """Fit optima and teachers, train all students, return what was measured."""
    problem = _problem(settings, sizes)
    best = problem.fitted()
    least = float(problem.losses(best[:, None].float())[0])
    step = {"learning_rate": sizes.learning_rate, "batch_size": sizes.batch_size}
    floor = noise_floor(problem.traces(best, best)[0], **step)
    part = problem.fitted(torch.arange(max(20, sizes.rows // 50)))
    teachers = {
        name: _on_the_way(problem, best, part, least, ratio * floor)
        for name, ratio in QUALITIES.items()
    }
    series = [Series(w, theta, best) for theta in teachers.values() for w in WEIGHTS]
    drawn = torch.rand(best.shape, generator=torch.Generator().manual_seed(17))
    mask = (drawn >= sizes.sparsity).double()
    mask[-1] = 1.0  # the bias is not masked
    sparse = problem.fitted(mask=mask)
    series += [Series(w, best, sparse, mask) for w in MASKED_WEIGHTS]
    poor = teachers["poor"]
    traces = problem.traces(best, poor)
    series += [
        Series(traces[1] / traces[2], poor, best, unbiased=True),
        Series(1.0, poor, poor, unbiased=True, snapshots=sizes.svrg_snapshots),
        Series(sizes.repeated_weight, best, best, snapshots=sizes.snapshots),
    ]
    losses = run_stack(
        problem,
        series,
        **step,
        steps=sizes.steps,
        dropped=sizes.dropped,
        every=sizes.every,
        seed=settings.seed,
    )
    late, losses = losses[-(len(losses) // 4 + 1) :].mean(0), losses.mean(0)
    end = len(QUALITIES) * len(WEIGHTS)
    masked = slice(end, end + len(MASKED_WEIGHTS))
    return {
        "problem": problem,
        "best": best,
        "teachers": teachers,
        "bias": {
            name: float(problem.losses(theta[:, None].float())[0]) - least
            for name, theta in teachers.items()
        },
        "excess": dict(zip(teachers, losses[:end].reshape(len(teachers), -1) - least, strict=True)),
        "masked": losses[masked] - float(problem.losses(sparse[:, None].float())[0]),
        "masked_traces": problem.traces(sparse, best, mask),
        "unbiased": losses[masked.stop] - least,
        "svrg": late[masked.stop + 1] - least,
        "repeated": losses[masked.stop + 2] - least,
        "network": network_run(
            problem.rows[:, :-1],
            problem.targets,
            hidden=sizes.hidden,
            weights=(0.0, 0.3, sizes.repeated_weight, 1.0),
            traced=2,
            epochs=sizes.epochs,
            batch_size=sizes.batch_size,
            learning_rate=sizes.network_learning_rate,
            weight_decay=sizes.weight_decay,
            seed=settings.seed,
        ),
    }


def _on_the_way(
    problem: Softmax, best: Tensor, other: Tensor, least: float, wanted: float
) -> Tensor:
    """Return the point between two optima, or beyond, whose excess loss is as wanted."""
    low, high = 0.0, 64.0
    for _ in range(24):
        middle = 0.5 * (low + high)
        point = best + middle * (other - best)
        if float(problem.losses(point[:, None].float())[0]) - least < wanted:
            low = middle
        else:
            high = middle
    return best + 0.5 * (low + high) * (other - best)


def _sizes(settings: LabSettings) -> MnistSizes:
    known = [one.name for one in fields(MnistSizes)]
    for name in settings.sizes:
        if name not in known:
            raise ArgumentError(
                f"mnist: expected in `sizes` names out of {', '.join(known)}; got {name!r}."
                f"{nearest(name, known)}"
            )
    return replace(QUICK if settings.quick else FULL, **settings.sizes)


def _problem(settings: LabSettings, sizes: MnistSizes) -> Softmax:
    if settings.images is None:
        raise DataError(
            "mnist: expected `images`, rows of pixels and labels; got none. Load a data set and "
            "pass its training part; on the command line: --data mnist --folder FOLDER."
        )
    x, y = (np.asarray(part) for part in settings.images)
    x, y = x.reshape(len(x), -1)[: sizes.rows], y[: sizes.rows]
    if len(x) != len(y) or len(x) < 50 or not np.isfinite(x).all():
        raise DataError(
            f"mnist: expected 50 finite rows at least, with a label each; got {len(x)} rows and "
            f"{len(y)} labels. Pass x [n, pixels] and y [n]."
        )
    rows = torch.from_numpy((x.astype(np.float32) - MEAN) / STD)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    targets = torch.from_numpy(y.astype(np.int64))
    return Softmax(rows, targets, int(targets.max()) + 1, sizes.ridge)
