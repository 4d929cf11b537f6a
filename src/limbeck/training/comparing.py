"""compare_students(): which of two students is nearer to a teacher, from its labels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from limbeck.checks import check_positive
from limbeck.limits.distance.certifying import IntervalSettings
from limbeck.limits.distance.comparison import StudentComparison, paired_differences
from limbeck.limits.distance.intervals import CONFIDENCE
from limbeck.training.accelerating import accelerator_for
from limbeck.training.certifying import opened
from limbeck.training.held_out_records import grouped, held_out, inputs_of, read
from limbeck.training.reading import said_of


def compare_students(
    first: Any,
    second: Any,
    records: Any,
    data: Any = None,
    *,
    names: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
    interval: str = "betting",
    units: str = "auto",
    longest: int | None = None,
    trained_on: Any = None,
    tokenizer: Callable[..., Any] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    trust: bool = False,
    seed: int = 0,
) -> StudentComparison:
    r"""Say which of two students is nearer to a teacher, from labels alone.

    .. math:: \mathbb E[\log \hat\pi_2(a|s) - \log \hat\pi_1(a|s)] = \mathrm{KL}(\pi^*, \hat\pi_1)
              - \mathrm{KL}(\pi^*, \hat\pi_2)

    Labels that the teacher drew, without any probability, do not tell how far a student is from
    it, but how much farther than another one: the teacher's entropy cancels. Records with
    probabilities will do too; their numbers are not used.

    Args:
        first: As the student of :func:`limbeck.certify`.
        second: The other one, on the same labels.
        records: As of :func:`limbeck.certify`; labels are enough.
        data: As of :func:`limbeck.certify`.
        names: Of both, for tables; None takes folders or classes.
        confidence: Of each interval alone, in (0, 1).
        interval: For the squared distance, as of :func:`limbeck.certify`.
        units: As of :func:`limbeck.certify`.
        longest: As of :func:`limbeck.certify`.
        trained_on: Inputs, or records, that either was trained on.
        tokenizer: As of :func:`limbeck.certify`.
        batch_size: Inputs at a time.
        device: As of :func:`limbeck.certify`.
        trust: Call builders outside of limbeck that a folder names.
        seed: As of :func:`limbeck.certify`.

    Returns:
        A :class:`StudentComparison`: differences of KL [nats], approximate, and of squared
        distances, guaranteed; below 0 the first is nearer.

    Raises:
        DataError: If nothing is left, or labels do not fit a student.
        ArgumentError: If an argument is out of range, or a student cannot take the inputs.
        ModelError: If a student cannot be loaded or run.

    Example:
        The teacher always says 0; ln 0.9 - ln 0.5 = 0.588.

        >>> better, worse = lambda x: [[0.9, 0.1]] * len(x), lambda x: [[0.5, 0.5]] * len(x)
        >>> labels = [{"input": i, "label": 0} for i in range(200)]
        >>> found = compare_students(better, worse, labels)
        >>> round(found.kl.value, 3), found.squared_distance.upper < 0
        (-0.588, True)

    Source:
        Derived.
    """
    how = IntervalSettings(confidence, interval, longest, seed)
    check_positive("compare_students", batch_size=batch_size)
    given = read(records, "compare_students")
    seen = inputs_of(trained_on, "compare_students") if trained_on is not None else []
    where = accelerator_for(device).device
    students = [
        opened(
            one,
            data,
            name=name,
            tokenizer=tokenizer,
            batch_size=batch_size,
            device=where,
            trust=trust,
        )
        for one, name in zip((first, second), names or (None, None), strict=True)
    ]
    usable = held_out("compare_students", students, given, seen)
    warnings: list[str] = []
    unit, groups = grouped(usable.records, units, warnings)
    said = [said_of(one, usable.records) for one in students]
    counts = np.array([record.count for record in usable.records])
    kl, squared = paired_differences(
        (said[0].log_probability, said[0].square),
        (said[1].log_probability, said[1].square),
        counts,
        groups,
        confidence=confidence,
        interval=interval,
        longest=longest,
        seed=seed,
    )
    if kl.status != "resolved":
        warnings.append(
            "a student gives probability 0 to a label that the teacher drew, or there is a single "
            "unit: the difference of KL is not resolved."
        )
    return StudentComparison(
        first=students[0].name,
        second=students[1].name,
        records=int(counts.sum()),
        kl=kl,
        squared_distance=squared,
        left_out=usable.left_out,
        warnings=tuple(warnings),
        settings={
            "confidence": how.confidence,
            "interval": how.interval,
            "longest": how.longest,
            "seed": how.seed,
            "unit": unit,
        },
    )
