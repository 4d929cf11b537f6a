"""ReviewKD: its loss against the reference and plain loops, its fusions against torch's."""

import pytest
import torch
from helpers.features import DIGITS, args, assert_finite, drawn, maps, prepared
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import ReviewKD, hierarchical_context_loss


def cells(image, count):
    """Return the averages over ``count`` x ``count`` cells of one channel, by plain loops."""
    side = len(image) // count
    return [
        sum(image[side * r + i][side * c + j] for i in range(side) for j in range(side)) / side**2
        for r in range(count)
        for c in range(count)
    ]


def loops(student, teacher, levels):
    """Return the loss for levels (count of cells a side, weight), by plain loops."""
    total = 0.0
    for count, weight in levels:
        errors = [
            (one - two) ** 2
            for rows in zip(student.tolist(), teacher.tolist(), strict=True)
            for mine, theirs in zip(*rows, strict=True)
            for one, two in zip(cells(mine, count), cells(theirs, count), strict=True)
        ]
        total += weight * sum(errors) / len(errors)
    return total / sum(weight for _, weight in levels)


def test_reference_value():
    value = hierarchical_context_loss(maps(2, 3, 8, 0.3), maps(2, 3, 8, 1.0))
    assert value.item() == pytest.approx(0.168247958486, **DIGITS)


@pytest.mark.parametrize(
    ("side", "levels"),
    [
        (8, [(8, 1.0), (4, 0.5), (2, 0.25), (1, 0.125)]),
        (4, [(4, 1.0), (2, 0.5), (1, 0.25)]),  # the first coarse grid always has half the weight
        (2, [(2, 1.0), (1, 0.5)]),
        (1, [(1, 1.0)]),
    ],
)
def test_equals_plain_loops(side, levels):
    student, teacher = drawn(3, 2, side, side), drawn(3, 2, side, side, seed=1)
    value = hierarchical_context_loss(student, teacher).item()
    assert value == pytest.approx(loops(student, teacher, levels), rel=1e-12)


def test_a_constant_difference_counts_alike_at_every_size():
    teacher = drawn(2, 3, 8, 8)
    value = hierarchical_context_loss(teacher + 0.5, teacher).item()
    assert value == pytest.approx(0.25, rel=1e-12)


def test_gradients():
    student, teacher = drawn(2, 2, 4, 4).requires_grad_(), drawn(2, 2, 4, 4, seed=1)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: hierarchical_context_loss(z, teacher), student)
    value = hierarchical_context_loss(student, teacher)
    assert torch.autograd.grad(value, teacher, allow_unused=True) == (None,)


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(2, 3, 4, 4).bfloat16(), drawn(2, 3, 4, 4, seed=1).bfloat16()
    value = hierarchical_context_loss(student, teacher)
    assert value.dtype == torch.float32
    exact = hierarchical_context_loss(student.double(), teacher.double()).item()
    assert value.item() == pytest.approx(exact, rel=1e-6)
    assert hierarchical_context_loss(student[:0], teacher[:0]).item() == 0.0


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    name = "hierarchical_context_loss: expected"
    with pytest.raises(ShapeError, match=name):
        hierarchical_context_loss(drawn(2, 3, 4, 4), drawn(2, 2, 4, 4))
    with pytest.raises(ShapeError, match=rf"{name} maps .*\(2, 3, 4, 4\), teacher \(2, 3, 2, 2\)"):
        hierarchical_context_loss(drawn(2, 3, 4, 4), drawn(2, 3, 2, 2))
    with pytest.raises(ShapeError, match=name):
        hierarchical_context_loss(drawn(2, 3), drawn(2, 3))


def norm(features):
    return F.batch_norm(features, None, None, training=True)


