"""Quantised layers against torch's own rounding, plain loops and the formulas of the papers."""

import copy
import subprocess
import sys

import pytest
import torch
from helpers.students import needs_torchao, seeded, small
from torch import nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, LayerError, ModelError, ShapeError
from limbeck.students.binary import BinaryConv2d, binary
from limbeck.students.conversions import CONVERSIONS
from limbeck.students.grids import (
    GRIDS,
    one_bit_weight,
    start_step,
    ternary_weight,
    weight_levels,
)
from limbeck.students.quantised import quantised
from limbeck.students.quantised_layers import FakeQuantisedConv2d, FakeQuantisedLinear
from limbeck.zoo.networks import resnet20


LEVELS = {8: 256, 4: 16, 2: 4, "ternary": 3, 1: 2}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def perceptron() -> nn.Sequential:
    return seeded(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
    )


def test_convolution_by_its_parts():
    layer = FakeQuantisedConv2d(4, 6, (3, 2), stride=2, padding=1, dilation=2, groups=2, bits=2)
    x = random(2, 4, 7, 6)
    found = layer(x)
    low, high = x.min().item(), x.max().item()
    step = (high - low) / 255
    rounded = torch.fake_quantize_per_tensor_affine(x, step, round(-low / step), 0, 255)
    weight = torch.fake_quantize_per_channel_affine(
        layer.weight, layer.step.detach(), torch.zeros(6, dtype=torch.int32), 0, -2, 1
    )
    expected = F.conv2d(rounded, weight, layer.bias, 2, 1, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, F.conv2d(x, weight, layer.bias, 2, 1, 2, 2), atol=1e-4)


@pytest.mark.parametrize("bits", GRIDS)
def test_every_convolution_but_the_first_is_quantised(bits):
    model = seeded(lambda: resnet20(num_classes=10))
    made = quantised(model, bits=bits)
    convolutions = [m for m in made.modules() if isinstance(m, nn.Conv2d)]
    assert [type(m) for m in convolutions] == [nn.Conv2d] + 20 * [FakeQuantisedConv2d]
    assert type(made.classifier) is nn.Linear
    assert not any(isinstance(m, FakeQuantisedConv2d) for m in model.modules())
    before = model.state_dict()
    after = made.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    added = {name.split(".")[-1] for name in set(after) - set(before)}
    assert added == {"low", "high"} | ({"step"} if bits in (8, 4, 2) else set())
    seen = []
    operands = F.conv2d

    def watched(x, weight, *rest):
        seen.append((len(x.unique()), max(len(row.unique()) for row in weight)))
        return operands(x, weight, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "conv2d", watched)
        made(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert len(seen) == 21
    assert seen[0][0] > 256
    assert seen[0][1] == 27
    assert all(inputs <= 256 and weights <= LEVELS[bits] for inputs, weights in seen[1:])


def test_eight_bits_are_close_and_fewer_are_not():
    model, x = small().eval(), random(8, 3, 9, 9)
    apart = []
    for bits in (8, 4, 2):
        made = quantised(model, bits=bits, activation_bits=None)
        apart.append((made(x) - model(x)).abs().max().item())
    assert apart[0] < 0.01 * model(x).abs().max().item()
    assert apart[0] < apart[1] < apart[2]


@needs_torchao
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_linear_layers_of_torchao(bits):
    from torchao.quantization.qat import FakeQuantizedLinear

    model = perceptron()
    made = quantised(model, bits=bits, activation_bits=None)
    assert [type(m) for m in made[::1] if isinstance(m, nn.Linear)] == [
        FakeQuantizedLinear, FakeQuantizedLinear, nn.Linear,
    ]  # fmt: skip
    assert set(made.state_dict()) == set(model.state_dict())
    x = random(5, 6)
    weight = model[0].weight
    scale = weight.detach().abs().amax(1) / ((2**bits - 1) / 2)
    rounded = torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(8, dtype=torch.int32), 0, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    )
    torch.testing.assert_close(made[0](x), F.linear(x, rounded, model[0].bias))
    made(x).square().sum().backward()
    assert all(p.grad is not None for p in made.parameters())
    assert torch.equal(copy.deepcopy(made)(x), made(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made(x).float().sum().backward()
    eight = quantised(model, bits=bits)
    apart = (eight[0](x) - made[0](x)).abs().max().item()
    assert 0 < apart < 0.1


@pytest.mark.parametrize("bits", ["ternary", 1])
def test_linear_layers_of_limbeck(bits):
    model, x = perceptron(), random(5, 6)
    made = quantised(model, bits=bits, activation_bits=None)
    assert [type(m) for m in made if isinstance(m, nn.Linear)] == [
        FakeQuantisedLinear, FakeQuantisedLinear, nn.Linear,
    ]  # fmt: skip
    function = ternary_weight if bits == "ternary" else one_bit_weight
    torch.testing.assert_close(made[0](x), F.linear(x, function(model[0].weight), model[0].bias))
    assert quantised(model, bits=bits)[0].activation is not None


def test_torchao_is_asked_for_by_its_extra(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchao"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torchao.quantization.qat", None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ModelError, match=r"torchao.*8, 4 and 2 bits.*'limbeck\[quant\]'"):
        quantised(perceptron(), bits=4)
    quantised(perceptron(), bits=1)
    quantised(small(), bits=4)  # its only linear layer is the last


def test_plain_weights_load_and_steps_start_anew():
    made = quantised(small(), bits=4)
    other = small()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3.0)
    keys = made.load_state_dict(other.state_dict(), strict=False)
    assert not keys.unexpected_keys
    assert torch.equal(made[3].weight, other[3].weight)
    assert torch.equal(made[3].step, start_step(other[3].weight, bits=4))
    with torch.no_grad():
        made[3].step.mul_(0.5)
    again = quantised(small(), bits=4)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again[3].step, made[3].step)


