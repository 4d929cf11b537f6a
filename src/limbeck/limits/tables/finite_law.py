"""A finite law that data are drawn from, as counts: the cost does not depend on their number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64

from limbeck.limits.tables.counts import PairCounts
from limbeck.limits.tables.laws import checked_draws, checked_pair


@dataclass(frozen=True, slots=True, eq=False)
class FiniteLaw:
    """An input law with a teacher's row for each input, which data are drawn from.

    Attributes:
        name: For titles and records.
        input_law: rho [inputs].
        rows: The teacher's conditional laws [inputs, labels].
    """

    name: str
    input_law: Float[np.ndarray, " inputs"]
    rows: Float[np.ndarray, "inputs labels"]
    _order: Int64[np.ndarray, "inputs labels"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the laws, and sort labels so that the last one drawn has the most mass."""
        rho, pi = checked_pair("FiniteLaw", self.input_law, self.rows)
        object.__setattr__(self, "input_law", rho)
        object.__setattr__(self, "rows", pi)
        # numpy gives the last label what rounding leaves, so that must not be an impossible one.
        order = np.tile(np.arange(pi.shape[1]), (len(pi), 1))
        if not pi[:, -1].all():
            order = np.argsort(pi, axis=1, kind="stable")
        object.__setattr__(self, "_order", order)

    @property
    def inputs(self) -> int:
        """S, the number of inputs."""
        return len(self.rows)

    @property
    def labels(self) -> int:
        """A, the number of labels."""
        return self.rows.shape[1]

    @property
    def pairs(self) -> Float[np.ndarray, "inputs labels"]:
        """The joint law rho(s) pi(a | s)."""
        return self.input_law[:, None] * self.rows

    def input_counts(
        self, n: int, random: np.random.Generator, *, runs: int = 1
    ) -> Int64[np.ndarray, "runs inputs"]:
        """Draw how often each input comes among n, in independent runs.

        Args:
            n: Draws of a run, at least 0.
            random: Generator.
            runs: Repetitions, at least 1.

        Returns:
            [runs, inputs]; each row sums to n.

        Raises:
            ArgumentError: If ``n`` or ``runs`` is out of range.

        Source:
            Derived: counts of independent draws are multinomial.
        """
        n, runs = checked_draws("input_counts", n), checked_draws("input_counts", runs, 1)
        # The most likely input last: it takes what rounding leaves.
        order = np.argsort(self.input_law, kind="stable")
        out = np.empty((runs, self.inputs), np.int64)
        out[:, order] = random.multinomial(n, self.input_law[order], size=runs)
        return out

    def pair_counts(
        self, n: int, random: np.random.Generator, *, runs: int = 1
    ) -> Int64[np.ndarray, "runs inputs labels"]:
        """Draw how often each pair comes among n, in independent runs.

        The cost does not depend on n.

        Args:
            n: Draws of a run, at least 0.
            random: Generator.
            runs: Repetitions, at least 1.

        Returns:
            [runs, inputs, labels]; each run sums to n.

        Raises:
            ArgumentError: If ``n`` or ``runs`` is out of range.

        Example:
            >>> law = FiniteLaw("coin", np.array([1.0]), np.array([[0.5, 0.5]]))
            >>> int(law.pair_counts(10, np.random.default_rng(0)).sum())
            10

        Source:
            Derived: counts of independent draws are multinomial, first of inputs, then of labels.
        """
        at = self.input_counts(n, random, runs=runs)
        order = self._order
        sorted_rows = np.take_along_axis(self.rows, order, 1)
        drawn = random.multinomial(at, sorted_rows)
        if self.rows[:, -1].all():
            return drawn
        out = np.empty_like(drawn)
        np.put_along_axis(out, np.broadcast_to(order, drawn.shape), drawn, 2)
        return out

    def draw(self, n: int, random: np.random.Generator) -> PairCounts:
        """Draw n pairs and report the teacher's probability of each.

        Args:
            n: Draws, at least 0.
            random: Generator.

        Returns:
            Sparse counts with probabilities.

        Raises:
            ArgumentError: If ``n`` is out of range.

        Example:
            >>> law = FiniteLaw("coin", np.array([1.0]), np.array([[0.5, 0.5]]))
            >>> law.draw(10, np.random.default_rng(0)).n
            10

        Source:
            Zhao and Zhu (2023), arXiv:2310.07838, section 2.
        """
        drawn = self.pair_counts(n, random)[0]
        counts = PairCounts(self.labels)
        at, label = np.nonzero(drawn)
        told = self.rows[at, label]
        counts.add(at, label, probabilities=told, counts=drawn[at, label])
        return counts
