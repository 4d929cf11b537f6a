"""Losses that alternate: what is trained in which epoch, with nothing lost when a run stops."""

from __future__ import annotations

import signal

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same, weights_of
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError
from limbeck.losses import KD, RID, TED
from limbeck.training import loop
from limbeck.training.interrupts import Interrupted


LAYERS = {"student": "1", "teacher": "1"}
# Warm-up, then the first phase once more, then the student's phase twice.
EPOCHS = 4


def trained(loss, student=None, **options):
    x, y = rows(48)
    student = network(norm=True, dropout=0.3, seed=3) if student is None else student
    options = QUICK | {"epochs": EPOCHS, "weight": None} | options
    return lb.distill(student, good_teacher(), (x, y), loss=loss, test=rows(30, seed=5), **options)


def rid(**options):
    return RID(LAYERS, **{"warmup_epochs": 1, "cycle": 3, **options})


def test_curves_say_which_epoch_trained_what():
    curves = trained(rid()).record.curves
    told = {name: [value is not None for value in curve] for name, curve in curves.items()}
    assert told["loss auxiliary"] == [True, True, False, False]
    assert told["loss distillation"] == told["loss task"] == [False, False, True, True]
    assert told["loss total"] == [True] * 4
    assert curves["learning rate"] == [0.05] * 4


def test_each_epoch_is_told_once():
    told = []

    class Told(RID):
        def begin_epoch(self, epoch: int, epochs: int) -> bool:
            told.append((epoch, epochs))
            return super().begin_epoch(epoch, epochs)

    trained(Told(LAYERS, warmup_epochs=1, cycle=3))
    assert told == [(epoch, EPOCHS) for epoch in range(EPOCHS)]


@pytest.mark.parametrize("loss", [rid(warmup_epochs=9), TED(LAYERS, share=1.0)], ids=["rid", "ted"])
def test_the_student_rests_in_auxiliary_epochs(loss):
    """Weights, BatchNorm statistics and its average keep every bit."""
    for average in (None, 0.9):
        found = trained(loss, average=average)
        assert same(found.student, network(norm=True, dropout=0.3, seed=3))
        assert all(found.record.curves["loss auxiliary"])


def test_an_auxiliary_epoch_after_others_leaves_student_and_average_alone():
    """The fifth epoch begins the second cycle."""
    found = [trained(rid(), epochs=epochs, average=0.9) for epochs in (4, 5)]
    assert found[1].record.curves["loss auxiliary"][4] is not None
    assert same(*(one.student for one in found))


def parts(loss: nn.Module) -> dict[str, list[torch.Tensor]]:
    return {name: weights_of(part) for name, part in loss.named_children()}


def moved(before, after) -> set[str]:
    return {
        name
        for name in before
        if not all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


def after(make, steps: int) -> dict[str, list[torch.Tensor]]:
    loss = make()
    trained(loss, max_steps=steps)
    return parts(loss)


def test_each_part_of_rid_moves_in_its_epochs_only():
    """Three steps are an epoch; weight decay reaches nothing that rests."""
    warm, near, main = (after(rid, steps) for steps in (3, 6, 9))
    filters = {"teacher_filters", "heads"}
    assert moved(warm, near) == filters
    assert moved(near, main) == {"student_filters", "scale_parameters"}


def test_each_part_of_ted_moves_in_its_epochs_only():
    def make():
        return TED(LAYERS, share=0.5)

    first, second, third = (after(make, steps) for steps in (3, 6, 9))
    assert moved(first, second) == {"filters", "heads"}
    assert moved(second, third) == {"filters"}
    teacher = len(first["filters"]) // 2
    kept = list(zip(second["filters"], third["filters"], strict=True))
    same_bits = [torch.equal(a, b) for a, b in kept]
    assert same_bits.count(True) == teacher  # the teacher's half rests


def test_the_student_learns_in_main_epochs():
    found = trained(rid(), epochs=20, learning_rate=0.01)
    assert found.record.results["last"]["test"]["accuracy"] > 0.8


@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_run_stopped_in_any_phase_ends_bit_identical(tmp_path, monkeypatch, step):
    """The second optimiser's momentum is in the checkpoint."""
    expected = trained({"name": "rid", "warmup_epochs": 1, "cycle": 3}, layers=LAYERS)
    original, calls = loop.Loop._one_step, []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    options = {"layers": LAYERS, "out": tmp_path, "checkpoint_seconds": 1e6}
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", signalled)
        with pytest.raises(Interrupted):
            trained({"name": "rid", "warmup_epochs": 1, "cycle": 3}, **options)
    again = trained({"name": "rid", "warmup_epochs": 1, "cycle": 3}, resume=True, **options)
    assert same(again.student, expected.student)
    assert again.record.curves == expected.record.curves


def test_several_teachers_alternate_together():
    x, y = rows(48)
    teachers = [good_teacher(), good_teacher()]
    options = QUICK | {"epochs": EPOCHS}
    found = lb.distill(network(), teachers, (x, y), loss=rid(), **options)
    told = [value is not None for value in found.record.curves["loss auxiliary"]]
    assert told == [True, True, False, False]
    assert {"loss distillation 0", "loss distillation 1"} <= set(found.record.curves)


def test_the_record_has_what_rid_takes_for_granted():
    """A student filter that tells nothing leaves all bits, the teacher's own leaves none."""

    class Known(RID):
        blind = True

        def filtered(self, student, teacher, batch):
            rows = nn.functional.one_hot(batch.targets, 3).float()
            return [(rows * (not self.blind), rows[:, :, None, None].expand(-1, -1, 2, 2))]

    name, x, y = "I(Y; teacher's filter | student's filter), layer 1", *rows(300)
    options = QUICK | {"epochs": 2, "max_steps": 1}
    for blind, bits in ((True, 1.585), (False, 0.0)):
        loss = Known(LAYERS)
        loss.blind = blind
        found = lb.distill(
            network(), good_teacher(), rows(), loss=loss, validation=(x, y), **options
        )
        cell = found.record.results["last"][name]
        assert cell["bits"] == pytest.approx(bits, abs=0.05)
        assert cell["lower"] - 1e-9 <= cell["bits"] <= cell["upper"]
        assert cell["rows"] == 300


def test_what_only_both_filters_tell_is_counted():
    """An exclusive or: a bit in each filter, and the label is one bit of synergy."""

    class Bits(RID):
        def filtered(self, student, teacher, batch):
            low, high = batch.index % 2, batch.index // 2 % 2
            return [(low[:, None].float(), high[:, None].float())]

    x, _ = rows(600)
    index = torch.arange(600)
    held = (x, (index % 2) ^ (index // 2 % 2))
    options = QUICK | {"epochs": 2, "max_steps": 1}
    found = lb.distill(
        network(), good_teacher(), rows(), loss=Bits(LAYERS), validation=held, force=True, **options
    )
    cell = found.record.results["last"]["I(Y; teacher's filter | student's filter), layer 1"]
    assert cell["bits"] == pytest.approx(1.0, abs=0.05)


def test_too_few_rows_for_it_are_a_warning():
    options = QUICK | {"epochs": 2}
    found = lb.distill(network(), good_teacher(), rows(), loss=rid(), test=rows(4), **options)
    assert any("was not measured" in warning for warning in found.record.warnings)


def test_a_loss_that_alternates_by_halves_is_refused():
    class Half(KD):
        def auxiliary_loss(self, student, teacher, batch):
            return self(student, teacher, batch)

        def auxiliary_parameters(self):
            return iter(())

    with pytest.raises(ArgumentError, match="got none of main_parameters, begin_epoch"):
        trained(Half())
