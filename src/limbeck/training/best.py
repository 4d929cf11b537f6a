"""The best epoch of a run on validation data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class Best:
    """The best epoch so far; ``weights`` are on the CPU."""

    value: float = math.nan
    epoch: int = -1
    found: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, student: nn.Module, value: float, epoch: int, found: dict[str, float]) -> Best:
        """Return an epoch with a copy of the student's weights."""
        state = student.state_dict()
        weights = {key: part.detach().cpu().clone() for key, part in state.items()}
        return cls(value, epoch, found, weights)

    def is_beaten_by(self, value: float, direction: str) -> bool:
        """Say whether a value is better, or the first; ``direction`` is "max" or "min"."""
        better = value > self.value if direction == "max" else value < self.value
        return better or math.isnan(self.value)
