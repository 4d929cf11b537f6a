"""Every case passes in a short run, and fails when the theory that it tests is wrong."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from limbeck.checks import ArgumentError, DataError
from limbeck.lab_result import LabSettings
from limbeck.weighting.lab import (
    cases,
    compressed,
    deep_linear,
    identities,
    images,
    linear_case,
    logistic,
    mlp,
    mnist,
    mnist_checks,
    relu_network,
)
from limbeck.weighting.lab.chains import Chains, mixed, sigmoid


QUICK = LabSettings(quick=True)
SMALL = {
    "rows": 400,
    "steps": 3000,
    "dropped": 1000,
    "every": 20,
    "snapshots": 200,
    "svrg_snapshots": 200,
    "hidden": 10,
    "epochs": 2,
}


def failures(result):
    return {check.name for check in result.failures}


def wrong(monkeypatch, module, name, change):
    """Let a law of a case's module answer something else."""
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: change(right(*a, **k)))


@pytest.fixture(scope="module")
def measured():
    """Simulate once; what is predicted is computed anew in each test."""
    found = {}

    def once(module, settings=QUICK, *rest):
        if module not in found:
            found[module] = module.measure(settings, *rest)
        return found[module]

    return once


@pytest.fixture
def stored(monkeypatch, measured):
    """Put what was simulated once in the place of a module's simulation."""

    def put(module):
        found = measured(module)
        monkeypatch.setattr(module, "measure", lambda *_: found)

    return put


def digits_settings():
    pixels, targets = load_digits(return_X_y=True)
    return LabSettings(quick=True, images=((pixels / 16).astype(np.float32), targets), sizes=SMALL)


def test_identities_pass():
    found = cases.run_case("identities", LabSettings(seed=1))
    assert found.passed, found.failures
    assert found.settings["seed"] == 1
    assert found.curves[0].others["Adam"][-1] > 0.01
    assert len(found.curves[0].grid) == 200


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (
            "distillation_gradient",
            lambda g: [1.0001 * part for part in g],
            {
                "linear regression: g(x) - lambda g(theta)",
                "softmax regression: g(x) - lambda g(theta)",
                "deep linear: A' (G(P) - lambda G(Q)) B'",
                "network at temperature 1: g - lambda h",
                "network at temperature 4: g - lambda h",
            },
        ),
        (
            "probability_difference",
            lambda h: 1.0001 * h,
            {
                "network at temperature 1: g - lambda h",
                "network at temperature 4: g - lambda h",
                "q = p: h = g",
            },
        ),
        (
            "interpolated",
            lambda x: 1.0001 * x,
            {
                "SGD interpolates, 200 steps",
                "momentum interpolates, 200 steps",
                "Nesterov interpolates, 200 steps",
                "any start, weight decay: three runs add up",
            },
        ),
    ],
)
def test_wrong_identities_fail(monkeypatch, name, change, told):
    wrong(monkeypatch, identities, name, change)
    assert failures(identities.identities(QUICK)) == told


def test_an_adam_that_interpolates_fails(monkeypatch):
    monkeypatch.setitem(identities.RULES, "Adam", identities.RULES["SGD"])
    assert failures(identities.identities(QUICK)) == {"Adam does not interpolate"}


def test_h_that_is_not_zero_for_labels_fails(monkeypatch):
    wrong(monkeypatch, identities, "probability_difference", lambda h: h + 1e-6)
    assert "q = y: h = 0" in failures(identities.identities(QUICK))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (linear_case, "least_squares"),
        (compressed, "compressed"),
        (deep_linear, "deep_linear"),
        (logistic, "logistic"),
    ],
)
def test_short_runs_pass(stored, module, name):
    stored(module)
    found = cases.run_case(name, QUICK)
    assert found.passed, found.failures
    assert found.case == name
    assert found.settings["seed"] == 0
    for curve in found.curves:
        assert len(curve.grid) == len(curve.measured) == len(curve.predicted or curve.grid)
        assert all(len(other) == len(curve.grid) for other in curve.others.values())


