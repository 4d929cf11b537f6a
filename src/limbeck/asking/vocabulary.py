"""From what servers call a token (a string, its bytes) to its id."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from limbeck.checks import ArgumentError, DataError
from limbeck.teacher_record import RecordError, shown


LOST = "\ufffd"  # stands where bytes are no text: many tokens are shown so
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_PIECE = "\u2581"
_NUMBERED = re.compile(r"token_id:(\d+)")

Name = TypeVar("Name", str, bytes)
Encode = Callable[[str], Sequence[int]]
Render = Callable[[Sequence[Mapping[str, Any]]], Sequence[int]]


@dataclass(frozen=True)
class Vocabulary:
    """Which ids a string or bytes may stand for, and how text becomes ids.

    Attributes:
        texts: Ids by string; several where tokens look alike.
        pieces: Ids by bytes.
        encode: The text of a prompt to ids, with the tokens that stand before it; None for a plain
            mapping.
        cut: The text of an answer to ids, none but its own.
        render: Chat messages to ids, with the prompt for the answer; None without a template.
        whole: Whether a whole answer may be one label, as for a plain mapping.
    """

    texts: Mapping[str, tuple[int, ...]]
    pieces: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    encode: Encode | None = None
    cut: Encode | None = None
    render: Render | None = None
    whole: bool = False

    def id_of(self, text: str | None, raw: bytes | None) -> int:
        """Return the id of a token.

        Bytes speak first where they say more than the string: OpenAI gives the true bytes of half
        a character, vLLM those of the replacement sign.

        Raises:
            RecordError: If no token or several have this name.
        """
        found: tuple[int, ...] = ()
        if raw is not None and (text is None or raw != text.encode("utf-8", "replace")):
            found = self.pieces.get(raw, ())
        if not found and text is not None:
            found = self.texts.get(text, ())
        if not found and raw is not None:
            found = self.pieces.get(raw, ())
        if len(found) == 1:
            return found[0]
        if found:
            raise RecordError(
                "ambiguous_token",
                f"expected the name of one token; {shown(text)} may be any of {len(found)} (such "
                f"as {found[0]} and {found[1]}). Ask for token ids (--token-ids).",
            )
        raise RecordError(
            "unknown_token",
            f"expected a token of the vocabulary; got {shown(text)}. Give the tokenizer of the "
            "model that answered.",
        )


def numbered(text: str | None) -> int | None:
    """Return the id in vLLM's "token_id:123", or None."""
    match = _NUMBERED.fullmatch(text) if text else None
    return int(match[1]) if match else None


def vocabulary_of(tokenizer: object) -> Vocabulary | None:
    """Make a vocabulary of whatever names tokens.

    Args:
        tokenizer: None; a mapping from strings to ids; a list of strings; a tokenizer of
            transformers; an encoding of tiktoken; or the path of one: a JSON file with a mapping,
            or a folder or name that transformers can load.

    Raises:
        ArgumentError: If it is something else.
        DataError: If a path cannot be read.
    """
    if tokenizer is None or isinstance(tokenizer, Vocabulary):
        return tokenizer
    if isinstance(tokenizer, str | Path):
        return vocabulary_of(_loaded(tokenizer))
    if isinstance(tokenizer, Mapping):
        return _plain(tokenizer.items())
    if isinstance(tokenizer, Sequence):
        return _plain((text, number) for number, text in enumerate(tokenizer))
    if hasattr(tokenizer, "decode_single_token_bytes"):
        return _of_encoding(tokenizer)
    if hasattr(tokenizer, "get_vocab") and hasattr(tokenizer, "decode"):
        return _of_transformers(tokenizer)
    raise ArgumentError(
        "import_records: expected `tokenizer` to be a mapping from strings to ids, a list of "
        f"strings, or a tokenizer; got {shown(tokenizer)}."
    )


def _plain(pairs: Iterable[tuple[object, object]]) -> Vocabulary:
    texts: list[tuple[str, int]] = []
    for text, number in pairs:
        if not isinstance(text, str) or not isinstance(number, int) or isinstance(number, bool):
            raise ArgumentError(
                "import_records: expected `tokenizer` to map strings to whole numbers; got "
                f"{shown(text)}: {shown(number)}."
            )
        texts.append((text, number))
    by_bytes = ((text.encode("utf-8", "replace"), number) for text, number in texts)
    return Vocabulary(_grouped(texts), _grouped(by_bytes), whole=True)


def _of_encoding(encoding: Any) -> Vocabulary:
    pieces: list[tuple[bytes, int]] = []
    for number in range(encoding.n_vocab):
        try:
            pieces.append((encoding.decode_single_token_bytes(number), number))
        except KeyError:  # numbers without a token
            continue
    texts = ((piece.decode("utf-8", "replace"), number) for piece, number in pieces)
    encode = encoding.encode_ordinary
    return Vocabulary(_grouped(texts), _grouped(pieces), encode=encode, cut=encode)


def _of_transformers(tokenizer: Any) -> Vocabulary:
    known: dict[str, int] = tokenizer.get_vocab()
    decoded = ((tokenizer.decode([number]), number) for number in known.values())
    pieces = _pieces(known)

    def render(messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )

    return Vocabulary(
        _grouped([*known.items(), *decoded]),
        _grouped(pieces),
        encode=tokenizer.encode,
        cut=functools.partial(tokenizer.encode, add_special_tokens=False),
        render=render if getattr(tokenizer, "chat_template", None) else None,
    )


def _pieces(known: Mapping[str, int]) -> Iterator[tuple[bytes, int]]:
    """Yield the bytes of tokens, as byte-level and SentencePiece vocabularies spell them."""
    alphabet = _byte_alphabet()
    byte_level = any("\u0120" in text for text in known)  # the letter that stands for a space
    for text, number in known.items():
        if byte_level and all(letter in alphabet for letter in text):
            yield bytes(alphabet[letter] for letter in text), number
        elif match := _BYTE_PIECE.fullmatch(text):
            yield bytes([int(match[1], 16)]), number
        else:
            yield text.replace(_SPACE_PIECE, " ").encode("utf-8", "replace"), number


def _byte_alphabet() -> dict[str, int]:
    """Return the letters in which GPT-2's byte-level vocabularies write bytes."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


def _grouped(
    pairs: Iterable[tuple[Name, int]],
) -> dict[Name, tuple[int, ...]]:
    made: dict[Name, tuple[int, ...]] = {}
    for name, number in pairs:
        before = made.get(name, ())
        if number not in before:
            made[name] = (*before, number)
    return made


def _loaded(given: str | Path) -> object:
    path = Path(given)
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text("utf8"))
        except (OSError, ValueError) as problem:
            raise DataError(
                f"{path}: expected a JSON file that maps token strings to ids; got {problem}."
            ) from None
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise DataError(
            f"{path}: expected transformers, to load a tokenizer; it isn't installed. Run pip "
            "install 'limbeck[text]', or give a JSON file that maps token strings to ids."
        ) from None
    try:
        return AutoTokenizer.from_pretrained(str(given), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as problem:
        first = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError(
            f"{given}: expected a tokenizer that transformers can load; got: {first}"
        ) from None
