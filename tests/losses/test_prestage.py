"""Terms of the first epochs: when they hold, what they leave behind, and both in the real loop."""

from collections.abc import Callable

import pytest
import torch
from helpers.features import args, drawn
from helpers.small import QUICK, rows, weights_of
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.losses import AB, FSP, KD, WeightedSum
from limbeck.losses.prestage import PreStage


LOSSES: dict[str, Callable[..., PreStage]] = {"ab": AB, "fsp": FSP}
every = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)


def given(kind: torch.dtype = torch.float32):
    sides = [
        {name: drawn(6, width, 4, 4, seed=seed + place).to(kind) for place, name in enumerate("ab")}
        for width, seed in ((3, 0), (5, 5))
    ]
    return args(*sides)


def ready(make: Callable[..., PreStage], **options: float) -> PreStage:
    loss = make(("a", "b"), **options)
    loss.prepare(*given())
    return loss


@every
def test_first_share_of_the_epochs(make):
    """30 of 240 as in the CRD set-up; one epoch at least."""
    for epochs, first in ((240, 30), (16, 2), (10, 1), (3, 1)):
        loss = make()
        held = [loss.holds]
        for epoch in range(epochs):
            loss.begin_epoch(epoch, epochs)
            held.append(loss.holds)
        assert held == [True] + [True] * first + [False] * (epochs - first)
    with pytest.raises(ArgumentError, match="share"):
        make(share=1.5)


@every
def test_zero_afterwards_with_a_gradient_for_every_parameter(make):
    loss = ready(make)
    term = loss(*given())
    assert term > 0
    assert list(loss.parameters())
    loss.begin_epoch(9, 10)
    for kind in (torch.float32, torch.bfloat16):
        value = loss(*given(kind))
        assert value.dtype == torch.float32
        assert value.shape == ()
        assert value.item() == 0.0
    value.backward()
    assert all(part.grad is not None and (part.grad == 0).all() for part in loss.parameters())
    loss.begin_epoch(0, 10)
    assert torch.equal(loss(*given()), term)


def test_zero_without_parameters_is_not_narrow():
    student, teacher, batch = given(torch.bfloat16)
    loss = FSP(("a", "b"))
    loss.prepare(student, student, batch)
    assert not list(loss.parameters())
    loss.begin_epoch(9, 10)
    assert loss(student, teacher, batch).dtype == torch.float32


def network(width: int, seed: int) -> nn.Sequential:
    """Return two hidden layers and a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = [nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(width, 3))


LAYERS = ("1", "3")


@pytest.fixture(scope="module")
def teacher():
    return lb.distill(network(10, 1), None, rows(48), **QUICK | {"epochs": 8}).student


def trained(loss: nn.Module, teacher: nn.Module, **options: float):
    options = QUICK | {"epochs": 5, "learning_rate": 1e-3, "weight_decay": 0.0} | options
    student = network(8, 2)
    before = weights_of(student)
    result = lb.distill(student, teacher, rows(48), loss=loss, **options)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights_of(result.student), strict=True)]
    return result, moved


@every
def test_in_the_loop_the_task_is_learnt_beside_it_and_then_alone(make, teacher):
    result, moved = trained(make(LAYERS, share=0.4), teacher)
    curves = result.record.curves
    assert all(moved)
    assert all(value > 0 for value in curves["loss distillation"][:2])
    assert curves["loss distillation"][2:] == [0.0] * 3
    assert all(value > 0 for value in curves["loss task"])
    assert "loss auxiliary" not in curves
    assert curves["loss total"][2:] == pytest.approx(curves["loss task"][2:])


@every
def test_a_sum_tells_its_terms_the_epoch(make, teacher):
    both = WeightedSum({"first": (0.5, make(LAYERS, share=0.4)), "kd": (2.0, KD())})
    curves = trained(both, teacher)[0].record.curves
    assert all(value > 0 for value in curves["loss first"][:2])
    assert curves["loss first"][2:] == [0.0] * 3
    assert all(value > 0 for value in curves["loss kd"])


@every
def test_published_stages_are_two_runs(make, teacher):
    """With the whole weight on the term the classifier rests, all below it learns."""
    result, moved = trained(make(LAYERS, share=1.0), teacher, weight=1.0)
    assert moved == [True] * 4 + [False] * 2
    curve = result.record.curves["loss distillation"]
    assert curve[-1] < curve[0]
    second = lb.distill(result.student, None, rows(48), **QUICK)
    assert second.record.curves["loss task"][-1] < second.record.curves["loss task"][0]
