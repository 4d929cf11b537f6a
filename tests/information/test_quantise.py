"""Symbols: what they keep, that they are fitted once, and the inputs that break clustering."""

import math
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import mutual_info_score

from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information.known import SOURCES
from limbeck.information.quantise import FeatureClusters, PosteriorCells, kept_information


def bits(targets, symbols):
    return mutual_info_score(targets, symbols) / math.log(2)


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.mark.parametrize("seed", range(3))
def test_digits_as_the_reference_found_them(digits, seed):
    """Best of ten starts: 2.404 to 2.423 bits over 30 seeds; from one start 2.090 to 2.556."""
    features, targets = digits
    found = FeatureClusters.fit(features, 10, components=10, normalise_rows=True, seed=seed)
    assert found.centres.shape == (10, 10)
    assert 2.40 <= bits(targets, found.symbols(features)) <= 2.43


def test_rows_are_scaled_only_when_asked(digits):
    features, _ = digits
    scales = np.random.default_rng(0).uniform(0.1, 10, size=(len(features), 1))
    scaled = FeatureClusters.fit(features, 10, normalise_rows=True, seed=0)
    assert np.array_equal(scaled.symbols(features), scaled.symbols(features * scales))
    assert np.array_equal(scaled.symbols(features), scaled.symbols(features * 1e200))
    plain = FeatureClusters.fit(features, 10, seed=0)
    assert not np.array_equal(plain.symbols(features), plain.symbols(features * scales))


def test_fitted_once_used_on_others(digits):
    features, _ = digits
    posteriors = SOURCES["mixed10_line"].draw(3000, 0).teacher_posteriors
    for kind, rows in ((FeatureClusters, features), (PosteriorCells, posteriors)):
        first, again, other = (kind.fit(rows[:1000], 12, seed=seed) for seed in (0, 0, 1))
        assert np.array_equal(first.centres, again.centres)
        assert first.centres.shape == other.centres.shape
        assert not np.array_equal(first.centres, other.centres)
        symbols = first.symbols(rows)
        assert symbols.dtype == np.int64
        assert set(symbols) == set(range(12))
        # A row's symbol does not depend on the rows around it.
        assert np.array_equal(symbols[1000:1010], first.symbols(rows[1000:1010]))


def test_posterior_cells_live_on_square_roots():
    """Near a corner, a hundredth is closer to a ten-thousandth than 0.5 is to 0.64."""
    chances = np.array([1e-4, 1e-2, 0.64, 0.5])
    rows = np.repeat(np.stack([chances, 1 - chances], 1), [50, 50, 2, 2], axis=0)
    cells = PosteriorCells.fit(rows, 3, seed=0)
    rare, less_rare, most, half = cells.symbols(np.stack([chances, 1 - chances], 1))
    # On plain probabilities, the two rare ones would share a cell.
    assert rare != less_rare
    assert most == half
    assert np.allclose((cells.centres**2).sum(1), 1, atol=0.01)


@pytest.mark.parametrize("name", ["mixed10_line", "variance4", "awgn_degraded"])
def test_cells_keep_what_clusters_lose(name):
    source = SOURCES[name]
    fitted, held_out = source.draw(8000, 0), source.draw(20_000, 1)
    cells = PosteriorCells.fit(fitted.teacher_posteriors, 30, seed=0)
    clusters = FeatureClusters.fit(fitted.teacher, 30, seed=0)
    known = held_out.teacher_posteriors
    kept = kept_information(held_out.targets, cells.symbols(known), known)
    assert 0.93 < kept < 1.01
    found = clusters.symbols(held_out.teacher)
    lost = kept_information(held_out.targets, found, known)
    assert lost < kept - 0.1
    # The share is against what the probe knows, which here is the truth.
    mutual = source.informations.teacher
    assert lost == pytest.approx(bits(held_out.targets, found) / mutual, abs=0.02)


def test_kept_information_by_hand():
    """Two labels, three rows in four right: sums of three entropies, each with its correction."""
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1] * 100)
    symbols = np.array([7, 7, 7, 3, 3, 3, 3, 7] * 100)
    right = np.where(targets == np.where(symbols == 7, 0, 1), 0.8, 0.2)
    posteriors = np.where(np.eye(2, dtype=bool)[targets], right[:, None], 1 - right[:, None])
    correction = 1 / (2 * 800 * math.log(2))
    probe = 1 + correction + 0.75 * math.log2(0.8) + 0.25 * math.log2(0.2)
    quarter = 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    exact = (1 + quarter + (1 + 1 - 3) * correction) / probe
    wide = symbols * 10**15  # symbols are names
    assert kept_information(targets, wide, posteriors) == pytest.approx(exact, abs=1e-12)


def test_useless_symbols_keep_nothing_and_a_useless_probe_has_nothing_to_lose():
    source = np.random.default_rng(0)
    targets, symbols = source.integers(4, size=(2, 20_000))
    sure = 0.9 * np.eye(4)[targets] + 0.025
    # The correction takes the 9 / 2n nats of chance away; what is left is its spread.
    assert kept_information(targets, symbols, sure) < 5e-4
    assert kept_information(targets, np.zeros(20_000, dtype=int), sure) == 0.0
    assert kept_information(targets, symbols, np.full((20_000, 4), 0.25)) == 1.0
    wrong = source.dirichlet(np.ones(4), size=20_000)
    assert kept_information(targets, symbols, wrong) == 1.0


