"""FT: against plain loops, the authors' value and torchdistill's; what each stage moves."""

import math

import pytest
import torch
from helpers.features import args, assert_finite, drawn, maps, prepared
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import FT, factor_transfer_loss


def looped(student, teacher, per_channel=False) -> float:
    """Return the loss of maps of one size, number by number."""
    total = count = 0.0
    for pair in zip(student, teacher, strict=True):
        sides = []
        for side in pair:
            channels = side.flatten(1).tolist()
            if per_channel:
                a = [x for channel in channels for x in channel]
            else:
                a = [sum(x * x for x in xs) / len(xs) for xs in zip(*channels, strict=True)]
            length = math.sqrt(sum(x * x for x in a))
            sides.append([x / length for x in a])
        total += sum(abs(x - y) for x, y in zip(*sides, strict=True))
        count += len(sides[0])
    return total / count


def test_equals_plain_loops():
    student, teacher = drawn(2, 3, 2, 4), drawn(2, 5, 2, 4, seed=1)
    value = factor_transfer_loss(student, teacher).item()
    assert value == pytest.approx(looped(student, teacher), rel=1e-13)
    student = drawn(2, 5, 2, 4)
    value = factor_transfer_loss(student, teacher, per_channel=True).item()
    assert value == pytest.approx(looped(student, teacher, per_channel=True), rel=1e-13)


def test_authors_value():
    """Section 8.3 of the reference."""
    value = factor_transfer_loss(maps(2, 2, 4, 0.3), maps(2, 3, 4, 1.0)).item()
    assert value == pytest.approx(0.060979126891, abs=1e-12)


def test_value_of_torchdistill():
    """Printed once by FTLoss(p=1) of torchdistill 1.1.5, which compares the factors themselves."""
    value = factor_transfer_loss(maps(2, 3, 4, 0.3), maps(2, 3, 4, 1.0), per_channel=True).item()
    assert value == pytest.approx(0.08908090066659315, rel=1e-12)


def test_maps_of_unlike_size_are_compared_at_the_smaller():
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 2, 2, seed=1)
    expected = looped(F.avg_pool2d(student, 2), teacher)
    assert factor_transfer_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert factor_transfer_loss(teacher, student).item() == pytest.approx(expected, rel=1e-12)


def test_the_size_of_a_sample_and_the_order_of_channels_are_irrelevant():
    student, teacher = drawn(2, 3, 2, 2), drawn(2, 5, 2, 2, seed=1)
    value = factor_transfer_loss(student, teacher).item()
    sizes = torch.tensor([3.0, 1e-3], dtype=torch.float64)[:, None, None, None]
    assert factor_transfer_loss(sizes * student, teacher).item() == pytest.approx(value, rel=1e-9)
    turned = student[:, [2, 0, 1]] * torch.tensor([-1.0, 1, -1]).double()[:, None, None]
    assert factor_transfer_loss(turned, teacher).item() == pytest.approx(value, rel=1e-12)
    both = [factor_transfer_loss(s, student, per_channel=True).item() for s in (student, turned)]
    assert both[0] == 0.0
    assert both[1] > 0.1


def test_gradients():
    student, teacher = drawn(2, 3, 4, 4).requires_grad_(), drawn(2, 3, 2, 2, seed=1)
    teacher.requires_grad_()
    for per_channel in (False, True):

        def loss(z, per_channel=per_channel):
            return factor_transfer_loss(z, teacher, per_channel=per_channel)

        assert torch.autograd.gradcheck(loss, student)
        found = torch.autograd.grad(loss(student), (student, teacher), allow_unused=True)
        assert found[0].abs().max() > 0
        assert found[1] is None


def test_narrow_floats_and_no_rows():
    student, teacher = drawn(2, 3, 2, 2).bfloat16(), drawn(2, 5, 2, 2, seed=1).bfloat16()
    value = factor_transfer_loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(looped(student.double(), teacher.double()), rel=1e-5)
    assert factor_transfer_loss(student[:0], teacher[:0]).item() == 0.0


def given(seed: int = 0):
    student = {"a": drawn(4, 3, 4, 4, seed=seed), "b": drawn(4, 2, 2, 2, seed=seed + 1)}
    teacher = {"a": drawn(4, 5, 4, 4, seed=7), "b": drawn(4, 4, 3, 3, seed=8)}
    return args(student, teacher)


def convolved(parts, features, *, transposed=False, norm=False):
    """Return three convolutions with leaky ReLUs, as torch's functions have it."""
    convolutions = [part for part in parts if hasattr(part, "stride")]
    assert len(convolutions) == 3
    for part in convolutions:
        step = F.conv_transpose2d if transposed else F.conv2d
        features = step(features, part.weight, part.bias, padding=1)
        if norm:
            features = F.batch_norm(features, None, None, training=True)
        features = F.leaky_relu(features, 0.1)
    return features


def test_stages():
    """30 of 240 as in the CRD set-up; one epoch at least."""
    for epochs, first in ((240, 30), (16, 2), (3, 1)):
        told = [FT().begin_epoch(epoch, epochs) for epoch in range(epochs)]
        assert told == [True] * first + [False] * (epochs - first)


