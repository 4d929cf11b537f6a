"""From samples to atoms: known truths, identities, what is refused, and what it says in words."""

import json

import numpy as np
import pytest
import torch

from limbeck import Estimate, estimate_pid, pid_from_posteriors
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information import estimating, samples
from limbeck.information.known import SOURCES
from limbeck.information.pid import ATOMS
from limbeck.information.pid_estimate import PIDEstimate
from limbeck.information.probes import Probe, floored


INFORMATIONS = ("mutual_teacher", "mutual_student", "mutual_joint")


def values(found):
    return {name: getattr(found, name).value for name in (*ATOMS, *INFORMATIONS)}


def drawn(name, n=600, seed=0, dimension=6):
    sample = SOURCES[name].draw(n, seed, max(dimension, SOURCES[name].least_dimension))
    return sample.targets, sample.teacher, sample.student


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("null_apart", "nothing to distil"),
        ("sum", "done"),
        ("teacher_superset", "distil"),
    ],
)
def test_hull_finds_what_is_known(name, verdict):
    found = estimate_pid(*drawn(name, 1200))
    for atom, truth in SOURCES[name].truth.items():
        estimate = getattr(found, atom)
        assert estimate.value == pytest.approx(truth, abs=0.1), atom
        # Twice the width: one of twenty intervals may miss, and here are twenty.
        assert truth <= estimate.value + 2 * (estimate.upper - estimate.value)
    assert found.verdict == verdict
    assert found.distillable is found.unique_teacher
    assert found.distilled is found.redundant


@pytest.fixture(scope="module")
def of_xor():
    """A source with three kinds of atoms, and its estimate."""
    rows = drawn("noisy_xor")
    return rows, estimate_pid(*rows)


def test_identities_hold_before_clipping(of_xor):
    raw = {name: getattr(of_xor[1], name).raw for name in (*ATOMS, *INFORMATIONS)}
    both = raw["redundant"] + raw["unique_teacher"]
    assert both == pytest.approx(raw["mutual_teacher"], abs=1e-9)
    assert raw["redundant"] + raw["unique_student"] == pytest.approx(raw["mutual_student"])
    assert sum(raw[atom] for atom in ATOMS) == pytest.approx(raw["mutual_joint"], abs=1e-9)


def test_exchange_of_sides_exchanges_the_atoms(of_xor):
    (targets, teacher, student), found = of_xor
    one, two = values(found), values(estimate_pid(targets, student, teacher))
    assert one["unique_teacher"] == pytest.approx(two["unique_student"], abs=0.03)
    assert one["unique_student"] == pytest.approx(two["unique_teacher"], abs=0.03)
    assert one["redundant"] == pytest.approx(two["redundant"], abs=0.03)
    assert one["synergistic"] == pytest.approx(two["synergistic"], abs=0.1)


def test_names_of_classes_do_not_matter(of_xor):
    (targets, teacher, student), found = of_xor
    two = values(estimate_pid(3 - targets, teacher, student))
    for name, value in values(found).items():
        assert value == pytest.approx(two[name], abs=0.06), name


def test_a_class_that_is_absent_changes_nothing():
    targets, teacher, student = drawn("and")
    one = values(estimate_pid(targets, teacher, student))
    two = values(estimate_pid(2 * targets, teacher, student))
    for name, value in one.items():
        assert value == pytest.approx(two[name], abs=0.06), name


def test_constant_features_know_nothing():
    targets, teacher, _ = drawn("and")
    found = estimate_pid(targets, teacher, np.ones((len(targets), 3)))
    assert found.mutual_student.value < 0.01
    assert found.redundant.value < 0.01
    assert found.rivals["cka"] == 0.0


def test_same_features_have_nothing_of_their_own():
    targets, teacher, _ = drawn("sum")
    found = estimate_pid(targets, teacher, teacher.copy())
    assert found.unique_teacher.value < 0.01
    assert found.unique_student.value < 0.01
    assert found.rivals["agreement"] == 1.0
    assert found.verdict == "done"


