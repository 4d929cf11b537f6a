"""The result of estimating a decomposition from samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.estimates import Estimate


WORDS = {
    "unique_teacher": "distillable (unique to the teacher)",
    "redundant": "distilled (known to both)",
    "unique_student": "unique to the student",
    "synergistic": "synergistic",
}
INFORMATIONS = {
    "mutual_teacher": "the teacher knows, I(Y;T)",
    "mutual_student": "the student knows, I(Y;S)",
    "mutual_joint": "both together, I(Y;T,S)",
}
VERDICTS = {
    "nothing to distil": "the teacher knows nothing that the student lacks, and the student little",
    "distil": "the teacher knows what the student lacks",
    "done": "the student knows what the teacher knows",
    "cannot tell": "the interval is too wide at this number of samples",
}
NEGLIGIBLE = 0.02  # of the targets' entropy


@dataclass(frozen=True, eq=False)
class PIDEstimate:
    r"""How teacher and student share what they know about the targets, from samples; in bits.

    Attributes:
        unique_teacher: Uni(Y:T\S), distillable: what only the teacher knows.
        unique_student: Uni(Y:S\T): what only the student knows.
        redundant: Red(Y:T,S), distilled: what both know.
        synergistic: Syn(Y:T,S): what neither knows alone, and both know together.
        mutual_teacher: I(Y;T).
        mutual_student: I(Y;S).
        mutual_joint: I(Y;T,S).
        target_entropy: H(Y), the most that can be known; None for regression.
        null: 95 % quantile of each atom where targets are shuffled; empty where it has no meaning.
        rivals: Cheap figures that are used in place of these: ``cross_entropy_difference`` of
            teacher and student [bits], ``accuracy_difference``, ``agreement``, ``cka``.
        probe_shortfall: By how many bits the classifiers are estimated to know less than the
            representation, by side; the estimates have it added, the intervals are wider by it.
        kept: For symbols: the share of the classifiers' information that they keep, by side.
        warnings: What to mind, each a sentence that names the atom and what to do.
        settings: How it was made.
        hull_gap: By how much the union information may exceed the hull's bound on it [bits], from
            the exact solution for the posteriors of 150 held-out rows; intervals of unique atoms
            reach up by it, those of redundant and synergistic ones down. None: another method, or
            more than 100 classes.
    """

    unique_teacher: Estimate
    unique_student: Estimate
    redundant: Estimate
    synergistic: Estimate
    mutual_teacher: Estimate
    mutual_student: Estimate
    mutual_joint: Estimate
    target_entropy: float | None
    null: Mapping[str, float]
    rivals: Mapping[str, float]
    probe_shortfall: Mapping[str, float]
    kept: Mapping[str, float]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    hull_gap: float | None = None

    @property
    def distillable(self) -> Estimate:
        """What is left to distil: ``unique_teacher``."""
        return self.unique_teacher

    @property
    def distilled(self) -> Estimate:
        """What was transferred: ``redundant``."""
        return self.redundant

    @property
    def verdict(self) -> str:
        """One of "distil", "done", "nothing to distil", "cannot tell".

        What lies below 2 % of the targets' entropy counts as nothing; for regression, of what
        both together know.
        """
        most = self.mutual_joint.value if self.target_entropy is None else self.target_entropy
        little = NEGLIGIBLE * most
        left, shared = self.unique_teacher, self.redundant
        if left.status == "unresolved":
            return "cannot tell"
        if left.lower > little:
            return "distil"
        if left.upper > little and left.upper > 0.1 * self.mutual_teacher.value:
            return "cannot tell"
        return "done" if shared.lower > little else "nothing to distil"

    def __str__(self) -> str:
        """Return one line an atom with its interval, then the informations and the verdict."""
        lines = [*self.lines(), f"{self.verdict}: {VERDICTS[self.verdict]}"]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def lines(self) -> list[str]:
        """Return one line an atom with its interval, then the informations."""
        words = {**WORDS, **INFORMATIONS}
        return [f"{text:38}{getattr(self, name)}" for name, text in words.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            **{name: getattr(self, name).to_dict() for name in (*WORDS, *INFORMATIONS)},
            "target_entropy": self.target_entropy,
            "unit": "bits",
            "null": dict(self.null),
            "rivals": dict(self.rivals),
            "probe_shortfall": dict(self.probe_shortfall),
            "kept": dict(self.kept),
            "hull_gap": self.hull_gap,
            "verdict": self.verdict,
            "warnings": list(self.warnings),
            "settings": dict(self.settings),
        }
