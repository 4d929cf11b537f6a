"""Text data sets from tables: CSV or JSON lines with columns ``text`` and ``label``."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.checks import ArgumentError, DataError, check_positive, nearest
from limbeck.data import Data
from limbeck.zoo.data.reading import listing, read_bytes
from limbeck.zoo.data.splits import cut, hide_labels, stratified
from limbeck.zoo.tokenizers import saved_tokenizer


COLUMNS = ("text", "label")
ENDINGS = (".csv", ".jsonl")
PACKED = ("", ".xz", ".gz")
TEST_SHARE = 0.3
TEST_SEED = 0

Line = tuple[str, str]


@dataclass(frozen=True)
class TextSet:
    """A labelled text data set as token ids and masks, in three parts that share no row.

    Args:
        name: The table's name.
        train: Rows to fit on; targets are -1 where labels were hidden.
        validation: Rows cut from the training part; or None.
        test: Rows that nothing is chosen by.
        classes: How many classes there are.
        class_names: The labels as they stand in the tables, in the order of the targets.
    """

    name: str
    train: Data
    validation: Data | None
    test: Data
    classes: int
    class_names: list[str]


def load_text(
    table: str | Path,
    tokenizer: str | Path,
    *,
    test: str | Path | None = None,
    tokens: int = 128,
    validation: float = 0.1,
    split_seed: int = 0,
    labels: int | float | None = None,
    limit: int | None = None,
) -> TextSet:
    """Load a table of texts and encode it with a tokenizer from disk.

    A table is CSV with a header or JSON lines (``.csv``, ``.jsonl``, also ``.xz`` or ``.gz``) with
    columns ``text`` and ``label``; other columns are ignored. Labels that are all whole numbers
    are put in numeric order, others in that of the alphabet. A row whose label is empty (in JSON
    also null) is unlabelled: it is trained on with target -1, and in no other part. Without a test
    table 30 % of the labelled rows, stratified by class and always the same ones (seed 0), become
    the test part; the validation part is then cut from the rest by ``split_seed``.

    Args:
        table: The training table, or a folder that holds ``train.csv`` and perhaps ``test.csv``
            (or with another of the endings).
        tokenizer: A folder with a tokenizer as transformers saves it, such as the model's own.
        test: The table of the test part.
        tokens: Longer texts are cut off, shorter ones padded and masked, up to the longest text.
        validation: Share of the training rows to validate on, in [0, 1); 0.0 for none.
        split_seed: Decides which rows are validated on, kept by ``limit`` and labelled.
        labels: How many training rows (int) or which share of them (float) keep their labels.
        limit: How many training rows to keep, at least one a class. None keeps all.

    Returns:
        The parts. Inputs are dicts of what the tokenizer gives, such as ``input_ids`` and
        ``attention_mask``, int64 [rows, tokens].

    Raises:
        DataError: If a table is missing, damaged or has a wrong line, which is named.
        ArgumentError: If an argument is outside of its range, or there is no tokenizer.
    """
    check_positive("load_text", tokens=tokens)
    if not 0 <= validation < 1:
        raise ArgumentError(f"load_text: expected `validation` in [0, 1); got {validation}.")
    path, test_path = _tables(Path(table), None if test is None else Path(test))
    lines = read_table(path)
    held_out = None if test_path is None else read_table(test_path)
    names = _class_names([label for _, label in lines if label])
    if not names:
        raise DataError(f"{path}: expected rows with a label; got none. Label some of each class.")
    encode = _encoder(Path(tokenizer), tokens)
    targets = _targets(lines, names, path)
    rows, free = (targets >= 0).nonzero()[:, 0], (targets < 0).nonzero()[:, 0]
    if held_out is None:
        stay, away = cut(targets[rows], TEST_SHARE, TEST_SEED, "test")
        rows, last = rows[stay], rows[away]
        tested = ([lines[i][0] for i in last.tolist()], targets[last])
    else:
        assert test_path is not None  # it was read
        tested = (
            [text for text, _ in held_out],
            _targets(held_out, names, test_path, unlabelled=False),
        )
    middle = None
    if validation:
        stay, away = cut(targets[rows], validation, split_seed, "validation")
        rows, middle = rows[stay], rows[away]
    rows = torch.cat([rows, free]).sort().values
    if limit is not None:
        rows = rows[stratified(targets[rows], limit, split_seed, "limit")]
    known = targets[rows]
    if labels is not None:
        labelled = known >= 0
        known[labelled] = hide_labels(known[labelled], labels, split_seed)
    name = path.name.partition(".")[0]

    def data(texts: list[str], of: Tensor, part: str) -> Data:
        return Data((encode(texts), of), class_names=names, name=f"{name} {part}")

    return TextSet(
        name=name,
        train=data([lines[i][0] for i in rows.tolist()], known, "train"),
        validation=None
        if middle is None
        else data([lines[i][0] for i in middle.tolist()], targets[middle], "validation"),
        test=data(*tested, "test"),
        classes=len(names),
        class_names=names,
    )


def is_table(path: Path) -> bool:
    """Say whether a file's name is that of a table."""
    return path.name.endswith(tuple(end + packed for end in ENDINGS for packed in PACKED))


