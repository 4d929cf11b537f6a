"""Audit of a distillation set: the fault by name, and the bias that it implies on this set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError
from limbeck.limits.auditing.draws import find_cost_of_weighting, find_temperature, find_weights
from limbeck.limits.auditing.numbers import find_impossible_sums, find_rounding, find_varying
from limbeck.limits.auditing.result import SEVERITIES, Audit, Finding
from limbeck.limits.auditing.sequences import find_sequences
from limbeck.limits.auditing.set import find_faulty, find_mixtures, find_repeats
from limbeck.limits.auditing.table import Table
from limbeck.limits.auditing.truncation import find_censored, find_renormalised, find_two_laws
from limbeck.limits.tables.from_records import total_draws
from limbeck.record_lines import TOLERANCE
from limbeck.records import HasRecords, Records, TeacherRecord, as_records


def audit(
    records: Path | str | Records | Iterable[TeacherRecord | Mapping[str, Any]] | HasRecords,
    *,
    labels: int | None = None,
    confidence: float = 0.95,
    tolerance: float = TOLERANCE,
) -> Audit:
    r"""Name what is wrong with a set of teacher records, and the bias that follows on this set.

    Where what is learned is another law q than the teacher's pi, the bias is their distance,
    averaged over the inputs as often as they were drawn:

    .. math:: \mathrm{TV} = \frac1n \sum_s n_s\, \tfrac12 \sum_a |q(a|s) - \pi(a|s)|

    with q proportional to pi^2 for cross-entropy weighted by the teacher's probability, to
    pi^(1/tau) for draws at another temperature, and pi cut to its k largest values and divided by
    their sum a_K, where TV = 1 - a_K. A statistical test raises a false alarm on about one clean
    set in a thousand.

    Args:
        records: A path, records, or dicts with the keys of a line; faulty ones are a finding.
        labels: How many labels the teacher has; None takes it from rows, where there are any.
        confidence: Of every interval, in (0, 1).
        tolerance: How far sums may be from 1, in [0, 1).

    Returns:
        :class:`Audit`. Each finding has its bias as a total variation in [0, 1] (another unit is
        named), zero where nothing is lost; what the set cannot show stands in ``not_testable``.

    Raises:
        DataError: If there is no such file, no record that can be used, or they stand for more
            draws than can be counted.
        ArgumentError: If ``confidence``, ``labels`` or ``tolerance`` make no sense.

    Example:
        A label of probability 3/4 and one of 1/4. Squared and divided by their sum they are 9/10
        and 1/10, which is 0.15 away.

        >>> import numpy as np
        >>> row = np.log([0.75, 0.25])
        >>> found = audit([TeacherRecord("cat", 0, row=row), TeacherRecord("cat", 1, row=row)])
        >>> found.passed, round(found["cost_of_probability_weighting"].bias.value, 6)
        (True, 0.15)

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, lemma 4.2; the other biases are derived.
    """
    if not 0 < confidence < 1:
        raise ArgumentError(
            f"audit: expected `confidence` in (0, 1); got {confidence}. Take 0.95, say."
        )
    read = as_records(records, labels=labels, tolerance=tolerance).needed("audit")
    total_draws("audit", read.records)
    if labels is None:
        lengths = {len(record.row) for record in read if record.row is not None}
        labels = lengths.pop() if len(lengths) == 1 else None
    table = Table(read.records, labels, confidence, tolerance)
    findings: list[Finding] = []
    untestable: list[str] = []
    for item in _found(table, read):
        if isinstance(item, str):
            untestable.append(item)
        else:
            findings.append(item)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(
        records=len(read),
        draws=table.draws,
        inputs=int(table.input.max()) + 1,
        pairs=len({(record.input, record.label) for record in read}),
        labels=labels,
        privileges=dict(Counter(record.privilege for record in read)),
        findings=tuple(findings),
        not_testable=tuple(untestable),
        settings={"confidence": confidence, "tolerance": tolerance},
    )


def _found(table: Table, read: Records) -> Iterator[Finding | str]:
    yield from find_faulty(read.problems, len(read))
    renormalised = list(find_renormalised(table, read.left_out))
    yield from renormalised
    yield from find_weights(table)
    yield from find_temperature(table)
    if not renormalised:
        yield from find_two_laws(table)
        yield from find_censored(table)
    yield from find_impossible_sums(table)
    yield from find_varying(table)
    yield from find_mixtures(table)
    yield from find_sequences(table)
    yield from find_rounding(table)
    yield from find_repeats(table)
    yield from find_cost_of_weighting(table)
