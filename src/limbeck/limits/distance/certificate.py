"""A certificate: how far a student is from its teacher, with intervals and what they rest on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError, nearest
from limbeck.estimates import Estimate
from limbeck.files import write_text


FILE_NAME = "certificate.json"
LABELS = {
    "total_variation": "total variation",
    "agreement": "agreement, 1 - TV",
    "total_variation_per_group": "total variation, mean over {unit}s",
    "response_total_variation": "total variation of whole responses",
    "kl": "KL(teacher, student)",
    "kl_k3": "KL by k3",
    "kl_k1": "KL by k1",
    "response_kl": "KL of whole responses",
    "missing_mass": "missing mass of the set it was built from",
    "residual": "residual of a table of that set",
    "residual_deployment": "the same on the deployment inputs",
    "shift": "unknown at deployment, beyond that",
}
ACCEPTANCE = "acceptance rate as a draft, 1 - TV"
SCOPE = (
    "the teacher is taken for the truth; {unit}s are taken as independent and from one law; other "
    "inputs are not covered; each interval holds alone"
)


@dataclass(frozen=True, eq=False)
class Certificate:
    """How far a student's probabilities are from a teacher's, measured on held-out records.

    Attributes:
        student: Its name.
        privilege: "soft_labels" where every record has its whole row, else
            "sampled_probabilities".
        records: Records used, equal ones counted.
        units: Independent units among them.
        unit: "record", "sequence" or "input".
        estimates: By name: ``total_variation`` and ``agreement`` (1 - TV) [fraction], and where
            they can be had ``kl``, ``kl_k3``, ``kl_k1`` [nats], those of whole responses, and those
            that need no teacher.
        left_out: How many records were left out, by reason.
        warnings: What to mind.
        settings: How it was made.
    """

    student: str
    privilege: str
    records: int
    units: int
    unit: str
    estimates: Mapping[str, Estimate]
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Estimate:
        """Return an estimate by name.

        Raises:
            ArgumentError: If there is none of that name here.
        """
        if name not in self.estimates:
            raise ArgumentError(
                f"Certificate: expected one of {', '.join(self.estimates)}; got {name!r}."
                f"{nearest(name, self.estimates)}"
            )
        return self.estimates[name]

    @property
    def total_variation(self) -> Estimate:
        """Mean total variation between student and teacher [fraction], with a guarantee."""
        return self.estimates["total_variation"]

    @property
    def agreement(self) -> Estimate:
        """1 - TV [fraction]: how often the student's draw is accepted in speculative decoding."""
        return self.estimates["agreement"]

    @property
    def kl(self) -> Estimate | None:
        """Forward KL divergence [nats], approximate; None where numbers are censored."""
        return self.estimates.get("kl")

    @property
    def at_most(self) -> float | None:
        """One-sided upper bound of the total variation [fraction], at the same confidence."""
        return self.total_variation.settings.get("at_most")

    @property
    def scope(self) -> str:
        """What all of it rests on."""
        return SCOPE.format(unit=self.unit)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, estimate and kind of every estimate, for tables."""
        return [
            (self._label(name), str(found), _kind(found)) for name, found in self.estimates.items()
        ]

    def notes(self) -> list[str]:
        """Return what stands below the table: bounds, what was left out, the scope."""
        percent = f"{self.settings.get('confidence', 0.95):.4g}"
        lines = []
        if self.at_most is not None:
            lines.append(f"total variation at most {self.at_most:.3f} (one-sided, {percent})")
        least = self.total_variation.settings.get("kl_at_least", 0.0)
        if least > 0:
            lines.append(f"KL at least {least:.3g} nats (a guarantee, from the total variation)")
        lines += [f"left out: {count} {reason}" for reason, count in self.left_out.items()]
        return [*lines, f"scope: {self.scope}"]

    @property
    def title(self) -> str:
        """Student, records, units and privilege in one line."""
        units = f", {self.units} {self.unit}s" if self.unit != "record" else ""
        return f"{self.student}: {self.records} records{units}, {self.privilege}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; what is not finite becomes None."""
        return plain(
            {
                "format": 1,
                "kind": "certificate",
                "student": self.student,
                "privilege": self.privilege,
                "records": self.records,
                "units": self.units,
                "unit": self.unit,
                "estimates": {name: found.to_dict() for name, found in self.estimates.items()},
                "left_out": dict(self.left_out),
                "warnings": list(self.warnings),
                "scope": self.scope,
                "settings": dict(self.settings),
            }
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``certificate.json``; the file is whole or absent.

        Args:
            folder: Made if absent; an earlier certificate in it is replaced.

        Returns:
            The folder.

        Raises:
            StorageError: If it cannot be written.
        """
        folder = Path(folder)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        write_text(folder / FILE_NAME, f"{text}\n")
        return folder

    def __str__(self) -> str:
        """Return the estimates line by line, then bounds, what was left out and the warnings."""
        width = max(len(self._label(name)) for name in self.estimates) + 2
        table = [f"{name:{width}}{found}  {kind}".rstrip() for name, found, kind in self.rows()]
        warned = [f"warning: {text}" for text in self.warnings]
        return "\n".join([self.title, *table, *self.notes(), *warned])

    def _label(self, name: str) -> str:
        if name == "agreement" and self.settings.get("tokens"):
            return ACCEPTANCE
        return LABELS.get(name, name).format(unit=self.unit)


def _kind(found: Estimate) -> str:
    return str(found.settings.get("kind", ""))


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
