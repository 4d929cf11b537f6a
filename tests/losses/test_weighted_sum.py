"""Sums of losses: values, merged needs, parameters and refusals."""

import math

import jaxtyping
import pytest
import torch
from torch import nn

from limbeck.checks import ArgumentError
from limbeck.losses import ITRD, KD, Match, WeightedSum
from limbeck.types import Batch, Outputs


def case() -> tuple[Outputs, Outputs, Batch]:
    source = torch.Generator().manual_seed(0)
    student = Outputs(
        torch.randn(6, 5, generator=source), {"penultimate": torch.randn(6, 3, generator=source)}
    )
    teacher = Outputs(
        torch.randn(6, 5, generator=source), {"penultimate": torch.randn(6, 4, generator=source)}
    )
    return student, teacher, Batch(torch.zeros(6), None, torch.arange(6), torch.arange(6))


class Plain(nn.Module):
    """A loss with none of the optional attributes."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return student.logits.mean()


class Alternating(Plain):
    def auxiliary_loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> torch.Tensor:
        return student.logits.mean()


def test_value_and_terms():
    args = case()
    kd, itrd = KD(), ITRD(student_width=3, teacher_width=4)
    both = WeightedSum({"kd": (0.3, kd), "itrd": (2.0, itrd)})
    expected = {"kd": kd(*args), "itrd": itrd(*args)}
    found = both.terms(*args)
    assert list(found) == ["kd", "itrd"]
    for name, value in expected.items():
        assert torch.equal(found[name], value)
    total = 0.3 * expected["kd"].item() + 2.0 * expected["itrd"].item()
    assert both(*args).item() == pytest.approx(total, rel=1e-6)


def test_prepare_reaches_every_term_and_its_parameters_are_registered():
    args = case()
    both = WeightedSum({"plain": (1.0, Plain()), "itrd": (1.0, ITRD()), "kd": (1.0, KD())})
    assert list(both.parameters()) == []
    both.prepare(*args)
    assert {name for name, _ in both.named_parameters()} == {
        "losses.itrd.embedding.weight",
        "losses.itrd.embedding.bias",
    }
    assert both(*args).isfinite()


def test_needs_are_merged():
    one = ITRD({"student": "a", "teacher": "b"})
    two = ITRD({"student": "c", "teacher": "b"})
    both = WeightedSum({"one": (1.0, one), "two": (1.0, two), "plain": (1.0, Plain())})
    assert both.layers == {"student": ("a", "c"), "teacher": ("b",)}
    assert both.needs_logits is False
    assert both.tasks is None
    assert both.published_weights == (1.0, 1.0)
    with_kd = WeightedSum({"itrd": (1.0, one), "kd": (1.0, KD())})
    assert with_kd.needs_logits is True
    assert with_kd.tasks == frozenset({"classification"})


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([KD, Match], True), ([KD, ITRD], False), ([KD, Plain], False)],
)
def test_mean_over_samples_only_where_all_are(losses, expected):
    both = WeightedSum({str(i): (1.0, loss()) for i, loss in enumerate(losses)})
    assert both.mean_over_samples is expected


def test_sums_nest():
    args = case()
    inner = WeightedSum({"kd": (0.5, KD())})
    outer = WeightedSum({"inner": (2.0, inner), "match": (1.0, Match())})
    expected = KD()(*args).item() + Match()(*args).item()
    assert outer(*args).item() == pytest.approx(expected, rel=1e-6)


def test_refusals():
    with pytest.raises(ArgumentError, match="at least one term"):
        WeightedSum({})
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ArgumentError, match=rf"term 'kd': .*finite and >= 0; got {wrong}"):
            WeightedSum({"kd": (wrong, KD())})
    with pytest.raises(ArgumentError, match=r"term 'rid': .*Alternating, which alternates"):
        WeightedSum({"rid": (1.0, Alternating())})
    regression = KD()
    regression.tasks = frozenset({"regression"})
    with pytest.raises(ArgumentError, match="task in common; got classification; regression"):
        WeightedSum({"one": (1.0, KD()), "two": (1.0, regression)})
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ArgumentError, match=r"expected an nn\.Module.*got builtin"):
            WeightedSum({"lambda": (1.0, torch.add)})
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
