"""What feature losses share: names of layers, equal sizes, seeded connectors, pairs of networks."""

import math

import pytest
import torch
from helpers.features import args, drawn, prepared
from torch import nn
from torch.nn import functional as F

from limbeck.capture import Capture
from limbeck.checks import ArgumentError, LayerError, ShapeError
from limbeck.losses import AT, CC, CRD, NST, PKT, RKD, SP, VID, FitNet
from limbeck.losses.connectors import (
    Pair,
    layer_names,
    mean_of_samples,
    pairs_of,
    pointwise,
    regressor,
    same_size,
    seeded,
)
from limbeck.losses.whole_batch import all_rows
from limbeck.zoo import networks


EVERY = [FitNet, AT, SP, RKD, PKT, VID, NST, CC, CRD]
SEVERAL = [FitNet, AT, SP, RKD, PKT, VID, NST]
every_loss = pytest.mark.parametrize("kind", EVERY)


def test_names_of_both_sides():
    one = {"student": ("a",), "teacher": ("a",)}
    assert layer_names("AT", "a") == one
    assert layer_names("AT", ["a"]) == one
    two = {"student": ("a", "b"), "teacher": ("c", "d")}
    assert layer_names("AT", {"teacher": ("c", "d"), "student": ["a", "b"]}) == two
    assert layer_names("CC", {"student": "a", "teacher": ("b",)}, one=True)["teacher"] == ("b",)


@pytest.mark.parametrize(
    ("layer", "one", "message"),
    [
        ({"student": "a"}, False, r"AT: .*keys student and teacher; got the keys student\."),
        ({}, False, r"got the keys none\."),
        ([], False, r"at least one; got student none, teacher none\."),
        ({"student": ["a", "b"], "teacher": "c"}, False, r"got student a, b, teacher c\."),
        (["a", "b"], True, r"expected one layer of each side; got student a, b, teacher a, b\."),
    ],
)
def test_names_that_do_not_fit(layer, one, message):
    with pytest.raises(ArgumentError, match=message):
        layer_names("AT", layer, one=one)


@every_loss
def test_a_wrong_layer_is_named_with_what_is_there(kind):
    student, teacher = {"stage1": drawn(3, 2, 4, 4)}, {"stage2": drawn(3, 2, 4, 4)}
    given = args(student, teacher)
    for layer, message in [
        ("stage2", rf"{kind.__name__}: .*'stage2' among the student's features; got stage1\."),
        ("stage1", rf"{kind.__name__}: .*'stage1' among the teacher's features; got stage2\."),
    ]:
        loss = kind(layer)
        with pytest.raises(LayerError, match=message):
            loss.prepare(*given) if hasattr(loss, "prepare") else loss(*given)


@every_loss
def test_one_row_is_finite(kind):
    for shapes in [((1, 3), (1, 5)), ((1, 3, 4, 4), (1, 5, 8, 8))]:
        if kind in (AT, NST) and len(shapes[0]) == 2:
            continue
        student, teacher = (drawn(*shape).float() for shape in shapes)
        student.requires_grad_()
        given = args(student, teacher, layer="here")
        loss = kind("here")
        value = (prepared(loss, given) if hasattr(loss, "prepare") else loss)(*given)
        (gradient,) = torch.autograd.grad(value, student)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((3, 4), (3, 4, 2, 2), r"'a' \(3, 4\), teacher 'a' \(3, 4, 2, 2\)\. Choose layers of one"),
        ((3, 5, 4), (3, 6, 4), r"as many tokens .*\(3, 5, 4\).*\(3, 6, 4\)\. Use models with one"),
        (
            (3, 4),
            (2, 4),
            r"same rows on both sides; got student 'a' \(3, 4\), teacher 'a' \(2, 4\)",
        ),
        ((3, 1, 2, 2, 2), (3, 1, 2, 2, 2), r"expected vectors, token states or maps"),
    ],
)
def test_shapes_that_cannot_be_matched(student, teacher, message):
    given = args({"a": drawn(*student)}, {"a": drawn(*teacher)})
    for loss in (FitNet("a"), VID("a")):
        with pytest.raises(ShapeError, match=rf"{type(loss).__name__}: .*{message}"):
            loss.prepare(*given)
    with pytest.raises(ShapeError, match=rf"NST: .*{message}"):
        NST("a")(*given)


