"""The laws of the two controllers: reference values, plain loops, intervals and states."""

import math
import statistics
from fractions import Fraction
from itertools import permutations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.func import vmap

from limbeck.checks import ArgumentError, ShapeError
from limbeck.weighting.controlling.controllers import HbarController, LossPairController
from limbeck.weighting.controlling.half_batches import student_quantile
from limbeck.weighting.theory.reshuffling import reshuffled_share


SETTING = {"rows": 2, "learning_rate": 0.05, "batch_size": 4}
SHAPES = ((3,), (2, 2))


def column(value):
    return [torch.tensor([value], dtype=torch.float64)]


def run_of(steps, *, seed=0, kind=torch.float64, shift=0.1):
    """Return for each step the gradients g and h of two halves; each h has the mean ``shift``."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for _ in range(steps):
        task = tuple([draw(shape) for shape in SHAPES] for _ in range(2))
        difference = tuple([0.7 * g + 0.4 * draw(g.shape) + shift for g in half] for half in task)
        found.append(
            tuple(tuple([t.to(kind) for t in half] for half in part) for part in (task, difference))
        )
    return found


def numbers(half):
    return [value for tensor in half for value in tensor.flatten().tolist()]


def average(values, decay):
    weights = [decay ** (len(values) - 1 - i) for i in range(len(values))]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def covariance(one, two, decay):
    """Of the averages of two series: weighted, over the effective number less one."""
    weights = [decay ** (len(one) - 1 - i) for i in range(len(one))]
    count = sum(weights) ** 2 / sum(w * w for w in weights)
    a, b = average(one, decay), average(two, decay)
    products = [(x - a) * (y - b) for x, y in zip(one, two, strict=True)]
    return average(products, decay) / (count - 1), count


def inner(one, two, metric=None):
    metric = metric or [1.0] * len(one)
    return sum(d * a * b for a, b, d in zip(one, two, metric, strict=True))


def hbar_series(steps, rows, metric=None):
    traces = []
    for task, difference in steps:
        dg, dh = (
            [a - b for a, b in zip(numbers(part[0]), numbers(part[1]), strict=True)]
            for part in (task, difference)
        )
        traces.append([rows / 2 * inner(*pair, metric) for pair in ((dg, dg), (dg, dh), (dh, dh))])
    halves = [[numbers(step[1][k]) for step in steps] for k in range(2)]
    return traces, halves


def mean_vector(rows, decay):
    return [average(list(values), decay) for values in zip(*rows, strict=True)]


def fieller_by_scan(a, d, s_aa, s_ad, s_dd, z):
    """Return the ends of the set of weights that are not refused, found by bisection."""

    def inside(weight):
        return (a - weight * d) ** 2 <= z * z * (s_aa - 2 * weight * s_ad + weight**2 * s_dd)

    ends = []
    for far in (-50.0, 50.0):
        near, out = a / d, far
        assert inside(near)
        assert not inside(far)
        for _ in range(200):
            middle = (near + out) / 2
            near, out = (middle, out) if inside(middle) else (near, middle)
        ends.append(near)
    return ends


def test_hbar_on_the_constants_of_four_samples():
    controller = HbarController()
    for _ in range(50):
        controller.observe(
            (column(-1.5), column(1.5)), (column(3.5), column(6.5)), curvature=2.5, **SETTING
        )
    assert controller.weight().item() == pytest.approx(float(Fraction(9, 1465)), rel=1e-12)
    found = {name: value.item() for name, value in controller.ingredients().items()}
    assert found == pytest.approx(
        {"tr_gg": 9, "tr_gh": 9, "tr_hh": 9, "hbar2": 91 / 4, "learning_rate": 0.05,
         "batch_size": 4, "curvature": 2.5, "noise_left": 1},
        rel=1e-12,
    )  # fmt: skip
    lower, upper = controller.interval()
    assert lower.item() == pytest.approx(9 / 1465, rel=1e-9)
    assert upper.item() == pytest.approx(9 / 1465, rel=1e-9)


def test_hbar_where_an_epoch_takes_every_row_once():
    """Over all orders of six rows in batches of two the mean of U is the squared mean of h."""
    h = [0.5, -1.0, 2.0, 0.3, 1.1, -0.4]
    decay, found, unaware = 0.8, [], []
    for order in permutations(range(6)):
        aware, plain = (HbarController(slow_decay=decay, fast_decay=0.999999) for _ in range(2))
        for step in range(3):
            first, second = (column(h[order[2 * step + at]]) for at in (0, 1))
            given = {"rows": 1, "learning_rate": 0.05, "batch_size": 2, "curvature": 1.0}
            for controller, more in ((aware, {"steps_per_epoch": 3, "epoch": 0}), (plain, {})):
                controller.observe((first, second), (first, second), **given, **more)
        found.append(aware.ingredients()["hbar2"].item())
        unaware.append(plain.ingredients()["hbar2"].item())
    true = statistics.mean(h) ** 2
    assert statistics.mean(found) == pytest.approx(true, abs=1e-5)
    assert statistics.mean(unaware) < true - 0.05


def test_a_state_knows_the_epochs():
    one, two = HbarController(), HbarController()
    told = {"curvature": 2.0, "steps_per_epoch": 4, **SETTING}
    steps = run_of(9)
    for at, (task, difference) in enumerate(steps):
        if at == 6:
            two.load_state_dict(one.state_dict())
        for controller in (one, two) if at >= 6 else (one,):
            controller.observe(task, difference, **told, epoch=at // 4)
    assert two.ingredients()["hbar2"].equal(one.ingredients()["hbar2"])


def test_noise_counts_with_the_share_that_an_epoch_leaves():
    plain, told = HbarController(), HbarController()
    for task, difference in run_of(8):
        plain.observe(task, difference, curvature=2.0, **SETTING)
        told.observe(task, difference, curvature=2.0, steps_per_epoch=5, epoch=0, **SETTING)
    row = {name: value.item() for name, value in told.ingredients().items()}
    share = reshuffled_share(torch.tensor(0.05 * 2.0, dtype=torch.float64), 5).item()
    assert row["noise_left"] == pytest.approx(share, rel=1e-9)
    bias = 2 * 4 / (0.05 * 2.0) * max(row["hbar2"], 0.0)
    expected = share * row["tr_gh"] / (share * row["tr_hh"] + bias)
    assert told.weight().item() == pytest.approx(expected, rel=1e-9)
    assert told.weight().item() < plain.weight().item()


def test_losspair_on_the_constants_of_four_samples():
    controller = LossPairController()
    for _ in range(50):
        controller.observe(
            (column(-1.5), column(1.5)),
            torch.tensor(0.5, dtype=torch.float64),
            torch.tensor(0.51, dtype=torch.float64),
            weight=0.5,
            **SETTING,
        )
    found = controller.ingredients()
    assert found["noise_floor"].item() == pytest.approx(9 / 320, rel=1e-12)
    assert found["loss_difference"].item() == pytest.approx(-0.01, rel=1e-12)
    assert found["teacher_excess"].item() == pytest.approx(0.022708333333, abs=1e-11)
    assert controller.weight().item() == pytest.approx(0.553278688525, abs=1e-11)


@pytest.mark.parametrize("metric", [None, (0.5, 2.0)])
def test_hbar_is_the_law_in_plain_loops(metric):
    steps, fast, slow, rows = run_of(25), 0.8, 0.95, 3
    scale = metric and [torch.full(shape, d) for shape, d in zip(SHAPES, metric, strict=True)]
    flat = metric and numbers(scale)
    controller = HbarController(fast_decay=fast, slow_decay=slow)
    for step, (task, difference) in enumerate(steps):
        controller.observe(
            task, difference, rows=rows, learning_rate=0.3 / (1 + step), batch_size=6,
            curvature=torch.tensor(0.7 + step / 100), preconditioner=scale,
        )  # fmt: skip
        traces, halves = hbar_series(steps[: step + 1], rows, flat)
        gg, c, v = (average([t[k] for t in traces], fast) for k in range(3))
        squared = inner(*(mean_vector(half, slow) for half in halves), flat)
        bias = 2 * 6 / (0.3 / (1 + step) * (0.7 + step / 100)) * max(squared, 0)
        expected = min(max(c / (v + bias), 0), 1)
        assert controller.weight().item() == pytest.approx(expected, rel=1e-6)
        found = controller.ingredients()
        for name, value in zip(
            ("tr_gg", "tr_gh", "tr_hh", "hbar2"), (gg, c, v, squared), strict=True
        ):
            assert found[name].item() == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_the_interval_of_hbar_is_fiellers_of_the_series():
    steps, fast, slow, rows, pull = run_of(60, shift=0.4), 0.9, 0.95, 3, 2 * 6 / (0.3 * 5.0)
    controller = HbarController(fast_decay=fast, slow_decay=slow)
    for task, difference in steps:
        controller.observe(
            task, difference, rows=rows, learning_rate=0.3, batch_size=6, curvature=5.0
        )
    traces, halves = hbar_series(steps, rows)
    c, v = ([t[k] for t in traces] for k in (1, 2))
    means = [[mean_vector(half[:t], slow) for t in range(1, 61)] for half in halves]
    slopes = [
        0.5 * (inner(halves[0][t], means[1][t - 1]) + inner(halves[1][t], means[0][t - 1]))
        for t in range(1, 60)
    ]
    s_aa, count = covariance(c, c, fast)
    s_ad, _ = covariance(c, v, fast)
    s_vv, _ = covariance(v, v, fast)
    s_uu, slow_count = covariance(slopes, slopes, slow)
    bottom = average(v, fast) + pull * inner(means[0][-1], means[1][-1])
    z = stats.t.ppf(0.975, min(count, slow_count) - 1)
    expected = fieller_by_scan(average(c, fast), bottom, s_aa, s_ad, s_vv + pull**2 * 4 * s_uu, z)
    assert 0 < expected[0] < expected[1] < 1
    found = [end.item() for end in controller.interval()]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[0] < controller.weight().item() < found[1]


def losspair_run(controller, steps, *, maximum_mean=0.95):
    generator = torch.Generator().manual_seed(5)
    losses, used = [], []
    for step, (task, _) in enumerate(steps):
        one, two = torch.rand(2, generator=generator, dtype=torch.float64)
        weight = 0.3 + 0.01 * step
        student, teacher = 0.5 + 0.1 * one, 0.62 + 0.1 * two
        controller.observe(
            task, student, teacher, rows=3, learning_rate=0.3, batch_size=6,
            weight=torch.tensor(weight) if step % 2 else weight,
        )  # fmt: skip
        losses.append((student - teacher).item())
        used.append(weight)
    return losses, used


def test_losspair_is_the_law_in_plain_loops_and_its_interval_fiellers():
    fast, slow, steps = 0.8, 0.95, run_of(40)
    controller = LossPairController(fast_decay=fast, slow_decay=slow)
    losses, used = losspair_run(controller, steps)
    traces = [t[0] for t in hbar_series(steps, 3)[0]]
    floor, gap, mean = 0.3 / 24 * average(traces, fast), average(losses, slow), average(used, slow)

    def weight_of(difference):
        excess = max(((1 - mean) ** 2 * floor - difference) / (1 - mean**2), 0)
        return min(max(floor / (floor + excess), 0), 0.95)

    expected = weight_of(gap)
    assert 0.05 < expected < 0.9
    assert controller.weight().item() == pytest.approx(expected, rel=1e-6)
    found = {name: value.item() for name, value in controller.ingredients().items()}
    assert found["mean_weight"] == pytest.approx(mean, rel=1e-6)
    assert found["loss_difference"] == pytest.approx(gap, rel=1e-6)
    assert found["tr_gg"] == pytest.approx(average(traces, fast), rel=1e-6)
    s_ee, slow_count = covariance(losses, losses, slow)
    s_ff, count = covariance(traces, traces, fast)
    z = stats.t.ppf(0.975, min(count, slow_count) - 1)
    ends = fieller_by_scan(gap, floor, s_ee, 0.0, (0.3 / 24) ** 2 * s_ff, z)
    expected_ends = [weight_of(end * floor) for end in ends]
    assert [end.item() for end in controller.interval()] == pytest.approx(expected_ends, rel=2e-3)


def test_while_the_student_is_behind_losspair_follows_the_teacher():
    controller = LossPairController(maximum=0.9)
    for step, (task, _) in enumerate(run_of(30)):
        controller.observe(task, 1.0 + 0.01 * (step % 3), 0.5, weight=1.0, **SETTING)
    assert controller.weight().item() == pytest.approx(0.9)
    assert [end.item() for end in controller.interval()] == pytest.approx([0.9, 0.9])
    assert controller.ingredients()["teacher_excess"].item() == 0.0
    assert controller.ingredients()["mean_weight"].item() == pytest.approx(0.95)


@pytest.mark.parametrize("count", [4, 6, 11, 40, 1e5])
def test_the_series_of_students_quantile(count):
    found = student_quantile(torch.tensor(float(count), dtype=torch.float64)).item()
    assert found == pytest.approx(stats.t.ppf(0.975, count - 1), rel=0.01)


def test_intervals_cover_the_true_weight():
    """Gaussian g and h of 7 components: tr_gh 4.9, tr_hh 0.65 * 7, hbar2 0.63; 500 runs at once."""
    chains, generator = 500, torch.Generator().manual_seed(0)

    def observed(state, g1, g2, h1, h2):
        controller = HbarController(fast_decay=0.9, slow_decay=0.95)
        if state is not None:
            controller.load_state_dict(state)
        controller.observe(
            ([g1], [g2]), ([h1], [h2]), rows=1, learning_rate=0.3, batch_size=6, curvature=5.0
        )
        return controller.state_dict(), controller.weight(), *controller.interval()

    state, weight, lower, upper = None, *torch.zeros(3, chains)
    for _ in range(60):
        g = torch.randn(2, chains, 7, generator=generator, dtype=torch.float64)
        noise = torch.randn(2, chains, 7, generator=generator, dtype=torch.float64)
        h = 0.7 * g + 0.4 * noise + 0.3
        over = (None if state is None else 0, 0, 0, 0, 0)
        state, weight, lower, upper = vmap(observed, in_dims=over)(state, *g, *h)
    true = 4.9 / (0.65 * 7 + 2 * 6 / (0.3 * 5.0) * 0.63)
    covered = ((lower <= true) & (true <= upper)).double().mean().item()
    assert covered >= 0.93
    assert (upper - lower).mean().item() < 1.5 * 2 * 1.96 * weight.std().item()
    assert weight.mean().item() == pytest.approx(true, abs=0.02)


def test_the_first_measurements_say_nothing():
    steps = run_of(3)
    hbar, pair = HbarController(maximum=0.8), LossPairController()
    for count, (task, difference) in enumerate(steps, start=1):
        hbar.observe(task, difference, curvature=1.0, **SETTING)
        pair.observe(task, 0.5, 0.6, weight=0.1, **SETTING)
        if count <= 2:
            assert [end.item() for end in hbar.interval()] == pytest.approx([0.0, 0.8])
        if count == 1:
            assert [end.item() for end in pair.interval()] == pytest.approx([0.0, 0.95])


def test_the_weight_lies_inside_its_interval_also_where_hbar2_is_clipped():
    # Without any spread, and U = -0.2: c / D is above the weight, which clips U.
    controller = HbarController()
    for _ in range(5):
        controller.observe(
            (column(1.0), column(0.0)), (column(2.0), column(-0.1)), curvature=200.0, **SETTING
        )
    assert controller.weight().item() == pytest.approx(2.1 / 4.41)
    assert controller.interval()[0].equal(controller.weight())
    assert controller.interval()[1].item() == pytest.approx(2.1 / (4.41 - 8 / 10 * 0.2))
    clipped = 0
    for seed in range(40):
        controller = HbarController(fast_decay=0.9, slow_decay=0.9)
        for task, difference in run_of(12, seed=seed):
            difference = tuple([h - 0.1 for h in half] for half in difference)
            controller.observe(task, difference, curvature=0.01, **SETTING)
        clipped += controller.ingredients()["hbar2"].item() < 0
        lower, upper = (end.item() for end in controller.interval())
        assert 0 <= lower <= controller.weight().item() <= upper <= 1
    assert clipped > 5


def test_a_teacher_that_agrees_with_the_labels_gives_zero_and_one_that_disagrees_too():
    for sign in (0.0, -1.0):
        controller = HbarController()
        for task, _ in run_of(5):
            difference = tuple([sign * g for g in half] for half in task)
            controller.observe(task, difference, curvature=1.0, **SETTING)
        assert controller.weight().item() == 0.0
        assert all(end.isfinite() for end in controller.interval())
    pair = LossPairController()
    pair.observe((column(1.0), column(1.0)), 0.5, 0.5, weight=0.0, **SETTING)
    assert pair.weight().item() == 0.0


def test_a_negative_denominator_says_nothing():
    controller = HbarController(maximum=0.9)
    for _ in range(5):
        controller.observe(
            (column(1.0), column(0.0)), (column(1.0), column(-1.0)), curvature=0.1, **SETTING
        )
    assert [end.item() for end in controller.interval()] == pytest.approx([0.0, 0.9])
    assert controller.weight().item() == pytest.approx(0.5)


def test_without_curvature_any_bias_forbids_the_teacher():
    for curvature in (torch.tensor(0.0), torch.tensor(-1.0)):
        controller = HbarController()
        controller.observe(
            (column(-1.5), column(1.5)), (column(3.5), column(6.5)), curvature=curvature, **SETTING
        )
        assert controller.weight().item() == 0.0
        assert controller.ingredients()["curvature"].item() == 0.0


def measure(controller, task, difference, **changed):
    extra = {"curvature": 1.0} if isinstance(controller, HbarController) else {"weight": 0.2}
    setting = SETTING | extra | changed
    if isinstance(controller, HbarController):
        controller.observe(task, difference, **setting)
    else:
        controller.observe(task, difference[0][0].mean() + 0.5, 0.6, **setting)


def flat(state) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    return [tensor for part in parts for tensor in flat(part)]


@pytest.mark.parametrize("kind", [HbarController, LossPairController])
def test_measurements_that_are_not_finite_leave_no_trace(kind):
    steps = run_of(20)
    one, two = kind(), kind()
    for count, (task, difference) in enumerate(steps):
        if count % 4 == 3:
            bad = math.nan if count % 8 == 3 else math.inf
            broken = tuple([g * bad for g in half] for half in task)
            measure(two, broken, difference)
            measure(two, task, difference, learning_rate=torch.tensor(math.nan))
        else:
            measure(one, task, difference)
            measure(two, task, difference)
    pairs = zip(flat(one.state_dict()), flat(two.state_dict()), strict=True)
    assert all(a.equal(b) for a, b in pairs)
    assert one.weight().isfinite()
    first = kind()
    measure(first, tuple([g * math.nan for g in half] for half in steps[0][0]), steps[0][1])
    assert first.weight().item() == 0.0


@pytest.mark.parametrize("kind", [HbarController, LossPairController])
def test_a_state_goes_on_bit_for_bit(kind):
    steps = run_of(30, kind=torch.float32)
    one, two = kind(fast_decay=0.9), kind(fast_decay=0.9)
    two.load_state_dict(one.state_dict())
    for task, difference in steps[:13]:
        measure(one, task, difference)
    state = one.state_dict()
    two.load_state_dict(state)
    for tensor in flat(state):
        tensor.fill_(7.0)
    for task, difference in steps[13:]:
        measure(one, task, difference)
        measure(two, task, difference)
        assert one.weight().equal(two.weight())
    pairs = zip(flat(one.state_dict()), flat(two.state_dict()), strict=True)
    assert all(a.equal(b) for a, b in pairs)
    for tensor in flat(one.state_dict()):
        tensor.fill_(7.0)
    assert one.weight().equal(two.weight())


def test_half_precision_is_measured_in_float32():
    hbar, wide = HbarController(), HbarController()
    for task, difference in run_of(10, kind=torch.bfloat16):
        hbar.observe(task, difference, curvature=1.0, **SETTING)
        halves = (tuple([t.double() for t in half] for half in part) for part in (task, difference))
        wide.observe(*halves, curvature=1.0, **SETTING)
    assert hbar.weight().dtype == torch.float32
    assert wide.weight().dtype == torch.float64
    assert hbar.weight().item() == pytest.approx(wide.weight().item(), rel=1e-5)


@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_the_weight_does_not_depend_on_the_scale_of_the_loss(size):
    def measured(size, kind):
        hbar, pair = HbarController(fast_decay=0.9), LossPairController(fast_decay=0.9)
        for task, difference in run_of(40, kind=torch.float32):
            g = tuple([size * t.to(kind) for t in half] for half in task)
            h = tuple([size * (t.to(kind) + 0.4) for t in half] for half in difference)
            # Losses times s: the curvature is s times as large, a step of the same length 1/s.
            setting = {"rows": 2, "learning_rate": 0.3 / size, "batch_size": 4}
            hbar.observe(g, h, curvature=2.0 * size, **setting)
            pair.observe(g, -size * (0.3 + 0.1 * g[0][0].mean().sign()), 0.0, weight=0.2, **setting)
        found = [hbar.weight(), *hbar.interval(), pair.weight(), *pair.interval()]
        return [value.item() for value in found]

    expected = measured(1.0, torch.float64)
    assert all(0.05 < value < 0.95 for value in expected), expected
    assert measured(size, torch.float32) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", [HbarController, LossPairController])
def test_what_does_not_fit(kind):
    task, difference = run_of(1)[0]
    name = kind.__name__
    with pytest.raises(ArgumentError, match=f"{name}: expected a measurement first"):
        kind().weight()
    for maximum in (0.0, 1.1):
        with pytest.raises(ArgumentError, match=rf"{name}: expected `maximum` in \(0, 1\]"):
            kind(maximum=maximum)
    for field in ("rows", "learning_rate", "batch_size"):
        with pytest.raises(ArgumentError, match=f"{name}: expected `{field}` > 0; got 0"):
            measure(kind(), task, difference, **{field: 0})
    with pytest.raises(ShapeError, match=f"{name}: expected gradients of the same parameters"):
        measure(kind(), (task[0], task[1][:1]), difference)
    with pytest.raises(ShapeError, match="one at least"):
        measure(kind(), ([], []), difference)


def test_task_and_difference_need_the_same_parameters():
    task, difference = run_of(1)[0]
    with pytest.raises(ShapeError, match="same parameters"):
        measure(HbarController(), task, (difference[0][:1], difference[1][:1]))
    with pytest.raises(ArgumentError, match="expected `curvature` > 0"):
        measure(HbarController(), task, difference, curvature=0.0)
