"""The ITRD module: its projection, layers, float types and messages."""

import math

import pytest
import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, LayerError, ShapeError
from limbeck.losses import ITRD, itrd_loss
from limbeck.types import Batch, Outputs


def drawn(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def fixture() -> tuple[Tensor, Tensor]:
    return drawn(6, 4, seed=1), drawn(6, 4, seed=2)


def batch_of(rows: int) -> Batch:
    index = torch.arange(rows)
    return Batch(torch.zeros(rows, 1), None, index, index)


def outputs(features: Tensor, layer: str = "penultimate") -> Outputs:
    return Outputs(None, {layer: features})


def test_module_is_the_function_with_its_projection():
    student, teacher = fixture()
    student = student[:, :3]
    loss = ITRD(alpha=1.5, correlation_weight=3.0, mutual_weight=0.5, eps=1e-4, paper_code=True)
    assert list(loss.parameters()) == []
    assert loss.layers == {"student": ("penultimate",), "teacher": ("penultimate",)}
    args = outputs(student), outputs(teacher), batch_of(6)
    loss.prepare(*args)
    assert isinstance(loss.embedding, nn.Linear)
    assert [p.shape for p in loss.parameters()] == [(4, 3), (4,)]
    expected = itrd_loss(
        student,
        teacher,
        embedded=loss.embedding(student),
        alpha=1.5,
        correlation_weight=3.0,
        mutual_weight=0.5,
        eps=1e-4,
        paper_code=True,
    )
    assert loss(*args).item() == pytest.approx(expected.item(), rel=1e-14)
    before = loss.embedding.weight.clone()
    loss.prepare(*args)  # a second time changes nothing
    assert torch.equal(loss.embedding.weight, before)


def test_module_passes_eps_on():
    student, teacher = fixture()
    args = outputs(student), outputs(teacher), batch_of(6)
    values = []
    for eps in (1e-5, 1.0):
        loss = ITRD(eps=eps)
        loss.prepare(*args)
        values.append(loss(*args).item())
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_initialisation_is_pytorchs_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two, other = (
        ITRD(student_width=400, teacher_width=300, seed=seed).embedding for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    torch.manual_seed(0)
    theirs = nn.Linear(400, 300)
    for mine, reference in ((one.weight, theirs.weight), (one.bias, theirs.bias)):
        assert mine.dtype == reference.dtype
        assert mine.requires_grad
        assert mine.abs().max().item() == pytest.approx(1 / 20, rel=0.02)
        assert reference.abs().max().item() == pytest.approx(1 / 20, rel=0.02)
        # Uniform: the mean of n is 0 within 4 standard errors of bound / sqrt(3 n).
        assert mine.mean().abs().item() < 4 / 20 / math.sqrt(3 * mine.numel())
        assert mine.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.1)


def test_prepared_projection_has_the_features_float_type():
    student, teacher = fixture()
    for kind, expected in [(torch.float64,) * 2, (torch.bfloat16, torch.float32)]:
        loss = ITRD()
        args = outputs(student.to(kind)), outputs(teacher.to(kind)), batch_of(6)
        loss.prepare(*args)
        assert loss.embedding.weight.dtype == expected
        assert loss(*args).dtype == expected


def test_projection_is_not_rounded_by_autocast():
    student, teacher = (z.float() for z in fixture())
    loss = ITRD(student_width=4, teacher_width=4)
    args = outputs(student), outputs(teacher), batch_of(6)
    plain = loss(*args)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(*args).item() == plain.item()


def test_layers_may_differ():
    student, teacher = fixture()
    loss = ITRD({"student": "blocks.1", "teacher": "layer4"}, student_width=4, teacher_width=4)
    assert loss.layers == {"student": ("blocks.1",), "teacher": ("layer4",)}
    assert loss(outputs(student, "blocks.1"), outputs(teacher, "layer4"), batch_of(6)).isfinite()


def test_module_pools_maps():
    student, teacher = drawn(6, 3, 4, 4).float(), drawn(6, 5, 2, 2, seed=1).float()
    loss = ITRD("layer4", student_width=3, teacher_width=5)
    whole = loss(outputs(student, "layer4"), outputs(teacher, "layer4"), batch_of(6))
    flat = student.mean(dim=(2, 3)), teacher.mean(dim=(2, 3))
    vectors = loss(outputs(flat[0], "layer4"), outputs(flat[1], "layer4"), batch_of(6))
    assert whole.item() == pytest.approx(vectors.item(), rel=1e-6)


def test_module_messages():
    student, teacher = fixture()
    args = outputs(student.float()), outputs(teacher.float()), batch_of(6)
    with pytest.raises(ArgumentError, match=r"ITRD: .*not prepared.*student_width"):
        ITRD()(*args)
    with pytest.raises(LayerError, match=r"'penultimat'.*student's features; got penultimate"):
        ITRD("penultimat").prepare(*args)
    with pytest.raises(LayerError, match=r"'other'.*teacher's features; got penultimate"):
        ITRD({"student": "penultimate", "teacher": "other"}).prepare(*args)
    with pytest.raises(ShapeError, match=r"ITRD: expected 3 student and 4 teacher .*\(6, 4\)"):
        ITRD(student_width=3, teacher_width=4)(*args)
    with pytest.raises(ArgumentError, match="`student_width` and `teacher_width` together"):
        ITRD(student_width=3)
    with pytest.raises(ArgumentError, match=r"keys student and teacher; got the keys student\."):
        ITRD({"student": "layer4"})
