"""Students under their teacher's classifier: against a plain re-statement, and in training."""

import copy
import io

import pytest
import torch
from helpers.measured import Recorder
from helpers.small import same
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

import limbeck as lb
from limbeck.capture import Capture
from limbeck.checks import ArgumentError, LayerError, ModelError, ShapeError
from limbeck.students import binary, reusing_head
from limbeck.training import measuring
from limbeck.training.building import build


def digits(count=240, start=0):
    """Return images [count, 1, 8, 8] in [0, 1] and their labels."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels[start : start + count] / 16, dtype=torch.float32)
    return images.view(-1, 1, 8, 8), torch.tensor(labels[start : start + count])


def cnn(width=4, depth=3, seed=0, **options):
    return build("zoo:small_cnn", seed=seed, width=width, depth=depth, **options)


def moved(model, seed=5):
    """Let batch norms and offsets differ from what they start at."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                for values in (part.weight, part.bias, part.running_mean, part.running_var):
                    values.copy_(0.5 + torch.rand(values.shape, generator=source))
    return model.eval()


def reused(student=None, teacher=None, **options):
    """Return a student of 3 stages under the classifier of a teacher of 2 wider ones."""
    student = cnn() if student is None else student
    teacher = cnn(width=8, depth=2, seed=1) if teacher is None else teacher
    given = {"example": digits(6)[0], "layer": "stage3", "teacher_layer": "stage2"}
    return reusing_head(student, teacher, **given | options)


def normed(x, norm):
    """Return what batch norm does in eval mode, by its formula."""
    shape = (1, -1, 1, 1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)


def restated(x, first, second, third, norms, teacher):
    """Return the paper's prediction from the student's map, step by step."""
    x = normed(torch.einsum("bchw,oc->bohw", x, first[:, :, 0, 0]), norms[0]).clamp(min=0)
    rows, _, height, width = x.shape
    padded, wide = F.pad(x, (1, 1, 1, 1)), torch.zeros(rows, len(second), height, width)
    for dy in range(3):
        for dx in range(3):
            patch = padded[:, :, dy : dy + height, dx : dx + width]
            wide += torch.einsum("bchw,oc->bohw", patch, second[:, :, dy, dx])
    x = normed(wide, norms[1]).clamp(min=0)
    x = normed(torch.einsum("bchw,oc->bohw", x, third[:, :, 0, 0]), norms[2]).clamp(min=0)
    mean = x.sum(dim=(2, 3)) / (height * width)
    return mean @ teacher.classifier.weight.T + teacher.classifier.bias, x


@pytest.mark.parametrize("pooled", [False, True])
def test_equals_a_plain_restatement(pooled):
    if pooled:  # the student's last map is 8x8, the teacher's 4x4
        student, teacher = cnn(depth=1), cnn(width=8, depth=2, seed=1)
        layer = "stage1"
    else:  # the student's is 2x2
        student, teacher, layer = cnn(), cnn(width=8, depth=2, seed=1), "stage3"
    moved(student), moved(teacher, seed=6)
    made = moved(reused(student, teacher, layer=layer), seed=7)
    moved(made.student)
    images = digits(5, start=50)[0]
    with torch.no_grad(), Capture(made, ("projector",)) as capture:
        said = capture(images)
        maps = images
        for name, part in student.named_children():
            maps = part(maps)
            if name == layer:
                break
        maps = F.avg_pool2d(maps, 2) if pooled else maps
        convolutions = [part.weight for part in made.projector if isinstance(part, nn.Conv2d)]
        norms = [part for part in made.projector if isinstance(part, nn.BatchNorm2d)]
        expected, projected = restated(maps, *convolutions, norms, teacher)
    assert projected.std() > 0.01
    torch.testing.assert_close(said.features["projector"], projected)
    torch.testing.assert_close(said.logits, expected)


@pytest.mark.parametrize(("factor", "width"), [(1, 16), (2, 8), (8, 2), (16, 1)])
def test_inner_width_and_parameters(factor, width):
    made = reused(factor=factor)
    counted = sum(p.numel() for p in made.projector.parameters())
    convolutions = 16 * width + 9 * width**2 + width * 16
    assert counted == convolutions + 2 * (width + width + 16)
    assert not any(isinstance(part, nn.Linear) for part in made.student.modules())


