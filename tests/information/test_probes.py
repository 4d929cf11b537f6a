"""Probes: held-out posteriors that know what can be known, and no more."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)

from limbeck.information.directions import Directions
from limbeck.information.discriminants import clusters, linear, quadratic, subclasses
from limbeck.information.known import SOURCES
from limbeck.information.network import correction
from limbeck.information.probes import FLOOR, cross_fit, floored, narrowed


def loss(logs, targets):
    return -float(np.mean(logs[np.arange(len(targets)), targets])) / np.log(2)


def gaussian_classes(n=3000, seed=0):
    """Three classes of different mean and spread in two of five dimensions, turned."""
    random = np.random.default_rng(seed)
    targets = random.integers(3, size=n)
    rows = random.normal(size=(n, 5))
    rows[:, 0] += 2.0 * targets
    rows[:, 1] *= np.array([0.3, 1.0, 3.0])[targets]
    return rows @ (random.normal(size=(5, 5)) * np.array([1, 10, 0.1, 1, 1])), targets


def test_directions_are_those_of_means_and_of_spreads():
    rows, targets = gaussian_classes()
    found = Directions.fit(rows, targets, seed=0)
    assert found.kept.shape == (5, 2)
    kept = found.reduced(rows)
    # What is kept says as much as all of it: scikit-learn's discriminant on both.
    whole, part = (
        QuadraticDiscriminantAnalysis().fit(x, targets).predict_log_proba(x) for x in (rows, kept)
    )
    assert loss(part, targets) == pytest.approx(loss(whole, targets), abs=0.02)


def test_noise_has_no_directions():
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(4000, 20)), random.integers(4, size=4000)
    found = Directions.fit(rows[:2000], targets[:2000], seed=0)
    assert found.kept.shape[1] <= 1
    assert found.reduced(np.zeros((3, 20))).shape[0] == 3
    # Without shrinkage the means of chance would cost 57/(2 n ln 2) = .02 bits on other rows.
    fit = linear(found.linear(rows[:2000]), targets[:2000], 4)
    assert loss(fit(found.linear(rows[2000:])), targets[2000:]) < 2.012


def test_directions_do_not_depend_on_the_basis():
    rows, targets = gaussian_classes()
    turn = np.random.default_rng(1).normal(size=(5, 5))
    one = Directions.fit(rows, targets, seed=0)
    two = Directions.fit(rows @ turn, targets, seed=0)
    first = quadratic(one.reduced(rows), targets, 3)(one.reduced(rows))
    second = quadratic(two.reduced(rows @ turn), targets, 3)(two.reduced(rows @ turn))
    assert loss(first, targets) == pytest.approx(loss(second, targets), abs=2e-3)
    assert (first.argmax(1) == second.argmax(1)).mean() > 0.995


def test_constant_and_repeated_features_are_no_obstacle():
    rows, targets = gaussian_classes()
    odd = np.hstack([rows, np.ones((len(rows), 2)), rows[:, :1]])
    found = Directions.fit(odd, targets, seed=0)
    assert np.isfinite(found.reduced(odd)).all()
    assert found.kept.shape[1] == 2


def test_linear_and_quadratic_are_the_textbook_ones():
    rows, targets = gaussian_classes()
    theirs = QuadraticDiscriminantAnalysis().fit(rows, targets).predict_log_proba(rows)
    ours = quadratic(rows / rows.std(0), targets, 3)(rows / rows.std(0))
    assert loss(ours, targets) == pytest.approx(loss(theirs, targets), abs=0.006)
    found = Directions.fit(rows, targets, seed=0)
    flat = LinearDiscriminantAnalysis().fit(rows, targets).predict_log_proba(rows)
    mine = linear(found.linear(rows), targets, 3)(found.linear(rows))
    assert loss(mine, targets) == pytest.approx(loss(flat, targets), abs=2e-3)


def test_clusters_and_subclasses_know_mixtures():
    """A label that is wrong in a tenth of the rows; two clusters in one class."""
    random = np.random.default_rng(0)
    seen = random.integers(4, size=4000)
    rows = np.eye(4)[seen] + 0.05 * random.normal(size=(4000, 4))
    targets = np.where(random.random(4000) < 0.1, random.integers(2, size=4000), seen % 2)
    said = clusters(rows, targets, 2, count=4, seed=0)(rows)
    wrong = (targets != seen % 2).mean()
    entropy = -wrong * np.log2(wrong) - (1 - wrong) * np.log2(1 - wrong)
    assert loss(said, targets) == pytest.approx(entropy, abs=0.01)
    halves = subclasses(rows, seen % 2, 2, count=2, seed=0)(rows)
    assert loss(halves, seen % 2) < 0.01
    for logs in (said, halves):
        assert np.exp(logs).sum(1) == pytest.approx(1.0, abs=1e-5)


def test_network_learns_what_is_missing_and_is_never_worse_than_its_start():
    random = np.random.default_rng(0)
    rows = random.normal(size=(3000, 2))
    targets = (rows[:, 0] * rows[:, 1] > 0).astype(int)
    start = np.full((3000, 2), np.log(0.5))
    learned = correction(rows, targets, start, seed=0)(rows, start)
    assert loss(learned, targets) < 0.35
    guessed = correction(rows, random.integers(2, size=3000), start, seed=0)(rows, start)
    assert loss(guessed, random.integers(2, size=3000)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["mixed10_line", "symmetric10", "variance4", "and"])
def test_probe_is_nearly_as_good_as_the_true_posteriors(name):
    sample = SOURCES[name].draw(3000, seed=0, dimension=32)
    probe = cross_fit(sample.teacher, sample.targets, SOURCES[name].classes, seed=0)
    best = loss(np.log(np.maximum(sample.teacher_posteriors, 1e-12)), sample.targets)
    mine = loss(np.log(probe.posteriors), sample.targets)
    coarse = loss(np.log(probe.coarse), sample.targets)
    assert best - 0.02 <= mine <= best + 0.07
    assert mine <= coarse + 0.005
    assert sum(probe.shares.values()) == pytest.approx(1.0, abs=1e-3)


def test_rows_did_not_fit_their_own_posteriors():
    """Labels are noise: whoever has seen a row's label knows it, whoever has not knows nothing."""
    random = np.random.default_rng(0)
    targets = random.integers(4, size=400)
    probe = cross_fit(random.normal(size=(400, 100)), targets, 4, seed=0)
    assert loss(np.log(probe.posteriors), targets) >= 1.97


