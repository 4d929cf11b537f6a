"""Read a student off at teacher records: one number a record for every meter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from limbeck.checks import DataError
from limbeck.limits.distance.meters import censored_ceiling, row_terms, sampled_terms
from limbeck.limits.distance.readings import Readings, Unit
from limbeck.records import TeacherRecord
from limbeck.training.certifying import Student


class Said(NamedTuple):
    """What a student says of each record.

    Attributes:
        log_probability: Of the drawn label [nats], float64 [records].
        square: Sum of the squared probabilities of all labels, float64 [records].
        total_variation: To the record's row, NaN without one.
        kl: From the record's row [nats], NaN without one.
    """

    log_probability: np.ndarray
    square: np.ndarray
    total_variation: np.ndarray
    kl: np.ndarray


def said_of(student: Student, records: Sequence[TeacherRecord]) -> Said:
    """Run the student once on every different input and read its probabilities off.

    Raises:
        DataError: If it has fewer labels than the records, or rows have another length.
        ModelError: If it cannot be run.
    """
    different = {
        value: place for place, value in enumerate(dict.fromkeys(r.input for r in records))
    }
    place = np.array([different[record.input] for record in records])
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(different) + 1))
    labels = np.array([record.label for record in records])
    found = Said(*(np.full(len(records), math.nan) for _ in Said._fields))
    for chunk in student.chunks(list(different)):
        spans = [order[starts[one] : starts[one + 1]] for one in chunk.positions]
        asked = np.concatenate(spans)
        rows = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
        logs = chunk.log_probabilities.numpy()
        if labels[asked].max() >= logs.shape[1]:
            raise DataError(
                f"certify: expected labels below {logs.shape[1]}, as many as {student.name} has; "
                f"got {labels[asked].max()}. Student and teacher must share their labels or "
                "vocabulary."
            )
        found.log_probability[asked] = logs[rows, labels[asked]]
        found.square[asked] = np.exp(2 * logs).sum(1)[rows]
        whole = np.array([records[one].row is not None for one in asked])
        _compare_rows(found, asked[whole], logs[rows[whole]], records, student.name)
    return found


def readings_of(
    said: Said, records: Sequence[TeacherRecord], unit: Unit, groups: np.ndarray | None
) -> Readings:
    """Turn what a student says into the meters' terms."""
    known = np.array([r.log_probability is not None for r in records])
    teacher = np.array(
        [r.log_probability if r.log_probability is not None else 0.0 for r in records]
    )
    whole = np.array([r.row is not None for r in records])
    terms = sampled_terms(said.log_probability, np.where(known, teacher, 0.0))
    smallest = np.array([r.top[-1][1] if r.top else 0.0 for r in records])
    tail = np.array([1 - math.fsum(math.exp(log) for _, log in r.top) for r in records])
    ceiling = censored_ceiling(said.log_probability, smallest, tail)
    exact = np.where(known, terms.total_variation, 0.0)
    return Readings(
        low=np.where(whole, said.total_variation, exact),
        high=np.where(whole, said.total_variation, np.where(known, exact, ceiling)),
        log_ratio=np.where(known, said.log_probability - teacher, math.nan),
        kl=said.kl,
        counts=np.array([record.count for record in records]),
        groups=groups,
        positions=np.array([-1 if r.position is None else r.position for r in records]),
        unit=unit,
    )


def _compare_rows(
    found: Said, asked: np.ndarray, logs: np.ndarray, records: Sequence[TeacherRecord], name: str
) -> None:
    rows = [records[one].row for one in asked]
    lengths = {len(row) for row in rows if row is not None} - {logs.shape[1]}
    if lengths:
        raise DataError(
            f"certify: expected rows of {logs.shape[1]} labels, as many as {name} has; got "
            f"{max(lengths)}. Student and teacher must share their labels or vocabulary."
        )
    if rows:
        terms = row_terms(logs, np.array(rows))
        found.total_variation[asked], found.kl[asked] = terms.total_variation, terms.kl
