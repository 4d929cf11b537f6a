"""CAT-KD: against plain loops and invariants; where its class activation maps come from."""

import copy
import math

import pytest
import torch
from helpers.features import args, batch_of, drawn, maps, turned, value_and_gradient
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import CATKD, WeightedSum, class_attention_loss
from limbeck.losses.catkd import class_activation_maps
from limbeck.types import Outputs


def by_loops(student, teacher, size, normalise):
    """Maps whose sides are multiples of ``size``."""
    rows, classes = student.shape[:2]
    total = 0.0
    for row in range(rows):
        for k in range(classes):
            sides = []
            for side in (student, teacher):
                high, wide = side.shape[2] // size, side.shape[3] // size
                cells = [
                    sum(
                        float(side[row, k, y * high + a, x * wide + b])
                        for a in range(high)
                        for b in range(wide)
                    )
                    / (high * wide)
                    for y in range(size)
                    for x in range(size)
                ]
                length = math.sqrt(sum(cell**2 for cell in cells)) if normalise else 1.0
                sides.append([cell / length for cell in cells])
            total += sum((a - b) ** 2 for a, b in zip(*sides, strict=True))
    return total / (rows * classes * size**2)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_equals_plain_loops(size, normalise):
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 3, 8, 1.0)
    found = class_attention_loss(student, teacher, size=size, normalise=normalise).item()
    assert found == pytest.approx(by_loops(student, teacher, size, normalise), rel=1e-12)


def test_defaults_are_those_of_the_code():
    student, teacher = maps(2, 3, 4, 0.3), maps(2, 3, 8, 1.0)
    expected = by_loops(student, teacher, 2, True)
    assert class_attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert CATKD.published_weights == (1.0, 400.0)


def test_length_of_a_map_counts_only_without_normalisation():
    student, teacher = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    factors = torch.tensor([2.0, 0.1, 7.0])[:, None, None]
    for normalise in (True, False):
        one = class_attention_loss(student, teacher, normalise=normalise).item()
        two = class_attention_loss(factors * student, teacher, normalise=normalise).item()
        assert (two == pytest.approx(one, rel=1e-12)) == normalise
    assert class_attention_loss(-teacher, teacher).item() == pytest.approx(1.0)  # 4/r^2


def test_gradients():
    student, teacher = maps(2, 3, 4, 0.3).requires_grad_(), maps(2, 3, 2, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: class_attention_loss(z, teacher), student)
    value = class_attention_loss(student, teacher)
    found = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_maps_without_any_activity_and_narrow_floats():
    teacher = drawn(2, 3, 4, 4).bfloat16()
    value, gradient = value_and_gradient(lambda z: class_attention_loss(z, teacher), 0 * teacher)
    assert value == pytest.approx(0.25, rel=1e-6)  # a unit vector over four positions
    assert gradient.dtype == torch.bfloat16
    student = drawn(2, 3, 4, 4, seed=1).bfloat16()
    found = class_attention_loss(student, teacher)
    assert found.dtype == torch.float32
    expected = class_attention_loss(student.double(), teacher.double()).item()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert class_attention_loss(teacher[:0], teacher[:0]).item() == 0.0


def test_mean_of_an_activation_map_is_the_logit():
    features, head = drawn(2, 5, 3, 4), nn.Linear(5, 4).double().requires_grad_(False)
    logits = head(features.mean((2, 3)))
    found = class_activation_maps(features, head.weight).mean((2, 3)) + head.bias
    torch.testing.assert_close(found, logits, rtol=1e-12, atol=1e-12)
    assert class_activation_maps(features, head.weight)[1, 2, 0, 3].item() == pytest.approx(
        sum(float(head.weight[2, c]) * float(features[1, c, 0, 3]) for c in range(5))
    )


