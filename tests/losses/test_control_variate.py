"""The control variate: its lambda against plain loops, over steps, checkpoints and ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.logits import drawn, softmax
from helpers.processes import spread
from helpers.variate_ranks import SPLITS, STEPS, run_rank, steps

import limbeck as lb
from limbeck.losses import ControlVariate
from limbeck.types import Batch, Outputs


def a_step(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = drawn(4, 5, seed=seed)
    labels = torch.randint(-1, 5, (4, 3), generator=source)
    return (
        logits.requires_grad_(),
        labels,
        -drawn(4, 3, seed=seed + 50).abs() - 0.05,
        drawn(4, 3, seed=seed + 90).abs(),
    )


def means(step: tuple, clip: float = float("inf")) -> tuple[float, float]:
    """Return the weighted means of r s and r^2 s, with the score of every label written out."""
    logits, labels, reported, weights = (part.detach() for part in step)
    above = below = total = 0.0
    for i, row in enumerate(logits.tolist()):
        p = softmax(row)
        for j, label in enumerate(labels[i].tolist()):
            if label < 0:
                continue
            score = [(k == label) - p[k] for k in range(5)]
            s = sum(part**2 for part in score)
            r = min(p[label] / reported[i, j].exp().item(), clip)
            w = weights[i, j].item()
            above, below, total = above + w * r * s, below + w * r * r * s, total + w
    return above / total, below / total


@pytest.mark.parametrize("clip", [None, 1.2])
def test_averages_by_plain_loops(clip):
    adaptive = lb.AdaptiveControlVariate(decay=0.9, clip=clip).double()
    kept = [0.0, 0.0]
    weight = 0.0
    for seed in (4, 0, 5, 1):
        step = a_step(seed)
        assert adaptive.weight.item() == pytest.approx(weight, rel=1e-12)
        value = adaptive(*step)
        expected = lb.control_variate_loss(*step[:3], weight=weight, clip=clip, weights=step[3])
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        new = means(step, float("inf") if clip is None else clip)
        kept = [0.9 * old + 0.1 * one for old, one in zip(kept, new, strict=True)]
        weight = min(max(kept[0] / kept[1], 0.0), 1.0)
    assert adaptive.moments.tolist() == pytest.approx(kept, rel=1e-12)


def test_the_weight_is_a_constant_of_the_backward_pass():
    adaptive = lb.AdaptiveControlVariate().double()
    adaptive(*a_step(4))
    above, below = means(a_step(4))
    fixed = above / below
    assert 0.1 < fixed < 0.9
    step = a_step(1)
    (found,) = torch.autograd.grad(adaptive(*step), step[0])
    value = lb.control_variate_loss(*step[:3], weight=fixed, weights=step[3])
    torch.testing.assert_close(found, torch.autograd.grad(value, step[0])[0])
    tensor = torch.tensor(fixed, requires_grad=True)
    value = lb.control_variate_loss(*step[:3], weight=tensor, weights=step[3])
    assert torch.autograd.grad(value, tensor, allow_unused=True) == (None,)


def test_nothing_is_learned_without_labels_in_evaluation_or_without_gradients():
    adaptive, step = lb.AdaptiveControlVariate().double(), a_step(0)
    with torch.no_grad():
        adaptive(*step)
    adaptive.eval()(*step)
    assert adaptive.moments.tolist() == [0.0, 0.0]
    adaptive.train()(*step)
    before = adaptive.moments.clone()
    assert (before > 0).all()
    adaptive(step[0], torch.full((4, 3), -1), *step[2:])
    assert torch.equal(adaptive.moments, before)


def test_far_from_everything_it_stays_finite():
    adaptive = lb.AdaptiveControlVariate()
    logits = torch.tensor([[1e4, 0.0]], requires_grad=True)
    value = adaptive(logits, torch.tensor([0]), torch.tensor([-1e4]))
    assert value.isfinite()
    assert adaptive.moments.isfinite().all()
    assert 0.0 <= adaptive.weight.item() <= 1.0


def test_a_checkpoint_goes_on_where_it_was():
    one, other = ControlVariate(seed=1), ControlVariate(seed=1)

    def value(loss: ControlVariate, seed: int) -> torch.Tensor:
        student = drawn(6, 5, seed=seed).requires_grad_()
        teacher = Outputs(drawn(6, 5, seed=seed + 9))
        return loss(
            Outputs(student), teacher, Batch(student, None, torch.arange(6), torch.arange(6))
        )

    value(one, 0)
    other.load_state_dict(one.state_dict())
    assert one.adaptive.weight.item() > 0
    assert torch.equal(value(one, 1), value(other, 1))
    assert torch.equal(one.adaptive.moments, other.adaptive.moments)


def test_a_fixed_weight_keeps_no_averages():
    student, teacher = drawn(6, 5).requires_grad_(), drawn(6, 5, seed=1)
    batch = Batch(student, None, torch.arange(6), torch.arange(6))
    loss = ControlVariate(weight=0.25, clip=4.0)
    value = loss(Outputs(student), Outputs(teacher), batch)
    labels, reported = loss.drawn(teacher, batch)
    expected = lb.control_variate_loss(student, labels, reported, weight=0.25, clip=4.0)
    assert value.item() == expected.item()
    assert loss.adaptive.moments.tolist() == [0.0, 0.0]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("ranks"))
    spread(run_rank, folder)
    return {
        key: value
        for rank in range(2)
        for key, value in torch.load(Path(folder) / f"{rank}.pt").items()
    }


@pytest.mark.parametrize("split", SPLITS)
def test_two_ranks_equal_one(two_ranks, split):
    expected = steps(None)
    assert len(expected) == STEPS
    for rank in range(2):
        torch.testing.assert_close(two_ranks[split, rank], expected, rtol=1e-11, atol=1e-13)
