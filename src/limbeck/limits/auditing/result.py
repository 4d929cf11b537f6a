"""What an audit of a distillation set found."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.estimates import Estimate
from limbeck.files import write_text
from limbeck.records import Privilege


Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")
FILE_NAME = "audit.json"
SHOWN_LINES = 10
UNIT = "total variation"


@dataclass(frozen=True)
class Finding:
    """One thing that is the matter with a set.

    Attributes:
        name: Short name; docs/records.md explains each.
        severity: "serious" (what is learned is not the teacher), "warning" (something is lost or
            cannot be told), "note" (nothing is wrong; good to know).
        records: How many records have it.
        text: What was seen, with numbers.
        bias: What it costs on this set as a total variation, where that can be said; in another
            unit it is the size of the fault.
        action: What to do.
        lines: The first lines that have it; places in the list, from 1, where no file was read.
    """

    name: str
    severity: Severity
    records: int
    text: str
    bias: Estimate | None
    action: str
    lines: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "name": self.name,
            "severity": self.severity,
            "records": self.records,
            "text": self.text,
            "bias": None if self.bias is None else self.bias.to_dict(),
            "action": self.action,
            "lines": list(self.lines),
        }

    def __str__(self) -> str:
        """Return a paragraph: what, how many, how much, what to do."""
        parts = [f"{self.severity}: {self.name} ({self.records} records). {self.text}"]
        if self.bias is not None:
            name = "Bias" if self.bias.unit == UNIT else "Size"
            parts.append(f"{name}: {self.bias} (n = {self.bias.n}).")
        parts.append(self.action)
        if self.lines:
            more = ", ..." * (len(self.lines) == SHOWN_LINES)
            parts.append(f"Lines {', '.join(map(str, self.lines))}{more}.")
        return textwrap.fill(" ".join(parts), 100, subsequent_indent="  ")


@dataclass(frozen=True)
class Audit:
    """A distillation set's faults by name, and the bias that each implies on this set.

    Attributes:
        records: How many records were looked at.
        draws: How many draws they stand for.
        inputs: Different inputs.
        pairs: Different pairs of an input and a label.
        labels: Number of labels where it is known; None otherwise.
        privileges: Records by what the teacher gave.
        findings: The worst first.
        not_testable: What this set cannot show, and why.
        settings: Of the audit.
    """

    records: int
    draws: int
    inputs: int
    pairs: int
    labels: int | None
    privileges: Mapping[str, int]
    findings: tuple[Finding, ...]
    not_testable: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether there is no serious finding."""
        return not any(finding.severity == "serious" for finding in self.findings)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are more than notes."""
        return tuple(finding for finding in self.findings if finding.severity != "note")

    @property
    def privilege(self) -> Privilege:
        """What a learner may count on: the least that all records give."""
        order: tuple[Privilege, ...] = ("hard_labels", "sampled_probabilities", "soft_labels")
        return next(name for name in order if self.privileges.get(name))

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        """Whether there is a finding of this name."""
        return any(finding.name == name for finding in self.findings)

    def __str__(self) -> str:
        """Return the sizes, every finding, and what could not be tested."""
        labels = "an unknown number of" if self.labels is None else self.labels
        sizes = (
            f"{self.records} records, {self.draws} draws, {self.inputs} inputs, "
            f"{self.pairs} pairs, {labels} labels; privilege: {self.privilege}"
        )
        lines = [
            sizes,
            *(str(finding) for finding in self.findings if finding.severity != "note"),
        ]
        if not self.faults:
            lines.append("No fault found.")
        lines += [str(finding) for finding in self.findings if finding.severity == "note"]
        lines += [
            textwrap.fill(f"Not testable here: {text}", 100, subsequent_indent="  ")
            for text in self.not_testable
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {
            "records": self.records,
            "draws": self.draws,
            "inputs": self.inputs,
            "pairs": self.pairs,
            "labels": self.labels,
            "privilege": self.privilege,
            "privileges": dict(self.privileges),
            "passed": self.passed,
            "findings": [finding.to_dict() for finding in self.findings],
            "not_testable": list(self.not_testable),
            "settings": dict(self.settings),
        }

    def save(self, folder: Path | str) -> Path:
        """Write ``audit.json`` into ``folder``, whole or not at all, and return its path."""
        path = Path(folder) / FILE_NAME
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return path