def by_hand(weights, student, teacher):
    """Return the loss of two layers of maps and one of vectors, with torch's functions alone."""
    # deepest: vectors as maps of one pixel; nothing to fuse
    fused = norm(F.conv2d(student["c"][:, :, None, None], weights["2.enter"]))
    out = norm(F.conv2d(fused, weights["2.leave"], padding=1))
    total = F.mse_loss(out, teacher["c"][:, :, None, None])
    for place, name in ((1, "b"), (0, "a")):
        own = norm(F.conv2d(student[name], weights[f"{place}.enter"]))
        times = own.shape[2] // fused.shape[2]
        deeper = fused.repeat_interleave(times, 2).repeat_interleave(times, 3)
        both = torch.cat([own, deeper], 1)
        scores = F.conv2d(both, weights[f"{place}.attention"], weights[f"{place}.bias"])
        one, two = 1 / (1 + torch.exp(-scores[:, 0])), 1 / (1 + torch.exp(-scores[:, 1]))
        fused = own * one[:, None] + deeper * two[:, None]
        step = fused.shape[2] // teacher[name].shape[2]
        fused = fused[:, :, ::step, ::step]  # the nearest pixel of a smaller map
        out = norm(F.conv2d(fused, weights[f"{place}.leave"], padding=1))
        total = total + hierarchical_context_loss(out, teacher[name])
    return total


def three_layers(dtype=torch.float64):
    student = {"a": drawn(4, 2, 8, 8), "b": drawn(4, 3, 4, 4, seed=1), "c": drawn(4, 6, seed=2)}
    teacher = {"a": drawn(4, 5, 4, 4, seed=3), "b": drawn(4, 7, 2, 2, seed=4)}
    teacher["c"] = drawn(4, 8, seed=5)
    return [{name: z.to(dtype) for name, z in side.items()} for side in (student, teacher)]


def weights_of(loss):
    """Return the convolutions' weights by place and name."""
    found = {}
    for place, fusion in enumerate(loss.fusions):
        found |= {f"{place}.enter": fusion.enter.weight, f"{place}.leave": fusion.leave.weight}
        if fusion.attention is not None:
            found[f"{place}.attention"] = fusion.attention.weight
            found[f"{place}.bias"] = fusion.attention.bias
    return found


def test_module_is_what_the_paper_draws():
    student, teacher = three_layers()
    loss = prepared(ReviewKD(("a", "b", "c")), given := args(student, teacher))
    expected = by_hand(weights_of(loss), student, teacher)
    assert loss(*given).item() == pytest.approx(expected.item(), rel=1e-10)
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*given)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_widths_and_start_values():
    student, teacher = three_layers()
    loss = prepared(ReviewKD(("a", "b", "c")), args(student, teacher))
    weights = weights_of(loss)
    assert weights["0.enter"].shape == (6, 2, 1, 1)  # the width is that of the deepest layer
    assert weights["0.leave"].shape == (5, 6, 3, 3)
    assert "2.attention" not in weights
    assert weights["1.attention"].shape == (2, 12, 1, 1)
    leave = weights["1.leave"]
    bound = (3.0 / 54) ** 0.5  # Kaiming-uniform, gain 1, fan-in 6 * 9
    assert 0.9 * bound < leave.abs().max().item() <= bound
    assert leave.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert weights["1.bias"].abs().max() <= 1 / 12**0.5


def test_the_common_width_is_512_at_most():
    student, teacher = {"a": drawn(2, 513, 1, 1)}, {"a": drawn(2, 2, 1, 1)}
    loss = prepared(ReviewKD("a"), args(student, teacher))
    assert loss.fusions[0].enter.weight.shape[0] == 512


def test_a_shallow_layer_learns_from_the_deep_one():
    student, teacher = three_layers()
    loss = prepared(ReviewKD(("a", "b", "c")), args(student, teacher))
    student["c"].requires_grad_()
    teacher["c"] = teacher["c"] * 0.0  # whatever it is: the gradient comes from a and b as well
    loss(*args(student, teacher)).backward()
    assert loss.fusions[0].attention.weight.grad.abs().max() > 0
    assert student["c"].grad.abs().max() > 0


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 8, 8), 0.3)}
    loss = prepared(ReviewKD("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)


def test_autocast_changes_nothing():
    given = args(*three_layers(torch.float32))
    loss = prepared(ReviewKD(("a", "b", "c")), given)
    plain = loss(*given).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(*given).item() == pytest.approx(plain, rel=1e-6)


def test_refusals():
    student, teacher = three_layers()
    given = args(student, teacher)
    with pytest.raises(ArgumentError, match="not prepared"):
        ReviewKD(("a", "b", "c"))(*given)
    tokens = args({"a": drawn(2, 5, 3)}, {"a": drawn(2, 5, 4)})
    with pytest.raises(ShapeError, match="got token states"):
        ReviewKD("a").prepare(*tokens)