def test_same_seed_same_estimate_and_tensors_are_arrays():
    targets, teacher, student = drawn("and", 200)
    one = estimate_pid(targets, teacher, student, seed=3)
    two = estimate_pid(*(torch.tensor(rows) for rows in (targets, teacher, student)), seed=3)
    assert one.to_dict() == two.to_dict()
    assert one.to_dict() != estimate_pid(targets, teacher, student, seed=4).to_dict()


def test_kept_probes_spare_their_fit_and_change_nothing(monkeypatch):
    targets, teacher, student = drawn("and", 200)
    fits = []

    def counted(features, _, classes, **options):
        fits.append(features.shape)
        shares = np.exp(np.abs(features[:, :classes]) + options["seed"])
        return Probe(*[floored(shares / shares.sum(1, keepdims=True))] * 2, {}, 1.0)

    monkeypatch.setattr(estimating, "cross_fit", counted)
    fitted = {}
    first = estimate_pid(targets, teacher, student, fitted=fitted)
    assert len(fits) == 3  # teacher, student, both
    again = estimate_pid(targets, teacher, student, fitted=fitted)
    assert len(fits) == 4
    assert first.to_dict() == again.to_dict()
    few = {"fitted": fitted, "method": "cells"}  # needs no joint probe
    estimate_pid(targets, teacher, student, **few)
    assert len(fits) == 4
    estimate_pid(targets, teacher, student, seed=1, **few)
    assert len(fits) == 6
    estimate_pid(targets, teacher + 1e-9, student, **few)
    assert len(fits) == 7
    estimate_pid(1 - targets, teacher, student, **few)
    assert len(fits) == 9


def test_result_speaks_and_is_json():
    found = estimate_pid(*drawn("and", 200))
    again = json.loads(json.dumps(found.to_dict()))
    assert again["unit"] == "bits"
    assert again["redundant"]["value"] == found.redundant.value
    text = str(found)
    assert "distillable (unique to the teacher)" in text
    assert found.verdict in text
    assert any("200 rows" in warning for warning in found.warnings)
    assert set(found.null) == set(ATOMS)
    assert set(found.rivals) == {
        "cross_entropy_difference",
        "accuracy_difference",
        "agreement",
        "cka",
    }
    assert found.settings["rows_used"] == 200


def test_interval_has_one_side_at_zero_and_holds_its_value():
    found = estimate_pid(*drawn("sum", 300))
    assert found.unique_student.lower == 0.0
    for name in (*ATOMS, *INFORMATIONS):
        estimate = getattr(found, name)
        assert 0.0 <= estimate.lower <= estimate.value <= estimate.upper
        assert estimate.upper - estimate.value >= estimating.LEAST_WIDTH


@pytest.mark.parametrize(
    ("raw", "value", "lower"),
    [(0.5, 0.5, 0.5 - estimating.LEAST_WIDTH), (-0.2, 0.0, 0.0), (1e-9, 1e-9, 0.0)],
)
def test_no_interval_is_narrower_than_what_can_be_told(raw, value, lower):
    found = estimating._estimate(raw, 0.0, 0.0, 10, True)
    assert (found.value, found.lower, found.raw) == (value, lower, raw)
    assert found.upper == value + estimating.LEAST_WIDTH


def test_posteriors_alone_are_enough():
    sample = SOURCES["noisy_xor"].draw(1000, 0)
    found = pid_from_posteriors(
        sample.targets, sample.teacher_posteriors, sample.student_posteriors
    )
    for atom, truth in SOURCES["noisy_xor"].truth.items():
        if atom != "synergistic":
            assert getattr(found, atom).value == pytest.approx(truth, abs=0.08), atom