@pytest.mark.parametrize(
    ("module", "law", "change", "told"),
    [
        (linear_case, "exact_error", lambda e: 1.1 * e, "four points, B = 1, all batches"),
        (linear_case, "exact_error", lambda e: 1.1 * e, "teacher at 1 S: worst at"),
        (linear_case, "exact_error", lambda e: e + 1e-3, "teacher at 0 S: worst at"),
        (linear_case, "noise_bound", lambda e: 0.05 * e, "teacher at 1 S: largest error / bound"),
        (compressed, "compressed_bound", lambda b: 0.01 * b, "largest error / bound"),
        (deep_linear, "shrinkage_weight", lambda w: 0.95 * w, "teacher at 1 A: share left"),
        (logistic, "shrinkage_weight", lambda w: 0.9 * w, "gamma = 0.2, B = 4: best weight"),
        (logistic, "shrinkage_weight", lambda w: w + 0.1, "gamma = 0.4, B = 1: best weight"),
        (logistic, "predicted_factor", lambda f: 1.2 * f, "unbiased, teacher at 10 A"),
        (logistic, "predicted_factor", lambda f: 0.8 * f, "unbiased, teacher at 0.1 A"),
    ],
)
def test_wrong_laws_fail(monkeypatch, stored, module, law, change, told):
    stored(module)
    wrong(monkeypatch, module, law, change)
    case = getattr(
        module, "least_squares" if module is linear_case else module.__name__.split(".")[-1]
    )
    assert any(told in name for name in failures(case(QUICK)))


def test_a_wrong_floor_and_a_wrong_law_of_compression_fail(monkeypatch, stored):
    stored(compressed)
    right = compressed.compressed_error
    for change, told in (
        ({"floor": 1.1}, "the floor is left"),
        ({"noise": 1.2}, "exact law"),
        ({"bias": 30.0}, "exact law"),
    ):

        def bent(*a, change=change, **k):
            found = right(*a, **k)
            scaled = {name: by * getattr(found, name) for name, by in change.items()}
            return found._replace(**scaled)

        monkeypatch.setattr(compressed, "compressed_error", bent)
        assert any(told in name for name in failures(compressed.compressed(QUICK))), change


def test_compressed_error_by_enumeration():
    """One row at a time and all signs of the compressor: the second moment, step by step."""
    problem = linear_case.SMALL[1].problem
    teacher, rate, omega, weight = np.array([1.1, -0.6]), 0.1, 0.01, 0.4
    labels = mixed(problem.targets, problem.inputs @ teacher, np.array([weight]))[:, 0]
    mean, second = np.zeros(2), np.zeros((2, 2))
    for _ in range(2000):
        means, seconds = [], []
        for a, b in zip(problem.inputs, labels, strict=True):
            keep, push = np.eye(2) - rate * np.outer(a, a), rate * b * a
            z = keep @ mean + push
            zz = keep @ second @ keep.T + np.outer(keep @ mean, push)
            zz = zz + np.outer(push, keep @ mean) + np.outer(push, push)
            means.append(z)
            seconds.append(zz + omega * np.diag(np.diag(zz)))
        mean, second = np.mean(means, 0), np.mean(seconds, 0)
    x = problem.optimum
    wanted = np.trace(second) - 2 * mean @ x + x @ x
    found = compressed.compressed_error(problem, weight, teacher, learning_rate=rate, omega=omega)
    assert found.total == pytest.approx(wanted, rel=1e-9)
    plain = compressed.compressed_error(problem, 1.0, x, learning_rate=rate, omega=omega)
    assert plain.noise == plain.bias == 0.0
    assert plain.total == plain.floor == found.floor > 0


def test_chains_against_a_plain_loop():
    rng = np.random.default_rng(3)
    rows, b, theta, start = (rng.normal(size=s) for s in ((5, 2), 5, 2, 2))
    weights = np.array([0.0, 0.7])
    said = sigmoid(rows @ theta)
    shift = -0.1 * weights[:, None] * theta
    targets = mixed(b, said, weights)
    run = Chains(rows, targets, 0.3, 3, start, sigmoid, shift, 0.1, np.array([0.0, 0.04]))
    settings = {"chains": 2, "steps": 5, "dropped": 2, "every": 2, "seed": (4, 2)}
    found = run.average(lambda x: x, **settings)
    rng = np.random.default_rng((4, 2))
    drawn, seen = rng.integers(5, size=(256, 2, 3)), []
    x = np.stack([np.stack([start, start])] * 2)
    for step in range(5):
        moved = np.zeros_like(x)
        for chain in range(2):
            for series, weight in enumerate(weights):
                at = x[chain, series]
                slope = 0.1 * at - weight * 0.1 * theta
                for i in drawn[step, chain]:
                    p = 1 / (1 + np.exp(-rows[i] @ at))
                    slope += ((p - b[i]) - weight * (said[i] - b[i])) * rows[i] / 3
                moved[chain, series] = at - 0.3 * slope
        signs = rng.integers(2, size=(2, 1, 2)) * 2.0 - 1
        moved[:, 1:] *= 1 + 0.2 * signs
        x = moved
        if step in (2, 4):
            seen.append(x)
    np.testing.assert_allclose(found, np.mean(seen, 0), rtol=1e-12)


def test_lowest_of_a_parabola():
    weights = np.linspace(0, 1, 21)
    assert logistic.lowest(weights, 3 * (weights - 0.37) ** 2 + 1) == pytest.approx(0.37)


