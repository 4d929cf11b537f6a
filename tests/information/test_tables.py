"""Counted symbols: bias and spread against the reference's figures, and what is told from zero."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from limbeck import broja_pid
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information import tables
from limbeck.information.known_parts import chained, separate, symmetric
from limbeck.information.pid import PID
from limbeck.information.tables import TableEstimate, table_estimate, untrusted_atoms


ATOMS = ("unique_teacher", "unique_student", "redundant", "synergistic")
MODELS = {  # of the reference: symmetric channels with independent errors; a chain
    "A": separate(symmetric(10, 0.3), symmetric(10, 0.5)),
    "B": chained(symmetric(10, 0.5), symmetric(10, 0.3)),
}
# Checks of shapes at every call of the solver would take most of the time.
fast = pytest.mark.usefixtures("without_shape_hook")
quick = partial(table_estimate, resamples=2, permutations=1)


def truth(part):
    teacher, student, joint, union = part.informations()
    return np.array([union - student, union - teacher, teacher + student - union, joint - union])


def drawn(part, n, seed):
    cells = np.random.default_rng(seed).choice(part.pmf.size, size=n, p=part.pmf.ravel())
    return np.unravel_index(cells, part.pmf.shape)


def atoms(values):
    return np.array([values[name] for name in ATOMS])


def identities(values, abs):
    unique_teacher, unique_student, redundant, synergistic = atoms(values)
    assert unique_teacher + redundant == pytest.approx(values["mutual_teacher"], abs=abs)
    assert unique_student + redundant == pytest.approx(values["mutual_student"], abs=abs)
    total = unique_teacher + unique_student + redundant + synergistic
    assert total == pytest.approx(values["mutual_joint"], abs=abs)
    assert values["union"] == pytest.approx(total - synergistic, abs=abs)


REMOVED = {  # reference: corrected less plug-in; unique to teacher, to student, redundant, synergy
    ("A", 1000, "two-point"): (-0.059, -0.055, -0.013, -0.077),
    ("A", 1000, "quadratic"): (-0.065, -0.053, -0.013, -0.136),
    ("A", 10_000, "two-point"): (0.000, -0.0002, -0.006, -0.066),
    ("B", 10_000, "two-point"): (0.000, -0.0002, -0.005, -0.065),
}


@fast
@pytest.mark.parametrize("setting", REMOVED)
def test_bias_that_is_removed(setting):
    """Differences on the same samples wobble much less than what is estimated."""
    model, n, correction = setting
    changes = []
    for seed in range(3):
        found = quick(*drawn(MODELS[model], n, seed), correction=correction)
        changes.append(atoms(found.corrected) - atoms(found.raw))
    error = np.std(changes, axis=0, ddof=1) / math.sqrt(3)
    rounding = 0.006 if n == 1000 else 0.002  # two means of 100 samples in the reference
    assert np.all(np.abs(np.mean(changes, axis=0) - REMOVED[setting]) <= 4 * error + rounding)


@fast
@pytest.mark.parametrize("model", MODELS)
def test_corrected_estimates_cover_the_truth(model):
    """At ten samples a cell; the counts as they are miss synergy every time."""
    found = [
        table_estimate(*drawn(MODELS[model], 10_000, 100 + k), resamples=8, permutations=1)
        for k in range(6)
    ]
    exact = truth(MODELS[model])
    errors = np.array([atoms(one.corrected) - exact for one in found])
    widths = np.array([1.96 * atoms(one.spread) for one in found])
    covered = (np.abs(errors) <= widths + 1e-5).sum(0)
    assert np.all(covered[[0, 2, 3]] >= 4)
    assert np.all(np.abs(errors).max(0) < [0.1, 0.003, 0.06, 0.05])
    assert np.all(np.abs(errors.mean(0)) <= 3.5 * widths.mean(0) / 1.96 / math.sqrt(6) + 1e-3)
    counted = np.array([atoms(one.raw) - exact for one in found])
    assert np.all(counted[:, 3] > widths[:, 3])
    assert all(one.gap <= 1e-5 and one.n == 10_000 for one in found)


@fast
def test_spread_of_an_information_by_the_delta_method():
    part = separate(symmetric(3, 0.2), symmetric(3, 0.4))
    y, t, _ = drawn(part, 4000, 0)
    for seen in ("teacher", "student"):
        columns = (t, np.zeros_like(t)) if seen == "teacher" else (np.zeros_like(t), t)
        found = table_estimate(y, *columns, resamples=200, permutations=1)
        joint = np.zeros((3, 3))
        np.add.at(joint, (y, t), 1 / 4000)
        density = np.log2(joint / joint.sum(1, keepdims=True) / joint.sum(0))[y, t]
        error = density.std() / math.sqrt(4000)
        assert found.spread[f"mutual_{seen}"] == pytest.approx(error, rel=0.2)
        assert found.spread[f"unique_{seen}"] == pytest.approx(error, rel=0.2)


@fast
def test_nothing_known_stays_inside_the_null_band():
    shape, n = (2, 3, 4), 200
    inside, above = [], []
    for seed in range(6):
        random = np.random.default_rng(seed)
        columns = [random.integers(size, size=n) for size in shape]
        found = table_estimate(*columns, resamples=2, permutations=30, seed=seed)
        inside += [found.raw[name] <= found.null[name] for name in ATOMS]
        above.append([found.null["mutual_teacher"], found.null["mutual_joint"]])
    assert len(inside) * 0.8 <= sum(inside) < len(inside)
    # 2 n I, in nats, is chi-squared where nothing is known.
    for width, freedom in zip(np.mean(above, axis=0), (1 * 2, 1 * 11), strict=True):
        law = stats.chi2.ppf(0.95, freedom) / (2 * n * math.log(2))
        assert width == pytest.approx(law, rel=0.2)


@fast
def test_what_is_known_is_far_outside_of_it():
    found = table_estimate(*drawn(MODELS["A"], 2000, 0), resamples=2, permutations=6)
    for name in ("unique_teacher", "redundant", "mutual_teacher", "mutual_student"):
        assert found.raw[name] > 5 * found.null[name]


@pytest.mark.parametrize("correction", ["two-point", "quadratic"])
def test_identities(correction):
    y, t, s = drawn(MODELS["A"], 500, 0)
    columns = (y, t, s // 2)
    found = quick(*columns, correction=correction)
    identities(found.raw, abs=1e-12)
    identities(found.corrected, abs=1e-12)
    assert list(found.raw) == list(found.corrected) == list(found.spread) == list(found.null)
    counts = np.zeros((10, 10, 5), dtype=int)
    np.add.at(counts, columns, 1)
    exact = broja_pid(counts)
    for name in (*ATOMS, "mutual_teacher", "mutual_student", "mutual_joint", "union"):
        assert found.raw[name] == pytest.approx(getattr(exact, name), abs=1e-6)


def known(y, t):
    """I(Y;T) of samples, where the student's symbols are constant."""
    table = np.zeros((2, 3))
    np.add.at(table, (y, t), 1 / len(y))
    outer, some = table.sum(1, keepdims=True) * table.sum(0), table > 0
    return float(np.sum(table[some] * np.log2(table[some] / outer[some])))


