"""What limbeck foretells of a plateau, beside what was measured; for predicted_realised.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import quality_convex as convex
import torch
from jaxtyping import Float
from scipy.stats import t as student_t
from torch import Tensor

from limbeck import gradient_moments, recommend_weight
from limbeck.lab_result import LabSettings
from limbeck.randomness import generator
from limbeck.weighting.lab import logistic, mlp
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.reporting.outlook import outlook
from limbeck.weighting.theory.laws import noise_floor, noise_left
from limbeck.weighting.theory.reshuffling import reshuffled_share


WEIGHTS = ("0.3", "0.5", "0.7", "0.9", "1")  # fixed ones of weighting_quality.py, but for 0
LAB_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0)
EPOCH = convex.ROWS // convex.BATCH  # steps
WIDE = 1.96  # standard errors
PLAIN_SEED = 1000  # of students that are measured, not counted
Row = dict[str, Any]


def measured_change(own: Sequence[float], plain: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of two means over paired seeds, with the t-interval of its logarithm."""
    above, below = np.asarray(own), np.asarray(plain)
    value, n = float(above.mean() / below.mean()), len(above)
    # What each seed adds to the logarithm of the ratio, to first order.
    error = (above / above.mean() - below / below.mean()).std(ddof=1) / math.sqrt(n)
    wide = math.exp(float(student_t.ppf(0.975, n - 1)) * error)
    return {"value": value, "lower": value / wide, "upper": value * wide, "n": n}


def judged(
    predicted: float, measured: Mapping[str, Any], interval: Sequence[float] | None = None
) -> Row:
    """Hold a prediction beside what was measured.

    Args:
        predicted: Plateau as a multiple of that without distillation.
        measured: By :func:`measured_change`.
        interval: Of the prediction; None where nothing in it was estimated.
    """
    low, high = measured["lower"], measured["upper"]
    return {
        "predicted": predicted,
        "predicted_interval": None if interval is None else list(interval),
        "measured": dict(measured),
        "predicted_over_measured": predicted / measured["value"],
        "inside_measured_interval": low <= predicted <= high,
        "measured_inside_predicted": None
        if interval is None
        else interval[0] <= measured["value"] <= interval[1],
        # Whether the plateau sinks or rises; None where the seeds do not tell.
        "same_direction": None if low <= 1 <= high else (predicted < 1) == (measured["value"] < 1),
    }


def foretold(
    moments: GradientMoments, weight: float, **setting: Any
) -> tuple[float, tuple[float, float], float, str]:
    """Return what measured moments say of a weight.

    Returns:
        The plateau as a multiple of that without distillation, its interval by the standard error
        of D_T, the plateau without distillation [nats], and whether the advice is resolved.
    """
    advice = recommend_weight(moments, **setting)
    curvature, seen = moments.curvature, outlook(moments, advice, weight)
    assert curvature is not None
    assert advice.loss is not None
    assert seen.plateau is not None
    ends = [
        seen.noise_left
        + weight**2 * max(curvature.D_T + side * WIDE * curvature.standard_error, 0) / advice.floor
        for side in (-1, 1)
    ]
    return seen.plateau / advice.floor, (ends[0], ends[1]), advice.floor, advice.loss.status


def exact_moments(
    x: Float[Tensor, "n d"], y: Tensor, student: Float[Tensor, "k d"], teacher: Tensor
) -> dict[str, float]:
    """Return a softmax regression's traces, |hbar|^2 and D_T over all rows, by closed forms.

    The rows are the population here, as they are for the training loss: nothing is estimated.
    """
    p, q = (x @ student.T).softmax(1), (x @ teacher.T).softmax(1)
    truth = torch.nn.functional.one_hot(y, len(student)).to(p)
    g, h = (((one - truth)[:, :, None] * x[:, None]).flatten(1) for one in (p, q))
    bias = h.mean(0)
    curved = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    whole = torch.einsum("nij,na,nb->iajb", curved, x, x) / len(x)
    hessian = whole.reshape(len(bias), len(bias))
    g, h = g - g.mean(0), h - bias
    return {
        "tr_gg": float((g * g).sum(1).mean()),
        "tr_gh": float((g * h).sum(1).mean()),
        "tr_hh": float((h * h).sum(1).mean()),
        "hbar2": float(bias @ bias),
        "D_T": float(bias @ torch.linalg.pinv(hessian, hermitian=True) @ bias / 2),
    }


def by_law(exact: Mapping[str, float], weight: float, floor: float) -> float:
    """Return R(lambda) + lambda^2 D_T / A, the law of the plateau as a multiple of A."""
    traces = {name: exact[name] for name in ("tr_gg", "tr_gh", "tr_hh")}
    return noise_left(weight, **traces) + weight**2 * exact["D_T"] / floor


def exact_floor(exact: Mapping[str, float], rate: float, batch: int, epoch: int | None) -> float:
    """Return A [nats]; where every epoch takes each row once, what is left of it at its end."""
    share = 1.0
    if epoch is not None:
        share = float(reshuffled_share(rate * exact["hbar2"] / (2 * exact["D_T"]), epoch))
    return share * noise_floor(exact["tr_gg"], learning_rate=rate, batch_size=batch)


