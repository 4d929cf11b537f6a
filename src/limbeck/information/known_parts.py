"""Independent pieces that known sources are built from, with exact informations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int64

from limbeck.information.known_bits import (
    gaussian_bits,
    softmax,
    spread_log_density,
    table_bits,
    variance_bits,
    xor_bits,
)


CODE = 6.0 / math.sqrt(2.0)  # corners of a simplex, 6 apart
CODE_NOISE = 0.5 * math.sqrt(3.0)  # half width of uniform noise with deviation 0.5


class Informations(NamedTuple):
    """What is known about the label [bits]; all four add over independent parts."""

    teacher: float
    student: float
    joint: float
    union: float


@dataclass(frozen=True, eq=False)
class Piece:
    """One part's share of a sample, with exact posteriors of this part's label."""

    targets: Int64[np.ndarray, " n"]
    teacher: Float[np.ndarray, "n d_t"]
    student: Float[np.ndarray, "n d_s"]
    teacher_posteriors: Float[np.ndarray, "n classes"]
    student_posteriors: Float[np.ndarray, "n classes"]


@runtime_checkable
class Part(Protocol):
    """A label that two sources see, each in its own way."""

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return p(y)."""
        ...

    @property
    def widths(self) -> tuple[int, int]:
        """Return how many dimensions teacher and student need."""
        ...

    def informations(self) -> Informations:
        """Return I(Y;T), I(Y;S), I(Y;T,S) and the union information [bits]."""
        ...

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw n independent rows."""
        ...


@dataclass(frozen=True, eq=False)
class Table:
    """Symbols [y, t, s] of a table, each shown as a far corner of a simplex with bounded noise.

    One of the two must be able to imitate the other, or both have the same pair table with the
    label; then the union information is the larger one of the two.
    """

    pmf: Float[np.ndarray, "y t s"]

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return p(y)."""
        return self.pmf.sum((1, 2))

    @property
    def widths(self) -> tuple[int, int]:
        """Return one dimension a symbol; none for a side that sees nothing."""
        _, teacher, student = self.pmf.shape
        return teacher if teacher > 1 else 0, student if student > 1 else 0

    def informations(self) -> Informations:
        """Return sums over the table."""
        teacher, student = (table_bits(self.pmf.sum(axis)) for axis in (2, 1))
        joint = table_bits(self.pmf.reshape(len(self.pmf), -1))
        return Informations(teacher, student, joint, max(teacher, student))

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw cells of the table and show their symbols."""
        cells = random.choice(self.pmf.size, size=n, p=self.pmf.ravel())
        targets, teacher, student = np.unravel_index(cells, self.pmf.shape)
        given_teacher, given_student = (
            (self.pmf.sum(axis) / self.pmf.sum((0, axis))).T for axis in (2, 1)
        )
        return Piece(
            targets.astype(np.int64),
            shown(teacher, self.widths[0], random),
            shown(student, self.widths[1], random),
            given_teacher[teacher],
            given_student[student],
        )


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Equally likely points on a line or in a plane, seen in unit Gaussian noise.

    Attributes:
        points: One point a label, in one or two dimensions.
        teacher: What the points are multiplied by before the teacher's noise; 0: sees nothing.
        student: The same for the student.
        chain: The weaker side sees the stronger side's signal through more noise; else both noises
            are independent for a given label. This changes the synergy alone.
    """

    points: Float[np.ndarray, "classes d"]
    teacher: float
    student: float
    chain: bool = False

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return equal shares."""
        return even(len(self.points))

    @property
    def widths(self) -> tuple[int, int]:
        """Return the points' dimensions, none for a side that sees nothing."""
        width = self.points.shape[1]
        return width if self.teacher else 0, width if self.student else 0

    def informations(self) -> Informations:
        """Return quadratures; two independent views are one of the scales' root sum of squares."""
        teacher, student = (
            gaussian_bits(self.points * scale) if scale else 0.0
            for scale in (self.teacher, self.student)
        )
        union = max(teacher, student)
        if self.chain or not self.teacher or not self.student:
            return Informations(teacher, student, union, union)
        joint = gaussian_bits(self.points * math.hypot(self.teacher, self.student))
        return Informations(teacher, student, joint, union)

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw labels and noises."""
        targets = random.integers(len(self.points), size=n)
        noise = random.standard_normal((2, n, self.points.shape[1]))
        if self.chain:
            weak, strong = sorted((self.teacher, self.student))
            kept, weaker = weak / strong, int(self.student <= self.teacher)
            noise[weaker] *= math.sqrt(1.0 - kept**2)
            noise[weaker] += kept * noise[1 - weaker]
        sides, posteriors = [], []
        for scale, own in zip((self.teacher, self.student), noise, strict=True):
            means = scale * self.points
            seen = means[targets] + own
            posteriors.append(softmax(seen @ means.T - 0.5 * (means**2).sum(1)))
            sides.append(seen if scale else seen[:, :0])
        return Piece(targets, sides[0], sides[1], posteriors[0], posteriors[1])


@dataclass(frozen=True, eq=False)
class Variance:
    """Equally likely standard deviations of centred Gaussian dimensions: no mean tells the label.

    Attributes:
        deviations: One a label.
        teacher: How many such dimensions the teacher sees.
        student: How many the student sees, independent of the teacher's for a given label.
    """

    deviations: Float[np.ndarray, " classes"]
    teacher: int
    student: int

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return equal shares."""
        return even(len(self.deviations))

    @property
    def widths(self) -> tuple[int, int]:
        """Return the numbers of dimensions."""
        return self.teacher, self.student

    def informations(self) -> Informations:
        """Return quadratures over the squared length, which is all that matters."""
        teacher, student, joint = (
            variance_bits(self.deviations, d) if d else 0.0
            for d in (self.teacher, self.student, self.teacher + self.student)
        )
        return Informations(teacher, student, joint, max(teacher, student))

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw labels and noises."""
        targets = random.integers(len(self.deviations), size=n)
        sides, posteriors = [], []
        for width in self.widths:
            seen = self.deviations[targets, None] * random.standard_normal((n, width))
            sides.append(seen)
            posteriors.append(softmax(spread_log_density((seen**2).sum(1), self.deviations, width)))
        return Piece(targets, sides[0], sides[1], posteriors[0], posteriors[1])


@dataclass(frozen=True, eq=False)
class Xor:
    """The exclusive or of two fair bits: the teacher sees one, the student the other, as +-1.

    Attributes:
        teacher: What the teacher's bit is multiplied by before unit Gaussian noise is added.
        student: The same for the student, with independent noise.
    """

    teacher: float
    student: float

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return equal shares."""
        return even(2)

    @property
    def widths(self) -> tuple[int, int]:
        """Return one dimension a side."""
        return 1, 1

    def informations(self) -> Informations:
        """Return a quadrature over both noises; neither side knows anything alone."""
        joint = xor_bits(self.teacher, self.student)
        return Informations(0.0, 0.0, joint, 0.0)

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw bits and noises."""
        bits = random.integers(2, size=(2, n))
        teacher, student = (
            scale * (2.0 * own - 1.0)[:, None] + random.standard_normal((n, 1))
            for scale, own in zip((self.teacher, self.student), bits, strict=True)
        )
        blank = np.full((n, 2), 0.5)
        return Piece((bits[0] ^ bits[1]).astype(np.int64), teacher, student, blank, blank.copy())


@dataclass(frozen=True, eq=False)
class Switch:
    """Groups of labels with a part each; the group is plain to teacher and student alike.

    All labels are equally likely. Since both know the group, no coupling can mix groups: each
    information is that of the group plus the mean over groups.
    """

    parts: tuple[Part, ...]

    @property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return equal shares."""
        return even(sum(len(part.prior) for part in self.parts))

    @property
    def widths(self) -> tuple[int, int]:
        """Return one dimension a group and what the groups need."""
        teacher, student = np.add.reduce([part.widths for part in self.parts])
        return int(teacher) + len(self.parts), int(student) + len(self.parts)

    def informations(self) -> Informations:
        """Return the group's entropy plus the mean over groups."""
        sizes = np.array([len(part.prior) for part in self.parts], dtype=np.float64)
        shares = sizes / sizes.sum()
        inside = shares @ np.array([part.informations() for part in self.parts])
        group = -float(shares @ np.log2(shares))
        return Informations(*(group + float(bits) for bits in inside))

    def draw(self, n: int, random: np.random.Generator) -> Piece:
        """Draw a group a row; dimensions of other groups show noise."""
        sizes = np.array([len(part.prior) for part in self.parts])
        starts = np.cumsum(sizes) - sizes
        groups = random.choice(len(sizes), size=n, p=sizes / sizes.sum())
        targets = np.zeros(n, dtype=np.int64)
        sides = [random.standard_normal((n, width)) for width in self.widths]
        posteriors = [np.zeros((n, int(sizes.sum()))) for _ in sides]
        used = [len(sizes), len(sizes)]
        for side in sides:
            side[:, : len(sizes)] = shown(groups, len(sizes), random)
        for group, part in enumerate(self.parts):
            rows = groups == group
            piece = part.draw(int(rows.sum()), random)
            targets[rows] = starts[group] + piece.targets
            seen = (piece.teacher, piece.student)
            known = (piece.teacher_posteriors, piece.student_posteriors)
            for k in range(2):
                sides[k][rows, used[k] : used[k] + seen[k].shape[1]] = seen[k]
                used[k] += seen[k].shape[1]
                posteriors[k][rows, starts[group] : starts[group] + sizes[group]] = known[k]
        return Piece(targets, sides[0], sides[1], posteriors[0], posteriors[1])


