"""certify(): how far a student is from its teacher, on held-out answers of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from limbeck.checks import ArgumentError, DataError, check_positive
from limbeck.estimates import Estimate
from limbeck.limits.distance.answers import Answers, missing_mass_of
from limbeck.limits.distance.certificate import Certificate
from limbeck.limits.distance.certifying import Circumstances, IntervalSettings, certificate_of
from limbeck.limits.distance.intervals import CONFIDENCE
from limbeck.limits.distance.residual import residual_certificate, shift_check
from limbeck.limits.distance.units import units_of
from limbeck.records import Input, TeacherRecord
from limbeck.training.accelerating import accelerator_for
from limbeck.training.certifying import opened
from limbeck.training.held_out_records import grouped, held_out, inputs_of, read, warnings_of
from limbeck.training.reading import readings_of, said_of


def certify(
    student: Any,
    records: Any,
    data: Any = None,
    *,
    name: str | None = None,
    confidence: float = CONFIDENCE,
    interval: str = "betting",
    units: str = "auto",
    longest: int | None = None,
    trained_on: Any = None,
    built_from: Any = None,
    deployment: Any = None,
    tokenizer: Callable[..., Any] | None = None,
    batch_size: int = 256,
    device: str | None = None,
    trust: bool = False,
    seed: int = 0,
) -> Certificate:
    r"""Certify how far a student's probabilities are from a teacher's, from held-out answers.

    .. math:: \mathrm{TV} = \mathbb E_{s, a \sim \pi^*}[(1 - r)_+], \qquad
              \mathrm{KL} = \mathbb E[r - 1 - \log r] = \mathbb E[-\log r], \qquad
              r = \hat\pi(a|s) / \pi^*(a|s)

    The teacher is not needed: its log-probability of each label that it drew is enough. Where a
    record holds the whole row its input is compared exactly. Where the number is censored (the
    label is not among the k reported ones) total variation is bracketed.

    Args:
        student: A module (scores become probabilities by a softmax), a folder that limbeck saved,
            or a callable from a list of inputs to probabilities [inputs, labels]. Of a language
            model the distribution after the last token is taken; inputs that begin another one are
            read off its pass. Its mode and device are restored.
        records: Teacher records: a path of JSON lines, a list of them or of dicts. They must be
            held out from training, and drawn by the teacher at temperature 1.
        data: What indices in the records point into: whatever :class:`limbeck.Data` takes. A
            callable then gets the rows' inputs, without it the inputs as they stand.
        name: The student's, for tables; None takes its folder or class.
        confidence: Of each interval alone, in (0, 1).
        interval: For total variation: "betting" (the narrowest), "empirical_bernstein" or
            "hoeffding".
        units: What is independent: "record", "sequence" (tokens of one depend on each other),
            "input" (several labels were drawn for each), or "auto": sequences where records name
            them, inputs where each has the same number of draws above one, else records.
        longest: Most records that a sequence can have, known beforehand. Where sequences differ in
            length it makes the interval hold for the mean over tokens of new sequences; without it
            the guarantee is for sequences of the lengths at hand, and wider.
        trained_on: Inputs, or records, that the student was trained on: records of these inputs
            are left out.
        built_from: Records that a table, or the student, was built from. Adds their missing mass
            (of a fresh sequence where they name sequences), and the residual of a table of them on
            the held-out inputs, which bounds the risk of such a table (not of a network) without a
            teacher.
        deployment: Inputs without answers that the student will meet. With ``built_from``, adds the
            residual on these, and how much more of them is unknown: a shift check.
        tokenizer: From a list of strings to token ids, for modules and records with strings.
        batch_size: Inputs at a time.
        device: "cpu", "cuda", ...; None takes the accelerator if there is one.
        trust: Call builders outside of limbeck that a folder names.
        seed: Of the order in which the betting interval takes records.

    Returns:
        A :class:`Certificate`. ``total_variation`` [fraction in 0 to 1, 0 means equal] has a
        guaranteed interval, ``kl`` [nats] an approximate one.

    Raises:
        DataError: If the records hold labels alone (nothing can be certified from these; see
            :func:`limbeck.compare_students`), nothing is left, or labels do not fit the student.
        ArgumentError: If an argument is out of range, or the student cannot take the inputs.
        ModelError: If the student cannot be loaded or run.

    Note:
        Under several processes each computes the whole certificate.

    Example:
        A table of two labels; the teacher says 3/4 and 1/4, the student 1/2 each. The expectation
        of (1 - r)_+ over the teacher's draws is 3/4 (1 - 2/3) = 1/4, the total variation.

        >>> import numpy as np
        >>> answers = [TeacherRecord(i, 0, np.log(0.75), count=3) for i in range(100)]
        >>> answers += [TeacherRecord(i, 1, np.log(0.25)) for i in range(100)]
        >>> found = certify(lambda inputs: [[0.5, 0.5]] * len(inputs), answers)
        >>> round(found.total_variation.value, 6), found.unit, found.units
        (0.25, 'input', 100)

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, for the privileges; the meters are derived. Intervals
        of Waudby-Smith and Ramdas (2024), arXiv:2010.09686.
    """
    how = IntervalSettings(confidence, interval, longest, seed)
    check_positive("certify", batch_size=batch_size)
    if deployment is not None and built_from is None:
        raise ArgumentError(
            "certify: expected `built_from` beside `deployment`; got none. What is new at "
            "deployment is told by the records that the student was built from."
        )
    given = read(records, "certify")
    _check_numbers(given.records)
    seen = inputs_of(trained_on, "certify") if trained_on is not None else []
    built = None if built_from is None else read(built_from, "certify, built_from").records
    inputs = None if deployment is None else inputs_of(deployment, "certify, deployment")
    where = accelerator_for(device).device
    one = opened(
        student,
        data,
        name=name,
        tokenizer=tokenizer,
        batch_size=batch_size,
        device=where,
        trust=trust,
    )
    usable = held_out("certify", [one], given, seen)
    _check_numbers(usable.records)
    warnings = warnings_of(usable.records)
    if seen and "that the student was trained on" in usable.left_out:
        warnings.append(
            f"{usable.left_out['that the student was trained on']} records are of inputs that the "
            "student was trained on; they are left out, and the distance on the others is "
            "certified."
        )
    unit, groups = grouped(usable.records, units, warnings)
    readings = readings_of(said_of(one, usable.records), usable.records, unit, groups)
    further: dict[str, Estimate] = {}
    if built is not None:
        further = _missing(built, units, how, warnings)
        further |= _residuals(usable.records, groups, built, inputs, how)
    about = Circumstances(
        student=one.name,
        left_out=usable.left_out,
        warnings=warnings,
        further=further,
        settings={
            "units": units,
            "tokens": _are_tokens(usable.records),
            "inputs": len({record.input for record in usable.records}),
            "device": where.type,
        },
    )
    return certificate_of(readings, how, about)


def _check_numbers(records: Sequence[TeacherRecord]) -> None:
    """Refuse labels alone: from these no distance to the teacher follows."""
    if not any(record.log_probability is not None or record.top for record in records):
        raise DataError(
            f"certify: expected records with the teacher's probabilities; got {len(records)} with "
            "labels alone. These give neither total variation nor KL, because the teacher's "
            "entropy is unknown; which of two students is nearer can be said: "
            "compare_students(first, second, records), or --against on the command line. "
            "For a certificate collect log-probabilities."
        )


def _missing(
    answers: Sequence[TeacherRecord], units: str, how: IntervalSettings, warnings: list[str]
) -> dict[str, Estimate]:
    """Return what the set that the student was built from has not met of the teacher."""
    chained = any(record.sequence is not None for record in answers)
    unit, groups = grouped(answers, "auto" if units == "sequence" and not chained else units, [])
    if unit == "input":
        warnings.append(
            "the set that the student was built from has several draws at each input: that is a "
            "design, from which the inputs it has not met cannot be told; no missing mass is given."
        )
        return {}
    found = missing_mass_of(answers, confidence=how.confidence, groups=groups)
    return {} if found is None else {"missing_mass": found}


def _residuals(
    usable: Sequence[TeacherRecord],
    groups: np.ndarray | None,
    answers: Sequence[TeacherRecord],
    deployment: Sequence[Input] | None,
    how: IntervalSettings,
) -> dict[str, Estimate]:
    """Return what a table of that set leaves open on held-out inputs, without a teacher."""
    known = Answers(answers)
    counts = np.array([record.count for record in usable])
    held = units_of(known.residuals([record.input for record in usable]), counts, groups)
    fresh = held.sums / held.sizes
    # Means over a group are not 0 or 1 though each record's are.
    options: dict[str, Any] = {
        "whole_rows": known.whole and groups is None,
        "confidence": how.confidence,
        "seed": how.seed,
    }
    found = {"residual": residual_certificate(fresh, **options)}
    if deployment is not None:
        there = known.residuals(deployment)
        found["residual_deployment"] = residual_certificate(there, **options)
        found["shift"] = shift_check(fresh, there, **options)
    return found


def _are_tokens(records: Sequence[TeacherRecord]) -> bool:
    """Say whether labels are the next tokens of a text."""
    return any(isinstance(record.input, tuple) or record.sequence is not None for record in records)
