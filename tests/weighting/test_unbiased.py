"""Unbiased distillation, SVRG and what is predicted of them, by enumeration of all batches."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from limbeck.checks import ArgumentError, ShapeError
from limbeck.weighting.controlling.schedules import Linear
from limbeck.weighting.controlling.unbiased import (
    RunningControl,
    alpha_svrg_coefficient,
    alpha_svrg_schedule,
    predicted_factor,
    svrg,
    unbiased,
)


# Four points in one dimension: f_n = (a x - b)^2 / 2 has its minimum at 1, the teacher is at 6/5.
INPUTS, TARGETS = (1, 1, 2, 2), (2, 0, 3, 1)
TASK, DIFFERENCE = (-1.0, 1.0, -2.0, 2.0), (-0.8, 1.2, -1.2, 2.8)
GAMMA, MU = 1 / 20, 5 / 2


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def corrected(weight, rows):
    g = sum(TASK[i] for i in rows) / len(rows)
    h = sum(DIFFERENCE[i] for i in rows) / len(rows)
    return unbiased([column(g)], [column(h)], [column(0.5)], weight)[0].item()


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("weight", [0.0, 0.5, 250 / 259, 1.0])
def test_over_all_batches_the_mean_stays_and_the_variance_has_the_predicted_factor(batch, weight):
    values = [corrected(weight, rows) for rows in itertools.product(range(4), repeat=batch)]
    assert sum(values) / len(values) == pytest.approx(0.0, abs=1e-14)
    variance = sum(value**2 for value in values) / len(values)
    factor = predicted_factor(weight, 5 / 2, 5 / 2, 259 / 100)
    assert variance == pytest.approx(factor * 5 / 2 / batch, rel=1e-12, abs=1e-15)


def test_at_the_best_weight_the_factor_is_one_minus_rho_squared():
    assert predicted_factor(250 / 259, 2.5, 2.5, 2.59) == pytest.approx(9 / 259, rel=1e-12)
    assert predicted_factor(0.0, 2.5, 2.5, 2.59) == 1.0
    assert predicted_factor(1.0, 2.5, 2.5, 2.59) == pytest.approx(0.036, rel=1e-12)
    found = predicted_factor(torch.tensor(0.5), torch.tensor(2.5), 2.5, 2.59)
    assert found.item() == pytest.approx(0.259)
    around = [predicted_factor(250 / 259 + move, 2.5, 2.5, 2.59) for move in (-1e-3, 0.0, 1e-3)]
    assert around[1] == min(around)
    assert (around[0] + around[2]) / 2 > around[1] + 1e-7


def plateau(weight: float) -> tuple[float, float]:
    """Iterate the first two moments of x over all samples, one a step, until they stand."""
    updates = []
    for a, b, h in zip(INPUTS, TARGETS, DIFFERENCE, strict=True):
        # The gradient is linear in x: two calls give all of it.
        at = [
            unbiased([column(a * (a * x - b))], [column(h)], [column(0.5)], weight)[0].item()
            for x in (0.0, 1.0)
        ]
        updates.append((-GAMMA * at[0], 1 - GAMMA * (at[1] - at[0])))
    mean, second = 1.0, 1.0
    for _ in range(5000):
        second = sum(c * c + 2 * c * s * mean + s * s * second for c, s in updates) / 4
        mean = sum(c + s * mean for c, s in updates) / 4
    return mean, second - 2 * mean + 1


def test_the_plateau_of_unbiased_distillation_is_the_exact_one_and_below_its_bound():
    for weight, bound in ((0.0, 1 / 10), (250 / 259, 9 / 2590), (1.0, 9 / 2500)):
        mean, error = plateau(weight)
        factor = predicted_factor(weight, 2.5, 2.5, 2.59)
        assert mean == pytest.approx(1.0, abs=1e-12)
        assert bound == pytest.approx(2 * GAMMA / MU * 2.5 * factor)
        assert error <= bound
        # s = s (1 - 2 gamma mu + gamma^2 E a^4) + gamma^2 variance, plus the product of the two
        # noises, a^2 (x - x*) and the corrected gradient, which the mean at x* makes vanish.
        exact = GAMMA * 2.5 * factor / (2 * MU - GAMMA * 17 / 2)
        assert error == pytest.approx(exact, rel=1e-10)
    assert plateau(0.0)[1] == pytest.approx(5 / 183, rel=1e-10)


def gradients_of(x, rows):
    return sum(INPUTS[i] * (INPUTS[i] * x - TARGETS[i]) for i in rows) / len(rows)


def test_a_fresh_snapshot_gives_the_full_gradient_for_every_batch():
    x = 2.25
    full = gradients_of(x, range(4))
    for batch in (1, 2, 3):
        for rows in itertools.product(range(4), repeat=batch):
            own = column(gradients_of(x, rows))
            (found,) = svrg([own], [own.clone()], [column(full)])
            assert found.item() == pytest.approx(full, abs=1e-14)
    (half,) = svrg(
        [column(gradients_of(x, [0]))], [column(gradients_of(2.0, [0]))], [column(full)], 0.5
    )
    assert half.item() == pytest.approx(0.25 - 0.5 * (0.0 - full))


def test_an_old_snapshot_leaves_the_mean_alone():
    values = [
        svrg(
            [column(gradients_of(2.0, [i]))],
            [column(gradients_of(3.0, [i]))],
            [column(gradients_of(3.0, range(4)))],
        )[0].item()
        for i in range(4)
    ]
    assert sum(values) / 4 == pytest.approx(gradients_of(2.0, range(4)))
    assert max(values) > min(values)


def test_several_parameters_and_a_coefficient_for_each():
    g = [column(1.0, 2.0), column(3.0)]
    h = [column(2.0, 2.0), column(5.0)]
    mean = [column(1.0, 0.0), column(1.0)]
    found = unbiased(g, h, mean, [column(0.5, 0.25), torch.tensor(1.0)])
    assert [t.tolist() for t in found] == [[0.5, 1.5], [-1.0]]
    found = unbiased(g, h, mean, torch.tensor(0.5))
    assert [t.tolist() for t in found] == [[0.5, 1.0], [1.0]]


def test_half_precision_is_corrected_in_float32():
    g, h, mean = (torch.tensor([x], dtype=torch.bfloat16) for x in (1.0, 256.0, 255.0))
    (found,) = unbiased([g], [h], [mean], 1 / 3)
    assert found.dtype == torch.bfloat16
    assert found.item() == pytest.approx(2 / 3, rel=4e-3)


def coefficient_by_loops(x, y):
    n = len(x)
    xy = sum(a * b for a, b in zip(x, y, strict=True)) / n
    yy = sum(b * b for b in y) / n
    value = (xy - sum(x) * sum(y) / n**2) / (yy - (sum(y) / n) ** 2 + Fraction(1, 10**24))
    return min(max(value, -2), 2)


def test_the_coefficient_is_covariance_over_variance_of_each_component():
    x = [[1, 5], [2, 4], [4, -9], [3, 30]]
    y = [[2, 1], [2, 2], [5, 3], [1, 0]]
    (found,) = alpha_svrg_coefficient([column(*x).reshape(4, 2)], [column(*y).reshape(4, 2)])
    columns = zip(zip(*x, strict=True), zip(*y, strict=True), strict=True)
    expected = [
        float(coefficient_by_loops([Fraction(v) for v in a], [Fraction(v) for v in b]))
        for a, b in columns
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[1] == -2.0
    (other,) = alpha_svrg_coefficient([-column(*x).reshape(4, 2)], [column(*y).reshape(4, 2)])
    assert other.tolist() == pytest.approx([-expected[0], 2.0])


def test_the_coefficient_of_the_first_step_and_of_what_does_not_vary():
    x, y = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    (first,) = alpha_svrg_coefficient([x], [y], first=True)
    assert first.equal(torch.ones(3, 2))
    (still,) = alpha_svrg_coefficient([x], [torch.full((5, 3, 2), 0.1)])
    assert still.abs().max().item() < 1e-4
    (same,) = alpha_svrg_coefficient([x], [x])
    torch.testing.assert_close(same, torch.ones(3, 2))


def test_a_large_mean_does_not_spoil_the_coefficient():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(101, 1, generator=generator) + 1000
    x = 0.5 * y + 1e5
    (found,) = alpha_svrg_coefficient([x], [y])
    assert found.item() == pytest.approx(0.5, abs=2e-3)


def test_the_coefficient_is_the_best_for_the_variance():
    x, y = torch.randn(50, 1, dtype=torch.float64), torch.randn(50, 1, dtype=torch.float64)
    x = x + 0.8 * y
    (best,) = alpha_svrg_coefficient([x], [y])
    found = [(x - (best + move) * (y - y.mean(0))).var().item() for move in (-0.05, 0.0, 0.05)]
    assert found[1] == min(found)


def test_the_schedule_falls_to_zero_at_the_last_snapshot():
    found = [alpha_svrg_schedule(k, 11, start=0.5) for k in range(11)]
    line = Linear(0.5, 0.0, steps=10)
    assert found == pytest.approx([line(k, 0.1) for k in range(11)])
    assert alpha_svrg_schedule(0, 1) == 0.75
    for snapshot in (-1, 3):
        with pytest.raises(ArgumentError, match=r"expected `snapshot` in \[0, 3\)"):
            alpha_svrg_schedule(snapshot, 3)
    with pytest.raises(ArgumentError, match="expected `start` > 0"):
        alpha_svrg_schedule(0, 3, start=0.0)
    with pytest.raises(ArgumentError, match="expected `snapshots` > 0"):
        alpha_svrg_schedule(0, 0)


def test_the_running_control_uses_the_average_of_the_batches_before():
    generator = torch.Generator().manual_seed(0)
    g, h = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    control, decay = RunningControl(0.8), 0.8
    assert control.mean_difference == []
    for t in range(12):
        (found,) = control([g[t]], [h[t]], 0.6)
        weights = [decay ** (t - 1 - i) for i in range(t)]
        mean = sum(w * h[i] for i, w in enumerate(weights)) / sum(weights) if t else h[t]
        torch.testing.assert_close(found, g[t] - 0.6 * (h[t] - mean), rtol=1e-12, atol=1e-14)


def test_the_running_control_leaves_out_what_is_not_finite():
    control = RunningControl(0.5)
    one, bad = torch.tensor([1.0]), torch.tensor([math.inf])
    (first,) = control([one], [bad], 0.5)
    assert first.item() == 1.0
    (second,) = control([one], [torch.tensor([5.0])], 0.5)
    assert second.item() == 1.0
    (third,) = control([one], [torch.tensor([3.0])], 0.5)
    assert third.item() == 2.0
    control([one], [bad], 0.5)
    assert control.mean_difference[0].item() == pytest.approx((0.5 * 5 + 3) / 1.5)


def test_the_running_control_goes_on_bit_for_bit():
    h = torch.randn(20, 3)
    one, two = RunningControl(0.9), RunningControl(0.9)
    for row in h[:9]:
        one([row], [row], 0.5)
    two.load_state_dict(one.state_dict())
    for row in h[9:]:
        assert one([row], [row], 0.5)[0].equal(two([row], [row], 0.5)[0])


def test_over_many_batches_the_running_control_keeps_the_mean_and_the_factor():
    generator = torch.Generator().manual_seed(1)
    control = RunningControl(0.999)
    task, difference = column(*TASK), column(*DIFFERENCE)
    rows = torch.randint(4, (6000,), generator=generator)
    found = torch.cat(
        [control([task[i : i + 1]], [difference[i : i + 1]], 250 / 259)[0] for i in rows]
    )
    late = found[1000:]
    assert late.mean().item() == pytest.approx(0.0, abs=0.12)  # the noise of a window of 1000
    assert late.var().item() == pytest.approx(9 / 259 * 2.5, rel=0.1)


def test_lists_that_do_not_fit():
    one, two = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ShapeError, match=r"unbiased: .* \[\(2,\)\] and \[\(3,\)\]"):
        unbiased([one], [two], [one], 0.5)
    with pytest.raises(ShapeError, match="one at least"):
        svrg([], [], [])
    with pytest.raises(ShapeError, match="one weight or 1"):
        unbiased([one], [one], [one], [one, one])
    with pytest.raises(ShapeError, match="RunningControl"):
        RunningControl()([one], [two], 0.5)
    with pytest.raises(ShapeError, match="alpha_svrg_coefficient"):
        alpha_svrg_coefficient([one], [one, one])
    with pytest.raises(ArgumentError, match="expected `tr_gg` > 0"):
        predicted_factor(0.5, 0.0, 1.0, 1.0)
