"""The cases of the laboratory by name."""

from __future__ import annotations

from collections.abc import Callable

from limbeck.checks import check_choice
from limbeck.lab_result import LabResult, LabSettings
from limbeck.weighting.lab.compressed import compressed
from limbeck.weighting.lab.controllers import controllers
from limbeck.weighting.lab.coverage import coverage
from limbeck.weighting.lab.deep_linear import deep_linear
from limbeck.weighting.lab.identities import identities
from limbeck.weighting.lab.linear_case import least_squares
from limbeck.weighting.lab.logistic import logistic
from limbeck.weighting.lab.mlp import mlp
from limbeck.weighting.lab.mnist import mnist


Case = Callable[[LabSettings], LabResult]
CASES: dict[str, Case] = {
    "identities": identities,
    "least_squares": least_squares,
    "logistic": logistic,
    "deep_linear": deep_linear,
    "compressed": compressed,
    "coverage": coverage,
    "controllers": controllers,
    "mlp": mlp,
    "mnist": mnist,
}
NEEDS_IMAGES = frozenset({"mnist"})


def run_case(name: str, settings: LabSettings | None = None) -> LabResult:
    """Run one case: predict, measure and compare.

    Args:
        name: "identities", "least_squares", "logistic", "deep_linear", "compressed", "coverage",
            "controllers", "mlp", or "mnist", which needs images.
        settings: Whether the run is quick, its seed, images and sizes; None for a full run.

    Returns:
        Checks and curves; ``passed`` says whether the theory held.

    Raises:
        ArgumentError: If there is no such case, or a setting does not fit.
        DataError: If a case lacks its images.

    Example:
        >>> run_case("identities").passed
        True

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; laws derived.
    """
    check_choice("run_case", "name", name, CASES)
    return CASES[name](LabSettings() if settings is None else settings)
