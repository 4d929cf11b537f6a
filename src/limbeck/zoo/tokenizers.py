"""Tokenizers by name: bytes, the characters of a text, or one that transformers saved."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError
from limbeck.vocabulary import Vocabulary


END = "<end>"  # after a document, where there are several


@dataclass(frozen=True)
class Tokenizer:
    """From texts to token ids.

    Attributes:
        vocabulary: What the ids stand for.
        encode: Ids of a text.
        end: Id that closes a document; None where there is none.
        token_bytes: Bytes of text of every id, or None where they are not known.
    """

    vocabulary: Vocabulary
    encode: Callable[[str], list[int]]
    end: int | None
    token_bytes: tuple[int, ...] | None


def tokenizer_of(name: str, documents: Sequence[str], *, several: bool) -> Tokenizer:
    """Return a tokenizer by name.

    Args:
        name: "bytes" (UTF-8, 256 ids and one that ends a document), "characters" (those of the
            documents, in the order of Unicode, and one that ends a document where there are
            several), or "hf:FOLDER" (a tokenizer as transformers saves it).
        documents: All texts, held-out ones too: what "characters" are there.
        several: Whether a part has several documents, which then need an end.

    Raises:
        ArgumentError: If the name is none of these, or the folder has no tokenizer.
    """
    if name == "bytes":
        tokens = [*(f"{byte:02x}" for byte in range(256)), END]
        sizes = (*(1 for _ in range(256)), 0)
        return Tokenizer(Vocabulary.of(name, tokens), _bytes, 256, sizes)
    if name == "characters":
        return _characters(documents, several)
    kind, _, folder = name.partition(":")
    if kind == "hf" and folder:
        return _of_folder(Path(folder), documents)
    raise ArgumentError(
        f"load_tokens: expected `tokenizer` to be bytes, characters or hf:FOLDER; got {name!r}."
    )


def _bytes(text: str) -> list[int]:
    return list(text.encode())


def _characters(documents: Sequence[str], several: bool) -> Tokenizer:
    characters = sorted(set().union(*documents))
    places = {character: place for place, character in enumerate(characters)}
    tokens, sizes = [*characters], [len(character.encode()) for character in characters]
    end = None
    if several:
        end = len(tokens)
        tokens.append(END)
        sizes.append(0)

    def encode(text: str) -> list[int]:
        return [places[character] for character in text]

    return Tokenizer(Vocabulary.of("characters", tokens), encode, end, tuple(sizes))


def saved_tokenizer(where: str, folder: Path) -> Any:
    """Return a tokenizer that transformers saved, from disk only.

    Args:
        where: Who asks, for messages.
        folder: Holds its files.

    Raises:
        ArgumentError: If transformers is not installed, or the folder holds none.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ModuleNotFoundError as problem:
        raise ArgumentError(
            f"{where}: expected the package transformers ({problem}). pip install 'limbeck[text]'"
        ) from None
    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as problem:
        first = (str(problem) or type(problem).__name__).splitlines()[0]
        raise ArgumentError(
            f"{folder}: expected a folder with a tokenizer as transformers saves it; {first}. Save "
            "it beside the model: tokenizer.save_pretrained(folder)."
        ) from None


def _of_folder(folder: Path, documents: Sequence[str]) -> Tokenizer:
    found = saved_tokenizer("load_tokens", folder)
    found.model_max_length = 10**12  # documents are cut into blocks here

    def encode(text: str) -> list[int]:
        return found(text, add_special_tokens=False)["input_ids"]

    vocabulary = Vocabulary.of_tokenizer(found)
    sizes = _byte_level(found, vocabulary.size, encode, documents)
    return Tokenizer(vocabulary, encode, found.eos_token_id, sizes)


def _byte_level(
    tokenizer: Any, size: int, encode: Callable[[str], list[int]], documents: Sequence[str]
) -> tuple[int, ...] | None:
    """Return every token's bytes where its characters stand for a byte each, else None.

    Byte-level vocabularies are written so; whether this one is shows in the texts themselves.
    """
    sizes = [0] * size
    special = set(tokenizer.all_special_ids)
    for token, place in tokenizer.get_vocab().items():
        sizes[place] = 0 if place in special else len(token)
    for text in documents[:20]:
        start = text[:10_000]
        if sum(sizes[place] for place in encode(start)) != len(start.encode()):
            return None
    return tuple(sizes)
