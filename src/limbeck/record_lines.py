"""A teacher record as one line of JSON, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from limbeck.teacher_record import (
    SLACK,
    RecordError,
    TeacherRecord,
    checked,
    number,
    shown,
    zero_probability,
)


PLAIN = (
    *("input", "label", "top", "count", "temperature", "sequence", "position", "teacher"),
    "weight",
)
KEYS = (*PLAIN, "log_probability", "probability", "log_probabilities", "probabilities")
TOLERANCE = 0.01
SENTINELS = frozenset(-(10.0**digits - 1) for digits in range(4, 10))  # -9999, -99999, ...


def decoded(raw: bytes) -> dict[str, Any]:
    """Return the object that a line holds.

    Raises:
        RecordError: If the line is no UTF-8, no JSON, no object, or names a key twice.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except UnicodeDecodeError as problem:
        raise RecordError(
            "not_utf8", f"expected UTF-8; got the byte {raw[problem.start]:#04x}."
        ) from None
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("not_json", "expected JSON of a record; it is nested too deep.") from None
    except ValueError as problem:
        why = getattr(problem, "msg", "a number with too many digits")
        raise RecordError(
            "not_json", f"expected one JSON object a line; got {shown(raw[:60].decode())} ({why})."
        ) from None
    if not isinstance(value, dict):
        hint = " Write one object a line, without [ ] around them." * isinstance(value, list)
        raise RecordError("not_object", f"expected a JSON object; got {shown(value)}.{hint}")
    return value


def record_from(
    fields: Mapping[str, Any], *, line: int | None = None, tolerance: float = TOLERANCE
) -> tuple[TeacherRecord, list[str]]:
    """Make a record of the keys of a line; null stands for a key that is absent.

    Args:
        fields: The keys of :data:`KEYS`; others are ignored.
        line: Where they stand, from 1.
        tolerance: How far two statements of one number, and sums, may be off.

    Returns:
        The record, and notes: ``sentinel`` where a placeholder such as -9999 stood for a
        log-probability that the teacher keeps to itself.

    Raises:
        RecordError: If the record cannot be used; its kind names the fault.
    """
    given = {key: fields[key] for key in KEYS if fields.get(key) is not None}
    for key in ("input", "label"):
        if key not in given:
            raise RecordError("missing_key", f"expected the key `{key}`; it is absent.")
    notes: list[str] = []
    log_probability = _log_probability(given, notes, tolerance)
    row = _row(given, tolerance)
    said = {
        "log_probability": log_probability,
        "row": row,
        **{key: given.get(key) for key in PLAIN},
    }
    fields = checked({key: value for key, value in said.items() if value is not None})
    record = TeacherRecord(line=line, **fields)
    return record, notes


def check_sums(
    record: TeacherRecord, *, labels: int | None = None, tolerance: float = TOLERANCE
) -> None:
    """Raise RecordError where a row or list doesn't sum to what it must, or has other labels."""
    if labels is not None:
        _check_labels(record, labels)
    if record.row is not None:
        total = float(np.exp(record.row).sum())
        if abs(total - 1.0) > tolerance:
            raise RecordError(
                "row_sum", f"expected a row whose probabilities sum to 1; got {total:.6g}."
            )
    if record.top:
        total = math.fsum(math.exp(log) for _, log in record.top)
        if total > 1.0 + tolerance:
            raise RecordError(
                "top_sum", f"expected a `top` that sums to 1 at most; got {total:.6g}."
            )


def two_laws(record: TeacherRecord, *, tolerance: float = TOLERANCE) -> bool:
    """Whether a record says one log-probability of its label, and another in its row or top."""
    given = record.log_probability
    if given is None or (record.row is None and not record.top):
        return False
    said = [] if record.row is None else [float(record.row[record.label])]
    said += [log for label, log in record.top if label == record.label]
    return any(_differ(given, log, tolerance) for log in said)


