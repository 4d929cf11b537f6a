"""From the arguments of ``limbeck plan`` to a plan, printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from limbeck.checks import ArgumentError, DataError
from limbeck.cli import show
from limbeck.limits.planning import text as plan_text
from limbeck.limits.planning.plan import plan
from limbeck.limits.planning.result import Plan


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line.

    Attributes:
        prices: "privilege=price" each.
        record_bytes: "privilege=bytes" each.
        law: An .npz file, or None.
        exponent: As it was written, or None.
        options: Further arguments of ``limbeck.plan``.
    """

    prices: list[str]
    record_bytes: list[str]
    law: Path | None
    exponent: str | None
    options: Mapping[str, Any]


def run_plan(wanted: Wanted, *, as_json: bool) -> None:
    """Plan and print.

    Raises:
        LimbeckError: If something asked for is wrong.
    """
    made = plan(
        **wanted.options,
        prices=numbers_by_name("--price", wanted.prices),
        record_bytes=numbers_by_name("--record-bytes", wanted.record_bytes),
        law=None if wanted.law is None else read_law(wanted.law),
        exponent=exponent_of(wanted.exponent),
    )
    if as_json:
        show.say_json(made.to_dict())
    else:
        print_plan(made)


def print_plan(made: Plan) -> None:
    """Print the table, then prices, what the numbers rest on, and notes."""
    show.table(plan_text.title(made), plan_text.COLUMNS, plan_text.rows(made))
    for line in plan_text.lines(made):
        show.say(line)


def numbers_by_name(option: str, texts: Iterable[str]) -> dict[str, float] | None:
    """Return {"hard_labels": 1.0} for "hard_labels=1"; None where nothing was given.

    Raises:
        ArgumentError: If a text has no such form, or a name comes twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            equals = ""
            number = 0.0
        if not equals or name in found:
            raise ArgumentError(
                f"{option}: expected PRIVILEGE=NUMBER, each once; got {text!r}. Write "
                f"{option} hard_labels=1."
            )
        found[name] = number
    return found or None


def exponent_of(text: str | None) -> Any:
    """Return a number where the text is one, else the text."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def read_law(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the input law and the rows that an .npz file holds.

    Raises:
        DataError: If the file cannot be read, or lacks one of the two.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["input_law"], float), np.asarray(file["rows"], float)
    except (OSError, ValueError, KeyError, BadZipFile, AttributeError, TypeError) as problem:
        raise DataError(
            f"--law: expected an .npz file with input_law [S] and rows [S, A]; got {path}, which "
            f"has none ({type(problem).__name__}). Save it by numpy.savez."
        ) from problem
