"""The invariants of BROJA, hard tables and bad input."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import PID, broja_pid
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information import broja
from limbeck.information.interior import interior_point


ATOMS = ("redundant", "unique_teacher", "unique_student", "synergistic")
GAP = 1e-6
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def drawn(*shape, seed=0, concentration=1.0):
    source = np.random.default_rng(seed)
    return source.dirichlet(np.full(math.prod(shape), concentration)).reshape(shape)


@st.composite
def tables(draw, largest=4):
    """Small tables, half of them with many zero cells."""
    shape = [draw(st.integers(1, largest)) for _ in range(3)]
    return drawn(
        *shape, seed=draw(st.integers(0, 2**31)), concentration=draw(st.sampled_from([1.0, 0.1]))
    )


def atoms(found):
    assert found.status == "converged"
    assert found.gap <= GAP
    return np.array([getattr(found, name) for name in ATOMS])


def mutual_information(joint):
    """I(rows; columns) in bits as the plain sum of its definition."""
    rows, columns = joint.sum(1), joint.sum(0)
    return sum(
        joint[i, j] * math.log2(joint[i, j] / (rows[i] * columns[j]))
        for i in range(joint.shape[0])
        for j in range(joint.shape[1])
        if joint[i, j] > 0
    )


def checked_bounds(found, pmf):
    """Bounds of the union information from the three arrays, with nothing of ours."""
    made = found.certificate
    np.testing.assert_allclose(made.coupling.sum(2), pmf.sum(2), atol=1e-14)
    np.testing.assert_allclose(made.coupling.sum(1), pmf.sum(1), atol=1e-14)
    assert (made.coupling >= 0).all()
    upper = mutual_information(made.coupling.reshape(len(pmf), -1))
    sums = np.exp(made.teacher_dual[:, :, None] + made.student_dual[:, None, :]).sum(0)
    assert sums.max() <= 1 + 1e-12
    lower = -sum(p * math.log(p) for p in pmf.sum((1, 2)) if p > 0)
    for mass, dual in ((pmf.sum(2), made.teacher_dual), (pmf.sum(1), made.student_dual)):
        lower += sum(mass[at] * dual[at] for at in np.ndindex(*mass.shape) if mass[at] > 0)
    return lower / math.log(2), upper


@QUICK
@given(pmf=tables())
def test_certificate_holds_and_identities(pmf):
    found = broja_pid(pmf)
    redundant, teacher, student, synergistic = atoms(found)
    low, high = checked_bounds(found, pmf)
    assert found.union_bounds == pytest.approx((low, high), abs=1e-11)
    assert found.certificate.verify(pmf) == pytest.approx((low, high), abs=1e-11)
    assert low - 1e-11 <= found.union <= high + 1e-11
    assert redundant + teacher == pytest.approx(mutual_information(pmf.sum(2)), abs=1e-11)
    assert redundant + student == pytest.approx(mutual_information(pmf.sum(1)), abs=1e-11)
    whole = mutual_information(pmf.reshape(len(pmf), -1))
    assert redundant + teacher + student + synergistic == pytest.approx(whole, abs=1e-11)
    assert found.mutual_joint == pytest.approx(whole, abs=1e-11)
    for name in ATOMS:
        below, above = found.bounds[name]
        assert 0 <= below <= getattr(found, name) <= above
        assert above - below <= found.gap + 1e-12


@QUICK
@given(pmf=tables())
def test_exchange_of_teacher_and_student(pmf):
    redundant, teacher, student, synergistic = atoms(broja_pid(pmf))
    turned = atoms(broja_pid(np.ascontiguousarray(pmf.transpose(0, 2, 1))))
    assert turned == pytest.approx([redundant, student, teacher, synergistic], abs=GAP)


@QUICK
@given(pmf=tables(), seed=st.integers(0, 1000), share=st.floats(0.01, 0.99))
def test_relabelling_and_splitting_change_nothing(pmf, seed, share):
    source = np.random.default_rng(seed)
    before = atoms(broja_pid(pmf))
    mixed = pmf[np.ix_(*(source.permutation(n) for n in pmf.shape))]
    assert atoms(broja_pid(mixed)) == pytest.approx(before, abs=GAP)
    split = np.concatenate([share * pmf[:, :1], (1 - share) * pmf[:, :1], pmf[:, 1:]], axis=1)
    assert atoms(broja_pid(split)) == pytest.approx(before, abs=GAP)


@QUICK
@given(pmf=tables(), seed=st.integers(0, 1000))
def test_merging_teacher_symbols_cannot_raise_what_only_it_knows(pmf, seed):
    if pmf.shape[1] == 1:
        return
    merged = np.concatenate([pmf[:, :1] + pmf[:, 1:2], pmf[:, 2:]], axis=1)
    assert broja_pid(merged).unique_teacher <= broja_pid(pmf).unique_teacher + GAP


@QUICK
@given(first=tables(largest=2), second=tables(largest=3))
def test_independent_systems_add(first, second):
    both = np.einsum("yts,zuv->yztusv", first, second)
    both = both.reshape([n * m for n, m in zip(first.shape, second.shape, strict=True)])
    total = atoms(broja_pid(first)) + atoms(broja_pid(second))
    assert atoms(broja_pid(both)) == pytest.approx(total, abs=1.5 * GAP)


@QUICK
@given(pmf=tables(), share=st.floats(0, 1))
def test_only_synergy_changes_with_the_coupling(pmf, share):
    labels = pmf.sum((1, 2))
    alone = pmf.sum(2)[:, :, None] * (pmf.sum(1) / labels[:, None])[:, None, :]
    other = broja_pid(share * pmf + (1 - share) * alone)
    before = broja_pid(pmf)
    assert atoms(other)[:3] == pytest.approx(atoms(before)[:3], abs=GAP)
    change = other.mutual_joint - before.mutual_joint
    assert other.synergistic - before.synergistic == pytest.approx(change, abs=GAP)


@QUICK
@given(pmf=tables(), seed=st.integers(0, 1000))
def test_a_degraded_student_has_nothing_of_its_own(pmf, seed):
    channel = np.random.default_rng(seed).dirichlet(np.ones(3), size=pmf.shape[1])
    chain = pmf.sum(2)[:, :, None] * channel
    redundant, teacher, student, _ = atoms(broja_pid(chain))
    assert student == pytest.approx(0.0, abs=GAP)
    known = mutual_information(chain.sum(2)), mutual_information(chain.sum(1))
    assert redundant == pytest.approx(known[1], abs=GAP)
    assert teacher == pytest.approx(known[0] - known[1], abs=GAP)


def test_teacher_with_nuisance():
    """Theorem 3.1: T = (Z, G), Z the label, G noise of more bits; S copies one of the two."""
    useless, useful = np.zeros((4, 32, 8)), np.zeros((4, 32, 4))
    for z in range(4):
        for g in range(8):
            useless[z, 8 * z + g, g] = useful[z, 8 * z + g, z] = 1 / 32
    assert atoms(broja_pid(useless)) == pytest.approx([0, 2, 0, 0], abs=GAP)
    assert atoms(broja_pid(useful)) == pytest.approx([2, 0, 0, 0], abs=GAP)


def test_identical_sources():
    pair = drawn(4, 5)
    found = broja_pid(pair[:, :, None] * np.eye(5))
    assert atoms(found) == pytest.approx([mutual_information(pair), 0, 0, 0], abs=GAP)


@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 1, 4), (3, 4, 1), (1, 1, 1)])
def test_one_symbol(shape):
    pmf = drawn(*shape)
    found = broja_pid(pmf)
    known = mutual_information(pmf.sum(2)), mutual_information(pmf.sum(1))
    assert atoms(found) == pytest.approx([0, *known, 0], abs=GAP)


def test_symbols_without_mass():
    small = drawn(3, 4, 3)
    large = np.zeros((5, 6, 5))
    large[np.ix_([0, 2, 4], [1, 2, 3, 5], [0, 3, 4])] = small
    found = broja_pid(large)
    assert atoms(found) == pytest.approx(atoms(broja_pid(small)), abs=1e-12)
    assert found.certificate.coupling.shape == large.shape
    assert np.isneginf(found.certificate.teacher_dual[1]).all()
    assert checked_bounds(found, large) == pytest.approx(found.union_bounds, abs=1e-11)


def test_counts_are_normalised():
    counts = np.random.default_rng(0).integers(0, 5, (3, 4, 4))
    assert atoms(broja_pid(counts)) == pytest.approx(atoms(broja_pid(counts / counts.sum())))
    assert broja_pid(counts).certificate.verify(counts)[1] == pytest.approx(
        broja_pid(counts).union_bounds[1], abs=1e-12
    )


def sharp(labels, symbols, seed):
    """Posteriors with one label near 1 and the others down to 1e-10."""
    source = np.random.default_rng(seed)
    given_label = []
    for _ in range(2):
        posterior = 10.0 ** source.uniform(-10, -2, (labels, symbols))
        posterior[source.integers(labels, size=symbols), np.arange(symbols)] = 1.0
        posterior /= posterior.sum(0)
        given_label.append(posterior / posterior.sum(1, keepdims=True))
    teacher, student = given_label
    return teacher[:, :, None] * student[:, None, :] / labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("symbols", [5, 20])
def test_near_deterministic_tables_are_certified(symbols, seed):
    pmf = sharp(10, symbols, seed)
    pmf /= pmf.sum()
    found = broja_pid(pmf)
    atoms(found)
    low, high = checked_bounds(found, pmf)
    assert -1e-11 <= high - low <= GAP


@pytest.mark.parametrize("samples", [50, 300, 5000])
@pytest.mark.parametrize("seed", range(2))
def test_small_sample_histograms_are_certified(samples, seed):
    source = np.random.default_rng(seed)
    labels = source.integers(10, size=samples)
    counts = np.zeros((10, 15, 12), dtype=int)
    picked = [
        np.array([source.choice(n, p=law[y]) for y in labels])
        for n, law in ((n, source.dirichlet(np.full(n, 0.2), size=10)) for n in (15, 12))
    ]
    np.add.at(counts, (labels, *picked), 1)
    found = broja_pid(counts)
    atoms(found)
    low, high = checked_bounds(found, counts / samples)
    assert -1e-11 <= high - low <= GAP


def test_large_alphabets_need_no_newton_step(monkeypatch):
    monkeypatch.setattr(broja, "interior_point", None)
    pmf = drawn(60, 20, 18, concentration=0.3)
    found = broja_pid(pmf)
    atoms(found)
    assert found.iterations <= 600  # plain scaling needs thousands
    low, high = checked_bounds(found, pmf)
    assert -1e-11 <= high - low <= GAP


def test_scaling_alone_and_newton_steps_agree(monkeypatch):
    pmf = drawn(4, 5, 6)
    monkeypatch.setattr(broja, "ITERATIONS", 20)
    stepped = broja_pid(pmf, tolerance=1e-9)
    assert 20 < stepped.iterations < 40
    monkeypatch.setattr(broja, "ITERATIONS", 20_000)
    monkeypatch.setattr(broja, "_worth", lambda pairs: 20_000)
    monkeypatch.setattr(broja, "interior_point", None)
    scaled = broja_pid(pmf, tolerance=1e-9)
    assert scaled.iterations > 100
    assert stepped.converged
    assert scaled.converged
    assert stepped.union == pytest.approx(scaled.union, abs=2e-9)


def test_tables_too_large_for_newton_steps_are_scaled(monkeypatch):
    monkeypatch.setattr(broja, "LARGEST", 4 * 5 * 4 * 6 - 1)
    monkeypatch.setattr(broja, "interior_point", None)
    atoms(broja_pid(drawn(4, 5, 6)))
    monkeypatch.setattr(broja, "ITERATIONS", 20)
    found = broja_pid(drawn(4, 5, 6))
    assert (found.converged, found.iterations) == (False, 20)


def test_a_student_that_the_label_determines(monkeypatch):
    """One coupling only, so the union information is that of the table."""
    monkeypatch.setattr(broja, "ITERATIONS", 19)  # too few to look at the bounds
    pmf = np.zeros((6, 5, 3))
    pmf[range(6), :, [0, 0, 1, 1, 2, 2]] = drawn(6, 5)
    found = broja_pid(pmf)
    atoms(found)
    assert found.iterations > 0
    assert found.union == pytest.approx(mutual_information(pmf.reshape(6, -1)), abs=GAP)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("lowest", "tolerance"), [(-14, 1e-9), (-30, GAP)])
def test_masses_of_very_different_size_are_certified(lowest, tolerance, seed):
    source = np.random.default_rng(seed)
    pmf = np.zeros((12, 6, 9))
    at = tuple(source.integers(n, size=80) for n in pmf.shape)
    np.add.at(pmf, at, 10.0 ** source.uniform(lowest, 0, 80))
    pmf /= pmf.sum()
    found = broja_pid(pmf, tolerance=tolerance)
    assert found.status == "converged"
    low, high = checked_bounds(found, pmf)
    assert -1e-11 <= high - low <= tolerance


def test_not_converged_says_what_to_do(monkeypatch):
    pmf = drawn(3, 4, 4)
    truth = broja_pid(pmf, tolerance=1e-9).union
    monkeypatch.setattr(broja, "ITERATIONS", 20)
    monkeypatch.setattr(broja, "interior_point", partial(interior_point, max_steps=1))
    found = broja_pid(pmf)
    assert found.status.startswith("not converged: the bounds are ")
    assert "raise `tolerance`" in found.status
    assert not found.converged
    assert (found.iterations, found.gap > GAP) == (21, True)
    low, high = checked_bounds(found, pmf)
    assert low <= truth <= high
    assert found.union_bounds == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(
    ("pmf", "error", "message"),
    [
        (np.ones((2, 2)) / 4, ShapeError, r"table indexed \[y, t, s\]; got shape \(2, 2\)"),
        (np.ones((2, 2, 2)) / 7, DataError, "sum to 1; got 1.14285714286. Divide"),
        (np.full((2, 2, 2), 0.125 + 1e-9), DataError, "sum to 1; got 1.000000008"),
        (np.array([[[1.5, -0.5]]]), DataError, "finite cells >= 0; got 1 others of 2"),
        (np.array([[[np.nan, 1.0]]]), DataError, "finite cells >= 0; got 1 others of 2"),
        (np.array([[[3, -1]]]), DataError, "got a sum of 2 with 1 below zero"),
        (np.zeros((2, 2, 2), dtype=int), DataError, "not all zero"),
        (np.zeros((2, 0, 2)), DataError, "got 0 of type float64"),
        (np.ones((1, 1, 1), dtype=bool), DataError, "got 1 of type bool"),
    ],
)
def test_bad_tables(pmf, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^broja_pid: expected .*{message}"):
        broja_pid(pmf)


def test_a_sum_within_rounding_is_accepted():
    assert broja_pid(np.full((2, 2, 2), 0.125 + 1e-10)).mutual_joint == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, -1e-6, 1e-13, math.nan])
def test_bad_tolerance(tolerance):
    with pytest.raises(ArgumentError, match=r"`tolerance` in \[1e-12, inf\]; got"):
        broja_pid(np.full((2, 2, 2), 0.125), tolerance=tolerance)


def test_printed():
    text = str(broja_pid(np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]]])))
    assert "distilled (known to both)           1.000000 [1.000000, 1.000000] bits" in text
    assert text.endswith("converged, gap 0.0e+00 bits, 0 iterations")


def test_identities_do_not_need_a_solver():
    found = PID(1.0, 0.5, 1.25, 1.1, (1.0, 1.2), "not converged: stopped", 3)
    assert atoms_of(found) == pytest.approx([0.4, 0.6, 0.1, 0.15])
    assert (found.distillable, found.distilled) == (found.unique_teacher, found.redundant)
    assert found.bounds["redundant"] == pytest.approx((0.3, 0.5))
    assert found.bounds["synergistic"] == pytest.approx((0.05, 0.25))
    assert found.to_dict()["bounds"]["unique_student"] == pytest.approx([0.0, 0.2])
    assert not found.converged


def atoms_of(found):
    return [getattr(found, name) for name in ATOMS]