def encoded(record: TeacherRecord) -> bytes:
    """Return the line of a record; :func:`record_from` gives back the same numbers."""
    fields: dict[str, Any] = {
        "input": list(record.input) if isinstance(record.input, tuple) else record.input,
        "label": record.label,
    }
    if record.log_probability is not None:
        fields["log_probability"] = record.log_probability
    if record.row is not None:
        fields["log_probabilities"] = [
            None if log == -math.inf else log for log in record.row.tolist()
        ]
    if record.top:
        fields["top"] = [[label, None if log == -math.inf else log] for label, log in record.top]
    if record.count != 1:
        fields["count"] = record.count
    if record.temperature != 1.0:
        fields["temperature"] = record.temperature
    for key in ("sequence", "position", "teacher", "weight"):
        if getattr(record, key) is not None:
            fields[key] = getattr(record, key)
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: JSON can say it, UTF-8 cannot
        return json.dumps(fields, allow_nan=False).encode("ascii") + b"\n"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise RecordError("duplicate_key", "expected every key once; got one twice.")
    return made


def _log_probability(given: Mapping[str, Any], notes: list[str], tolerance: float) -> float | None:
    log = probability = None
    if "log_probability" in given:
        log = number("log_probability", given["log_probability"])
        if log in SENTINELS:
            notes.append("sentinel")
            log = None
    if "probability" in given:
        probability = number("probability", given["probability"])
        if probability == 0:
            raise zero_probability("zero_probability")
        if probability < 0:
            raise RecordError("below_zero", f"expected `probability` > 0; got {probability:.6g}.")
        if probability > 1 + SLACK:
            raise RecordError("above_one", f"expected `probability` <= 1; got {probability:.6g}.")
    if probability is None:
        return log
    if log is not None and _differ(log, math.log(probability), tolerance):
        raise RecordError(
            "disagreement",
            f"expected `probability` to be exp(log_probability); got {probability:.6g} and "
            f"{log:.6g}.",
        )
    return math.log(probability) if log is None else log


def _row(given: Mapping[str, Any], tolerance: float) -> np.ndarray | None:
    rows = [_array(given, key) for key in ("log_probabilities", "probabilities") if key in given]
    if len(rows) == 2:
        apart = (
            math.inf
            if rows[0].shape != rows[1].shape
            else float(np.abs(np.exp(np.minimum(rows[0], 1.0)) - np.exp(rows[1])).max(initial=0.0))
        )
        if apart > tolerance:
            raise RecordError(
                "disagreement",
                "expected `probabilities` to be exp(log_probabilities); they differ.",
            )
    return rows[0] if rows else None


def _array(given: Mapping[str, Any], key: str) -> np.ndarray:
    """Return log-probabilities; None in a row of logarithms says -inf."""
    values = given[key]
    if not isinstance(values, list | tuple | np.ndarray) or not len(values):
        raise RecordError("wrong_type", f"expected a list of numbers for `{key}`.")
    if key == "probabilities":
        numbers = _numbers(key, values)
        if numbers.min() < 0:
            raise RecordError("below_zero", f"expected `{key}` >= 0; got {numbers.min():.6g}.")
        if numbers.max() > 1 + SLACK:
            raise RecordError("above_one", f"expected `{key}` <= 1; got {numbers.max():.6g}.")
        with np.errstate(divide="ignore"):
            return np.log(numbers)
    numbers = _numbers(key, [-math.inf if value is None else value for value in values])
    numbers[np.isin(numbers, list(SENTINELS))] = -math.inf
    return numbers


def _numbers(key: str, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    if set(map(type, values)) <= {float}:  # what JSON gives: a long row needs no look at each
        numbers = np.array(values, dtype=np.float64)
        if not np.isnan(numbers).any() and not (numbers == np.inf).any():
            return numbers
    return np.array([number(key, value) for value in values])


def _check_labels(record: TeacherRecord, labels: int) -> None:
    largest = max([record.label, *(label for label, _ in record.top)])
    if largest >= labels:
        raise RecordError(
            "label_out_of_range", f"expected labels below {labels}, as asked; got {largest}."
        )
    if record.row is not None and len(record.row) != labels:
        raise RecordError(
            "label_out_of_range",
            f"expected a row of {labels} labels, as asked; got {len(record.row)}.",
        )


def _differ(log: float, other: float, tolerance: float) -> bool:
    """Whether two logarithms say different probabilities, beyond rounding to a few decimals."""
    first, second = math.exp(min(log, 1.0)), math.exp(min(other, 1.0))
    return abs(first - second) > tolerance * (0.1 + max(first, second))
