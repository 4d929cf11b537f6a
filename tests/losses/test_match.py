"""Matching outputs: against torch, closed forms and finite differences."""

import jaxtyping
import pytest
import torch
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import Match, match_loss
from limbeck.types import Batch, Outputs


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(7,), (7, 4), (7, 2, 3)])
def test_mse_equals_torch(shape):
    student, teacher = drawn(*shape), drawn(*shape, seed=1)
    value = match_loss(student, teacher).item()
    assert value == pytest.approx(F.mse_loss(student, teacher).item(), rel=1e-13)


def test_cosine_equals_torch_and_ignores_length():
    student, teacher = drawn(7, 4), drawn(7, 4, seed=1)
    value = match_loss(student, teacher, distance="cosine").item()
    expected = (1 - F.cosine_similarity(student, teacher)).mean().item()
    assert value == pytest.approx(expected, rel=1e-12)
    scaled = match_loss(student * 1e4, teacher * 1e-3, distance="cosine").item()
    assert scaled == pytest.approx(value, rel=1e-12)
    assert match_loss(student, student * 2, distance="cosine").item() == pytest.approx(0, abs=1e-15)
    assert match_loss(student, -student, distance="cosine").item() == pytest.approx(2, rel=1e-14)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_gradients(distance):
    student, teacher = drawn(5, 3).requires_grad_(), drawn(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: match_loss(z, teacher, distance=distance), student)
    loss = match_loss(student, teacher, distance=distance)
    found = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_a_row_of_zeros_counts_one_with_a_modest_gradient():
    student, teacher = torch.zeros(2, 3).requires_grad_(), drawn(2, 3).float()
    loss = match_loss(student, teacher, distance="cosine")
    assert loss.item() == 1.0
    assert torch.autograd.grad(loss, student)[0].abs().max() < 1.0


@pytest.mark.parametrize("distance", ["mse", "cosine"])
def test_float_types_and_no_rows(distance):
    student, teacher = drawn(9, 4).bfloat16(), drawn(9, 4, seed=1).bfloat16()
    narrow = match_loss(student, teacher, distance=distance)
    exact = match_loss(student.double(), teacher.double(), distance=distance)
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=1e-6)
    assert match_loss(student[:0], teacher[:0], distance=distance).item() == 0.0


def test_messages():
    student, teacher = drawn(5, 3), drawn(5, 2)
    with pytest.raises(ShapeError, match=r"match_loss: .*student \(5, 3\), teacher \(5, 2\)"):
        match_loss(student, teacher)
    with pytest.raises(ShapeError, match=r'\[batch, width\] for the cosine; got \(5,\).*"mse"'):
        match_loss(student[:, 0], student[:, 0], distance="cosine")
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ArgumentError, match=r"`distance` .*got 'cosin'. Did you mean cosine"):
            match_loss(student, student, distance="cosin")
        with pytest.raises(ArgumentError, match="Match: expected `distance`"):
            Match(distance="l1")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_module():
    student, teacher = drawn(5, 3), drawn(5, 3, seed=1)
    batch = Batch(student, None, torch.arange(5), torch.arange(5))
    for distance in ("mse", "cosine"):
        value = Match(distance=distance)(Outputs(student), Outputs(teacher), batch)
        assert value.item() == match_loss(student, teacher, distance=distance).item()
    with pytest.raises(ArgumentError, match=r"Match: .*none from student"):
        Match()(Outputs(None), Outputs(teacher), batch)
