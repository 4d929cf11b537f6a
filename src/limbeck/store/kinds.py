"""Keep: which part of a teacher's outputs a store holds, and how exactly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from limbeck.checks import ArgumentError, check_choice, check_positive


PRIVILEGES = {
    "logits": "soft_labels",
    "top_k": "top_k",
    "sampled_counts": "sampled_probabilities",
    "sampled_probability": "sampled_probabilities",
    "hard_labels": "hard_labels",
}
KINDS = tuple(PRIVILEGES)
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DRAWS = 50
TOP_K = 20


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of every (sample, view).

    Args:
        what: "logits" keeps whole rows; "top_k" the most likely labels with their
            log-probabilities and the log of the mass of all others; "sampled_counts" the distinct
            ones among ``draws`` labels drawn with replacement, their counts and log-probabilities;
            "sampled_probability" one drawn label with its log-probability; "hard_labels" a label
            alone. None keeps features only.
        features: Keep the outputs of the layers that the teacher was asked for as well.
        dtype: "fp32" leaves numbers as they are (a float64 teacher's stay float64), "fp16" and
            "bf16" round them.
        k: How many labels "top_k" keeps; None means 20.
        draws: How many labels "sampled_counts" draws; None means 50. The others draw one.
        temperature: Divides the logits before the distribution that labels, probabilities and
            masses are of.
        seed: Of drawn labels, any integer.
        greedy: Of "hard_labels": the most likely label in the place of a drawn one.

    Raises:
        ArgumentError: If a setting is out of its range, or does nothing for this ``what``.

    Example:
        >>> Keep.of("top_k+features", k=8, dtype="fp16").privilege
        'top_k'
    """

    what: str | None = "logits"
    features: bool = False
    dtype: str = "fp32"
    k: int | None = None
    draws: int | None = None
    temperature: float = 1.0
    seed: int = 0
    greedy: bool = False

    def __post_init__(self) -> None:
        if self.what is not None:
            check_choice("keep", "what", self.what, KINDS)
        elif not self.features:
            raise ArgumentError(
                "keep: expected a kind of answers, features or both; got neither. "
                f"Choose of {', '.join(KINDS)}, features, as in 'logits+features'."
            )
        check_choice("keep", "dtype", self.dtype, PRECISIONS)
        check_positive("keep", temperature=self.temperature)
        self._check_counts()
        self._check_used()
        object.__setattr__(self, "temperature", float(self.temperature))
        if self.what == "top_k" and self.k is None:
            object.__setattr__(self, "k", TOP_K)
        if self.drawn and self.draws is None:
            object.__setattr__(self, "draws", DRAWS if self.what == "sampled_counts" else 1)

    @classmethod
    def of(cls, text: str | Keep, **settings: Any) -> Keep:
        """Return what a text such as "logits", "features" or "top_k+features" means.

        Args:
            text: Kinds joined by "+"; a Keep is returned as it is, if no setting stands beside it.
            settings: The other arguments of :class:`Keep`.

        Raises:
            ArgumentError: If a name is unknown or there are two kinds of answers.
        """
        if isinstance(text, Keep):
            if settings:
                raise ArgumentError(
                    f"keep: expected settings inside of Keep(...); got {', '.join(settings)} "
                    "beside it. Give them to Keep."
                )
            return text
        names = [name.strip() for name in text.split("+")]
        for name in names:
            check_choice("keep", "keep", name, [*KINDS, "features"])
        answers = [name for name in names if name != "features"]
        if len(answers) > 1 or len(set(names)) < len(names):
            raise ArgumentError(
                f"keep: expected one kind of answers, alone or with features; got {text!r}. "
                "Write a store for each, or keep the richer one: logits hold all others."
            )
        return cls(answers[0] if answers else None, "features" in names, **settings)

    @property
    def drawn(self) -> bool:
        """Whether labels are drawn from the teacher."""
        return self.what in ("sampled_counts", "sampled_probability") or (
            self.what == "hard_labels" and not self.greedy
        )

    @property
    def kind(self) -> str:
        """The kind of answers, or "features" where only these are kept."""
        return self.what or "features"

    @property
    def privilege(self) -> str | None:
        """What the planner calls a query of this kind; None where only features are kept."""
        return None if self.what is None else PRIVILEGES[self.what]

    def differences(self, asked: Keep) -> list[str]:
        """Return each setting in which another Keep differs, both sides named."""
        mine, other = asdict(self), asdict(asked)
        return [
            f"{name} {mine[name]} in the store, {other[name]} asked for"
            for name in mine
            if mine[name] != other[name]
        ]

    def _check_counts(self) -> None:
        for name, value in (("k", self.k), ("draws", self.draws)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and (not whole or value < 1):
                raise ArgumentError(
                    f"keep: expected `{name}` to be a whole number >= 1; got {value}."
                )

    def _check_used(self) -> None:
        """Refuse settings that would change nothing."""
        useless = {
            "k": self.k is not None and self.what != "top_k",
            "draws": self.draws is not None
            and not (self.what == "sampled_counts" or (self.drawn and self.draws == 1)),
            "temperature": self.temperature != 1 and not (self.drawn or self.what == "top_k"),
            "seed": self.seed != 0 and not self.drawn,
            "greedy": self.greedy and self.what != "hard_labels",
            "dtype": self.dtype != "fp32" and self.what == "hard_labels" and not self.features,
        }
        for name in [name for name, nothing in useless.items() if nothing]:
            raise ArgumentError(
                f"keep: expected no `{name}` with {self.kind}, which it does nothing for; got "
                f"{getattr(self, name)}. Leave it out, or keep another kind."
            )
