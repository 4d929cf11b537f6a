"""The worked examples and theorems of Dissanayake et al. (2025), arXiv:2411.07483."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import broja_pid
from limbeck.information.intersection import intersection_information


GAP = 1e-6
EXACT = 2e-6  # the gap, and as much for what is compared with it
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31)


def table(weights, label, teacher, student):
    """P(y, t, s) of functions of a source: ``weights`` maps its outcomes to probabilities."""
    sides = [[side(outcome) for outcome in weights] for side in (label, teacher, student)]
    symbols = [sorted(set(side)) for side in sides]
    pmf = np.zeros([len(found) for found in symbols])
    for *values, weight in zip(*sides, weights.values(), strict=True):
        pmf[tuple(found.index(v) for found, v in zip(symbols, values, strict=True))] += weight
    return pmf


def mutual_information(joint):
    """I(rows; columns) in bits as the plain sum of its definition."""
    rows, columns = joint.sum(1), joint.sum(0)
    return sum(
        joint[i, j] * math.log2(joint[i, j] / (rows[i] * columns[j]))
        for i, j in zip(*np.nonzero(joint), strict=True)
    )


def alone(pmf):
    """I(Y;T) and I(Y;S) by the plain sum."""
    return mutual_information(pmf.sum(2)), mutual_information(pmf.sum(1))


def uniform(*symbols):
    return {outcome: 1 / math.prod(symbols) for outcome in itertools.product(*map(range, symbols))}


def first(outcome):
    return outcome[0]


def second(outcome):
    return outcome[1]


def either(outcome):
    return outcome[0] ^ outcome[1]


def whole(outcome):
    return outcome


def solved(pmf):
    found = broja_pid(pmf)
    assert found.status == "converged"
    assert found.gap <= GAP
    return found


BITS = uniform(2, 2)
UNFAIR = {(u, v): (0.2, 0.8)[u == 0] * 0.5 for u in (0, 1) for v in (0, 1)}
LITTLE = -0.2 * math.log2(0.2) - 0.8 * math.log2(0.8)  # 0.721928: the entropy of a bit of 0.2


@pytest.mark.parametrize(
    ("weights", "teacher", "student", "informations", "atoms"),
    [
        # Y is the first bit. Atoms: unique to the teacher, to the student, redundant, synergistic.
        pytest.param(BITS, second, first, (0, 1), (0, 1, 0, 0), id="uninformative-teacher"),
        pytest.param(BITS, second, second, (0, 0), (0, 0, 0, 0), id="uninformative-copied"),
        pytest.param(
            UNFAIR, whole, first, (LITTLE, LITTLE), (0, 0, LITTLE, 0), id="over-complex-label-bit"
        ),
        pytest.param(
            UNFAIR, whole, second, (LITTLE, 0), (LITTLE, 0, 0, 0), id="over-complex-other-bit"
        ),
        pytest.param(BITS, either, second, (0, 0), (0, 0, 0, 1), id="synergy"),
    ],
)
def test_the_three_examples(weights, teacher, student, informations, atoms):
    pmf = table(weights, first, teacher, student)
    found = solved(pmf)
    names = ("unique_teacher", "unique_student", "redundant", "synergistic")
    assert [getattr(found, name) for name in names] == pytest.approx(atoms, abs=GAP)
    assert [found.mutual_teacher, found.mutual_student] == pytest.approx(informations, abs=1e-12)
    assert alone(pmf) == pytest.approx(informations, abs=1e-12)


def test_conditional_information_is_not_what_can_be_distilled():
    """The third example: I(Y;T|S) is a bit although no network alone knows anything."""
    pmf = table(BITS, first, either, second)
    given_student = sum(
        weight * mutual_information(pmf[:, :, s] / weight)
        for s, weight in enumerate(pmf.sum((0, 1)))
    )
    found = solved(pmf)
    assert given_student == pytest.approx(1)
    assert found.distillable == pytest.approx(0, abs=GAP)
    assert found.distillable + found.synergistic == pytest.approx(given_student, abs=GAP)


@pytest.mark.parametrize(
    ("nuisance", "kept", "copied", "distilled", "distillable"),
    [
        (8, first, 2, 2, 0),
        (8, second, 3, 0, 2),  # I(T;S) prefers the nuisance, which tells nothing
        (2, first, 2, 2, 0),
        (2, second, 1, 0, 2),
    ],
)
def test_a_teacher_with_nuisance(nuisance, kept, copied, distilled, distillable):
    """Theorem 3.1 with Y = Z on four symbols and G independent of it."""
    pmf = table(uniform(4, nuisance), first, whole, kept)
    found = solved(pmf)
    assert mutual_information(pmf.sum(0)) == pytest.approx(copied)
    assert found.distilled == pytest.approx(distilled, abs=GAP)
    assert found.distillable == pytest.approx(distillable, abs=GAP)
    assert found.mutual_teacher == pytest.approx(2)


def functions(labels, nuisance, capacity):
    """Functions of (z, g) to at most ``capacity`` symbols, one of each kind.

    Kinds are functions up to names of the symbols of Z, of G and of the student, which change no
    information.
    """
    seen = set()
    for values in itertools.product(range(capacity), repeat=labels * nuisance):
        if any(v > max(values[:i], default=-1) + 1 for i, v in enumerate(values)):
            continue  # the same partition with its blocks named in another order
        rows = np.reshape(values, (labels, nuisance))
        columns = min(
            tuple(sorted(map(tuple, _renamed(rows[list(order)].T).tolist())))
            for order in itertools.permutations(range(labels))
        )
        if columns not in seen:
            seen.add(columns)
            yield rows


def _renamed(columns):
    """Sort the columns of (z, g) and name symbols by first use, until nothing changes."""
    for _ in range(4):
        names = {}
        columns = np.array([[names.setdefault(v, len(names)) for v in row] for row in columns])
        columns = np.array(sorted(columns.tolist()))
    return columns


@pytest.mark.parametrize(("labels", "nuisance"), [(2, 4), (4, 2)])
def test_no_function_within_the_capacity_is_better(labels, nuisance):
    """Theorem 3.1 over all S = f(T) with at most max(|Z|, |G|) symbols."""
    capacity = max(labels, nuisance)
    outcomes = uniform(labels, nuisance)
    copied, distilled = [], []
    for rows in functions(labels, nuisance, capacity):
        pmf = table(outcomes, first, whole, lambda outcome, rows=rows: rows[outcome])
        found = solved(pmf)
        copied.append(mutual_information(pmf.sum(0)))
        distilled.append(found.distilled)
        assert found.distilled == pytest.approx(alone(pmf)[1], abs=GAP)  # T can say what S says
    by_label, by_nuisance = (table(outcomes, first, whole, kept) for kept in (first, second))
    best = max((by_label, by_nuisance), key=lambda pmf: mutual_information(pmf.sum(0)))
    assert (best is by_label) == (labels > nuisance)
    assert max(copied) == pytest.approx(mutual_information(best.sum(0))) == math.log2(capacity)
    assert max(distilled) == pytest.approx(solved(by_label).distilled, abs=GAP)
    assert max(distilled) == pytest.approx(math.log2(labels), abs=GAP)  # all of I(Y;T)
    assert min(distilled) == pytest.approx(solved(by_nuisance).distilled, abs=GAP) == 0
    assert len(copied) > 40


def drawn(seed, *shape):
    """A random table, every second one with many zeros."""
    source = np.random.default_rng(seed)
    return source.dirichlet(np.full(math.prod(shape), (1.0, 0.1)[seed % 2])).reshape(shape)


def channel(seed, inputs, outputs):
    return np.random.default_rng(seed).dirichlet(np.full(outputs, 0.5), size=inputs)


SIZES = st.tuples(*[st.integers(1, 4)] * 3)


@QUICK
@given(seed=SEEDS, sizes=SIZES)
def test_unique_and_redundant_are_not_negative(seed, sizes):
    """Theorem 3.2 (i), on the union information: the atoms themselves are clipped."""
    pmf = drawn(seed, *sizes)
    found, (teacher, student) = solved(pmf), alone(pmf)
    assert found.union - student >= -EXACT
    assert found.union - teacher >= -EXACT
    assert teacher + student - found.union >= -EXACT


@QUICK
@given(seed=SEEDS, sizes=SIZES)
def test_nothing_to_distil_means_that_the_student_knows_as_much(seed, sizes):
    """Theorem 3.2 (ii): for a teacher that is a noisy student, and for any other with its Uni."""
    labels, teachers, students = sizes
    known = drawn(seed, labels, students)
    noisy = known[:, None, :] * channel(seed + 1, students, teachers).T
    teacher, student = alone(noisy)
    assert solved(noisy).distillable <= EXACT
    assert max(teacher, student) == pytest.approx(student, abs=1e-12)
    pmf = drawn(seed, *sizes)
    teacher, student = alone(pmf)
    assert max(teacher, student) <= student + solved(pmf).distillable + EXACT


@QUICK
@given(seed=SEEDS, sizes=SIZES, fine=st.integers(2, 6))
def test_a_function_of_the_teacher_has_less_to_distil(seed, sizes, fine):
    """Theorem 3.2 (iii): T1 = h(T2)."""
    labels, coarse, students = sizes
    of_fine = drawn(seed, labels, fine, students)
    merged = np.random.default_rng(seed + 2).integers(coarse, size=fine)
    of_coarse = np.zeros((labels, coarse, students))
    np.add.at(of_coarse, (slice(None), merged), of_fine)
    assert of_coarse.sum() == pytest.approx(1)
    assert solved(of_coarse).distillable <= solved(of_fine).distillable + EXACT


@QUICK
@given(seed=SEEDS, sizes=SIZES, more=st.integers(1, 3))
def test_more_on_the_other_side_leaves_less_unique(seed, sizes, more):
    """Lemma B.2, for both sides."""
    labels, ones, others = sizes
    pmf = drawn(seed, labels, ones, others, more)
    richer, poorer = solved(pmf.reshape(labels, ones, -1)), solved(pmf.sum(3))
    assert richer.unique_teacher <= poorer.unique_teacher + EXACT
    swapped = np.moveaxis(pmf, 1, -1)
    richer, poorer = solved(swapped.reshape(labels, -1, ones)), solved(swapped.sum(2))
    assert richer.unique_student <= poorer.unique_student + EXACT


@QUICK
@given(seed=SEEDS, shared=st.integers(1, 3), own=st.integers(1, 2), other=st.integers(1, 2))
def test_intersection_information_is_a_lower_bound(seed, shared, own, other):
    """Theorem 4.1; at least what a function C says that both have, T = (C, A) and S = (C, B)."""
    parts = drawn(seed, 3, shared, own, other)
    pmf = np.zeros((3, shared, own, shared, other))
    for c in range(shared):
        pmf[:, c, :, c, :] = parts[:, c]
    pmf = pmf.reshape(3, shared * own, shared * other)
    common = mutual_information(parts.sum((2, 3)))
    redundant = solved(pmf).redundant
    for side in ("teacher", "student"):
        found = intersection_information(pmf, common=side)
        assert common - 1e-9 <= found <= redundant + EXACT
    anything = drawn(seed + 3, 3, shared * own, shared * other)
    assert intersection_information(anything) <= solved(anything).redundant + EXACT
