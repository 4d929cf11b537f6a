"""What a student was read off at held-out records: one number a record for every meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from limbeck.checks import DataError, ShapeError, check_choice


Unit = Literal["record", "sequence", "input"]


@dataclass(frozen=True, eq=False)
class Readings:
    """Meters' terms of n held-out records.

    Attributes:
        low: Lower end of each record's total-variation term, in [0, 1].
        high: Upper end; above ``low`` only where the teacher's number is censored.
        log_ratio: log pihat(a|s) - log pi*(a|s) at the drawn label [nats]; NaN where censored.
        kl: Exact KL of the two rows [nats]; NaN where there is no whole row.
        counts: How many equal draws each record stands for, at least 1.
        groups: Number of the group that each belongs to, from 0 without gaps; None where all are
            independent.
        positions: Place within the sequence; -1 where it is not known.
        unit: What is independent: "record", "sequence" or "input".

    Raises:
        ShapeError: If lengths differ.
        DataError: If there is no record.
    """

    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    log_ratio: Float[np.ndarray, " n"]
    kl: Float[np.ndarray, " n"]
    counts: Int[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"] | None
    positions: Int[np.ndarray, " n"]
    unit: Unit = "record"

    def __post_init__(self) -> None:
        """Check lengths."""
        check_choice("Readings", "unit", self.unit, get_args(Unit))
        arrays = [self.low, self.high, self.log_ratio, self.kl, self.counts, self.positions]
        arrays += [] if self.groups is None else [self.groups]
        lengths = {len(array) for array in arrays}
        if len(lengths) > 1:
            raise ShapeError(
                f"Readings: expected one number a record; got lengths {sorted(lengths)}."
            )
        if lengths == {0}:
            raise DataError("Readings: expected at least one record; got none. Give more.")

    @property
    def censored(self) -> Bool[np.ndarray, " n"]:
        """Which records have no number at the drawn label."""
        return np.isnan(self.log_ratio) & np.isnan(self.kl)

    @property
    def whole(self) -> Bool[np.ndarray, " n"]:
        """Which records have a whole row."""
        return ~np.isnan(self.kl)

    def k1(self) -> Float[np.ndarray, " n"]:
        """Return each record's KL term: exact from a row, else -log r [nats]."""
        return np.where(self.whole, self.kl, -self.log_ratio)

    def k3(self) -> Float[np.ndarray, " n"]:
        """Return each record's KL term: exact from a row, else r - 1 - log r [nats]."""
        with np.errstate(over="ignore"):  # a label that the teacher nearly excludes
            sampled = np.expm1(self.log_ratio) - self.log_ratio
        return np.where(self.whole, self.kl, np.maximum(sampled, 0.0))

    def whole_responses(self) -> bool:
        """Say whether every sequence is there from some position on, token by token, with numbers.

        Whether its first and last tokens are there cannot be seen.
        """
        if self.unit != "sequence" or self.groups is None or np.isnan(self.log_ratio).any():
            return False
        if (self.counts > 1).any() or (self.positions < 0).any():
            return False
        order = np.lexsort((self.positions, self.groups))
        same = np.diff(self.groups[order]) == 0
        return bool((np.diff(self.positions[order])[same] == 1).all())
