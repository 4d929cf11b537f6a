"""Running the cases of a laboratory: printed, written, and an exit code that tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer


if TYPE_CHECKING:
    from limbeck.lab_result import LabResult, LabSettings

RECORD = "lab.json"


def run(
    cases: Mapping[str, Callable[[LabSettings], LabResult]],
    settings: LabSettings,
    head: Mapping[str, Any],
    *,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run cases one after the other, print each, write the record, end with 1 on a failure.

    Args:
        cases: By name, in order.
        settings: Of all cases.
        head: What the record begins with; ``lab`` names the laboratory.
        out: Folder for the record and the figures, or None.
        as_json: Print the record alone.

    Raises:
        typer.Exit: With 1 if a check failed or there were none.
    """
    from limbeck.cli import show
    from limbeck.files import check_writable

    if out is not None:
        check_writable(out)
    results = []
    for case in cases.values():
        found = case(settings)
        if not as_json:
            _print(found)
        results.append(found)
    record = {
        **head,
        "passed": all(found.passed for found in results),
        "results": [found.to_dict() for found in results],
    }
    if as_json:
        show.say_json(record)
    if out is not None:
        written = _write(out, record)
        show.say(f"{out}: {', '.join(written)}", stderr=as_json)
    _leave(head["lab"], results)


def _print(found: LabResult) -> None:
    from limbeck.cli import show

    bound = {"at_most": "<= ", "at_least": ">= "}
    rows = []
    for check in found.checks:
        share = check.kind == "relative"
        within = f"{100 * check.tolerance:.3g} %" if share else f"{check.tolerance:.3g}"
        rows.append(
            (
                check.name,
                f"{check.measured:.6g}",
                f"{bound.get(check.kind, '')}{check.predicted:.6g}",
                within,
                "passed" if check.passed else "FAILED",
            )
        )
    columns = ("", "measured", "predicted", "within", "")
    show.table(f"{found.case}, seed {found.settings['seed']}", columns, rows)
    for remark in found.remarks:
        show.say(remark)
    show.say(f"{found.seconds:.1f} s")


def _write(out: Path, record: dict[str, Any]) -> list[str]:
    """Write figures, then the record, each whole or not at all."""
    import json

    from limbeck.files import write_text
    from limbeck.report.lab import lab_svg

    names = []
    for one in record["results"]:
        name = f"{one['case']}.svg"
        write_text(out / name, lab_svg(one))
        names.append(name)
    write_text(out / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return [RECORD, *names]


def _leave(lab: str, results: list[LabResult]) -> None:
    """End with 1 and a line that says what failed."""
    from limbeck.cli import show

    failed = [(found, check) for found in results for check in found.failures]
    if failed or not all(found.passed for found in results):
        said = [
            f"{found.case}, {check.name}: measured {check.measured:.6g}, predicted "
            f"{check.predicted:.6g}"
            for found, check in failed
        ]
        said += [f"{found.case}: no checks" for found in results if not found.checks]
        count = f"{len(said)} check{'s' if len(said) > 1 else ''} failed"
        show.say(f"lab {lab}: {count}: {'; '.join(said)}", stderr=True)
        raise typer.Exit(1)
