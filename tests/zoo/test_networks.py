"""The zoo's networks against the literature's table, plain re-statements and published weights."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image
from torch import nn

import limbeck.zoo.networks as zoo
from limbeck.checks import ArgumentError, ShapeError
from limbeck.zoo.networks.blocks import channel_shuffle
from limbeck.zoo.networks.mobilenet import InvertedResidual
from limbeck.zoo.networks.resnet import BasicBlock, PadShortcut
from limbeck.zoo.networks.resnet50 import Bottleneck
from limbeck.zoo.networks.shufflenet_v1 import ShuffleUnit
from limbeck.zoo.networks.shufflenet_v2 import DownUnit, SplitUnit
from limbeck.zoo.networks.wide_resnet import PreActivationBlock


# CRD set-up (arXiv:1910.10699), 100 classes
PARAMETERS = {
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet50_32px": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_16_8": 11_007_540,
    "wrn_28_10": 36_536_884,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "mobilenetv2_half": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}

NARROW = {"stem": (16, 32), "layer1": (16, 32), "layer2": (32, 16), "layer3": (64, 8)}
WIDE = {"stem": (32, 32), "layer1": (64, 32), "layer2": (128, 16), "layer3": (256, 8)}
VGG = {
    "stem": (64, 32),
    "stage1": (128, 16),
    "stage2": (256, 8),
    "stage3": (512, 4),
    "stage4": (512, 4),
}


def wrn_maps(factor):
    return {
        "stem": (16, 32),
        "stage1": (16 * factor, 32),
        "stage2": (32 * factor, 16),
        "stage3": (64 * factor, 8),
    }


# channels and side of each stage's map at 32 pixels
MAPS = {
    "resnet20": NARROW,
    "resnet32": NARROW,
    "resnet44": NARROW,
    "resnet56": NARROW,
    "resnet110": NARROW,
    "resnet8x4": WIDE,
    "resnet32x4": WIDE,
    "resnet50_32px": {
        "stem": (64, 32),
        "layer1": (256, 32),
        "layer2": (512, 16),
        "layer3": (1024, 8),
        "layer4": (2048, 4),
    },
    "wrn_16_1": wrn_maps(1),
    "wrn_16_2": wrn_maps(2),
    "wrn_16_8": wrn_maps(8),
    "wrn_28_10": wrn_maps(10),
    "wrn_40_1": wrn_maps(1),
    "wrn_40_2": wrn_maps(2),
    "vgg8": VGG,
    "vgg13": VGG,
    "mobilenetv2_half": {
        "stem": (16, 16),
        "stage1": (12, 16),
        "stage2": (16, 8),
        "stage3": (48, 4),
        "stage4": (160, 2),
    },
    "shufflenetv1": {"stem": (24, 32), "stage1": (240, 16), "stage2": (480, 8), "stage3": (960, 4)},
    "shufflenetv2": {"stem": (24, 32), "stage1": (116, 16), "stage2": (232, 8), "stage3": (464, 4)},
}
PENULTIMATE = {
    **{name: maps[list(maps)[-1]][0] for name, maps in MAPS.items()},
    "mobilenetv2_half": 1280,
    "shufflenetv2": 1024,
}
SIGNED = {name: list(maps) for name, maps in MAPS.items() if name.startswith("wrn")}
SIGNED["mobilenetv2_half"] = ["stage1", "stage2", "stage3", "stage4"]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def without_shape_checks():
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def on_meta(build, **kwargs):
    """Build without memory or start values: enough for shapes, names and counts."""
    with torch.device("meta"):
        return build(**kwargs)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def hooked(network, images, names):
    """Return the outputs of the named layers and the classifier's input, kept by reference."""
    seen = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
        )
    network.classifier.register_forward_hook(
        lambda _module, inputs, _output: seen.__setitem__("penultimate", inputs[0])
    )
    seen["logits"] = network(images)
    return seen


