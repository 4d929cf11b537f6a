"""From counted symbols to a decomposition with its bias removed, its spread and its null band."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64

from limbeck.checks import ArgumentError, DataError, ShapeError, check_choice
from limbeck.information.broja import broja_pid
from limbeck.information.pid import ATOMS
from limbeck.randomness import derive_seed


TOLERANCE = 1e-6  # of the solver on the counts as they are [bits]
LOOP_TOLERANCE = 1e-5  # on what was resampled, well below any standard error
SPLITS = 4  # at random into halves and quarters; the mean over them wobbles less
WEIGHTS = {  # of the whole, the halves' mean and the quarters' mean
    "two-point": (2.0, -1.0, 0.0),
    "quadratic": (8.0 / 3.0, -2.0, 1.0 / 3.0),
}
PER_CELL = 5  # samples that a table's cell needs
LEAST_ROWS = 8


@dataclass(frozen=True, eq=False)
class TableEstimate:
    r"""The decomposition of counted symbols; each dictionary by name, all in bits.

    Names are those of the four atoms (``unique_teacher``, ``unique_student``, ``redundant``,
    ``synergistic``) and of the four informations that they are made of (``mutual_teacher``,
    ``mutual_student``, ``mutual_joint``, ``union``).

    Attributes:
        raw: The decomposition of the counts as they are. Biased upwards, synergy most of all.
        corrected: With each of the four informations extrapolated to endless samples and the atoms
            made of these, so that the identities hold. Where the truth is zero it may be slightly
            negative: nothing is clipped.
        spread: Standard deviation of ``corrected`` over bootstrap samples. An interval is
            ``corrected`` plus and minus 1.96 of it, never the bootstrap's quantiles: resampling
            adds the bias a second time.
        null: 95 % quantile of ``raw`` where targets are shuffled against fixed symbols. Where
            ``raw`` is not above it, nothing can be told from zero. It is the band for targets that
            nobody knows anything about; where some atoms are positive it is wider than the others
            need, and errs towards "cannot tell".
        untrusted: Atoms for which there are too few samples: fewer than 5 a cell of the whole
            table (synergy), of a pair table (the others).
        n: How many samples were counted.
        gap: The widest bracket that the solver left anywhere [bits]; above 1e-5 it met a table
            that it could not close.
    """

    raw: dict[str, float]
    corrected: dict[str, float]
    spread: dict[str, float]
    null: dict[str, float]
    untrusted: tuple[str, ...]
    n: int
    gap: float


def table_estimate(
    targets: Int[np.ndarray, " n"],
    teacher_symbols: Int[np.ndarray, " n"],
    student_symbols: Int[np.ndarray, " n"],
    *,
    correction: str = "two-point",
    resamples: int = 50,
    permutations: int = 100,
    seed: int = 0,
) -> TableEstimate:
    r"""Decompose what two rows of symbols know about the targets, without the bias of counting.

    Each of :math:`v \in \{I(Y;T), I(Y;S), I(Y;T,S), I_\cup\}` is extrapolated in 1/n, from all
    samples and from the means over disjoint halves and quarters:

    .. math:: 2 v_n - \bar v_{n/2} \quad (\text{two-point}), \qquad
              \tfrac83 v_n - 2 \bar v_{n/2} + \tfrac13 \bar v_{n/4} \quad (\text{quadratic})

    Args:
        targets: Class numbers; any integers.
        teacher_symbols: The teacher's symbol of each sample; any integers.
        student_symbols: The student's.
        correction: ``"two-point"``, or ``"quadratic"``, which removes more where cells hold one
            sample and overshoots a little where they hold ten.
        resamples: Bootstrap samples for the spread, at least 2.
        permutations: Shuffles of the targets for the null band, at least 1; 100 for a 95 % one.
        seed: Equal seeds give equal results.

    Returns:
        Raw and corrected decomposition, spread and null band [bits], and which atoms cannot be
        trusted at this number of samples.

    Raises:
        ShapeError: If the three have not one length.
        DataError: If there are fewer than 8 samples.
        ArgumentError: If an option is out of range.

    Note:
        One solution for the counts, 8 for the splits (24 if quadratic), 3 (7) a bootstrap sample
        and one a shuffle.

    Example:
        The teacher's and the student's fair coins; the targets are both coins side by side.

        >>> coins = np.random.default_rng(0).integers(2, size=(2, 4000))
        >>> found = table_estimate(2 * coins[0] + coins[1], *coins, resamples=20, permutations=20)
        >>> [round(found.corrected[name], 1) + 0.0 for name in ("unique_teacher", "redundant")]
        [1.0, 0.0]
        >>> found.raw["unique_teacher"] > found.null["unique_teacher"], found.untrusted
        (True, ())

    Source:
        Strong, Koberle, de Ruyter van Steveninck and Bialek (1998), arXiv:cond-mat/9603127, for
        extrapolation in the number of samples. That the four informations are corrected and the
        atoms made of them, rather than each atom by itself, keeps the identities.
    """
    _check(targets, teacher_symbols, student_symbols, resamples, permutations)
    check_choice("table_estimate", "correction", correction, WEIGHTS)
    random = np.random.default_rng(derive_seed("table estimate", seed))
    counted = _Counted.of(targets, teacher_symbols, student_symbols)
    raw = counted.solved(counted.counts, TOLERANCE)
    corrected = counted.extrapolated(raw, counted.counts, correction, SPLITS, random)
    again = []
    for _ in range(resamples):
        counts = random.multinomial(counted.n, counted.counts / counted.n)
        whole = counted.solved(counts)
        again.append(counted.extrapolated(whole, counts, correction, 1, random))
    shuffled = [counted.shuffled(random) for _ in range(permutations)]
    null = [list(_named(values).values()) for values in shuffled]
    spread = [list(_named(values).values()) for values in again]
    names = list(_named(raw))
    return TableEstimate(
        raw=_named(raw),
        corrected=_named(corrected),
        spread=dict(zip(names, np.std(spread, axis=0, ddof=1).tolist(), strict=True)),
        null=dict(zip(names, np.quantile(null, 0.95, axis=0).tolist(), strict=True)),
        untrusted=untrusted_atoms(counted.n, counted.shape),
        n=counted.n,
        gap=max(counted.gaps),
    )


def shuffled_atoms(
    targets: Int[np.ndarray, " n"],
    teacher_symbols: Int[np.ndarray, " n"],
    student_symbols: Int[np.ndarray, " n"],
    *,
    permutations: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Return the null band of :func:`table_estimate` alone: a 95 % quantile for every atom [bits].

    Raises:
        ShapeError: If the three have not one length.
        DataError: If there are fewer than 8 samples.
    """
    _check(targets, teacher_symbols, student_symbols, 2, permutations)
    random = np.random.default_rng(derive_seed("shuffled atoms", seed))
    counted = _Counted.of(targets, teacher_symbols, student_symbols)
    null = [_named(counted.shuffled(random)) for _ in range(permutations)]
    return {name: float(np.quantile([one[name] for one in null], 0.95)) for name in ATOMS}


