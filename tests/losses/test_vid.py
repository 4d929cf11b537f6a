"""VID: golden values, plain loops, variances that are trained to their closed form, edges."""

import math

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, maps, prepared, value_and_gradient
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import VID, vid_loss


def test_equals_the_authors():
    student, teacher = maps(2, 2, 4, 0.3), maps(2, 3, 4, 1.0)[:, :2]
    value = vid_loss(student, teacher, torch.full((2,), 5.0, dtype=torch.float64)).item()
    assert value == pytest.approx(0.828230226559, **DIGITS)


def hand() -> tuple[torch.Tensor, torch.Tensor]:
    """Section 5.8 of the PID reference: squared errors 1, 4 and 4, 1."""
    teacher = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    return torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64), teacher


def test_hand_computed_values():
    """The paper sums over entries, of which there are two; the code takes their mean."""
    deviations = torch.tensor([1.0, 2.0], dtype=torch.float64)
    summed = 2 * vid_loss(*hand(), deviations.square()).item()
    assert summed == pytest.approx((0 + 1.25) + (math.log(2) + 0.3125), rel=1e-13)
    assert summed == pytest.approx(2.255647, abs=5e-7)
    of_code = vid_loss(*hand(), deviations).item()
    assert of_code == pytest.approx(((0 + 2.5) + (math.log(2) + 1.25)) / 4, rel=1e-13)
    assert of_code == pytest.approx(1.110787, abs=5e-7)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_equals_plain_loops(shape):
    student, teacher = drawn(3, 4, *shape), drawn(3, 4, *shape, seed=1)
    variance, terms = [0.5, 1.0, 2.0, 7.0], []
    for one, two in zip(student, teacher, strict=True):
        for c, v in enumerate(variance):
            pairs = zip(one[c].flatten().tolist(), two[c].flatten().tolist(), strict=True)
            terms += [0.5 * ((t - m) ** 2 / v + math.log(v)) for m, t in pairs]
    value = vid_loss(student, teacher, torch.tensor(variance, dtype=torch.float64)).item()
    assert value == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_it_is_the_density_of_a_gaussian():
    student, teacher = drawn(4, 3), drawn(4, 3, seed=1)
    variance = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    normal = torch.distributions.Normal(student, variance.sqrt())
    expected = -normal.log_prob(teacher).mean() - math.log(2 * math.pi) / 2
    assert vid_loss(student, teacher, variance).item() == pytest.approx(expected.item(), rel=1e-12)


def test_best_variance_is_the_mean_squared_error_of_the_channel():
    student, teacher = drawn(5, 3, 2, 2), drawn(5, 3, 2, 2, seed=1) * 2
    error = (student - teacher).square().mean((0, 2, 3))
    best, gradient = value_and_gradient(lambda v: vid_loss(student, teacher, v), error)
    assert gradient.abs().max().item() < 1e-15
    assert best == pytest.approx(((1 + error.log()) / 2).mean().item(), rel=1e-12)
    for factor in (0.9, 1.1):
        for c in range(3):
            other = error.clone()
            other[c] *= factor
            assert vid_loss(student, teacher, other).item() > best


