"""Pages of the documentation whose tables a benchmark makes: Markdown between markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def replaced(text: str, parts: Mapping[str, str]) -> str:
    """Return a page with each part between its two markers."""
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"expected one {begin.strip()} and one {end} in the page")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part}\n\n{end}{rest.split(end)[1]}"
    return text


def made_on(name: str, source: Mapping[str, Any]) -> str:
    """Return a line on where a result comes from."""
    machine = source["hardware"]
    versions = ", ".join(f"{key} {value}" for key, value in source["versions"].items())
    return f"{name}: {machine['cores']} cores of an {machine['processor']}; {versions}."


def write_page(path: Path, parts: Mapping[str, str]) -> None:
    path.write_text(replaced(path.read_text("utf8"), parts), encoding="utf8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Return three digits."""
    return f"{value:#.3g}".rstrip(".")


def span(ends: Sequence[float]) -> str:
    return "[" + ", ".join(number(end) for end in ends) + "]"