EIGHT = np.array([0, 0, 0, 1, 1, 1, 1, 0]), np.array([0, 0, 1, 1, 1, 0, 1, 2])


@pytest.mark.parametrize("correction", ["two-point", "quadratic"])
def test_one_information_extrapolated_by_hand(correction, monkeypatch):
    """The cells in their order, dealt out one after the other."""
    order = np.lexsort(EIGHT[::-1])
    y, t = (column[order] for column in EIGHT)

    def dealt(counts, random):
        first = np.bincount(np.repeat(np.arange(len(counts)), counts)[::2], minlength=len(counts))
        return first, counts - first

    monkeypatch.setattr(tables, "_halves", dealt)
    halves = np.mean([known(y[k::2], t[k::2]) for k in range(2)])
    quarters = np.mean([known(y[k::4], t[k::4]) for k in range(4)])
    exact = 2 * known(y, t) - halves
    if correction == "quadratic":
        powers = [[1, 1, 1], [1, 2, 4], [1, 4, 16]]
        exact = np.linalg.solve(powers, [known(y, t), halves, quarters])[0]
    found = quick(y, t, np.zeros(8, int), correction=correction).corrected
    assert found["mutual_teacher"] == found["union"] == pytest.approx(exact, abs=1e-9)


@fast
def test_halves_are_random_halves():
    """The mean over seeds is that over all 70 halves of 8 samples."""
    y, t = EIGHT
    rows = [list(half) for half in itertools.combinations(range(8), 4)]
    exact = 2 * known(y, t) - np.mean([known(y[half], t[half]) for half in rows])
    found = [quick(y, t, np.zeros(8, int), seed=seed).corrected for seed in range(60)]
    values = np.array([one["mutual_teacher"] for one in found])
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / math.sqrt(60))
    assert 0 < values.std() < 0.15


