"""Errors that a pilot measured at a few sizes: a table in a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from limbeck.checks import DataError, check_choice
from limbeck.teacher_record import PRIVILEGES, Privilege


COLUMNS = ("privilege", "queries", "error")
Measured = dict[Privilege, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]


def read_errors(path: Path | str) -> Measured:
    r"""Read measured errors: a CSV file with the columns privilege, queries and error.

    One line a measurement; repeats of a size are further lines. Errors are total variations on
    held-out inputs, in [0, 1]. Other columns are ignored.

    Args:
        path: The file, with a line of names first.

    Returns:
        Sizes and errors by privilege, in the order of the file.

    Raises:
        DataError: If the file cannot be read, or a line is faulty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "errors.csv"
        ...     _ = file.write_text("privilege,queries,error\nhard_labels,100,0.25\n")
        ...     read_errors(file)["hard_labels"][1].tolist()
        [0.25]

    Source:
        Limbeck's own.
    """
    where = "read_errors"
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(line for line in file if not line.startswith("#"))
            names = [name.strip() for name in reader.fieldnames or []]
            if missing := [name for name in COLUMNS if name not in names]:
                raise DataError(
                    f"{where}: expected the columns {', '.join(COLUMNS)} in {path}; got "
                    f"{', '.join(names) or 'an empty file'}. Add {', '.join(missing)}."
                )
            reader.fieldnames = names
            lines = [(place, dict(line)) for place, line in enumerate(reader, 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(
            f"{where}: expected a CSV file at {path}; got {type(problem).__name__}. Check the path."
        ) from problem
    return measured(where, (_parsed(where, place, line) for place, line in lines))


def measured(where: str, rows: Iterable[tuple[Privilege, float, float]]) -> Measured:
    """Gather (privilege, queries, error) by privilege; raise DataError where there is none."""
    found: dict[Privilege, list[tuple[float, float]]] = {}
    for privilege, queries, error in rows:
        found.setdefault(privilege, []).append((queries, error))
    if not found:
        raise DataError(f"{where}: expected measured errors; got none. Give a few at 3 or 4 sizes.")
    return {
        privilege: (np.array([n for n, _ in pairs]), np.array([r for _, r in pairs]))
        for privilege, pairs in found.items()
    }


def as_errors(where: str, given: Mapping[str, object]) -> Measured:
    """Return errors by privilege from a mapping to (sizes, errors).

    Raises:
        ArgumentError: If a key is no privilege.
        DataError: If a value is no pair of equally long lists of numbers.
    """
    found: Measured = {}
    for name, pair in given.items():
        check_choice(where, "pilot", name, PRIVILEGES)
        try:
            sizes, errors = pair  # type: ignore[misc]
            arrays = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
        except (TypeError, ValueError) as problem:
            raise DataError(
                f"{where}: expected (sizes, errors) for {name}; got {pair!r}. Give two lists "
                "of numbers."
            ) from problem
        found[PRIVILEGES[PRIVILEGES.index(name)]] = arrays
    if not found:
        raise DataError(f"{where}: expected measured errors; got none. Name a privilege.")
    return found


def _parsed(
    where: str, place: int, line: Mapping[str, str | None]
) -> tuple[Privilege, float, float]:
    values = [(line[name] or "").strip() for name in COLUMNS]
    try:
        privilege = PRIVILEGES[PRIVILEGES.index(values[0])]
        queries, error = float(values[1]), float(values[2])
        if not (1 <= queries < float("inf") and 0 <= error <= 1):
            raise ValueError(values)
    except ValueError as problem:
        raise DataError(
            f"{where}: expected one of {', '.join(PRIVILEGES)}, queries >= 1 and an error in "
            f"[0, 1] in measurement {place}; got {', '.join(values)}. Correct the line."
        ) from problem
    return privilege, queries, error