@pytest.mark.parametrize("bits", GRIDS)
def test_one_step_lowers_the_loss_and_moves_everything(bits):
    model = quantised(small(), bits=bits)
    x, targets = random(16, 3, 8, 8), torch.arange(16) % 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    before = copy.deepcopy(model.state_dict())
    first = F.cross_entropy(model(x), targets)
    first.backward()
    optimiser.step()
    assert F.cross_entropy(model(x), targets).item() < first.item()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all()
        if name.split(".")[-1] in ("weight", "step"):
            assert not torch.equal(parameter, before[name]), name
    assert torch.equal(copy.deepcopy(model).eval()(x), model.eval()(x))


@pytest.mark.parametrize("bits", [4, "ternary"])
def test_narrow_types(bits):
    model, x = quantised(small(), bits=bits), random(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[3](model[0](x)).dtype == torch.bfloat16
        loss = model(x).float().square().sum()
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32
               for p in model.parameters())  # fmt: skip
    layer = FakeQuantisedConv2d(3, 2, 3, bits=bits).bfloat16()
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.effective_weight().dtype == torch.float32
    layer = FakeQuantisedConv2d(3, 2, 3, bits=bits).double()
    assert layer(x.double()).dtype == torch.float64


COMPILED = """
import copy, torch
from limbeck.students.quantised_layers import FakeQuantisedConv2d
for bits in (4, "ternary", 1):
    layer, x = FakeQuantisedConv2d(2, 3, 3, bits=bits), torch.randn(2, 2, 5, 5)
    plain = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    outputs = compiled(x), plain(x)
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert layer.activation.high == plain.activation.high > 0
print("compiled")
"""


def test_compiled():
    """In a process of its own: torch.compile cannot see through the shape hook of the tests."""
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert run.stdout == "compiled\n", run.stderr


