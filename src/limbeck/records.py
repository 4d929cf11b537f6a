"""Teacher records: what a teacher answered, one JSON object a line, read without ever crashing."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from limbeck.checks import ArgumentError, DataError
from limbeck.files import atomic
from limbeck.record_lines import (
    KEYS,
    TOLERANCE,
    check_sums,
    decoded,
    encoded,
    record_from,
    two_laws,
)
from limbeck.teacher_record import (
    PRIVILEGES as PRIVILEGES,
    Input as Input,
    Privilege as Privilege,
    RecordError as RecordError,
    TeacherRecord as TeacherRecord,
    shown,
)


LONGEST = 64 * 2**20  # bytes of a line: a row of 128,000 labels takes about 3 MB
NOTES = {
    "sentinel": "placeholders such as -9999 stand for log-probabilities that the teacher keeps to "
    "itself; these records count as text only",
    "two_laws": "the label's log-probability is another one than its row or `top` says; one of "
    "them is of the law before temperature, filters or renormalisation",
    "unknown_key": "keys that limbeck does not know are ignored",
}


@runtime_checkable
class HasRecords(Protocol):
    """What tells of a teacher's answers as records, such as a store."""

    def records(self) -> Iterable[TeacherRecord]:
        """Return them."""
        ...


@dataclass(frozen=True)
class Problem:
    """A fault of one line, or a note about several.

    Attributes:
        line: Where it was seen (first), from 1; 0 for the file as a whole.
        kind: Short name, such as "not_json"; docs/records.md lists them.
        text: What was expected and what was there.
        left_out: Whether the line is left out; notes leave nothing out.
        lines: How many lines have it.
    """

    line: int
    kind: str
    text: str
    left_out: bool = True
    lines: int = 1

    def __str__(self) -> str:
        """Return it as one line of text."""
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.kind}: {self.text}"


@dataclass(frozen=True)
class Records:
    """Records that can be used, and what was wrong with the others.

    Attributes:
        records: In the order of the file.
        problems: Faulty lines, which are left out, and notes.
    """

    records: list[TeacherRecord]
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self.records)

    def __iter__(self) -> Iterator[TeacherRecord]:
        """Go through the records."""
        return iter(self.records)

    @property
    def left_out(self) -> dict[str, int]:
        """How many lines were left out, by kind of fault, the commonest first."""
        found: Counter[str] = Counter()
        for problem in self.problems:
            if problem.left_out:
                found[problem.kind] += problem.lines
        return dict(found.most_common())

    def needed(self, where: str) -> Records:
        """Return these records.

        Raises:
            DataError: If there is none, with what was wrong with the first line.
        """
        if self.records:
            return self
        first = next((problem for problem in self.problems if problem.left_out), None)
        why = "an empty file or list" if first is None else f"none that can be used ({first})"
        raise DataError(
            f"{where}: expected teacher records; got {why}. Give one JSON object a line with the "
            'keys "input" and "label", and "log_probability" where the teacher gives it.'
        )


def read_records(
    path: Path | str, *, labels: int | None = None, tolerance: float = TOLERANCE
) -> Records:
    r"""Read teacher records, one JSON object a line; faulty lines are reported and left out.

    Keys are ``input`` (an index, a string or a list of token ids) and ``label``, and where they are
    known ``log_probability`` or ``probability``, ``log_probabilities`` or ``probabilities`` (the
    whole row), ``top`` ([[label, log-probability], ...]), ``count``, ``temperature``, ``sequence``,
    ``position``, ``teacher``, ``weight``. A name that ends in .gz is unpacked.

    Args:
        path: The file.
        labels: How many labels there are, where it is known: a record with another one is faulty.
        tolerance: How far rows may be from summing to 1, in [0, 1).

    Returns:
        :class:`Records`, whose ``problems`` say what was left out and why. An empty file has one.

    Raises:
        DataError: If there is no such file, or it cannot be read.
        ArgumentError: If ``labels`` or ``tolerance`` make no sense.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "r.jsonl"
        ...     _ = file.write_text('{"input": 3, "label": 1, "probability": 0.5}\n{"inp')
        ...     read = read_records(file)
        >>> len(read), read.left_out
        (1, {'not_json': 1})

    Source:
        Derived.
    """
    _check("read_records", labels, tolerance)
    return collected(parsed(lines_in(Path(path)), labels, tolerance))


def as_records(
    source: Path | str | Records | Iterable[TeacherRecord | Mapping[str, Any]] | HasRecords,
    *,
    labels: int | None = None,
    tolerance: float = TOLERANCE,
) -> Records:
    """Return records from a path, from records, or from dicts with a line's keys.

    Args:
        source: A string is a path. Dicts are checked as lines are; their place counts as line.
            What has a method ``records()``, as a store of a teacher's outputs, gives them itself.
        labels: How many labels there are, where it is known.
        tolerance: How far rows may be from summing to 1, in [0, 1).

    Returns:
        :class:`Records`, whose ``problems`` say what was left out and why.

    Raises:
        DataError: If there is no such file, or ``source`` is something else.
        ArgumentError: If ``labels`` or ``tolerance`` make no sense.

    Example:
        >>> found = as_records([{"input": "cat", "label": 1}, {"input": "dog", "label": -1}])
        >>> found.records[0].privilege, found.left_out
        ('hard_labels', {'label_out_of_range': 1})

    Source:
        Derived.
    """
    if isinstance(source, str | Path):
        return read_records(source, labels=labels, tolerance=tolerance)
    _check("as_records", labels, tolerance)
    problems: list[Problem] = []
    if not isinstance(source, Records) and isinstance(source, HasRecords):
        source = source.records()
    if isinstance(source, Records):
        problems, source = source.problems, source.records
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise DataError(
            f"as_records: expected a path, or a list of records or dicts; got {shown(source)}. Put "
            "a single record into a list."
        )
    found = collected(parsed(enumerate(source, 1), labels, tolerance))
    return Records(found.records, [*problems, *found.problems])