def test_logistic_gradients_by_differences():
    problem = logistic.example_logistic()
    x, step = problem.optimum + 0.3, 1e-6
    slopes = [
        (problem.excess(x + step * e) - problem.excess(x - step * e)) / (2 * step)
        for e in np.eye(6)
    ]
    np.testing.assert_allclose(problem.gradients(x).mean(0), slopes, rtol=1e-6)
    assert np.abs(problem.gradients(problem.optimum).mean(0)).max() < 1e-12
    assert problem.excess(problem.teacher(1e-6)) == pytest.approx(1e-6, rel=1e-2)


def test_the_seed_decides():
    run = Chains(np.eye(2), np.ones((2, 1)), 0.1, 1, np.zeros(2))
    one, again, other = (
        run.average(lambda x: x, chains=2, steps=9, dropped=0, every=1, seed=(seed,))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_near_best_counts_what_noise_cannot_tell_apart():
    excess = np.array([[1.0, 0.5, 0.3, 0.6, 0.8, 1.0], [1.1, 0.6, 0.4, 0.5, 0.9, 1.1]])
    assert mlp.near_best("x", excess, 0.4).measured == 0.4
    assert mlp.near_best("x", excess, 0.15).passed
    assert not mlp.near_best("x", excess, 0.05).passed
    # 0.6 is worse by 0.2 +- 0.1: two standard errors do not tell it apart.
    assert mlp.near_best("x", excess, 0.85).passed
    assert not mlp.near_best("x", excess, 0.95).passed


@pytest.mark.slow
def test_a_network_lands_on_the_recommended_weight(monkeypatch, stored):
    stored(mlp)
    found = cases.run_case("mlp", QUICK)
    assert found.passed, found.failures
    assert len(found.checks) == 2
    for check in found.checks:
        assert 0 < check.predicted < 1
    law = mlp.recommend_weight
    monkeypatch.setattr(
        mlp, "recommend_weight", lambda m, learning_rate, batch_size: law(
            m, learning_rate=100 * learning_rate, batch_size=batch_size
        )
    )  # fmt: skip
    assert failures(mlp.mlp(QUICK))


@pytest.fixture(scope="module")
def digits():
    settings = digits_settings()
    return settings, mnist.measure(settings, mnist._sizes(settings))


@pytest.fixture
def on_digits(monkeypatch, digits):
    settings, found = digits
    monkeypatch.setattr(mnist, "measure", lambda *_: found)
    return settings


def test_images_pass_on_digits(on_digits):
    found = cases.run_case("mnist", on_digits)
    assert found.passed, found.failures
    assert found.settings["rows"] == 400
    assert len(found.remarks) == 3


@pytest.mark.parametrize(
    ("law", "change", "told"),
    [
        ("shrinkage_weight", lambda w: 0.6 * w, "linear, good teacher: best weight"),
        ("shrinkage", lambda s: 1.2 * s, "linear, fair teacher: distance from the law, in A"),
        ("loss_weight", lambda w: 20 * w, "linear, poor teacher: share left by moments alone"),
        ("predicted_factor", lambda f: 1.5 * f, "unbiased, poor teacher: share"),
        ("repeated_factor", lambda f: 1.5 * f, "repeated self-distillation: share"),
    ],
)
def test_wrong_laws_of_images_fail(monkeypatch, on_digits, law, change, told):
    wrong(monkeypatch, mnist_checks, law, change)
    assert any(told in name for name in failures(mnist.mnist(on_digits)))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("svrg", 1.0, "SVRG from afar: share of the excess left"),
        ("masked", np.arange(6.0), "fixed mask: best weight"),
        (
            "network",
            {"cosines": -np.ones((2, 4)), "weights": (0.0,), "losses": [1.0]},
            "ReLU network: least mean cosine of an epoch",
        ),
    ],
)
def test_wrong_measurements_of_images_fail(monkeypatch, on_digits, digits, key, value, told):
    monkeypatch.setattr(mnist, "measure", lambda *_: {**digits[1], key: value})
    assert told in failures(mnist.mnist(on_digits))


def test_softmax_moments_by_rows():
    source = torch.Generator().manual_seed(1)
    rows = torch.randn(12, 4, generator=source)
    x, theta = (torch.randn(4, 3, generator=source).double() for _ in range(2))
    problem = images.Softmax(rows, torch.arange(12) % 3, 3, 0.1)
    mask = (torch.rand(4, 3, generator=source) > 0.5).double()
    own, other = (
        torch.stack([torch.outer(a, r) for a, r in zip(rows, problem.soft(z) - problem.labels,
                                                       strict=True)]).double()
        for z in (x, theta)
    )  # fmt: skip
    for held in (None, mask):
        g, h = (part if held is None else part * held for part in (own, other))
        g, h = g - g.mean(0), h - h.mean(0)
        wanted = [float((a * b).sum() / 12) for a, b in ((g, g), (g, h), (h, h))]
        assert problem.traces(x, theta, held) == pytest.approx(wanted, rel=1e-5)


