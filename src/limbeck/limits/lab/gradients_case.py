"""Case ``gradients``: which losses step along the full-KL gradient on average, and how noisily."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from limbeck.lab_result import Check, LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import generator, portions, result
from limbeck.limits.tables.gradients import (
    control_weight,
    count_gradient,
    log_ratio_gradient,
    naive_gradient,
    ratio_gradient,
    truncated_gradients,
)
from limbeck.limits.tables.instances import zipf_law


LABELS, EXPONENT, DRAWS, HEAD = 2000, 1.3, 50, 12
DISTANCES, RUNS = (1.0, 0.3, 0.1, 0.0), {"full": 4000, "quick": 1000}
HEAD_MASS = 0.660
# Monte-Carlo standard errors.
UNBIASED, BIASED = dict.fromkeys(("counts", "k3", "control variate"), 3.0), 10.0


def gradients(settings: LabSettings) -> LabResult:
    r"""Check which gradients have the mean p - t, and that the control variate is never noisier.

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks of the length of the mean error in units of its standard error, and errors against
        the distance of the student.

    Source:
        Derived.
    """
    began, size = time.perf_counter(), "quick" if settings.quick else "full"
    teacher = zipf_law(LABELS, EXPONENT)
    checks = [compare("mass of the head", teacher[:HEAD].sum(), HEAD_MASS, 0.001)]
    errors: dict[str, list[float]] = {}
    remarks = []
    for distance in DISTANCES:
        random = generator(settings, "gradients", str(distance))
        student = teacher * np.exp(distance * random.normal(size=LABELS))
        student /= student.sum()
        best = control_weight(student, teacher)
        said = _measured(student, teacher, best, RUNS[size], random)
        for name, (error, _) in said.items():
            errors.setdefault(name, []).append(error)
        for name, gradient in truncated_gradients(student, teacher, HEAD).items():
            errors.setdefault(f"top {name}", []).append(
                float(np.linalg.norm(gradient - (student - teacher)))
            )
        if distance:
            checks += _judged(f"distance {distance:g}", said)
        divergence = float(teacher @ np.log(teacher / student))
        remarks.append(
            f"distance {distance:g}: KL(t, p) = {divergence:.3f} nats, lambda* = {best:.2f}"
        )
    checks += _at_teacher({name: values[-1] for name, values in errors.items()})
    names = ("k3", "squared log-ratio", "top renormalised", "top tail_bucket")
    curve = LabCurve(
        f"{DRAWS} draws of {LABELS} labels",
        "distance of the student",
        "root mean squared error of the gradient [nats]",
        line(DISTANCES),
        line(errors["control variate"]),
        line(errors["counts"]),
        {name: line(errors[name]) for name in names},
    )
    sizes = {"runs": RUNS[size], "draws": DRAWS}
    return result("gradients", settings, began, checks, [curve], sizes, remarks)


def _measured(
    student: np.ndarray, teacher: np.ndarray, best: float, runs: int, random: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return each gradient's root mean squared error, and its bias in standard errors."""
    ways: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "counts": lambda c: count_gradient(student, c),
        "k3": lambda c: ratio_gradient(student, teacher, c),
        "control variate": lambda c: ratio_gradient(student, teacher, c, weight=best),
        "squared log-ratio": lambda c: log_ratio_gradient(student, teacher, c),
        "naive": lambda c: naive_gradient(student, teacher, c),
    }
    right, total = student - teacher, {name: np.zeros(LABELS) for name in ways}
    squares = dict.fromkeys(ways, 0.0)
    for size in portions(runs, LABELS):
        counts = random.multinomial(DRAWS, teacher, size=size)
        for name, gradient in ways.items():
            away = gradient(counts) - right
            total[name] += away.sum(0)
            squares[name] += float((away**2).sum())
    found = {}
    for name in ways:
        mean, square = total[name] / runs, squares[name] / runs
        spread = max(square - float(mean @ mean), 0.0)
        # The mean of an unbiased gradient has the expected squared length spread / runs.
        bias = float(np.sqrt(mean @ mean / (spread / runs))) if spread > 1e-30 else 0.0
        found[name] = float(np.sqrt(square)), bias
    return found


def _judged(where: str, said: Mapping[str, tuple[float, float]]) -> list[Check]:
    checks = [
        compare(f"{where}: bias of {name} in standard errors", said[name][1], most, 0, "at_most")
        for name, most in UNBIASED.items()
    ]
    text = f"{where}: bias of naive in standard errors"
    checks.append(compare(text, said["naive"][1], BIASED, 0, "at_least"))
    least = min(said["counts"][0], said["k3"][0])
    text = f"{where}: error of the control variate / the better of its ends"
    # Ends and middle see the same draws, so a few per cent are more than chance.
    checks.append(compare(text, said["control variate"][0] / least, 1.0, 0.03, "at_most"))
    return checks


def _at_teacher(errors: Mapping[str, float]) -> list[Check]:
    """Judge a student that equals its teacher: numbers leave no noise, counts and heads do."""
    exact = ("k3", "control variate", "squared log-ratio", "top tail_bucket")
    checks = [compare(f"at the teacher: error of {name}", errors[name], 0, 1e-12) for name in exact]
    return [
        *checks,
        compare("at the teacher: error of counts", errors["counts"], 0.1, 0, "at_least"),
        compare("at the teacher: error of top raw", errors["top raw"], 0.1, 0, "at_least"),
    ]