def untrusted_atoms(n: int, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the atoms for which ``n`` samples are too few, for |Y|, |T| and |S| symbols.

    Synergy needs five samples a cell of the whole table, the other atoms five a cell of the larger
    one of the two pair tables.

    Example:
        >>> untrusted_atoms(4999, (10, 10, 10)), untrusted_atoms(499, (10, 10, 5))[0]
        (('synergistic',), 'unique_teacher')
    """
    labels, teacher, student = shape
    if n < PER_CELL * labels * max(teacher, student):
        return ATOMS
    return ("synergistic",) if n < PER_CELL * labels * teacher * student else ()


@dataclass(frozen=True, eq=False)
class _Counted:
    """Samples as counts of the cells that have any, numbered from 0 along each axis."""

    labels: Int64[np.ndarray, " n"]
    pairs: Int64[np.ndarray, " n"]
    cells: Int64[np.ndarray, " cells"]
    counts: Int64[np.ndarray, " cells"]
    shape: tuple[int, int, int]
    gaps: list[float]

    @classmethod
    def of(cls, *columns: Int[np.ndarray, " n"]) -> _Counted:
        """Number the symbols that occur and count them."""
        numbered = [np.unique(column, return_inverse=True) for column in columns]
        labels, teacher, student = (numbers.astype(np.int64) for _, numbers in numbered)
        y, t, s = (len(values) for values, _ in numbered)
        pairs = teacher * s + student
        cells, counts = np.unique(labels * (t * s) + pairs, return_counts=True)
        return cls(labels, pairs, cells, counts.astype(np.int64), (y, t, s), [])

    @property
    def n(self) -> int:
        return len(self.labels)

    def solved(
        self, counts: Int64[np.ndarray, " cells"], tolerance: float = LOOP_TOLERANCE
    ) -> Float[np.ndarray, " 4"]:
        """Return the four informations of counts of the occupied cells."""
        table = np.zeros(math.prod(self.shape), dtype=np.int64)
        table[self.cells] = counts
        return self._informations(table, tolerance)

    def shuffled(self, random: np.random.Generator) -> Float[np.ndarray, " 4"]:
        """Return the four informations with the labels shuffled against the pairs of symbols."""
        _, teacher, student = self.shape
        cells = random.permutation(self.labels) * (teacher * student) + self.pairs
        table = np.bincount(cells, minlength=math.prod(self.shape))
        return self._informations(table, LOOP_TOLERANCE)

    def extrapolated(
        self,
        whole: Float[np.ndarray, " 4"],
        counts: Int64[np.ndarray, " cells"],
        correction: str,
        splits: int,
        random: np.random.Generator,
    ) -> Float[np.ndarray, " 4"]:
        """Return the four informations extrapolated to endless samples."""
        weights = WEIGHTS[correction]
        found = weights[0] * whole
        for _ in range(splits):
            parts = [counts]
            for weight in weights[1:]:
                if weight == 0.0:
                    break
                parts = [half for part in parts for half in _halves(part, random)]
                mean = np.mean([self.solved(part) for part in parts], axis=0)
                found = found + weight / splits * mean
        return found

    def _informations(
        self, table: Int[np.ndarray, " size"], tolerance: float
    ) -> Float[np.ndarray, " 4"]:
        pid = broja_pid(table.reshape(self.shape), tolerance=tolerance)
        self.gaps.append(pid.gap)
        return np.array([pid.mutual_teacher, pid.mutual_student, pid.mutual_joint, pid.union])


def _halves(
    counts: Int64[np.ndarray, " cells"], random: np.random.Generator
) -> tuple[Int64[np.ndarray, " cells"], Int64[np.ndarray, " cells"]]:
    """Deal what was counted into two halves at random."""
    # Not within labels: then the label's own share of the bias would not be seen.
    first = random.multivariate_hypergeometric(counts, int(counts.sum()) // 2, method="marginals")
    return first, counts - first


def _named(informations: Float[np.ndarray, " 4"]) -> dict[str, float]:
    """Return atoms and informations by name."""
    teacher, student, joint, union = (float(bits) for bits in informations)
    return {
        "unique_teacher": union - student,
        "unique_student": union - teacher,
        "redundant": teacher + student - union,
        "synergistic": joint - union,
        "mutual_teacher": teacher,
        "mutual_student": student,
        "mutual_joint": joint,
        "union": union,
    }


def _check(
    targets: Int[np.ndarray, " n"],
    teacher_symbols: Int[np.ndarray, " n"],
    student_symbols: Int[np.ndarray, " n"],
    resamples: int,
    permutations: int,
) -> None:
    """Raise for what cannot be counted."""
    shapes = [column.shape for column in (targets, teacher_symbols, student_symbols)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ShapeError(
            f"table_estimate: expected three rows of one length; got targets {shapes[0]}, "
            f"teacher_symbols {shapes[1]}, student_symbols {shapes[2]}. Take all from the same "
            "samples."
        )
    if len(targets) < LEAST_ROWS:
        raise DataError(
            f"table_estimate: expected at least {LEAST_ROWS} samples; got {len(targets)}. Five a "
            "cell of the table are needed to trust what comes out."
        )
    for name, number, least in (("resamples", resamples, 2), ("permutations", permutations, 1)):
        if number < least:
            raise ArgumentError(
                f"table_estimate: expected `{name}` >= {least}; got {number}. Take 50 to 100."
            )