def test_own_head_joins_and_wins_where_it_is_best():
    random = np.random.default_rng(0)
    targets = random.integers(3, size=900)
    head = np.log(floored(np.eye(3)[targets] * 0.9 + 0.1 / 3))
    probe = cross_fit(random.normal(size=(900, 4)), targets, 3, seed=0, given={"own": head})
    assert probe.shares["own"] > 0.95
    assert probe.temperature < 0.9  # it was less sure than it could be
    assert loss(np.log(probe.posteriors), targets) < 0.05


def test_posteriors_are_floored_distributions():
    random = np.random.default_rng(0)
    targets = random.integers(3, size=600)
    probe = cross_fit(np.eye(3)[targets] * 50 + random.normal(size=(600, 3)), targets, 3, seed=0)
    for posteriors in (probe.posteriors, probe.coarse):
        assert posteriors.sum(1) == pytest.approx(1.0, abs=1e-5)
        assert posteriors.min() >= 0.9 * FLOOR


def test_wide_features_are_narrowed_to_their_components():
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 2)) @ random.normal(size=(2, 40))
    kept = narrowed(rows, 2, seed=0)
    assert kept.shape == (300, 2)
    gram = (rows - rows.mean(0)) @ (rows - rows.mean(0)).T
    assert kept @ kept.T == pytest.approx(gram, rel=1e-6, abs=1e-6)
    assert np.array_equal(narrowed(rows, 40, seed=0), rows)


def test_same_seed_same_probe():
    sample = SOURCES["mixed10_line"].draw(800, seed=0, dimension=16)
    one, two = (cross_fit(sample.teacher, sample.targets, 10, seed=0) for _ in range(2))
    assert np.array_equal(one.posteriors, two.posteriors)


def test_rows_in_the_order_of_their_classes_are_as_good_as_shuffled_ones():
    """Test sets often come class by class: a quarter of the rows must hold every class."""
    rows, targets = gaussian_classes(2000)
    order = np.argsort(targets, kind="stable")
    probe = cross_fit(rows[order], targets[order], 3, seed=0)
    shuffled = cross_fit(rows, targets, 3, seed=0)
    for kind in ("posteriors", "coarse"):
        mine = loss(np.log(getattr(probe, kind)), targets[order])
        assert mine == pytest.approx(loss(np.log(getattr(shuffled, kind)), targets), abs=0.05)
