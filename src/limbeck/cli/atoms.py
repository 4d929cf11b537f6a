"""A measurement as tables: atoms with intervals, the networks, cheap figures and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from limbeck.cli import show
from limbeck.estimates import Estimate
from limbeck.training.measurement import Entry, Measurement
from limbeck.training.verdict import reason_of


_NAMES = ("teacher", "student", "teacher_layer", "student_layer")
_ROWS = {
    "unique_teacher": "distillable (teacher alone)",
    "redundant": "distilled (both)",
    "unique_student": "student alone",
    "synergistic": "synergistic (only together)",
    "mutual_teacher": "teacher, I(Y;T)",
    "mutual_student": "student, I(Y;S)",
    "mutual_joint": "both, I(Y;T,S)",
}
_SHORT = {
    "unique_teacher": "distillable",
    "redundant": "distilled",
    "unique_student": "student alone",
}
_RIVALS = {
    "cross_entropy_difference": "cross-entropy, student less teacher, bits",
    "accuracy_difference": "accuracy, teacher less student",
    "agreement": "share of rows where both name one class",
    "cka": "linear CKA",
    "teacher_r2": "held-out R^2 of the teacher",
    "student_r2": "held-out R^2 of the student",
}


def print_measurement(measurement: Measurement, where: str) -> None:
    """Print warnings, the decomposition of every pair, how good the networks are, the verdict."""
    entries = measurement.entries
    show.warnings([*measurement.warnings, *_warnings(entries)])
    used = measurement.data["used"]
    if len(entries) == 1:
        _print_one(entries[0], f"{where}, n = {used:,}")
    else:
        _print_many(measurement, f"{where}, n = {used:,}; bits with 95 % intervals")
    _print_networks(measurement)
    if len(entries) == 1:
        _print_beside(entries[0])
        verdict, gap = entries[0].verdict, entries[0].gap
        if gap is not None:
            ends = f"{gap.value:+.2f} [{gap.lower:+.2f}, {gap.upper:+.2f}] bits"
            show.say(f"cross-entropy gap of their own scores: {ends}")
        show.say(f"{verdict}: {reason_of(entries[0].estimate, gap)}")


def _warnings(entries: Sequence[Entry]) -> list[str]:
    """Return the entries' warnings, each once, with the pairs that it is about unless it is all."""
    about: dict[str, list[str]] = {}
    varied = _varied(entries)
    for entry in entries:
        for text in entry.estimate.warnings:
            about.setdefault(text, []).append(_pair(entry, varied))
    return [
        text if len(pairs) == len(entries) else f"{', '.join(pairs)}: {text}"
        for text, pairs in about.items()
    ]


def _varied(entries: Sequence[Entry]) -> list[str]:
    """Return which labels and layers are not the same for all."""
    return [name for name in _NAMES if len({getattr(entry, name) for entry in entries}) > 1]


def _pair(entry: Entry, varied: Sequence[str]) -> str:
    return " / ".join(getattr(entry, name) for name in varied)


def _print_one(entry: Entry, where: str) -> None:
    estimate = entry.estimate
    null = estimate.null
    rows = [
        (text, *_cells(getattr(estimate, name)), _number(null.get(name)))
        for name, text in _ROWS.items()
    ]
    entropy = estimate.target_entropy
    if entropy is not None:
        rows.append(("targets, H(Y)", f"{entropy:.3f}", "", "", ""))
    columns = ("", "bits", "lower", "upper", "shuffled")
    title = f"{entry.title}\n{where}; 95 % intervals, and what 95 % of shuffled targets stay below"
    show.table(title, columns, rows)


def _print_many(measurement: Measurement, where: str) -> None:
    entries = measurement.entries
    varied = _varied(entries)
    same = {name: getattr(entries[0], name) for name in _NAMES if name not in varied}
    ranked = varied and "teacher" in varied and len({e.student for e in entries}) == 1
    single = len({entry.teacher for entry in entries}) == len(entries)
    shown = measurement.ranking() if ranked and single else entries
    rows = [
        (
            escape(_pair(entry, varied)),
            *(_on_two_lines(getattr(entry.estimate, name)) for name in _SHORT),
            entry.verdict,
        )
        for entry in shown
    ]
    fixed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in same.items())
    heading = " / ".join(name.replace("_", " ") for name in varied)
    show.table(f"{fixed}\n{where}", (heading, *_SHORT.values(), "verdict"), rows)


def _print_networks(measurement: Measurement) -> None:
    rows = []
    for side, found in measurement.accuracy.items():
        for label, accuracy in found.items():
            bits = measurement.cross_entropy[side][label]
            rows.append((escape(f"{side} {label}"), _with_interval(accuracy), _with_interval(bits)))
    if rows:
        show.table(
            "the networks' own scores, with 95 % intervals",
            ("", "accuracy", "cross-entropy, bits"),
            rows,
        )


def _print_beside(entry: Entry) -> None:
    estimate = entry.estimate
    beside: dict[str, Any] = {
        _RIVALS.get(name, name): f"{value:.4f}" for name, value in estimate.rivals.items()
    }
    beside |= _by_side("probe shortfall, {}, bits", estimate.probe_shortfall)
    beside |= _by_side("share of information kept by symbols, {}", estimate.kept)
    show.pairs("cheap figures, of the probes, and by how much these fall short", beside)


def _by_side(text: str, found: Mapping[str, float]) -> dict[str, str]:
    return {text.format(side): f"{value:.4f}" for side, value in found.items()}


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    value = "unresolved" if estimate.status == "unresolved" else f"{estimate.value:.3f}"
    return value, f"{estimate.lower:.3f}", f"{estimate.upper:.3f}"


def _with_interval(estimate: Estimate) -> str:
    return str(estimate).removesuffix(estimate.unit).strip()


def _on_two_lines(estimate: Estimate) -> str:
    value, lower, upper = _cells(estimate)
    return f"{value}\n[{lower}, {upper}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
