"""OFD: against plain loops and the authors' numbers; its margins against integration and counts."""

import math

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared, value_and_gradient
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import OFD, batch_norm_margin, ofd_loss


def looped(student, teacher, margin) -> float:
    """Return the loss case by case as the reference has it, entry by entry."""
    total = 0.0
    rows, channels = student.shape[:2]
    for row in range(rows):
        for channel in range(channels):
            m = float(margin[channel])
            pairs = zip(
                student[row, channel].flatten().tolist(),
                teacher[row, channel].flatten().tolist(),
                strict=True,
            )
            for s, t in pairs:
                if t > 0 or (m < t <= 0 and s > t):
                    total += (s - t) ** 2
                elif t <= m and s > m:
                    total += (s - m) ** 2
    return total / rows


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 3)])
def test_equals_plain_loops(shape):
    student, teacher = drawn(*shape), drawn(*shape, seed=1)
    margin = torch.tensor([-0.8, -0.2, 0.0], dtype=torch.float64)
    expected = looped(student, teacher, margin)
    assert expected > 0
    assert ofd_loss(student, teacher, margin).item() == pytest.approx(expected, rel=1e-13)


def test_every_case_by_hand():
    """Margin -1: what each of seven students pays, and which way it is drawn."""
    teacher = torch.tensor([[-3.0, -3.0, -0.5, -0.5, 2.0, 2.0, 0.0]])
    student = torch.tensor([[-2.0, 0.5, -2.0, 0.0, 3.0, -1.0, 1.0]])
    value, gradient = value_and_gradient(
        lambda z: ofd_loss(z, teacher, torch.full((7,), -1.0)), student
    )
    assert value == 0 + 2.25 + 0 + 0.25 + 1 + 9 + 1
    assert gradient.tolist() == [[0, 3, 0, 1, 2, -6, 2]]


def test_maps_of_unlike_size_are_compared_at_the_smaller():
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 3, 2, 1.0)
    margin = torch.full((3,), -0.5, dtype=torch.float64)
    expected = looped(F.avg_pool2d(student, 2), teacher, margin)
    assert ofd_loss(student, teacher, margin).item() == pytest.approx(expected, rel=1e-13)
    expected = looped(teacher, F.avg_pool2d(student, 2), margin)
    assert ofd_loss(teacher, student, margin).item() == pytest.approx(expected, rel=1e-13)


def test_padded_tokens_do_not_count():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    margin = torch.full((3,), -0.5, dtype=torch.float64)
    mask = torch.tensor([[True, False, False, True], [True, True, True, True]])
    expected = (
        looped(student[:1, :, [0, 3]], teacher[:1, :, [0, 3]], margin)
        + looped(student[1:], teacher[1:], margin)
    ) / 2
    assert ofd_loss(student, teacher, margin, mask=mask).item() == pytest.approx(expected)


def test_gradients():
    student, teacher = maps(2, 3, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    margin = torch.full((3,), -0.5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ofd_loss(z, teacher, margin), student)
    value = ofd_loss(student, teacher, margin)
    found = torch.autograd.grad(value, (student, teacher, margin), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None
    assert found[2] is None


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    value = ofd_loss(student, teacher, torch.full((3,), -0.5))
    assert value.dtype == torch.float32
    expected = looped(student.double(), teacher.double(), [-0.5] * 3)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert ofd_loss(student[:0], teacher[:0], torch.zeros(3)).item() == 0.0


def test_margins_of_the_authors():
    """Section 8.3 of the reference; the third has 3e-7 of its numbers below zero."""
    weight, bias = torch.tensor([[1.0, 0.5, 0.2], [0.0, 0.2, 1.0]], dtype=torch.float64)
    expected = [-0.797884560803, -0.334378085873, -0.6]
    assert batch_norm_margin(weight, bias).tolist() == pytest.approx(expected, rel=1e-11)
    assert batch_norm_margin(-weight, bias).tolist() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.7), (2.0, -3.0), (0.5, 1.4), (0.3, -30.0)])
def test_margin_is_the_mean_of_the_negative_half_of_a_normal(weight, bias):
    """By the trapezoidal rule over twelve standard deviations."""
    x = torch.linspace(bias - 12 * weight, min(0.0, bias + 12 * weight), 200_001).double()
    density = torch.exp(-(((x - bias) / weight) ** 2) / 2)
    expected = (torch.trapezoid(x * density, x) / torch.trapezoid(density, x)).item()
    found = batch_norm_margin(torch.tensor([weight]).double(), torch.tensor([bias]).double())
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_margin_of_a_constant_channel_and_of_extremes():
    assert batch_norm_margin(torch.zeros(3), torch.tensor([-2.0, 0.0, 2.0])).tolist() == [-2, 0, 0]
    extreme = batch_norm_margin(torch.tensor([1e-20, 1e4, 1.0]), torch.tensor([-1e4, 1e4, 1e4]))
    assert extreme.isfinite().all()
    assert extreme[0].item() == -1e4


def negative_means(*batches: torch.Tensor) -> list[float]:
    """Return the mean of what is below zero in each channel of all batches; zero without any."""
    found = []
    for channel in range(batches[0].shape[1]):
        numbers = [x for batch in batches for x in batch[:, channel].flatten().tolist() if x < 0]
        found.append(sum(numbers) / max(len(numbers), 1))
    return found


