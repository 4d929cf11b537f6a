"""The published binary networks against their layers written out, and counts by closed form."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import limbeck as lb
from limbeck.capture import Capture
from limbeck.checks import ArgumentError, ModelError
from limbeck.students import BINARY_NETWORKS, BinaryConv2d, binary_resnet18, binary_resnet20
from limbeck.training.building import build
from limbeck.training.saving import save_model


WIDTHS = {"resnet20": ((16, 32, 64), 3), "resnet18": ((64, 128, 256, 512), 2)}


def seeded(builder, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return builder(**kwargs)


def pictures(count=4, channels=3, size=32):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (7, 1)])
def test_parameters_by_closed_form(name, classes, channels):
    widths, blocks = WIDTHS[name]
    chain = [widths[0]] + [width for width in widths for _ in range(2 * blocks)]
    pairs = list(itertools.pairwise(chain))
    learnt = 9 * channels * widths[0] + 2 * widths[0]  # stem
    learnt += sum(9 * a * b + b + 2 * b for a, b in pairs)  # weights, scales, batch norm
    learnt += 2 * widths[-1] + widths[-1] * classes + classes
    resting = sum(a for a, _ in pairs)  # thresholds
    normalisation = ([0.5] * channels, [0.5] * channels)
    options = {"num_classes": classes, "channels": channels, "normalisation": normalisation}
    with torch.device("meta"):
        network = BINARY_NETWORKS[name](**options)
        free = BINARY_NETWORKS[name](**options, thresholds=True)
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (network, free)]
    assert counts == [learnt, learnt + resting]
    assert sum(p.numel() for p in network.parameters()) == learnt + resting
    if (name, classes) == ("resnet20", 10):
        assert (learnt, resting) == (270_522, 624)
    if (name, classes) == ("resnet18", 10):
        assert (learnt, resting) == (11_005_002, 3_392)


class Plain:
    """The networks of section 4.5 layer by layer, from a state dict."""

    def __init__(self, state, name, training):
        self.state, self.deep, self.training = state, name == "resnet20", training
        self.widths, self.blocks = WIDTHS[name]

    def norm(self, x, at):
        axes = [axis for axis in range(x.ndim) if axis != 1]
        mean, var = self.state[f"{at}.running_mean"], self.state[f"{at}.running_var"]
        if self.training:
            mean, var = x.mean(axes), x.var(axes, correction=0)
        factor = self.state[f"{at}.weight"] / (var + 1e-5).sqrt()
        shape = [1, -1] + [1] * (x.ndim - 2)
        return (x - mean.view(shape)) * factor.view(shape) + self.state[f"{at}.bias"].view(shape)

    def one_bit(self, x, at, stride):
        weight = self.state[f"{at}.weight"]
        rows = weight.flatten(1).tolist()
        means = [sum(row) / len(row) for row in rows]
        pairs = zip(rows, means, strict=True)
        signs = [[1.0 if w >= mean else -1.0 for w in row] for row, mean in pairs]
        bits = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
        maps = F.conv2d(bits, torch.tensor(signs, dtype=x.dtype).view_as(weight), None, stride, 1)
        return maps * self.state[f"{at}.scale"]

    def shortcut(self, x, width, stride):
        if stride == 1:
            return x
        batch, before, height, side = x.shape
        found = torch.zeros(batch, width, height // 2, side // 2, dtype=x.dtype)
        for i, j in itertools.product(range(height // 2), range(side // 2)):
            four = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            found[:, width // 4 : width // 4 + before, i, j] = four.sum((2, 3)) / 4
        return found

    def block(self, x, at, width, stride):
        first = self.norm(self.one_bit(x, f"{at}.conv1", stride), f"{at}.bn1")
        beside = self.shortcut(x, width, stride)
        u = (first + beside if self.deep else first).clamp(-1, 1)
        second = self.norm(self.one_bit(u, f"{at}.conv2", 1), f"{at}.bn2")
        return (second + (u if self.deep else beside)).clamp(-1, 1)

    def __call__(self, images):
        state = self.state
        x = (images - state["normalise.mean"]) / state["normalise.std"]
        x = self.norm(F.conv2d(x, state["stem.conv.weight"], None, 1, 1), "stem.norm")
        if self.deep:
            x = x.clamp(-1, 1)
        for k, width in enumerate(self.widths, 1):
            for b in range(self.blocks):
                x = self.block(x, f"layer{k}.{b}", width, 2 if k > 1 and b == 0 else 1)
        feature = self.norm(x.mean((2, 3)), "norm")
        return feature, feature @ state["classifier.weight"].T + state["classifier.bias"]


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("training", [False, True])
def test_forward_by_its_layers(name, training):
    network = seeded(BINARY_NETWORKS[name], num_classes=5).double()
    generator = torch.Generator().manual_seed(2)
    for part in network.modules():  # away from the start, where batch norm does nothing
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (part.weight, part.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (part.bias, part.running_mean):
                tensor.data.normal_(0.0, 0.2, generator=generator)
    images = pictures(3, size=16).double()
    network.train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    with Capture(network, ["penultimate"], example=images) as capture, torch.no_grad():
        found = capture(images)
    feature, logits = Plain(state, name, training)(images)
    torch.testing.assert_close(found.logits, logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.features["penultimate"], feature, rtol=1e-9, atol=1e-9)


def test_shapes_and_ranges():
    layers = ["stem", "layer1", "layer2", "layer3", "norm"]
    for network, widths in ((binary_resnet20, (16, 16, 32, 64)), (binary_resnet18, (64, 64, 128))):
        with Capture(seeded(network), layers) as capture, torch.no_grad():
            features = capture(pictures(2)).features
        sides = (32, 32, 16, 8)
        for layer, width, side in zip(layers, widths, sides, strict=False):
            assert features[layer].shape == (2, width, side, side)
            if layer != "stem" or network is binary_resnet20:
                assert features[layer].abs().max() <= 1
    assert features["stem"].abs().max() > 1  # ResNet-18 has no activation after the stem


def test_start_values():
    network = seeded(binary_resnet18)
    for at, inputs in (("stem.conv", 3), ("layer2.0.conv1", 64), ("layer4.1.conv2", 512)):
        weight = network.get_submodule(at).weight
        spread = 3 / math.sqrt(2 * weight.numel())
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * inputs)), rel=spread)
    layers = [part for part in network.modules() if isinstance(part, BinaryConv2d)]
    scales = torch.cat([layer.scale.flatten() for layer in layers])
    assert 0 <= scales.min() < 0.01
    assert 0.99 < scales.max() < 1
    assert scales.mean().item() == pytest.approx(0.5, abs=3 * math.sqrt(1 / 12 / len(scales)))
    assert all((layer.threshold == 0).all() for layer in layers)
    assert {layer.tau for layer in layers} == {0.85}


@pytest.mark.parametrize("name", WIDTHS)
def test_by_name_saved_and_loaded(tmp_path, name):
    first, again, other = (build(f"binary:{name}", seed=seed, num_classes=4) for seed in (1, 1, 2))
    weights = [model.layer1[0].conv1.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    direct = seeded(BINARY_NETWORKS[name], channels=1, normalisation=None, thresholds=True)
    for model, channels in ((first, 3), (direct, 1)):
        save_model(model, tmp_path / str(channels))
        loaded = lb.load(tmp_path / str(channels))
        images = pictures(2, channels)
        assert torch.equal(model.eval()(images), loaded(images))
        assert loaded.layer1[0].conv1.threshold.requires_grad == (channels == 1)
    assert torch.equal(direct.normalise(images), images)


def test_messages(without_shape_hook):
    with pytest.raises(ModelError, match=r"binary:resnet21: .*resnet18, resnet20\. Did you mean"):
        build("binary:resnet21")
    for wrong, channels in (("cifar10", 3), (((0.5,), (0.5,)), 3), (((0.5,), (0.5, 0.5)), 1)):
        with pytest.raises(ArgumentError, match=rf"binary:resnet20: .*of {channels} channels each"):
            binary_resnet20(normalisation=wrong, channels=channels)
    with pytest.raises(ArgumentError, match="binary:resnet18: expected `std` > 0; got 0"):
        binary_resnet18(normalisation=((0.5,), (0.0,)), channels=1)
    with pytest.raises(ModelError, match="binary:resnet20: could not be built with depht=3"):
        build("binary:resnet20", depht=3)


def coloured(count=48):
    """Give images whose class is their brightest channel, and a teacher that sees it."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 3
    images = 0.5 * torch.rand(count, 3, 16, 16, generator=generator)
    images[torch.arange(count), targets] += 0.3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide, head = nn.Linear(3, 12), nn.Linear(12, 3)
    with torch.no_grad():
        wide.weight[:3], head.weight[:, :3] = torch.eye(3), 20 * torch.eye(3)
        wide.bias.zero_(), head.weight[:, 3:].zero_(), head.bias.zero_()
    return images, targets, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), wide, head)


def test_distilled_by_itrd():
    images, targets, teacher = coloured()
    student = seeded(binary_resnet20, num_classes=3)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    options = {"epochs": 1, "batch_size": 12, "learning_rate": 0.05, "schedule": "constant"}
    told = [
        lb.distill(
            student,
            teacher,
            (images, targets),
            loss="itrd",
            device="cpu",
            progress=False,
            **options,
        ).record.curves
        for _ in range(2)
    ]
    for term in ("loss task", "loss distillation", "loss total"):
        assert told[1][term][0] < told[0][term][0]
    after = student.state_dict()
    still = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert all(name.startswith("normalise") or name.endswith("threshold") for name in still)
    assert len(still) == 2 + 18
