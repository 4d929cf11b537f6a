"""timm's networks as students, and torchdistill beside limbeck: in .venv-vision alone."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.checks import ModelError
from limbeck.training.building import build
from limbeck.training.torchvision_cpu import define_missing_operators


def needs(package: str) -> pytest.MarkDecorator:
    # find_spec, since an import would load half of torchvision where it does not fit torch
    reason = f"{package} is not installed here; `make test-vision` runs these tests"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


pytestmark = pytest.mark.vision

NAME = "timm:resnet10t"


@pytest.fixture
def student() -> torch.nn.Module:
    return build(NAME, seed=1, pretrained=False, num_classes=10, in_chans=3)


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=source)
    return images, torch.arange(64) % 10


@needs("timm")
def test_build_gives_the_weights_of_the_seed_and_knows_its_source(student: torch.nn.Module) -> None:
    again = build(NAME, seed=1, pretrained=False, num_classes=10, in_chans=3)
    other = build(NAME, seed=2, pretrained=False, num_classes=10, in_chans=3)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(student.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(student.get_parameter("fc.weight"), other.get_parameter("fc.weight"))
    assert student.limbeck_source == {
        "builder": NAME,
        "kwargs": {"pretrained": False, "num_classes": 10, "in_chans": 3},
    }


@needs("timm")
@pytest.mark.parametrize("loss", ["kd", "itrd"])
def test_a_timm_student_distils_and_is_loaded_back(
    loss: str, student: torch.nn.Module, rows: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    teacher = build("zoo:small_cnn", num_classes=10, channels=3, width=8)
    before = {name: part.clone() for name, part in student.state_dict().items()}
    result = limbeck.distill(
        student,
        teacher,
        rows,
        loss=loss,
        batch_size=16,
        epochs=1,
        max_steps=3,
        device="cpu",
        out=tmp_path,
        force=True,  # a teacher with random weights is at chance level
        progress=False,
    )
    assert result.record.status == "finished"
    assert any(
        not torch.equal(part, before[name]) for name, part in result.student.named_parameters()
    )

    images = rows[0].float() / 255
    with torch.no_grad():
        back = limbeck.load(tmp_path)(images)
        assert back.shape == (64, 10)
        assert torch.equal(back, result.student(images))


@needs("timm")
def test_a_timm_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match="timm:resnet10t5"):
        build("timm:resnet10t5", pretrained=False)


@needs("torchvision")
def test_torchvision_imports_and_the_operators_are_declared_once() -> None:
    define_missing_operators()
    define_missing_operators()
    assert import_module("torchvision.ops").nms is not None
    assert torch.ops.torchvision.nms.default is not None


@needs("torchdistill")
def test_torchdistill_imports() -> None:
    define_missing_operators()
    assert import_module("torchdistill.core.distillation").get_distillation_box is not None


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed here")
def test_without_torchvision_nothing_is_declared() -> None:
    define_missing_operators()
    assert not hasattr(torch.ops.torchvision, "nms")
