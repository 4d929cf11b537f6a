"""Queries that a target error needs by a pilot: measured errors, or what its records say."""

from __future__ import annotations

import math
from typing import Literal

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.bounds.arguments import Number, check_error
from limbeck.limits.planning.needs import Need, Needs
from limbeck.limits.planning.pilot_curve import EXPONENTS, CurveFit, Needed, fit_curve
from limbeck.limits.planning.pilot_errors import Measured
from limbeck.limits.planning.pilot_records import LawPilot
from limbeck.teacher_record import PRIVILEGES


Exponent = Literal["theory", "free"] | float | int
TEXTS = (
    "texts hardly ever repeat, so tails over whole inputs say little: measure errors at 3 or 4 "
    "sizes."
)
THEORY = {"hard_labels": 0.5, "sampled_probabilities": 1.0, "soft_labels": 1.0}


def check_exponent(where: str, exponent: object) -> None:
    """Raise ArgumentError unless the exponent is "theory", "free" or a number in range."""
    low, high = EXPONENTS
    if exponent in ("theory", "free"):
        return
    if not isinstance(exponent, (int, float)) or not low <= exponent <= high:
        raise ArgumentError(
            f'{where}: expected `exponent` to be "theory", "free" or a number in [{low}, {high}]; '
            f"got {exponent!r}. The theory has 0.5 for hard labels and 1 otherwise."
        )


def curve_needs(
    measured: Measured,
    *,
    error: Number,
    confidence: Number | None = None,
    exponent: Exponent | str = "theory",
) -> Needs:
    r"""Return what each privilege needs by a fit of measured errors.

    .. math:: R(n) = R_0 + C n^{-\beta}

    "theory" takes 1/2 for hard labels and 1 otherwise, as over finite domains and for students that
    can equal their teacher, and gives it up where a free fit excludes it.

    Args:
        measured: Sizes and errors by privilege, at least 3 sizes each.
        error: Target total variation, in (0, 1).
        confidence: Of the intervals; 0.95 where it is None.
        exponent: "theory", "free", or beta for all.

    Returns:
        A need a privilege, to plan with only, with its interval; "unresolved" or "not reachable"
        without a number where the measurements do not support one.

    Raises:
        ArgumentError: If an option is outside of its range.
        DataError: If the measurements are too few, or out of range.

    Example:
        >>> import numpy as np
        >>> sizes = np.array([100.0, 200.0, 400.0, 800.0])
        >>> need = curve_needs({"hard_labels": (sizes, sizes**-0.5)}, error=0.01)["hard_labels"]
        >>> round(need.planning), need.status
        (10000, 'resolved')

    Source:
        Derived; see ``pilot_curve``.
    """
    check_error("curve_needs", error)
    check_exponent("curve_needs", exponent)
    level = 0.95 if confidence is None else confidence
    nothing = Need(None, "not measured", "measured fit", status="not measured")
    found = dict.fromkeys(PRIVILEGES, nothing)
    for privilege, (sizes, errors) in measured.items():
        notes: tuple[str, ...] = ()
        try:
            if exponent == "theory":
                fit, notes = _by_theory(privilege, sizes, errors, level)
            else:
                given = None if exponent == "free" else float(exponent)
                fit = fit_curve(sizes, errors, exponent=given, confidence=level)
        except DataError as problem:
            raise DataError(f"{privilege}: {problem}") from problem
        found[privilege] = _need(fit.needed(error), _described(fit), notes)
    return {privilege: found[privilege] for privilege in PRIVILEGES}


