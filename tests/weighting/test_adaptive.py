"""The weight of a run: warm-up, slew, freeze, history, states and what waits for the device."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.controllers import HbarController
from limbeck.weighting.controlling.schedules import Linear, WithLearningRate
from limbeck.weighting.theory.reshuffling import reshuffled_share


FREE = {"warmup": 0, "slew": None, "freeze_width": None}


def gradients(step, *, shift=0.02, kind=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(step)
    g = torch.randn(2, 6, generator=generator)
    h = 0.9 * g + 0.2 * torch.randn(2, 6, generator=generator) + shift
    halves = [
        [row[:4].to(device, kind), row[4:].reshape(1, 2).to(device, kind)] for row in (*g, *h)
    ]
    return {"task": (halves[0], halves[1]), "difference": (halves[2], halves[3])}


def measured(step, mode="hbar", *, learning_rate=0.1, **changed):
    found = gradients(step, **changed)
    common = {"rows": 4, "learning_rate": learning_rate, "batch_size": 8}
    if mode == "hbar":
        return found | common | {"curvature": 1.0}
    device = changed.get("device", "cpu")
    losses = {
        "student_loss": torch.full((), 0.5 + 0.01 * (step % 3), device=device),
        "teacher_loss": torch.full((), 0.52, device=device),
    }
    return {"task": found["task"]} | common | losses


def constant(h, *, learning_rate=0.1):
    """Gradients without any spread from step to step: c = 8 h, v = 8 h^2, U = 0, no width."""
    g = [torch.tensor([1.0])], [torch.tensor([-1.0])]
    d = [torch.tensor([2.0 * h])], [torch.tensor([0.0])]
    return {
        "task": g, "difference": d, "rows": 4, "learning_rate": learning_rate, "batch_size": 8,
        "curvature": 1.0,
    }  # fmt: skip


def test_a_fixed_weight_is_the_number_bit_for_bit():
    weight = AdaptiveWeight("fixed", weight=0.3)
    assert isinstance(weight.weight, float)
    task, distillation = torch.rand(2)
    other = 0.3
    for step in range(100):
        weight.advance(step, 0.1 / (1 + step))
        assert not weight.due(step)
        loss = (1 - weight.weight) * task + weight.weight * distillation
        assert loss.equal((1 - other) * task + other * distillation)
    assert weight.history() == []
    assert weight.controller is None
    with pytest.raises(ArgumentError, match='expected mode "hbar" or "losspair"; got fixed'):
        weight.observe(0, **measured(0))


def test_a_schedule_is_obeyed_at_once():
    line = Linear(0.9, 0.1, steps=50)
    weight = AdaptiveWeight(line, warmup=1000, slew=1e-3)
    assert weight.weight == 0.0
    for step in range(60):
        weight.advance(step, 0.1)
        assert weight.weight == line(step, 0.1)
        assert not weight.due(step)
    rate = AdaptiveWeight(WithLearningRate(0.1, 0.1, reference=0.1))
    rate.advance(0, 0.025)
    assert rate.weight == pytest.approx(0.2)


def test_a_schedule_outside_of_its_range():
    weight = AdaptiveWeight(lambda step, rate: 0.2 * step, maximum=0.5)
    weight.advance(2, 0.1)
    with pytest.raises(ArgumentError, match=r"within \[0, 0.5\]; got 0.6.* at step 3"):
        weight.advance(3, 0.1)
    with pytest.raises(ArgumentError, match="got nan"):
        AdaptiveWeight(lambda step, rate: math.nan).advance(0, 0.1)


def test_due_every_few_steps():
    for mode in ("hbar", "losspair"):
        weight = AdaptiveWeight(mode, every=7)
        assert [step for step in range(30) if weight.due(step)] == [0, 7, 14, 21, 28]


def test_the_weight_is_that_of_the_controller_with_decays_to_the_power_of_every():
    weight = AdaptiveWeight("hbar", every=20, **FREE)
    other = HbarController(fast_decay=0.99**20, slow_decay=0.999**20)
    for step in range(0, 600, 20):
        weight.observe(step, **measured(step))
        other.observe(**measured(step))
        assert weight.weight.equal(other.weight())
    # The window of 100 steps holds (1 + d) / (1 - d) of the measurements, that of 1000 ten times
    # as many.
    long = AdaptiveWeight("hbar", every=20, **FREE)
    for step in range(0, 20000, 20):
        long.observe(step, **constant(1.0))
    counts = long.state_dict()["controller"]
    fast = counts["traces"]["first"]
    slow = counts["means"][0]
    assert (fast["mass"] ** 2 / fast["squares"]).item() == pytest.approx(10.0, rel=0.02)
    assert (slow["mass"] ** 2 / slow["squares"]).item() == pytest.approx(100.0, rel=0.02)


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_the_warm_up_keeps_the_start_weight(mode):
    weight = AdaptiveWeight(mode, weight=0.25, every=10, warmup=50, slew=None, freeze_width=None)
    assert weight.weight.item() == 0.25
    seen = {}
    for step in range(0, 80, 10):
        weight.observe(step, **measured(step, mode))
        seen[step] = weight.weight.item()
    assert [seen[step] for step in range(0, 50, 10)] == [0.25] * 5
    assert seen[50] != 0.25
    rows = weight.history()
    assert [row["step"] for row in rows] == list(range(0, 80, 10))
    assert seen[50] == rows[5]["measured"]
    assert AdaptiveWeight(mode).weight.item() == 0.0


def test_a_measurement_moves_the_weight_by_the_slew_at_most():
    up = AdaptiveWeight("hbar", warmup=0, slew=0.15, freeze_width=None)
    for step, expected in enumerate([0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.0]):
        up.observe(step, **constant(1.0))
        assert up.weight.item() == pytest.approx(expected, rel=1e-6)
    down = AdaptiveWeight("hbar", weight=0.4, warmup=0, slew=0.15, freeze_width=None)
    for step, expected in enumerate([0.25, 0.1, 0.0, 0.0]):
        down.observe(step, **constant(-1.0))
        assert down.weight.item() == pytest.approx(expected, abs=1e-7)


def test_a_wide_interval_freezes_the_weight():
    weight = AdaptiveWeight("hbar", weight=0.4, warmup=0, slew=None, freeze_width=0.3)
    for step in range(2):  # the interval of two measurements is all of [0, 1]
        weight.observe(step, **constant(1.0))
        assert weight.weight.item() == pytest.approx(0.4, rel=1e-6)
    weight.observe(2, **constant(1.0))
    assert weight.weight.item() == 1.0
    rows = weight.history()
    assert [row["upper"] - row["lower"] for row in rows] == [1.0, 1.0, 0.0]
    assert rows[0]["measured"] == 1.0


def test_the_odds_of_a_frozen_weight_fall_with_the_learning_rate_and_never_rise():
    weight = AdaptiveWeight("hbar", weight=0.8, warmup=0, slew=None, freeze_width=1e-9)
    rates, odds = [0.4, 0.4, 0.1, 0.2, 0.1], 4.0
    for step, rate in enumerate(rates):
        # Next to no curvature: the noise in hbar alone may mean anything.
        loose = measured(step, learning_rate=rate, shift=0.0) | {"curvature": 1e-4}
        weight.observe(step, **loose)
        odds *= min(rate / rates[max(step - 1, 0)], 1.0)
        assert weight.weight.item() == pytest.approx(odds / (1 + odds), rel=1e-5)
    assert odds == pytest.approx(0.5)
    assert {(row["lower"], row["upper"]) for row in weight.history()} == {(0.0, 1.0)}


def test_the_slew_does_not_hold_back_a_cut_of_the_learning_rate():
    for freeze in (1e-9, None):  # frozen, and free of its interval
        weight = AdaptiveWeight("hbar", weight=0.9, warmup=0, slew=1e-6, freeze_width=freeze)
        for step, rate in enumerate((0.4, 0.4, 0.04)):
            loose = measured(step, learning_rate=rate, shift=0.0) | {"curvature": 1e-4}
            weight.observe(step, **loose)
        assert weight.weight.item() == pytest.approx(0.9 / 1.9, abs=1e-5)


def test_a_frozen_weight_falls_with_the_noise_that_epochs_leave():
    weight = AdaptiveWeight("hbar", weight=0.9, warmup=0, slew=None, freeze_width=1e-9)
    for step, rate in enumerate((0.4, 0.4, 0.04)):
        loose = measured(step, learning_rate=rate, shift=0.0) | {"curvature": 1e-3}
        weight.observe(step, **loose, steps_per_epoch=1000, epoch=0)
    first, last = (reshuffled_share(rate * 1e-3, 1000).item() for rate in (0.4, 0.04))
    odds = 9 * 0.1 * last / first
    assert weight.weight.item() == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_a_frozen_weight_goes_to_the_nearer_end_of_an_interval_that_excludes_it():
    for start in (0.0, 1.0):
        weight = AdaptiveWeight(
            "hbar", weight=start, every=1, warmup=0, slew=None, freeze_width=1e-9
        )
        for step in range(60):
            weight.observe(step, **measured(step, shift=0.4))
        row = weight.history()[-1]
        assert 0.02 < row["lower"] < row["measured"] < row["upper"] < 0.98
        ends = [row["lower"] for row in weight.history()] + [
            row["upper"] for row in weight.history()
        ]
        assert row["lower"] - 1e-6 <= weight.weight.item() <= row["upper"] + 1e-6
        assert min(abs(weight.weight.item() - end) for end in ends) < 1e-6


def test_frozen_edges():
    weight = AdaptiveWeight("hbar", weight=1.0, warmup=0)
    zero = torch.tensor(0.0)
    for rate in (0.1, zero, zero, 0.1):
        weight.observe(0, **measured(0, learning_rate=rate))
        assert weight.weight.isfinite()
    bad = measured(1)
    bad["task"][0][0].fill_(math.nan)
    fresh = AdaptiveWeight("hbar", weight=0.5, warmup=0, freeze_width=None)
    fresh.observe(0, **bad)
    assert fresh.weight.isfinite()


def test_losspair_is_told_the_weight_in_use():
    weight = AdaptiveWeight("losspair", weight=0.5, every=1, warmup=3, slew=0.1, freeze_width=None)
    used = []
    for step in range(8):
        used.append(weight.weight.item())
        weight.observe(step, **measured(step, "losspair"))
    mean = sum(0.999 ** (7 - i) * w for i, w in enumerate(used)) / sum(0.999**i for i in range(8))
    assert weight.history()[-1]["mean_weight"] == pytest.approx(mean, rel=1e-5)
    assert used[-1] != 0.5


def test_the_maximum():
    for mode, expected in (("hbar", 1.0), ("losspair", 0.95)):
        assert AdaptiveWeight(mode).controller.maximum == expected
        assert AdaptiveWeight(mode, maximum=0.6).controller.maximum == 0.6
    weight = AdaptiveWeight("hbar", maximum=0.6, **FREE)
    for step in range(4):
        weight.observe(step, **constant(1.0))
    assert weight.weight.item() == pytest.approx(0.6)


def test_the_history_holds_every_ingredient_and_the_latest_measurements():
    weight = AdaptiveWeight("hbar", every=5, remember=4, warmup=10)
    for step in range(0, 40, 5):
        weight.observe(step, **measured(step, shift=0.4))
    rows = weight.history()
    assert [row["step"] for row in rows] == [20, 25, 30, 35]
    assert set(rows[0]) == {
        "step", "tr_gg", "tr_gh", "tr_hh", "hbar2", "learning_rate", "batch_size", "curvature",
        "noise_left", "measured", "lower", "upper", "weight",
    }  # fmt: skip
    assert all(
        isinstance(value, float) for row in rows for name, value in row.items() if name != "step"
    )
    last = rows[-1]
    assert last["weight"] == weight.weight.item()
    assert last["tr_gh"] == weight.controller.ingredients()["tr_gh"].item()
    assert last["learning_rate"] == pytest.approx(0.1)
    assert last["batch_size"] == 8
    bias = 2 * 8 / 0.1 * max(last["hbar2"], 0)
    assert last["measured"] == pytest.approx(last["tr_gh"] / (last["tr_hh"] + bias), rel=1e-5)
    pair = AdaptiveWeight("losspair")
    pair.observe(0, **measured(0, "losspair"))
    assert {"noise_floor", "loss_difference", "mean_weight", "teacher_excess"} < set(
        pair.history()[0]
    )


def flat(state) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    found = [part for part in parts if isinstance(part, Tensor | dict | list)]
    return [tensor for part in found for tensor in flat(part)]


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
@pytest.mark.parametrize("at", [0, 1, 9])
def test_a_state_goes_on_bit_for_bit_with_its_history(mode, at, tmp_path):
    def made():
        return AdaptiveWeight(mode, every=10, warmup=30, remember=12, freeze_width=0.9)

    one, two = made(), made()
    for count in range(at):
        one.observe(10 * count, **measured(count, mode, learning_rate=0.1 / (1 + count)))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    state = one.state_dict()
    for tensor in flat(state):
        tensor.fill_(7.0)
    two.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for count in range(at, 25):
        for weight in (one, two):
            weight.observe(10 * count, **measured(count, mode, learning_rate=0.1 / (1 + count)))
        assert one.weight.equal(two.weight)
    assert one.history() == two.history()
    assert len(one.history()) == 12
    pairs = zip(flat(one.state_dict()), flat(two.state_dict()), strict=True)
    assert all(a.equal(b) for a, b in pairs)


def test_the_weight_moves_after_a_state_was_loaded_as_if_it_had_not_been():
    one = AdaptiveWeight("hbar", weight=0.8, warmup=0, slew=None, freeze_width=1e-9)
    one.observe(0, **measured(0, learning_rate=0.4))
    two = AdaptiveWeight("hbar", warmup=0, slew=None, freeze_width=1e-9)
    two.load_state_dict(one.state_dict())
    for weight in (one, two):
        weight.observe(1, **measured(1, learning_rate=0.1))
        assert weight.weight.item() == pytest.approx(0.5)


def test_states_of_what_measures_nothing():
    one, two = (AdaptiveWeight(Linear(1.0, 0.0, steps=10)) for _ in range(2))
    one.advance(3, 0.1)
    two.load_state_dict(one.state_dict())
    assert two.weight == pytest.approx(0.7)
    fixed = AdaptiveWeight("fixed", weight=0.2)
    fixed.load_state_dict(AdaptiveWeight("fixed", weight=0.2).state_dict())
    assert fixed.weight == 0.2
    with pytest.raises(CheckpointError, match="state of mode fixed; got schedule"):
        fixed.load_state_dict(one.state_dict())


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_two_runs_are_the_same(mode):
    found = []
    for _ in range(2):
        weight = AdaptiveWeight(mode, warmup=3, freeze_width=0.9)
        for step in range(20):
            weight.observe(step, **measured(step, mode))
        found.append(weight.history())
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_no_step_reads_a_number_from_the_device(mode):
    """Meta tensors have no numbers: whoever asks for one gets an error."""
    weight = AdaptiveWeight(mode, every=1, warmup=2)
    for step in range(6):
        found = measured(step, mode, device="meta")
        if mode == "hbar":
            found |= {
                "curvature": torch.ones((), device="meta"),
                "preconditioner": [torch.ones(4, device="meta"), torch.ones(1, 2, device="meta")],
            }
        weight.observe(step, **found)
        assert weight.weight.device.type == "meta"
        loss = (1 - weight.weight) * torch.ones((), device="meta")
        assert loss.shape == ()
    with pytest.raises(RuntimeError, match="meta"):
        weight.weight.item()


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_no_step_asks_a_tensor_for_a_number(mode, monkeypatch):
    weight = AdaptiveWeight(mode, every=1, warmup=2)
    steps = [measured(step, mode) for step in range(6)]

    def refuse(*args, **kwargs):
        raise AssertionError("a tensor was read")

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(Tensor, name, refuse)
    for name in ("tensor", "as_tensor"):  # a copy from the host, which waits too
        monkeypatch.setattr(torch, name, refuse)
    for step, found in enumerate(steps):
        weight.observe(step, **found)
        assert weight.due(step)
        _ = weight.weight
    with pytest.raises(AssertionError, match="was read"):
        weight.history()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_no_step_waits_for_the_gpu(mode):
    weight, plain = AdaptiveWeight(mode, every=1, warmup=2), AdaptiveWeight(mode, every=1, warmup=2)
    steps = [measured(step, mode, device="cuda") for step in range(12)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, found in enumerate(steps):
            weight.observe(step, **found)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step in range(12):
        plain.observe(step, **measured(step, mode))
    assert weight.weight.item() == pytest.approx(plain.weight.item(), rel=1e-4)


@pytest.mark.parametrize("mode", ["hbar", "losspair"])
def test_a_state_goes_on_where_the_measurements_are(mode):
    """Checkpoints are loaded onto the CPU; measurements go on elsewhere."""
    before, after = (AdaptiveWeight(mode, every=1, warmup=2) for _ in range(2))
    for step in range(3):
        before.observe(step, **measured(step, mode))
    after.load_state_dict(before.state_dict())
    found = measured(3, mode, device="meta")
    if mode == "hbar":
        found |= {"curvature": torch.ones((), device="meta")}
    after.observe(3, **found)
    state = after.state_dict()
    assert state["rows"].device.type == "meta"
    assert len(state["rows"]) == 4


@pytest.mark.parametrize("freeze", [None, 0.3])
def test_the_weight_stays_where_nothing_finite_was_measured(freeze):
    weight = AdaptiveWeight("hbar", weight=0.4, every=1, warmup=0, slew=None, freeze_width=freeze)
    broken = measured(0, "hbar")
    broken["task"][0][0][...] = torch.nan
    weight.observe(0, **broken)
    assert weight.weight.item() == pytest.approx(0.4)
    weight.observe(1, **measured(1, "hbar"))
    target = weight.controller.weight().item()
    assert weight.weight.item() == pytest.approx(0.4 if freeze else target)
    assert target > 0


def test_float64_stays():
    weight = AdaptiveWeight("hbar", **FREE)
    weight.observe(0, **measured(0, kind=torch.float64))
    assert weight.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "hbr"}, "Did you mean hbar"),
        ({"mode": "fixed"}, 'expected `weight` for mode "fixed"'),
        ({"mode": "fixed", "weight": 1.2}, "expected `weight` in"),
        ({"mode": "hbar", "weight": 0.7, "maximum": 0.5}, "expected `weight` in"),
        ({"mode": "losspair", "weight": 0.96}, "expected `weight` in"),
        ({"mode": Linear(0.0, 1.0, 5), "weight": 0.5}, "expected no `weight` beside a schedule"),
        ({"mode": "hbar", "every": 0}, "expected `every` > 0"),
        ({"mode": "hbar", "warmup": -1}, "expected `warmup` in"),
        ({"mode": "hbar", "slew": 0.0}, "expected `slew` > 0"),
        ({"mode": "hbar", "freeze_width": 0.0}, "expected `freeze_width` > 0"),
        ({"mode": "hbar", "maximum": 0.0}, "expected `maximum` in"),
        ({"mode": "fixed", "weight": 0.5, "maximum": 1.5}, "expected `maximum` in"),
        ({"mode": "hbar", "remember": 0}, "expected `remember` > 0"),
        ({"mode": "hbar", "fast_decay": 1.0}, "expected `decay` in"),
        ({"mode": "losspair", "slow_decay": -0.5, "every": 1}, "expected `decay` in"),
    ],
)
def test_arguments_outside_of_their_range(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        AdaptiveWeight(**arguments)
