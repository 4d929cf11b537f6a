"""Students that change from epoch to epoch: who is told, when, and resumed runs."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from helpers.small import QUICK, good_teacher, rows, same
from torch import nn
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel

import limbeck as lb
from limbeck.students import BinaryConv2d, binary
from limbeck.training import loop
from limbeck.training.building import build
from limbeck.training.interrupts import Interrupted


def images(count=24, seed=0):
    """Return images [count, 1, 8, 8] whose class is the brightest third of the columns."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    pixels = 0.5 * torch.rand(count, 1, 8, 8, generator=generator)
    for row, target in enumerate(targets.tolist()):
        pixels[row, ..., 3 * target : 3 * target + 2] += 0.5
    return pixels, targets


def student(seed=0):
    return binary(build("zoo:small_cnn", seed=seed, width=4, depth=3, num_classes=3))


def schedule(epoch, epochs):
    """Section 4.5: tau = A exp(e / E) + B."""
    a = (0.99 - 0.85) / (math.e - 1)
    return a * math.exp(epoch / epochs) + 0.85 - a


class Annealed(nn.Module):
    """A layer whose output depends on the epoch; it keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int]] = []
        self.factor = 1.0

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.told.append((epoch, epochs))
        self.factor = 1.0 + epoch

    def forward(self, x):
        return x * self.factor


def annealed(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), Annealed(), nn.Tanh(), nn.Linear(8, 3))


def test_tau_follows_the_schedule_in_every_step():
    model, seen = student(), []
    model.stage3.conv.register_forward_hook(
        lambda layer, *_: seen.append(layer.tau) if layer.training else None
    )
    lb.distill(model, None, images(), **QUICK | {"epochs": 5, "batch_size": 12})
    assert seen[-10:] == pytest.approx([schedule(e, 5) for e in range(5) for _ in range(2)])
    taus = {part.tau for part in model.modules() if isinstance(part, BinaryConv2d)}
    assert taus == {seen[-1]}


@pytest.mark.parametrize("wrapped", ["plain", "compiled", "in DDP", "in a module of one's own"])
def test_every_part_is_told_once_an_epoch(wrapped):
    inner = annealed()
    if wrapped == "in DDP":
        init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        whole = {
            "plain": lambda: inner,
            "compiled": lambda: torch.compile(inner, backend="eager"),
            "in DDP": lambda: DistributedDataParallel(inner),
            "in a module of one's own": lambda: nn.Sequential(nn.Identity(), nn.Sequential(inner)),
        }[wrapped]()
        lb.distill(whole, None, rows(), **QUICK)
    finally:
        if wrapped == "in DDP":
            destroy_process_group()
    assert inner[1].told == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad")  # torch's, compiling
def test_a_whole_compiled_student_is_told_once():
    compiled = torch.compile(Annealed(), backend="eager")
    whole = nn.Sequential(nn.Linear(6, 3), compiled)
    lb.distill(whole, None, rows(), **QUICK)
    assert compiled._orig_mod.told == [(0, 3), (1, 3), (2, 3)]


def test_auxiliary_epochs_are_epochs_too():
    model, loss = annealed(), {"name": "rid", "warmup_epochs": 1, "cycle": 2}
    layers = {"student": "2", "teacher": "1"}
    lb.distill(model, good_teacher(), rows(), loss=loss, layers=layers, **QUICK | {"epochs": 4})
    assert [epoch for epoch, _ in model[1].told] == [0, 1, 2, 3]


def test_the_average_is_told_too():
    result = lb.distill(annealed(), None, rows(), average=0.5, **QUICK)
    assert result.student[1].told == [(0, 3), (1, 3), (2, 3)]
    assert result.student[1].factor == 3.0


def run(out=None, **options):
    """Distil a binary student with an average; returns the result."""
    x, y = images(36)
    teacher = nn.Sequential(
        nn.AdaptiveAvgPool2d((1, 8)), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 3)
    )
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
        for k in range(3):
            teacher[2].weight[k, 3 * k : 3 * k + 2] = 1.0
            teacher[3].weight[k, k] = 10.0
    settings = {"average": 0.9, "checkpoint_seconds": 0.0, "batch_size": 12, "out": out}
    data, held_out = (x[:24], y[:24]), (x[24:], y[24:])
    settings |= {"loss": "kd", "validation": held_out, "test": images(9, seed=3)}
    return lb.distill(student(), teacher, data, **QUICK | settings | options)


def stopped(monkeypatch, train, step):
    """Train until a signal that comes before a step, counted from 1."""
    original, calls = loop.Loop._one_step, []

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", signalled)
        with pytest.raises(Interrupted):
            train()


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


@pytest.mark.parametrize("step", [1, 3, 4, 5])  # two steps an epoch: in the middle and at the end
def test_a_resumed_binary_run_is_bit_identical(tmp_path, uninterrupted, monkeypatch, step):
    stopped(monkeypatch, lambda: run(tmp_path), step)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["position"]
    assert saved[2] == step
    result = run(tmp_path, resume=True)
    assert same(result.student, uninterrupted.student)
    assert result.record.curves == uninterrupted.record.curves
    assert result.record.results == uninterrupted.record.results
    taus = {part.tau for part in result.student.modules() if isinstance(part, BinaryConv2d)}
    assert list(taus) == [pytest.approx(schedule(2, 3))]


def test_the_schedule_matters_here(uninterrupted, monkeypatch):
    monkeypatch.setattr(BinaryConv2d, "begin_epoch", lambda *_: None)
    assert not same(run().student, uninterrupted.student)


@pytest.mark.parametrize("when", ["in the last step", "in an early epoch"])
def test_a_run_that_only_lacked_its_end_is_finished_in_the_state_of_its_last_epoch(
    tmp_path, monkeypatch, when
):
    def train(**options):
        data = {"test": rows(30, seed=5), "validation": rows(15, seed=6)}
        model = annealed()
        found = lb.distill(model, None, rows(), **QUICK | data | options)
        return found, model[1].told

    expected, _ = train()
    step = 9 if when == "in the last step" else 5
    stopped(monkeypatch, lambda: train(out=tmp_path, checkpoint_seconds=1e6), step)
    result, told = train(out=tmp_path, resume=True)
    assert same(result.student, expected.student)
    assert result.record.results == expected.record.results
    assert result.student[1].factor == expected.student[1].factor == 3.0
    assert told == ([(2, 3)] * 2 if step == 9 else [(1, 3)] * 2 + [(2, 3)])


def test_a_run_stopped_after_its_last_epoch(tmp_path, monkeypatch):
    def train(**options):
        return lb.distill(annealed(), None, rows(), **QUICK | {"test": rows(30, seed=5)} | options)

    expected = train()
    whole = loop.Loop.run

    def ended(self):
        whole(self)
        self._save_now()
        raise Interrupted("after the last epoch", signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "run", ended)
        with pytest.raises(Interrupted):
            train(out=tmp_path)
    result = train(out=tmp_path, resume=True)
    assert same(result.student, expected.student)
    assert result.record.results == expected.record.results
    assert result.student[1].told == [(2, 3)]


def test_a_run_folder_holds_a_student_that_comes_back_by_itself(tmp_path):
    result = run(tmp_path, average=None)
    for folder in (tmp_path, tmp_path / "student", tmp_path / "best"):
        assert [type(m) for m in lb.load(folder).modules() if isinstance(m, nn.Conv2d)] == [
            nn.Conv2d, BinaryConv2d, BinaryConv2d,
        ]  # fmt: skip
    again = lb.load(tmp_path)
    assert same(again, result.student)
    x, _ = images()
    assert torch.equal(again(x), result.student(x))
    assert again.limbeck_source == result.student.limbeck_source
    assert result.record.settings["student_source"]["convert"][0]["name"] == "binary"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad")  # torch's, compiling
def test_moving_tau_compiles_nothing_anew(without_shape_hook):
    torch.compiler.reset()
    layer, graphs, gradients = BinaryConv2d(2, 3, 3, dtype=torch.float64), [], []

    def counted(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=counted)
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 54).view(3, 2, 3, 3) ** 3)
    for epoch in range(12):
        layer.begin_epoch(epoch, 12)
        found, expected = (
            torch.autograd.grad(model(x).square().sum(), layer.weight)[0]
            for model in (compiled, layer)
        )
        assert torch.equal(found, expected)
        gradients.append(found)
        if epoch == 1:  # under the shape hook the second call compiles one part again
            first = len(graphs)
    assert len(graphs) == first > 0
    assert not torch.equal(gradients[0], gradients[-1])
