"""A student that is a table: what it says of seen pairs, how it shares the rest, a prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.tables.laws import Rows


@dataclass(frozen=True, slots=True)
class Repairs:
    """What a learner had to mend in the numbers it was given.

    Attributes:
        above_one: Inputs whose reported probabilities sum to more than 1; they were renormalised.
        below_one: Inputs with all labels reported that sum to less than 1; renormalised as well.
        largest: Largest distance of such a sum from 1.
        disagreeing: Pairs, or inputs at soft labels, with reports that differ: the teacher is not
            deterministic, or several answered. Their mean was taken.
        largest_spread: Largest standard deviation of the reports of one pair.
    """

    above_one: int = 0
    below_one: int = 0
    largest: float = 0.0
    disagreeing: int = 0
    largest_spread: float = 0.0

    @property
    def none(self) -> bool:
        """Whether nothing had to be mended beyond rounding."""
        return not (self.above_one or self.below_one or self.disagreeing)

    def __str__(self) -> str:
        """Return one line for a report."""
        said = []
        if self.above_one:
            said.append(f"{self.above_one} inputs with probabilities that sum to more than 1")
        if self.below_one:
            said.append(f"{self.below_one} inputs with all labels whose sum is below 1")
        if said:
            said[-1] += f" (by {self.largest:.3g} at most; renormalised)"
        if self.disagreeing:
            said.append(
                f"{self.disagreeing} with several values for one pair (standard deviation up to "
                f"{self.largest_spread:.3g}; mean taken)"
            )
        return "; ".join(said) or "nothing to mend"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A tabular student, kept sparsely and callable: inputs in, one row of probabilities each out.

    Attributes:
        privilege: "hard_labels", "sampled_probabilities" or "soft_labels": what it learnt from.
        labels: Width of a row.
        seen: Inputs that it learnt something about, sorted.
        starts: Where the listed labels of each of ``seen`` begin, and their number at the end.
        listed: The labels that have a value of their own, sorted within an input.
        values: Their probabilities.
        rest: Of each of ``seen``, the mass that the labels not listed share.
        unknown: Of each of ``seen``, a bound on its total variation from the teacher's row; None
            for hard labels and the naive learner, which bound nothing.
        prior: Rows for unseen inputs and for sharing ``rest``.
        repairs: What had to be mended in the numbers given.
    """

    privilege: str
    labels: int
    seen: Int64[np.ndarray, " seen"]
    starts: Int64[np.ndarray, " ends"]
    listed: Int64[np.ndarray, " pairs"]
    values: Float[np.ndarray, " pairs"]
    rest: Float[np.ndarray, " seen"]
    unknown: Float[np.ndarray, " seen"] | None
    prior: Rows
    repairs: Repairs

    def __call__(self, inputs: ArrayLike) -> Float[np.ndarray, "k labels"]:
        """Return one row of probabilities an input; see :meth:`rows`."""
        return self.rows(inputs)

    def rows(self, inputs: ArrayLike) -> Float[np.ndarray, "k labels"]:
        """Return the student's conditional laws.

        Args:
            inputs: Indices >= 0 [k], seen or not, in any order.

        Returns:
            [k, labels]; rows sum to 1.

        Raises:
            DataError: If an index is no integer >= 0, or the prior has no row for it.
        """
        asked = _indices("Table.rows", inputs)
        out = self.prior(asked)
        place, known = self._find(asked)
        if known.any():
            out[known] = self._known(place[known], out[known])
        return out

    def residuals(self, inputs: ArrayLike) -> Float[np.ndarray, " k"]:
        r"""Return how far each row can be from the teacher's, without asking the teacher.

        .. math:: x_j = r_{s_j} \text{ if seen}, \qquad 1 \text{ if not}, \qquad
                  E\, \mathrm{TV} \le E\, x

        Args:
            inputs: Indices >= 0 [k]; for a certificate they must be independent of what the table
                was learnt from.

        Returns:
            In [0, 1] [k]: a bound on the total variation, 0 where the row is known.

        Raises:
            ArgumentError: If the table was learnt from hard labels, or naively: that bounds
                nothing.
            DataError: If an index is no integer >= 0.

        Source:
            Derived, from Zhao and Zhu (2023), arXiv:2310.07838, equation 4.6.
        """
        if self.unknown is None:
            raise ArgumentError(
                "Table.residuals: expected a table that keeps the teacher's own numbers; got one "
                "that says nothing of its own error. Use fit_sampled_probabilities or "
                "fit_soft_labels."
            )
        place, known = self._find(_indices("Table.residuals", inputs))
        out = np.ones(len(place))
        out[known] = self.unknown[place[known]]
        return out

    def _find(self, asked: Int64[np.ndarray, " k"]) -> tuple[np.ndarray, np.ndarray]:
        """Return where each input would stand in ``seen``, and whether it is there."""
        if not len(self.seen):
            return np.zeros(len(asked), np.int64), np.zeros(len(asked), bool)
        place = np.minimum(np.searchsorted(self.seen, asked), len(self.seen) - 1)
        return place, self.seen[place] == asked

    def _known(
        self, place: Int64[np.ndarray, " k"], prior: Float[np.ndarray, "k labels"]
    ) -> Float[np.ndarray, "k labels"]:
        widths = np.diff(self.starts)[place]
        row = np.repeat(np.arange(len(place)), widths)
        within = np.arange(len(row)) - np.repeat(np.cumsum(widths) - widths, widths)
        entry = np.repeat(self.starts[place], widths) + within
        told = np.zeros(prior.shape, bool)
        told[row, self.listed[entry]] = True
        out = share(prior, ~told, self.rest[place])
        out[row, self.listed[entry]] = self.values[entry]
        return out


def share(
    prior: Float[np.ndarray, "*rows labels"],
    open_: np.ndarray,
    mass: Float[np.ndarray, "*rows"],
) -> Float[np.ndarray, "*rows labels"]:
    """Split a mass over the open labels of each row in the prior's shares.

    Where the prior gives none of them anything they share alike; rows without open labels, or
    without mass, are 0.
    """
    shares = np.where(open_, prior, 0.0)
    total = shares.sum(-1, keepdims=True)
    shares = np.where(total > 0, shares, open_)
    total = shares.sum(-1, keepdims=True)
    # Divide first: a prior of 1e-300 on the open labels must not lose the mass.
    return shares / np.where(total > 0, total, 1.0) * mass[..., None]


def _indices(where: str, inputs: ArrayLike) -> Int64[np.ndarray, " k"]:
    found = np.atleast_1d(np.asarray(inputs))
    if found.ndim != 1:
        raise ShapeError(
            f"{where}: expected inputs in one dimension; got shape {found.shape}. Flatten them."
        )
    if found.size and (not np.issubdtype(found.dtype, np.integer) or found.min() < 0):
        got = found.min() if np.issubdtype(found.dtype, np.number) else found.dtype
        raise DataError(
            f"{where}: expected indices of inputs, integers >= 0; got {got}. Number the inputs."
        )
    return found.astype(np.int64)
