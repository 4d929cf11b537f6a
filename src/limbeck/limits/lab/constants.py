"""Case ``constants``: the risks themselves, against exact expectations and sharp formulas."""

from __future__ import annotations

import time

from limbeck.lab_result import LabResult, LabSettings, compare
from limbeck.limits.lab.running import generator, near, result, simulate, soft_label_runs
from limbeck.limits.tables.exact_risk import expected_missing_mass, hard_label_risk, soft_label_risk
from limbeck.limits.tables.instances import (
    classic_instance,
    hard_label_instance,
    sampled_probability_instance,
    sampled_probability_instance_risk,
    soft_label_instance,
)
from limbeck.limits.tables.sizes import hard_label_asymptote


FULL, QUICK = ((20, 21, 800), (100, 101, 100)), ((20, 21, 200),)
RATIO, ASYMPTOTE = 0.01, 0.005
AT = 100  # n in S A
EXACT = ((20, 20, 200, 0.436396946866), (100, 25, 600, 0.515036332842))


def constants(settings: LabSettings) -> LabResult:
    r"""Check the constants at n = 100 S A on the hardest law of each privilege.

    .. math:: \sqrt{D_1 / (2 \pi n)}, \qquad
              q \sum_u \mathrm{Bin}(h, (1 - \tfrac{1}{n + 1})^n)(u) \frac{u h}{h + u}, \qquad
              \sum_s \rho (1 - \rho)^n \mathrm{TV}(U, \pi^*)

    Args:
        settings: Quick takes one of the two sizes and fewer runs.

    Returns:
        Checks alone.

    Source:
        Derived; instances of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    began, checks = time.perf_counter(), []
    for inputs, labels, runs in QUICK if settings.quick else FULL:
        n, name = AT * inputs * labels, f"{inputs} inputs, {labels} labels"
        random = generator(settings, "constants", inputs, labels)
        law = hard_label_instance(inputs, labels, n)
        found = simulate(law, n, runs, random, ("hard_labels",))["hard_labels"]
        exact = hard_label_risk(law.input_law, law.rows, n)
        sharp = hard_label_asymptote(law.input_law, law.rows, n)
        checks.append(near(f"{name}: hard labels", found, exact))
        checks.append(compare(f"{name}: hard labels / sharp", found.mean() / sharp, 1.0, RATIO))
        checks.append(compare(f"{name}: exact / sharp", exact / sharp, 1.0, ASYMPTOTE))
        law = sampled_probability_instance(inputs, labels, n)
        key = "sampled_probabilities"
        found = simulate(law, n, runs, random, (key,))[key]
        closed = sampled_probability_instance_risk(inputs, labels, n)
        missing = expected_missing_mass(law.pairs, n)
        checks.append(near(f"{name}: sampled probabilities", found, closed))
        text = f"{name}: sampled probabilities, missing pairs"
        checks.append(compare(text, closed, missing, 0.0, "at_most"))
        law = soft_label_instance(inputs, labels, n)
        found = soft_label_runs(law, n, 100 * runs, random)
        checks.append(
            near(f"{name}: soft labels", found, soft_label_risk(law.input_law, law.rows, n))
        )
    for inputs, labels, n, value in EXACT:
        law = classic_instance(inputs, labels)
        exact = hard_label_risk(law.input_law, law.rows, n)
        text = f"{inputs} inputs, {labels} labels, n = {n}: exact hard labels"
        checks.append(compare(text, exact, value, 1e-12))
    return result("constants", settings, began, checks, (), {"quick": settings.quick})
