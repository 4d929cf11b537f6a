"""Whether there is something to distil: by the networks' own scores, with bits to explain."""

from __future__ import annotations

from limbeck.estimates import Estimate
from limbeck.information.pid_estimate import NEGLIGIBLE, VERDICTS, PIDEstimate


#: What follows where both networks' own scores are compared. Of the 108 cells behind
#: limbeck.forecast they order KD's gains better than bits do (docs/results/forecast.md).
BY_SCORES = {
    "distil": "the teacher's own scores are better than the student's on these rows",
    "do not distil": "the student's own scores are better than the teacher's on these rows",
    "done": "the student's own scores are as good, and it knows what the teacher knows",
    "nothing to distil": "neither network's scores are better, and they share little",
    "cannot tell": "it is open whose own scores are better at this number of rows",
}
_EQUAL = (
    "neither network's own scores are better, but the teacher knows bits that the student lacks"
)


def verdict_of(estimate: PIDEstimate, gap: Estimate | None) -> str:
    """Return what to do, in words that :func:`reason_of` explains.

    What orders the gains of distillation best decides, which is the gap of the networks' own
    cross-entropies; bits decide where there are no such scores, or the gap is nothing. What lies
    below 2 % of the targets' entropy counts as nothing.

    Args:
        estimate: The decomposition [bits].
        gap: The student's cross-entropy less the teacher's, with its interval [bits].
    """
    return _judged(estimate, gap)[0]


def reason_of(estimate: PIDEstimate, gap: Estimate | None) -> str:
    """Return why, in one line."""
    return _judged(estimate, gap)[1]


def _judged(estimate: PIDEstimate, gap: Estimate | None) -> tuple[str, str]:
    word = estimate.verdict
    if gap is None or estimate.target_entropy is None:
        return word, VERDICTS[word]
    little = NEGLIGIBLE * estimate.target_entropy
    if gap.lower > little:
        word = "distil"
    elif gap.upper < -little:
        word = "do not distil"
    elif gap.lower < -little or gap.upper > little:
        word = "cannot tell"
    elif word in ("distil", "cannot tell"):
        return "cannot tell", _EQUAL if word == "distil" else VERDICTS[word]
    return word, BY_SCORES[word]
