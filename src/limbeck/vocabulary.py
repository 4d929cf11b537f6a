"""What the token ids of a model or of data stand for, so that two can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Vocabulary:
    """Which token every id is.

    Attributes:
        tokenizer: "bytes", "characters", or the class of a tokenizer of transformers.
        size: How many ids there are.
        digest: Of all tokens in the order of their ids.
    """

    tokenizer: str
    size: int
    digest: str

    @classmethod
    def of(cls, tokenizer: str, tokens: Sequence[str]) -> Vocabulary:
        """Return the vocabulary of tokens in the order of their ids.

        Example:
            >>> Vocabulary.of("characters", "ab").differs_from(Vocabulary.of("characters", "ba"))
            True
        """
        text = json.dumps(list(tokens))
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return cls(tokenizer, len(tokens), digest)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> Vocabulary:
        """Return the vocabulary of a tokenizer of transformers."""
        ids: dict[str, int] = tokenizer.get_vocab()
        tokens = [""] * (max(ids.values(), default=-1) + 1)
        for token, place in ids.items():
            tokens[place] = token
        return cls.of(type(tokenizer).__name__, tokens)

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Vocabulary:
        """Return what :meth:`as_dict` gave."""
        return cls(str(values["tokenizer"]), int(values["size"]), str(values["digest"]))

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def differs_from(self, other: Vocabulary) -> bool:
        """Whether an id may stand for another token."""
        return (self.size, self.digest) != (other.size, other.digest)

    def __str__(self) -> str:
        """Name it in messages."""
        return f"{self.tokenizer} of {self.size} tokens ({self.digest[:6]})"


def tokenizer_files(folder: Path) -> bool:
    """Say whether a folder holds a tokenizer as transformers saves it."""
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    return any((folder / name).is_file() for name in names)
