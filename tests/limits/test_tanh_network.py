"""Networks of one hidden layer: gradients against finite differences, fits of tiny teachers."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from limbeck.checks import ArgumentError, ShapeError
from limbeck.limits.tables import tanh_network
from limbeck.limits.tables.tanh_network import NetworkLoss, TanhNetwork, fit_tanh_network


def test_rows_and_free_parameters_by_hand():
    layers = (np.array([[1.0]]), np.array([0.5]), np.array([[2.0, -1.0]]), np.array([0.0, 0.25]))
    network = TanhNetwork(layers)
    hidden = np.tanh(2.0 + 0.5)
    scores = np.exp([2 * hidden, -hidden + 0.25])
    assert network.rows(np.array([[2.0]]))[0] == pytest.approx(scores / scores.sum())
    assert network.free == 6 - 2  # one hidden unit and one bias more than the softmax sees
    # Reference 4 N: weights and biases less width + 1.
    sizes = [TanhNetwork.random(6, w, 50, np.random.default_rng(0)).free for w in (8, 16, 32)]
    assert sizes == [497, 945, 1841]


def loss_at(logits, loss, drawn, told, teacher):
    """Return the loss of one row again, by its definition."""
    logs = logits - np.log(np.exp(logits).sum())
    log_ratio = logs[drawn] - np.log(told)
    return {
        "cross_entropy": -logs[drawn],
        "naive_cross_entropy": -told * logs[drawn],
        "squared_error": 0.5 * log_ratio**2,
        "k3": np.exp(log_ratio) - 1 - log_ratio,
        "control_variate": 0.25 * np.exp(log_ratio) - logs[drawn],  # its weight is set below
        "kl_divergence": float(teacher @ (np.log(teacher) - logs)),
    }[loss]


@pytest.mark.parametrize("loss", get_args(NetworkLoss))
def test_gradients_by_the_logits_are_finite_differences(loss):
    random = np.random.default_rng(1)
    logits, teacher, drawn = random.normal(size=4), np.array([0.4, 0.3, 0.2, 0.1]), 2
    pull = tanh_network._Pull(loss)
    pull.top, pull.bottom = 0.25, 1.0  # lambda = 1/4
    logs = logits - np.log(np.exp(logits).sum())
    found = pull(logs[None], np.array([drawn]), teacher[None])[0]
    step, away = 1e-6, np.eye(4)
    slow = [
        (loss_at(logits + step * e, loss, drawn, teacher[drawn], teacher)
         - loss_at(logits - step * e, loss, drawn, teacher[drawn], teacher)) / (2 * step)
        for e in away
    ]  # fmt: skip
    assert found == pytest.approx(slow, abs=1e-7)


def test_gradients_by_the_layers_are_those_of_autograd():
    random = np.random.default_rng(4)
    layers = [random.normal(size=shape) for shape in ((3, 5), (5,), (5, 4), (4,))]
    x, by_logits = random.normal(size=(7, 3)), random.normal(size=(7, 4))
    hidden = np.tanh(x @ layers[0] + layers[1])
    found = tanh_network._by_layers(layers, x, hidden, by_logits)
    a, b, c, d = leaves = [torch.tensor(one, requires_grad=True) for one in layers]
    logits = torch.tanh(torch.tensor(x) @ a + b) @ c + d
    logits.backward(torch.tensor(by_logits))
    for slope, leaf in zip(found, leaves, strict=True):
        assert slope == pytest.approx(leaf.grad.numpy(), abs=1e-12)


def test_clips_and_the_running_weight():
    logs = np.log([[0.98, 0.02], [0.02, 0.98]])
    drawn, told = np.array([0, 0]), np.array([[1e-3, 0.999], [0.999, 1e-3]])
    k3 = tanh_network._Pull("k3")(logs, drawn, told)
    assert k3[0, 1] == pytest.approx((1 - np.exp(3)) * 0.02)  # r = 980 is cut at e^3
    squared = tanh_network._Pull("squared_error")(logs, drawn, told)
    assert squared[0, 1] == pytest.approx(-5 * 0.02)  # log 980 is cut at 5
    pull = tanh_network._Pull("control_variate")
    first = pull(logs, drawn, told)
    assert first == pytest.approx(tanh_network._Pull("cross_entropy")(logs, drawn, told))
    ratio = np.minimum(np.array([0.98 / 1e-3, 0.02 / 0.999]), np.exp(3))
    size = 1 - 2 * np.array([0.98, 0.02]) + np.array([0.9608, 0.9608])
    assert pull.top == pytest.approx(0.02 * (ratio * size).mean())
    assert pull.bottom == pytest.approx(0.02 * (ratio**2 * size).mean())
    weight = pull.top / pull.bottom
    assert pull(logs, drawn, told)[0, 1] == pytest.approx((1 - weight * ratio[0]) * 0.02)


@pytest.mark.parametrize("loss", ["squared_error", "k3", "kl_divergence"])
def test_a_student_finds_a_tiny_teacher_and_depends_on_its_generator_alone(loss):
    random = np.random.default_rng(2)
    teacher = TanhNetwork.random(2, 2, 3, random)
    x = random.normal(size=(400, 2))
    rows = teacher.rows(x)
    drawn = (random.random((400, 1)) > rows.cumsum(1)).sum(1).clip(0, 2)
    fits = [
        fit_tanh_network(
            x, drawn, rows, loss=loss, width=4, random=np.random.default_rng(3), steps=1500
        )
        for _ in range(2)
    ]
    assert all((a == b).all() for a, b in zip(fits[0].layers, fits[1].layers, strict=True))
    start = TanhNetwork.random(2, 4, 3, np.random.default_rng(3), scale=0.5)
    before, after = (np.abs(one.rows(x) - rows).sum(1).mean() / 2 for one in (start, fits[0]))
    assert after < 0.05 < before / 3, (before, after)


def test_what_is_wrong_is_said():
    x, rows = np.zeros((3, 1)), np.full((3, 2), 0.5)
    random = np.random.default_rng(0)
    with pytest.raises(ArgumentError, match="`inputs` and `width` >= 1"):
        TanhNetwork.random(1, 0, 2, random)
    with pytest.raises(ArgumentError, match="`scale`"):
        TanhNetwork.random(1, 1, 2, random, scale=0.0)
    with pytest.raises(ShapeError, match="a label and a row for each of 3"):
        fit_tanh_network(x, np.zeros(3, int), rows[:2], loss="k3", width=1, random=random)