def plain_student(phase: int) -> Tensor:
    """Return the weights of a student without teacher at the end of a phase of the benchmark."""
    given, seed = convex.problem(), PLAIN_SEED
    start = torch.randn(given.best.shape, generator=generator(seed, "start"), dtype=torch.float64)
    weight, source = given.best + 0.1 * start, generator(seed, "order")
    truth = torch.nn.functional.one_hot(given.y, len(weight)).double()
    for at in range(phase + 1):
        for _ in range(convex.STEPS // EPOCH):
            for rows in torch.randperm(convex.ROWS, generator=source).split(convex.BATCH):
                missed = (given.x[rows] @ weight.T).softmax(1) - truth[rows]
                rate = convex.RATE * 0.25**at
                weight = weight - rate / len(rows) * missed.T @ given.x[rows]
    return weight


def convex_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return predictions for the convex case of weighting_quality.py beside its runs."""
    given, rows = convex.problem(), []
    found = {(r["teacher"], r["arm"], r["seed"]): r for r in runs if r["case"] == "convex"}
    seeds = sorted({seed for _, _, seed in found})
    data = given.x, given.y

    def moments_at(weight: Tensor, teacher: Tensor) -> GradientMoments:
        return gradient_moments(
            convex.network(weight), convex.network(teacher), data, n=convex.ROWS, loss=convex.term
        )

    raw = [plain_student(phase) for phase in range(len(convex.MEASURES))]
    for place, (title, teacher) in enumerate(zip(convex.TEACHERS, given.teachers, strict=True)):
        exact = exact_moments(*data, given.best, teacher)
        optimum = moments_at(given.best, teacher)
        for phase, measure in enumerate(convex.MEASURES):
            rate = convex.RATE * 0.25**phase
            values = {
                arm: [found[place, arm, seed][measure] for seed in seeds] for arm in ("0", *WEIGHTS)
            }
            setting = {"learning_rate": rate, "batch_size": convex.BATCH, "steps_per_epoch": EPOCH}
            states = {"optimum": optimum, "student": moments_at(raw[phase], teacher)}
            cell = {"part": "convex", "teacher": title, "learning_rate": rate, "batch_size": 8}
            for arm in WEIGHTS:
                measured = measured_change(values[arm], values["0"])
                for name, moments in states.items():
                    value, ends, floor, status = foretold(moments, float(arm), **setting)
                    more = {"moments": name, "weight": float(arm), "status": status}
                    rows.append(cell | more | _level(floor, values["0"]))
                    rows[-1] |= {"D_T": moments.D_T} | judged(value, measured, ends)
                floor = exact_floor(exact, rate, convex.BATCH, EPOCH)
                more = {"moments": "exact", "weight": float(arm), "status": "exact"}
                rows.append(cell | more | _level(floor, values["0"]) | {"D_T": exact["D_T"]})
                rows[-1] |= judged(by_law(exact, float(arm), floor), measured)
    return rows


def network_rows() -> list[Row]:
    """Return predictions for the laboratory's tanh network beside its chains, at quick size."""
    found, rows = mlp.measure(LabSettings(quick=True)), []
    setting = {"learning_rate": mlp.LEARNING_RATE, "batch_size": mlp.BATCH}
    for teacher, excess in found["excess"].items():
        moments, plain = found["moments"][teacher], excess[:, 0]
        for weight in LAB_WEIGHTS:
            value, ends, floor, status = foretold(moments, weight, **setting)
            rows.append(
                {"part": "network", "teacher": teacher, **setting, "moments": "optimum"}
                | {"weight": weight, "status": status, "D_T": moments.D_T}
                | _level(floor, plain)
            )
            measured = measured_change(excess[:, mlp.WEIGHTS.index(weight)], plain)
            rows[-1] |= judged(value, measured, ends)
    return rows


def logistic_rows() -> list[Row]:
    """Return the law for the laboratory's logistic regression beside its chains, at quick size."""
    problem, found = logistic.example_logistic(), logistic.measure(LabSettings(quick=True))
    teacher = problem.teacher(logistic.BIAS)
    tr_gg, tr_gh, tr_hh = problem.traces(teacher)
    bias = problem.gradients(teacher).mean(0)  # of h at the optimum, the ridge's part in both
    exact = {
        "tr_gg": tr_gg,
        "tr_gh": tr_gh,
        "tr_hh": tr_hh,
        "D_T": float(bias @ np.linalg.solve(problem.hessian, bias) / 2),
    }
    rows = []
    for (rate, batch), chains, _ in found["cells"]:
        floor = exact_floor(exact, rate, batch, None)
        for weight in LAB_WEIGHTS:
            at = int(np.abs(logistic.WEIGHTS - weight).argmin())
            rows.append(
                {"part": "logistic", "teacher": "of its class", "learning_rate": rate}
                | {"batch_size": batch, "moments": "exact", "weight": weight, "status": "exact"}
                | _level(floor, chains[:, 0])
                | {"D_T": exact["D_T"]}
            )
            measured = measured_change(chains[:, at], chains[:, 0])
            rows[-1] |= judged(by_law(exact, weight, floor), measured)
    return rows


def _level(floor: float, plain: Sequence[float]) -> Row:
    """Return the plateau without distillation [nats], as predicted and as measured."""
    return {"plain_predicted": floor, "plain_measured": float(np.mean(plain))}
