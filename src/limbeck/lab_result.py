"""What a case of the laboratory hands back: checks that can fail, and curves for figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from limbeck.checks import ArgumentError, check_choice


Number = float | int
Kind = Literal["absolute", "relative", "at_most", "at_least"]
KINDS: tuple[Kind, ...] = ("absolute", "relative", "at_most", "at_least")
WIDEST = 3.0  # how far a short run may widen a criterion


@dataclass(frozen=True)
class LabSettings:
    """How a case is run.

    Attributes:
        quick: Take fewer chains and shorter runs.
        seed: Of the batches that are drawn; problems and teachers are always the same ones.
        images: Rows x [n, pixels] and labels y [n] for the case on images, which the caller loads.
        sizes: Sizes of the case on images that differ from its defaults, by name.
    """

    quick: bool = False
    seed: int = 0
    images: tuple[Float[np.ndarray, "n pixels"], np.ndarray] | None = field(
        default=None, repr=False, compare=False
    )
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the seed."""
        if self.seed < 0:
            raise ArgumentError(
                f"LabSettings: expected `seed` >= 0; got {self.seed}. Count from 0."
            )


@dataclass(frozen=True)
class Check:
    """A number that was measured beside the one that was predicted.

    Attributes:
        name: What was compared.
        measured: As it came out.
        predicted: As the theory has it.
        tolerance: How far they may be apart, in the unit of both; a share of the predicted number
            where the kind is "relative".
        kind: "absolute" and "relative" compare the two, "at_most" and "at_least" take the predicted
            number for a bound, which is missed by more than the tolerance only.
        passed: Whether they agree; never with a number that is not finite.
    """

    name: str
    measured: float
    predicted: float
    tolerance: float
    kind: Kind
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; None for numbers that are not finite."""
        return {
            "name": self.name,
            "measured": _finite(self.measured),
            "predicted": _finite(self.predicted),
            "tolerance": self.tolerance,
            "kind": self.kind,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class LabCurve:
    """A panel of a case's figure: measured points, the predicted curve, baselines.

    Attributes:
        title: What is shown.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis, with its unit.
        grid: Values of the weight, or of what else is varied.
        measured: At each value of the grid.
        predicted: The same; None where the theory says nothing.
        others: Further measured or predicted lines by name.
        log: Whether both axes are logarithmic, so that a power law is a straight line; numbers
            that are not positive are left out of the drawing.
    """

    title: str
    x_label: str
    y_label: str
    grid: tuple[float, ...]
    measured: tuple[float, ...]
    predicted: tuple[float, ...] | None = None
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    log: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and strings, for JSON."""
        return {
            "title": self.title,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "grid": list(self.grid),
            "measured": [_finite(y) for y in self.measured],
            "predicted": None if self.predicted is None else [_finite(y) for y in self.predicted],
            "others": {name: [_finite(y) for y in line] for name, line in self.others.items()},
            "log": self.log,
        }


@dataclass(frozen=True)
class LabResult:
    """What a case found.

    Attributes:
        case: Its name.
        checks: One or more.
        curves: For its figure.
        settings: Seed, chains, steps and sizes.
        seconds: That it took.
        remarks: What was seen that no check judges.
    """

    case: str
    checks: tuple[Check, ...]
    curves: tuple[LabCurve, ...] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    seconds: float
    remarks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether there are checks and all of them passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and strings, for JSON."""
        return {
            "case": self.case,
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "curves": [curve.to_dict() for curve in self.curves],
            "settings": dict(self.settings),
            "seconds": self.seconds,
            "remarks": list(self.remarks),
        }


def compare(
    name: str, measured: Number, predicted: Number, tolerance: Number, kind: Kind = "absolute"
) -> Check:
    r"""Judge a measured number by a predicted one.

    .. math:: |m - p| \le t, \qquad |m - p| \le t |p|, \qquad m \le p + t, \qquad m \ge p - t

    for the kinds "absolute", "relative", "at_most" and "at_least".

    Args:
        name: What is compared.
        measured: m.
        predicted: p, in the unit of m.
        tolerance: t, at least 0.
        kind: One of the four.

    Returns:
        The check; it has not passed where a number is not finite.

    Raises:
        ArgumentError: If the tolerance is negative or not finite, or the kind unknown.

    Example:
        >>> compare("two", 2.1, 2.0, 0.1, "relative").passed, compare("two", 2.1, 2.0, 0.05).passed
        (True, False)

    Source:
        Limbeck's own.
    """
    check_choice("compare", "kind", kind, KINDS)
    if not 0 <= tolerance < math.inf:
        raise ArgumentError(
            f"compare: expected `tolerance` >= 0; got {tolerance}. Look for what made it."
        )
    m, p = float(measured), float(predicted)
    agree = {
        "absolute": abs(m - p) <= tolerance,
        "relative": abs(m - p) <= tolerance * abs(p),
        "at_most": m <= p + tolerance,
        "at_least": m >= p - tolerance,
    }[kind]
    passed = bool(agree) and math.isfinite(m) and math.isfinite(p)
    return Check(name, m, p, float(tolerance), kind, passed)


def widened(criterion: float, standard_error: float, *, quick: bool) -> float:
    r"""Return the tolerance of a check whose measurement has a sampling error.

    .. math:: \max\left(c, \min(4\, \mathrm{SE}, 3 c)\right) \text{ in a short run}, \qquad c
              \text{ in a full one}

    Chains are independent, so their spread gives the standard error. Four of them let a right law
    fail once in some 15 000 checks; three criteria keep a noisy run from passing anything.

    Args:
        criterion: c, of a full run.
        standard_error: Of the measured number, in the unit of the criterion.
        quick: Whether the run is a short one.

    Returns:
        The tolerance [unit of the criterion].

    Example:
        >>> widened(0.02, 0.01, quick=True), widened(0.02, 0.01, quick=False)
        (0.04, 0.02)

    Source:
        Derived, from the normal distribution of a mean over chains.
    """
    if not quick or not math.isfinite(standard_error):
        return criterion
    return max(criterion, min(4 * standard_error, WIDEST * criterion))


def standard_error(chains: Float[np.ndarray, " c"]) -> float:
    """Return the standard error of the mean over independent chains; 0 for a single one."""
    return float(np.std(chains, ddof=1) / math.sqrt(len(chains))) if len(chains) > 1 else 0.0


def line(values: Sequence[Number] | np.ndarray) -> tuple[float, ...]:
    """Return numbers as a curve keeps them."""
    return tuple(float(value) for value in values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
