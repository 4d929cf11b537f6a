"""Networks of timm as teacher and as student: in .venv-vision alone."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.students.export import export
from limbeck.training.building import build


pytestmark = [
    pytest.mark.vision,
    pytest.mark.skipif(
        find_spec("timm") is None,
        reason="timm is not installed here; `make test-vision` runs these tests",
    ),
]


def network(name: str, seed: int, **options: object) -> torch.nn.Module:
    return build(f"timm:{name}", seed=seed, pretrained=False, num_classes=3, **options)


def coloured(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy images whose strongest colour is the class."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    images = 0.3 * torch.rand(count, 3, 32, 32, generator=draw)
    images[torch.arange(count), targets] += 0.5
    return images, targets


@pytest.mark.parametrize(
    ("teacher_name", "student_name", "loss", "options"),
    [
        ("resnet18", "resnet10t", "itrd", {}),
        ("vit_tiny_patch16_224", "resnet10t", "kd", {"img_size": 32, "patch_size": 8, "depth": 2}),
    ],
)
def test_a_timm_teacher_and_student(
    teacher_name: str, student_name: str, loss: str, options: dict[str, object], tmp_path: Path
) -> None:
    quick = {"batch_size": 16, "device": "cpu", "progress": False, "optimizer": "adamw"}
    teacher, student = network(teacher_name, 0, **options), network(student_name, 1)
    rate = {"learning_rate": 1e-3, **quick}
    limbeck.distill(teacher, None, coloured(96, 0), epochs=8, **rate)
    test = coloured(60, 1)
    out = tmp_path / "run"
    result = limbeck.distill(
        student, teacher, coloured(96, 0), loss=loss, epochs=8, test=test, out=out, **rate
    )
    record = result.record
    assert record.status == "finished"
    assert record.teacher["class"] == type(teacher).__name__
    assert record.teacher["test"]["accuracy"] > 0.5  # chance is 1/3
    assert record.results["last"]["test"]["accuracy"] > 0.5
    back = limbeck.load(out)  # built again by its name in timm
    with torch.no_grad():
        assert torch.equal(back(test[0]), result.student(test[0]))
    made = export(back, test[0][:6], tmp_path / "export")
    assert made.parity.same_answer == 1.0


def test_features_of_two_timm_networks_are_measured() -> None:
    teacher, student = network("resnet18", 0), network("resnet10t", 1)
    found = limbeck.measure(
        teacher, student, coloured(240, 2), layers={"teacher": "layer1", "student": "layer2"},
        method="cells", device="cpu",
    )  # fmt: skip
    assert 0.0 <= found.distillable.value <= 1.585 + 1e-6  # log2 3 bits at most
    assert found.distillable.unit == "bits"
