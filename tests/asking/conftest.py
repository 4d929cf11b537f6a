"""A small language model behind a server on loopback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from helpers.language_server import Behaviour, LanguageModel, Server


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """Give the language model."""
    return LanguageModel()


@pytest.fixture
def serve(model) -> Iterator[Callable[..., Server]]:
    """Start a server with a behaviour."""
    with ExitStack() as stack:
        yield lambda **kinds: stack.enter_context(Server(model, Behaviour(**kinds)))