def test_parameter_table_names_every_network_of_the_literature():
    assert set(PARAMETERS) == set(MAPS) == set(zoo.NETWORKS) - {"small_cnn", "mlp"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_the_literatures(name):
    assert count(on_meta(getattr(zoo, name))) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (zoo.resnet20, 269_722),
        (zoo.resnet32, 464_154),
        (zoo.resnet44, 658_586),
        (zoo.resnet56, 853_018),
    ],
)
def test_parameter_count_with_padding_shortcuts(build, expected):
    assert count(on_meta(build, num_classes=10, shortcut="pad")) == expected


@pytest.mark.parametrize("name", MAPS)
def test_stages_have_the_literatures_shapes(name):
    network = on_meta(zoo.NETWORKS[name])
    seen = hooked(network, torch.rand(2, 3, 32, 32, device="meta"), MAPS[name])
    for layer, (channels, side) in MAPS[name].items():
        assert seen[layer].shape == (2, channels, side, side), layer
    assert seen["penultimate"].shape == (2, PENULTIMATE[name])
    assert seen["logits"].shape == (2, 100)


@pytest.mark.parametrize("name", sorted(set(MAPS) - {"wrn_28_10", "wrn_16_8", "resnet110"}))
def test_hooks_see_features_with_the_literatures_sign(name, generator):
    network = zoo.NETWORKS[name](num_classes=10).train()
    images = torch.rand(4, 3, 32, 32, generator=generator)
    seen = hooked(network, images, MAPS[name])
    for layer in MAPS[name]:
        negative = (seen[layer] < 0).float().mean()
        # a later ReLU in place would turn a signed map into a non-negative one
        assert negative > 0.1 if layer in SIGNED.get(name, []) else negative == 0, layer
    assert (seen["penultimate"] >= 0).all()
    assert seen["logits"].isfinite().all()


@pytest.mark.parametrize("name", [*PARAMETERS, "small_cnn", "mlp"])
def test_classifier_is_the_last_module_and_the_only_linear_layer_but_for_mlp(name):
    network = on_meta(zoo.NETWORKS[name])
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert next(iter(network.named_children()))[0] == "normalise"
    assert list(network.named_children())[-1] == ("classifier", linear[-1])
    assert len(linear) == (2 if name == "mlp" else 1)