def find_table(folder: Path, part: str) -> Path | None:
    """Return the table ``<part>.csv`` or another of the endings in a folder, if there is one."""
    names = (f"{part}{end}{packed}" for end in ENDINGS for packed in PACKED)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_table(path: Path) -> list[Line]:
    """Return (text, label) of every row of a table; an empty label is none.

    Raises:
        DataError: If it is no table, is damaged, or a line lacks text or label; the line is named.
    """
    if not is_table(path):
        raise DataError(
            f"{path}: expected a table {' or '.join(ENDINGS)}, also .xz or .gz; got "
            f"`{path.suffix or path.name}`. Save it as one of these."
        )
    content = read_bytes(path)
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8; got byte {content[problem.start]:#04x}. Save "
            "the table as UTF-8."
        ) from None
    found = list(_json_lines(text, path) if ".jsonl" in path.name else _csv_lines(text, path))
    if not found:
        raise DataError(f"{path}: expected at least one row; got none. Check that it is whole.")
    return found


def _csv_lines(text: str, path: Path) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    start = 2  # a text may run over several lines: the row is named by its first
    try:
        _check_columns(list(reader.fieldnames or []), path, 1)
        for row in reader:
            yield _line(row, path, start)
            start = reader.line_num + 1
    except csv.Error as problem:
        raise DataError(
            f"{path}, line {max(start, reader.line_num)}: expected CSV; {problem}. Quote texts "
            "that hold commas, quotes or line breaks."
        ) from None


def _json_lines(text: str, path: Path) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise DataError(
                f"{path}, line {number}: expected JSON; {problem.msg} at column {problem.colno}. "
                "Write one object a line."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: expected an object with {' and '.join(COLUMNS)}; got "
                f"{type(row).__name__}. Write one object a line."
            )
        _check_columns(list(row), path, number)
        yield _line(row | {"label": "" if row["label"] is None else row["label"]}, path, number)


def _check_columns(found: list[str], path: Path, line: int) -> None:
    missing = [name for name in COLUMNS if name not in found]
    if missing:
        raise DataError(
            f"{path}, line {line}: expected columns {' and '.join(COLUMNS)}; got "
            f"{', '.join(map(str, found[:8])) or 'none'}.{nearest(missing[0], map(str, found))} "
            "Rename them."
        )


def _line(row: dict[str, Any], path: Path, number: int) -> Line:
    text, label = (row[name] for name in COLUMNS)
    if not isinstance(text, str):
        raise DataError(f"{path}, line {number}: expected a text; got {text!r}. Correct this line.")
    if None in row:
        raise DataError(
            f"{path}, line {number}: expected as many columns as the header has; got more. Quote "
            "texts that hold commas."
        )
    if isinstance(label, (bool, float, list, dict)) or label is None:
        raise DataError(
            f"{path}, line {number}: expected a label, a word or a whole number; got {label!r}. "
            "Correct this line."
        )
    return text, str(label).strip()


def _class_names(labels: list[str]) -> list[str]:
    found = set(labels)
    if all(label.lstrip("-").isdecimal() for label in found):
        return sorted(found, key=int)
    return sorted(found)


def _targets(lines: list[Line], names: list[str], path: Path, *, unlabelled: bool = True) -> Tensor:
    places = {name: place for place, name in enumerate(names)}
    if unlabelled:
        places[""] = -1
    for number, (_, label) in enumerate(lines, 1):
        if label not in places:
            raise DataError(
                f"{path}, row {number}: expected a label of the training table, "
                f"{', '.join(names[:10])}; got {label!r}.{nearest(label, names)}"
            )
    return torch.tensor([places[label] for _, label in lines])


def _tables(table: Path, test: Path | None) -> tuple[Path, Path | None]:
    if table.is_dir():
        found = find_table(table, "train")
        if found is None:
            raise DataError(
                f"{table}: expected train.csv or train.jsonl, perhaps .xz; got {listing(table)}."
            )
        return found, test or find_table(table, "test")
    for path in (table, test):
        if path is not None and not path.is_file():
            raise DataError(f"{path}: expected a table; there is no such file. Check the path.")
    return table, test


def _encoder(folder: Path, tokens: int) -> Callable[[list[str]], dict[str, Tensor]]:
    tokenizer = saved_tokenizer("load_text", folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    length = min(tokens, tokenizer.model_max_length)

    def encode(texts: list[str]) -> dict[str, Tensor]:
        found = tokenizer(
            texts, padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        return dict(found)

    return encode
