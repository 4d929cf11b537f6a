"""What one answer of a teacher is: an input, the label drawn, and what was said about its law."""

from __future__ import annotations

import functools
import itertools
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from limbeck.checks import DataError


Input = int | str | tuple[int, ...]
Privilege = Literal["hard_labels", "sampled_probabilities", "soft_labels"]
PRIVILEGES: tuple[Privilege, ...] = ("hard_labels", "sampled_probabilities", "soft_labels")
NUMBER = (int, float, np.integer, np.floating)
LARGEST = 2**63 - 1  # of an index, so that arrays can hold it
NEEDED = ("input", "label", "top", "count", "temperature")  # never None
SLACK = 1e-3  # how far above 0 a log-probability may lie: servers round


class RecordError(DataError):
    """A record that cannot be used; ``kind`` is the fault's short name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True, eq=False)
class TeacherRecord:
    """One draw from a teacher, or several equal ones.

    What the teacher said of the law it drew from decides the record's privilege: the whole row, the
    drawn label's log-probability, or nothing. A log-probability that the row or the top list holds
    is filled in.

    Attributes:
        input: Index into the data, a string, or token ids.
        label: The label that was drawn, from 0.
        log_probability: Its log-probability [nats], at most 0; None where the teacher gave none.
        row: Log-probabilities of all labels [nats], float64; -inf for labels that never come.
        top: The largest (label, log-probability), the largest first.
        count: How many equal draws this stands for, at least 1.
        temperature: Of the sampler, at least 0; at 0 it always takes the most likely label.
        sequence: Records of one sequence are dependent.
        position: Place in its sequence, from 0.
        teacher: Name or fingerprint.
        line: Line of the file that it was read from, from 1.
        weight: Weight that training gives the record, where the set names one; at least 0.

    Raises:
        RecordError: If a value has the wrong type or lies outside of its range.

    Example:
        >>> record = TeacherRecord(input=7, label=1, row=np.log([0.75, 0.25]))
        >>> record.privilege, round(record.log_probability, 4)
        ('soft_labels', -1.3863)
    """

    input: Input
    label: int
    log_probability: float | None = None
    row: np.ndarray | None = None
    top: tuple[tuple[int, float], ...] = ()
    count: int = 1
    temperature: float = 1.0
    sequence: str | int | None = None
    position: int | None = None
    teacher: str | None = None
    line: int | None = None
    weight: float | None = None

    def __post_init__(self) -> None:
        """Check every field, and turn numpy's numbers into Python's."""
        for name in _CHECKS:
            value = getattr(self, name)
            if value is not None or name in NEEDED:
                object.__setattr__(self, name, _CHECKS[name](value))
        if self.row is not None and self.label >= len(self.row):
            raise RecordError(
                "label_out_of_range",
                f"expected `label` below {len(self.row)}, the length of its row; got {self.label}.",
            )
        if self.log_probability == -math.inf:
            raise zero_probability("zero_probability")
        if self.log_probability is None:
            said = self._said_elsewhere()
            object.__setattr__(self, "log_probability", said)
            if said == -math.inf:
                raise zero_probability("drawn_outside")

    @property
    def privilege(self) -> Privilege:
        """What the teacher gave: its whole row, the drawn label's probability, or the label."""
        if self.row is not None:
            return "soft_labels"
        return "hard_labels" if self.log_probability is None else "sampled_probabilities"

    @property
    def censored(self) -> bool:
        """Whether a top list is there and the drawn label lies outside of it, without a number."""
        return bool(self.top) and self.log_probability is None

    def _said_elsewhere(self) -> float | None:
        if self.row is not None:
            return float(self.row[self.label])
        return dict(self.top).get(self.label)


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a record as it keeps them; faults are RecordErrors."""
    return {name: _CHECKS[name](value) for name, value in fields.items()}


def whole(name: str, value: object, *, least: int | None = None) -> int:
    """Return a whole number as an int; 3.0 is one, True is not."""
    if type(value) is int and (least or 0) <= value <= LARGEST:
        return value
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        raise RecordError("not_finite", f"expected a whole number for `{name}`; got {value}.")
    if not isinstance(value, NUMBER) or isinstance(value, bool) or value != int(value):
        raise _wrong_type(name, "a whole number", value)
    low = -LARGEST if least is None else least
    if not low <= value <= LARGEST:
        raise RecordError(
            f"{name}_out_of_range",
            f"expected `{name}` in [{low}, {LARGEST}]; got {shown(int(value))}.",
        )
    return int(value)


def number(name: str, value: object) -> float:
    """Return a real number as a float; never NaN."""
    if type(value) is not float and (not isinstance(value, NUMBER) or isinstance(value, bool)):
        raise _wrong_type(name, "a number", value)
    try:
        made = float(value)
    except OverflowError:
        made = math.inf
    if math.isnan(made) or made == math.inf:
        raise RecordError("not_finite", f"expected a finite number for `{name}`; got {made}.")
    return made


def log_number(name: str, value: float) -> float:
    """Return a log-probability, at most 0 after what rounding may have added is taken off."""
    if value > SLACK:
        raise RecordError(
            "above_one",
            f"expected `{name}` <= 0 (nats, a probability of at most 1); got {value:.6g}.",
        )
    return min(value, 0.0)


def zero_probability(kind: str) -> RecordError:
    """Return the error for a drawn label that the teacher says never comes."""
    return RecordError(
        kind,
        "expected a probability above 0 for the label that was drawn; got 0. It cannot have been "
        "drawn from this law.",
    )


def shown(value: object) -> str:
    """Return a short form of a value, for a message."""
    return reprlib.repr(value)


def _wrong_type(name: str, what: str, value: object) -> RecordError:
    return RecordError("wrong_type", f"expected {what} for `{name}`; got {shown(value)}.")


def _input(value: object) -> Input:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, bytes):
        return tuple(whole("input", one, least=0) for one in value)
    if isinstance(value, NUMBER):
        return whole("input", value, least=0)
    raise _wrong_type("input", "an index, a string or a list of token ids", value)


def _log_probability(value: object) -> float:
    return log_number("log_probability", number("log_probability", value))


def _sequence(value: object) -> str | int:
    return value if isinstance(value, str) else whole("sequence", value)


def _teacher(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type("teacher", "a string", value)
    return value


def _not_negative(name: str, value: object) -> float:
    made = number(name, value)
    if made < 0:
        raise RecordError(f"{name}_out_of_range", f"expected `{name}` >= 0; got {made:.6g}.")
    return made


def _row(values: object) -> np.ndarray:
    try:
        row = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _wrong_type("row", "a list of numbers", values) from None
    if row.ndim != 1 or row.size == 0:
        raise RecordError(
            "wrong_type", f"expected a list of numbers for `row`; got shape {row.shape}."
        )
    if np.isnan(row).any() or (row == np.inf).any():
        raise RecordError("not_finite", "expected no NaN and no +inf in the row; got some.")
    log_number("row", float(row.max()))
    np.minimum(row, 0.0, out=row)
    row.flags.writeable = False
    return row


def _top(pairs: object) -> tuple[tuple[int, float], ...]:
    if not isinstance(pairs, Sequence | np.ndarray) or isinstance(pairs, str | bytes):
        raise _wrong_type("top", "a list of [label, log-probability]", pairs)
    made: list[tuple[int, float]] = []
    for pair in pairs:
        if not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2 or isinstance(pair, str):
            raise _wrong_type("top", "a list of [label, log-probability]", pair)
        label = whole("label", pair[0], least=0)
        log = -math.inf if pair[1] is None else number("top", pair[1])
        made.append((label, log_number("top", log)))
    if len({label for label, _ in made}) < len(made):
        raise RecordError("top_duplicates", "expected every label once in `top`; got one twice.")
    if any(after[1] > before[1] for before, after in itertools.pairwise(made)):
        raise RecordError("top_order", "expected `top` with the largest first; got another order.")
    return tuple(made)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "input": _input,
    "label": functools.partial(whole, "label", least=0),
    "log_probability": _log_probability,
    "row": _row,
    "top": _top,
    "count": functools.partial(whole, "count", least=1),
    "temperature": functools.partial(_not_negative, "temperature"),
    "sequence": _sequence,
    "position": functools.partial(whole, "position", least=0),
    "teacher": _teacher,
    "weight": functools.partial(_not_negative, "weight"),
}
