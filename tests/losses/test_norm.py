"""NORM: against plain loops, torch and single segments; its expansion."""

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import NORM, hint_loss, n_to_one_loss


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 2, 3)])
@pytest.mark.parametrize("copies", [1, 3])
def test_equals_plain_loops(shape, copies):
    channels, *positions = shape
    teacher = drawn(2, *shape)
    student = drawn(2, copies * channels, *positions, seed=1)
    total = 0.0
    for row in range(2):
        for segment in range(copies):
            for channel in range(channels):
                mine = student[row, segment * channels + channel].flatten().tolist()
                theirs = teacher[row, channel].flatten().tolist()
                total += sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True))
    expected = total / (2 * teacher[0].numel())
    assert n_to_one_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_is_the_sum_of_hints_of_its_segments_in_any_order():
    student, teacher = maps(2, 6, 4, 0.3), maps(2, 2, 4, 1.0)
    parts = student.split(2, dim=1)
    expected = sum(hint_loss(part, teacher).item() for part in parts)
    for order in ((0, 1, 2), (2, 0, 1)):
        found = n_to_one_loss(torch.cat([parts[k] for k in order], dim=1), teacher)
        assert found.item() == pytest.approx(expected, rel=1e-13)
    assert n_to_one_loss(teacher.repeat(1, 3, 1, 1), teacher).item() == 0.0


def test_maps_of_unlike_size_are_compared_at_the_smaller():
    student, teacher = maps(2, 6, 4, 0.3), maps(2, 3, 2, 1.0)
    expected = 2 * F.mse_loss(F.avg_pool2d(student, 2), torch.cat([teacher, teacher], dim=1))
    assert n_to_one_loss(student, teacher).item() == pytest.approx(expected.item(), rel=1e-13)
    expected = 2 * F.mse_loss(student, F.avg_pool2d(maps(2, 3, 8, 1.0), 2).repeat(1, 2, 1, 1))
    found = n_to_one_loss(student, maps(2, 3, 8, 1.0)).item()
    assert found == pytest.approx(expected.item(), rel=1e-13)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 6, 4), drawn(2, 3, 4, seed=1)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    errors = (student - torch.cat([teacher, teacher], dim=1)) ** 2
    expected = errors[0][:, [0, 3]].mean() + errors[1].mean()  # twice the mean of two samples
    assert n_to_one_loss(student, teacher, mask=mask).item() == pytest.approx(expected.item())


def test_gradients():
    student, teacher = maps(2, 6, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: n_to_one_loss(z, teacher), student)
    found = torch.autograd.grad(
        n_to_one_loss(student, teacher), (student, teacher), allow_unused=True
    )
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(4, 6).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    value = n_to_one_loss(student, teacher)
    assert value.dtype == torch.float32
    expected = n_to_one_loss(student.double(), teacher.double()).item()
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert n_to_one_loss(student[:0], teacher[:0]).item() == 0.0


def test_module_is_the_function_of_its_expansions():
    student = {"a": drawn(4, 3, 4, 4), "b": drawn(4, 2, 6), "c": drawn(4, 3)}
    teacher = {"a": drawn(4, 5, 2, 2), "b": drawn(4, 2, 7), "c": drawn(4, 2)}
    given = args(student, teacher)
    loss = prepared(NORM(("a", "b", "c"), copies=3), given)
    kinds = [[type(step) for step in made] for made in loss.expansions]
    assert [kind[0] for kind in kinds] == [nn.Conv2d, nn.Conv1d, nn.Linear]
    assert [len(kind) for kind in kinds] == [2, 1, 2]
    one = F.conv2d(student["a"], loss.expansions[0][0].weight)
    three = F.linear(student["c"], loss.expansions[2][0].weight)
    one, three = (F.batch_norm(z, None, None, training=True) for z in (one, three))
    assert [made[0].bias is None for made in loss.expansions] == [True, False, True]
    two = loss.expansions[1][0](student["b"].transpose(1, 2))
    assert (one.shape[1], two.shape[1], three.shape[1]) == (15, 21, 6)
    expected = (
        n_to_one_loss(one, teacher["a"])
        + n_to_one_loss(two, teacher["b"].transpose(1, 2))
        + n_to_one_loss(three, teacher["c"])
    )
    assert loss(*given).item() == pytest.approx(expected.item(), rel=1e-10)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))
    one, two = (prepared(NORM("a", seed=seed), given).expansions[0][0].weight for seed in (0, 1))
    assert not torch.equal(one, two)


def test_defaults_are_those_of_the_scripts():
    given = args({"layer3": drawn(4, 3, 4, 4)}, {"layer3": drawn(4, 5, 4, 4)})
    loss = prepared(NORM(), given)
    assert loss.expansions[0][0].out_channels == 8 * 5
    assert NORM.published_weights == (0.25, 1.0)


def test_a_module_leaves_padded_tokens_out():
    student, teacher = drawn(2, 6, 3), drawn(2, 6, 5)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    given = args({"a": student}, {"a": teacher}, mask=mask)
    loss = prepared(NORM("a", copies=2), given)
    wide = loss.expansions[0][0](student.transpose(1, 2))
    expected = n_to_one_loss(wide, teacher.transpose(1, 2), mask=mask.bool()).item()
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 8, 8), 0.3)}
    loss = prepared(NORM("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"n_to_one_loss: .*student \(2, 5\), teacher \(2, 3\)"):
        n_to_one_loss(drawn(2, 5), drawn(2, 3))
    with pytest.raises(ShapeError, match=r"n_to_one_loss: .*student \(2, 6\), teacher \(1, 6\)"):
        n_to_one_loss(drawn(2, 6), drawn(1, 3))
    with pytest.raises(ShapeError, match="n_to_one_loss: expected a multiple"):
        n_to_one_loss(drawn(2, 6, 2), drawn(2, 3))
    with pytest.raises(ArgumentError, match="NORM: expected `copies` > 0; got 0"):
        NORM(copies=0)
    with pytest.raises(ArgumentError, match=r"NORM: .*not prepared"):
        NORM("a")(*args({"a": drawn(4, 3)}, {"a": drawn(4, 3)}))
    loss = prepared(NORM("a"), args({"a": drawn(4, 3)}, {"a": drawn(4, 5)}))
    with pytest.raises(ShapeError, match="expected 3 and 5 channels"):
        loss(*args({"a": drawn(4, 4)}, {"a": drawn(4, 5)}))
