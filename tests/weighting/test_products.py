"""Moments of gradients against numbers worked out by hand: four samples of one number each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.weighting.measuring.products import MOMENTS, Products, influences
from limbeck.weighting.theory.fieller import fieller, ratio_of


G, H = np.array([-1.0, 1, -2, 2]), np.array([1.0, 3, 6, 10])
FACTOR = 8.0  # B = 2, kappa = 3


def numbers(g, h):
    """The seven numbers of units with gradients [units, parameters], by plain loops."""
    g, h = (np.asarray(one, dtype=float).reshape(len(one), -1) for one in (g, h))
    gbar, hbar = g.mean(0), h.mean(0)
    return np.array(
        [
            [a @ b, a @ a, b @ b, a @ gbar, a @ hbar, b @ gbar, b @ hbar]
            for a, b in zip(g, h, strict=True)
        ]
    )


def covariance(parts):
    return parts.T @ parts / (len(parts) * (len(parts) - 1))


def test_the_moments_of_four_samples():
    found, _ = influences(numbers(G, H))
    # gbar2: the mean over i != j of g_i g_j is (0 - 10) / 12.
    assert found == pytest.approx([10 / 3, 10 / 3, 46 / 3, -5 / 6, 127 / 6])


def test_their_errors():
    found, parts = influences(numbers(G, H))
    a, t = np.array([2, -16, -16, 20]) / 3, np.array([19, 51, 84, 100]) / 3
    assert parts[:, 0] == pytest.approx(a)
    assert parts[:, 4] == pytest.approx(2 * (t - 127 / 6))
    assert covariance(parts)[4, 4] == pytest.approx(3889 / 27)
    ratio = ratio_of(found, covariance(parts), FACTOR)
    assert ratio == pytest.approx((10 / 3, 554 / 3, 229 / 27, 2506 / 27, 507925 / 54))


@pytest.mark.parametrize(
    ("z", "expected"),
    [(0.5, (0.010600668858, 0.026712512612, True)), (1.96, (0.0, 1.0, False))],
)
def test_the_interval_of_their_weight(z, expected):
    found, parts = influences(numbers(G, H))
    assert fieller(ratio_of(found, covariance(parts), FACTOR), z) == pytest.approx(expected)


def test_groups_of_two():
    g, h = np.array([-1.5, 1.5]), np.array([3.5, 6.5])
    found, _ = influences(numbers(g, h), rows=2)
    assert found[[0, 1, 2, 4]] == pytest.approx([9, 9, 9, 91 / 4])


def test_a_squared_norm_may_be_negative():
    found, _ = influences(numbers(G, [-0.8, 1.2, -1.2, 2.8]))
    assert found[4] == pytest.approx(-46 / 75)
    assert found[0] / found[2] == pytest.approx(250 / 259)


@st.composite
def gradients(draw):
    units, width = draw(st.integers(2, 12)), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**31))
    source = np.random.default_rng(seed)
    return source.normal(size=(units, width)) * 3 + 1, source.normal(size=(units, width)) - 0.5


@given(gradients())
@settings(max_examples=40, deadline=None)
def test_against_covariance_matrices(drawn):
    g, h = drawn
    units = len(g)
    found, parts = influences(numbers(g, h))
    centred_g, centred_h = g - g.mean(0), h - h.mean(0)
    assert found[0] == pytest.approx(np.trace(centred_g.T @ centred_h) / (units - 1))
    assert found[1] == pytest.approx(np.trace(np.atleast_2d(np.cov(g.T))))
    assert found[2] == pytest.approx(np.trace(np.atleast_2d(np.cov(h.T))))
    for at, rows in ((3, g), (4, h)):
        apart = [rows[i] @ rows[j] for i in range(units) for j in range(units) if i != j]
        assert found[at] == pytest.approx(np.mean(apart))
    assert parts.sum(0)[3:] == pytest.approx(np.zeros(2), abs=1e-9)


@given(gradients(), st.randoms(use_true_random=False), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_invariants(drawn, order, scale):
    g, h = drawn
    found, _ = influences(numbers(g, h))
    shuffled = list(range(len(g)))
    order.shuffle(shuffled)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(g.shape[1],) * 2))
    assert influences(numbers(g[shuffled], h[shuffled]))[0] == pytest.approx(found)
    assert influences(numbers(g @ turn, h @ turn))[0] == pytest.approx(found)
    assert influences(numbers(scale * g, scale * h))[0] == pytest.approx(scale**2 * found)


def test_layers_add_up():
    source = np.random.default_rng(0)
    parts = [(source.normal(size=(9, 3)), source.normal(size=(9, 3))) for _ in range(2)]
    values = np.stack([numbers(*one) for one in parts])
    whole = influences(
        numbers(*(np.concatenate(side, axis=1) for side in zip(*parts, strict=True)))
    )
    products = Products(("a", "b"), values)
    assert products.total() == pytest.approx(
        numbers(*(np.concatenate(s, axis=1) for s in zip(*parts, strict=True)))
    )
    layers = products.by_layer()
    assert list(layers) == ["a", "b"]
    for at, name in enumerate(MOMENTS):
        assert sum(getattr(one, name) for one in layers.values()) == pytest.approx(whole[0][at])
