"""Continuous sources whose decomposition is known, for tests, documentation and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int64

from limbeck.checks import ArgumentError
from limbeck.information.known_parts import (
    Gaussian,
    Informations,
    Part,
    Switch,
    Table,
    Variance,
    Xor,
    chained,
    circle,
    clean,
    erasing,
    line,
    outcomes,
    separate,
    symmetric,
)
from limbeck.randomness import derive_seed


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a source, with what an optimal probe would say about each.

    Attributes:
        targets: The label of each row.
        teacher: What the teacher sees.
        student: What the student sees.
        teacher_posteriors: p(y | this row of ``teacher``), exact; rows sum to one.
        student_posteriors: p(y | this row of ``student``), exact; rows sum to one.
    """

    targets: Int64[np.ndarray, " n"]
    teacher: Float[np.ndarray, "n d_t"]
    student: Float[np.ndarray, "n d_s"]
    teacher_posteriors: Float[np.ndarray, "n classes"]
    student_posteriors: Float[np.ndarray, "n classes"]


@dataclass(frozen=True, eq=False)
class Source:
    r"""A law of label, teacher and student with a known decomposition.

    .. math:: Y = (Y_1, \dots, Y_m), \quad T = R_T\,(T_1, \dots, T_m, \nu), \quad
              S = R_S\,(S_1, \dots, S_m, \nu')

    The parts :math:`(Y_i, T_i, S_i)` are independent of each other, so that all atoms add. In each
    part one side can imitate the other, or both know equally much, so that the union information
    is the larger one of two mutual informations. The rotations and the standard normal nuisance
    dimensions change nothing.

    Attributes:
        name: Its key in ``SOURCES``.
        description: The law in words, with how both sides' noises hang together: where nothing is
            said they are independent for a given label.
        parts: The independent parts; the label is their labels' number, the first part's label
            counting most.
        shared: How many nuisance dimensions teacher and student have in common.

    Source:
        Bertschinger, Rauh, Olbrich, Jost and Ay (2014), arXiv:1311.2852, for additivity and for
        what is unique where one side is a degradation of the other.
    """

    name: str
    description: str
    parts: tuple[Part, ...]
    shared: int = 0

    @cached_property
    def prior(self) -> Float[np.ndarray, " classes"]:
        """Return p(y)."""
        return reduce(np.kron, [part.prior for part in self.parts])

    @property
    def classes(self) -> int:
        """Return the number of labels."""
        return len(self.prior)

    @cached_property
    def informations(self) -> Informations:
        """Return I(Y;T), I(Y;S), I(Y;T,S) and the union information [bits], good to 1e-6."""
        return Informations(*map(sum, zip(*(p.informations() for p in self.parts), strict=True)))

    @cached_property
    def truth(self) -> Mapping[str, float]:
        """Return the four atoms by name [bits], good to 1e-6: closed forms and quadratures."""
        teacher, student, joint, union = self.informations
        return MappingProxyType(
            {
                "unique_teacher": union - student,
                "unique_student": union - teacher,
                "redundant": teacher + student - union,
                "synergistic": max(joint - union, 0.0),  # rounding
            }
        )

    @property
    def least_dimension(self) -> int:
        """Return how many dimensions a side must have at least."""
        widths = np.array([part.widths for part in self.parts]).sum(0)
        return int(widths.max()) + self.shared

    def draw(self, n: int, seed: int, dimension: int = 64) -> Sample:
        """Draw independent rows.

        The rotations belong to the source and the dimension, so that samples of two seeds follow
        one law: what was fitted on one can be used on the other.

        Args:
            n: How many rows, at least 1.
            seed: Equal seeds give equal samples. The labels and posteriors of a seed are the same
                at every dimension.
            dimension: Width of teacher and student, at least ``least_dimension``.

        Returns:
            Labels, float64 features and exact posteriors.

        Raises:
            ArgumentError: If ``n`` or ``dimension`` is too small.

        Example:
            >>> sample = SOURCES["symmetric10"].draw(3, seed=0)
            >>> sample.teacher.shape, sample.teacher_posteriors.max(1).round(6).tolist()
            ((3, 64), [0.9, 0.9, 0.9])
        """
        if n < 1:
            raise ArgumentError(f"Source.draw: expected `n` >= 1; got {n}. Ask for some rows.")
        if dimension < self.least_dimension:
            raise ArgumentError(
                f"Source.draw: expected `dimension` >= {self.least_dimension} for {self.name}; "
                f"got {dimension}. Leave more room for what the label is written into."
            )
        random = np.random.default_rng(derive_seed("known source", self.name, seed))
        pieces = [part.draw(n, random) for part in self.parts]
        targets = np.zeros(n, dtype=np.int64)
        for part, piece in zip(self.parts, pieces, strict=True):
            targets = targets * len(part.prior) + piece.targets
        common = random.standard_normal((n, self.shared))
        features = []
        for side in ("teacher", "student"):
            columns = [*(getattr(piece, side) for piece in pieces), common]
            used = sum(column.shape[1] for column in columns)
            columns.append(random.standard_normal((n, dimension - used)))
            features.append(np.hstack(columns) @ _rotation(self.name, side, dimension))
        return Sample(
            targets,
            features[0],
            features[1],
            reduce(_product, [piece.teacher_posteriors for piece in pieces]),
            reduce(_product, [piece.student_posteriors for piece in pieces]),
        )