class Network(nn.Module):
    """Positions are mapped one by one, averaged and classified; a decoy has the head's shape."""

    def __init__(self, width: int, seed: int, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stage = nn.Conv2d(2, width, 1)
            self.decoy = nn.Linear(width, classes)
            self.head = nn.Linear(width, classes)
        self.double()

    def forward(self, images: torch.Tensor) -> Outputs:
        features = self.stage(images)
        return Outputs(self.head(features.mean((2, 3))), {"layer3": features})


IMAGES = drawn(6, 2, 4, 4, seed=3)


def networks():
    return Network(5, seed=0), Network(7, seed=1)


def test_attached_networks_give_their_own_weights():
    student, teacher = networks()
    loss = CATKD()
    loss.attach(student, teacher)
    said = student(IMAGES), teacher(IMAGES), batch_of(6)
    loss.prepare(*said)
    assert loss.sources == {"student": "classifier", "teacher": "classifier"}
    assert not list(loss.parameters())
    assert not loss.state_dict()
    seen = [class_activation_maps(one.stage(IMAGES), one.head.weight) for one in (student, teacher)]
    expected = class_attention_loss(seen[0], seen[1])
    value = loss(*said)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value.backward()
    expected = torch.autograd.grad(expected, student.head.weight)[0]
    torch.testing.assert_close(student.head.weight.grad, expected, rtol=1e-10, atol=1e-14)
    assert student.stage.weight.grad.abs().max() > 0
    assert student.decoy.weight.grad is None
    assert teacher.head.weight.grad is None
    with torch.no_grad():
        student.head.weight.copy_(torch.roll(student.head.weight, 1, 0))
    changed = class_attention_loss(
        class_activation_maps(student.stage(IMAGES), student.head.weight), seen[1]
    )
    assert loss(*said).item() == pytest.approx(changed.item(), rel=1e-12)


def test_a_rotation_of_features_and_classifier_changes_nothing():
    student, teacher = networks()
    values = []
    for turn in (torch.eye(5, dtype=torch.float64), turned(5)):
        with torch.no_grad():
            student.stage.weight.copy_(torch.einsum("ab,bcyx->acyx", turn, student.stage.weight))
            student.stage.bias.copy_(turn @ student.stage.bias)
            student.head.weight.copy_(student.head.weight @ turn.T)
        loss = CATKD()
        loss.attach(student, teacher)
        said = student(IMAGES), teacher(IMAGES), batch_of(6)
        loss.prepare(*said)
        values.append(loss(*said).item())
    assert values[1] == pytest.approx(values[0], rel=1e-10)


def test_a_network_that_ends_otherwise_is_refused():
    student, teacher = networks()
    said = Outputs(student(IMAGES).logits ** 3, student(IMAGES).features)
    loss = CATKD()
    loss.attach(student, teacher)
    with pytest.raises(ArgumentError, match=r"student 'layer3' \(6, 5, 4, 4\).*Network whose out"):
        loss.prepare(said, teacher(IMAGES), batch_of(6))


def test_layers_that_are_activation_maps_already():
    """The authors' own networks: a 1x1 convolution to the classes, then global average pooling."""
    seen = drawn(6, 3, 4, 4), drawn(6, 3, 2, 2, seed=1)
    one, two = (Outputs(z.mean((2, 3)) + torch.arange(3), {"layer3": z}) for z in seen)
    loss = CATKD(size=1, normalise=False)
    loss.prepare(one, two, batch_of(6))
    assert loss.sources == {"student": "maps", "teacher": "maps"}
    expected = class_attention_loss(*seen, size=1, normalise=False).item()
    assert loss(one, two, batch_of(6)).item() == pytest.approx(expected, rel=1e-12)


def test_what_is_not_attached_is_fitted_and_the_fit_is_exact_for_a_linear_classifier():
    networks_, images = networks(), drawn(12, 2, 4, 4, seed=4)
    for one in networks_:  # two channels give 2 dimensions: more, so that weights are determined
        one.stage = nn.Conv2d(2, one.head.in_features, 3, padding=1).double()
    said = (*(one(images) for one in networks_), batch_of(12))
    loss = CATKD()
    loss.prepare(*said)
    assert loss.sources == {"student": "fitted", "teacher": "fitted"}
    for side, one in zip(("student", "teacher"), networks_, strict=True):
        weight = loss.state_dict()[f"{side}_weight"]
        torch.testing.assert_close(weight, one.head.weight.detach(), rtol=1e-8, atol=1e-9)
    assert [name for name, _ in loss.named_parameters()] == ["student_weight"]
    before = loss.student_weight
    loss.prepare(*said)  # a second time changes nothing
    assert loss.student_weight is before


def test_a_teacher_that_is_no_module_has_its_weight_given():
    student, teacher = networks()
    said = student(IMAGES), teacher(IMAGES), batch_of(6)
    values = []
    for weight, module in ((None, teacher), (teacher.head.weight, None)):
        loss = CATKD(teacher_weight=weight)
        loss.attach(student, module)
        loss.prepare(*said)
        values.append(loss(*said).item())
    assert loss.sources["teacher"] == "given"
    assert values[1] == pytest.approx(values[0], rel=1e-12)
    wrong = CATKD(teacher_weight=drawn(3, 4))
    wrong.attach(student)
    with pytest.raises(ShapeError, match=r"of shape \(3, 7\); got \(3, 4\)"):
        wrong.prepare(*said)
    unknown = CATKD()
    unknown.attach(student)
    with pytest.raises(ArgumentError, match="more rows than channels"):
        unknown.prepare(*said)  # 6 rows, 7 channels


def test_the_loop_attaches_the_networks_also_within_a_sum():
    class Plain(Network):
        def __init__(self, width, seed):
            super().__init__(width, seed)
            self.layer3 = copy.deepcopy(self.stage)
            self.float()

        def forward(self, images):
            return self.head(self.layer3(images).mean((2, 3)))

    student, teacher, x = Plain(5, 0), Plain(7, 1), IMAGES.float()
    options = {"epochs": 1, "device": "cpu", "progress": False, "force": True}
    for loss in (one := CATKD(), WeightedSum({"cat": (1.0, one)})):
        one.sources = {}
        lb.distill(student, teacher, (x, torch.arange(6) % 3), loss=loss, **options)
        assert one.sources == {"student": "classifier", "teacher": "classifier"}
        assert one.classifiers["student"] is student.head


@pytest.mark.usefixtures("without_shape_hook")
def test_messages():
    with pytest.raises(ShapeError, match=r"class_attention_loss: .*\(2, 3, 4, 4\).*\(2, 4, 4, 4\)"):
        class_attention_loss(drawn(2, 3, 4, 4), drawn(2, 4, 4, 4))
    with pytest.raises(ShapeError, match="class_attention_loss: expected maps"):
        class_attention_loss(drawn(2, 3), drawn(2, 3))
    with pytest.raises(ArgumentError, match="`size` > 0; got 0"):
        class_attention_loss(drawn(2, 3, 4, 4), drawn(2, 3, 4, 4), size=0)
    with pytest.raises(ArgumentError, match="CATKD: expected `size` > 0"):
        CATKD(size=0)
    with pytest.raises(ArgumentError, match="not prepared"):
        CATKD()(*args(drawn(2, 3, 4, 4), drawn(2, 3, 4, 4), layer="layer3"))
    flat = [Outputs(drawn(6, 3), {"layer3": drawn(6, 5)}) for _ in range(2)]
    with pytest.raises(ShapeError, match="Choose the layer before"):
        CATKD().prepare(*flat, batch_of(6))
    with pytest.raises(ArgumentError, match="none from student and teacher"):
        CATKD().prepare(*args(drawn(6, 5, 4, 4), drawn(6, 5, 4, 4), layer="layer3"))