def test_overconfidence_is_forgiven():
    sample = SOURCES["noisy_xor"].draw(600, 0)
    sharp = sample.teacher_posteriors**4
    sharp /= sharp.sum(1, keepdims=True)
    one, two = (
        pid_from_posteriors(sample.targets, p, sample.student_posteriors)
        for p in (sample.teacher_posteriors, sharp)
    )
    assert one.unique_teacher.value == pytest.approx(two.unique_teacher.value, abs=0.03)


def test_own_head_is_used_where_features_hide_what_it_knows():
    targets, _, student = drawn("and", 600)
    blind = np.random.default_rng(0).normal(size=(600, 2))
    head = np.where(targets[:, None] == np.arange(2), 0.99, 0.01)
    without = estimate_pid(targets, blind, student)
    found = estimate_pid(targets, blind, student, teacher_posteriors=head)
    assert without.mutual_teacher.value < 0.05
    assert found.mutual_teacher.value > 0.7


@pytest.mark.parametrize("method", ["cells", "kmeans"])
def test_symbols_say_what_they_lose(method):
    targets, teacher, student = drawn("mixed10_line", 1000)
    found = estimate_pid(targets, teacher, student, method=method, n_symbols=4)
    assert found.kept["teacher"] < 0.9
    assert any("the teacher's symbols keep" in warning for warning in found.warnings)
    assert found.settings["n_symbols"] == 4
    truth = SOURCES["mixed10_line"].truth["redundant"]
    assert found.redundant.value < truth
    for name in (*ATOMS, *INFORMATIONS):
        assert found.to_dict()[name]["value"] >= 0


def test_cells_are_enough_for_few_clean_symbols():
    found = estimate_pid(*drawn("sum", 1500), method="cells")
    assert min(found.kept.values()) > 0.95
    for atom, truth in SOURCES["sum"].truth.items():
        if atom != "synergistic":  # cells of the two sides lose it
            assert getattr(found, atom).value == pytest.approx(truth, abs=0.05)


def test_gaussian_is_labelled_and_right_for_gaussians():
    random = np.random.default_rng(0)
    y = random.normal(size=(4000, 1))
    teacher, student = (y + scale * random.normal(size=(4000, 1)) for scale in (0.5, 1.0))
    found = estimate_pid(y[:, 0], teacher, student, method="gaussian")
    assert found.mutual_teacher.value == pytest.approx(0.5 * np.log2(5), abs=0.04)
    assert found.redundant.value == pytest.approx(0.5, abs=0.04)
    assert found.unique_student.value < 0.01
    assert found.rivals["teacher_r2"] == pytest.approx(0.8, abs=0.02)
    assert "Gaussian" in found.warnings[0]
    assert found.target_entropy is None
    assert found.verdict == "distil"
    assert found.mutual_teacher.lower < 0.5 * np.log2(5) < found.mutual_teacher.upper


def test_classes_have_no_more_entropy_than_their_number_allows():
    even = np.arange(232) % 8
    assert samples.most_known(even) == 3.0
    corrected = 3.0 + 7 / (2 * 232 * np.log(2))  # Miller and Madow
    assert samples.entropy(even) == pytest.approx(corrected)
    assert samples.most_known(np.array([0, 5] * 10)) == 1.0  # classes that do not occur
    skewed = np.repeat([0, 1], [90, 10])  # 0.4690 bits, and 1 / (2 * 100 ln 2) = 0.0072
    assert samples.most_known(skewed) == pytest.approx(0.46900 + 0.00721, abs=1e-4)


def test_too_much_extrapolation_is_not_resolved():
    """20 classes on a circle in 200 rows: a quarter of them knows far less than all."""
    random = np.random.default_rng(0)
    targets = np.arange(200) % 20
    angle = 2 * np.pi * targets / 20
    rows = 8 * np.stack([np.cos(angle), np.sin(angle)], 1)
    teacher, student = (
        np.hstack([rows, np.zeros((200, 8))]) + random.normal(size=(200, 10)) for _ in range(2)
    )
    found = estimate_pid(targets, teacher, student)
    assert found.mutual_teacher.status == "unresolved"
    assert "I(Y;T)" in " ".join(found.warnings)
    assert any("200 rows for 20 classes" in text for text in found.warnings)


