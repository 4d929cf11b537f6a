"""The cases of the laboratory of limits by name."""

from __future__ import annotations

from collections.abc import Callable

from limbeck.checks import check_choice
from limbeck.lab_result import LabResult, LabSettings
from limbeck.limits.lab.censored import censored
from limbeck.limits.lab.certificates import certificates
from limbeck.limits.lab.constants import constants
from limbeck.limits.lab.continuous import continuous
from limbeck.limits.lab.dimension import dimension
from limbeck.limits.lab.exponents import exponents
from limbeck.limits.lab.gradients_case import gradients
from limbeck.limits.lab.log_linear_case import log_linear
from limbeck.limits.lab.meters_case import meters
from limbeck.limits.lab.networks import networks
from limbeck.limits.lab.noisy import noisy
from limbeck.limits.lab.planner import planner
from limbeck.limits.lab.plateau import plateau
from limbeck.limits.lab.slopes import slopes
from limbeck.limits.lab.zipf import zipf


Case = Callable[[LabSettings], LabResult]
CASES: dict[str, Case] = {
    "plateau": plateau,
    "slopes": slopes,
    "exponents": exponents,
    "constants": constants,
    "certificates": certificates,
    "zipf": zipf,
    "log_linear": log_linear,
    "gradients": gradients,
    "noisy": noisy,
    "censored": censored,
    "planner": planner,
    "continuous": continuous,
    "networks": networks,
    "dimension": dimension,
    "meters": meters,
}


def run_case(name: str, settings: LabSettings | None = None) -> LabResult:
    """Run one case: predict, simulate and compare.

    Args:
        name: "plateau", "slopes", "exponents", "constants", "certificates", "zipf", "log_linear",
            "gradients", "noisy", "censored", "planner", "continuous", "networks", "dimension" or
            "meters".
        settings: Whether the run is quick, and its seed; None for a full run.

    Returns:
        Checks and curves; ``passed`` says whether the theory held.

    Raises:
        ArgumentError: If there is no such case.

    Example:
        >>> run_case("constants", LabSettings(quick=True)).passed
        True

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838; expectations derived.
    """
    check_choice("run_case", "name", name, CASES)
    return CASES[name](LabSettings() if settings is None else settings)
