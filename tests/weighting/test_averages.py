"""Running averages against the sums that define them."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.weighting.controlling.averages import RunningMean, RunningMoments


def drawn(count, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def weights_of(count, decay):
    return [decay ** (count - 1 - i) for i in range(count)]


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_the_mean_and_its_count_are_those_of_the_defining_sums(decay):
    values = drawn(30, 3)
    running = RunningMean(decay)
    for count in range(1, 31):
        running.update([values[count - 1], 2 * values[count - 1, :1]])
        weights = weights_of(count, decay)
        total = sum(weights)
        expected = [
            sum(w * values[i, k].item() for i, w in enumerate(weights)) / total for k in range(3)
        ]
        assert running.mean[0].tolist() == pytest.approx(expected, abs=1e-13)
        assert running.mean[1].tolist() == pytest.approx([2 * expected[0]], abs=1e-13)
        assert running.count.item() == pytest.approx(total**2 / sum(w * w for w in weights))


def test_the_start_at_zero_is_divided_out():
    decay, plain = 0.9, 0.0
    running = RunningMean(decay)
    for step in range(1, 6):
        plain = decay * plain + (1 - decay) * step**2
        running.update([torch.tensor(float(step**2), dtype=torch.float64)])
    assert running.mean[0].item() == pytest.approx(plain / (1 - decay**5), rel=1e-14)
    closed = (1 + decay) / (1 - decay) * (1 - decay**5) / (1 + decay**5)
    assert running.count.item() == pytest.approx(closed, rel=1e-13)


def test_a_constant_stays_exactly_itself_and_the_window_fills():
    running = RunningMoments(0.99)
    for _ in range(2000):
        running.update(torch.tensor(0.1))
    assert running.mean.item() == torch.tensor(0.1).item()
    assert running.covariance.item() == 0.0
    assert running.count.item() == pytest.approx(199, rel=1e-4)


def moments_by_loops(values, decay):
    weights = weights_of(len(values), decay)
    total = sum(weights)
    width = len(values[0])
    mean = [
        sum(w * v[k] for w, v in zip(weights, values, strict=True)) / total for k in range(width)
    ]
    count = total**2 / sum(w * w for w in weights)
    return [
        [
            sum(
                w * (v[j] - mean[j]) * (v[k] - mean[k])
                for w, v in zip(weights, values, strict=True)
            )
            / total
            / (count - 1)
            for k in range(width)
        ]
        for j in range(width)
    ]


@pytest.mark.parametrize("decay", [0.5, 0.95])
def test_the_covariance_of_the_mean_is_that_of_the_defining_sums(decay):
    values = drawn(40, 2) + torch.tensor([3.0, -2.0])
    vector, scalar = RunningMoments(decay), RunningMoments(decay)
    for row in values:
        vector.update(row)
        scalar.update(row[1])
    expected = moments_by_loops(values.tolist(), decay)
    torch.testing.assert_close(vector.covariance, torch.tensor(expected, dtype=torch.float64))
    assert scalar.covariance.item() == pytest.approx(expected[1][1], rel=1e-12)
    assert scalar.mean.item() == pytest.approx(vector.mean[1].item(), rel=1e-14)


def test_the_variance_of_the_mean_is_unbiased():
    runs, decay = 4000, 0.8
    values = drawn(12, runs, seed=3)
    means, variances = [], []
    for column in values.T[:400]:
        running = RunningMoments(decay)
        for value in column:
            running.update(value)
        means.append(running.mean.item())
        variances.append(running.covariance.item())
    weights = weights_of(12, decay)
    true = sum(w * w for w in weights) / sum(weights) ** 2
    mean = sum(variances) / len(variances)
    error = torch.tensor(variances).std().item() / math.sqrt(len(variances))
    assert abs(mean - true) < 3.5 * error
    assert torch.tensor(means).var().item() == pytest.approx(true, rel=0.2)


def test_one_observation_has_no_variance():
    running = RunningMoments(0.9)
    running.update(torch.tensor([1.0, 2.0]))
    assert running.covariance.isinf().all()
    running.update(torch.tensor([1.0, 4.0]))
    # Two observations with weights 0.9 and 1: the exact count is 1.9^2 / 1.81.
    spread = 0.9 * 1.0 / 1.9**2 * 4
    expected = spread / (1.9**2 / 1.81 - 1)
    assert running.covariance[1, 1].item() == pytest.approx(expected, rel=1e-5)
    assert running.covariance[0, 0].item() == 0.0


def test_left_out_observations_leave_no_trace():
    values = drawn(20, 2)
    kept, all_of = RunningMoments(0.9), RunningMoments(0.9)
    lists = RunningMean(0.9), RunningMean(0.9)
    for step, row in enumerate(values):
        if step % 3:
            kept.update(row)
            lists[0].update([row])
        row = row if step % 3 else row * math.nan
        all_of.update(row, row.isfinite().all())
        lists[1].update([row], row.isfinite().all())
    assert all_of.mean.equal(kept.mean)
    assert all_of.covariance.equal(kept.covariance)
    assert all_of.count.equal(kept.count)
    assert lists[0].mean[0].equal(lists[1].mean[0])
    assert lists[0].count.equal(lists[1].count)
    assert all_of.count.item() > 5


def test_half_precision_is_averaged_in_float32_and_float64_stays():
    for kind, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        running = RunningMean(0.999)
        for _ in range(3):
            running.update([torch.full((2,), 1.0, dtype=kind).requires_grad_()])
        assert running.mean[0].dtype == wide
        assert not running.mean[0].requires_grad
        assert running.count.item() == pytest.approx(3, rel=1e-3)


def flat(state) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    return [tensor for part in parts for tensor in flat(part)]


@pytest.mark.parametrize("kind", [RunningMean, RunningMoments])
def test_a_state_goes_on_bit_for_bit(kind):
    values = drawn(30, 2).float()

    def take(running, row):
        running.update([row] if kind is RunningMean else row)

    one, two = kind(0.9), kind(0.9)
    assert kind(0.9).state_dict() == {}
    two.load_state_dict(one.state_dict())
    assert not two.started
    for row in values[:11]:
        take(one, row)
    state = one.state_dict()
    before = [tensor.clone() for tensor in flat(state)]
    two.load_state_dict(state)
    for row in values[11:]:
        take(one, row)
        take(two, row)
    pairs = zip(flat(one.state_dict()), flat(two.state_dict()), strict=True)
    assert all(a.equal(b) for a, b in pairs)
    assert all(a.equal(b) for a, b in zip(before, flat(state), strict=True))
    two.load_state_dict({})
    assert not two.started


def test_a_state_is_a_copy():
    running = RunningMoments(0.9)
    running.update(torch.tensor([1.0, 2.0]))
    running.update(torch.tensor([2.0, 2.0]))
    for tensor in flat(running.state_dict()):
        tensor.fill_(7.0)
    state = running.state_dict()
    running.load_state_dict(state)
    for tensor in flat(state):
        tensor.fill_(7.0)
    assert running.mean.tolist() == pytest.approx([1 + 1 / 1.9, 2.0])
    assert running.covariance[1, 1].item() == 0.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_outside_of_its_range(decay):
    with pytest.raises(ArgumentError, match=r"expected `decay` in \[0, 1\)"):
        RunningMean(decay)


def test_what_does_not_fit():
    running = RunningMean(0.9)
    assert running.count.item() == 0
    assert running.mean == []
    with pytest.raises(ShapeError, match="got none"):
        running.update([])
    running.update([torch.zeros(2)])
    with pytest.raises(ShapeError, match=r"\[\(2,\)\], as before; got \[\(3,\)\]"):
        running.update([torch.zeros(3)])
    with pytest.raises(ShapeError, match="as before"):
        running.update([torch.zeros(2), torch.zeros(2)])
    with pytest.raises(ShapeError, match=r"scalar or a vector; got \(2, 2\)"):
        RunningMoments(0.9).update(torch.zeros(2, 2))
    with pytest.raises(ArgumentError, match="expected a value first"):
        _ = RunningMoments(0.9).mean
