"""What ``limbeck audit`` does: audit, print, write."""

from __future__ import annotations

from pathlib import Path

from limbeck.checks import DataError
from limbeck.cli import show
from limbeck.cli.records_given import records_given
from limbeck.files import check_writable
from limbeck.limits.auditing.audit import audit
from limbeck.limits.auditing.result import Audit


def run_audit(
    records: Path, labels: int | None, confidence: float, out: Path | None, *, as_json: bool
) -> bool:
    """Audit a file, print what was found, and return whether nothing is serious."""
    if out is not None:
        check_writable(out)
    try:
        found = audit(records_given(records), labels=labels, confidence=confidence)
    except DataError as problem:
        if str(records) in str(problem):
            raise
        raise DataError(f"{records}: {problem}") from None
    if as_json:
        show.say_json(found.to_dict())
    else:
        _print(found)
    if out is not None:
        show.say(str(found.save(out)), stderr=as_json)
    return found.passed


def _print(found: Audit) -> None:
    """Print sizes, a table of all findings, then each with what to do."""
    head, *rest = str(found).splitlines()
    show.say(head)
    if found.findings:
        rows = [
            (
                finding.name,
                finding.severity,
                finding.records,
                "" if finding.bias is None else str(finding.bias),
            )
            for finding in found.findings
        ]
        show.table("", ("", "", "records", "bias"), rows)
    show.say("\n".join(rest))
