"""Grids against torch's own rounding, plain loops and the formulas of the papers."""

import math

import numpy as np
import pytest
import torch

from limbeck.checks import ArgumentError
from limbeck.students.grids import (
    GRIDS,
    ActivationGrid,
    integer_weight,
    one_bit_weight,
    start_step,
    ternary_weight,
    weight_levels,
)
from limbeck.students.quantised_layers import FakeQuantisedConv2d


LEVELS = {8: 256, 4: 16, 2: 4, "ternary": 3, 1: 2}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_against_torch(bits):
    weight = random(3, 2, 3, 3).requires_grad_()
    step = torch.tensor([0.3, 0.02, 1.7])
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    theirs = torch.fake_quantize_per_channel_affine(
        weight, step, torch.zeros(3, dtype=torch.int32), 0, low, high
    )
    ours = integer_weight(weight, step, bits=bits)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    factors = random(*weight.shape, seed=1)
    (found,) = torch.autograd.grad((ours * factors).sum(), weight)
    scaled = weight.detach() / step[:, None, None, None]
    outside = (scaled < low) | (scaled > high)
    assert torch.equal(found, factors.masked_fill(outside, 0.0))
    assert outside.any() == (bits < 8)


def test_gradient_of_the_step_by_plain_loops():
    weight, factors = random(2, 5, dtype=torch.float64), random(2, 5, seed=1, dtype=torch.float64)
    step = torch.tensor([0.4, -0.9], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad((integer_weight(weight, step, bits=2) * factors).sum(), step)
    expected, seen = [0.0, 0.0], set()
    for c, i in np.ndindex(2, 5):
        size, sign = abs(step[c].item()), 1 if step[c] > 0 else -1
        level = weight[c, i].item() / size
        inside = -2 <= level <= 1
        seen.add(inside)
        slope = round(level) - level if inside else min(max(level, -2), 1)
        expected[c] += slope * factors[c, i].item() * sign / math.sqrt(5 * 1)
    assert seen == {True, False}
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_ternary_and_one_bit_by_plain_loops():
    weight = random(4, 3, 2, 2) + 0.2
    weight[3] = 0.0
    ternary, signs = ternary_weight(weight).flatten(1), one_bit_weight(weight).flatten(1)
    for row, three, two in zip(weight.flatten(1).tolist(), ternary, signs, strict=True):
        mean = sum(abs(w) for w in row) / len(row)
        above = [abs(w) for w in row if abs(w) > 0.7 * mean]
        scale = sum(above) / len(above) if above else 0.0
        assert 0 <= len(above) < len(row)
        assert three.tolist() == pytest.approx(
            [math.copysign(scale, w) if abs(w) > 0.7 * mean else 0 for w in row]
        )
        assert two.tolist() == pytest.approx([mean if w >= 0 else -mean for w in row])


@pytest.mark.parametrize("function", [ternary_weight, one_bit_weight])
def test_their_gradient_passes_unchanged(function):
    weight, factors = random(2, 6).requires_grad_(), random(2, 6, seed=1)
    assert torch.equal(torch.autograd.grad((function(weight) * factors).sum(), weight)[0], factors)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_start_step_by_plain_search(bits):
    weight = random(2, 40) * torch.tensor([[1.0], [7.0]])
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for row, found in zip(weight.tolist(), start_step(weight, bits=bits).tolist(), strict=True):
        largest = max(abs(w) for w in row)

        def error(step, row=row):
            return sum((min(max(round(w / step), low), high) * step - w) ** 2 for w in row)

        steps = [largest / high * k / 100 for k in range(1, 101)]
        assert error(found) == pytest.approx(min(map(error, steps)), rel=1e-4)
        assert found in [pytest.approx(step, rel=1e-6) for step in steps]


def test_start_step_of_zeros():
    weight = random(3, 8)
    weight[1] = 0
    step = start_step(weight, bits=4)
    assert step[1] == max(step[0], step[2])
    assert step[1] != 1
    assert start_step(torch.zeros(2, 8), bits=4).tolist() == [1, 1]


@pytest.mark.parametrize("bits", GRIDS)
def test_levels_times_scale_is_the_weight(bits):
    layer = FakeQuantisedConv2d(3, 4, 3, bits=bits)
    levels, scale = layer.levels()
    assert levels.dtype == torch.int8
    assert torch.equal(levels * scale[:, None, None, None], layer.effective_weight())
    for row in layer.effective_weight():
        assert 1 < len(row.unique()) <= LEVELS[bits]
    assert (layer.step is None) == (bits in ("ternary", 1))
    learnt = {name for name, _ in layer.named_parameters()}
    assert learnt == {"weight", "bias"} | ({"step"} if layer.step is not None else set())


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_activations_against_torch(shift):
    grid = ActivationGrid()
    x = random(50).relu() - shift if shift == 0 else random(50) - shift
    x = x.requires_grad_()
    found = grid(x)
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    assert (grid.low.item(), grid.high.item()) == pytest.approx((low, high))
    step = (high - low) / 255
    wide = (2 * x.detach()).requires_grad_()  # half of it lies outside
    ours, theirs = (
        grid.eval()(wide),
        torch.fake_quantize_per_tensor_affine(wide, step, round(-low / step), 0, 255),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    a, b = (torch.autograd.grad(y.sum(), wide)[0] for y in (ours, theirs))
    assert torch.equal(a, b)
    assert 0 < a.mean() < 1
    assert (found - x).abs().max() <= 0.51 * step
    assert grid(torch.zeros(1)).item() == 0


def test_running_range():
    grid = ActivationGrid(momentum=0.25)
    x = torch.tensor([-1.0, 3.0])
    assert torch.equal(grid.eval()(x), x)  # nothing seen: as it is
    grid.train()(x)
    grid(torch.tensor([-3.0, 7.0]))
    assert (grid.low.item(), grid.high.item()) == (-1.5, 4.0)
    grid.eval()(torch.tensor([-100.0, 100.0]))
    assert (grid.low.item(), grid.high.item()) == (-1.5, 4.0)
    assert set(grid.state_dict()) == {"low", "high"}
    above = ActivationGrid()
    above(torch.tensor([2.0, 3.0]))  # zero belongs to the range
    assert (above.low.item(), above.high.item()) == (0, 3)
    below = ActivationGrid()
    below(torch.tensor([-2.0, -3.0]))
    assert (below.low.item(), below.high.item()) == (-3, 0)
    assert below.eval()(torch.tensor([1.0])).item() == 0
    assert torch.equal(ActivationGrid()(torch.zeros(2)), torch.zeros(2))
    assert ActivationGrid()(torch.ones(0)).shape == (0,)


def test_zero_is_a_level_and_so_is_the_end_of_the_range():
    grid = ActivationGrid()
    grid(torch.tensor([-1.0, 1.52]))  # zero lies 101.19 steps above the least value
    x = torch.tensor([-1.0, 0.0], requires_grad=True)
    found = grid.eval()(x)
    assert found.tolist() == pytest.approx([-101 * 2.52 / 255, 0])
    assert torch.autograd.grad(found.sum(), x)[0].tolist() == [0, 1]


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ArgumentError, match=r"`step` for 8, 4 and 2 bits only; got bits=4 and no"):
        weight_levels(torch.ones(1, 2), None, bits=4)
    with pytest.raises(ArgumentError, match=r"bits=1 and a step"):
        weight_levels(torch.ones(1, 2), torch.ones(1), bits=1)
    for function in (start_step, lambda w, bits: integer_weight(w, torch.ones(1), bits=bits)):
        with pytest.raises(ArgumentError, match=r"expected `bits` in \[2.0, 8.0\]; got 1"):
            function(torch.ones(1, 2), bits=1)
    with pytest.raises(ArgumentError, match=r"expected `momentum` in \(0, 1\]; got 0"):
        ActivationGrid(momentum=0.0)