def test_softmax_optimum_and_bias_in_loss():
    source = torch.Generator().manual_seed(2)
    problem = images.Softmax(torch.randn(60, 3, generator=source), torch.arange(60) % 3, 3, 0.1)
    best = problem.fitted()
    slope = problem.mean_gradient(best) + 0.1 * best
    assert float(slope.abs().max()) < 1e-5
    mask = torch.tensor([[1.0, 1, 1], [0, 0, 1], [1, 1, 0]]).double()
    sparse = problem.fitted(mask=mask)
    assert float((sparse * (1 - mask)).abs().max()) == 0.0
    assert float(((problem.mean_gradient(sparse) + 0.1 * sparse) * mask).abs().max()) < 1e-5
    near = best + 0.01
    least, there = (float(problem.losses(z[:, None].float())[0]) for z in (best, near))
    assert problem.bias_in_loss(best, near) == pytest.approx(there - least, rel=0.1)


def test_a_stack_is_distillation_by_autograd():
    source = torch.Generator().manual_seed(3)
    rows, targets = torch.randn(20, 3, generator=source), torch.arange(20) % 3
    problem = images.Softmax(rows, targets, 3, 0.1)
    start, theta = (torch.randn(3, 3, generator=source).double() for _ in range(2))
    mask = torch.ones(3, 3).double()
    mask[0, 1] = 0.0
    series = [
        images.Series(0.6, theta, start),
        images.Series(0.6, theta, start * mask, mask),
        images.Series(0.6, theta, start, unbiased=True),
    ]
    settings = {"learning_rate": 0.2, "batch_size": 4, "steps": 3, "dropped": 2, "every": 1}
    found = images.run_stack(problem, series, **settings, seed=5)
    order = images.generator(5, "lab images")
    drawn = [torch.randint(20, (4,), generator=order) for _ in range(3)]
    kd = torch.nn.functional.cross_entropy
    wide, soft = rows.double(), (rows.double() @ theta).softmax(1)
    hbar = wide.T @ (soft - problem.labels) / 20
    for place, one in enumerate(series):
        x = one.start.clone()
        for batch in drawn:
            y = x.clone().requires_grad_()
            said = wide[batch] @ y
            loss = 0.4 * kd(said, targets[batch]) + 0.6 * kd(said, soft[batch])
            (slope,) = torch.autograd.grad(loss + 0.05 * y.square().sum(), [y])
            slope += 0.6 * (hbar if one.unbiased else -0.1 * theta)
            x = (x - 0.2 * slope) * (1 if one.mask is None else one.mask)
        wanted = kd(wide @ x, targets) + 0.05 * x.square().sum()
        assert found[0, place] == pytest.approx(float(wanted), rel=1e-5)


def test_network_gradients_by_autograd():
    source = torch.Generator().manual_seed(4)
    rows = torch.randn(6, 5, generator=source).double()
    labels = torch.nn.functional.one_hot(torch.arange(6) % 3, 3).double()
    soft = torch.randn(6, 3, generator=source).double().softmax(1)
    layers = [p.double().requires_grad_() for p in relu_network._start(5, 4, 3, 1, seed=1)]
    said = relu_network.said_by(layers, rows)[0]
    kd = torch.nn.functional.cross_entropy
    own = torch.autograd.grad(kd(said, labels), layers, retain_graph=True)
    dist = torch.autograd.grad(kd(said, soft), layers)
    with torch.no_grad():
        g, h = relu_network.gradients(layers, rows, labels, soft)
    for found, wanted in zip(g, own, strict=True):
        torch.testing.assert_close(found, wanted)
    for found, a, b in zip(h, own, dist, strict=True):
        torch.testing.assert_close(found, a - b)
    assert relu_network.cosine([torch.ones(2)], [torch.tensor([1.0, 0.0])]) == pytest.approx(
        0.5**0.5
    )
    assert relu_network.cosine([torch.zeros(2)], [torch.ones(2)]) == 0.0


def test_what_images_must_be():
    with pytest.raises(DataError, match="expected `images`, rows of pixels and labels; got none"):
        cases.run_case("mnist", QUICK)
    few = LabSettings(quick=True, images=(np.zeros((9, 4)), np.zeros(9, dtype=int)))
    with pytest.raises(DataError, match="expected 50 finite rows at least"):
        cases.run_case("mnist", few)
    with pytest.raises(ArgumentError, match=r"'step'\. Did you mean steps"):
        cases.run_case("mnist", LabSettings(sizes={"step": 3}))
    with pytest.raises(ArgumentError, match="Did you mean mnist"):
        cases.run_case("mnst")