def _product(
    first: Float[np.ndarray, "n a"], second: Float[np.ndarray, "n b"]
) -> Float[np.ndarray, "n ab"]:
    """Return the posteriors of a pair of independent labels."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _rotation(name: str, side: str, dimension: int) -> Float[np.ndarray, "d d"]:
    """Return an orthogonal matrix, uniformly random but the same at every call."""
    random = np.random.default_rng(derive_seed("rotation", name, side, dimension))
    orthogonal, triangular = np.linalg.qr(random.standard_normal((dimension, dimension)))
    return orthogonal * np.sign(np.diag(triangular))


def _sources() -> dict[str, Source]:
    """Return all sources; two neighbours are of one kind."""
    bit, nothing = line(2) * 2.0, np.ones((2, 1))  # the bit as -1 and +1
    found = [
        Source(
            "null_shared",
            "Nobody knows anything; 8 nuisance dimensions are common to both.",
            (clean(10, teacher=False, student=False),),
            shared=8,
        ),
        Source(
            "null_apart",
            "Two labels; nobody knows anything.",
            (clean(2, teacher=False, student=False),),
        ),
        Source(
            "copy_super",
            "The teacher knows the super-class (5 pairs of labels), the student the parity.",
            (clean(5, student=False), clean(2, teacher=False)),
        ),
        Source(
            "copy_thirds",
            "12 labels: the teacher knows one of 3 groups, the student the place of 4 therein.",
            (clean(3, student=False), clean(4, teacher=False)),
        ),
        Source(
            "teacher_superset",
            "Both know the super-class (5 pairs of labels), the teacher also the parity.",
            (clean(5), clean(2, student=False)),
        ),
        Source(
            "student_superset",
            "Both know the parity, the student also the super-class (5 pairs of labels).",
            (clean(5, teacher=False), clean(2)),
        ),
        Source(
            "rdnxor",
            "A bit that both know, and the exclusive or of a bit of the teacher's and one of the "
            "student's, independent of each other and not of the label.",
            (clean(2), _xor_table()),
        ),
        Source(
            "noisy_xor",
            "A bit as +-1 in Gaussian noise, clearer to the teacher, and the exclusive or of one "
            "bit a side as +-1 in Gaussian noise; all noises and bits independent.",
            (Gaussian(bit, 1.6, 1.2), Xor(2.0, 1.6)),
        ),
        Source(
            "and",
            "Teacher and student know a fair bit each; the label is one where both are.",
            (outcomes([(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 1)]),),
        ),
        Source(
            "sum",
            "Teacher and student know a fair bit each; the label is their sum.",
            (outcomes([(0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)]),),
        ),
        Source(
            "awgn_degraded",
            "Three bits as +-1 in Gaussian noise, signal-to-noise ratio 2 (teacher) and 0.5 "
            "(student), noises independent.",
            (Gaussian(bit, 2.0**0.5, 0.5**0.5),) * 3,
        ),
        Source(
            "circle10_degraded",
            "Ten points on a circle in Gaussian noise, radius 5 (teacher) and 2.5 (student) noise "
            "deviations, noises independent.",
            (Gaussian(circle(10), 5.0, 2.5),),
        ),
        Source(
            "symmetric10",
            "The label, wrong in 10 % (teacher) and 40 % (student) of the rows, independently.",
            (separate(symmetric(10, 0.1), symmetric(10, 0.4)),),
        ),
        Source(
            "symmetric10_chain",
            "The label, wrong in 20 % of the teacher's rows; the student sees the teacher's label, "
            "wrong once more in 25 %.",
            (chained(symmetric(10, 0.2), symmetric(10, 0.25)),),
        ),
        Source(
            "mixed10_line",
            "One of 5 levels, clearer to the teacher, and a bit, clearer to the student, in "
            "independent Gaussian noises: all atoms positive.",
            (Gaussian(line(5), 2.5, 1.2), Gaussian(bit, 0.8, 1.7)),
        ),
        Source(
            "mixed10_circle",
            "One of 5 points on a circle in independent Gaussian noises, clearer to the student, "
            "and a bit, wrong in 5 % (teacher) and 25 % (student) of the rows, independently.",
            (Gaussian(circle(5), 1.5, 3.0), separate(symmetric(2, 0.05), symmetric(2, 0.25))),
        ),
        Source(
            "line10_chain",
            "Ten levels in Gaussian noise, 2.5 (teacher) and 1 (student) noise deviations apart; "
            "the student sees the teacher's signal in further noise.",
            (Gaussian(line(10), 2.5, 1.0, chain=True),),
        ),
        Source(
            "erasure10",
            "The label, erased in 20 % (teacher) and 50 % (student) of the rows, independently.",
            (separate(erasing(10, 0.2), erasing(10, 0.5)),),
        ),
        Source(
            "variance4",
            "Only the spread of Gaussian dimensions tells the label: deviations 1, 2, 4, 8 in 4 "
            "dimensions (teacher) and 1 (student), independent for a given label.",
            (Variance(2.0 ** np.arange(4.0), 4, 1),),
        ),
        Source(
            "variance10",
            "One of 5 spreads (deviations 1, 2, ..., 16) of Gaussian dimensions, 3 for the teacher "
            "and 6 for the student, and a bit, wrong in 10 % of the rows, for the teacher alone.",
            (Variance(2.0 ** np.arange(5.0), 3, 6), separate(symmetric(2, 0.1), nothing)),
        ),
        Source(
            "switched10",
            "Both know the half. In one half the teacher sees 5 levels more clearly, in the other "
            "the student 5 points on a circle, all in independent Gaussian noises.",
            (Switch((Gaussian(line(5), 3.0, 1.0), Gaussian(circle(5), 1.2, 3.0))),),
        ),
        Source(
            "switched12",
            "Both know the third. In one the teacher's label of 4 is wrong in 10 %, the student's "
            "in 40 % of the rows, in the next in 30 % and 5 %; in the last neither knows more.",
            (
                Switch(
                    (
                        separate(symmetric(4, 0.1), symmetric(4, 0.4)),
                        separate(symmetric(4, 0.3), symmetric(4, 0.05)),
                        clean(4, teacher=False, student=False),
                    )
                ),
            ),
        ),
        Source(
            "degraded100",
            "10 levels and 10 points on a circle in independent Gaussian noises, both clearer to "
            "the teacher.",
            (Gaussian(line(10), 5.0, 1.75), Gaussian(circle(10), 6.3, 3.0)),
        ),
        Source(
            "faint100",
            "As degraded100, with a student that hardly knows anything.",
            (Gaussian(line(10), 2.5, 0.3), Gaussian(circle(10), 5.0, 0.6)),
        ),
        Source(
            "split100",
            "10 levels, clearer to the teacher, and 10 points on a circle, clearer to the student, "
            "in independent Gaussian noises.",
            (Gaussian(line(10), 5.0, 2.0), Gaussian(circle(10), 3.6, 6.6)),
        ),
        Source(
            "sharp100",
            "10 levels in independent Gaussian noises, hardly ever confused by the teacher, and "
            "one of 10 labels, wrong in 2 % (teacher) and 0.1 % (student), independently.",
            (Gaussian(line(10), 7.0, 5.0), separate(symmetric(10, 0.02), symmetric(10, 0.001))),
        ),
    ]
    return {source.name: source for source in found}


def _xor_table() -> Table:
    """Return the exclusive or of the teacher's and the student's symbol."""
    return outcomes([(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)])


SOURCES: dict[str, Source] = _sources()