@pytest.mark.parametrize("name", [*PARAMETERS, "small_cnn", "mlp"])
def test_every_network_takes_classes_channels_and_normalisation(name):
    kwargs = {"num_classes": 7, "channels": 2, "normalisation": ([0.5, 0.5], [0.1, 0.2])}
    if name == "mlp":
        kwargs["inputs"] = 2 * 32 * 32
    network = on_meta(zoo.NETWORKS[name], **kwargs)
    assert network(torch.rand(2, 2, 32, 32, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", [*PARAMETERS, "small_cnn", "mlp"])
def test_source_rebuilds_the_network_after_a_trip_through_json(name):
    kwargs = {"num_classes": 5, "channels": 1, "normalisation": ((0.5,), (0.25,))}
    first = on_meta(zoo.NETWORKS[name], **kwargs)
    source = json.loads(json.dumps(first.limbeck_source))
    assert source == first.limbeck_source
    module, function = source["builder"].split(":")
    assert (module, function) == ("limbeck.zoo.networks", name)
    assert source["kwargs"]["num_classes"] == 5
    second = on_meta(getattr(zoo, function), **source["kwargs"])
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (first, second)]
    assert shapes[0] == shapes[1]
    assert second.limbeck_source == source


def test_source_writes_defaults_out():
    assert on_meta(zoo.resnet20, num_classes=10).limbeck_source["kwargs"] == {
        "num_classes": 10,
        "channels": 3,
        "normalisation": "cifar100",
        "shortcut": "projection",
    }


@pytest.mark.usefixtures("without_shape_checks")
def test_source_takes_a_class_count_from_an_array():
    network = on_meta(zoo.wrn_16_1, num_classes=np.array([0, 3]).max() + 1)
    assert network.limbeck_source["kwargs"]["num_classes"] == 4


def test_network_builds_by_name():
    with torch.device("meta"):
        assert count(zoo.network("vgg8", num_classes=100)) == PARAMETERS["vgg8"]


def test_unknown_name_lists_the_names_and_near_ones():
    near = r"Did you mean .*resnet20.*\?$"
    message = r"^network: expected one of resnet20, .*, mlp; got 'resnet21'\. " + near
    with pytest.raises(ValueError, match=message):
        zoo.network("resnet21")


def test_padding_shortcut_agrees_with_plain_loops(generator):
    maps = torch.randn(2, 3, 5, 4, generator=generator)
    expected = torch.zeros(2, 8, 3, 2)
    for sample in range(2):
        for channel in range(3):
            for row in range(3):
                for column in range(2):
                    value = maps[sample, channel, 2 * row, 2 * column]
                    # five channels are missing: two of them stand before
                    expected[sample, 2 + channel, row, column] = value
    assert torch.equal(PadShortcut(3, 8, 2)(maps), expected)


@pytest.mark.parametrize(
    ("inputs", "stride", "kind", "expected"),
    [
        (4, 1, "projection", nn.Identity),
        (4, 1, "pad", nn.Identity),
        (4, 2, "projection", nn.Sequential),
        (2, 1, "projection", nn.Sequential),
        (4, 2, "pad", PadShortcut),
    ],
)
def test_shortcut_learns_only_where_the_shape_changes(inputs, stride, kind, expected):
    assert type(BasicBlock(inputs, 4, stride, kind).shortcut) is expected


def test_unknown_shortcut_is_refused():
    message = r"expected `shortcut` to be one of projection, pad; got 'padd'\. Did you mean pad\?"
    with pytest.raises(ArgumentError, match=message):
        zoo.resnet20(shortcut="padd")


def test_channel_shuffle_agrees_with_plain_loops(generator):
    maps = torch.randn(2, 12, 2, 3, generator=generator)
    shuffled = channel_shuffle(maps, 3)
    for group in range(3):
        for position in range(4):
            assert torch.equal(shuffled[:, position * 3 + group], maps[:, group * 4 + position])


# The blocks once more, as plain functions of an input x, from the papers' figures: `conv(key)` is a
# bare convolution, `norm(key)` a batch norm with the statistics of evaluation.


def relu(x):
    return x.clamp(min=0)


def shuffled(x, groups):
    size = x.shape[1] // groups
    return x[:, [group * size + position for position in range(size) for group in range(groups)]]


def restated_basic(x, conv, norm):
    hidden = relu(norm("bn1", conv("conv1", x, stride=2, padding=1)))
    shortcut = norm("shortcut.norm", conv("shortcut.conv", x, stride=2))
    return relu(norm("bn2", conv("conv2", hidden, padding=1)) + shortcut)


def restated_bottleneck(x, conv, norm):
    hidden = relu(norm("reduce.norm", conv("reduce.conv", x)))
    hidden = relu(norm("convolve.norm", conv("convolve.conv", hidden, stride=2, padding=1)))
    shortcut = norm("shortcut.norm", conv("shortcut.conv", x, stride=2))
    return relu(norm("expand.norm", conv("expand.conv", hidden)) + shortcut)


def restated_preactivation(x, conv, norm):
    active = relu(norm("bn1", x))
    hidden = relu(norm("bn2", conv("conv1", active, stride=2, padding=1)))
    return conv("conv2", hidden, padding=1) + conv("shortcut", active, stride=2)


def restated_preactivation_same_width(x, conv, norm):
    hidden = relu(norm("bn2", conv("conv1", relu(norm("bn1", x)), padding=1)))
    return conv("conv2", hidden, padding=1) + x


def restated_inverted_residual(x, conv, norm):
    hidden = relu(norm("expand.norm", conv("expand.conv", x)))
    hidden = conv("depthwise.conv", hidden, padding=1, groups=24)
    return norm("project.norm", conv("project.conv", relu(norm("depthwise.norm", hidden)))) + x


def restated_shuffle_convolutions(x, conv, norm, width, **depthwise):
    hidden = shuffled(relu(norm("reduce.norm", conv("reduce.conv", x, groups=3))), 3)
    hidden = conv("depthwise.conv", hidden, padding=1, groups=width, **depthwise)
    return norm("expand.norm", conv("expand.conv", relu(norm("depthwise.norm", hidden)), groups=3))


def restated_shuffle(x, conv, norm):
    return relu(restated_shuffle_convolutions(x, conv, norm, 6) + x)


def restated_shuffle_down(x, conv, norm):
    pooled = nn.functional.avg_pool2d(x, 3, stride=2, padding=1)
    convolved = restated_shuffle_convolutions(x, conv, norm, 6, stride=2)
    return relu(torch.cat([convolved, pooled], dim=1))


def restated_branch(x, conv, norm, **depthwise):
    hidden = relu(norm("branch.0.norm", conv("branch.0.conv", x)))
    hidden = norm("branch.1.norm", conv("branch.1.conv", hidden, padding=1, **depthwise))
    return relu(norm("branch.2.norm", conv("branch.2.conv", hidden)))


def restated_split(x, conv, norm):
    return shuffled(torch.cat([x[:, :3], restated_branch(x[:, 3:], conv, norm, groups=3)], 1), 2)


def restated_down(x, conv, norm):
    passed = conv("shortcut.0.conv", x, stride=2, padding=1, groups=6)
    passed = relu(norm("shortcut.1.norm", conv("shortcut.1.conv", norm("shortcut.0.norm", passed))))
    return shuffled(torch.cat([passed, restated_branch(x, conv, norm, stride=2, groups=4)], 1), 2)


@pytest.mark.parametrize(
    ("block", "inputs", "restated"),
    [
        (lambda: BasicBlock(4, 6, 2, "projection"), 4, restated_basic),
        (lambda: Bottleneck(4, 3, 2), 4, restated_bottleneck),
        (lambda: PreActivationBlock(4, 6, 2), 4, restated_preactivation),
        (lambda: PreActivationBlock(4, 4, 1), 4, restated_preactivation_same_width),
        (lambda: InvertedResidual(4, 4, 1, 6), 4, restated_inverted_residual),
        (lambda: ShuffleUnit(24, 24, 1, 3), 24, restated_shuffle),
        (lambda: ShuffleUnit(12, 36, 2, 3), 12, restated_shuffle_down),
        (lambda: SplitUnit(6), 6, restated_split),
        (lambda: DownUnit(6, 8), 6, restated_down),
    ],
)
def test_block_agrees_with_its_restatement(block, inputs, restated, generator):
    module = block().double().eval()
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():  # statistics unlike those of a new batch norm
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.2
            tensor.data *= torch.randn(tensor.shape, generator=generator).sign()
    for name, tensor in module.named_buffers():
        if name.endswith("running_var"):
            tensor.abs_()
    state = module.state_dict()

    def conv(key, x, **how):
        return nn.functional.conv2d(x, state[f"{key}.weight"], **how)

    def norm(key, x):
        mean, var, weight, bias = (
            state[f"{key}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = 3 * torch.randn(2, inputs, 6, 6, generator=generator, dtype=torch.float64)
    # float64; sums of at most a few hundred products
    torch.testing.assert_close(module(x), restated(x, conv, norm), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet", "mnist", "digits", "none"])
def test_normalisation_agrees_with_numpy(name, generator):
    channels = len(zoo.STATISTICS[name][0])
    images = torch.rand(3, channels, 4, 5, generator=generator)
    mean, std = (np.array(s, dtype=np.float32) for s in zoo.STATISTICS[name])
    expected = (images.numpy().transpose(0, 2, 3, 1) - mean) / std
    layer = zoo.normaliser(name, channels)
    np.testing.assert_allclose(layer(images).numpy().transpose(0, 2, 3, 1), expected, rtol=1e-6)
    flat = layer(images.flatten(1))
    assert torch.equal(flat, layer(images).flatten(1))


def test_normalisation_none_leaves_images_of_any_channels_alone(generator):
    images = torch.rand(2, 5, 3, 3, generator=generator)
    assert torch.equal(zoo.normaliser(None, 5)(images), images)


def test_digits_statistics_are_those_of_the_data():
    pixels = pytest.importorskip("sklearn.datasets").load_digits().data / 16
    (mean,), (std,) = zoo.STATISTICS["digits"]
    assert pixels.mean() == pytest.approx(mean, abs=5e-5)
    assert pixels.std() == pytest.approx(std, abs=5e-5)


def test_saved_network_carries_its_normalisation():
    state = zoo.small_cnn(width=2, normalisation=([0.25], [0.5])).state_dict()
    assert state["normalise.mean"].shape == (1, 1, 1)
    other = zoo.small_cnn(width=2)
    other.load_state_dict(state)
    assert (other.normalise.mean.item(), other.normalise.std.item()) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("normalisation", "channels", "message"),
    [
        ("cifar11", 3, "expected `normalisation` to be one of .*Did you mean cifar10"),
        ("cifar100", 1, re.escape("a mean and a std of 1 channels each; got 'cifar100' with [3")),
        (([0.5, 0.5], [1.0]), 2, re.escape("with [2, 1]")),
        (([0.5],), 1, re.escape("with [1]")),
        (([0.5], [0.0]), 1, "expected `std` > 0; got 0.0"),
    ],
)
def test_unfit_normalisation_is_refused(normalisation, channels, message):
    with pytest.raises(ArgumentError, match=message):
        zoo.normaliser(normalisation, channels)


@pytest.mark.usefixtures("without_shape_checks")
def test_eight_bit_images_are_refused():
    with pytest.raises(ArgumentError, match=r"got torch\.uint8\. Divide 8-bit images by 255"):
        zoo.normaliser("mnist", 1)(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 16)])
def test_images_of_other_channels_are_refused_rather_than_broadcast(shape):
    with pytest.raises(ShapeError, match=r"expected images of 3 channels; got \(2, 1"):
        zoo.normaliser("cifar10", 3)(torch.zeros(shape))


@pytest.mark.parametrize("side", [8, 28])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_small_cnn_halves_the_map_and_doubles_the_width(side, norm, generator):
    network = zoo.small_cnn(width=4, depth=3, norm=norm, dropout=0.5).train()
    images = torch.rand(6, 1, side, side, generator=generator)
    seen = hooked(network, images, ["stage1", "stage2", "stage3"])
    assert seen["stage1"].shape == (6, 4, side, side)
    assert seen["stage2"].shape == (6, 8, side // 2, side // 2)
    assert seen["stage3"].shape == (6, 16, side // 4, side // 4)
    pooled = seen["stage3"].mean(dim=(2, 3))
    # dropout takes a half of the pooled features and doubles the rest
    kept = seen["penultimate"] != 0
    torch.testing.assert_close(seen["penultimate"][kept], 2 * pooled[kept])
    assert kept.sum() < (pooled != 0).sum()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == (3 if norm == "batch" else 0)
    assert seen["logits"].shape == (6, 10)


def test_small_cnn_without_norm_treats_samples_apart(generator):
    network = zoo.small_cnn(width=4, norm="none").train()
    images = torch.rand(4, 1, 8, 8, generator=generator)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-5, atol=1e-6)


def test_small_cnn_can_be_deeper_than_the_image_has_halvings():
    assert on_meta(zoo.small_cnn, depth=6)(torch.rand(2, 1, 8, 8, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 0}, "`depth` > 0"),
        ({"dropout": 1.5}, r"`dropout` in \[0.0, 1.0\]"),
        ({"norm": "group"}, "`norm` to be one of batch, none"),
    ],
)
def test_small_cnn_refuses_bad_arguments(kwargs, message):
    with pytest.raises(ArgumentError, match=message):
        zoo.small_cnn(**kwargs)