def write_records(path: Path | str, records: Iterable[TeacherRecord]) -> Path:
    """Write teacher records, one JSON object a line; the file is whole or absent.

    Numbers come back exactly as they were. A name that ends in .gz is packed.

    Args:
        path: The file; its folder is made where there is none.
        records: To be written; they are taken one by one.

    Returns:
        The path.

    Raises:
        StorageError: If the folder cannot be written or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = write_records(Path(folder) / "r.jsonl", [TeacherRecord("cat", 1, -0.5)])
        ...     print(file.read_text(), end="")
        {"input": "cat", "label": 1, "log_probability": -0.5}

    Source:
        Derived.
    """
    path = Path(path)
    with atomic(path) as aside, aside.open("wb") as plain, contextlib.ExitStack() as stack:
        stream: IO[bytes] = plain
        if path.suffix == ".gz":
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0)
            stream = stack.enter_context(packed)  # pyright: ignore[reportAssignmentType]
        for record in records:
            stream.write(encoded(record))
    return path


def _check(where: str, labels: int | None, tolerance: float) -> None:
    if labels is not None and labels < 1:
        raise ArgumentError(f"{where}: expected `labels` >= 1; got {labels}. Leave it out.")
    if not 0 <= tolerance < 1:
        raise ArgumentError(f"{where}: expected `tolerance` in [0, 1); got {tolerance}.")


def lines_in(path: Path) -> Iterator[tuple[int, bytes | Problem]]:
    """Yield the lines of a file with their numbers, never more than LONGEST bytes at a time."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: expected a file of teacher records; got {what}.")
    line = 0
    try:
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
        with opened as stream:
            while raw := stream.readline(LONGEST + 1):
                line += 1
                if len(raw) <= LONGEST:
                    yield line, raw
                    continue
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(LONGEST)
                yield line, Problem(line, "too_long", f"expected at most {LONGEST} bytes a line.")
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        if not line:
            raise DataError(f"{path}: expected a gzip file; got {problem}.") from None
        yield line + 1, Problem(line + 1, "truncated", f"the packed file ends here: {problem}.")
    except OSError as problem:
        raise DataError(
            f"{path}: expected a file that can be read; got {problem.strerror or problem}."
        ) from problem


def parsed(
    items: Iterable[tuple[int, object]], labels: int | None, tolerance: float
) -> Iterator[TeacherRecord | Problem]:
    """Yield a record, or what is wrong with it, for each numbered line, dict or record."""
    for line, item in items:
        if isinstance(item, Problem):
            yield item
            continue
        notes: list[tuple[str, str]] = []
        try:
            record = _record(line, item, tolerance, notes)
            if record is None:
                continue
            check_sums(record, labels=labels, tolerance=tolerance)
            if two_laws(record, tolerance=tolerance):
                notes.append(("two_laws", NOTES["two_laws"]))
        except RecordError as problem:
            yield Problem(line, problem.kind, str(problem))
        else:
            yield record
            for kind, text in notes:
                yield Problem(line, kind, text, left_out=False)


def _record(
    line: int, item: object, tolerance: float, notes: list[tuple[str, str]]
) -> TeacherRecord | None:
    """Return the record of a line or dict, None for an empty line; notes are appended."""
    if isinstance(item, TeacherRecord):
        return item
    place = None
    fields = item
    if isinstance(item, bytes):
        raw = item.removeprefix(b"\xef\xbb\xbf") if line == 1 else item
        if not raw.strip():
            return None
        place, fields = line, decoded(raw)
    if not isinstance(fields, Mapping):
        raise RecordError("not_object", f"expected a record or a dict; got {shown(item)}.")
    record, seen = record_from(fields, line=place, tolerance=tolerance)
    notes += [(note, NOTES[note]) for note in seen]
    unknown = sorted(map(str, fields.keys() - {*KEYS, "line"}))
    notes += [("unknown_key", f"{shown(key)}: {NOTES['unknown_key']}") for key in unknown]
    return record


def collected(items: Iterable[TeacherRecord | Problem]) -> Records:
    """Gather records; a note that comes again is counted, not repeated."""
    records: list[TeacherRecord] = []
    problems: list[Problem] = []
    notes: dict[tuple[str, str], list[int]] = {}
    for item in items:
        if isinstance(item, TeacherRecord):
            records.append(item)
        elif item.left_out:
            problems.append(item)
        else:
            notes.setdefault((item.kind, item.text), [item.line, 0])[1] += 1
    for (kind, text), (line, lines) in notes.items():
        problems.append(Problem(line, kind, text, left_out=False, lines=lines))
    if not records and not problems:
        problems.append(Problem(0, "empty", "expected teacher records; there is none."))
    return Records(records, problems)
