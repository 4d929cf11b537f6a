"""Case ``exponents``: how the risk grows with the numbers of inputs and labels."""

from __future__ import annotations

import time

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line
from limbeck.limits.lab.running import RISK, generator, result, simulate, slope, soft_label_runs
from limbeck.limits.lab.slopes import INSTANCES


LABELS, INPUTS = (21, 41, 61, 81, 101), (20, 40, 60, 80, 100)
FIXED_INPUTS, FIXED_LABELS, N = 40, 41, 400_000
# Of A - 1 (of S - 1 for soft labels) and S, as the reference has them at this n.
EXPONENTS = {
    "hard_labels": (0.51, 0.50),
    "sampled_probabilities": (1.01, 1.00),
    "soft_labels": (0.03, 1.00),
}
WITHIN, EXACT = 0.02, 0.01
RUNS = {"full": 200, "quick": 40}


def exponents(settings: LabSettings) -> LabResult:
    r"""Check :math:`\sqrt{S A}`, :math:`S A` and S at n = 400 000.

    Args:
        settings: Quick takes fewer runs.

    Returns:
        Checks of the slopes of log risk on the logarithm of the effective sizes, measured and of
        the exact expectations, and risks against sizes.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorems 3 to 5; expectations derived.
    """
    began, checks, curves = time.perf_counter(), [], []
    runs = RUNS["quick" if settings.quick else "full"]
    for privilege, make, exact, _, _ in INSTANCES:
        for axis, (name, sizes) in enumerate((("labels", LABELS), ("inputs", INPUTS))):
            random = generator(settings, "exponents", privilege, name)
            means, expected = [], []
            for size in sizes:
                shape = (FIXED_INPUTS, size) if axis == 0 else (size, FIXED_LABELS)
                law = make(*shape, N)
                if privilege == "soft_labels":
                    found = soft_label_runs(law, N, 100 * runs, random)
                else:
                    found = simulate(law, N, runs, random, (privilege,))[privilege]
                means.append(float(found.mean()))
                expected.append(exact(law, N))
            less = axis == 0 or privilege == "soft_labels"
            effective = [size - less for size in sizes]
            theory, text = EXPONENTS[privilege][axis], f"{privilege}: exponent of {name}"
            checks.append(compare(text, slope(effective, means), theory, WITHIN))
            checks.append(compare(f"{text}, exact", slope(effective, expected), theory, EXACT))
            panel = f"{privilege}, n = {N}"
            shown = line(effective), line(means), line(expected)
            curves.append(LabCurve(panel, f"{name} (effective)", RISK, *shown, log=True))
    return result("exponents", settings, began, checks, curves, {"n": N, "runs": runs})
