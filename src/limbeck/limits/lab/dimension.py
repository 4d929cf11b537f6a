"""Case ``dimension``: a student's free parameters take the place of inputs times labels."""

from __future__ import annotations

import math
import time

import numpy as np

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import generator, result
from limbeck.limits.tables.dense import total_variation
from limbeck.limits.tables.log_linear import LogLinearTeacher, fit_log_linear, transfer_error
from limbeck.limits.tables.tanh_network import TanhNetwork, fit_tanh_network


LABELS, TEST = 20, 1000
DIMENSIONS, PER_DIMENSION = {"full": (6, 12, 24, 48), "quick": (6, 12, 24)}, 60
WIDTHS, PER_PARAMETER = {"full": (8, 16, 32), "quick": (16,)}, 12
INPUTS, NETWORK_LABELS = 6, 50
RUNS, NETWORKS, STARTS = 20, {"full": 2, "quick": 1}, 2
MIDDLE, WITHIN = 0.9, 0.3  # of the reference: 0.6 to 1.2


def dimension(settings: LabSettings) -> LabResult:
    r"""Check :math:`\mathrm{TV} \approx \sqrt{p / (2 \pi n)}` for students like their teacher.

    Log-linear ones with p = d features at n = 60 d, and tanh networks at n = 12 p, from hard
    labels. An observation and no theorem: the planner's rule for parametric students rests on it.
    Single teachers scatter by 0.2 and more about it, so the mean over sizes is judged.

    Args:
        settings: Quick takes fewer and smaller models.

    Returns:
        Checks of the mean :math:`2 \pi n \mathrm{TV}^2 / p` of both kinds, in 0.6 to 1.2, and
        errors against p.

    Source:
        Observed.
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    found: dict[str, list[tuple[int, int, float]]] = {"log-linear": [], "tanh networks": []}
    for d in DIMENSIONS[size]:
        errors = [_log_linear(settings, d, run) for run in range(RUNS)]
        found["log-linear"].append((d, PER_DIMENSION * d, float(np.mean(errors))))
    for width in WIDTHS[size]:
        runs = [_network(settings, width, run) for run in range(NETWORKS[size])]
        free, error = runs[0][0], float(np.mean([one for _, one in runs]))
        found["tanh networks"].append((free, PER_PARAMETER * free, error))
    checks, curves, remarks = [], [], []
    for kind, models in found.items():
        ratios = [2 * math.pi * n * error**2 / p for p, n, error in models]
        text = f"{kind}: mean of 2 pi n TV^2 / p"
        checks.append(compare(text, float(np.mean(ratios)), MIDDLE, WITHIN))
        each = ", ".join(
            f"{ratio:.2f} (p = {p})" for ratio, (p, _, _) in zip(ratios, models, strict=True)
        )
        remarks.append(f"{kind}: {each}")
        curves.append(
            LabCurve(
                f"{kind}, hard labels",
                "free parameters",
                "total variation on fresh inputs",
                line([p for p, _, _ in models]),
                line([error for _, _, error in models]),
                line([math.sqrt(p / (2 * math.pi * n)) for p, n, _ in models]),
                log=True,
            )
        )
    sizes = {"runs": RUNS, "networks": NETWORKS[size]}
    return result("dimension", settings, began, checks, curves, sizes, remarks)


def _log_linear(settings: LabSettings, d: int, run: int) -> float:
    """Return the error of one fit to hard labels at n = 60 d."""
    random = generator(settings, "dimension", d, run)
    teacher = LogLinearTeacher.random(d, LABELS, random)
    features = teacher.features(PER_DIMENSION * d, random)
    rows = teacher.rows(features)
    drawn = drawn_from(rows, random)
    fitted = fit_log_linear(features, drawn, rows, loss="cross_entropy")
    return transfer_error(teacher.features(TEST, random), fitted, teacher.parameters)


def _network(settings: LabSettings, width: int, run: int) -> tuple[int, float]:
    """Return the free parameters of a network, and its error from hard labels at n = 12 p."""
    random = generator(settings, "dimension", "network", width, run)
    teacher = TanhNetwork.random(INPUTS, width, NETWORK_LABELS, random)
    x = random.normal(size=(PER_PARAMETER * teacher.free, INPUTS))
    rows = teacher.rows(x)
    drawn, best, student = drawn_from(rows, random), math.inf, teacher
    for _ in range(STARTS):  # the rule is one of maximum likelihood: the better of two maxima
        tried = fit_tanh_network(x, drawn, rows, loss="cross_entropy", width=width, random=random)
        loss = -float(np.log(tried.rows(x)[np.arange(len(x)), drawn]).mean())
        if loss < best:
            best, student = loss, tried
    test = random.normal(size=(TEST, INPUTS))
    return teacher.free, float(total_variation(student.rows(test), teacher.rows(test)).mean())


def drawn_from(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a label drawn from each row."""
    beyond = rows.cumsum(1) < random.random(len(rows))[:, None]
    return np.minimum(beyond.sum(1), rows.shape[1] - 1)
