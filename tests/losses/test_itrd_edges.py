"""ITRD at its edges: few rows, constant features, narrow floats, autocast, messages."""

import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import correlation_loss, itrd_loss, mutual_information_loss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def fixture() -> tuple[Tensor, Tensor]:
    return drawn(6, 4, seed=1), drawn(6, 4, seed=2)


@pytest.fixture
def unhooked():
    """Switch shape annotations off, which would speak before our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("paper_code", [False, True])
@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_give_zero_with_a_graph(rows, paper_code):
    student, teacher = drawn(rows, 4).requires_grad_(), drawn(rows, 4, seed=1)
    loss = itrd_loss(student, teacher, paper_code=paper_code)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert (gradient == 0).all()


@pytest.mark.parametrize("paper_code", [False, True])
def test_degenerate_features_stay_finite(paper_code):
    student, teacher = drawn(7, 4), drawn(7, 4, seed=1)
    ones = torch.ones(7, 4, dtype=torch.float64)
    half = teacher.clone()
    half[:, :2] = 0.1
    for one, two in [
        (student, 0.3 * ones),
        (0.3 * ones, teacher),
        (student, half),
        (half, half),
        (student * 1e4, teacher * 1e4),
        (student * 1e-6, teacher),
        (student[:2], teacher[:2]),
        (teacher, teacher),
    ]:
        for kind in (torch.float64, torch.float32):
            z = one.to(kind).clone().requires_grad_()
            loss = itrd_loss(z, two.to(kind), paper_code=paper_code)
            assert loss.isfinite()
            assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_constant_teacher_gives_no_correlation():
    for value in (0.1, 0.3, 1e4):  # their float32 mean over 7 rows is not exactly the value
        constant = torch.full((7, 3), value)
        student = drawn(7, 3).float().requires_grad_()
        loss = correlation_loss(student, constant)
        assert loss.item() == 0.0
        assert (torch.autograd.grad(loss, student)[0] == 0).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_floats_are_computed_in_float32(kind):
    student, teacher = drawn(64, 16).to(kind), drawn(64, 16, seed=1).to(kind)
    for paper_code in (False, True):
        value = itrd_loss(student, teacher, paper_code=paper_code)
        exact = itrd_loss(student.double(), teacher.double(), paper_code=paper_code)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)


def test_autocast_does_not_round_the_gram_matrices():
    student, teacher = drawn(64, 16).float().requires_grad_(), drawn(64, 16, seed=1).float()
    plain = mutual_information_loss(student, teacher)
    (expected,) = torch.autograd.grad(plain, student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mutual_information_loss(student, teacher)
        (gradient,) = torch.autograd.grad(inside, student)
    assert inside.dtype == torch.float32
    assert inside.item() == plain.item()
    assert torch.equal(gradient, expected)


def test_rounding_makes_no_negative_weight():
    """Two parallel teacher rows: some float32 cosines exceed 1, and 1 - K_t^2 falls below 0."""
    source, above = torch.Generator().manual_seed(0), 0
    for _ in range(50):
        row = torch.randn(1, 7, generator=source)
        teacher = torch.cat([row, row * 1.7])
        units = torch.nn.functional.normalize(teacher)
        above += bool((units @ units.T)[0, 1] > 1)
        assert mutual_information_loss(torch.ones(2, 3), teacher).item() >= 0
    assert above > 0


def test_float64_stays_float64():
    student, teacher = fixture()
    assert itrd_loss(student, teacher.float()).dtype == torch.float64


def test_no_gradient_to_the_teacher():
    student, teacher = (z.requires_grad_() for z in fixture())
    found = torch.autograd.grad(itrd_loss(student, teacher), (student, teacher), allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None


def test_skipped_mutual_term(monkeypatch):
    student, teacher = fixture()

    def called(*args, **settings):
        raise AssertionError("a term of weight zero costs nothing")

    monkeypatch.setattr("limbeck.losses.itrd.mutual_information_loss", called)
    value = itrd_loss(student, teacher, mutual_weight=0.0, correlation_weight=1.0)
    assert value.item() == correlation_loss(student, teacher).item()


@pytest.mark.usefixtures("unhooked")
def test_messages():
    student, teacher = fixture()
    with pytest.raises(
        ShapeError, match=r"itrd_loss: .*student \(6, 3\), teacher \(6, 4\).*embedded="
    ):
        itrd_loss(student[:, :3], teacher)
    with pytest.raises(ShapeError, match=r"correlation_loss: .*embedded \(6, 3\)"):
        itrd_loss(student, teacher, embedded=student[:, :3])
    with pytest.raises(ShapeError, match=r"itrd_loss: .*student \(5, 4\)"):
        itrd_loss(student[:5], teacher)
    with pytest.raises(ShapeError, match=r"mutual_information_loss: .*student \(5, 4\)"):
        mutual_information_loss(student[:5], teacher)
    for wrong in (0.4, 11.0, math.nan):
        with pytest.raises(ArgumentError, match="correlation_loss: expected `alpha`"):
            itrd_loss(student, teacher, alpha=wrong)
    with pytest.raises(ArgumentError, match="expected `eps` > 0"):
        itrd_loss(student, teacher, eps=0.0)
    for name in ("correlation_weight", "mutual_weight"):
        with pytest.raises(ArgumentError, match=f"itrd_loss: expected `{name}`"):
            itrd_loss(student, teacher, **{name: -1.0})
    with pytest.raises(ArgumentError, match="expected `max_pairs` > 0"):
        mutual_information_loss(student, teacher, max_pairs=0)