def test_with_the_teachers_map_the_logits_are_the_teachers():
    teacher = moved(cnn(width=8, depth=2, seed=1))
    made = reused(copy.deepcopy(teacher), teacher, layer="stage2").eval()
    made.projector = nn.Identity()
    images = digits(20)[0]
    torch.testing.assert_close(made(images), teacher(images))


def test_models_and_the_global_generator_are_left_alone():
    student, teacher = cnn().train(), cnn(width=8, depth=2, seed=1).train()
    before = copy.deepcopy(student), copy.deepcopy(teacher)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = torch.get_rng_state()
        made = reused(student, teacher)
        assert torch.equal(state, torch.get_rng_state())
    assert same(student, before[0])
    assert same(teacher, before[1])
    assert student.training
    assert teacher.training
    assert made.projector.training
    assert not reused(student.eval(), teacher).projector.training
    assert all(p.requires_grad for p in teacher.parameters())
    assert made.head.weight.data_ptr() != teacher.classifier.weight.data_ptr()
    assert same(made, reused(student, teacher))
    assert not same(made.projector, reused(student, teacher, seed=1).projector)


def test_the_last_relu_is_there_unless_the_teachers_map_has_negative_entries():
    assert isinstance(reused().projector[-1], nn.ReLU)
    teacher = cnn(width=8, depth=2, seed=1)
    teacher.stage2.relu = nn.Identity()
    parts = reused(teacher=teacher).projector
    assert isinstance(parts[-1], nn.BatchNorm2d)
    assert sum(isinstance(part, nn.ReLU) for part in parts) == 2


def test_a_copy_looks_at_its_own_student():
    made = reused().eval()
    images = digits(4)[0]
    before = made(images)
    kept = io.BytesIO()
    torch.save(made, kept)
    kept.seek(0)
    for again in (copy.deepcopy(made), torch.load(kept, weights_only=False)):
        assert torch.equal(again(images), before)
        with torch.no_grad():
            again.student.stage1.conv.weight.mul_(-1)
        assert not torch.allclose(again(images), before)
        assert torch.equal(made(images), before)


def test_a_hook_of_another_process_does_not_push_out_its_own(monkeypatch):
    made, kept = reused().eval(), io.BytesIO()
    torch.save(made, kept)
    kept.seek(0)
    (number,) = made.student.stage3._forward_hooks
    monkeypatch.setattr(RemovableHandle, "next_id", number)  # as a process that counts anew
    again = torch.load(kept, weights_only=False)
    with Capture(again, ("student.stage3",)) as capture:
        assert torch.equal(capture(digits(4)[0]).logits, made(digits(4)[0]))


def test_an_in_place_layer_behind_the_map_changes_nothing():
    said = []
    for in_place in (True, False):
        student = moved(cnn())
        student.stage3.relu = nn.Identity()  # so that the map has negative entries
        student.stage3.norm.bias.data.fill_(-1.0)
        student.pool = nn.Sequential(nn.ReLU(inplace=in_place), student.pool)
        said.append(reused(student)(digits(4)[0]))
    assert torch.equal(*said)


def test_other_float_types_and_no_offset():
    teacher = cnn(width=8, depth=2, seed=1)
    teacher.classifier = nn.Linear(16, 10, bias=False)
    made = reused(cnn().double(), teacher)
    assert made.head.bias is None
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert made(digits(3)[0].double()).shape == (3, 10)
    assert reused(teacher=teacher.bfloat16()).head.weight.dtype == torch.float32


@pytest.fixture(scope="module")
def teacher():
    network = cnn(width=16, depth=2, seed=1)
    options = {"epochs": 20, "batch_size": 16, "learning_rate": 0.05, "device": "cpu"}
    return lb.distill(network, None, digits(), progress=False, **options).student


def distilled(student, teacher, out=None, **options):
    layers = {"student": "projector", "teacher": "stage2"}
    settings = {"epochs": 10, "batch_size": 16, "learning_rate": 0.1, "device": "cpu"}
    settings |= {"loss": "simkd", "layers": layers, "test": digits(120, start=300)}
    return lb.distill(
        student, teacher, digits(), out=out, **settings | {"progress": False} | options
    )


