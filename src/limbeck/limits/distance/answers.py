"""What a set of teacher answers leaves open at an input: the probability of labels never seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from limbeck.checks import DataError
from limbeck.estimates import Estimate
from limbeck.limits.distance.intervals import checked_tail
from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.missing_mass import good_turing, pair_good_turing
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


def missing_mass_of(records: Sequence[TeacherRecord], *, confidence: float) -> Estimate | None:
    r"""Estimate how much of the teacher a set of records has not met, from the set alone.

    .. math:: \mathrm{SE}^2 = (N_1 (1 - N_1 / n) + 2 N_2) / n^2

    Inputs are counted where every record has its whole row, pairs of input and label otherwise, by
    the sharper form where every pair has a probability; the error is that of the plain form.

    Args:
        records: The set a student was built from.
        confidence: In (0, 1).

    Returns:
        The missing mass [fraction], its interval approximate; None without a record.

    Example:
        Three of eight draws met an input once.

        >>> row = np.log([0.5, 0.5])
        >>> seen = [TeacherRecord(one, 0, row=row) for one in (1, 2, 3, 4, 4, 4, 4, 4)]
        >>> missing_mass_of(seen, confidence=0.95).value
        0.375

    Source:
        Good (1953); Esty (1983), Ann. Stat. 11, 905-912, for the error; the sharper form derived.
    """
    if not records:
        return None
    whole = all(record.row is not None for record in records)
    named = {value: place for place, value in enumerate(dict.fromkeys(r.input for r in records))}
    drawn: Counter[tuple[int, int]] = Counter()
    for record in records:
        drawn[named[record.input], 0 if whole else record.label] += record.count
    counts = np.array(list(drawn.values()))
    n, once, twice = int(counts.sum()), int((counts == 1).sum()), int((counts == 2).sum())
    sharper = not whole and all(record.log_probability is not None for record in records)
    value = good_turing(counts)
    if sharper:
        table = PairCounts(max(record.label for record in records) + 1)
        table.add(
            [named[record.input] for record in records],
            [record.label for record in records],
            log_probabilities=[float(record.log_probability or 0.0) for record in records],
            counts=[record.count for record in records],
        )
        value = pair_good_turing(table)
    tail = checked_tail("missing_mass_of", confidence, "two-sided")
    error = math.sqrt(once * (1 - once / n) + 2 * twice) / n
    half = float(stats.norm.isf(tail)) * error
    unseen = math.log(1 / tail) / n  # what may be missing though nothing is rare in the set
    return Estimate(
        value,
        max(0.0, value - half),
        min(1.0, max(value + half, unseen)),
        n=n,
        unit="fraction",
        status="resolved",
        settings={
            "meaning": "probability of inputs never met"
            if whole
            else "probability of pairs of input and label never met",
            "method": "Good-Turing over inputs"
            if whole
            else "Rao-Blackwellised Good-Turing over pairs"
            if sharper
            else "Good-Turing over pairs",
            "interval": "normal",
            "kind": "approximate",
            "confidence": confidence,
            "standard_error": error,
        },
    )
