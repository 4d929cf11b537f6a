"""Teacher records on the command line: a file of JSON lines, or a store of a teacher's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError
from limbeck.store.group import StoreGroup, is_store, open_store


def records_given(place: Path | str) -> Any:
    """Return what :func:`limbeck.records.as_records` takes for a path.

    Raises:
        StoreError: If it is a store that is not finished.
        ArgumentError: If it is a folder of several stores.
    """
    if not is_store(place):
        return place
    store = open_store(place)
    if isinstance(store, StoreGroup):
        raise ArgumentError(
            f"{place}: expected one store; it holds {', '.join(store.stores)}. Name one of these "
            "folders."
        )
    return store