def test_an_attention_mask_of_other_tokens():
    given = args(
        {"a": drawn(2, 3, 4)}, {"a": drawn(2, 3, 4)}, mask=torch.ones(2, 4, dtype=torch.int64)
    )
    with pytest.raises(ShapeError, match=r"AT: .*attention mask \(2, 4\)"):
        AT("a")(*given)


@pytest.mark.parametrize("kind", [FitNet, VID, CC, CRD])
def test_a_loss_that_is_not_prepared_says_so(kind):
    with pytest.raises(ArgumentError, match=rf"{kind.__name__}: .*not prepared. Call `prepare"):
        kind("a")(*args({"a": drawn(2, 3)}, {"a": drawn(2, 3)}))


@pytest.mark.parametrize("kind", [FitNet, VID, CC, CRD])
def test_other_channels_than_the_first_batch_are_refused(kind):
    loss = prepared(kind("a"), args({"a": drawn(4, 3)}, {"a": drawn(4, 5)}))
    with pytest.raises(ShapeError, match=rf"{kind.__name__}: .*Make a new loss for other layers"):
        loss(*args({"a": drawn(4, 2)}, {"a": drawn(4, 5)}))


def test_the_larger_map_is_averaged_over_blocks():
    large, small = drawn(2, 3, 4, 4), drawn(2, 5, 2, 2)
    one, two = same_size(large, small)
    blocks = [[large[:, :, y : y + 2, x : x + 2].mean((2, 3)) for x in (0, 2)] for y in (0, 2)]
    expected = torch.stack([torch.stack(line, 2) for line in blocks], 2)
    torch.testing.assert_close(one, expected, rtol=1e-13, atol=0)
    assert two is small
    assert same_size(small, large)[0] is small
    wide, tall = same_size(drawn(1, 1, 2, 8), drawn(1, 1, 4, 4))
    assert wide.shape == tall.shape == (1, 1, 2, 4)
    assert same_size(large.bfloat16(), small.bfloat16())[0].dtype == torch.float32


def test_tokens_are_not_resized():
    with pytest.raises(ShapeError, match=r"same_size: expected maps .*\(2, 3, 4\).*\(2, 3, 5\)"):
        same_size(drawn(2, 3, 4), drawn(2, 3, 5))


def test_mean_of_samples_leaves_padding_out():
    values, mask = drawn(2, 3, 4), torch.tensor([[True, True, False, False], [True] * 4])
    expected = (values[0, :, :2].mean() + values[1].mean()) / 2
    assert mean_of_samples(values, mask).item() == pytest.approx(expected.item(), rel=1e-13)
    assert mean_of_samples(values).item() == pytest.approx(values.mean().item(), rel=1e-13)
    mask[0] = False
    nothing = mean_of_samples(values, mask).item()
    assert nothing == pytest.approx(values[1].mean().item() / 2, rel=1e-13)


def test_padded_tokens_are_zeros_even_where_a_model_left_nan():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 5)
    student[0, 2] = math.nan
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    given = args({"a": student}, {"a": teacher}, mask=mask)
    (pair,) = pairs_of("AT", layer_names("AT", "a"), *given)
    assert pair.student.shape == (2, 4, 3)
    assert (pair.student[0, :, 2] == 0).all()
    torch.testing.assert_close(pair.student[1], student[1].T)
    for loss in (AT("a"), NST("a"), prepared(VID("a"), given), prepared(FitNet("a"), given)):
        assert loss(*given).isfinite()