def test_variances_are_trained_to_their_optimum():
    student, teacher = drawn(6, 3, 4, 4), drawn(6, 5, 4, 4, seed=1)
    given = args({"a": student}, {"a": teacher})
    loss = prepared(VID("a"), given)
    (raw,) = loss.raw_variances
    assert any(raw is parameter for parameter in loss.parameters())
    with torch.no_grad():
        error = (loss.means[0](student) - teacher).square().mean((0, 2, 3))
    optimiser = torch.optim.LBFGS(
        loss.raw_variances.parameters(), max_iter=100, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        value = loss(*given)
        value.backward(inputs=list(loss.raw_variances))
        return value

    optimiser.step(closure)
    torch.testing.assert_close(loss.variances()[0], error, rtol=1e-5, atol=0)
    assert loss(*given).item() == pytest.approx(((1 + error.log()) / 2).mean().item(), rel=1e-9)


def test_one_step_moves_every_variance():
    given = args({"a": drawn(6, 3)}, {"a": drawn(6, 5, seed=1)})
    loss = prepared(VID("a"), given)
    before = loss.variances()[0].detach()
    loss(*given).backward()
    torch.optim.SGD(loss.parameters(), lr=1.0).step()
    assert (loss.variances()[0] < before).all()  # they begin at 5, above the error


@pytest.mark.parametrize("start", [5.0, 1.0, 0.01, 300.0])
def test_variances_begin_as_said(start):
    given = args({"a": drawn(6, 3)}, {"a": drawn(6, 5, seed=1)})
    (variance,) = prepared(VID("a", initial_variance=start), given).variances()
    assert variance.tolist() == pytest.approx([start] * 5, rel=1e-12)


def test_default_and_paper_code():
    given = args({"a": drawn(6, 3, 4, 4)}, {"a": drawn(6, 5, 4, 4, seed=1)})
    default, paper = (prepared(VID("a", paper_code=one), given) for one in (False, True))

    def kinds(loss):
        return [type(step).__name__ for step in loss.means[0]]

    def widths(loss):
        layers = [step for step in loss.means[0] if isinstance(step, nn.Conv2d)]
        assert all(layer.bias is None and layer.kernel_size == (1, 1) for layer in layers)
        return [layer.in_channels for layer in layers] + [layers[-1].out_channels]

    assert kinds(default) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]
    assert widths(default) == [3, 5, 10, 5]
    norm = ["Conv2d", "BatchNorm", "ReLU"]
    assert kinds(paper) == [*norm, *norm, "Conv2d"]
    assert widths(paper) == [3, 10, 10, 5]
    expected = math.log1p(math.exp(5.0)) + 1e-3
    assert paper.variances()[0].tolist() == pytest.approx([expected] * 5, rel=1e-12)
    assert expected == pytest.approx(5.0077, abs=5e-5)
    assert default.mean_over_samples
    assert not paper.mean_over_samples
    assert default.published_weights == (1.0, 1.0)


def test_module_is_the_sum_over_layers():
    student = {
        "layer1": maps(3, 2, 4, 0.3),
        "layer2": maps(3, 4, 2, 0.7),
        "layer3": drawn(3, 2, 2, 2),
    }
    teacher = {
        "layer1": maps(3, 5, 4, 1.0),
        "layer2": maps(3, 3, 4, 1.4),
        "layer3": drawn(3, 2, 4, 4),
    }
    given = args(student, teacher)
    loss, expected = prepared(VID(), given), 0.0
    for layer, mean in zip(student, loss.means, strict=True):
        mine = student[layer]
        for place, step in enumerate(module for module in mean if isinstance(module, nn.Conv2d)):
            mine = F.conv2d(mine if place == 0 else mine.relu(), step.weight)
        theirs = F.adaptive_avg_pool2d(teacher[layer], mine.shape[2:])
        expected += ((mine - theirs).square().mean().item() / 5 + math.log(5)) / 2
    assert loss(*given).item() == pytest.approx(expected, rel=1e-11)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_gradients():
    student, teacher = (
        drawn(2, 3, 2, 2).requires_grad_(),
        drawn(2, 3, 2, 2, seed=1).requires_grad_(),
    )
    variance = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, v: vid_loss(z, teacher, v), (student, variance))
    value = vid_loss(student, teacher, variance)
    assert torch.autograd.grad(value, teacher, allow_unused=True)[0] is None


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 8, 8), 0.3)}
    for paper_code in (False, True):
        loss = prepared(VID("a", paper_code=paper_code), args({"a": features}, teacher))
        assert_finite(lambda z, loss=loss: loss(*args({"a": z}, teacher)), features)


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(4, 3).bfloat16(), drawn(4, 3, seed=1).bfloat16()
    variance = torch.tensor([0.5, 1.0, 2.0])
    value = vid_loss(student, teacher, variance)
    exact = vid_loss(student.double(), teacher.double(), variance.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert vid_loss(student[:0], teacher[:0], variance).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    one = torch.ones(3)
    with pytest.raises(ShapeError, match=r"vid_loss: .*student \(2, 3\), teacher \(2, 4\)"):
        vid_loss(drawn(2, 3), drawn(2, 4), one)
    with pytest.raises(
        ShapeError, match=r"vid_loss: expected one variance .* 4 channels; got \(3,"
    ):
        vid_loss(drawn(2, 4), drawn(2, 4), one)
    with pytest.raises(ArgumentError, match=r"VID: expected `initial_variance` > 0.001; got 0.001"):
        VID(initial_variance=0.001)
