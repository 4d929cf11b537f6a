"""Case ``planner``: planned queries are enough on the hardest laws, and impossible ones are not."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from limbeck.lab_result import Check, LabResult, LabSettings, compare
from limbeck.limits.lab.running import generator, result, simulate
from limbeck.limits.planning.plan import plan
from limbeck.limits.tables.finite_law import FiniteLaw
from limbeck.limits.tables.instances import (
    hard_label_instance,
    sampled_probability_instance,
    soft_label_instance,
)
from limbeck.teacher_record import Privilege


INPUTS, LABELS, CONFIDENCE = 30, 31, 0.95
LAWS: dict[Privilege, Callable[[int, int, int], FiniteLaw]] = {
    "hard_labels": hard_label_instance,
    "sampled_probabilities": sampled_probability_instance,
    # Rows of rare labels do not exist at so few queries.
    "soft_labels": functools.partial(soft_label_instance, rows="dirac"),
}
# Of the reference: enough in the mean and with 95 % by the paper's constants, impossible below.
PLANNED: dict[tuple[Privilege, float], tuple[int, int]] = {
    ("hard_labels", 0.1): (42_954, 133),
    ("hard_labels", 0.03): (477_259, 1_484),
    ("sampled_probabilities", 0.1): (3_422, 826),
    ("sampled_probabilities", 0.03): (11_405, 2_758),
    ("soft_labels", 0.1): (111, 52),
    ("soft_labels", 0.03): (368, 176),
}
RUNS = {"full": 400, "quick": 60}
EVEN = 1.0  # queries by which a number of the reference may differ: it is rounded


def planner(settings: LabSettings) -> LabResult:
    r"""Check plans on the law that is hardest for each privilege.

    At the queries that are enough in the mean the mean risk is at most the error; at those that
    are enough with 95 % at most 5 % of the runs are above it; below the impossible ones the
    learner of the upper bound is above the error on average, as every one must be on some law.

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks alone.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838; plans derived.
    """
    began, checks = time.perf_counter(), []
    runs = RUNS["quick" if settings.quick else "full"]
    for (privilege, error), numbers in PLANNED.items():
        checks += _checked(settings, privilege, error, numbers, runs)
    sizes = {"inputs": INPUTS, "labels": LABELS, "runs": runs}
    return result("planner", settings, began, checks, (), sizes)


def _checked(
    settings: LabSettings,
    privilege: Privilege,
    error: float,
    numbers: tuple[int, int],
    runs: int,
) -> list[Check]:
    """Judge one privilege at one error."""
    name = f"{privilege}, error {error:g}"
    made, sure = (
        plan(inputs=INPUTS, labels=LABELS, error=error, confidence=one)
        for one in (None, CONFIDENCE)
    )
    mean, probable = getattr(made, privilege), getattr(sure, privilege)
    published = mean.sufficient if mean.published is None else mean.published
    random = generator(settings, "planner", privilege, str(error))

    def risks(n: int) -> np.ndarray:
        law = LAWS[privilege](INPUTS, LABELS, n)
        return simulate(law, n, runs, random, (privilege,))[privilege]

    above = float((risks(probable.sufficient) > error).mean())
    few = mean.impossible_below
    return [
        compare(f"{name}: enough by the paper", published, numbers[0], EVEN),
        compare(f"{name}: impossible below", few, numbers[1], EVEN),
        compare(f"{name}: enough / by the paper", mean.sufficient / published, 1.0, 0, "at_most"),
        compare(
            f"{name}: mean risk at {mean.sufficient}",
            float(risks(mean.sufficient).mean()), error, 0.0, "at_most",
        ),
        compare(
            f"{name}: runs above the error at {probable.sufficient}",
            above, 1 - CONFIDENCE, 0.0, "at_most",
        ),
        compare(
            f"{name}: mean risk at {few}, too few", float(risks(few).mean()), error, 0.0, "at_least"
        ),
    ]  # fmt: skip
