"""Rows of a source with their numbers: JSON lines, parquet, or anything that gives dicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.checks import DataError
from limbeck.record_lines import decoded
from limbeck.records import Problem, lines_in
from limbeck.teacher_record import RecordError, shown


Row = tuple[int, Mapping[str, Any] | Problem]


def rows_of(source: Path | str | Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield (number from 1, row); a row that is none comes as a problem.

    Args:
        source: The path of JSON lines (``.gz`` is unpacked), of a ``.parquet`` file or of a folder
            of them; or dicts, such as a data set of ``datasets`` gives.

    Raises:
        DataError: If there is no such file, it cannot be read, or ``source`` is something else.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _folder(path)
        return _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise DataError(
            f"import_records: expected a path, or dicts one by one; got {shown(source)}. Put a "
            "single answer into a list."
        )
    return (
        (line, row if isinstance(row, Mapping) else _no_row(line, row))
        for line, row in enumerate(source, 1)
    )


def _no_row(line: int, row: object) -> Problem:
    return Problem(line, "not_object", f"expected a dict; got {shown(row)}.")


def _json_lines(path: Path) -> Iterator[Row]:
    for line, raw in lines_in(path):
        if isinstance(raw, Problem):
            yield line, raw
            continue
        raw = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
        if raw.strip():
            try:
                yield line, decoded(raw)
            except RecordError as problem:
                yield line, Problem(line, problem.kind, str(problem))


def _folder(path: Path) -> Iterator[Row]:
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise DataError(
            f"{path}: expected a file, or a folder of .parquet files; got a folder without any."
        )
    number = itertools.count(1)
    return ((next(number), row) for file in files for _, row in _parquet(file))


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(
            f"{path}: expected pyarrow, to read parquet; it isn't installed. Run pip install "
            "pyarrow, or save the data set as JSON lines."
        ) from None
    try:
        opened = parquet.ParquetFile(path)
        number = itertools.count(1)
        for batch in opened.iter_batches(batch_size=64):
            yield from ((next(number), row) for row in batch.to_pylist())
    except (OSError, ArrowException) as problem:
        raise DataError(f"{path}: expected a parquet file; got: {problem}") from None
