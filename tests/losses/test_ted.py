"""TED: two stages, each by hand, and what rests in each."""

import pytest
import torch

from limbeck.checks import ArgumentError
from limbeck.losses import TED
from limbeck.losses.filters import filterable
from limbeck.types import Batch, Outputs


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def given(seed: int = 0) -> tuple[Outputs, Outputs, Batch]:
    student = Outputs(drawn(8, 4, seed=seed), {"a": drawn(8, 3, 4, 4, seed=seed + 1)})
    teacher = Outputs(drawn(8, 4, seed=7), {"b": drawn(8, 5, 2, 2, seed=8)})
    rows = torch.arange(8)
    return student, teacher, Batch(rows, rows % 4, rows, rows)


def prepared(**options) -> TED:
    loss = TED({"student": "a", "teacher": "b"}, **options)
    loss.prepare(*given())
    return loss


def test_stages():
    """The authors' filters learn in the first eighth of the epochs; one epoch at least."""
    for epochs, first in ((300, 37), (16, 2), (3, 1)):
        told = [TED().begin_epoch(epoch, epochs) for epoch in range(epochs)]
        assert told == [True] * first + [False] * (epochs - first)


def test_first_stage_is_the_cross_entropy_of_every_head():
    loss, (student, teacher, batch) = prepared().eval().requires_grad_(False), given()
    expected = 0.0
    # The student's maps are pooled to the teacher's size.
    sides = {"student": student.features["a"].unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))}
    sides["teacher"] = teacher.features["b"]
    for side, rows in sides.items():
        filtered = loss.filters[side][0](rows)
        scores = loss.heads[side][0](filtered.clamp_min(0).reshape(8, -1)).log_softmax(1)
        expected -= sum(float(scores[row, row % 4]) for row in range(8)) / 8
    assert loss.auxiliary_loss(student, teacher, batch).item() == pytest.approx(expected)
    unlabelled = Batch(batch.inputs, None, batch.index, batch.view)
    with pytest.raises(ArgumentError, match="rows without any"):
        loss.auxiliary_loss(student, teacher, unlabelled)


def test_second_stage_is_the_mean_squared_error_of_the_filtered_layers():
    loss, (student, teacher, batch) = prepared().eval().requires_grad_(False), given()
    mine, theirs = filterable(student.features["a"], teacher.features["b"], batch)
    gap = loss.filters["student"][0](mine) - loss.filters["teacher"][0](theirs)
    expected = sum(float(one) ** 2 for one in gap.flatten()) / gap.numel()
    assert loss(student, teacher, batch).item() == pytest.approx(expected)


def test_what_each_stage_moves():
    loss, (student, teacher, batch) = prepared(), given()
    student = Outputs(student.logits, {"a": student.features["a"].requires_grad_()})
    loss.auxiliary_loss(student, teacher, batch).backward()
    assert student.features["a"].grad is None
    assert all(p.grad is not None for p in loss.auxiliary_parameters())
    loss.zero_grad()
    before = loss.filters["teacher"].state_dict()
    before = {name: part.clone() for name, part in before.items()}
    loss(student, teacher, batch).backward()
    assert student.features["a"].grad.abs().max() > 0
    moved = {id(p) for p in loss.parameters() if p.grad is not None}
    assert moved == {id(p) for p in loss.main_parameters()}
    for name, part in loss.filters["teacher"].state_dict().items():
        assert torch.equal(part, before[name])


def test_what_cannot_be_done_is_named():
    student, teacher, batch = given()
    with pytest.raises(ArgumentError, match="not prepared"):
        TED({"student": "a", "teacher": "b"})(student, teacher, batch)
    with pytest.raises(ArgumentError, match="to know the classes"):
        TED({"student": "a", "teacher": "b"}).prepare(
            Outputs(None, student.features), teacher, batch
        )
    with pytest.raises(ArgumentError, match="share"):
        TED(share=2.0)