def test_halves_share_what_was_counted():
    random, counts = np.random.default_rng(0), np.array([50, 30, 0, 11])
    first = np.array([tables._halves(counts, random)[0] for _ in range(200)])
    assert set(first.sum(1)) == {45}
    assert first.mean(0) == pytest.approx(counts * 45 / 91, abs=0.6)
    assert first[:, 0].std() == pytest.approx(2.4, abs=0.5)  # hypergeometric


@fast
@pytest.mark.parametrize("correction", ["two-point", "quadratic"])
def test_spread_is_that_of_the_corrected_estimate(correction, monkeypatch):
    """With a solver that returns noise: the whole's weight squared, the halves' over two, ..."""
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        tables, "broja_pid", lambda *_, **__: PID(random.normal(), 0, 0, 0, (0, 0), "noise", 0)
    )
    found = table_estimate(*drawn(MODELS["A"], 50, 0), resamples=500, correction=correction)
    weights = {"two-point": (2, -1, 0), "quadratic": (8 / 3, -2, 1 / 3)}[correction]
    exact = math.sqrt(weights[0] ** 2 + weights[1] ** 2 / 2 + weights[2] ** 2 / 4)
    assert found.spread["mutual_teacher"] == pytest.approx(exact, rel=0.12)
    assert found.spread["unique_student"] == pytest.approx(exact, rel=0.12)
    assert found.spread["unique_teacher"] == found.spread["synergistic"] == 0.0


def test_the_solver_is_asked_for_enough_and_its_worst_gap_shown(monkeypatch):
    asked = []

    def solver(table, *, tolerance):
        asked.append(tolerance)
        gap = 0.25 if len(asked) == 3 else 0.0
        return PID(1.0, 1.0, 1.0, 1.0, (1.0 - gap, 1.0), "not converged", 0)

    monkeypatch.setattr(tables, "broja_pid", solver)
    assert quick(*drawn(MODELS["A"], 50, 0)).gap == 0.25
    assert asked == [1e-6] + [1e-5] * 15


def test_targets_alone_are_shuffled(monkeypatch):
    y = np.array([0] * 30 + [1] * 8 + [2] * 2)
    t, s = np.arange(40) % 3, np.arange(40) // 20
    seen = []
    monkeypatch.setattr(
        tables, "broja_pid", lambda table, **options: seen.append(table) or broja_pid(table)
    )
    table_estimate(y, t, s, resamples=2, permutations=5)
    for table in seen[-5:]:
        assert np.array_equal(table.sum((1, 2)), [30, 8, 2])
        assert np.array_equal(table.sum(0), seen[0].sum(0))
    assert len({table.tobytes() for table in seen[-5:]}) == 5


