"""Case ``controllers``: chains side by side are chains alone, and a wrong law fails."""

import jaxtyping
import numpy as np
import pytest
import torch

from limbeck.lab_result import LabSettings
from limbeck.weighting.controlling.controllers import HbarController, LossPairController
from limbeck.weighting.lab import cases, controllers


QUICK = LabSettings(quick=True)


@pytest.fixture(scope="module")
def measured():
    """What controllers that are as good as the oracle would give."""
    problem, rates = controllers.example_slopes(), (0.4, 0.1)
    floors = [0.25 * rate * problem.traces(problem.optimum)[0] / 8 for rate in rates]
    biases = [float(problem.excess(theta)) for theta in controllers._teachers(problem)]
    weights = np.array([[a / (a + d) for d in biases] for a in floors])
    excess = np.array([[a * d / (a + d) for d in biases] for a in floors])
    spread = np.ones(4) + 0.001 * np.arange(4)
    excess, weights = (np.stack([one] * 4, 1)[..., None] * spread for one in (excess, weights))
    excess[:, 0], weights[:, 0] = np.array(floors)[:, None, None], 0.0
    return {
        "excess": excess,
        "weights": weights,
        "settings": {"seed": 0, "learning_rates": list(rates)},
    }


@pytest.fixture
def stored(monkeypatch, measured):
    def put(**changed):
        monkeypatch.setattr(controllers, "measure", lambda _: measured | changed)

    put()
    return put


def failures():
    return {check.name for check in controllers.controllers(QUICK).failures}


@pytest.mark.slow
def test_a_short_run_passes():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # the hook takes most of the time
    try:
        found = cases.run_case("controllers", QUICK)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
    assert found.passed, found.failures
    assert len(found.checks) == 18
    assert found.settings["learning_rates"] == [0.4, 0.1]
    for curve in found.curves:
        assert curve.grid == (0.4, 0.1)
        assert len(curve.measured) == len(curve.predicted) == 2


def test_wrong_weights_and_plateaus_fail(stored, measured, monkeypatch):
    assert not failures()
    places = {name: controllers.SERIES.index(name) for name in ("none", "hbar", "losspair")}
    for name in ("hbar", "losspair"):
        excess = measured["excess"].copy()
        excess[1, places[name]] *= 1.5
        stored(excess=excess)
        told = failures()
        assert told
        assert all(one.startswith(name) for one in told)
        assert sum("worst plateau over the oracle's, gamma = 0.1" in one for one in told) == 3
        weights = measured["weights"].copy()
        weights[1, places[name]] -= 0.4
        stored(weights=weights)
        told = failures()
        assert len(told) == 3
        assert all("farthest mean weight, gamma = 0.1" in one for one in told)
    excess = measured["excess"].copy()
    excess[:, places["none"]] *= 0.5
    stored(excess=excess)
    assert any("largest plateau over that without a teacher" in one for one in failures())
    stored()
    right = controllers.shrinkage_weight
    monkeypatch.setattr(controllers, "shrinkage_weight", lambda a, b: 0.6 * right(a, b))
    # 0.4 of a weight of 0.12, the third teacher's for "losspair", are within 0.1.
    assert sum("farthest mean weight" in one for one in failures()) == 5


@pytest.mark.parametrize("kind", [HbarController, LossPairController])
def test_chains_side_by_side_are_chains_alone(kind):
    name = "hbar" if kind is HbarController else "losspair"
    follower = controllers._Follower(name, 0.3, every=2)
    alone = [kind(fast_decay=0.99**2, slow_decay=0.999**2) for _ in range(3)]
    source = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 4, generator=source, dtype=torch.float64)
    for step in range(6):
        x = theta + torch.randn(3, 4, generator=source, dtype=torch.float64)
        a = torch.randn(3, 8, 4, generator=source, dtype=torch.float64)
        y = (torch.rand(3, 8, generator=source) < 0.5).double()
        used = torch.rand(3, generator=source, dtype=torch.float64)
        found = follower.observe(0.1, x, theta, a, y, used)
        for at, one in enumerate(alone):
            parts, losses = [], []
            for z in (x[at], theta[at]):
                z = z.clone().requires_grad_()
                said = a[at] @ z
                each = -(y[at] * said.sigmoid().log() + (1 - y[at]) * (-said).sigmoid().log())
                ridge = 0.025 * z.square().sum()
                losses.append((each.mean() + ridge).detach())
                parts.append(
                    tuple(
                        list(torch.autograd.grad(half.mean() + ridge, [z], retain_graph=True))
                        for half in each.split(4)
                    )
                )
            setting = {"rows": 4, "learning_rate": 0.1, "batch_size": 8}
            if name == "hbar":
                one.observe(*parts, curvature=0.3, **setting)
            else:
                one.observe(parts[0], *losses, weight=used[at], **setting)
            assert found[at].item() == pytest.approx(one.weight().item(), rel=1e-9), step


def test_the_oracle_knows_noise_and_bias():
    """At the optimum by many batches: the trace over 4 B is the floor, and excess the bias."""
    problem = controllers.example_slopes()
    run = controllers._Run(problem, 2, 1, 0)
    run.phase(0.4, 1)
    g = problem.gradients(problem.optimum)
    floor = 0.4 * np.trace(np.cov(g.T, bias=True)) / 32
    for place, theta in enumerate(controllers._teachers(problem)):
        bias = problem.excess(theta)
        assert bias == pytest.approx(controllers.BIASES[place], rel=0.1)
        known = run.weight[controllers.SERIES.index("oracle"), place]
        assert known.numpy() == pytest.approx(floor / (floor + bias), rel=1e-9)
