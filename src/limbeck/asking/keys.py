"""Where an endpoint and its key come from, and how the key stays out of everything else."""

from __future__ import annotations

import json
import os
from urllib.parse import quote, urlsplit, urlunsplit

from limbeck.checks import ArgumentError


OPENAI = "https://api.openai.com/v1"
HIDDEN = "[key]"
NO_KEY = "none"  # servers that want no key still get the header that the client always sends
_SHORTEST = 6  # shorter ones are placeholders such as EMPTY, and occur in texts
# What the pages of local servers say to send: no secrets, and words of prompts and answers.
_PLACEHOLDERS = frozenset({"api-key", "api_key", "lm-studio", "no-key", "not-needed", "ollama"})


class Key:
    """An API key that shows itself nowhere; ``given()`` is for the client alone."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        forms = {value, json.dumps(value)[1:-1], quote(value, safe="")}
        secret = len(value) >= _SHORTEST and value.lower() not in _PLACEHOLDERS
        self._forms = sorted(forms, key=len, reverse=True) if secret else []

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("An API key is never written.")

    def given(self) -> str:
        """Return the key itself."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """Return a text without the key, as it is or as JSON and addresses spell it."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text


def address_from(base_url: str | None) -> str:
    """Return the endpoint's address, from OPENAI_BASE_URL where none is given.

    Raises:
        ArgumentError: If it is no http address.
    """
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).strip()
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise ArgumentError(
            "endpoint: expected `base_url` (or OPENAI_BASE_URL) as http://HOST/v1 or https://...; "
            "got something else."
        )
    return url.rstrip("/")


def shown_address(url: str) -> str:
    """Return an address without a user's name, password, or query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def key_from(api_key: str | Key | None, url: str) -> Key:
    """Return the key, from OPENAI_API_KEY where none is given.

    Raises:
        ArgumentError: If it is missing where it is needed, or could not be sent. Its text is never
            part of the message.
    """
    given = api_key.given() if isinstance(api_key, Key) else api_key
    value = (os.environ.get("OPENAI_API_KEY", "") if given is None else given).strip()
    if not value:
        if url == OPENAI:
            raise ArgumentError(
                "endpoint: expected a key in the environment variable OPENAI_API_KEY (or "
                "`api_key`); it is empty. Set it, or name another endpoint with OPENAI_BASE_URL."
            )
        return Key(NO_KEY)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ArgumentError(
            "endpoint: expected a key of printable ASCII characters without spaces; got other ones "
            "(the key isn't shown). Copy it again."
        )
    return Key(value)
