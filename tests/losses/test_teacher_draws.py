"""Labels drawn from a teacher: how often, how stably, and at whose cost."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.logits import drawn

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses import LOSSES
from limbeck.losses.teacher_draws import TeacherDraws, labels_at
from limbeck.types import Batch


PROBABILITIES = torch.tensor([0.4, 0.3, 0.2, 0.09, 0.01, 0.0], dtype=torch.float64)


def batch_of(index: torch.Tensor, view: int = 0) -> Batch:
    return Batch(index, None, index, torch.full_like(index, view))


def teacher(rows: int) -> torch.Tensor:
    return PROBABILITIES.log().clamp_min(-1e4).expand(rows, 6)


@pytest.mark.parametrize("proposal", [1.0, 0.5, 2.0])
def test_frequencies(proposal):
    rows, draws = 4000, 5
    found, reported = TeacherDraws("test", draws=draws, proposal=proposal)(
        teacher(rows), batch_of(torch.arange(rows))
    )
    q = PROBABILITIES**proposal / (PROBABILITIES**proposal).sum()
    for number in range(draws):
        shares = torch.bincount(found[:, number], minlength=6) / rows
        assert ((shares - q).abs() <= 4 * (q * (1 - q) / rows).sqrt()).all()
    # Draws of one sample are independent: equal as often as chance has it.
    equal = (found[:, 0] == found[:, 1]).double().mean().item()
    chance = q.square().sum().item()
    assert equal == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / rows))
    torch.testing.assert_close(reported, PROBABILITIES.log()[found])


def test_a_sample_has_the_same_labels_in_every_epoch_and_batch():
    index = torch.arange(200)
    ask = TeacherDraws("test", draws=3, seed=5)
    first, _ = ask(teacher(200), batch_of(index))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:50]
    before = torch.random.get_rng_state()
    again, _ = ask(teacher(50), batch_of(order, view=7))
    assert torch.equal(again, first[order])
    assert torch.equal(torch.random.get_rng_state(), before)
    # The first draws of a larger budget are those of a smaller one.
    fewer, _ = TeacherDraws("test", draws=2, seed=5)(teacher(200), batch_of(index))
    assert torch.equal(fewer, first[:, :2])


def test_other_seeds_samples_and_views_are_drawn_anew():
    index = torch.arange(500)
    chance = PROBABILITIES.square().sum().item()
    spread = 4 * math.sqrt(chance * (1 - chance) / 500)

    def labels(seed: int = 0, shift: int = 0, view: int = 0) -> torch.Tensor:
        ask = TeacherDraws("test", seed=seed, redraw=True)
        return ask(teacher(500), batch_of(index + shift, view))[0]

    for other in (labels(seed=1), labels(shift=500), labels(view=1)):
        assert (other == labels()).double().mean().item() == pytest.approx(chance, abs=spread)
    assert torch.equal(labels(view=1), labels(view=1))


def test_rare_labels_are_reached_and_impossible_ones_are_not():
    # Passed at 1, 1 + e, 1 + e and 1 + 2 e, with e = 2^-30: below what 24 bits tell apart.
    rare = torch.tensor([[1.0, 2.0**-30, 0.0, 2.0**-30]], dtype=torch.float64)
    levels = 1 - torch.tensor([[2.5, 1.5, 0.5]], dtype=torch.float64) * 2.0**-30
    assert labels_at(rare, levels).tolist() == [[0, 1, 3]]
    lead = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    ends = torch.tensor([[0.0, 0.5, 1 - 2.0**-48]], dtype=torch.float64)
    assert labels_at(lead, ends).tolist() == [[1, 3, 3]]
    # Numbers have 48 bits: of 24 the last half of some label's mass could never come.
    uniform = TeacherDraws("test", draws=64)._uniform(torch.arange(64), torch.zeros(64).long())
    assert ((uniform * 2**24) % 1 != 0).double().mean() > 0.99
    assert (uniform < 1).all()


def test_plain_walk_along_the_distribution():
    logits = drawn(20, 7)
    uniform = torch.rand(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = labels_at(logits.softmax(1), uniform)
    for row, levels, labels in zip(
        logits.softmax(1).tolist(), uniform.tolist(), found.tolist(), strict=True
    ):
        for level, label in zip(levels, labels, strict=True):
            passed, place = row[0], 0
            while passed <= level:
                place += 1
                passed += row[place]
            assert label == place


def test_messages(without_shape_hook):
    for wrong in (0, 1.5, True):
        with pytest.raises(ArgumentError, match="K3: expected `draws` to be a whole number >= 1"):
            LOSSES["k3"](draws=wrong)
    with pytest.raises(ArgumentError, match="SampledCounts: expected `proposal` > 0"):
        LOSSES["sampled_counts"](proposal=0.0)
    for name in ("top_k", "censored"):
        with pytest.raises(ArgumentError, match="expected `k` to be a whole number >= 1"):
            LOSSES[name](k=0)


def test_shape(without_shape_hook):
    with pytest.raises(ShapeError, match=r"test: .*for 2 rows; got \(3, 6\)"):
        TeacherDraws("test")(teacher(3), batch_of(torch.arange(2)))