def constants():
    few = np.eye(4)[np.arange(200) % 3]
    return {
        "constant": (np.full((50, 6), 0.1), 1),
        "zeros": (np.zeros((50, 6)), 1),
        "one row": (np.full((1, 6), 3.0), 1),
        "three rows repeated": (few, 3),
        "a sign of zero": (np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]]), 2),
        "rounding": (1.0 + 1e-16 * np.arange(60).reshape(20, 3), 1),
        "large": (1e6 + np.eye(4)[np.arange(40) % 4], 4),
    }


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", constants())
def test_fewer_distinct_rows_than_symbols(name, normalise):
    rows, distinct = constants()[name]
    found = FeatureClusters.fit(rows, 8, normalise_rows=normalise, seed=0)
    symbols = found.symbols(rows)
    assert len(found.centres) == len(set(symbols)) == distinct
    for column in range(len(rows)):
        same = (rows == rows[column]).all(1)
        assert len(set(symbols[same])) == 1


def test_fewer_distinct_posteriors_than_cells():
    rows = np.array([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    cells = PosteriorCells.fit(rows, 50, seed=0)
    assert len(cells.centres) == 3
    assert len(set(cells.symbols(rows))) == 3
    assert PosteriorCells.fit(rows[:1], 50, seed=0).symbols(rows).tolist() == [0, 0, 0, 0]
    assert len(PosteriorCells.fit(rows, 1, seed=0).centres) == 1


def test_rows_that_differ_by_rounding_alone():
    """K-means then finds fewer clusters than asked for: no warning, and no empty symbol."""
    random = np.random.default_rng(0)
    rows = np.eye(4)[np.arange(200) % 4] + 1e-17 * random.integers(0, 9, size=(200, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = FeatureClusters.fit(rows, 30, seed=0)
    symbols = found.symbols(rows)
    assert set(symbols) == set(range(len(found.centres)))
    for kind in range(4):
        assert len(set(symbols[kind::4]) & set(symbols[(kind + 1) % 4 :: 4])) == 0


def test_single_precision_is_taken(digits):
    features, _ = digits
    found = FeatureClusters.fit(features.astype(np.float32), 10, seed=0)
    assert np.array_equal(found.symbols(features), found.symbols(features.astype(np.float32)))
    posteriors = SOURCES["awgn_degraded"].draw(500, 0).teacher_posteriors.astype(np.float32)
    assert PosteriorCells.fit(posteriors, 9, seed=0).centres.dtype == np.float64


NAN = np.array([[1.0, np.nan], [0.0, 1.0], [1.0, np.inf]])
ROWS = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FeatureClusters.fit(NAN, 2, seed=0), DataError, "fit: .* in 2 of 3 rows. Look"),
        (lambda: FeatureClusters.fit(ROWS[0], 2, seed=0), ShapeError, r"fit: .* shape \(2,\)"),
        (lambda: FeatureClusters.fit(ROWS[:0], 2, seed=0), DataError, r"fit: .*shape \(0, 2\)"),
        (lambda: FeatureClusters.fit(ROWS, 0, seed=0), ArgumentError, "fit: .*`n_symbols` >= 1"),
        (
            lambda: FeatureClusters.fit(ROWS, 2, components=0, seed=0),
            ArgumentError,
            "fit: .*`components` >= 1; got 0",
        ),
        (
            lambda: FeatureClusters.fit(ROWS, 2, seed=0).symbols(np.ones((3, 5))),
            ShapeError,
            "symbols: .*width 2; got 5",
        ),
        (
            lambda: FeatureClusters.fit(ROWS, 2, seed=0).symbols(NAN),
            DataError,
            "symbols: .* in 2 of 3 rows",
        ),
    ],
)
def test_bad_features(call, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^FeatureClusters.{message}"):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PosteriorCells.fit(NAN, 2, seed=0), DataError, "fit: .* in 2 of 3 rows. Look"),
        (
            lambda: PosteriorCells.fit(2 * ROWS, 2, seed=0),
            DataError,
            "fit: .* off by up to 1. Pass",
        ),
        (
            lambda: PosteriorCells.fit(ROWS - [[1.0, -1.0]], 2, seed=0),
            DataError,
            "fit: .* minimum of -0.75",
        ),
        (lambda: PosteriorCells.fit(ROWS, 0, seed=0), ArgumentError, "fit: .*`n_symbols` >= 1"),
        (
            lambda: PosteriorCells.fit(ROWS, 2, seed=0).symbols(np.eye(3)),
            ShapeError,
            "symbols: .*width 2; got 3",
        ),
        (
            lambda: PosteriorCells.fit(ROWS, 2, seed=0).symbols(-ROWS),
            DataError,
            "symbols: .* minimum of -1",
        ),
    ],
)
def test_bad_posteriors(call, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^PosteriorCells.{message}"):
        call()


@pytest.mark.parametrize(
    ("targets", "symbols", "posteriors", "error", "message"),
    [
        ([0, 1], [0, 1, 1], ROWS, ShapeError, r"targets \(2,\), symbols \(3,\)"),
        ([0, 1, 1], [0, 1], ROWS, ShapeError, r"targets \(3,\), symbols \(2,\)"),
        ([0, 2, 0], [0, 1, 1], ROWS, DataError, r"targets in \[0, 1\]; got 0 to 2"),
        ([0, -1, 0], [0, 1, 1], ROWS, DataError, r"targets in \[0, 1\]; got -1 to 0"),
        ([0, 1, 1], [0, 1, 1], ROWS, DataError, "> 0 at the targets; got 0 in 1 rows"),
        ([0, 1, 1], [0, 1, 1], 3 * ROWS, DataError, "off by up to 2"),
    ],
)
def test_bad_rows_for_kept_information(
    targets, symbols, posteriors, error, message, without_shape_hook
):
    with pytest.raises(error, match=f"^kept_information: expected .*{message}"):
        kept_information(np.array(targets), np.array(symbols), posteriors)
