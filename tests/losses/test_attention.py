"""Attention transfer: golden value, plain loops, invariances and edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, maps
from torch.nn import functional as F

from limbeck.checks import ShapeError
from limbeck.losses import AT, attention_transfer_loss


def test_equals_the_authors():
    value = attention_transfer_loss(maps(2, 2, 4, 0.3), maps(2, 3, 4, 1.0)).item()
    assert value == pytest.approx(0.004695734151, **DIGITS)


def plain_attention(sample: list) -> list:
    """Return the attention of one sample, given as channels of flat positions."""
    energy = [
        sum(channel[p] ** 2 for channel in sample) / len(sample) for p in range(len(sample[0]))
    ]
    length = math.sqrt(sum(one * one for one in energy))
    return [one / length for one in energy]


@pytest.mark.parametrize("shape", [(2, 5), (3, 3)])
def test_equals_plain_loops(shape):
    student, teacher = drawn(4, 2, *shape), drawn(4, 6, *shape, seed=1)
    total = 0.0
    for one, two in zip(student.flatten(2).tolist(), teacher.flatten(2).tolist(), strict=True):
        pairs = zip(plain_attention(one), plain_attention(two), strict=True)
        gaps = [(a - b) ** 2 for a, b in pairs]
        total += sum(gaps) / len(gaps)
    value = attention_transfer_loss(student, teacher).item()
    assert value == pytest.approx(total / 4, rel=1e-12)


def test_hand_computed_value():
    """Energies (3, 4) and (1, 0): attention (0.6, 0.8) and (1, 0), gaps 0.16 and 0.64."""
    student = torch.tensor([[[[3**0.5, 2.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(0.4, rel=1e-6)


def test_scale_sign_and_channel_order_of_each_sample_do_not_matter():
    student, teacher = maps(4, 5, 4, 0.3), maps(4, 3, 4, 1.0)
    value = attention_transfer_loss(student, teacher).item()
    factor = torch.tensor([0.5, -3.0, 1e3, 7.0], dtype=torch.float64)[:, None, None, None]
    order = torch.tensor([3, 0, 4, 1, 2])
    for one, two in [
        (student * factor, teacher),
        (student, teacher / factor),
        (student[:, order], teacher),
        (student, teacher[:, [2, 0, 1]]),
    ]:
        assert attention_transfer_loss(one, two).item() == pytest.approx(value, rel=1e-11)


def test_largest_value_is_two_over_positions():
    student, teacher = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 3)
    student[..., 0, 0], teacher[..., 1, 2] = 5.0, -2.0
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(2 / 6)
    assert attention_transfer_loss(student, student).item() == 0.0


def test_the_larger_map_is_pooled_before_it_is_squared():
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 5, 2, 1.0)
    expected = attention_transfer_loss(F.avg_pool2d(student, 2), teacher)
    assert attention_transfer_loss(student, teacher).item() == pytest.approx(expected.item())
    squared_first = attention_transfer_loss(F.avg_pool2d(student.square(), 2).sqrt(), teacher)
    assert squared_first.item() != pytest.approx(expected.item(), rel=1e-3)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 3, 5), drawn(2, 4, 5, seed=1)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    parts = [
        attention_transfer_loss(student[:1, :, :3], teacher[:1, :, :3]),
        attention_transfer_loss(student[1:], teacher[1:]),
    ]
    value = attention_transfer_loss(student, teacher, mask=mask).item()
    assert value == pytest.approx((parts[0] + parts[1]).item() / 2, rel=1e-12)


def test_gradients():
    student, teacher = maps(2, 2, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: attention_transfer_loss(z, teacher), student)
    value = attention_transfer_loss(student, teacher)
    found = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    flat, teacher = torch.full((3, 2, 4, 4), constant), drawn(3, 5, 4, 4).float()
    assert_finite(lambda z: attention_transfer_loss(z, teacher), flat)
    assert_finite(lambda z: attention_transfer_loss(z, flat), teacher)


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(3, 2, 4, 4).bfloat16(), drawn(3, 5, 4, 4, seed=1).bfloat16()
    value = attention_transfer_loss(student, teacher)
    exact = attention_transfer_loss(student.double(), teacher.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert attention_transfer_loss(student[:0], teacher[:0]).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(
        ShapeError, match=r"attention_transfer_loss: .*student \(2, 3\).*not pooled"
    ):
        attention_transfer_loss(drawn(2, 3), drawn(2, 3))
    with pytest.raises(ShapeError, match=r"student \(2, 3, 4\), teacher \(1, 3, 4\)"):
        attention_transfer_loss(drawn(2, 3, 4), drawn(1, 3, 4))


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
    expected = sum(attention_transfer_loss(student[k], teacher[k]).item() for k in student)
    loss = AT()
    assert list(loss.parameters()) == []
    assert loss.published_weights == (1.0, 1000.0)
    assert loss(*args(student, teacher)).item() == pytest.approx(expected, rel=1e-12)
