"""Texts as blocks of token ids, to train language models on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limbeck.checks import ArgumentError, DataError, check_positive
from limbeck.data import Data
from limbeck.randomness import generator
from limbeck.vocabulary import Vocabulary
from limbeck.zoo.documents import Parts, cut_documents, part_of, read_documents
from limbeck.zoo.tokenizers import Tokenizer, tokenizer_of


@dataclass(frozen=True)
class TokenSet:
    """Blocks of token ids in three parts.

    Attributes:
        name: Of the text.
        train: Rows to train on.
        validation: Rows that the best epoch is chosen on, or None.
        test: Rows that are looked at once, or None.
        vocabulary: What the ids stand for.
        token_bytes: Bytes of text of every id where known: for bits per byte.
    """

    name: str
    train: Data
    validation: Data | None
    test: Data | None
    vocabulary: Vocabulary
    token_bytes: tuple[int, ...] | None


def load_tokens(
    text: str | Path,
    tokenizer: str = "characters",
    *,
    tokens: int = 128,
    validation: float = 0.1,
    test: float = 0.1,
    split_seed: int = 0,
    packing: bool = True,
    separator: str | None = None,
    limit: int | None = None,
) -> TokenSet:
    """Load texts and cut them into rows of token ids in which every token is predicted once.

    A row begins with the last token of the row before it, as its context: so no token is left out
    and none counts twice; the last row of a part steps back to be full, and what was predicted
    before has no label in it. With several documents each ends in the tokenizer's end token.

    Args:
        text: A file ``.txt`` or ``.jsonl`` (also ``.xz``, ``.gz``), or a folder of them: of
            ``train``, and perhaps ``validation`` and ``test``, or of files that are cut into these.
        tokenizer: "bytes", "characters" or "hf:FOLDER"; see
            :func:`limbeck.zoo.tokenizers.tokenizer_of`.
        tokens: Length of a row.
        validation: Share of the text to validate on; 0.0 for none.
        test: Share of the text to test on; 0.0 for none.
        split_seed: Decides which of ten documents or more are held out, and which rows ``limit``
            keeps. Fewer documents are cut by place, the end of the text last.
        packing: Put documents one after the other into full rows: ``position_ids`` then start
            anew at every border, so that no loss, and in most models of transformers no
            attention, crosses it. Else every document has rows of its own, padded, with an
            ``attention_mask``.
        separator: What stands between the documents of a ``.txt`` file; None: a file is one.
        limit: How many training rows to keep.

    Returns:
        The parts. Inputs are dicts with ``input_ids``, int64 [rows, tokens], and targets the ids
        that are to be predicted, -1 where none is, aligned with them.

    Raises:
        DataError: If a text is missing, damaged or too short for its parts.
        ArgumentError: If an argument is outside of its range, or there is no tokenizer.
    """
    check_positive("load_tokens", tokens=tokens)
    if tokens < 2:
        raise ArgumentError(f"load_tokens: expected `tokens` >= 2 a row; got {tokens}.")
    if limit is not None:
        check_positive("load_tokens", limit=limit)
    parts = _parts(Path(text), separator, validation, test, split_seed)
    every = [document for part in parts for document in part]
    if not every:
        raise DataError(f"{text}: expected some text; got none. Check that the file is whole.")
    several = max(map(len, parts)) > 1
    chosen = tokenizer_of(tokenizer, every, several=several)
    name = Path(text).name.partition(".")[0]
    made = [_rows(part, chosen, tokens, packing, several) if part else None for part in parts]
    if made[0] is None:
        raise DataError(
            f"{text}: expected at least two tokens to train on; got fewer. Give more text, or "
            "smaller `validation` and `test`."
        )
    if limit is not None:
        made[0] = _limited(made[0], limit, split_seed)
    train, middle, last = (
        None if rows is None else Data(rows, name=f"{name} {part}")
        for rows, part in zip(made, ("train", "validation", "test"), strict=True)
    )
    assert train is not None  # checked above
    return TokenSet(name, train, middle, last, chosen.vocabulary, chosen.token_bytes)


Rows = tuple[dict[str, Tensor], Tensor]


def _parts(path: Path, separator: str | None, validation: float, test: float, seed: int) -> Parts:
    train = part_of(path, "train") if path.is_dir() else None
    if train is None:
        return cut_documents(read_documents(path, separator), validation, test, seed)
    found = [part_of(path, "validation"), part_of(path, "test")]
    held = [[] if file is None else read_documents(file, separator) for file in found]
    documents = read_documents(train, separator)
    if found[0] is None and validation:
        documents, held[0], _ = cut_documents(documents, validation, 0.0, seed)
    return documents, held[0], held[1]


def _rows(
    documents: list[str], tokenizer: Tokenizer, length: int, packing: bool, several: bool
) -> Rows | None:
    """Return a part's rows; None where there is nothing to predict."""
    ids = [tokenizer.encode(document) for document in documents]
    if several and tokenizer.end is not None:
        ids = [[*document, tokenizer.end] for document in ids]
    if packing:
        return _packed(ids, length)
    return _padded(ids, length)


def _packed(ids: list[list[int]], length: int) -> Rows | None:
    stream = torch.tensor([token for document in ids for token in document], dtype=torch.int64)
    if len(stream) < 2:
        return None
    sizes = torch.tensor([len(document) for document in ids])
    begins = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)  # of each token's document
    length = min(length, len(stream))
    starts, new = _starts(len(stream), length)
    place = starts[:, None] + torch.arange(length)
    inputs = {"input_ids": stream[place]}
    if len(ids) > 1:
        # A document that goes on from the row before starts anew where this row does.
        inputs["position_ids"] = place - torch.maximum(begins[place], starts[:, None])
    targets = torch.where(place >= new[:, None], inputs["input_ids"], -1)
    return inputs, targets


def _padded(ids: list[list[int]], length: int) -> Rows | None:
    rows, targets = [], []
    for document in ids:
        if len(document) < 2:
            continue  # there is nothing to predict it from
        starts, new = _starts(len(document), min(length, len(document)))
        for start, first in zip(starts.tolist(), new.tolist(), strict=True):
            row = document[start : start + length]
            rows.append(row)
            targets.append([-1] * (first - start) + row[first - start :])
    if not rows:
        return None
    width = max(map(len, rows))
    filled = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    wanted = torch.tensor([row + [-1] * (width - len(row)) for row in targets])
    return {"input_ids": filled, "attention_mask": mask}, wanted


def _starts(count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return where each row starts, and the first token that it is to predict."""
    step = length - 1
    new = torch.arange(1, count, step)
    return (new - 1).clamp_max(count - length), new


def _limited(rows: Rows, limit: int, seed: int) -> Rows:
    inputs, targets = rows
    order = torch.randperm(len(targets), generator=generator(seed, "limit"))[:limit].sort().values
    return {key: value[order] for key, value in inputs.items()}, targets[order]