def test_first_stage_is_the_squared_error_of_the_paraphraser():
    loss = prepared(FT(("a", "b")), given())
    _, teacher, _ = given()
    expected = 0.0
    for place, theirs in enumerate(teacher.features.values()):
        factors = convolved(loss.encoders[place], theirs)
        assert factors.shape[1] == 2  # half of five and of four
        again = convolved(loss.decoders[place], factors, transposed=True)
        expected += F.mse_loss(again, theirs).item()
    assert loss.auxiliary_loss(*given()).item() == pytest.approx(expected, rel=1e-12)


def test_first_stage_gives_the_share_of_this_ranks_rows(monkeypatch):
    loss = prepared(FT("a"), given())
    whole = loss.auxiliary_loss(*given()).item()
    monkeypatch.setattr("limbeck.losses.ft.share_of_batch", lambda mean, rows: mean * rows)
    assert loss.auxiliary_loss(*given()).item() == pytest.approx(4 * whole, rel=1e-12)


def test_second_stage_compares_translator_and_paraphraser():
    for options in ({}, {"per_channel": True}):
        loss = prepared(FT(("a", "b"), **options), given())
        student, teacher, _ = given()
        expected = 0.0
        for place, layer in enumerate("ab"):
            mine = convolved(loss.translators[place], student.features[layer], norm=True)
            theirs = convolved(loss.encoders[place], teacher.features[layer])
            expected += factor_transfer_loss(mine, theirs, **options).item()
        assert loss(*given()).item() == pytest.approx(expected, rel=1e-12)


def test_what_each_stage_moves():
    loss, (student, teacher, batch) = prepared(FT("a"), given()), given()
    maps_of_student = student.features["a"].requires_grad_()
    loss.auxiliary_loss(student, teacher, batch).backward()
    assert maps_of_student.grad is None
    trained = {id(p) for p in loss.parameters() if p.grad is not None}
    assert trained == {id(p) for p in loss.auxiliary_parameters()}
    loss.zero_grad()
    loss(student, teacher, batch).backward()
    assert maps_of_student.grad.abs().max() > 0
    trained = {id(p) for p in loss.parameters() if p.grad is not None}
    assert trained == {id(p) for p in loss.main_parameters()}


def test_paraphraser_learns_to_give_the_maps_back():
    loss = prepared(FT("a", rate=1.0), given())
    optimiser = torch.optim.Adam(loss.auxiliary_parameters(), lr=0.01)
    values = []
    for _ in range(100):
        optimiser.zero_grad()
        value = loss.auxiliary_loss(*given())
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] / 2


def test_every_part_has_weights_of_its_own():
    alike = dict.fromkeys("ab", drawn(4, 4, 2, 2))
    twice = args(alike, alike)
    loss = prepared(FT(("a", "b"), rate=1.0), twice)
    first = [
        part[place].weight[0].flatten().tolist()
        for kind in (loss.encoders, loss.decoders, loss.translators)
        for part in kind
        for place, step in enumerate(part)
        if hasattr(step, "stride")
    ]
    assert len(first) == 18
    assert len(set(map(tuple, first))) == 18
    before = [parameter.clone() for parameter in loss.parameters()]
    loss.prepare(*twice)  # a second time changes nothing
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters(), strict=True))


def test_one_channel_is_left_at_least():
    loss = prepared(FT("a", rate=0.01), given())
    assert loss.encoders[0][-2].weight.shape == (1, 1, 3, 3)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e4])
def test_zero_and_constant_maps_are_finite(constant):
    features, teacher = torch.full((4, 3, 4, 4), constant), {"a": torch.full((4, 5, 2, 2), 0.3)}
    loss = prepared(FT("a"), args({"a": features}, teacher))
    assert_finite(lambda z: loss(*args({"a": z}, teacher)), features)
    assert_finite(lambda z: factor_transfer_loss(z, features), features)


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"factor_transfer_loss: .*student \(2, 3\)"):
        factor_transfer_loss(drawn(2, 3), drawn(2, 3))
    with pytest.raises(ShapeError, match=r"same rows; got .*teacher \(1, 3, 2, 2\)"):
        factor_transfer_loss(drawn(2, 3, 2, 2), drawn(1, 3, 2, 2))
    with pytest.raises(ShapeError, match=r"rows and channels; got .*teacher \(2, 4, 2, 2\)"):
        factor_transfer_loss(drawn(2, 3, 2, 2), drawn(2, 4, 2, 2), per_channel=True)
    with pytest.raises(ArgumentError, match="share"):
        FT(share=1.5)
    with pytest.raises(ArgumentError, match=r"`rate` > 0; got 0\.0"):
        FT(rate=0.0)
    with pytest.raises(ArgumentError, match=r"FT: .*not prepared"):
        FT("a")(*given())
    with pytest.raises(ShapeError, match=r"FT: .*expected maps"):
        FT("a").prepare(*args({"a": drawn(4, 3)}, {"a": drawn(4, 5)}))
    loss = prepared(FT("a"), given())
    other = args({"a": drawn(4, 4, 2, 2)}, {"a": drawn(4, 5, 2, 2)})
    for call in (loss, loss.auxiliary_loss):
        with pytest.raises(ShapeError, match=r"FT: .*expected 3 and 5 channels"):
            call(*other)