def test_mlp_agrees_with_plain_matrices_on_images_and_flattened_images(generator):
    network = zoo.mlp(
        inputs=8, hidden=(5, 3), num_classes=2, channels=2, normalisation=([0.1, 0.6], [0.5, 0.2])
    )
    images = torch.rand(4, 2, 2, 2, generator=generator)
    w = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    h = (images.numpy() - np.array([0.1, 0.6]).reshape(2, 1, 1)) / np.array([0.5, 0.2]).reshape(
        2, 1, 1
    )
    h = h.reshape(4, 8)
    for layer in ("layer1", "layer2"):
        h = np.maximum(h @ w[f"{layer}.linear.weight"].T + w[f"{layer}.linear.bias"], 0)
    expected = h @ w["classifier.weight"].T + w["classifier.bias"]
    for given in (images, images.flatten(1)):
        np.testing.assert_allclose(network(given).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_mlp_without_hidden_layers_is_linear():
    assert count(zoo.mlp(inputs=6, hidden=(), num_classes=3)) == 6 * 3 + 3


@pytest.mark.parametrize("build", [zoo.resnet32, zoo.wrn_16_2, zoo.vgg8, zoo.mobilenetv2_half])
def test_convolutions_start_with_the_literatures_spread(build):
    torch.manual_seed(0)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            expected = (2 / (weight.shape[2] ** 2 * weight.shape[0])) ** 0.5
            # standard error of a standard deviation of normals; four of them, and 168 draws
            tolerance = 5 * expected / (2 * weight.numel()) ** 0.5
            assert weight.std().item() == pytest.approx(expected, abs=tolerance)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("build", [zoo.vgg8, zoo.mobilenetv2_half])
def test_classifier_starts_small(build):
    classifier = build().classifier
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not classifier.bias.any()


def test_wide_resnet_classifier_starts_without_bias():
    assert not zoo.wrn_16_1().classifier.bias.any()


def test_vgg_pools_large_images_once_more():
    network = on_meta(zoo.vgg8)
    seen = hooked(network, torch.rand(1, 3, 64, 64, device="meta"), ["stage3", "stage4"])
    assert seen["stage3"].shape[2:] == (8, 8)
    assert seen["stage4"].shape[2:] == (4, 4)


def test_akamaster_names_map_onto_ours_and_leave_the_given_dict_alone():
    ours = zoo.resnet20(num_classes=10, shortcut="pad").state_dict()
    theirs = {
        "module."
        + key.replace("stem.conv.", "conv1.")
        .replace("stem.norm.", "bn1.")
        .replace("classifier.", "linear."): tensor
        for key, tensor in ours.items()
        if not key.startswith("normalise.")
    }
    before = dict(theirs)
    renamed = zoo.akamaster_state_dict(theirs)
    assert set(renamed) == set(ours)
    assert all(renamed[key] is ours[key] for key in ours if not key.startswith("normalise."))
    assert renamed["normalise.std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert theirs == before


@pytest.fixture(scope="module")
def shared_data():
    """Return the folder with CIFAR-10 and published weights that stands beside the repository."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("LIMBECK_SHARED_DATA", beside))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no published weights in {folder}; set LIMBECK_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="module")
def cifar10_test(shared_data):
    sheets = []
    for path in sorted((shared_data / "cifar10").glob("test_??.webp")):
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        tiles = pixels.reshape(50, 32, 50, 32, 3).transpose(0, 2, 4, 1, 3)
        sheets.append(tiles.reshape(-1, 3, 32, 32))
    targets = np.load(shared_data / "cifar10" / "test_labels.npy")
    return torch.from_numpy(np.concatenate(sheets)), torch.from_numpy(targets)


@pytest.mark.parametrize(
    ("build", "accuracy", "rows"),
    [
        (zoo.resnet20, 91.73, 10_000),
        # The whole test part of these is in benchmarks/pretrained.py.
        *((build, 93.0, 500) for build in (zoo.resnet32, zoo.resnet44, zoo.resnet56)),
    ],
)
def test_published_weights_give_the_published_accuracy(
    build, accuracy, rows, shared_data, cifar10_test
):
    network = build(num_classes=10, normalisation="cifar10", shortcut="pad").eval()
    weights = shared_data / "weights" / f"cifar10_{build.__name__}.pt"
    raw = torch.load(weights, weights_only=True)
    network.load_state_dict(zoo.akamaster_state_dict(raw), strict=True)
    chosen = torch.arange(0, 10_000, 10_000 // rows)  # the images stand in the order of classes
    images, targets = (part[chosen] for part in cifar10_test)
    right = 0
    with torch.inference_mode():
        for some, labels in zip(images.split(500), targets.split(500), strict=True):
            right += int((network(some / 255).argmax(dim=1) == labels).sum())
    assert len(images) == rows
    deviation = 0.05 if rows == 10_000 else 3 * (93 * 7 / rows) ** 0.5  # percent
    assert 100 * right / len(images) == pytest.approx(accuracy, abs=deviation)
