"""The loop against loops written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same, weights_of
from torch import nn
from torch.nn import functional as F

import limbeck as lb
from limbeck.losses import ITRD, KD, Match, WeightedSum
from limbeck.training.options import Options
from limbeck.training.schedule import epoch_order, loss_factor, rate_factor


def by_hand(student, term, *, epochs=3, batch=16, seed=0, lr=0.05, extra=(), decay=5e-4, **more):
    """Train as a user without limbeck would: SGD with momentum over the same batches."""
    x, y = rows()
    optimizer = torch.optim.SGD(
        [*student.parameters(), *extra], lr=lr, momentum=0.9, weight_decay=decay
    )
    student.train()
    for epoch in range(epochs):
        for index in epoch_order(len(x), batch, seed, epoch):
            optimizer.zero_grad()
            term(student, x[index], y[index]).backward()
            optimizer.step()
    return student


def close(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_plain_training_is_the_plain_loop():
    expected = by_hand(network(), lambda s, x, y: F.cross_entropy(s(x), y))
    result = lb.distill(network(), None, rows(), **QUICK)
    assert close(result.student, expected)
    assert not same(result.student, network())


@pytest.mark.parametrize(
    ("weight", "task", "term"),
    [(None, 0.1, 0.9), (0.3, 0.7, 0.3), (1.0, 0.0, 1.0), (0.0, 1.0, 0.0)],
)
def test_kd_with_its_weights_is_the_plain_loop(weight, task, term):
    teacher = good_teacher()

    def total(student, x, y):
        with torch.no_grad():
            soft = F.softmax(teacher(x) / 4, 1)
        z = student(x)
        kl = F.kl_div(F.log_softmax(z / 4, 1), soft, reduction="batchmean")
        return task * F.cross_entropy(z, y) + term * 16 * kl

    expected = by_hand(network(), total)
    result = lb.distill(network(), teacher, rows(), loss="kd", weight=weight, **QUICK)
    assert close(result.student, expected)


def test_itrd_trains_its_embedding_with_the_student():
    teacher, loss = good_teacher(), ITRD(student_width=8, teacher_width=10)
    start = weights_of(loss)
    twin = ITRD(student_width=8, teacher_width=10)
    twin.load_state_dict(loss.state_dict())

    def total(student, x, y):
        features = student[:-1](x)
        with torch.no_grad():
            theirs = teacher[:-1](x)
        value = lb.itrd_loss(features, theirs, embedded=twin.embedding(features))
        return F.cross_entropy(student(x), y) + value

    expected = by_hand(network(), total, extra=twin.parameters())
    result = lb.distill(network(), teacher, rows(), loss=loss, **QUICK)
    assert close(result.student, expected)
    assert close(loss, twin)
    assert not torch.equal(start[0], weights_of(loss)[0])


def test_terms_of_a_weighted_sum_are_logged_and_add_up():
    loss = WeightedSum({"kd": (0.5, KD()), "match": (2.0, Match())})
    slow = QUICK | {"learning_rate": 0.001}
    curves = lb.distill(network(), good_teacher(), rows(), loss=loss, **slow).record.curves
    for total, task, kd, match in zip(
        curves["loss total"],
        curves["loss task"],
        curves["loss kd"],
        curves["loss match"],
        strict=True,
    ):
        assert total == pytest.approx(task + 0.5 * kd + 2.0 * match, rel=1e-5)


def test_two_teachers_count_as_their_mean():
    near, far = good_teacher(), good_teacher()
    with torch.no_grad():
        far[2].weight.mul_(0.5)

    def total(student, x, y):
        kd = [lb.kd_loss(student(x), t(x).detach()) for t in (near, far)]
        return 0.1 * F.cross_entropy(student(x), y) + 0.9 * (kd[0] + kd[1]) / 2

    expected = by_hand(network(), total)
    result = lb.distill(network(), [near, far], rows(), loss="kd", **QUICK)
    assert close(result.student, expected)
    assert {"loss distillation 0", "loss distillation 1"} <= set(result.record.curves)


def test_accumulated_micro_batches_are_one_step():
    whole = lb.distill(network(), good_teacher(), rows(), loss="kd", **QUICK)
    parts = lb.distill(network(), good_teacher(), rows(), loss="kd", accumulate=3, **QUICK)
    assert close(whole.student, parts.student)
    assert whole.record.curves["loss total"] == pytest.approx(parts.record.curves["loss total"])


def test_the_loss_warms_up_and_the_rate_follows_its_schedule():
    result = lb.distill(
        network(),
        good_teacher(),
        rows(),
        loss="kd",
        **QUICK | {"epochs": 4, "schedule": "step", "milestones": (2, 3), "decay": 0.1},
    )
    assert result.record.curves["learning rate"] == pytest.approx([0.05, 0.05, 0.005, 0.0005])
    options = Options(epochs=10, loss_warmup_epochs=4)
    assert [loss_factor(options, at) for at in (0.0, 1.0, 4.0, 9.0)] == [0.0, 0.25, 1.0, 1.0]
    warm = Options(epochs=10, warmup_epochs=2, schedule="cosine")
    assert rate_factor(warm, 1.0) == pytest.approx(0.5)
    assert rate_factor(warm, 6.0) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rate_factor(warm, 10.0) == pytest.approx(0.0, abs=1e-12)


def test_a_warming_term_counts_less_at_first():
    def total(epochs):
        return lb.distill(
            network(), good_teacher(), rows(), loss="kd", loss_warmup_epochs=epochs, **QUICK
        ).record.curves

    late = total(1000)
    weighted = [0.1 * task for task in late["loss task"]]
    assert late["loss total"] == pytest.approx(weighted, abs=0.05)
    assert total(0)["loss total"][0] > weighted[0] + 1


def test_averaged_weights_are_the_moving_average():
    seen = []

    class Watch(nn.Module):
        tasks = None

        def forward(self, student, teacher, batch):
            seen.append(weights_of(model))
            return student.logits.sum() * 0.0

    model = network()
    result = lb.distill(
        model, good_teacher(), rows(), loss=Watch(), average=0.9, force=True, **QUICK
    )
    seen.append(weights_of(model))
    steps = seen[2:]  # the preflight looked once; then the weights after each step but the last
    expected = [part.clone() for part in steps[0]]
    for weights in steps[1:]:
        expected = [0.9 * e + 0.1 * w for e, w in zip(expected, weights, strict=True)]
    for got, want in zip(weights_of(result.student), expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6)
    assert result.student is not model


def test_patience_stops_and_best_is_the_best_epoch():
    x, y = rows()
    wrong = (x, (y + 1) % 3)  # validation labels that training moves away from
    result = lb.distill(
        network(), None, (x, y), validation=wrong, patience=2, **QUICK | {"epochs": 30}
    )
    accuracy = result.record.curves["validation accuracy"]
    best = max(accuracy)
    assert len(accuracy) == accuracy.index(best) + 1 + 2
    assert result.record.results["best"]["validation"]["accuracy"] == best
    assert result.record.results["best"]["validation"]["epoch"] == accuracy.index(best) + 1


def test_results_name_last_best_and_mean_of_last_ten(tmp_path):
    x, y = rows(60)
    result = lb.distill(
        network(),
        None,
        (x[:48], y[:48]),
        validation=(x[48:], y[48:]),
        test=rows(30, seed=5),
        out=tmp_path,
        **QUICK | {"epochs": 12, "learning_rate": 0.02},
    )
    curve, found = result.record.curves["validation accuracy"], result.record.results
    assert found["last"]["validation"]["accuracy"] == curve[-1]
    assert found["mean_of_last_ten"]["validation"]["accuracy"] == pytest.approx(
        sum(curve[-10:]) / 10
    )
    test_rows = rows(30, seed=5)
    last = (result.student(test_rows[0]).argmax(1) == test_rows[1]).float().mean().item()
    assert found["last"]["test"]["accuracy"] == pytest.approx(last)
    best = lb.load(tmp_path / "best", model=network(seed=9))
    again = (best(test_rows[0]).argmax(1) == test_rows[1]).float().mean().item()
    assert found["best"]["test"]["accuracy"] == pytest.approx(again)


def test_without_validation_there_is_no_best_and_the_last_ten_are_of_the_test():
    found = lb.distill(
        network(), None, rows(), test=rows(30, seed=5), **QUICK | {"epochs": 12}
    ).record.results
    assert "best" not in found
    assert set(found["mean_of_last_ten"]) == {"test"}


def test_the_teacher_does_not_change_and_gets_no_gradient():
    teacher = nn.Sequential(
        nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.5), nn.Linear(10, 3)
    ).train()
    before = weights_of(teacher)
    lb.distill(network(), teacher, rows(), loss="kd", force=True, **QUICK)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(teacher), strict=True))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.training


@pytest.mark.parametrize("average", [None, 0.9])
def test_no_hook_stays_behind(average):
    student, teacher = network(), good_teacher()
    own = student[0].register_forward_hook(lambda *_: None)
    result = lb.distill(student, teacher, rows(), loss="itrd", average=average, **QUICK)
    assert list(result.student[0]._forward_hooks) == [own.id]
    own.remove()
    result.student[0]._forward_hooks.clear()
    for module in (*student.modules(), *teacher.modules(), *result.student.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_the_same_seed_gives_the_same_bits_and_the_global_state_is_left_alone():
    def run(seed):
        student = network(norm=True, dropout=0.3)
        return lb.distill(student, good_teacher(), rows(), loss="itrd", seed=seed, **QUICK).student

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, run(0))
    assert not same(first, run(1))


def test_bf16_trains_and_keeps_float32_weights():
    result = lb.distill(
        network(),
        good_teacher(),
        rows(),
        loss="itrd",
        precision="bf16",
        teacher_precision="bf16",
        **QUICK,
    )
    assert all(part.dtype == torch.float32 for part in weights_of(result.student))
    assert all(math.isfinite(value) for value in result.record.curves["loss total"])
    full = lb.distill(network(), good_teacher(), rows(), loss="itrd", **QUICK)
    assert not same(result.student, full.student)


def test_max_steps_stops_inside_an_epoch():
    record = lb.distill(network(), None, rows(), max_steps=4, **QUICK).record
    assert len(record.curves["loss total"]) == 2


def test_views_are_cycled():
    seen: dict[int, set[int]] = {}

    def augment(inputs, index, view):
        seen.setdefault(int(view[0]), set()).update(index.tolist())
        return inputs

    data = lb.Data(rows(), augment=augment)
    lb.distill(network(), None, data, views=2, **QUICK | {"epochs": 5})
    assert set(seen) == {0, 1}
    seen.clear()
    lb.distill(network(), None, data, **QUICK | {"epochs": 5})
    assert set(seen) == set(range(5))
    assert all(len(indices) == 48 for indices in seen.values())


def test_channels_last_trains_the_same_network():
    def run(**options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            student = nn.Sequential(
                nn.Conv2d(3, 4, 3),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, 3),
            )
        images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return lb.distill(student, None, (images, torch.arange(32) % 3), **QUICK, **options).student

    plain, last, chosen = run(channels_last=False), run(channels_last=True), run()
    assert same(last, chosen)  # on a CPU it is the default for images
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert chosen[0].weight.is_contiguous()  # given back as it came
    assert close(plain, last)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while compiling
def test_a_compiled_student_learns_the_same(without_shape_hook):
    plain = lb.distill(network(), good_teacher(), rows(), loss="itrd", **QUICK)
    compiled = lb.distill(network(), good_teacher(), rows(), loss="itrd", compile=True, **QUICK)
    assert close(plain.student, compiled.student)
    assert "_orig_mod" not in "".join(compiled.student.state_dict())


def test_time_shares_cover_the_step():
    time = lb.distill(network(), good_teacher(), rows(), loss="kd", **QUICK).record.time
    shares = {name: value for name, value in time.items() if name.startswith("share ")}
    assert set(shares) == {
        f"share {part}" for part in ("data", "teacher", "student", "loss", "backward", "optimiser")
    }
    assert sum(shares.values()) == pytest.approx(1.0)
    assert time["seconds"] > 0
