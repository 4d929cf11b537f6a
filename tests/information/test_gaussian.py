"""Gaussian decomposition against printed values, closed forms, a general solver and samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information import gaussian
from limbeck.information.gaussian import gaussian_pid
from limbeck.information.gaussian_samples import gaussian_pid_from_samples, wishart_bias


ATOMS = ("unique_teacher", "unique_student", "redundant", "synergistic")
KNOWN = ("mutual_teacher", "mutual_student", "mutual_joint", "union")
QUICK = settings(max_examples=20, deadline=None, derandomize=True)
SQRT2 = math.sqrt(2.0)
TURNED = [[math.cos(math.pi / 6), -0.5], [0.5, math.cos(math.pi / 6)]]


def law(teacher, student, noise=None):
    """Covariance of Y ~ N(0, I), T = H_T Y + n_T, S = H_S Y + n_S, and its sizes."""
    gains = [np.atleast_2d(np.asarray(gain, dtype=float)) for gain in (teacher, student)]
    t, s = (len(gain) for gain in gains)
    gain, inner = np.concatenate(gains), np.eye(t + s)
    if noise is not None:
        inner[:t, t:], inner[t:, :t] = noise, np.transpose(noise)
    targets = gain.shape[1]
    whole = np.block([[np.eye(targets), gain.T], [gain, gain @ gain.T + inner]])
    return whole, (targets, t, s)


def atoms(pid):
    return np.array([getattr(pid, name) for name in ATOMS])


def information(covariance, first, second):
    """I in bits from determinants."""

    def logdet(at):
        return np.linalg.slogdet(covariance[np.ix_(at, at)])[1] / math.log(2)

    return 0.5 * (logdet(first) + logdet(second) - logdet([*first, *second]))


def drawn(seed, sizes, scale=1.0):
    source = np.random.default_rng(seed)
    targets, t, s = sizes
    return scale * source.normal(size=(t, targets)), scale * source.normal(size=(s, targets))


PRINTED = [  # H_T, H_S, noise; I(Y;T), I(Y;S), Uni(T), Uni(S), Red, Syn, I(Y;T,S)
    ([1, 0], [0, 1], None, (0.5, 0.5, 0.5, 0.5, 0, 0, 1.0)),
    ([SQRT2, 0], [1, 0], None, (0.792481, 0.5, 0.292481, 0, 0.5, 0.207519, 1.0)),
    ([SQRT2, 0], [1, 0], [[1 / SQRT2]], (0.792481, 0.5, 0.292481, 0, 0.5, 0, 0.792481)),
    (TURNED, [0, 1], None, (1.0, 0.5, 0.5, 0, 0.5, 0.292481, 1.292481)),
    (
        np.diag([SQRT2, 1]),
        np.diag([1, SQRT2]),
        None,
        (1.292481, 1.292481, 0.292481, 0.292481, 1.0, 0.415037, 2.0),
    ),
    (np.diag([2, 1]), np.eye(2), None, (1.660964, 1, 0.660964, 0, 1, 0.423998, 2.084963)),
    (np.diag([3, 1]), np.eye(2), None, (2.160964, 1, 1.160964, 0, 1, 0.361233, 2.522197)),
    (np.diag([0, 1]), np.eye(2), None, (0.5, 1.0, 0, 0.5, 0.5, 0.292481, 1.292481)),
    (
        [[1, 0.5], [0, 1]],
        [0.5, -1],
        None,
        (1.043731, 0.584963, 0.658660, 0.199891, 0.385072, 0.191560, 1.435182),
    ),
    (
        [[1, 0.5], [0, 1]],
        [[0.5, -1], [1, 1]],
        None,
        (1.043731, 1.350220, 0, 0.306488, 1.043731, 0.489520, 1.839740),
    ),
    (
        [[2, 0], [1, 1]],
        [[0, 1], [1, -2]],
        None,
        (1.729716, 1.5, 1.194435, 0.964719, 0.535281, 0.098046, 2.792481),
    ),
]


@pytest.mark.parametrize("row", range(len(PRINTED)))
def test_printed_values(row):
    teacher, student, noise, wanted = PRINTED[row]
    found = gaussian_pid(*law(teacher, student, noise), tolerance=1e-8)
    assert found.status == "converged"
    assert found.gap <= 1e-8
    assert found.certificate is None
    got = (found.mutual_teacher, found.mutual_student, *atoms(found), found.mutual_joint)
    assert got == pytest.approx(wanted, abs=6e-7)


@QUICK
@given(seed=st.integers(0, 10**6), t=st.integers(1, 4), s=st.integers(1, 4))
def test_one_target_is_minimum_mutual_information(seed, t, s):
    covariance, sizes = law(*drawn(seed, (1, t, s)))
    found = gaussian_pid(covariance, sizes)
    targets, teacher, student = [0], list(range(1, 1 + t)), list(range(1 + t, 1 + t + s))
    known = [information(covariance, targets, side) for side in (teacher, student)]
    assert [found.mutual_teacher, found.mutual_student] == pytest.approx(known, abs=1e-10)
    assert found.redundant == pytest.approx(min(known), abs=1e-7)
    whole = information(covariance, targets, teacher + student)
    assert found.mutual_joint == pytest.approx(whole, abs=1e-10)
    assert found.synergistic == pytest.approx(whole - max(known), abs=1e-7)
    assert found.iterations == 0


@QUICK
@given(seed=st.integers(0, 10**6), y=st.integers(1, 4), t=st.integers(1, 4), s=st.integers(1, 4))
def test_degraded_channel(seed, y, t, s):
    teacher, _ = drawn(seed, (y, t, s))
    loss = np.random.default_rng(seed).normal(size=(s, t))
    loss *= 0.9 / np.linalg.norm(loss, 2)
    found = gaussian_pid(*law(teacher, loss @ teacher))
    assert found.unique_student == pytest.approx(0, abs=1e-6)
    assert found.redundant == pytest.approx(found.mutual_student, abs=1e-6)


@QUICK
@given(seed=st.integers(0, 10**6), width=st.integers(1, 5))
def test_commuting_gains(seed, width):
    source = np.random.default_rng(seed)
    turns = [np.linalg.qr(source.normal(size=(width, width)))[0] for _ in range(3)]
    alpha, beta = source.uniform(0, 4, size=(2, width))
    teacher = turns[0] * np.sqrt(alpha) @ turns[2]
    student = turns[1] * np.sqrt(beta) @ turns[2]
    found = gaussian_pid(*law(teacher, student))
    shared = 0.5 * np.log2(1 + np.minimum(alpha, beta)).sum()
    more = 0.5 * np.log2((1 + alpha) / (1 + beta))
    assert found.status == "converged"
    assert atoms(found)[:3] == pytest.approx(
        [np.maximum(more, 0).sum(), np.maximum(-more, 0).sum(), shared], abs=1e-6
    )


def union_by_bfgs(teacher, student):
    """The least I(Y; T, S) over noise correlations, by a general solver, from determinants."""

    def noise(flat):
        free = flat.reshape(len(teacher), len(student))
        values, vectors = np.linalg.eigh(np.eye(len(student)) + free.T @ free)
        return free @ (vectors / np.sqrt(values)) @ vectors.T

    def objective(flat):
        covariance, (y, t, s) = law(teacher, student, noise(flat))
        return information(covariance, list(range(y)), list(range(y, y + t + s)))

    source = np.random.default_rng(0)
    starts = 0.3 * source.normal(size=(2, len(teacher) * len(student)))
    found = [minimize(objective, start, method="BFGS", options={"gtol": 1e-9}) for start in starts]
    return min(one.fun for one in found)


@pytest.mark.parametrize(
    ("seed", "sizes"), [(0, (2, 2, 2)), (1, (3, 2, 2)), (2, (3, 1, 2)), (3, (2, 3, 2))]
)
def test_equals_a_general_solver(seed, sizes):
    teacher, student = drawn(seed, sizes)
    found = gaussian_pid(*law(teacher, student), tolerance=1e-8)
    truth = union_by_bfgs(teacher, student)
    assert found.union_bounds[0] <= truth + 1e-10
    assert found.union == pytest.approx(truth, abs=1e-5)


@QUICK
@given(seed=st.integers(0, 10**6), sizes=st.tuples(*[st.integers(1, 4)] * 3))
def test_exchange_maps_and_identities(seed, sizes):
    y, t, s = sizes
    source = np.random.default_rng(seed)
    factor = source.normal(size=(sum(sizes) + 2, sum(sizes)))
    covariance = factor.T @ factor
    found = gaussian_pid(covariance, sizes)
    assert found.status == "converged"
    teacher, student, redundant, _ = atoms(found)
    assert min(atoms(found)) >= 0
    assert redundant + teacher == pytest.approx(found.mutual_teacher, abs=1e-9)
    assert redundant + student == pytest.approx(found.mutual_student, abs=1e-9)
    assert atoms(found).sum() == pytest.approx(found.mutual_joint, abs=1e-9)
    swap = [*range(y), *range(y + t, y + t + s), *range(y, y + t)]
    swapped = gaussian_pid(covariance[np.ix_(swap, swap)], (y, s, t))
    assert atoms(swapped)[[1, 0, 2, 3]] == pytest.approx(atoms(found), abs=2e-6)
    change = np.zeros_like(covariance)
    for start, width in ((0, y), (y, t), (y + t, s)):
        block = source.normal(size=(width, width)) + 3 * np.eye(width)
        change[start : start + width, start : start + width] = 10.0**start * block
    mapped = gaussian_pid(change @ covariance @ change.T, sizes)
    assert atoms(mapped) == pytest.approx(atoms(found), abs=3e-6)


def test_independent_systems_add():
    laws = [law(*drawn(seed, (2, 2, 2))) for seed in (0, 1)]
    both = np.zeros((12, 12))
    for offset, (covariance, _) in zip((0, 2), laws, strict=True):
        at = np.add.outer([0, 4, 8], [offset, offset + 1]).ravel()
        both[np.ix_(at, at)] = covariance
    found = gaussian_pid(both, (4, 4, 4))
    apart = sum(atoms(gaussian_pid(*one)) for one in laws)
    assert atoms(found) == pytest.approx(apart, abs=3e-6)


def test_only_synergy_depends_on_the_coupling():
    teacher, student = drawn(5, (3, 2, 2))
    plain = gaussian_pid(*law(teacher, student))
    coupled = gaussian_pid(*law(teacher, student, [[0.6, 0.1], [-0.2, 0.3]]))
    assert atoms(coupled)[:3] == pytest.approx(atoms(plain)[:3], abs=2e-6)
    assert abs(coupled.synergistic - plain.synergistic) > 1e-2


def test_bounds_hold_before_convergence(monkeypatch):
    covariance, sizes = law(*drawn(0, (6, 6, 6)))
    truth = gaussian_pid(covariance, sizes, tolerance=1e-8).union
    for steps in (0, 1, 3, 10):
        monkeypatch.setattr(gaussian, "ITERATIONS", steps)
        found = gaussian_pid(covariance, sizes)
        assert found.status.startswith("not converged: the bounds are ")
        assert "raise `tolerance`" in found.status
        assert found.iterations == steps
        assert found.union_bounds[0] <= truth <= found.union_bounds[1]


def test_directions_that_say_nothing_change_nothing():
    """Constants, duplicates and one-hot targets have singular covariances."""
    teacher, student = drawn(1, (2, 2, 2))
    covariance, sizes = law(teacher, student)
    wanted = gaussian_pid(covariance, sizes)
    spread = np.zeros((12, 6))  # targets and their sum; a feature twice; a constant; pure noise
    spread[[0, 1, 3, 4, 6, 7, 8], [0, 1, 2, 3, 2, 4, 5]] = 1
    spread[2, :2] = -1
    wider = spread @ covariance @ spread.T
    wider[9, 9] = 4.0
    found = gaussian_pid(wider, (3, 4, 5))
    assert atoms(found) == pytest.approx(atoms(wanted), abs=2e-6)


def test_equal_features_are_redundant():
    teacher, _ = drawn(2, (2, 3, 1))
    found = gaussian_pid(*law(teacher, teacher, 0.999999999999 * np.eye(3)), tolerance=1e-6)
    assert atoms(found) == pytest.approx([0, 0, found.mutual_teacher, 0], abs=1e-6)


def test_constant_targets_and_unrelated_features():
    found = gaussian_pid(np.diag([0.0, 1.0, 1.0]), (1, 1, 1))
    assert atoms(found) == pytest.approx(np.zeros(4))
    assert found.union_bounds == (0.0, 0.0)
    teacher, _ = drawn(0, (3, 2, 2))
    one_sided = gaussian_pid(*law(teacher, np.zeros((2, 3))))
    assert atoms(one_sided) == pytest.approx([one_sided.mutual_teacher, 0, 0, 0], abs=1e-12)


def test_ridge_is_noise_of_a_share_of_the_variance():
    covariance, sizes = law(*drawn(3, (2, 2, 3)))
    noisy = covariance + np.diag([0, 0, *(0.1 * covariance.diagonal()[2:])])
    wanted = gaussian_pid(noisy, sizes)
    found = gaussian_pid(covariance, sizes, ridge=0.1)
    assert atoms(found) == pytest.approx(atoms(wanted), abs=1e-9)
    known = np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])  # the teacher is the target
    ridged = gaussian_pid(known, (1, 1, 1), ridge=0.01)
    assert ridged.distillable == pytest.approx(0.5 * math.log2(101), abs=1e-9)


def test_bias_is_that_of_samples():
    """The reference simulates 0.1250 and 0.0931; its formula, a leading term, 0.1242, 0.0927."""
    for first, second, n, leading in ((2, 4, 50, 0.1242), (5, 5, 200, 0.0927)):

        def b(width, n=n):
            return 0.5 * sum(math.log2(1 - k / n) for k in range(1, width + 1))

        assert b(first) + b(second) - b(first + second) == pytest.approx(leading, abs=5e-5)
        rows = np.random.default_rng(0).normal(size=(2000, n, first + second))
        rows -= rows.mean(1, keepdims=True)
        gram = rows.transpose(0, 2, 1) @ rows
        logs = [
            np.linalg.slogdet(part)[1]
            for part in (gram[:, :first, :first], gram[:, first:, first:], gram)
        ]
        plug_in = 0.5 * (logs[0] + logs[1] - logs[2]) / math.log(2)
        error = plug_in.std() / math.sqrt(len(plug_in))
        bias = wishart_bias(first, second, n)
        assert bias == pytest.approx(plug_in.mean(), abs=3 * error)
        assert bias == pytest.approx(leading, rel=0.03)


def test_samples_recover_the_law():
    teacher, student = drawn(0, (2, 3, 2))
    covariance, sizes = law(teacher, student)
    truth = gaussian_pid(covariance, sizes)
    source = np.random.default_rng(0)
    raw, corrected = [], []
    for _ in range(60):
        rows = source.multivariate_normal(np.ones(7), covariance, size=30)
        found = gaussian_pid_from_samples(rows[:, :2], rows[:, 2:5], rows[:, 5:])
        assert found.samples == 30
        assert found.ranks == (2, 3, 2, 5)
        assert found.bias == tuple(wishart_bias(2, width, 30) for width in (3, 2, 5))
        parts = atoms(found.corrected)
        assert parts[0] + parts[2] == pytest.approx(found.corrected.mutual_teacher, abs=1e-9)
        raw.append([getattr(found.raw, name) for name in KNOWN])
        corrected.append([getattr(found.corrected, name) for name in KNOWN])
    wanted = np.array([getattr(truth, name) for name in KNOWN])
    error = np.std(corrected, axis=0) / math.sqrt(60)
    assert (np.abs(np.mean(corrected, 0) - wanted) < 3 * error + [0, 0, 0, 0.02]).all()
    assert np.mean(raw, 0)[2] - wanted[2] > 3 * error[2]


def test_corrected_numbers_by_hand():
    source = np.random.default_rng(1)
    rows = source.normal(size=(200, 5))
    rows[:, 1:4] += rows[:, :1]
    found = gaussian_pid_from_samples(rows[:, 0], rows[:, 1:3], rows[:, 3:])
    raw, better = found.raw, found.corrected
    assert better.mutual_teacher == pytest.approx(raw.mutual_teacher - found.bias[0])
    assert better.mutual_student == pytest.approx(raw.mutual_student - found.bias[1])
    assert better.mutual_joint == pytest.approx(raw.mutual_joint - found.bias[2])
    scaled = raw.union * better.mutual_joint / raw.mutual_joint
    known = better.mutual_teacher, better.mutual_student
    assert better.union == pytest.approx(min(max(scaled, *known), better.mutual_joint, sum(known)))
    again = gaussian_pid(np.cov(rows.T), (1, 2, 2))
    assert atoms(raw) == pytest.approx(atoms(again), abs=1e-9)


def test_nothing_known_is_not_negative():
    rows = np.random.default_rng(0).normal(size=(400, 6))
    found = gaussian_pid_from_samples(rows[:, :2], rows[:, 2:4], rows[:, 4:])
    assert min(atoms(found.corrected)) >= 0
    assert found.corrected.mutual_joint < found.raw.mutual_joint


def test_labels_are_one_hot():
    source = np.random.default_rng(0)
    labels = source.choice([3, 5, 9], size=300)
    rows = source.normal(size=(300, 4)) + labels[:, None]
    found = gaussian_pid_from_samples(labels, rows[:, :2], rows[:, 2:])
    one_hot = np.stack([labels == label for label in (3, 5)], 1).astype(float)
    again = gaussian_pid_from_samples(one_hot, rows[:, :2], rows[:, 2:])
    assert found.ranks == (2, 2, 2, 4)
    assert atoms(found.corrected) == pytest.approx(atoms(again.corrected), abs=2e-6)
    numbers = gaussian_pid_from_samples(labels.astype(float), rows[:, :2], rows[:, 2:])
    assert numbers.ranks[0] == 1


GOOD = np.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gaussian_pid(np.ones((2, 3)), (1, 1, 1)), ShapeError, r"got shape \(2, 3\)"),
        (lambda: gaussian_pid(GOOD, (1, 1, 2)), ShapeError, r"add up to 3; got \(1, 1, 2\)"),
        (lambda: gaussian_pid(GOOD, (0, 1, 2)), ShapeError, r"each at least 1, that add up to 3"),
        (lambda: gaussian_pid(GOOD, (1, 2)), ShapeError, r"\(d_y, d_t, d_s\).*got \(1, 2\)"),
        (
            lambda: gaussian_pid(np.diag([1, 1, np.nan]), (1, 1, 1)),
            DataError,
            "finite covariances; got 1 others",
        ),
        (
            lambda: gaussian_pid(GOOD + np.eye(3, k=1) * 1e-3, (1, 1, 1)),
            DataError,
            "symmetric matrix; got entries that differ from their mirror by 1.0e-03",
        ),
        (
            lambda: gaussian_pid(np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]), (1, 1, 1)),
            DataError,
            "positive semi-definite matrix; got an eigenvalue -1.0e",
        ),
        (lambda: gaussian_pid(-GOOD, (1, 1, 1)), DataError, "semi-definite matrix; got an eig"),
        (
            lambda: gaussian_pid(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]), (1, 1, 1)),
            DataError,
            "left by the teacher, which is infinite information. Pass `ridge=1e-6`",
        ),
        (
            lambda: gaussian_pid(np.array([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]), (1, 1, 1)),
            DataError,
            "left by the student",
        ),
        (
            lambda: gaussian_pid(np.array([[2.0, 1, 1], [1, 1, 0], [1, 0, 1]]), (1, 1, 1)),
            DataError,
            "left by both together",
        ),
        (lambda: gaussian_pid(GOOD, (1, 1, 1), ridge=-0.1), ArgumentError, "`ridge` in"),
        (lambda: gaussian_pid(GOOD, (1, 1, 1), tolerance=0.0), ArgumentError, "`tolerance` in"),
    ],
)
def test_bad_covariance(call, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^gaussian_pid: expected .*{message}"):
        call()


@pytest.mark.parametrize(
    ("shapes", "error", "message"),
    [
        ([(9, 1), (9, 2), (8, 2)], ShapeError, r"one row a sample; got targets \(9, 1\)"),
        ([(9, 1), (9, 2, 2), (9, 2)], ShapeError, "Pool or flatten"),
        ([(0, 1), (0, 2), (0, 2)], DataError, "at least one row; got 0 rows"),
        ([(6, 1), (6, 3), (6, 3)], DataError, "more samples than dimensions; got 6 samples of 1"),
    ],
)
def test_bad_samples(shapes, error, message, without_shape_hook):
    source = np.random.default_rng(0)
    with pytest.raises(error, match=f"^gaussian_pid_from_samples: expected .*{message}"):
        gaussian_pid_from_samples(*(source.normal(size=shape) for shape in shapes))


def test_samples_that_are_not_finite():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    spoilt = rows.copy()
    spoilt[3, 1] = np.inf
    with pytest.raises(DataError, match=r"finite values .* got 20 rows, some not finite"):
        gaussian_pid_from_samples(rows[:, 0], rows, spoilt)