def even(classes: int) -> Float[np.ndarray, " classes"]:
    """Return equal shares."""
    return np.full(classes, 1.0 / classes)


def shown(
    symbols: Int[np.ndarray, " n"], count: int, random: np.random.Generator
) -> Float[np.ndarray, "n count"]:
    """Return a far corner of a simplex for each symbol, in noise too small to confuse two."""
    corners = CODE * (symbols[:, None] == np.arange(count))
    return corners + random.uniform(-CODE_NOISE, CODE_NOISE, size=(len(symbols), count))


def line(classes: int) -> Float[np.ndarray, "classes 1"]:
    """Return points one apart, centred."""
    return (np.arange(classes) - 0.5 * (classes - 1.0))[:, None]


def circle(classes: int) -> Float[np.ndarray, "classes 2"]:
    """Return points on the unit circle, evenly spaced."""
    angles = 2.0 * math.pi * np.arange(classes) / classes
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def symmetric(classes: int, error: float) -> Float[np.ndarray, "classes symbols"]:
    """Return p(symbol | label): wrong with probability ``error``, all wrong ones alike."""
    return np.where(np.eye(classes) > 0, 1.0 - error, error / (classes - 1))


def erasing(classes: int, error: float) -> Float[np.ndarray, "classes symbols"]:
    """Return p(symbol | label): the label, or with probability ``error`` a symbol for nothing."""
    return np.hstack([(1.0 - error) * np.eye(classes), np.full((classes, 1), error)])


def separate(
    teacher: Float[np.ndarray, "classes t"], student: Float[np.ndarray, "classes s"]
) -> Table:
    """Return equally likely labels through two channels that are independent given the label."""
    return Table(np.einsum("yt,ys->yts", teacher, student) / len(teacher))


def chained(teacher: Float[np.ndarray, "classes t"], further: Float[np.ndarray, "t s"]) -> Table:
    """Return equally likely labels through the teacher's channel; the student sees its output."""
    return Table(teacher[:, :, None] * further / len(teacher))


def clean(classes: int, *, teacher: bool = True, student: bool = True) -> Table:
    """Return a label that is plain to whom it is said, and invisible to the other."""
    sees, blind = np.eye(classes), np.ones((classes, 1))
    return separate(sees if teacher else blind, sees if student else blind)


def outcomes(triples: Sequence[tuple[int, int, int]]) -> Table:
    """Return the table of equally likely outcomes (y, t, s)."""
    pmf = np.zeros(tuple(np.max(triples, axis=0) + 1))
    for triple in triples:
        pmf[triple] += 1.0 / len(triples)
    return Table(pmf)
