"""What a set of teacher answers leaves open at an input: the probability of labels never seen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from limbeck.checks import DataError
from limbeck.estimates import Estimate
from limbeck.limits.distance.intervals import checked_tail
from limbeck.limits.tables.from_records import SMALLEST, total_draws
from limbeck.limits.tables.mass_by_unit import UnitMass, mass_by_unit
from limbeck.records import Input, TeacherRecord


SUM = 1e-2  # by which the probabilities of one input's labels may exceed 1: servers round
SAME = 1e-3  # nats within which two reports of one pair are the same


class Answers:
    """The teacher's numbers at every input of a set, whatever their order and repetitions.

    Args:
        records: The set.

    Raises:
        DataError: If there is no record, or none with a number: labels alone leave open how much
            is missing.

    Example:
        0.5 is known of input 7; two different labels come to 0.75.

        >>> known = Answers(
        ...     [
        ...         TeacherRecord(7, 0, np.log(0.5)),
        ...         TeacherRecord(8, 1, np.log(0.25)),
        ...         TeacherRecord(8, 0, np.log(0.5)),
        ...         TeacherRecord(8, 0, np.log(0.5)),
        ...     ]
        ... )
        >>> known.residuals([7, 8, 9]).round(6).tolist()
        [0.5, 0.25, 1.0]
    """

    def __init__(self, records: Iterable[TeacherRecord]) -> None:
        self.reports: dict[Input, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.rows: set[Input] = set()
        self.whole, numbers = True, 0
        for record in records:
            known = self.reports[record.input]
            if record.row is not None:
                self.rows.add(record.input)
            for label, log in record.top:
                known[label].append(log)
            if record.log_probability is not None and record.label not in dict(record.top):
                known[record.label].append(record.log_probability)
            self.whole &= record.row is not None
            numbers += record.log_probability is not None or bool(record.top)
        if not numbers:
            raise DataError(
                "certify: expected records with probabilities; got labels alone, which do not say "
                "how much is missing. Collect log-probabilities."
            )

    def residuals(self, inputs: Sequence[Input]) -> Float[np.ndarray, " m"]:
        """Return the probability of labels never seen at each input: 1 where it was never seen."""
        return np.array([self._residual(one) for one in inputs], dtype=np.float64)

    def _residual(self, value: Input) -> float:
        if value in self.rows:
            return 0.0
        if value not in self.reports:
            return 1.0
        return max(0.0, 1.0 - self._known(value))

    def _known(self, value: Input) -> float:
        reports = self.reports[value].values()
        return math.fsum(math.fsum(map(math.exp, logs)) / len(logs) for logs in reports)

    def contradictions(self) -> list[str]:
        """Return what no single teacher could have said, in words."""
        spreads = [
            max(logs) - min(logs)
            for known in self.reports.values()
            for logs in known.values()
            if len(logs) > 1 and min(logs) > -math.inf and max(logs) - min(logs) > SAME
        ]
        over = sum(self._known(one) > 1 + SUM for one in self.reports if one not in self.rows)
        found = []
        if spreads:
            found.append(
                f"the teacher gave different log-probabilities for {len(spreads)} pairs of an "
                f"input and a label, up to {max(spreads):.3g} nats apart: it is not deterministic, "
                "or several answered. Total variation has a floor of some 0.4 times their standard "
                "deviation."
            )
        if over:
            found.append(
                f"at {over} inputs the probabilities of the labels seen sum to more than 1: they "
                "are not those of one law."
            )
        return found


def missing_mass_of(
    records: Sequence[TeacherRecord],
    *,
    confidence: float,
    groups: Int[np.ndarray, " r"] | None = None,
) -> Estimate | None:
    r"""Estimate how much of the teacher a set of records has not met, from the set alone.

    Inputs are counted where every record has its whole row, pairs of input and label otherwise, by
    the sharper form where every pair has a probability; see
    :func:`~limbeck.limits.tables.mass_by_unit.mass_by_unit` for both and their standard error. The
    interval is the widest of the normal one, Wilson's, and what a symbol that came once or never
    can hide,

    .. math:: \hat m_0 \pm t\, \mathrm{SE}, \qquad m_0 \le \ln(2/\delta) / g, \qquad
              m_0 \ge 1 - 2 \ln(2/\delta) / g

    over g independent draws or sequences.

    Args:
        records: The set a student was built from.
        confidence: In (0, 1).
        groups: Number of each record's sequence, from 0 without gaps; None where all draws are
            independent. Then the mass is that of a fresh sequence.

    Returns:
        The missing mass [fraction], its interval approximate, "unresolved" for one sequence; None
        without a record.

    Raises:
        DataError: If the records stand for more draws than can be counted.

    Example:
        Three of eight draws met an input once.

        >>> row = np.log([0.5, 0.5])
        >>> seen = [TeacherRecord(one, 0, row=row) for one in (1, 2, 3, 4, 4, 4, 4, 4)]
        >>> missing_mass_of(seen, confidence=0.95).value
        0.375

    Source:
        Good (1953); Esty (1983), Ann. Stat. 11, 905-912; sequences and the sharper form derived.
    """
    if not records:
        return None
    tail = checked_tail("missing_mass_of", confidence, "two-sided")
    draws = total_draws("missing_mass_of", records)
    whole = all(record.row is not None for record in records)
    sharper = not whole and all(record.log_probability is not None for record in records)
    named = {value: place for place, value in enumerate(dict.fromkeys(r.input for r in records))}
    logs = [record.log_probability or 0.0 for record in records]
    mass = mass_by_unit(
        np.array([named[record.input] for record in records]),
        np.array([0 if whole else record.label for record in records]),
        np.array([record.count for record in records]),
        units=groups,
        probabilities=np.exp(np.maximum(logs, SMALLEST)) if sharper else None,
    )
    lower, upper = _ends(mass, tail)
    what = "inputs" if whole else "pairs of input and label"
    method = "Rao-Blackwellised Good-Turing" if sharper else "Good-Turing"
    return Estimate(
        mass.value,
        lower,
        upper,
        n=draws,
        unit="fraction",
        status="resolved" if math.isfinite(mass.error) else "unresolved",
        settings={
            "meaning": f"probability of {what} never met",
            "method": f"{method} over {'inputs' if whole else 'pairs'}"
            + ("" if groups is None else ", by sequence"),
            "interval": "normal",
            "kind": "approximate",
            "confidence": confidence,
            "standard_error": mass.error,
            "units": mass.units,
        },
    )


def _ends(mass: UnitMass, tail: float) -> tuple[float, float]:
    if not math.isfinite(mass.error):
        return 0.0, 1.0
    one, log = 1 / mass.units, math.log(1 / tail)
    t = float(stats.t.isf(tail, max(mass.units - 1, 1.0)))
    middle, reach = mass.step * t * t / 2, t * math.hypot(mass.error, mass.step * t / 2)
    lower = mass.value + min(-t * mass.error, middle - reach)
    upper = mass.value + max(t * mass.error, middle + reach)
    lower, upper = min(lower, 1 - 2 * log * one), max(upper, log * one)
    return min(max(lower, 0.0), mass.value), max(min(upper, 1.0), mass.value)
