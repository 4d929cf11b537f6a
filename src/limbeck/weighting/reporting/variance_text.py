"""A variance report in words: weights that are not resolved are told by their interval alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.estimates import Estimate
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.products import MOMENTS
from limbeck.weighting.reporting.diagnosis import rows_needed
from limbeck.weighting.theory.fieller import Z, ratio_of


if TYPE_CHECKING:
    from limbeck.weighting.reporting.advice import WeightAdvice
    from limbeck.weighting.reporting.outlook import Outlook
    from limbeck.weighting.reporting.shares import Share
    from limbeck.weighting.reporting.variance_report import VarianceReport

GRID = (
    "lambda", "noise left", "bias, 1 step", "bias, long run", "plateau, nats", "noise scale, rows",
    "interpolated, nats", "cosine",
)  # fmt: skip
WEIGHTS = ("weight", "equivalent batch, rows", "lambda")
SHARES = ("rho", "lambda_cv", "tr_gg", "tr_hh", "hbar2")
FAR = 1.0  # |gbar|^2 B / tr_gg above this: the plateau is not near
_LAYERS, _CLASSES = 4, 3  # so many in the text; all are in the dictionary


def moment_rows(report: VarianceReport) -> list[tuple[str, ...]]:
    """Return name, training rows and held-out rows of every moment."""
    sides = (report.moments, report.held_out)
    rows: list[tuple[str, ...]] = [
        (name, *(_moment(one, name) for one in sides)) for name in MOMENTS
    ]
    rows.append(("rho", *("" if one is None else f"{one.rho:.3f}" for one in sides)))
    rows.append(("B_T, rows", *(_scale(one) for one in sides)))
    curvature = report.moments.curvature
    if curvature is not None:
        told = f"{curvature.D_T:.4g} ± {curvature.standard_error:.2g}"
        rows.append(("D_T, nats", told, ""))
    rows.append(("|gbar|^2 B / tr_gg", f"{report.distance:.3g}", ""))
    return rows


def weight_rows(report: VarianceReport) -> list[tuple[str, ...]]:
    """Return what for, the batch that would do the same, and the weight or what is known of it."""
    once, lasting = report.outlooks.get("one_step"), report.outlooks.get("long_run")
    steps, curved = report.advice.settings["horizon"], report.advice.loss is not None
    again = _batch(lasting, "batch_long_run")
    own = report.advised_name == "horizon"
    name = "long run, one curvature" if steps is None else f"{steps} steps, one curvature"
    rows: list[tuple[str, ...]] = [
        ("one step", _batch(once, "batch_one_step"), _told(report, "one_step")),
        (name, again if own else "", _told(report, "horizon")),
    ]
    if curved:
        rows.append(("long run, loss", "" if own else again, _told(report, "loss")))
    rows.append(("unbiased mode, lambda_cv", "", _with_interval(report.unbiased)))
    if report.weight is not None:
        used = report.outlooks["in_use"]
        seen = report.moments.resolved("hbar2")
        lasts = _batch(used, "batch_long_run") if seen else "unresolved"
        cell = f"{_batch(used, 'batch_one_step')}; long run {lasts}"
        rows.append(("in use", cell, f"{report.weight:g}"))
    return rows


def grid_rows(report: VarianceReport) -> list[tuple[str, ...]]:
    """Return a row for each weight of the grid, in the columns of GRID."""
    rows = []
    for at, one in enumerate(report.grid):
        numbers = [
            one.noise_left, one.bias_one_step, one.bias_long_run, one.plateau, one.noise_scale,
            None if report.interpolation is None else report.interpolation[at],
            None if report.cosine is None else report.cosine[at],
        ]  # fmt: skip
        mark = "*" if one.weight == report.weight else ""
        rows.append((f"{one.weight:.3g}{mark}", *(_number(number) for number in numbers)))
    return rows


def share_row(name: str, share: Share) -> tuple[str, ...]:
    """Return a layer's or a class's row: its name, then the columns of SHARES."""
    shares = (share.share_gg, share.share_hh, share.share_hbar2)
    percent = ("-" if one is None else f"{100 * one:.1f} %" for one in shares)
    return (name, f"{share.rho:.3f}", _with_interval(share.unbiased), *percent)


def verdict_of(report: VarianceReport) -> str:
    """Return in one sentence whether, and how much, distillation lowers the training loss."""
    told, at = report.advised, report.outlooks.get("long_run")
    if report.cannot_lower_training_loss:
        why = (
            "the advised weight is 0"
            if told.upper <= 0 or report.moments.tr_gh <= 0
            else f"no gain beyond the weight's interval, [0, {told.upper:.3f}]"
        )
        return (
            f"distillation cannot lower the training loss here: {why}. The held-out loss is "
            "another matter."
        )
    if at is None:
        return f"the weight of the long run is {_told(report, report.advised_name)}."
    sure = f"the advised weight is {_with_interval(told)}"
    if at.plateau is None or report.advice.settings["horizon"] is not None:
        return f"{sure}; {_again(at)}."
    return (
        f"{sure}: the training loss levels off {at.plateau:.3g} instead of "
        f"{report.advice.floor:.3g} nats above its least value; {_again(at)}."
    )


def notes_on(
    moments: GradientMoments, held_out: GradientMoments | None, advice: WeightAdvice
) -> tuple[str, ...]:
    """Return what a reader must know before believing the numbers.

    Args:
        moments: On training rows.
        held_out: On other rows, or None.
        advice: For the training rows.
    """
    notes = []
    distance = moments.gbar2 * advice.settings["batch_size"] / moments.tr_gg
    if distance > FAR:
        notes.append(
            f"the student is far from its plateau, as one is that was just initialised: "
            f"|gbar|^2 B / tr_gg is {distance:.3g}, above 1. Train on, then weigh again."
        )
    if not moments.resolved("hbar2"):
        notes.append(
            "the teacher's bias is less than two standard errors from zero: bias and plateau in "
            "the table are rough."
        )
    if moments.settings.get("training"):
        notes.append("in training mode; interpolated weights and cosines are in eval mode.")
    if held_out is not None and held_out.resolved("hbar2"):
        seen = max(moments.hbar2, 2 * moments.standard_errors["hbar2"])
        if held_out.hbar2 > seen:
            notes.append(
                "the teacher's bias is larger on held-out rows: the weights here are about the "
                "training loss alone."
            )
    return tuple(notes)


def lines_of(report: VarianceReport) -> list[str]:
    """Return the report as lines of plain text."""
    moments, settings = report.moments, report.advice.settings
    proxy = ", a proxy: one layer" if moments.settings.get("proxy") else ""
    title = (
        f"gradient variance: {moments.n} of {report.rows_in_data} rows by "
        f"{moments.settings['method']}{proxy}; loss {moments.settings['loss']}, learning rate "
        f"{settings['learning_rate']:g}, momentum {settings['momentum']:g}, batch "
        f"{settings['batch_size']}"
    )
    lines = [
        title,
        *_aligned(("", "training rows", "held-out rows"), moment_rows(report)),
        *_aligned(WEIGHTS, weight_rows(report)),
        *_aligned(GRID, grid_rows(report), skip_empty=True),
    ]
    shown = sorted(report.layers.items(), key=lambda item: -item[1].tr_gg)[:_LAYERS]
    lines += _aligned(("layer", *SHARES), [share_row(*item) for item in shown])
    if report.classes is not None:
        first = sorted(report.classes.items(), key=lambda item: -(item[1].share_gg or 0))[:_CLASSES]
        told = ", ".join(f"{name} {100 * (one.share_gg or 0):.0f} %" for name, one in first)
        lines.append(f"classes with most of tr_gg: {told}")
    lines.append(f"diagnosis: {report.advice.diagnosis}. {report.advice.action}")
    return [*lines, *(f"note: {text}" for text in report.notes), report.verdict]


def rows_more(report: VarianceReport, name: str) -> float:
    """Return how many more rows would resolve a weight, at least; infinite where none would.

    Args:
        report: Of n rows.
        name: "one_step", "horizon" or "loss".

    Returns:
        Rows beside those measured. Standard errors fall with the root of the rows; where that
        promises a resolved weight already, as many again.
    """
    moments, advice = report.moments, report.advice
    found = np.array([getattr(moments, one) for one in MOMENTS])
    batch = advice.settings["batch_size"]
    growth = 1.0 if name == "one_step" else 1.0 + (advice.kappa or 0.0)
    ratio = ratio_of(found, moments.covariance, batch * growth)
    if ratio.bottom <= 0 or moments.tr_hh <= 0:
        return math.inf
    needed = moments.n * Z**2 * ratio.var_bottom / ratio.bottom**2
    if name != "one_step":
        needed = max(needed, rows_needed(moments)[0])
    return float(math.ceil(needed) - moments.n if needed > moments.n else moments.n)


def _told(report: VarianceReport, name: str) -> str:
    """Return a weight with its interval, or the interval and what would resolve it."""
    estimate: Estimate = getattr(report.advice, name)
    if estimate.status != "unresolved" or estimate.upper <= 0:
        return _with_interval(estimate)
    if name == "horizon" and report.advice.kappa is None:
        return f"{_with_interval(estimate)}; measure the curvature, or name a horizon"
    if estimate.settings.get("solver") == "not converged":
        return f"{_with_interval(estimate)}; the solver of D_T did not converge"
    more = rows_more(report, name)
    if math.isinf(more):
        return f"{_with_interval(estimate)}; no number of rows promises to resolve it"
    left = report.rows_in_data - report.moments.n
    beyond = f" (the data hold {left:,} more)" if more > left else ""
    return f"{_with_interval(estimate)}; at least {more:,.0f} more rows would resolve it{beyond}"


def _with_interval(estimate: Estimate) -> str:
    interval = f"[{estimate.lower:.3f}, {estimate.upper:.3f}]"
    value = "unresolved" if estimate.status == "unresolved" else f"{estimate.value:.3f}"
    return f"{value} {interval}"


def _again(at: Outlook) -> str:
    batch = _batch(at, "batch_long_run")
    return f"a batch of {batch} rows without distillation does the same"


def _batch(at: Outlook | None, name: str) -> str:
    if at is None:
        return ""
    value = getattr(at, name)
    return "unbounded" if value is None else f"{value:.4g}"


def _moment(moments: GradientMoments | None, name: str) -> str:
    if moments is None:
        return ""
    return f"{getattr(moments, name):.4g} ± {moments.standard_errors[name]:.2g}"


def _scale(moments: GradientMoments | None) -> str:
    if moments is None:
        return ""
    return f"{moments.B_T:.4g}" if moments.resolved("hbar2") else "unresolved"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _aligned(
    head: tuple[str, ...], rows: list[tuple[str, ...]], *, skip_empty: bool = False
) -> list[str]:
    """Return rows under their heads, in columns; those without any number are left out."""
    kept = [
        at
        for at in range(len(head))
        if at == 0 or not skip_empty or any(row[at] not in ("", "-") for row in rows)
    ]
    table = [[row[at] for at in kept] for row in (head, *rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(kept))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is not finite becomes None.

    Example:
        >>> plain({"scale": (1.0, float("inf")), 3: "x"})
        {'scale': [1.0, None], '3': 'x'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
