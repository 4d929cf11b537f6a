"""Models and data as short texts on the command line, turned into what a recipe would say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError, nearest
from limbeck.cli.names import DATA_SETS
from limbeck.cli.yaml_text import mapping_of, overridden


TEXT = "limbeck.zoo.text:load_text"
_SPEC = "zoo:NAME, module:callable, timm:NAME, hf:FOLDER or a folder that limbeck saved"


def model_spec(text: str, where: str) -> dict[str, Any]:
    """Return a recipe's fields for a model: ``NAME[,KEY=VALUE]...``, a folder, or YAML in braces.

    Example:
        >>> model_spec("zoo:resnet20,shortcut=pad,num_classes=10", "--student")
        {'model': 'zoo:resnet20', 'shortcut': 'pad', 'num_classes': 10}

    Raises:
        LimbeckError: If it is none of these.
    """
    if text.lstrip().startswith("{"):
        return mapping_of(text, where)
    name, *settings = text.split(",")
    if not name or "=" in name:
        raise ArgumentError(f"{where}: expected {_SPEC}; got {text!r}.")
    if ":" in name and not Path(name).is_dir():
        return overridden({"model": name}, settings)
    if not Path(name).is_dir():
        raise ArgumentError(
            f"{where}: expected {_SPEC}; got {name!r}, which is no folder here.{_near(Path(name))}"
        )
    return overridden({"folder": name}, settings)


def data_spec(text: str, folder: Path | None) -> dict[str, Any]:
    """Return a recipe's ``data`` for a data set's name, a file, a folder or a callable.

    Raises:
        ArgumentError: If it is none of these.
    """
    if text in DATA_SETS:
        return {"name": text, "folder": None if folder is None else str(folder)}
    path = Path(text)
    if path.exists() and folder is None:
        if is_text(path):
            return {"module": TEXT, "options": {"table": text}}
        return {"name": "npz" if path.suffix == ".npz" else "folder", "folder": text}
    if ":" in text and folder is None:
        return {"module": text}
    raise ArgumentError(
        f"--data: expected {', '.join(DATA_SETS)}, a table of texts, a folder of images or tables, "
        f"an .npz file, or module:callable; got {text!r}.{nearest(text, DATA_SETS)}{_near(path)}"
    )


def with_tokenizer(data: dict[str, Any], tokenizer: str | Path | None) -> dict[str, Any]:
    """Return a recipe's ``data`` with a tokenizer for its table of texts, where one was given.

    Example:
        >>> with_tokenizer({"module": TEXT, "options": {"table": "a.csv"}}, "bert")["options"]
        {'table': 'a.csv', 'tokenizer': 'bert'}
        >>> with_tokenizer({"name": "digits"}, "bert")
        {'name': 'digits'}

    Raises:
        ArgumentError: If the data are a table of texts and no tokenizer is known.
    """
    options = data.get("options") or {}
    if data.get("module") != TEXT or not isinstance(options, dict):  # the recipe's checks say why
        return data
    if tokenizer is not None:
        options = {**options, "tokenizer": str(tokenizer)}
    if "tokenizer" not in options:
        raise ArgumentError(
            f"{options.get('table', 'data')}: expected a tokenizer for a table of texts; got none. "
            "Give --tokenizer FOLDER, the one that the model was trained with."
        )
    return {**data, "options": options}


def is_text(path: Path) -> bool:
    """Say whether a path is a table of texts or a folder that holds one."""
    from limbeck.zoo.text import find_table, is_table

    return is_table(path) if path.is_file() else find_table(path, "train") is not None


def layer_spec(texts: Sequence[str]) -> dict[str, list[str]] | None:
    """Return layers by side from ``NAME`` or ``teacher=NAME,student=NAME``, given once or more.

    Example:
        >>> layer_spec(["teacher=layer2,student=layer3", "teacher=logits"])
        {'teacher': ['layer2', 'logits'], 'student': ['layer3']}

    Raises:
        ArgumentError: If a side is another one, or a name is missing.
    """
    found: dict[str, list[str]] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        side, equals, name = part.partition("=")
        if not equals:
            side, name = "both", part
        if side not in ("teacher", "student", "both") or not name:
            raise ArgumentError(
                f"--layers: expected NAME or teacher=NAME,student=NAME; got {part!r}."
                f"{nearest(side, ('teacher', 'student'))}"
            )
        for one in ("teacher", "student") if side == "both" else (side,):
            found.setdefault(one, []).append(name)
    return found or None


def labels_of(names: Sequence[str]) -> list[str]:
    """Return short labels that differ: paths without the parts that all have in common.

    Example:
        >>> labels_of(["runs/kd/seed0", "runs/itrd/seed0"]), labels_of(["resnet20", "resnet20"])
        (['kd', 'itrd'], ['resnet20', 'resnet20 #2'])
    """
    parts = [name.split("/") for name in names]
    if len(set(names)) > 1:
        while len({part[0] for part in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [part[1:] for part in parts]
        while len({part[-1] for part in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [part[:-1] for part in parts]
    found: list[str] = []
    for label in ("/".join(part) for part in parts):
        count = sum(one == label or one.startswith(f"{label} #") for one in found)
        found.append(f"{label} #{count + 1}" if count else label)
    return found


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [other.name for other in path.parent.iterdir()])