def law_pilot_needs(pilot: LawPilot, *, error: Number, inputs: int | None = None) -> Needs:
    r"""Return what each privilege needs by what a pilot's records say of the teacher's law.

    Soft labels need the size at which the missing mass of inputs is down to the error, sampled
    probabilities that of pairs, hard labels :math:`D_1 / (2 \pi \varepsilon^2)`. Where too many
    inputs are unseen for D1 and S is known, :math:`D_1 \le S\, E (\sum_a \sqrt{\pi (1 - \pi)})^2`.

    Args:
        pilot: From :func:`~limbeck.limits.planning.pilot_records.fit_law`.
        error: Target total variation, in (0, 1).
        inputs: S, where it is known.

    Returns:
        A need a privilege, to plan with only.

    Raises:
        ArgumentError: If the error is outside of its range.

    Example:
        >>> import numpy as np
        >>> from limbeck.limits.planning.pilot_records import fit_law
        >>> from limbeck.teacher_record import TeacherRecord
        >>> row = np.log([0.5, 0.5])
        >>> records = [TeacherRecord(input=i % 3, label=i % 2, row=row) for i in range(300)]
        >>> need = law_pilot_needs(fit_law(records), error=0.1)["hard_labels"]
        >>> round(need.planning, 1)  # D1 = (3 sqrt(1/3))^2 = 3
        47.7

    Source:
        Derived.
    """
    check_error("law_pilot_needs", error)
    extra = (*pilot.notes, *((TEXTS,) if pilot.language_model else ()))
    about = f"measured fit: tail of {pilot.n:,} pilot records, {{:,}} different {{}}"
    return {
        "hard_labels": _by_size(pilot, error, inputs, extra),
        "sampled_probabilities": _need(
            pilot.pairs.needed(error), about.format(pilot.pairs.distinct, "pairs"), extra
        ),
        "soft_labels": _need(
            pilot.inputs.needed(error), about.format(pilot.inputs.distinct, "inputs"), extra
        ),
    }


def _by_size(pilot: LawPilot, error: Number, inputs: int | None, extra: tuple[str, ...]) -> Need:
    per_size = 1 / (2 * math.pi * float(error) ** 2)
    if pilot.size.status == "resolved":
        low, high = pilot.size.lower * per_size, pilot.size.upper * per_size
        return Need(
            pilot.size.value * per_size,
            f"measured fit: D1 = {pilot.size.value:.4g} of {pilot.n:,} pilot records",
            "measured fit",
            interval=(low, high),
            notes=extra,
        )
    if inputs is not None and pilot.square_spread is not None:
        most = inputs * pilot.square_spread * per_size
        note = f"too many inputs are unseen for D1: an upper bound with {inputs:,} inputs instead."
        return Need(
            most,
            f"measured fit: the rows' spread of {pilot.n:,} pilot records, {inputs:,} inputs",
            "measured fit",
            interval=(0.0, most),
            notes=(note, *extra),
        )
    why = (
        "labels alone do not tell how random the rows are: record their probabilities."
        if pilot.square_spread is None
        else f"the pilot has not seen {pilot.inputs.now} of the inputs, or has too few records: "
        "enlarge it, or name the number of inputs."
    )
    assumption = f"measured fit: {pilot.n:,} pilot records"
    return Need(None, assumption, "measured fit", status="unresolved", notes=(why, *extra))


def _by_theory(
    privilege: str, sizes: object, errors: object, level: Number
) -> tuple[CurveFit, tuple[str, ...]]:
    """Return the fit with the theory's exponent, or a free one where that excludes it."""
    given = THEORY[privilege]
    fit = fit_curve(sizes, errors, exponent=given, confidence=level)  # type: ignore[arg-type]
    if fit.n <= 3:
        note = f"the exponent {given:g} is taken from theory: too few measurements to check it."
        return fit, (note,)
    free = fit_curve(sizes, errors, confidence=level)  # type: ignore[arg-type]
    if free.exponent.lower <= given <= free.exponent.upper:
        note = (
            f"the exponent {given:g} is taken from theory; alone, the measurements say "
            f"[{free.exponent.lower:.3g}, {free.exponent.upper:.3g}]."
        )
        return fit, (note,)
    note = (
        f"the measurements exclude the theory's exponent {given:g}: they say "
        f"[{free.exponent.lower:.3g}, {free.exponent.upper:.3g}], which is used."
    )
    return free, (note,)


def _described(fit: CurveFit) -> str:
    kind = "given" if fit.exponent.status == "exact" else "fitted"
    return (
        f"measured fit of {fit.n} pilot errors: floor {fit.floor.value:.3g} "
        f"[{fit.floor.lower:.3g}, {fit.floor.upper:.3g}], exponent {fit.exponent.value:.3g} "
        f"({kind}), up to {fit.largest:,.0f} queries"
    )


def _need(needed: Needed, assumption: str, notes: tuple[str, ...]) -> Need:
    queries = needed.queries
    resolved = needed.status == "resolved"
    return Need(
        planning=queries.value if resolved else None,
        assumption=assumption,
        basis="measured fit",
        interval=(queries.lower, queries.upper) if needed.status != "not reachable" else None,
        status=needed.status,
        notes=notes if resolved else (needed.reason, *notes),
    )
