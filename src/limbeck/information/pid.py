"""The result of a partial information decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from limbeck.information.certificate import Certificate


ATOMS = ("unique_teacher", "unique_student", "redundant", "synergistic")


@dataclass(frozen=True, eq=False)
class PID:
    r"""How teacher and student share what they know about the targets; all in bits.

    .. math:: Uni(Y:T\setminus S) = I_\cup - I(Y;S), \quad Uni(Y:S\setminus T) = I_\cup - I(Y;T),
              \quad Red = I(Y;T) + I(Y;S) - I_\cup, \quad Syn = I(Y;T,S) - I_\cup

    The atoms follow from four numbers, so that Red + Uni(T) = I(Y;T), Red + Uni(S) = I(Y;S) and
    the sum of all four = I(Y;T,S) hold by construction.

    Attributes:
        mutual_teacher: I(Y;T) [bits].
        mutual_student: I(Y;S) [bits].
        mutual_joint: I(Y;T,S) [bits].
        union: :math:`I_\cup` [bits], what is known by anybody without putting both together.
        union_bounds: Lower and upper bound of ``union`` [bits].
        status: "converged", or "not converged" with the reason and what to do.
        iterations: How many steps the solver took; zero where the first bounds met.
        certificate: Arrays that prove ``union_bounds``; None where the method has none.
    """

    mutual_teacher: float
    mutual_student: float
    mutual_joint: float
    union: float
    union_bounds: tuple[float, float]
    status: str
    iterations: int
    certificate: Certificate | None = None

    @property
    def unique_teacher(self) -> float:
        r"""Uni(Y:T\S): what only the teacher knows [bits]."""
        return max(self.union - self.mutual_student, 0.0)

    @property
    def unique_student(self) -> float:
        r"""Uni(Y:S\T): what only the student knows [bits]."""
        return max(self.union - self.mutual_teacher, 0.0)

    @property
    def redundant(self) -> float:
        """Red(Y:T,S): what both know [bits]."""
        return max(self.mutual_teacher - self.unique_teacher, 0.0)

    @property
    def synergistic(self) -> float:
        """Syn(Y:T,S): what neither knows alone, and both know together [bits]."""
        return max(self.mutual_joint - self.union, 0.0)

    @property
    def distillable(self) -> float:
        """What is left to distil: ``unique_teacher`` [bits]."""
        return self.unique_teacher

    @property
    def distilled(self) -> float:
        """What was transferred: ``redundant`` [bits]."""
        return self.redundant

    @property
    def gap(self) -> float:
        """How far lower and upper bound of every atom are apart [bits]."""
        return self.union_bounds[1] - self.union_bounds[0]

    @property
    def converged(self) -> bool:
        """Whether the gap is within the tolerance that was asked for."""
        return self.status == "converged"

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Lower and upper bound of every atom, by its name [bits]."""
        low, high = self.union_bounds
        teacher, student, joint = self.mutual_teacher, self.mutual_student, self.mutual_joint
        found = {
            "unique_teacher": (low - student, high - student),
            "unique_student": (low - teacher, high - teacher),
            "redundant": (teacher + student - high, teacher + student - low),
            "synergistic": (joint - high, joint - low),
        }
        # An atom is never negative; rounding may leave a bound at -1e-17.
        return {
            name: (
                min(max(below, 0.0), getattr(self, name)),
                max(above, getattr(self, name)),
            )
            for name, (below, above) in found.items()
        }

    def __str__(self) -> str:
        """Return one line an atom with its bounds, then the informations and the status."""
        words = {
            "unique_teacher": "distillable (unique to the teacher)",
            "redundant": "distilled (known to both)",
            "unique_student": "unique to the student",
            "synergistic": "synergistic",
        }
        lines = []
        for name, text in words.items():
            low, high = self.bounds[name]
            lines.append(f"{text:36}{getattr(self, name):.6f} [{low:.6f}, {high:.6f}] bits")
        lines.append(
            f"I(Y;T) {self.mutual_teacher:.6f}, I(Y;S) {self.mutual_student:.6f}, "
            f"I(Y;T,S) {self.mutual_joint:.6f} bits"
        )
        lines.append(f"{self.status}, gap {self.gap:.1e} bits, {self.iterations} iterations")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; the certificate is left out."""
        return {
            **{name: getattr(self, name) for name in ATOMS},
            "mutual_teacher": self.mutual_teacher,
            "mutual_student": self.mutual_student,
            "mutual_joint": self.mutual_joint,
            "bounds": {name: list(pair) for name, pair in self.bounds.items()},
            "gap": self.gap,
            "unit": "bits",
            "status": self.status,
            "iterations": self.iterations,
        }
