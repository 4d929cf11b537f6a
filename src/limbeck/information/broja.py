"""Exact BROJA decomposition of a table, with a certificate."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Real

from limbeck.checks import check_between
from limbeck.information.certificate import (
    Bracket,
    Certificate,
    Pairs,
    information,
    mutual_information,
)
from limbeck.information.entropy import checked_table
from limbeck.information.interior import interior_point
from limbeck.information.pid import PID
from limbeck.information.scaling import scaling


ROUNDING = 1e-12  # bits that float64 cannot certify
LARGEST = 1e8  # numbers in the matrix of a Newton step, 800 MB; two such are held
ITERATIONS = 20_000


def broja_pid(pmf: Real[np.ndarray, "y t s"], *, tolerance: float = 1e-6) -> PID:
    r"""Split what teacher and student know about the targets into its four parts, exactly.

    .. math:: Uni(Y:T \setminus S) = \min_{Q \in \Delta_P} I_Q(Y;T \mid S), \qquad
              \Delta_P = \{Q : Q(y,t) = P(y,t),\; Q(y,s) = P(y,s)\}

    The minimum is that of the union information :math:`I_Q(Y;T,S)` over the same set, which gives
    all four atoms; see :class:`limbeck.PID`. It is bracketed by a coupling from above and by dual
    variables from below, and the bracket is what is returned: bounds hold at every iterate, and
    ``certificate.verify(pmf)`` recomputes them.

    Args:
        pmf: The table P(y, t, s): probabilities that sum to one, or integer counts, which are
            normalised. Zero cells and symbols without mass are fine.
        tolerance: The gap between the bounds at which to stop [bits], at least 1e-12: rounding
            lets none be told apart below.

    Returns:
        The decomposition [bits]. Every atom is non-negative; ``unique_teacher`` (distillable) is
        zero where the student can imitate the teacher, ``redundant`` (distilled) where they share
        nothing. Where the gap stays above the tolerance, ``status`` says so and what to do.

    Raises:
        ShapeError: If the table has not three dimensions.
        DataError: If it is empty, negative, not finite, or sums to something else than one.
        ArgumentError: If ``tolerance`` is below 1e-12.

    Example:
        Targets are the teacher's bit and the student's bit side by side: each knows one bit that
        the other lacks. For their exclusive or, neither knows anything alone.

        >>> copy = np.zeros((4, 2, 2), dtype=int)
        >>> copy[0, 0, 0] = copy[1, 0, 1] = copy[2, 1, 0] = copy[3, 1, 1] = 1
        >>> found = broja_pid(copy)
        >>> [round(found.distillable, 6), round(found.unique_student, 6), found.distilled]
        [1.0, 1.0, 0.0]
        >>> xor = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]])
        >>> round(broja_pid(xor).synergistic, 6)
        1.0

    Note:
        Accelerated scaling goes first, for as long as half the gap costs less than the Newton step
        of an interior point that it spares; then those steps, unless their matrix would exceed
        800 MB (|Y| = 100 with more than 100 symbols on both sides).

    Source:
        Bertschinger, Rauh, Olbrich, Jost and Ay (2014), arXiv:1311.2852, for the decomposition.
        Alternating scaling for it is the idea of Banerjee, Rauh and Montufar (2018),
        arXiv:1709.07487; the dual bound, the acceleration and the Newton steps are limbeck's.
    """
    check_between("broja_pid", ROUNDING, math.inf, tolerance=tolerance)
    table = checked_table("broja_pid", pmf, 3)
    kept = np.ix_(*(table.sum(others) > 0 for others in ((1, 2), (0, 2), (0, 1))))
    bracket = _trivial(table[kept])
    limit = tolerance * math.log(2.0)
    iterations = 0
    if bracket.gap > limit:
        # Newton steps eliminate the duals of the teacher, who takes the side with more of them.
        turned = np.count_nonzero(bracket.pairs.student) > np.count_nonzero(bracket.pairs.teacher)
        bracket = bracket.swapped() if turned else bracket
        iterations = _close(bracket, limit)
        bracket = bracket.swapped() if turned else bracket
    return _result(table, kept, bracket, limit, iterations)


def _trivial(table: Float[np.ndarray, "y t s"]) -> Bracket:
    """Return the bracket of the bounds that need no solver: they often meet."""
    pairs = Pairs.of(table)
    bracket = Bracket(pairs)
    bracket.offer_coupling(table)
    bracket.offer_coupling(pairs.independent())
    with np.errstate(divide="ignore"):
        teacher = np.log(pairs.teacher) - np.log(pairs.teacher.sum(0))
        student = np.log(pairs.student) - np.log(pairs.student.sum(0))
    bracket.offer_duals(teacher, np.where(pairs.student > 0, 0.0, -np.inf))
    bracket.offer_duals(np.where(pairs.teacher > 0, 0.0, -np.inf), student)
    return bracket


def _close(bracket: Bracket, limit: float) -> int:
    """Close the bracket and return how many steps it took."""
    pairs = bracket.pairs
    fits = np.count_nonzero(pairs.teacher) * np.count_nonzero(pairs.student) <= LARGEST
    patience = max(_worth(pairs), 20) if fits else 4000
    found = scaling(bracket, limit, max_iterations=ITERATIONS, patience=patience)
    if bracket.gap <= limit or not fits:
        return found.iterations
    return found.iterations + interior_point(bracket, found, limit)


def _worth(pairs: Pairs) -> int:
    """Return how many iterations of scaling cost as much as the Newton step they can spare."""
    rows, columns = np.count_nonzero(pairs.teacher), np.count_nonzero(pairs.student)
    (labels, teachers), students = pairs.teacher.shape, pairs.student.shape[1]
    symbols = teachers * students
    # Microseconds, measured on one core; halving the gap spares about 0.7 steps.
    step = 500 + 20 * teachers + 0.08 * labels * symbols + columns**2 * (rows + columns / 3) / 3e4
    iteration = 30 + 0.007 * symbols + labels * symbols / 3e3
    return int(0.7 * step / iteration)


def _result(
    table: Float[np.ndarray, "y t s"],
    kept: tuple[np.ndarray, ...],
    bracket: Bracket,
    limit: float,
    iterations: int,
) -> PID:
    """Return the decomposition in bits, with the certificate for the table as it was given."""
    labels, teachers, students = (index.ravel() for index in kept)
    coupling = np.zeros_like(table)
    coupling[kept] = bracket.coupling
    teacher = np.full(table.shape[:2], -np.inf)
    teacher[np.ix_(labels, teachers)] = bracket.duals[0]
    student = np.full(table.shape[::2], -np.inf)
    student[np.ix_(labels, students)] = bracket.duals[1]

    known = mutual_information(table.sum(2)), mutual_information(table.sum(1))
    joint = information(table)
    upper = bracket.upper
    lower = min(bracket.lower, upper)
    # Rounding aside, the bounds lie inside of these already.
    union = min(max(0.5 * (lower + upper), *known), max(joint, *known), sum(known))
    bits = 1.0 / math.log(2.0)
    status = "converged"
    if bracket.gap > limit:
        status = (
            f"not converged: the bounds are {bracket.gap * bits:.1e} bits apart, the tolerance is "
            f"{limit * bits:.1e}. The bounds hold all the same; raise `tolerance` to what is "
            "needed, or merge rare symbols of teacher or student."
        )
    return PID(
        mutual_teacher=known[0] * bits,
        mutual_student=known[1] * bits,
        mutual_joint=joint * bits,
        union=union * bits,
        union_bounds=(lower * bits, upper * bits),
        status=status,
        iterations=iterations,
        certificate=Certificate(coupling, teacher, student),
    )