def test_per_sample_gradients():
    layer = FakeQuantisedConv2d(2, 3, 2, bits=2).eval()
    x, parameters = random(4, 2, 3, 3), dict(layer.named_parameters())

    def loss(parameters, row):
        return torch.func.functional_call(layer, parameters, (row[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for k in range(4):
        expected = torch.autograd.grad(loss(parameters, x[k]), list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[name][k], gradient)


def test_from_float():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, dilation=2,
                     padding_mode="circular").eval()  # fmt: skip
    layer = FakeQuantisedConv2d.from_float(conv, bits=8, activation_bits=None)
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert (layer.training, layer.padding_mode, layer.activation) == (False, "circular", None)
    assert torch.equal(layer.step, start_step(conv.weight, bits=8))
    x = random(2, 4, 9, 9)
    assert layer(x[0]).shape == conv(x[0]).shape
    torch.testing.assert_close(layer(x), conv(x), atol=0.02, rtol=0)
    assert FakeQuantisedConv2d.from_float(nn.Conv2d(2, 3, 1, bias=False)).bias is None
    narrow = FakeQuantisedConv2d.from_float(nn.Conv2d(2, 3, 1).double())
    assert narrow.step.dtype == torch.float64
    before = torch.get_rng_state()
    quantised(small())
    assert torch.equal(torch.get_rng_state(), before)


def test_keep_shared_and_mixed_layers():
    made = quantised(small(), keep=["4"])
    assert [type(made.get_submodule(n)) for n in ("0", "3", "4.1")] == [
        nn.Conv2d, FakeQuantisedConv2d, nn.Conv2d,
    ]  # fmt: skip
    shared = nn.Conv2d(3, 3, 3)
    twice = quantised(nn.Sequential(nn.Conv2d(3, 3, 3), shared, nn.ReLU(), shared))
    assert isinstance(twice[1], FakeQuantisedConv2d)
    assert twice[1] is twice[3]
    mixed = quantised(binary(small(), keep="4"))
    assert [type(mixed.get_submodule(n)) for n in ("0", "3", "4.1")] == [
        nn.Conv2d, BinaryConv2d, FakeQuantisedConv2d,
    ]  # fmt: skip
    tied = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    tied[2].weight = tied[1].weight
    made = quantised(tied)
    assert made[2].weight is made[1].weight
    kept = quantised(small(), keep="3").train(False)
    assert not any(m.training for m in kept.modules())


def test_a_recipe_can_name_it():
    made = CONVERSIONS["quantised"](resnet20(), bits=2)
    step = made.limbeck_source["convert"][-1]
    assert step == {"name": "quantised", "bits": 2, "activation_bits": 8, "keep": None}


@pytest.mark.usefixtures("without_shape_hook")
def test_arguments():
    for call in (
        lambda: quantised(small(), bits=3),
        lambda: FakeQuantisedConv2d(1, 1, 2, bits=3),
        lambda: FakeQuantisedLinear(2, 2, bits=3),
        lambda: weight_levels(torch.ones(1, 2), None, bits=3),
    ):
        with pytest.raises(ArgumentError, match=r"expected `bits` to be one of 8, 4, 2, .*got 3"):
            call()


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ArgumentError, match=r"expected `bits` to be one of .*got True"):
        quantised(small(), bits=True)
    with pytest.raises(ArgumentError, match=r"quantised: expected `activation_bits` .*got 4"):
        quantised(small(), activation_bits=4)
    with pytest.raises(LayerError, match=r"quantised: .*got 'layr1'.* Did you mean .*layer1"):
        quantised(resnet20(), keep=["layr1"])
    with pytest.raises(LayerError, match=r"quantised: expected a layer to replace .*with 2 in"):
        quantised(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2)))
    with pytest.raises(LayerError, match=r"quantised: .*\['3', '4'\] kept"):
        quantised(small(), keep=["3", "4"])
    depthwise = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 4, 1))
    with pytest.raises(ModelError, match=r"quantised: expected '1' .*\(4, 1, 1, 1\).*`keep`"):
        quantised(depthwise)
    assert isinstance(quantised(depthwise, keep=["1"])[2], FakeQuantisedConv2d)
    with pytest.raises(ShapeError, match="FakeQuantisedConv2d: expected two weights a filter"):
        FakeQuantisedConv2d(4, 4, 1, groups=4)
    encoder = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 2))
    with pytest.raises(
        ModelError, match=r"expected '0.self_attn.out_proj' to be a torch.nn.Linear"
    ):
        quantised(encoder, bits=1)
    with pytest.raises(ModelError, match=r"expected '0.linear1' to be called through its forward"):
        quantised(encoder, bits=1, keep=["0.self_attn"])
    assert "bits='ternary', activation_bits=None" in repr(
        FakeQuantisedLinear(2, 2, activation_bits=None)
    )
    assert "bits=4, activation_bits=8" in repr(quantised(small(), bits=4))
    assert "momentum=0.01" in repr(quantised(small()))