@pytest.mark.parametrize("average", [None, 0.9])
def test_distilled_on_digits_saved_and_read_back(teacher, tmp_path, average):
    student = reused(cnn(), teacher)
    before = copy.deepcopy(student.state_dict())
    result = distilled(student, teacher, tmp_path, average=average, weight_decay=0.01)
    after = result.student.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"head.weight", "head.bias", "student.normalise.mean", "student.normalise.std"}
    assert torch.equal(after["head.weight"], teacher.classifier.weight)
    assert "student.stage1.norm.running_mean" in after
    curve = result.record.curves["loss distillation"]
    assert curve[-1] < 0.6 * curve[0]
    assert result.record.results["last"]["test"]["accuracy"] > 0.6
    images = digits(9, start=500)[0]
    again = lb.load(tmp_path, model=reused(cnn(seed=8), cnn(width=16, depth=2, seed=9)))
    assert torch.equal(again(images), result.student(images))
    with pytest.raises(ModelError, match=r"how to build limbeck\.students\.reused_head:ReusedHead"):
        lb.load(tmp_path)


@pytest.mark.parametrize("loss", ["fitnet", "itrd", "catkd"])
def test_other_losses_take_the_projected_map(teacher, loss):
    result = distilled(reused(cnn(), teacher), teacher, loss=loss, epochs=1)
    assert torch.equal(result.student.head.weight, teacher.classifier.weight)


def test_measure_takes_the_projected_map(teacher, monkeypatch):
    student, recorder = reused(cnn(), teacher), Recorder()
    monkeypatch.setattr(measuring, "estimate_pid", recorder)
    lb.measure(
        teacher, student, digits(), layers={"teacher": "stage2", "student": "projector"},
        device="cpu", progress=False,
    )  # fmt: skip
    (call,) = recorder.calls
    assert call["student"].shape == call["teacher"].shape == (240, 32)


def test_a_binary_student():
    made = reused(binary(cnn()))
    made(digits(4)[0]).sum().backward()
    assert made.student.stage3.conv.weight.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad")  # torch's, compiling
def test_compiled_it_says_the_same(without_shape_hook):
    made, images = reused().eval(), digits(4)[0]
    torch.testing.assert_close(torch.compile(made, backend="eager")(images), made(images))


class Maximum(nn.Module):
    def forward(self, x):
        return x.amax(dim=(2, 3), keepdim=True)


def with_parts(**parts):
    network = cnn(width=8, depth=2, seed=1)
    for name, part in parts.items():
        setattr(network, name, part)
    return network


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        (with_parts(classifier=nn.Sequential(nn.Linear(16, 10), nn.Tanh())), "no linear layer"),
        (with_parts(pool=Maximum()), "other logits than this gives"),
        (with_parts(pool=nn.Identity(), classifier=nn.Linear(256, 10)), "one of 256 inputs"),
    ],
)
def test_teachers_without_a_linear_layer_behind_global_pooling(teacher, said):
    with pytest.raises(ModelError, match=f"its map 'stage2', averaged.*{said}.*fitnet or itrd"):
        reused(teacher=teacher)


def test_a_map_that_is_not_the_teachers_last():
    with pytest.raises(ModelError, match="one of 16 inputs behind a map of 8 channels"):
        reused(teacher_layer="stage1")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"factor": 0}, ArgumentError, "`factor` to be an integer from 1 to 16"),
        ({"factor": 17}, ArgumentError, "from 1 to 16, .* got 17"),
        ({"factor": True}, ArgumentError, "got True"),
        ({"layer": "stage4"}, LayerError, "student: .* got 'stage4'"),
        ({"teacher_layer": "stag2"}, LayerError, "teacher: .*Did you mean stage2"),
        ({"layer": "flatten"}, ShapeError, "student 'flatten' to give maps"),
        ({"teacher_layer": "flatten"}, ShapeError, "teacher 'flatten' to give maps"),
        ({"layer": "stage1"}, LayerError, "its last map; got 6 tensors .*'stage2.conv.weight'"),
        ({"example": torch.zeros(2, 3, 8, 8)}, ModelError, "teacher: expected Network to take"),
    ],
)
def test_what_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        reused(**options)


def test_a_classifier_of_several_layers_is_frozen_by_its_owner():
    student = cnn()
    student.classifier = nn.Sequential(nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 10))
    with pytest.raises(LayerError, match=r"2 tensors .*'classifier\.0\.weight'.*freeze them"):
        reused(student)
    student.classifier.requires_grad_(False)
    assert reused(student)(digits(3)[0]).shape == (3, 10)


def test_a_layer_that_was_replaced_since_is_missed():
    made = reused()
    made.student.stage3 = copy.deepcopy(cnn().stage3)
    with pytest.raises(LayerError, match=r"'stage3' of the student to run.*anew"):
        made(digits(3)[0])