def test_only_so_many_rows_are_used(monkeypatch):
    monkeypatch.setattr(samples, "MOST", 200)
    found = estimate_pid(*drawn("and", 300))
    assert (found.settings["rows_used"], found.settings["rows_given"]) == (200, 300)
    assert found.unique_teacher.n == 200


def test_verdict_cannot_tell_what_is_too_wide():
    exact = Estimate(1.0, 1.0, 1.0, 10, "bits", "resolved")
    wide = Estimate(0.4, 0.0, 0.9, 10, "bits", "resolved")
    rest = ({}, {}, {}, {}, (), {})
    found = PIDEstimate(wide, exact, exact, exact, exact, exact, exact, 2.0, *rest)
    assert found.verdict == "cannot tell"
    unresolved = Estimate(0.4, 0.3, 0.9, 10, "bits", "unresolved")
    found = PIDEstimate(unresolved, exact, exact, exact, exact, exact, exact, 2.0, *rest)
    assert found.verdict == "cannot tell"


GOOD = np.random.default_rng(0).normal(size=(100, 3))
LABELS = np.arange(100) % 2
NAN = GOOD.copy()
NAN[7, 1] = np.nan


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((LABELS, GOOD[:99], GOOD), {}, ShapeError, "teacher_features 99"),
        ((LABELS, GOOD, GOOD[:, 0]), {}, ShapeError, r"`student_features` \[rows, width\]"),
        ((LABELS, NAN, GOOD), {}, DataError, "the first is row 7"),
        ((LABELS * 0, GOOD, GOOD), {}, DataError, "only class 0"),
        ((LABELS - 1, GOOD, GOOD), {}, DataError, "-1 to 0"),
        ((LABELS.astype(float), GOOD, GOOD), {}, DataError, "method 'gaussian'"),
        ((LABELS[:40], GOOD[:40], GOOD[:40]), {}, DataError, "at least 50 rows; got 40"),
        ((np.arange(100), GOOD, GOOD), {}, DataError, "such as class 0"),
        ((LABELS, GOOD, GOOD), {"method": "hul"}, ArgumentError, "Did you mean hull"),
        ((LABELS, GOOD, GOOD), {"n_symbols": 3}, ArgumentError, "'cells' or 'kmeans'"),
        ((LABELS, GOOD, GOOD), {"method": "cells", "n_symbols": 1}, ArgumentError, ">= 2"),
        (
            (LABELS, GOOD, GOOD),
            {"teacher_posteriors": GOOD[:, :2]},
            DataError,
            "`teacher_posteriors` that are >= 0",
        ),
        (
            (LABELS, GOOD, GOOD),
            {"student_posteriors": np.full((100, 3), 1 / 3)},
            ShapeError,
            r"\[100, 2\]",
        ),
    ],
)
def test_bad_input_is_named(arguments, options, error, message, without_shape_hook):
    with pytest.raises(error, match=message):
        estimate_pid(*arguments, **options)


def test_bad_posteriors_are_named(without_shape_hook):
    half = np.full((100, 2), 0.5)
    with pytest.raises(ShapeError, match="student_posteriors 99"):
        pid_from_posteriors(LABELS, half, half[:99])
    with pytest.raises(DataError, match="logits"):
        pid_from_posteriors(LABELS, half, 2 * half)
    with pytest.raises(DataError, match="below 2"):
        pid_from_posteriors(LABELS + 1, half, half)
    with pytest.raises(ShapeError, match=r"\[rows, classes\]"):
        pid_from_posteriors(LABELS, half[:, 0], half)
    with pytest.raises(ArgumentError, match="kmeans"):
        pid_from_posteriors(LABELS, half, half, method="kmeans")
