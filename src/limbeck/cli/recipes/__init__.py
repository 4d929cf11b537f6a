"""Recipes by name: first steps, and published comparisons composed from tables."""

from __future__ import annotations

from limbeck.checks import RecipeError, nearest
from limbeck.cli.recipes.binary import BINARY
from limbeck.cli.recipes.composing import joined, of_pair, of_training
from limbeck.cli.recipes.language import LANGUAGE
from limbeck.cli.recipes.methods import METHODS
from limbeck.cli.recipes.others import IMAGENET, PROBES, START
from limbeck.cli.recipes.pairs import ALONE, PAIRS


_OLD = "cifar100/"  # what ITRD's recipes were called first


def names() -> list[str]:
    """Return the names of all recipes; those of before are not among them."""
    of_pairs = [
        f"{name}/{pair.name}"
        for name, method in METHODS.items()
        for pair in PAIRS.values()
        if pair.letter in method.letters
    ]
    return [
        *START,
        *LANGUAGE,
        *of_pairs,
        *BINARY,
        *IMAGENET,
        *PROBES,
        *(f"train/{network}" for network in ALONE),
    ]


def text_of(name: str) -> str:
    """Return a recipe's text.

    Args:
        name: One of :func:`names`, or of before: ``cifar100/TEACHER-STUDENT`` is ITRD's.

    Raises:
        RecipeError: If there is no recipe of that name; near ones are named.
    """
    if name.startswith(_OLD):
        name = "itrd/" + name.removeprefix(_OLD)
    ready = START | LANGUAGE | BINARY | IMAGENET | PROBES
    if name in ready:
        return ready[name]
    first, _, rest = name.partition("/")
    if first == "train" and rest in ALONE:
        return of_training(rest)
    for pair in PAIRS.values():
        found = of_pair(first, pair) if first in METHODS and rest == pair.name else None
        if found is not None:
            return found
    known = [one for one in names() if one.startswith(f"{first}/")] or names()
    raise RecipeError(
        f"init: expected the name of a recipe; got {name!r}.{nearest(name, known)} "
        "`limbeck init --list` shows all."
    )


def listing() -> str:
    """Return what there is, by groups."""
    every = [name for name, method in METHODS.items() if len(method.letters) == len(PAIRS)]
    some = [(name, method.letters) for name, method in METHODS.items() if name not in every]
    lines = ["First steps", *_columns([*START, *LANGUAGE]), ""]
    lines += ["CIFAR-100, METHOD/TEACHER-STUDENT, such as crd/resnet32x4-resnet8x4", "  pairs:"]
    lines += [f"    {letter} {pair.name}" for letter, pair in PAIRS.items()]
    lines += ["  methods for all pairs:", *_columns(every), "  methods for some pairs:"]
    lines += [f"    {name:12} {' '.join(letters)}" for name, letters in some]
    lines += ["", "CIFAR-100 without a teacher", *_columns([f"train/{name}" for name in ALONE])]
    lines += ["", "CIFAR-10, binary students", *_columns(list(BINARY))]
    lines += ["", "ImageNet (docs/recipes.md)", *_columns(list(IMAGENET))]
    lines += ["", "Transfer by linear probe", *_columns(list(PROBES))]
    return joined(lines)


def _columns(words: list[str], width: int = 92) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "    ") + word
    return lines
