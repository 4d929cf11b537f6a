"""The meter of other people's loops against gradients, factors and curvatures by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.gradients import kd, mlp, rows
from helpers.meter_ranks import measured_by, run_rank
from helpers.processes import spread
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.logit_curvature import gauss_newton_of
from limbeck.weighting.controlling.meter import WeightMeter
from limbeck.weighting.controlling.optimizer_metric import decay_of, metric_of
from limbeck.weighting.theory.reshuffling import reshuffled_share


FREE = {"every": 1, "warmup": 0, "slew": None, "freeze_width": None}
X, Y = rows(9)


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(6, 3).double()


def flat(tensors):
    return torch.cat([one.detach().flatten() for one in tensors]).numpy()


def whole_matrix(model, x):
    """The mean of J' (diag p - p p') J, a backward pass for every logit of every row."""
    total = 0.0
    for row in x:
        z = model(row)
        found = [torch.autograd.grad(one, model.parameters(), retain_graph=True) for one in z]
        jacobian = np.stack([flat(one) for one in found])
        p = z.detach().softmax(0).numpy()
        total = total + jacobian.T @ (np.diag(p) - np.outer(p, p)) @ jacobian
    return total / len(x)


def observe(meter, student, teacher, step=0, x=X, y=Y, **more):
    logits = student(x)
    parts = zip(logits.chunk(2), y.chunk(2), teacher(x).detach().chunk(2), strict=True)
    halves = [(F.cross_entropy(z, t), kd(z, q)) for z, t, q in parts]
    meter.observe(step, halves, logits, **more)
    return halves


@pytest.mark.parametrize("width", [2, 5])
def test_products_are_those_of_the_whole_matrix(width):
    student = mlp(width, 1)
    logits, parameters = student(X), list(student.parameters())
    product = gauss_newton_of(F.cross_entropy(logits, Y), [logits], parameters)
    matrix, source = whole_matrix(student, X), torch.Generator().manual_seed(0)
    for _ in range(2):
        v = [torch.randn(p.shape, generator=source, dtype=p.dtype) for p in parameters]
        assert flat(product(v)) == pytest.approx(matrix @ flat(v), rel=1e-9, abs=1e-12)


def test_products_of_two_logits_add_up_and_a_linear_loss_has_none():
    student = mlp(3, 1)
    parameters = list(student.parameters())
    v = [torch.ones_like(p) for p in parameters]
    whole, parts = student(X), [student(X[:5]), student(X[5:])]
    task = (5 * F.cross_entropy(parts[0], Y[:5]) + 4 * F.cross_entropy(parts[1], Y[5:])) / 9
    one = gauss_newton_of(F.cross_entropy(whole, Y), [whole], parameters)(v)
    two = gauss_newton_of(task, parts, parameters)(v)
    assert flat(two) == pytest.approx(flat(one), rel=1e-9)
    assert not flat(gauss_newton_of(whole.sum(), [whole], parameters)(v)).any()
    with pytest.raises(ArgumentError, match="expected `logits` that the task loss was computed"):
        gauss_newton_of(F.cross_entropy(whole, Y), [student(X)], parameters)


def test_a_measurement_by_hand():
    """Halves of five and four rows, momentum, and the dense curvature along the mean of h."""
    student, teacher = small(), mlp(4, 2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.5, weight_decay=0.2)
    weight = AdaptiveWeight("hbar", **FREE)
    meter = WeightMeter(weight, optimizer, steps=50)
    observe(meter, student, teacher)
    g, h = [], []
    p, q = student(X).softmax(1).detach(), teacher(X).softmax(1).detach()
    inputs = torch.cat([X, torch.ones(9, 1)], 1)
    for side in (slice(0, 5), slice(5, 9)):
        for into, to in ((g, F.one_hot(Y, 3)), (h, None)):
            missed = (p - to if to is not None else q - F.one_hot(Y, 3))[side]
            into.append((missed.T @ inputs[side]).numpy() / len(inputs[side]))
    m = 2 / (1 / 5 + 1 / 4)
    row = weight.history()[0]
    for name, (a, b) in {"tr_gg": (g, g), "tr_gh": (g, h), "tr_hh": (h, h)}.items():
        assert row[name] == pytest.approx(m / 2 * ((a[0] - a[1]) * (b[0] - b[1])).sum(), rel=1e-9)
    assert row["hbar2"] == pytest.approx((h[0] * h[1]).sum(), rel=1e-9)
    assert row["learning_rate"] == pytest.approx(0.2)
    assert row["batch_size"] == 9
    mean = (h[0] + h[1]) / 2
    b = np.concatenate([mean[:, :6].ravel(), mean[:, 6]])
    damped = whole_matrix(student, X) + (1 / (0.2 * 50) + 0.2) * np.eye(21)
    exact = b @ b / (b @ np.linalg.solve(damped, b))
    # Six steps of conjugate gradients of 21.
    assert exact <= row["curvature"] == pytest.approx(exact, rel=0.02)
    assert f"weight {row['weight']:.3f}; step 0 measured" in str(meter)


def test_the_metric_is_that_of_adam():
    student, teacher = small(), mlp(4, 2)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    weight = AdaptiveWeight("hbar", **FREE)
    meter = WeightMeter(weight, optimizer, steps=50)
    observe(meter, student, teacher)
    assert weight.history() == []
    assert "nothing measured yet" in str(meter)
    gradients = []
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(student(X), Y).backward()
        gradients.append([p.grad.clone() for p in student.parameters()])
        optimizer.step()
    rate, factors = metric_of(optimizer, list(student.parameters()))
    for one, two, factor in zip(*gradients, factors, strict=True):
        second = (0.999 * 0.001 * one**2 + 0.001 * two**2) / (1 - 0.999**2)
        np.testing.assert_allclose(factor, 1 / (second.sqrt() + 1e-8), rtol=1e-6)
    assert rate == 0.01
    assert decay_of(optimizer) == (0.01, 0.0)
    halves = observe(meter, student, teacher)
    found = [torch.autograd.grad(one[0], student.parameters(), retain_graph=True) for one in halves]
    # The gradient that is at hand is taken into the second moment, as in the step that follows.
    mixed = [(5 * a + 4 * b) / 9 for a, b in zip(*found, strict=True)]
    factors = metric_of(optimizer, list(student.parameters()), mixed)[1]
    for one, two, now, factor in zip(*gradients, mixed, factors, strict=True):
        second = 0.999**2 * 0.001 * one**2 + 0.999 * 0.001 * two**2 + 0.001 * now**2
        second = second / (1 - 0.999**3)
        np.testing.assert_allclose(factor, 1 / (second.sqrt() + 1e-8), rtol=1e-6)
    apart = [(a - b) ** 2 * d for a, b, d in zip(*found, factors, strict=True)]
    row = weight.history()[0]
    assert row["tr_gg"] == pytest.approx(20 / 9 * sum(float(a.sum()) for a in apart), rel=1e-6)
    # Rayleigh's quotient in the metric is the largest that conjugate gradients give.
    b = flat(meter.weight.mean_difference()[0]) + flat(meter.weight.mean_difference()[1])
    d = flat(factors)
    root = np.sqrt(d) * b
    bent = np.sqrt(d) * (whole_matrix(student, X) @ (np.sqrt(d) * root))
    exact = root @ root / (root @ np.linalg.solve(_scaled(whole_matrix(student, X), d, 2.0), root))
    assert 0.99 * exact < row["curvature"] < root @ bent / (root @ root) + 2.0


def _scaled(matrix, d, damping):
    return np.sqrt(d)[:, None] * matrix * np.sqrt(d) + damping * np.eye(len(d))


def test_groups_with_rates_of_their_own():
    model = small()
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.05}]
    rate, factors = metric_of(torch.optim.SGD(groups, lr=0.2), list(model.parameters()))
    assert rate == 0.2
    assert factors[0].eq(1).all()
    assert factors[1].eq(0.25).all()
    damped = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.75, dampening=0.5)
    assert metric_of(damped, list(model.parameters())) == (pytest.approx(0.4), None)
    damped.param_groups[0]["lr"] = 0.0
    assert metric_of(damped, list(model.parameters())) == (0.0, None)


def test_amsgrad_steps_by_its_largest_second_moment():
    x = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([x], lr=0.1, amsgrad=True, betas=(0.0, 0.5))
    for gradient in (4.0, 0.0, 0.0):
        x.grad = torch.full((1,), gradient)
        optimizer.step()
    largest = 8.0  # half of 16; after two steps without gradient v itself is 2
    _, (factor,) = metric_of(optimizer, [x])
    assert factor.item() == pytest.approx(1 / math.sqrt(largest / (1 - 0.5**3)), rel=1e-6)
    _, (factor,) = metric_of(optimizer, [x], [torch.full((1,), 6.0)])
    assert factor.item() == pytest.approx(1 / math.sqrt((1.0 + 18.0) / (1 - 0.5**4)), rel=1e-6)


def test_a_parameter_without_a_gradient_so_far():
    x, y = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch.optim.AdamW([x, y], lr=0.1)
    assert metric_of(optimizer, [x, y]) == (0.0, None)
    x.grad = torch.ones(1)
    optimizer.step()
    _, factors = metric_of(optimizer, [x, y])
    assert [one.item() for one in factors] == pytest.approx([1.0, 0.0])
    _, factors = metric_of(optimizer, [x, y], [torch.ones(1), torch.full((1,), 0.25)])
    assert [one.item() for one in factors] == pytest.approx([1.0, 4.0])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam])
def test_decay_holds_the_bias_as_a_curvature_does(kind):
    """The point where steps of a tilted parabola rest, against the system that is solved for it."""
    h, bias = np.array([2.0, 0.3]), np.array([0.4, -0.6])
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = kind([x], lr=0.05, weight_decay=0.7)
    metric = np.ones(2) if kind is torch.optim.SGD else np.array([0.5, 3.0])
    coupled = kind is not torch.optim.AdamW
    place = np.zeros(2)
    for _ in range(4000):  # with the metric held, as the law takes it
        gradient = h * place - bias + (0.7 * place if coupled else 0.0)
        place = place - 0.05 * (metric * gradient + (0.0 if coupled else 0.7 * place))
    held, before = decay_of(optimizer)
    inner = metric * (h + before) + held
    turned = np.sqrt(metric) * bias
    np.testing.assert_allclose(place, np.sqrt(metric) * turned / inner, rtol=1e-9)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam])
def test_decay_is_part_of_the_curvature(kind):
    found = []
    for decay in (0.0, 5.0):
        student, teacher = small(), mlp(4, 2)
        optimizer = kind(student.parameters(), lr=0.01, weight_decay=decay)
        F.cross_entropy(student(X), Y).backward()
        kept = [p.detach().clone() for p in student.parameters()]
        for p in student.parameters():
            p.grad = p.grad - (decay if kind is torch.optim.Adam else 0.0) * p.detach()
        optimizer.step()
        with torch.no_grad():
            for p, value in zip(student.parameters(), kept, strict=True):
                p.copy_(value)
        weight = AdaptiveWeight("hbar", **FREE)
        observe(WeightMeter(weight, optimizer, steps=10**6), student, teacher)
        found.append(weight.history()[0]["curvature"])
    assert found[1] > found[0] + (4.99 if kind is torch.optim.AdamW else 1.0)


def test_losspair_takes_the_losses_of_both():
    student, teacher = small(), mlp(4, 2)
    weight = AdaptiveWeight("losspair", weight=0.25, **FREE)
    meter = WeightMeter(weight, torch.optim.SGD(student.parameters(), lr=0.1), steps=50)
    theirs = F.cross_entropy(teacher(X), Y)
    observe(meter, student, teacher, teacher_loss=theirs)
    row = weight.history()[0]
    gap = F.cross_entropy(student(X), Y) - theirs
    assert row["loss_difference"] == pytest.approx(gap.item(), rel=1e-9)
    assert row["noise_floor"] == pytest.approx(0.1 / 36 * row["tr_gg"])
    assert "noise costs" in str(meter)


def test_the_graphs_stay_alive_and_nothing_is_changed():
    student, teacher = small(), mlp(4, 2)
    before = flat(student.parameters())
    weight = AdaptiveWeight("hbar", **FREE)
    meter = WeightMeter(weight, torch.optim.SGD(student.parameters(), lr=0.1), steps=50)
    for _ in range(3):
        halves = observe(meter, student, teacher)
    assert all(p.grad is None for p in student.parameters())
    assert (flat(student.parameters()) == before).all()
    (halves[0][0] + halves[1][1]).backward()
    assert not weight.weight.requires_grad
    assert not weight.controller.ingredients()["curvature"].requires_grad


def test_the_curvature_is_looked_at_in_measurements_that_double():
    student, teacher = small(), mlp(4, 2)
    weight = AdaptiveWeight("hbar", **FREE)
    meter = WeightMeter(weight, torch.optim.SGD(student.parameters(), lr=0.1), steps=50)
    for step in range(70):
        at = torch.arange(step, step + 6) % 9
        observe(meter, student, teacher, step, X[at], Y[at])
    seen = [row["curvature"] for row in weight.history()]
    assert [at for at in range(1, 70) if seen[at] != seen[at - 1]] == [1, 2, 4, 8, 16, 32, 64]


def test_a_state_goes_on_bit_for_bit():
    student, teacher = small(), mlp(4, 2)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    one, two = (WeightMeter(AdaptiveWeight("hbar", **FREE), optimizer, steps=50) for _ in range(2))
    for step in range(3):
        observe(one, student, teacher, step, X[step:], Y[step:])
    two.load_state_dict(one.state_dict())
    for meter in (one, two):
        observe(meter, student, teacher, 3, X[:5], Y[:5])
    assert one.weight.history() == two.weight.history()
    assert len(one.weight.history()) == 4
    other = WeightMeter(AdaptiveWeight("losspair"), optimizer, steps=50)
    with pytest.raises(CheckpointError, match="state of mode losspair; got hbar"):
        other.load_state_dict(one.state_dict())


def test_bad_arguments():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hbar = AdaptiveWeight("hbar")
    cases = [
        ((AdaptiveWeight("fixed", weight=0.5), optimizer), {}, "got fixed, which measures nothing"),
        (
            (hbar, torch.optim.RMSprop(model.parameters())),
            {},
            "expected SGD, Adam or AdamW; got RMS",
        ),
        ((hbar, optimizer), {"steps": 0}, "expected `steps` > 0"),
        ((hbar, optimizer), {"parameters": []}, "parameters that require gradients; got none"),
    ]
    for given, more, message in cases:
        with pytest.raises(ArgumentError, match=message):
            WeightMeter(*given, **{"steps": 10} | more)
    meter = WeightMeter(hbar, optimizer, steps=10)
    z = model(X)
    half = (F.cross_entropy(z, Y), z.square().mean())
    for halves, more in (([half], {}), ([half] * 2, {"rows": (9, 0)}), ([half] * 3, {})):
        with pytest.raises(ArgumentError, match="expected two halves of 1 row at least; got"):
            meter.observe(0, halves, z, **more)
    pair = WeightMeter(AdaptiveWeight("losspair"), optimizer, steps=10)
    with pytest.raises(ArgumentError, match="expected `teacher_loss`"):
        pair.observe(0, [half] * 2, z)


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_two_ranks_equal_one(ranks, mode):
    alone = measured_by(mode)
    for rank in ranks:
        for mine, theirs in zip(alone, rank[mode], strict=True):
            assert set(mine) == set(theirs)
            for name, value in mine.items():
                assert theirs[name] == pytest.approx(value, rel=1e-6, abs=1e-12), name
            assert math.isfinite(mine["weight"])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    spread(run_rank, str(folder))
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_epochs_are_told_to_the_controller():
    teacher, found = mlp(5, 3), []
    for steps_per_epoch in (None, 4):
        student = small()
        weight = AdaptiveWeight("hbar", **FREE)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        meter = WeightMeter(weight, optimizer, steps=50, steps_per_epoch=steps_per_epoch)
        for step in range(6):
            observe(meter, student, teacher, step)
        found.append(weight.history()[-1])
    plain, told = found
    assert plain["noise_left"] == 1.0
    assert told["noise_left"] == pytest.approx(
        reshuffled_share(torch.tensor(0.1 * told["curvature"]).double(), 4).item(), rel=1e-6
    )
    # Weights of the epochs: steps 0 to 3, and 4 and 5; averages of nearly equal weights.
    apart = (4 / 6) ** 2 + (2 / 6) ** 2
    expected = plain["hbar2"] + apart * plain["tr_hh"] / (4 * 9)
    assert told["hbar2"] == pytest.approx(expected, rel=0.01)