def test_margins_are_learnt_from_all_training_batches():
    student, first = {"a": drawn(4, 3, 4, 4)}, drawn(4, 5, 4, 4, seed=1)
    first[:, 2] = first[:, 2].abs()  # never negative here
    first[:2, 3] = 0.0
    second = drawn(2, 5, 4, 4, seed=2)
    loss = prepared(OFD("a"), args(student, {"a": first}))
    (margin,) = loss.margins()
    assert margin.tolist() == pytest.approx(negative_means(first), rel=1e-12)
    assert margin[2] == 0
    given = args({"a": student["a"][:2]}, {"a": second})
    loss.eval()(*given)
    assert torch.equal(loss.margins()[0], margin)
    loss.train()(*given)
    expected = negative_means(first, second)
    assert loss.margins()[0].tolist() == pytest.approx(expected, rel=1e-12)
    loss.prepare(*args(student, {"a": first}))  # a second time changes nothing
    assert loss.margins()[0].tolist() == pytest.approx(expected, rel=1e-12)
    other = prepared(OFD("a"), args(student, {"a": first}))
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.margins()[0], loss.margins()[0])


def test_margins_near_those_of_the_batch_norm_that_made_the_features():
    norm = nn.BatchNorm1d(3).double()
    weight, bias = torch.tensor([[1.0, 0.5, 2.0], [0.3, -0.4, 1.0]], dtype=torch.float64)
    norm.load_state_dict(norm.state_dict() | {"weight": weight, "bias": bias})
    features = norm(drawn(20_000, 3)).detach()
    loss = prepared(OFD("a"), args({"a": drawn(20_000, 2)}, {"a": features}))
    expected = batch_norm_margin(weight, bias).tolist()
    assert loss.margins()[0].tolist() == pytest.approx(expected, rel=0.03)


def test_given_margins_stay():
    student, teacher = {"a": drawn(4, 3), "b": drawn(4, 2)}, {"a": drawn(4, 2), "b": drawn(4, 1)}
    given = args(student, teacher)
    loss = prepared(OFD(("a", "b"), margins=[[-1.0, -2.0], torch.tensor([-3.0])]), given)
    loss(*given)
    assert [one.tolist() for one in loss.margins()] == [[-1.0, -2.0], [-3.0]]


def test_module_is_the_weighted_sum_of_the_function():
    """Of three layers the last counts 1, the one before 1/2, the first 1/4."""
    names = ("a", "b", "c")
    student = {name: drawn(4, 3, 4, 4, seed=place) for place, name in enumerate(names)}
    teacher = {name: drawn(4, 5, 4, 4, seed=place + 5) for place, name in enumerate(names)}
    given = args(student, teacher)
    loss = prepared(OFD(names), given)
    assert not torch.equal(loss.connectors[0][0].weight, loss.connectors[1][0].weight)
    expected = 0.0
    for name, factor, made in zip(names, (0.25, 0.5, 1.0), loss.connectors, strict=True):
        assert made[0].bias is None
        hidden = F.conv2d(student[name], made[0].weight)
        hidden = F.batch_norm(hidden, None, None, training=True)
        expected += factor * looped(hidden, teacher[name], negative_means(teacher[name]))
    assert loss(*given).item() == pytest.approx(expected, rel=1e-12)


def test_vectors_and_tokens_get_a_linear_connector_with_offset():
    for shape in ((4, 3), (4, 6, 3)):
        student = drawn(*shape)
        teacher = drawn(*shape[:-1], 5, seed=1)
        given = args({"a": student}, {"a": teacher})
        loss = prepared(OFD("a"), given)
        connector = loss.connectors[0]
        weight = connector.weight.flatten(1)
        mine, theirs = student @ weight.T + connector.bias, teacher
        if len(shape) == 3:
            mine, theirs = mine.transpose(1, 2), theirs.transpose(1, 2)
        expected = looped(mine, theirs, negative_means(theirs))
        assert loss(*given).item() == pytest.approx(expected, rel=1e-12)


def test_after_a_relu_the_students_relu_is_brought_to_the_teacher():
    """All margins are zero then, and only what a ReLU would let through is compared."""
    student, teacher = drawn(4, 3, 4, 4), drawn(4, 5, 4, 4, seed=1).relu()
    loss = prepared(OFD("a"), given := args({"a": student}, {"a": teacher}))
    assert loss.margins()[0].tolist() == [0.0] * 5
    mine = loss.connectors[0](student)
    expected = torch.where(teacher > 0, mine - teacher, mine.relu()).square().sum() / 4
    assert loss(*given).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 2, 2), -0.3)}
    loss = prepared(OFD("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"ofd_loss: .*student \(2, 3\), teacher \(2, 4\)"):
        ofd_loss(drawn(2, 3), drawn(2, 4), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"ofd_loss: .*each of 3 channels; got \(2,\)"):
        ofd_loss(drawn(2, 3), drawn(2, 3), torch.zeros(2))
    with pytest.raises(ShapeError, match="batch_norm_margin: "):
        batch_norm_margin(torch.ones(2), torch.zeros(3))
    with pytest.raises(ArgumentError, match="each of 3 layers; got 1"):
        OFD(margins=[[-1.0]])
    for wrong in (0.1, -math.inf, math.nan):
        with pytest.raises(ArgumentError, match="finite margins at most zero"):
            OFD("a", margins=[[-1.0, wrong]])
    given = args({"a": drawn(4, 3)}, {"a": drawn(4, 2)})
    with pytest.raises(ShapeError, match=r"OFD: .*each of 2 channels of the teacher; got \(3,\)"):
        OFD("a", margins=[[-1.0, -1.0, -1.0]]).prepare(*given)
    with pytest.raises(ArgumentError, match=r"OFD: .*not prepared"):
        OFD("a")(*given)
    loss = prepared(OFD("a"), given)
    with pytest.raises(ShapeError, match=r"OFD: .*expected 3 and 2 channels"):
        loss(*args({"a": drawn(4, 4)}, {"a": drawn(4, 2)}))
