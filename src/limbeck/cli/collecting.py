"""What ``limbeck collect``, ``probe`` and ``import`` do: ask or read, write, print."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.progress import Progress

from limbeck.asking.collecting import collect
from limbeck.asking.columns import Columns
from limbeck.asking.importing import import_records
from limbeck.asking.keys import Key
from limbeck.asking.probing import probe
from limbeck.checks import ArgumentError, check_choice
from limbeck.cli import show
from limbeck.records import Problem, write_records


SHOWN = 20  # problems in full; all are in the JSON


def run_collect(
    prompts: Path,
    out: Path,
    settings: Mapping[str, Any],
    *,
    extra: str | None,
    key_name: str,
    as_json: bool,
) -> bool:
    """Collect, print, and return whether every question has its answer."""
    with Progress(console=show.console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("answers", total=None)
        found = collect(
            prompts,
            out,
            **settings,
            extra=_object(extra),
            api_key=_key(key_name, settings["base_url"]),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        show.say_json(found.to_dict())
        return found.complete
    show.pairs(
        f"{found.records}, from {found.address}",
        {
            "draws wanted": found.questions,
            "asked now": found.asked,
            "there before": found.kept,
            "without an answer": found.questions - found.asked - found.kept,
            **found.privileges,
        },
    )
    _say_problems(found.problems, "prompt")
    return found.complete


def run_import(
    source: Path,
    out: Path,
    settings: Mapping[str, Any],
    columns: str | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Import, write and print."""
    if out.exists() and not overwrite:
        raise ArgumentError(
            f"import: expected `--out` as a new file; got {out}, which is there. Add --overwrite."
        )
    read = import_records(
        source, **settings, columns=None if columns is None else _columns(columns)
    ).needed(f"import {source}")
    write_records(out, read)
    privileges = Counter(record.privilege for record in read)
    told = {
        "records": len(read),
        **privileges,
        "censored": sum(record.censored for record in read),
        "sequences": len({record.sequence for record in read} - {None}),
        "lines left out": sum(read.left_out.values()),
    }
    if as_json:
        show.say_json({"out": str(out), **told, "problems": [vars(one) for one in read.problems]})
        return
    show.pairs(str(out), told)
    _say_problems(read.problems, "line")


def run_probe(
    model: str, settings: Mapping[str, Any], *, extra: str | None, key_name: str, as_json: bool
) -> None:
    """Probe and print."""
    key = _key(key_name, settings["base_url"])
    found = probe(model, **settings, extra=_object(extra), api_key=key)
    if as_json:
        show.say_json(found.to_dict())
        return
    show.table(f"{found.address}, {found.form}: {found.requests} requests", ("", ""), found.rows())
    for remark in found.remarks():
        show.say(remark)


def _key(name: str, base_url: str | None) -> Key | None:
    """Return the key that an environment variable holds; one that was named must be there."""
    value = os.environ.get(name)
    if value is None and name != "OPENAI_API_KEY":
        raise ArgumentError(
            f"{base_url or 'endpoint'}: expected a key in the environment variable {name}; it is "
            "not set."
        )
    return None if value is None else Key(value)


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        made = json.loads(text)
    except ValueError as problem:
        raise ArgumentError(f"--extra: expected JSON; got {text!r} ({problem}).") from None
    if not isinstance(made, dict):
        raise ArgumentError(f"--extra: expected a JSON object; got {text!r}.")
    return made


def _columns(text: str) -> Columns:
    """Read ``key=column,...``."""
    known = [one.name for one in fields(Columns)]
    given: dict[str, Any] = {}
    for part in text.split(","):
        key, found, name = part.strip().partition("=")
        if not found or not name:
            raise ArgumentError(
                f"--columns: expected KEY=COLUMN,...; got {part!r}. Keys are {', '.join(known)}."
            )
        check_choice("--columns", "key", key, known)
        given[key] = name
    return Columns(**given)


def _say_problems(problems: list[Problem], place: str) -> None:
    show.warnings(_told(problems, place))


def _told(problems: list[Problem], place: str) -> Iterator[str]:
    for problem in problems[:SHOWN]:
        where = f"{place} {problem.line}: " if problem.line else ""
        rest = f" ({problem.lines} {place}s)" if problem.lines > 1 else ""
        yield f"{where}{problem.kind}: {problem.text}{rest}"
    if len(problems) > SHOWN:
        kinds = Counter(problem.kind for problem in problems)
        yield f"{len(problems)} problems in all: {dict(kinds)}; --json has them in full."
