"""Data sets with columns of token ids and log-probabilities, as DistillKit and others keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from limbeck.asking.expanding import How, checked
from limbeck.asking.naming import Note, Top
from limbeck.checks import ArgumentError, check_choice, nearest
from limbeck.record_lines import SENTINELS
from limbeck.teacher_record import SLACK, RecordError, TeacherRecord, number, shown, whole


IGNORED = -100  # torch's index of labels that don't count
PACKED = frozenset(
    {"compressed_logprobs", "bytepacked_indices", "packed_indices", "exact_values", "coeffs"}
)
Alignment = Literal["next", "same"]


@dataclass(frozen=True)
class Columns:
    """Names of a data set's columns.

    A row is a text of T tokens, whose columns are lists of T (or T - 1) entries, or one input with
    one label, a number. Value i is of the law of token i + 1 ("next": as a causal model gives its
    logits, and as DistillKit keeps them) or of token i ("same": a score beside its token).

    Attributes:
        input: Token ids of the text, or of the context of one label.
        label: Labels; None takes the text's own tokens. -100 leaves a token out.
        log_probability: Of the label [nats].
        top_labels: Ids of the largest ones.
        top_log_probabilities: Their log-probabilities [nats].
        row: Log-probabilities of all labels [nats].
        aligned: Which token values are of.
        labels_aligned: Which token labels are: "same" as in transformers, or "next".

    Example:
        >>> Columns("input_ids", top_labels="ids", top_log_probabilities="logs").aligned
        'next'
    """

    input: str = "input_ids"
    label: str | None = None
    log_probability: str | None = None
    top_labels: str | None = None
    top_log_probabilities: str | None = None
    row: str | None = None
    aligned: Alignment = "next"
    labels_aligned: Alignment = "same"

    def __post_init__(self) -> None:
        """Check what can be checked without data."""
        check_choice("Columns", "aligned", self.aligned, ("next", "same"))
        check_choice("Columns", "labels_aligned", self.labels_aligned, ("next", "same"))
        if self.label is None and self.labels_aligned == "next":
            raise ArgumentError(
                'Columns: expected `label` with labels_aligned="next"; got none: the text\'s own '
                'tokens stand in their own places. Name the column of labels, or take "same".'
            )
        if (self.top_labels is None) != (self.top_log_probabilities is None):
            raise ArgumentError(
                "Columns: expected `top_labels` and `top_log_probabilities` together; got one of "
                "them. Name both."
            )

    def names(self) -> list[str]:
        """Return the names that are set."""
        given = (
            *(self.input, self.label, self.log_probability, self.top_labels),
            *(self.top_log_probabilities, self.row),
        )
        return [name for name in given if name is not None]


SPARSE = Columns(top_labels="sparse_ids", top_log_probabilities="sparse_values")  # DistillKit's


def columns_of(row: Mapping[str, Any]) -> Columns:
    """Return the columns of a row where its names leave no doubt.

    Raises:
        RecordError: If the caller has to name them, or the values are packed.
    """
    if set(SPARSE.names()) <= row.keys():
        return SPARSE
    _refuse_packed(row)
    raise RecordError(
        "unknown_columns",
        f"expected columns that are named; got {shown(sorted(map(str, row)))}. Give `columns` "
        "(--columns input=input_ids,...).",
    )


def records_of_row(
    row: Mapping[str, Any], line: int, columns: Columns, how: How, note: Note
) -> list[TeacherRecord]:
    """Return the records of a row of a data set.

    Raises:
        RecordError: If the row cannot be used; it is left out as a whole.
    """
    for name in columns.names():
        if row.get(name) is None:
            _refuse_packed(row)
            known = sorted(map(str, row))
            raise RecordError(
                "missing_key", f"expected the column `{name}`; it is absent.{nearest(name, known)}"
            )
    common: dict[str, Any] = {
        "temperature": 1.0 if how.temperature is None else how.temperature,
        "teacher": how.teacher,
        "line": line,
    }
    ids = [whole(columns.input, one, least=0) for one in _list(columns.input, row[columns.input])]
    labels = ids if columns.label is None else row[columns.label]
    if np.ndim(labels) == 0:
        made = [_record(tuple(ids), labels, _law(row, columns, None), note, common)]
    else:
        labels = _list(str(columns.label), labels)
        common["sequence"] = f"line {line}"
        made = list(_of_text(ids, labels, row, columns, note, common))
    return checked(made, how, note)


def _of_text(
    ids: list[int],
    labels: Sequence[Any],
    row: Mapping[str, Any],
    columns: Columns,
    note: Note,
    common: Mapping[str, Any],
) -> Iterator[TeacherRecord]:
    shift = int(columns.labels_aligned == "next")
    if not len(ids) - shift <= len(labels) <= len(ids):
        raise RecordError(
            "length_mismatch", f"expected {len(ids)} labels, one a token; got {len(labels)}."
        )
    least = len(ids) - (columns.aligned == "next")
    for name in columns.names():
        if name in (columns.input, columns.label):
            continue
        if not least <= len(_list(name, row[name])) <= len(ids):
            raise RecordError(
                "length_mismatch",
                f"expected {len(ids)} entries in `{name}`, one a token (the last may be missing "
                f"where values are of the next token); got {len(row[name])}.",
            )
    for place in range(1, len(ids) + 1):
        at = place - shift
        if at >= len(labels) or labels[at] == IGNORED:
            continue
        law = _law(row, columns, place - int(columns.aligned == "next"))
        yield _record(tuple(ids[:place]), labels[at], law, note, {**common, "position": place})


@dataclass(frozen=True, slots=True)
class _Law:
    log: float | None
    withheld: bool
    top: Top
    row: np.ndarray | None


def _law(row: Mapping[str, Any], columns: Columns, place: int | None) -> _Law:
    """Return what is said about a position; nothing past the end."""

    def at(name: str | None) -> Any:
        if name is None:
            return None
        values = row[name]
        return values if place is None else (values[place] if place < len(values) else None)

    given = at(columns.log_probability)
    log = None if given is None else _log(str(columns.log_probability), given)
    withheld = log in SENTINELS
    top = _top(columns, at(columns.top_labels), at(columns.top_log_probabilities))
    row_given = at(columns.row)
    whole_row = None if row_given is None else _row(str(columns.row), row_given)
    return _Law(None if withheld else log, withheld, top, whole_row)


def _row(name: str, given: object) -> np.ndarray:
    logs = [-np.inf if log is None else _log(name, log) for log in _list(name, given)]
    made = np.array(logs, dtype=np.float64)
    made[np.isin(made, list(SENTINELS))] = -np.inf
    return made


def _log(name: str, given: object) -> float:
    log = number(name, given)
    if log > SLACK:
        raise RecordError(
            "above_one",
            f"expected log-probabilities (nats, at most 0) in `{name}`; got {log:.6g}. Logits need "
            "a log-softmax over all labels first; probabilities a logarithm.",
        )
    return log


def _top(columns: Columns, labels: object, logs: object) -> Top:
    """Return a list of the largest ones; rows are padded with -inf or negative ids."""
    if labels is None or logs is None:
        return ()
    names = str(columns.top_labels), str(columns.top_log_probabilities)
    given, values = _list(names[0], labels), _list(names[1], logs)
    if len(given) != len(values):
        raise RecordError(
            "length_mismatch",
            f"expected `{names[0]}` and `{names[1]}` of one length; got {len(given)} and "
            f"{len(values)}.",
        )
    pairs = [
        (whole(names[0], label), -np.inf if log is None else _log(names[1], log))
        for label, log in zip(given, values, strict=True)
    ]
    kept = [
        (label, log)
        for label, log in pairs
        if label >= 0 and log > -np.inf and log not in SENTINELS
    ]
    return tuple(sorted(kept, key=lambda pair: -pair[1]))


def _record(
    context: tuple[int, ...], label: object, law: _Law, note: Note, common: Mapping[str, Any]
) -> TeacherRecord:
    if law.withheld:
        note("sentinel")
    return TeacherRecord(
        context,
        whole("label", label, least=0),
        log_probability=law.log,
        row=law.row,
        top=law.top,
        **common,
    )


def _list(name: str, given: object) -> Sequence[Any]:
    if hasattr(given, "tolist"):  # arrays and tensors, as data sets give them in their formats
        given = given.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(given, list | tuple):
        raise RecordError("wrong_type", f"expected a list in `{name}`; got {shown(given)}.")
    return given


def _refuse_packed(row: Mapping[str, Any]) -> None:
    found = sorted(PACKED & row.keys())
    if found:
        raise RecordError(
            "packed_columns",
            f"expected log-probabilities; got DistillKit's packed ones ({', '.join(found)}). "
            "Unpack them with its LogprobCompressor.decompress_to_sparse and the data set's "
            "compression_config.yaml, and give sparse_ids and sparse_values.",
        )
