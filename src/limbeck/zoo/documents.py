"""Plain texts as documents: a file, several, or tables of them; cut into three parts."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import torch

from limbeck.checks import ArgumentError, DataError
from limbeck.randomness import generator
from limbeck.zoo.data.reading import listing, read_bytes


ENDINGS = (".txt", ".jsonl")
PACKED = ("", ".xz", ".gz")
WHOLE = 10  # fewer documents are cut by their place in the text

Parts = tuple[list[str], list[str], list[str]]


def read_documents(path: Path, separator: str | None = None) -> list[str]:
    """Return the documents of a file, or of all files of a folder in the order of their names.

    A ``.txt`` file is one document, or several where a separator stands between them; every line
    of a ``.jsonl`` file is one, under ``text``. Both may be ``.xz`` or ``.gz``. Empty ones are
    left out.

    Raises:
        DataError: If there is no such file, it is damaged, not UTF-8, or a line is wrong.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if is_plain_text(file))
        if not files:
            raise DataError(
                f"{path}: expected files {' or '.join(ENDINGS)}, perhaps .xz or .gz; got "
                f"{listing(path)}."
            )
        return [document for file in files for document in read_documents(file, separator)]
    if not path.is_file():
        raise DataError(f"{path}: expected a text; there is no such file. Check the path.")
    if not is_plain_text(path):
        raise DataError(
            f"{path}: expected a text {' or '.join(ENDINGS)}, also .xz or .gz; got "
            f"`{path.suffix or path.name}`. Save it as one of these."
        )
    text = _decoded(path)
    if ".jsonl" in path.name:
        found = [_of_line(line, path, i) for i, line in enumerate(text.split("\n"), 1) if line]
    else:
        found = [text] if separator is None else text.split(separator)
    return [document for document in found if document.strip()]


def is_plain_text(path: Path) -> bool:
    """Say whether a file's name is that of a text or a table of texts."""
    return path.name.endswith(tuple(end + packed for end in ENDINGS for packed in PACKED))


def part_of(folder: Path, part: str) -> Path | None:
    """Return the file of a part of the data, ``train.txt`` or another of the endings."""
    names = (f"{part}{end}{packed}" for end in ENDINGS for packed in PACKED)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def cut_documents(documents: list[str], validation: float, test: float, seed: int) -> Parts:
    """Cut documents into training, validation and test parts.

    Ten documents or more are drawn whole, so that no document stands in two parts. Fewer are cut
    by their place: the last ``test`` of the characters, before them ``validation``.

    Args:
        documents: Not empty.
        validation: Share for validation, in [0, 1).
        test: Share for the test, in [0, 1).
        seed: Of the draw.

    Raises:
        ArgumentError: If the shares leave nothing to train on.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ArgumentError(
            "load_tokens: expected `validation` and `test` in [0, 1) that leave something to "
            f"train on; got {validation} and {test}."
        )
    if len(documents) < WHOLE:
        return _by_place(documents, validation, test)
    order = torch.randperm(len(documents), generator=generator(seed, "documents")).tolist()
    tested = max(1, round(test * len(order))) if test else 0
    held = max(1, round(validation * len(order))) if validation else 0
    places = (order[tested + held :], order[tested : tested + held], order[:tested])
    train, middle, last = ([documents[i] for i in sorted(part)] for part in places)
    return train, middle, last


def _by_place(documents: list[str], validation: float, test: float) -> Parts:
    total = sum(map(len, documents))
    stops = [round(total * (1 - test - validation)), round(total * (1 - test)), total]
    parts: Parts = ([], [], [])
    start = 0
    for document in documents:
        low = 0
        for part, stop in zip(parts, stops, strict=True):
            high = min(len(document), stop - start)
            if high > low:
                part.append(document[low:high])
                low = high
        start += len(document)
    return parts


def _decoded(path: Path) -> str:
    content = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8; got byte {content[problem.start]:#04x}. Save "
            "the text as UTF-8."
        ) from None


def _of_line(line: str, path: Path, number: int) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        raise DataError(
            f"{path}, line {number}: expected JSON; {problem.msg} at column {problem.colno}. Write "
            "one object a line."
        ) from None
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError(
            f"{path}, line {number}: expected an object with `text`; got {line[:60]!r}. Rename "
            "the key, or correct the line."
        )
    return text
