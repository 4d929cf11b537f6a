"""CC: golden value, plain loops, its dependence on the order, embeddings."""

import pytest
import torch
from helpers.features import (
    DIGITS,
    args,
    assert_finite,
    drawn,
    prepared,
    value_and_gradient,
    vectors,
)

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import CC, correlation_congruence_loss


def test_equals_the_authors():
    value = correlation_congruence_loss(*vectors()).item()
    assert value == pytest.approx(3.343744867432, **DIGITS)


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_equals_plain_loops(rows):
    student, teacher = drawn(rows, 4), drawn(rows, 4, seed=1)
    gaps = [
        [abs(a - b) for a, b in zip(one, two, strict=True)]
        for one, two in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    total = sum(a * b for i in range(rows - 1) for a, b in zip(gaps[i], gaps[i + 1], strict=True))
    value = correlation_congruence_loss(student, teacher).item()
    assert value == pytest.approx(total / (rows - 1), rel=1e-13)


def test_hand_computed_gradient():
    """Differences (1, -2), (3, 4), (0, 5): 1·3 + 2·4 + 3·0 + 4·5 = 31, over two pairs."""
    student = torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 5.0]])
    value, gradient = value_and_gradient(
        lambda z: correlation_congruence_loss(z, torch.zeros(3, 2)), student
    )
    assert value == 15.5
    assert gradient.tolist() == [[1.5, -2.0], [0.5, 3.5], [0.0, 2.0]]


def test_only_a_reversed_batch_gives_the_same():
    student, teacher = vectors()
    value = correlation_congruence_loss(student, teacher).item()
    backwards = correlation_congruence_loss(student.flip(0), teacher.flip(0)).item()
    assert backwards == pytest.approx(value, rel=1e-13)
    order = torch.tensor([0, 2, 1, 3, 4, 5])
    swapped = correlation_congruence_loss(student[order], teacher[order]).item()
    assert swapped != pytest.approx(value, rel=1e-3)


def test_a_common_shift_and_the_order_of_features_do_not_matter():
    student, teacher = vectors()
    value = correlation_congruence_loss(student, teacher).item()
    columns = torch.tensor([2, 0, 3, 1])
    for one, two in [
        (student + 3.0, teacher + 3.0),
        (student[:, columns], teacher[:, columns]),
        (teacher, student),
    ]:
        assert correlation_congruence_loss(one, two).item() == pytest.approx(value, rel=1e-12)


def test_gradients_flow_into_both_embeddings():
    student, teacher = (z.requires_grad_() for z in vectors())
    assert torch.autograd.gradcheck(correlation_congruence_loss, (student, teacher))


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_zero_with_a_graph(rows):
    value, gradient = value_and_gradient(
        lambda z: correlation_congruence_loss(z, drawn(rows, 4)), drawn(rows, 4, seed=1)
    )
    assert value == 0.0
    assert (gradient == 0).all()


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_features_are_finite(constant):
    features, teacher = torch.full((4, 3), constant), drawn(4, 5).float()
    loss = prepared(CC(), args(features, teacher))
    assert_finite(lambda z: loss(*args(z, teacher)), features)


def test_narrow_floats():
    student, teacher = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    value = correlation_congruence_loss(student, teacher)
    exact = correlation_congruence_loss(student.double(), teacher.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"congruence_loss: .*student \(2, 3\), teacher \(2, 4\)"):
        correlation_congruence_loss(drawn(2, 3), drawn(2, 4))
    with pytest.raises(ArgumentError, match="CC: expected `width` > 0"):
        CC(width=0)
    with pytest.raises(
        ArgumentError, match=r"CC: expected one layer of each side; got student a, b"
    ):
        CC(("a", "b"))


def test_module_embeds_both_sides_and_trains_both():
    student, teacher = drawn(6, 3, 2, 2), drawn(6, 5, seed=1)
    given = args({"a": student}, {"a": teacher})
    loss = prepared(CC("a", width=7), given)
    mine, theirs = loss.embeddings.student, loss.embeddings.teacher
    assert (mine.weight.shape, theirs.weight.shape) == ((7, 3), (7, 5))
    one = student.mean((2, 3)) @ mine.weight.T + mine.bias
    two = teacher @ theirs.weight.T + theirs.bias
    gaps = (one - two).abs()
    expected = (gaps[:-1] * gaps[1:]).sum() / 5
    value = loss(*given)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value.backward()
    assert all((parameter.grad != 0).any() for parameter in loss.parameters())
    assert loss.published_weights == (1.0, 0.02)


def test_default_width_is_128():
    assert prepared(CC(), args(drawn(2, 3), drawn(2, 5))).embeddings.student.out_features == 128
