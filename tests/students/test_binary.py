"""Binary layers against golden values, plain loops and the formula of their gradients."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, LayerError, ModelError, ShapeError
from limbeck.students import (
    BinaryConv2d,
    PackedWeight,
    binarised,
    binary,
    binary_activation,
    packed_bits,
    rectified,
    set_tau,
    size_table,
    tau,
    unpacked,
)
from limbeck.zoo.networks import resnet20


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Sequential(nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 3),
        )


def test_golden_values_of_the_rectified_clamp():
    """Section 8.3 of the reference: one layer with one filter."""
    weight = torch.tensor([[0.3, -0.1, 0.05, -0.6, 0.2, 0.4]], dtype=torch.float64)
    expected = [2.023215966913, -1.109505530242, 0.065265031191]
    expected += [-2.462089442316, 1.240035592624, 2.462089442316]
    assert rectified(weight, 0.85)[0].tolist() == pytest.approx(expected, abs=1e-11)
    unclamped = rectified(weight, 0.99)  # no weight lies as far out as 8
    assert unclamped.abs().mean().item() == pytest.approx(2.044970977309, rel=1e-12)


def test_golden_limits():
    """Q where weights reach it; at 0.99 none does, and one far out in another layer shows Q / E."""
    weight = torch.tensor([[0.3, -0.1, 0.05, -0.6, 0.2, 0.4]], dtype=torch.float64)
    for value, limit in ((0.85, 2.462089442316), (0.9, 3.291253820709)):
        assert rectified(weight, value).abs().max().item() == pytest.approx(limit, rel=1e-11)
    wide = torch.zeros(2, 400, dtype=torch.float64)
    wide[:, 0] = 1.0  # mean and unbiased variance are both 1 / 400
    magnitude = 2 * math.sqrt(2) / math.sqrt(1 / 400 + 1e-5) * 2 * (1 / 400) * (399 / 400)
    found = rectified(wide, 0.99).max().item()
    assert found / magnitude == pytest.approx(7.999973508667 / 2.044970977309, rel=1e-11)


def test_rectified_by_plain_loops():
    weight = random(3, 2, 2, 3) * torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1, 1) + 0.3
    scaled = []
    for row in weight.flatten(1).tolist():
        mean = sum(row) / len(row)
        variance = sum((w - mean) ** 2 for w in row) / (len(row) - 1)
        scaled.append([(w - mean) * 2 * math.sqrt(2) / math.sqrt(variance + 1e-5) for w in row])
    everything = [abs(w) for row in scaled for w in row]
    limit = -sum(everything) / len(everything) * math.log(2 - 2 * 0.87)
    expected = [[min(max(w, -limit), limit) for w in row] for row in scaled]
    found = rectified(weight, 0.87)
    assert found.shape == weight.shape
    torch.testing.assert_close(
        found.flatten(1), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13
    )
    assert max(everything) > limit  # the clamp was at work


def test_golden_tau_schedule():
    found = [tau(epoch, 600) for epoch in (0, 150, 300, 450, 600)]
    expected = [0.85, 0.873141464734, 0.902855693632, 0.941009518774, 0.99]
    assert found == pytest.approx(expected, abs=1e-12)
    assert tau(5, 10, start=0.6, end=0.6) == 0.6


@pytest.mark.parametrize("sign", [binarised, binary_activation])
def test_signs(sign):
    found = sign(torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0, math.nan]))
    assert found[:-1].tolist() == [-1, -1, 1, 1, 1, 1]
    assert found[-1].isnan()
    assert sign(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gradients_by_their_formula():
    x = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64, requires_grad=True)
    weights = random(13)
    (through,) = torch.autograd.grad((binarised(x) * weights).sum(), x)
    assert torch.equal(through, weights)
    (found,) = torch.autograd.grad((binary_activation(x) * weights).sum(), x)
    expected = [max(0.0, 2 - 2 * abs(v)) * w for v, w in zip(x.tolist(), weights, strict=True)]
    torch.testing.assert_close(found, torch.stack([torch.as_tensor(v) for v in expected]).double())


def test_the_surrogate_is_the_derivative_of_the_polynomial():
    def polynomial(x):
        inner = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
        return torch.where(x.abs() < 1, inner, torch.sign(x))

    x = torch.tensor([-1.7, -0.9, -0.3, 0.2, 0.6, 1.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(polynomial, x)
    theirs = torch.autograd.grad(polynomial(x).sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(binary_activation(x).sum(), x)[0], theirs)


def test_gradients_for_each_sample():
    x = random(4, 3)
    found = torch.func.vmap(torch.func.grad(lambda row: binary_activation(row).sum()))(x)
    torch.testing.assert_close(found, (2 - 2 * x.abs()).clamp(min=0))


@pytest.mark.parametrize("training", [True, False])
def test_convolution_by_plain_loops(training):
    stride, padding, dilation, groups = 2, 1, 2, 2
    layer = BinaryConv2d(
        4, 6, (3, 2), stride=stride, padding=padding, dilation=dilation, groups=groups,
        threshold=0.2, dtype=torch.float64,
    ).train(training)  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(random(6, 2, 3, 2, seed=1))
        layer.scale.copy_(random(6, 1, 1, seed=2))
        layer.bias.copy_(random(6, seed=3))
    x = random(2, 4, 7, 6, seed=4)
    x[0, 0, 0, 0] = 0.2  # on the threshold: +1
    found = layer(x)
    for index in np.ndindex(*found.shape):
        n, c, i, j = index
        filter_ = layer.weight[c]
        total = 0.0
        for d, a, b in np.ndindex(2, 3, 2):
            y, z = i * stride - padding + a * dilation, j * stride - padding + b * dilation
            if 0 <= y < 7 and 0 <= z < 6:
                bit = 1 if x[n, d + 2 * (c // 3), y, z] >= 0.2 else -1
                total += bit * (1 if filter_[d, a, b] >= filter_.mean() else -1)
        expected = total * layer.scale[c].item() + layer.bias[c].item()
        assert found[index].item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_in_training_gradients_see_scaled_activations():
    layer = BinaryConv2d(2, 3, 2, bias=False, dtype=torch.float64)
    x = (3 * random(2, 2, 4, 4)).requires_grad_()
    (found,) = torch.autograd.grad(layer(x).square().sum(), x)
    variance = x.flatten(1).var(1)[:, None, None, None]
    bits = binary_activation(x / (variance + 1e-5).sqrt())
    maps = F.conv2d(bits, layer.effective_weight())
    torch.testing.assert_close(found, torch.autograd.grad(maps.square().sum(), x)[0])
    torch.testing.assert_close(layer(x), layer.eval()(x))


def test_two_values_a_filter():
    layer = BinaryConv2d(3, 5, 3)
    for weight, scale in zip(layer.effective_weight(), layer.scale.flatten(), strict=True):
        assert sorted(set(weight.flatten().tolist())) == [-scale.item(), scale.item()]


def test_from_float():
    conv = nn.Conv2d(
        4, 6, 3, stride=2, padding="valid", groups=2, dilation=2, padding_mode="circular",
        dtype=torch.float64,
    ).eval()  # fmt: skip
    layer = BinaryConv2d.from_float(conv, tau=0.9)
    assert torch.equal(layer.weight, conv.weight)
    assert torch.equal(layer.bias, conv.bias)
    assert layer.weight is not conv.weight
    assert (layer.tau, layer.training, layer.padding_mode) == (0.9, False, "circular")
    centred = conv.weight[1] - conv.weight[1].mean()
    assert layer.scale[1].item() == pytest.approx(centred.abs().mean().item(), rel=1e-12)
    x = random(2, 4, 9, 9)
    assert layer(x).shape == conv(x).shape
    assert layer(x[0]).shape == conv(x[0]).shape
    assert BinaryConv2d.from_float(nn.Conv2d(2, 3, 1, bias=False)).bias is None
    frozen = BinaryConv2d.from_float(conv.requires_grad_(False))
    learnt = [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
    assert learnt == ["scale", "threshold"]


def test_conversion_leaves_the_random_state_alone():
    model = small()
    before = torch.get_rng_state()
    binary(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_tau_shapes_gradients_alone():
    layer, x = BinaryConv2d(2, 2, 3, dtype=torch.float64), random(1, 2, 5, 5)
    with torch.no_grad():
        layer.weight.copy_(random(2, 2, 3, 3, seed=1))
    maps, gradients = [], []
    for value in (0.6, 0.95):
        set_tau(layer, value)
        maps.append(layer(x))
        gradients += torch.autograd.grad(maps[-1].square().sum(), layer.weight)
    assert torch.equal(*maps)
    assert not torch.allclose(*gradients)


def test_resnet20():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet20(num_classes=10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = binary(model)
    convolutions = [(n, m) for n, m in made.named_modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 21
    assert [type(m) for _, m in convolutions] == [nn.Conv2d] + 20 * [BinaryConv2d]
    assert convolutions[0][0].startswith("stem")
    assert type(made.classifier) is nn.Linear
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items()
               if name in before)  # fmt: skip
    assert not any(isinstance(m, BinaryConv2d) for m in model.modules())
    assert "convert" not in model.limbeck_source
    assert made.limbeck_source == model.limbeck_source | {
        "convert": [{"name": "binary", "keep": None, "threshold": 0.5}]
    }
    seen = []
    for _, layer in convolutions[1:]:
        layer.register_forward_hook(
            lambda m, x, y: seen.append((x[0] >= m.threshold).float().mean().item())
        )
    assert made(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))).shape == (
        4, 10,
    )  # fmt: skip
    assert len(seen) == 20
    assert all(0.02 < share < 0.98 for share in seen)  # no sign is the same everywhere


def test_keep_and_shared_layers():
    made = binary(small(), keep=["5"])
    assert [type(made.get_submodule(n)) for n in ("0", "3", "5.1")] == [
        nn.Conv2d, BinaryConv2d, nn.Conv2d,
    ]  # fmt: skip
    shared = nn.Conv2d(3, 3, 3)
    twice = binary(nn.Sequential(nn.Conv2d(3, 3, 3), shared, nn.ReLU(), shared))
    assert isinstance(twice[1], BinaryConv2d)
    assert twice[1] is twice[3]
    again = binary(nn.Sequential(nn.Conv2d(3, 3, 3), twice, nn.Conv2d(3, 3, 3)), keep="1")
    assert isinstance(again[2], BinaryConv2d)


def test_one_step_lowers_the_loss_and_moves_everything():
    model = binary(small(), threshold=0.3)
    x, targets = random(16, 3, 8, 8, dtype=torch.float32), torch.arange(16) % 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    before = copy.deepcopy(model.state_dict())
    first = F.cross_entropy(model(x), targets)
    first.backward()
    optimiser.step()
    assert F.cross_entropy(model(x), targets).item() < first.item()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all()
        if name.split(".")[-1] in ("weight", "scale", "threshold"):
            assert not torch.equal(parameter, before[name]), name


def test_state_dict_and_deepcopy():
    model = binary(small()).eval()
    other = binary(small()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.ones_like(parameter).cumsum(0))
    x = random(2, 3, 8, 8, dtype=torch.float32)
    assert not torch.equal(model(x), other(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x), other(x))
    assert torch.equal(model(x), copy.deepcopy(model)(x))


def test_narrow_types():
    model, x = binary(small()), random(2, 3, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[3](model[0](x)).dtype == torch.bfloat16
        loss = model(x).float().square().sum()
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32
               for p in model.parameters())  # fmt: skip
    layer = BinaryConv2d(3, 2, 3).bfloat16()
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert rectified(layer.weight).dtype == torch.float32


def test_constant_filters_and_single_activations_are_finite():
    layer = BinaryConv2d(1, 2, (1, 2), padding=(0, 1))
    with torch.no_grad():
        layer.weight.fill_(0.7)
    x = torch.zeros(2, 1, 1, 1, requires_grad=True)
    layer(x).sum().backward()
    assert layer.signs().min().item() == 1
    assert x.grad.isfinite().all()
    assert layer.weight.grad.isfinite().all()


def test_parity_after_packing():
    model = binary(small())
    with torch.no_grad():
        model[3].weight[0].fill_(0.5)  # centred weights of zero are packed as +1
    packed = packed_bits(model)
    assert list(packed) == ["3", "5.1"]
    for name, weight in unpacked(packed).items():
        assert torch.equal(weight, model.get_submodule(name).effective_weight())
    signs = model[5][1].signs().flatten().tolist()
    signs += [-1] * (-len(signs) % 8)
    for k, byte in enumerate(packed["5.1"].bits.tolist()):
        assert byte == sum(2 ** (7 - i) * (signs[8 * k + i] > 0) for i in range(8))
    assert packed["5.1"].bits.dtype == torch.uint8
    x = random(2, 6, 5, 5, dtype=torch.float32)
    bits = binary_activation(x - model[5][1].threshold)
    plain = F.conv2d(bits, unpacked(packed)["5.1"])
    torch.testing.assert_close(model[5][1].eval()(x), plain)


def test_sizes():
    rows = {row.layer: (row.float_bytes, row.packed_bytes) for row in size_table(binary(small()))}
    assert rows["0"] == (4 * (108 + 4),) * 2
    assert rows["3"] == (4 * (216 + 6), 27 + 4 * (6 + 4 + 6))
    assert rows["5.1"] == (4 * 270, 34 + 4 * (5 + 6))
    assert rows["8"] == (4 * 18,) * 2
    plain = sum(4 * p.numel() for p in small().parameters())
    assert sum(row.float_bytes for row in size_table(binary(small()))) == plain


def test_set_tau():
    model = binary(small())
    set_tau(model, 0.95)
    assert [m.tau for m in model.modules() if isinstance(m, BinaryConv2d)] == [0.95, 0.95]
    with pytest.raises(LayerError, match=r"set_tau: expected a model with binary .*Sequential"):
        set_tau(small(), 0.95)


@pytest.mark.parametrize("wrong", [0.5, 1.0, math.nan])
def test_tau_out_of_range(wrong):
    for call in (
        lambda: rectified(torch.ones(1, 2), wrong),
        lambda: BinaryConv2d(1, 1, 2, tau=wrong),
        lambda: set_tau(binary(small()), wrong),
        lambda: tau(0, 1, start=wrong),
        lambda: tau(0, 1, end=wrong),
    ):
        with pytest.raises(ArgumentError, match=r"expected `\w+` in \(0\.5, 1\); got"):
            call()
    for epoch, epochs in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(ArgumentError, match="tau: expected 0 <= `epoch` <= `epochs`"):
            tau(epoch, epochs)


def test_messages():
    with pytest.raises(LayerError, match=r"binary: .*got 'layr1'.* Did you mean .*layer1"):
        binary(resnet20(), keep=["layr1"])
    with pytest.raises(LayerError, match="binary: expected a convolution to replace"):
        binary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2)))
    with pytest.raises(LayerError, match=r"binary: .*and \['3', '5'\] kept"):
        binary(small(), keep=["3", "5"])
    with pytest.raises(LayerError, match=r"binary: .*Linear with 0"):
        binary(nn.Linear(2, 2))
    depthwise = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 4, 1))
    with pytest.raises(ModelError, match=r"binary: expected '1' .*\(4, 1, 1, 1\).*`keep`"):
        binary(depthwise)
    assert isinstance(binary(depthwise, keep=["1"])[2], BinaryConv2d)
    with pytest.raises(ShapeError, match="BinaryConv2d: expected two weights a filter"):
        BinaryConv2d(4, 4, 1, groups=4)
    with pytest.raises(ShapeError, match=r"rectified: expected two weights .*got \(3, 1\)"):
        rectified(torch.ones(3, 1))
    with pytest.raises(ArgumentError, match="BinaryConv2d: expected finite `threshold`; got inf"):
        binary(small(), threshold=math.inf)
    with pytest.raises(LayerError, match="packed_bits: expected a model with binary"):
        packed_bits(small())
    short = PackedWeight(torch.zeros(1, dtype=torch.uint8), torch.ones(2), (2, 1, 3, 3))
    with pytest.raises(ShapeError, match=r"unpacked: .*3 bytes and 2 scales; got 1 and 2"):
        unpacked({"conv": short})


def test_other_classes_of_convolution_are_refused():
    class Padded(nn.Conv2d):
        pass

    with pytest.raises(ModelError, match=r"binary: expected '1' .*got Padded"):
        binary(nn.Sequential(nn.Conv2d(1, 2, 3), Padded(2, 2, 3)))