@fast
def test_symbols_are_names():
    y, t, s = drawn(MODELS["A"], 3000, 0)
    found = quick(y, t, s)
    # The same order: the same numbers throughout.
    same = quick(7 * y - 40, 2 * t, s + 10**9)
    for field in ("raw", "corrected", "spread", "null"):
        assert getattr(same, field) == getattr(found, field)
    # Another order: other random halves.
    order = np.random.default_rng(0).permutation(10)
    other = quick(order[y], order[t], 9 - s)
    assert atoms(other.raw) == pytest.approx(atoms(found.raw), abs=2e-6)
    assert atoms(other.corrected) == pytest.approx(atoms(found.corrected), abs=0.02)
    # Teacher and student exchanged.
    turned = quick(y, s, t)
    assert turned.raw["unique_teacher"] == pytest.approx(found.raw["unique_student"], abs=2e-6)
    assert turned.raw["unique_student"] == pytest.approx(found.raw["unique_teacher"], abs=2e-6)


def test_seeds():
    columns = drawn(MODELS["B"], 300, 0)
    first, again, other = (quick(*columns, seed=seed) for seed in (0, 0, 1))
    assert isinstance(first, TableEstimate)
    for field in ("corrected", "spread", "null"):
        assert getattr(first, field) == getattr(again, field)
        assert getattr(first, field) != getattr(other, field)
    assert first.raw == other.raw


@pytest.mark.parametrize(
    ("n", "shape", "names"),
    [
        (5000, (10, 10, 10), ()),
        (4999, (10, 10, 10), ("synergistic",)),
        (500, (10, 10, 5), ("synergistic",)),
        (499, (10, 10, 5), ATOMS),
        (499, (10, 5, 10), ATOMS),
    ],
)
def test_sample_size_rule(n, shape, names):
    assert untrusted_atoms(n, shape) == names


def test_symbols_that_occur_are_counted():
    y, t, s = (np.arange(40) % size for size in (2, 2, 1))
    assert quick(y, 9 * t, s).untrusted == ()
    assert quick(y[:19], t[:19], s[:19]).untrusted == ATOMS
    assert quick(y, np.arange(40) % 4, s).untrusted == ()
    assert quick(y, np.arange(40) % 4, np.arange(40) // 20).untrusted == ("synergistic",)


def test_constants_and_copies():
    y = np.arange(64) % 4
    alone = quick(y, y, np.zeros(64, int))
    assert alone.raw["unique_teacher"] == pytest.approx(2.0, abs=1e-9)
    for name in ("unique_student", "redundant", "synergistic"):
        assert alone.raw[name] == pytest.approx(0.0, abs=1e-9)
    both = quick(y, y, 3 - y)
    assert both.raw["redundant"] == pytest.approx(2.0, abs=1e-9)
    one = quick(np.zeros(8, int), np.arange(8), np.arange(8))
    assert set(one.raw.values()) == set(one.null.values()) == set(one.spread.values()) == {0.0}


Y = np.arange(20) % 3


@pytest.mark.parametrize(
    ("columns", "options", "error", "message"),
    [
        ((Y, Y[1:], Y), {}, ShapeError, r"targets \(20,\), teacher_symbols \(19,\)"),
        ((Y, Y, Y[:, None]), {}, ShapeError, r"student_symbols \(20, 1\). Take all"),
        ((Y[None], Y[None], Y[None]), {}, ShapeError, r"of one length; got targets \(1, 20\)"),
        ((Y[:7],) * 3, {}, DataError, "at least 8 samples; got 7. Five"),
        ((Y,) * 3, {"resamples": 1}, ArgumentError, "`resamples` >= 2; got 1"),
        ((Y,) * 3, {"permutations": 0}, ArgumentError, "`permutations` >= 1; got 0"),
        ((Y,) * 3, {"correction": "two"}, ArgumentError, "`correction` to be one of two-point"),
    ],
)
def test_bad_arguments(columns, options, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^table_estimate: expected .*{message}"):
        table_estimate(*columns, **options)