@pytest.mark.parametrize("kind", [AT, NST, VID, FitNet])
def test_more_padding_changes_nothing(kind):
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 5, seed=1)
    longer = [
        torch.cat([one, drawn(2, 2, one.shape[2], seed=2)], dim=1) for one in (student, teacher)
    ]
    ones = torch.ones(2, 3, dtype=torch.int64)
    short = args({"a": student}, {"a": teacher}, mask=ones)
    padded = args({"a": longer[0]}, {"a": longer[1]}, mask=F.pad(ones, (0, 2)))
    loss = kind("a")
    if hasattr(loss, "prepare"):
        loss.prepare(*short)
    assert loss(*padded).item() == pytest.approx(loss(*short).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("build", "fan", "shape"),
    [
        (lambda seed: seeded(nn.Linear, 90, 70, like=torch.zeros(2), key=(seed,)), 90, (70, 90)),
        (
            lambda seed: seeded(nn.Conv2d, 9, 30, 3, 2, 1, like=torch.zeros(2), key=(seed,)),
            81,
            (30, 9, 3, 3),
        ),
        (
            lambda seed: seeded(
                nn.ConvTranspose2d, 30, 5, 4, 2, 1, like=torch.zeros(2), key=(seed,)
            ),
            80,
            (30, 5, 4, 4),
        ),
        (lambda seed: pointwise(60, 50, torch.zeros(2, 60, 3), seed), 60, (50, 60, 1)),
    ],
)
def test_weights_are_distributed_as_pytorchs_and_leave_the_global_generator_alone(
    build, fan, shape
):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, again, other = build(0), build(0), build(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.weight.shape == shape
    bound = 1 / math.sqrt(fan)
    for parameter in (one.weight, one.bias):
        assert parameter.requires_grad
        assert parameter.abs().max().item() <= bound
    # Uniform: the mean of n is 0 within 4 standard errors of bound / sqrt(3 n).
    assert one.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
    assert one.weight.mean().abs().item() < 4 * bound / math.sqrt(3 * one.weight.numel())
    assert one.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_connectors_are_float32_at_least():
    for kind, expected in [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)]:
        assert pointwise(2, 3, torch.zeros(1, 2, dtype=kind), 0).weight.dtype == expected


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel"),
    [
        ((8, 8), (8, 8), nn.Conv2d, (1, 1)),
        ((16, 16), (8, 8), nn.Conv2d, (3, 3)),
        ((4, 4), (8, 8), nn.ConvTranspose2d, (4, 4)),
        ((10, 9), (8, 8), nn.Conv2d, (3, 2)),
        ((32, 32), (8, 8), nn.Conv2d, (1, 1)),
        ((3, 3), (8, 8), nn.Conv2d, (1, 1)),
    ],
)
def test_regressors_reach_the_teachers_shape(student, teacher, kind, kernel):
    pair = Pair("FitNet", drawn(2, 3, *student), drawn(2, 5, *teacher), None)
    made = regressor(pair, 0)
    assert type(made) is kind
    assert made.kernel_size == kernel
    assert made.bias is None
    one, two = same_size(made(pair.student), pair.teacher)
    assert one.shape == two.shape


def test_one_process_has_all_rows():
    rows = drawn(3, 2)
    assert all_rows(rows) is rows
    assert all_rows(rows, across_ranks=False) is rows


NETWORKS = {
    "wrn_40_2 to wrn_16_1": (
        networks.wrn_16_1,
        networks.wrn_40_2,
        {"student": ("stage1", "stage2", "stage3"), "teacher": ("stage1", "stage2", "stage3")},
    ),
    "resnet32x4 to vgg8": (
        networks.vgg8,
        networks.resnet32x4,
        {"student": ("stem", "stage2", "stage4"), "teacher": ("layer1", "layer2", "layer3")},
    ),
    "vgg8 to resnet20": (
        networks.resnet20,
        networks.vgg8,
        {"student": ("layer1", "layer2", "layer3"), "teacher": ("stage1", "stage2", "stage3")},
    ),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def two_networks(request):
    smaller, larger, layers = NETWORKS[request.param]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    said = []
    for side, build in (("student", smaller), ("teacher", larger)):
        with Capture(build(), layers[side], example=images) as capture, torch.no_grad():
            said.append(capture(images))
    return layers, said


@pytest.mark.parametrize("kind", SEVERAL)
def test_networks_of_unlike_width_and_size(kind, two_networks):
    layers, (student, teacher) = two_networks
    mine = {layer: values.requires_grad_() for layer, values in student.features.items()}
    loss, given = kind(layers), args(mine, teacher.features)
    if hasattr(loss, "prepare"):
        loss.prepare(*given)
    value = loss(*given)
    found = torch.autograd.grad(value, [mine[layer] for layer in layers["student"]])
    assert value.isfinite()
    for gradient in found:
        assert gradient.isfinite().all()
        assert (gradient != 0).any()
