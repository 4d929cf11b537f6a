"""The truths of the known sources, against quadrature, counting and the exact solver."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn import neighbors

from limbeck import broja_pid
from limbeck.checks import ArgumentError
from limbeck.information import known_bits as bits, known_parts as parts
from limbeck.information.known import SOURCES, Source


ATOMS = ("unique_teacher", "unique_student", "redundant", "synergistic")
REFERENCE = {  # unique to the teacher, unique to the student, redundant, synergistic [bits]
    "null_shared": (0, 0, 0, 0),
    "copy_super": (math.log2(5), 1, 0, 0),
    "teacher_superset": (1, 0, math.log2(5), 0),
    "rdnxor": (0, 0, 1, 1),
    "and": (0, 0, 1.5 - 0.75 * math.log2(3), 0.5),
    "awgn_degraded": (1.292914, 0, 0.871440, 0.214380),
    "symmetric10": (1.452933, 0, 1.083007, 0.199449),
}
DEPENDENT = {"rdnxor", "noisy_xor", "and", "sum", "symmetric10_chain", "line10_chain"}


@pytest.fixture(scope="module")
def drawn():
    return {name: source.draw(10_000, seed=3) for name, source in SOURCES.items()}


@pytest.mark.parametrize("name", REFERENCE)
def test_truths_of_the_reference(name):
    assert list(SOURCES[name].truth) == list(ATOMS)
    assert list(SOURCES[name].truth.values()) == pytest.approx(REFERENCE[name], abs=1e-6)


def test_what_there_is():
    classes = [source.classes for source in SOURCES.values()]
    assert len(SOURCES) >= 14
    assert classes.count(100) >= 4
    assert classes.count(10) >= 8
    assert all(name == source.name for name, source in SOURCES.items())
    for half in (list(SOURCES.values())[::2], list(SOURCES.values())[1::2]):
        assert sum(source.classes == 100 for source in half) >= 2
        for atom in ATOMS:
            assert sum(source.truth[atom] > 0.02 for source in half) >= 4
        assert any(min(source.truth.values()) > 0.02 < source.classes == 10 for source in half)
    large = [SOURCES[name].truth for name in ("degraded100", "split100")]
    assert [large[0][atom] for atom in ATOMS[:3]] == pytest.approx([2.1, 0, 4.3], abs=0.06)
    assert [large[1][atom] for atom in ATOMS[:3]] == pytest.approx([0.9, 0.8, 4.8], abs=0.06)


@pytest.mark.parametrize("name", SOURCES)
def test_identities_of_the_truth(name):
    source = SOURCES[name]
    teacher, student, joint, union = source.informations
    unique_teacher, unique_student, redundant, _ = source.truth.values()
    assert unique_teacher + redundant == pytest.approx(teacher, abs=1e-12)
    assert unique_student + redundant == pytest.approx(student, abs=1e-12)
    assert sum(source.truth.values()) == pytest.approx(joint, abs=1e-12)
    assert min(source.truth.values()) >= 0
    assert max(teacher, student) <= union + 1e-12
    assert joint <= entropy(source) + 1e-12


def entropy(source):
    return -float(source.prior @ np.log2(source.prior))


@pytest.mark.parametrize("name", SOURCES)
def test_exact_posteriors_hold_the_informations(name, drawn):
    """H(Y) + E log2 p(y | row) is the information, by definition."""
    source, sample = SOURCES[name], drawn[name]
    teacher, student, joint, _ = source.informations
    known = {"teacher": (sample.teacher_posteriors, teacher)}
    known["student"] = (sample.student_posteriors, student)
    if name not in DEPENDENT:
        both = sample.teacher_posteriors * sample.student_posteriors / source.prior
        known["joint"] = (both / both.sum(1, keepdims=True), joint)
    for side, (posteriors, truth) in known.items():
        assert posteriors.shape == (10_000, source.classes), side
        assert np.abs(posteriors.sum(1) - 1).max() < 1e-12, side
        assert posteriors.min() >= 0, side
        rows = entropy(source) + np.log2(posteriors[np.arange(10_000), sample.targets])
        error = rows.std() / math.sqrt(10_000)
        assert abs(rows.mean() - truth) <= 4 * error + 1e-9, side
        # Posteriors average to the prior, whatever they know.
        spread = posteriors.std(0) / math.sqrt(10_000)
        assert np.all(np.abs(posteriors.mean(0) - source.prior) <= 5 * spread + 1e-9), side


@pytest.mark.parametrize("name", SOURCES)
def test_labels_have_their_prior(name, drawn):
    source, sample = SOURCES[name], drawn[name]
    counts = np.bincount(sample.targets, minlength=source.classes)
    assert sample.targets.dtype == np.int64
    assert stats.chisquare(counts, 10_000 * source.prior).pvalue > 1e-4


@pytest.mark.parametrize("name", SOURCES)
def test_dimension_adds_nuisance_only(name):
    source = SOURCES[name]
    least = max(source.least_dimension, 1)
    wide, narrow = source.draw(500, 5), source.draw(500, 5, dimension=least)
    assert wide.teacher.shape == wide.student.shape == (500, 64)
    assert narrow.teacher.shape == narrow.student.shape == (500, least)
    for field in ("targets", "teacher_posteriors", "student_posteriors"):
        assert np.array_equal(getattr(wide, field), getattr(narrow, field))


def test_all_else_is_unit_noise_in_random_directions():
    source = SOURCES["line10_chain"]
    sample = source.draw(10_000, 0)
    for side in (sample.teacher, sample.student):
        values, vectors = np.linalg.eigh(np.cov(side.T))
        assert values[-1] > 9  # the levels; all other directions have variance one
        assert np.abs(values[:-1] - 1).max() < 0.22
        assert np.abs(vectors[:, -1]).max() < 0.5
        rest = side - side @ vectors[:, -1:] * vectors[:, -1]
        means = np.stack([rest[sample.targets == y].mean(0) for y in range(10)])
        assert np.abs(means).max() < 0.15
    shared = SOURCES["null_shared"].draw(10_000, 0)
    cross = np.linalg.svd(shared.teacher.T @ shared.student / 10_000, compute_uv=False)
    assert np.all(cross[:8] > 0.95)
    assert np.all(cross[8:] < 0.2)


@pytest.mark.parametrize("name", SOURCES)
def test_rows_hold_what_their_posteriors_say(name):
    """Neighbours of a row guess its label as often right as the exact posteriors do."""
    source = SOURCES[name]
    least = max(source.least_dimension, 1)
    fitted, sample = source.draw(6000, 1, least), source.draw(2000, 2, least)
    for side in ("teacher", "student"):
        best = getattr(sample, f"{side}_posteriors").max(1).mean()
        guess = neighbors.KNeighborsClassifier(15).fit(getattr(fitted, side), fitted.targets)
        right = guess.score(getattr(sample, side), sample.targets)
        assert best - 0.08 <= right <= best + 0.04, side


def test_draws_depend_on_the_seed_alone():
    source = SOURCES["mixed10_line"]
    first, again, other = (source.draw(50, seed) for seed in (1, 1, 2))
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))
        assert not np.array_equal(getattr(first, field.name), getattr(other, field.name))
    # One law for all seeds: a direction found on one draw serves the next.
    first, other = source.draw(4000, 1), source.draw(4000, 2)
    level = np.linalg.lstsq(first.teacher, first.targets // 2 - 2.0, rcond=None)[0]
    assert np.corrcoef(other.teacher @ level, other.targets // 2)[0, 1] > 0.9


@pytest.mark.parametrize("scale", [0.4, 1.7, 6.0])
def test_levels_against_adaptive_quadrature(scale):
    means = scale * parts.line(4)[:, 0]

    def density(x):
        rows = stats.norm.pdf(x - means)
        own = rows[rows > 0]
        return np.sum(own * np.log2(own / rows.mean())) / 4

    truth = integrate.quad(
        density, means[0] - 9, means[-1] + 9, limit=400, epsabs=1e-10, points=list(means)
    )[0]
    assert bits.gaussian_bits(means[:, None]) == pytest.approx(truth, abs=1e-8)
    # In the plane the same points know the same, in any direction.
    turned = means[:, None] * np.array([0.6, 0.8])
    assert bits.gaussian_bits(turned) == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_spreads_against_adaptive_quadrature(width):
    deviations = np.array([1.0, 1.5, 4.0])

    def density(log_square):
        square = math.exp(log_square)
        rows = stats.chi2.pdf(square / deviations**2, width) * square / deviations**2
        own = rows[rows > 0]
        return np.sum(own * np.log2(own / rows.mean())) / 3

    truth = integrate.quad(density, -40, 7, limit=400, epsabs=1e-10)[0]
    assert bits.variance_bits(deviations, width) == pytest.approx(truth, abs=1e-7)


def test_xor_of_clear_bits_is_a_bit_and_of_noisy_ones_a_product_of_errors():
    assert parts.Xor(9.0, 9.0).informations().joint == pytest.approx(1, abs=1e-9)
    # A clear bit on one side leaves the other side's channel.
    one = bits.gaussian_bits(np.array([[-0.8], [0.8]]))
    assert parts.Xor(9.0, 0.8).informations().joint == pytest.approx(one, abs=1e-9)
    # Two dimensions, four corners: I(bits; t, s) = I(xor; t, s) + I(bits; t, s | xor).
    low, high = np.array([[1.0, 1.5], [-1.0, -1.5]]), np.array([[1.0, -1.5], [-1.0, 1.5]])
    given = 0.5 * (bits.gaussian_bits(low) + bits.gaussian_bits(high))
    all_four = bits.gaussian_bits(np.vstack([low, high]))
    assert parts.Xor(1.0, 1.5).informations().joint == pytest.approx(all_four - given, abs=1e-8)


def test_rows_of_the_xor_are_as_noisy_as_stated():
    """The product of both rows' signs is right unless one of them alone is wrong."""
    piece = parts.Xor(1.0, 0.5).draw(40_000, np.random.default_rng(0))
    guess = (piece.teacher[:, 0] > 0) ^ (piece.student[:, 0] > 0)
    wrong = stats.norm.sf([1.0, 0.5])
    share = wrong @ (1 - wrong[::-1])
    assert (guess != piece.targets).mean() == pytest.approx(share, abs=0.01)


