"""NST: golden value, plain loops, invariances, both ways of computing it, edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, maps
from torch.nn import functional as F

from limbeck.checks import ShapeError
from limbeck.losses import NST, nst_loss


def test_equals_the_authors():
    value = nst_loss(maps(2, 2, 4, 0.3), maps(2, 3, 4, 1.0)).item()
    assert value == pytest.approx(0.086906496697, **DIGITS)


def plain_kernel(one: list, two: list) -> float:
    """Return the mean kernel of two sets of channels."""
    total = 0.0
    for a in one:
        for b in two:
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            total += dot**2 / sum(x * x for x in a) / sum(y * y for y in b)
    return total / len(one) / len(two)


@pytest.mark.parametrize(
    ("mine", "theirs", "shape"), [(2, 3, (4, 4)), (7, 3, (2, 2)), (3, 9, (5,)), (1, 1, (3,))]
)
def test_equals_plain_loops(mine, theirs, shape):
    """Fewer and more positions than channels, so that both ways of computing are met."""
    student, teacher = drawn(4, mine, *shape), drawn(4, theirs, *shape, seed=1)
    total = 0.0
    for s, t in zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        total += plain_kernel(s, s) + plain_kernel(t, t) - 2 * plain_kernel(s, t)
    assert nst_loss(student, teacher).item() == pytest.approx(total / 4, rel=1e-11)


def test_hand_computed_value():
    """One channel against two: (0.6, 0.8) against the axes: 1 + 1/2 - 2 (0.36 + 0.64)/2."""
    student, teacher = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[5.0, 0.0]], [[0.0, -2.0]]]])
    assert nst_loss(student, teacher).item() == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("side", [2, 4])
def test_order_scale_and_sign_of_channels_do_not_matter(side):
    student, teacher = drawn(3, 5, side, side), drawn(3, 6, side, side, seed=1)
    value = nst_loss(student, teacher).item()
    factor = torch.tensor([0.5, -3.0, 1e3, 7.0, 1.0], dtype=torch.float64)[:, None, None]
    for one, two in [
        (student[:, [3, 0, 4, 1, 2]], teacher),
        (student, teacher[:, [5, 4, 3, 2, 1, 0]]),
        (student * factor, teacher),
        (student.flip(2), teacher.flip(2)),
    ]:
        assert nst_loss(one, two).item() == pytest.approx(value, rel=1e-11)
    assert nst_loss(student[:, [3, 0, 4, 1, 2]], student).item() == pytest.approx(0, abs=1e-15)
    twice = torch.cat([student, student], dim=1)  # the same distribution of channels
    assert nst_loss(twice, student).item() == pytest.approx(0, abs=1e-15)


def test_the_larger_map_is_pooled():
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 5, 2, 1.0)
    expected = nst_loss(F.avg_pool2d(student, 2), teacher).item()
    assert nst_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", [2, 4])
def test_gradients(side):
    student = maps(2, 3, side, 0.3).requires_grad_()
    teacher = maps(2, 5, side, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: nst_loss(z, teacher), student)
    value = nst_loss(student, teacher)
    found = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
@pytest.mark.parametrize("channels", [2, 30])
def test_zero_and_constant_maps_are_finite(constant, channels):
    flat, teacher = torch.full((3, channels, 4, 4), constant), drawn(3, 5, 4, 4).float()
    assert_finite(lambda z: nst_loss(z, teacher), flat)
    assert_finite(lambda z: nst_loss(z, flat), teacher)


def test_a_channel_of_zeros_counts_without_kernel():
    """Two student channels, one of them zero: (1 + 0 + 0 + 0)/4 + 1 - 2 (1 + 0)/2 = 1/4."""
    student = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]])
    assert nst_loss(student, torch.tensor([[[[2.0, 0.0]]]])).item() == pytest.approx(0.25)


def test_narrow_floats_autocast_and_no_rows():
    student, teacher = drawn(3, 2, 4, 4).bfloat16(), drawn(3, 5, 4, 4, seed=1).bfloat16()
    value = nst_loss(student, teacher)
    exact = nst_loss(student.double(), teacher.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nst_loss(student.float(), teacher.float()).item() == value.item()
    assert nst_loss(student[:0], teacher[:0]).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"nst_loss: .*student \(2, 3\).*not pooled"):
        nst_loss(drawn(2, 3), drawn(2, 3))
    with pytest.raises(ShapeError, match=r"student \(2, 3, 4\), teacher \(1, 3, 4\)"):
        nst_loss(drawn(2, 3, 4), drawn(1, 3, 4))


def test_module_is_the_sum_over_layers():
    student = {
        "layer1": maps(3, 2, 4, 0.3),
        "layer2": maps(3, 4, 2, 0.7),
        "layer3": drawn(3, 1, 2, 2),
    }
    teacher = {
        "layer1": maps(3, 5, 4, 1.0),
        "layer2": maps(3, 3, 4, 1.4),
        "layer3": drawn(3, 2, 4, 4),
    }
    expected = sum(nst_loss(student[k], teacher[k]).item() for k in student)
    loss = NST()
    assert list(loss.parameters()) == []
    assert loss.published_weights == (1.0, 50.0)
    assert loss(*args(student, teacher)).item() == pytest.approx(expected, rel=1e-12)


def test_no_kernel_is_negative_by_rounding_where_positions_are_few():
    student = drawn(16, 64, 3, 3).float()
    assert 0 <= nst_loss(student, student * 3).item() < 1e-10
    assert math.isfinite(nst_loss(student * 1e-4, student).item())
