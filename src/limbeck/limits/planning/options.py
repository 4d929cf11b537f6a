"""The optional arguments of ``plan``, checked, and what a plan rests on chosen from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from limbeck.checks import ArgumentError
from limbeck.limits.bounds.arguments import (
    LARGEST_DELTA,
    Number,
    check_confidence,
    check_domain,
    check_error,
    check_sizes,
)
from limbeck.limits.planning.pilot import check_exponent
from limbeck.limits.planning.storage import check_record_bytes, check_top
from limbeck.limits.planning.worst_case import check_tail_mass


WHERE = "plan"
BASES = {"law": "law", "parameters": "parameters", "lipschitz": "lipschitz", "pilot": "pilot"}
NEEDS = {  # an option that means nothing without another one
    "unique": ("draws",),
    "top": ("tail_mass",),
    "tail_mass": ("top",),
    "floor": ("parameters",),
    "effective_labels": ("parameters",),
    "dimension": ("lipschitz",),
    "lipschitz": ("dimension",),
    "exponent": ("pilot",),
}


@dataclass(frozen=True)
class Options:
    """What was asked of ``plan``; None where it was left out."""

    inputs: int | None
    labels: int | None
    error: Number
    confidence: Number | None
    draws: int | None
    unique: Number | None
    top: int | None
    tail_mass: Number | None
    horizon: int | None
    parameters: int | None
    floor: Number | None
    effective_labels: Number | None
    lipschitz: Number | None
    dimension: int | None
    law: Any
    pilot: Any
    exponent: Any
    language_model: bool
    value_bytes: int
    record_bytes: Mapping[str, Number] | None

    @property
    def basis(self) -> str:
        """What the plan rests on: "worst_case", "law", "parameters", "lipschitz" or "pilot"."""
        given = [name for name in BASES if getattr(self, name) is not None]
        return given[0] if given else "worst_case"

    @property
    def goal(self) -> float:
        """The error of one query's answer: a token's, where responses have several."""
        return self.error / (self.horizon or 1)

    def check(self) -> None:
        """Raise ArgumentError for an option out of range, or one without another it needs."""
        check_error(WHERE, self.error)
        self._check_together()
        self._check_domain()
        self._check_numbers()

    def to_dict(self) -> dict[str, Any]:
        """Return what was given, for JSON; a law and a pilot by what they are."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("law", "pilot"):
            if isinstance(said[name], str | Path):
                said[name] = Path(said[name]).name
            elif said[name] is not None:
                said[name] = type(said[name]).__name__
        left_out = ("error", "confidence")
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in said.items()
            if value is not None and value is not False and name not in left_out
        }

    def _check_together(self) -> None:
        given = [name for name in BASES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ArgumentError(
                f"{WHERE}: expected one of {', '.join(BASES)}; got {' and '.join(given)}. A plan "
                "rests on one of them: make one plan each."
            )
        for name, others in NEEDS.items():
            for other in others:
                if getattr(self, name) is not None and getattr(self, other) is None:
                    raise ArgumentError(
                        f"{WHERE}: expected `{other}` beside `{name}`; got none. Give both."
                    )
        if self.draws is not None and given:
            raise ArgumentError(
                f"{WHERE}: expected `draws` without `{given[0]}`; got both. Several draws an input "
                "are planned for in the worst case only."
            )
        if self.language_model and self.pilot is None:
            raise ArgumentError(
                f"{WHERE}: expected `pilot` for a language model; got none. Counts of inputs and "
                "labels say nothing about texts: measure errors at 3 or 4 sizes."
            )

    def _check_domain(self) -> None:
        if self.basis == "worst_case" and (self.inputs is None or self.labels is None):
            missing = "inputs" if self.inputs is None else "labels"
            raise ArgumentError(
                f"{WHERE}: expected `{missing}`; got none. Give `inputs` and `labels`, or one of "
                f"{', '.join(BASES)}."
            )
        if self.basis in ("parameters", "lipschitz") and self.labels is None:
            raise ArgumentError(
                f"{WHERE}: expected `labels` beside `{self.basis}`; got none. Count the labels."
            )
        if self.inputs is not None:
            check_sizes(WHERE, inputs=self.inputs)
        if self.labels is not None:
            check_domain(WHERE, inputs=1, labels=self.labels)

    def _check_numbers(self) -> None:
        if self.confidence is not None:
            least = 1 - LARGEST_DELTA if self.basis in ("worst_case", "law") else 0.0
            check_confidence(WHERE, self.confidence, least=least)
        for name in ("draws", "horizon", "parameters"):
            if getattr(self, name) is not None:
                check_sizes(WHERE, **{name: getattr(self, name)})
        if self.top is not None and self.labels is not None:
            check_top(WHERE, self.top, self.labels)
        if self.tail_mass is not None:
            check_tail_mass(WHERE, self.tail_mass)
        if self.exponent is not None:
            check_exponent(WHERE, self.exponent)
        check_record_bytes(WHERE, self.record_bytes)