def binned(means, edges):
    """Return p(bin | mean) of unit noise."""
    inner = stats.norm.cdf(np.asarray(edges) - np.asarray(means)[:, None])
    return np.diff(np.hstack([np.zeros((len(means), 1)), inner, np.ones((len(means), 1))]), axis=1)


def joined(*tables):
    """Return the table of independent systems."""
    whole = tables[0]
    for table in tables[1:]:
        shape = np.multiply(whole.shape, table.shape)
        whole = np.einsum("yts,abc->yatbsc", whole, table).reshape(shape)
    return whole


def discretised():
    """Give tables of symbols, exact or in fine cells, with how much the cells may lose [bits]."""
    found = {
        name: (joined(*(part.pmf for part in SOURCES[name].parts)), 1e-6)
        for name in (
            *("null_apart", "copy_super", "copy_thirds", "teacher_superset", "student_superset"),
            *("rdnxor", "and", "sum", "symmetric10", "symmetric10_chain", "erasure10"),
        )
    }
    edges = np.linspace(-5, 5, 29)
    rough = np.linspace(-4.4, 4.4, 19)

    def pair(part, edges):
        teacher, student = (
            binned(scale * part.points[:, 0], edges * max(scale * part.points.max() / 3, 1))
            for scale in (part.teacher, part.student)
        )
        return parts.separate(teacher, student).pmf

    levels, bit = SOURCES["mixed10_line"].parts
    coarse = np.linspace(-2.5, 2.5, 6)
    second = parts.separate(*(binned(s * bit.points[:, 0], coarse) for s in (0.8, 1.7))).pmf
    found["mixed10_line"] = (joined(pair(levels, rough), second), 0.06)
    one = SOURCES["awgn_degraded"].parts[0]
    found["awgn_degraded"] = (pair(one, edges), 0.01)
    sides = (binned([-2.0, 2.0], edges), binned([-1.6, 1.6], edges))
    xor = np.einsum(
        "at,bs,yab->yts", *sides, 1.0 * (np.indices((2, 2)).sum(0) % 2 == [[[0]], [[1]]])
    )
    shared = parts.separate(binned([-1.6, 1.6], coarse), binned([-1.2, 1.2], coarse)).pmf
    found["noisy_xor"] = (joined(xor / 4, shared), 0.03)
    switch = SOURCES["switched12"].parts[0]
    table = np.zeros((12, 9, 9))
    for k, part in enumerate(switch.parts):
        _, t, s = part.pmf.shape
        table[4 * k : 4 * k + 4, 4 * k : 4 * k + t, 4 * k : 4 * k + s] = part.pmf / 3
    found["switched12"] = (table, 1e-6)
    return found


@pytest.mark.parametrize("name", discretised())
def test_the_exact_solver_agrees(name):
    """Cells only lose: each information lies below the truth, by little."""
    table, loss = discretised()[name]
    found = broja_pid(table / table.sum(), tolerance=5e-7)
    assert found.converged, found.status
    source = SOURCES[name]
    count = 3 if name == "awgn_degraded" else 1  # one bit of three was solved
    measured = (found.mutual_teacher, found.mutual_student, found.mutual_joint, found.union)
    for value, truth in zip(measured, source.informations, strict=True):
        assert truth / count - loss <= value <= truth / count + 1e-6
    for atom in ATOMS:
        assert getattr(found, atom) == pytest.approx(source.truth[atom] / count, abs=loss)


@pytest.mark.parametrize(
    ("n", "dimension", "message"),
    [(0, 64, "`n` >= 1; got 0"), (5, 9, "`dimension` >= 10 for symmetric10; got 9")],
)
def test_too_little_is_refused(n, dimension, message):
    with pytest.raises(ArgumentError, match=f"^Source.draw: expected {message}"):
        SOURCES["symmetric10"].draw(n, 0, dimension=dimension)


def test_a_source_of_ones_own():
    mine = Source("mine", "Two clean bits, the student blind.", (parts.clean(4, student=False),))
    assert mine.truth["unique_teacher"] == pytest.approx(2.0, abs=1e-12)
    assert mine.draw(10, 0).student.shape == (10, 64)
