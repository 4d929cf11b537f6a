"""The loop against loops written by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same, weights_of
from torch import nn
from torch.nn import functional as F

import limbeck as lb
from limbeck.losses import ITRD, KD, Match, WeightedSum
from limbeck.tasks import Classification
from limbeck.training import evaluate, last_look
from limbeck.training.evaluate import outputs_over
from limbeck.training.options import Options
from limbeck.training.schedule import epoch_order, loss_factor, milestones, rate_factor
from limbeck.training.terms import copies


SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4)


def by_hand(student, term, *, extra=(), optimizer=SGD, clip=math.inf):
    """Train as a user without limbeck would: SGD with momentum over the same batches."""
    x, y = rows()
    trained = [*student.parameters(), *extra]
    steps = optimizer(trained)
    student.train()
    for epoch in range(3):
        for index in epoch_order(len(x), 16, 0, epoch):
            steps.zero_grad()
            term(student, x[index], y[index]).backward()
            nn.utils.clip_grad_norm_(trained, clip)
            steps.step()
    return student


def close(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def test_plain_training_is_the_plain_loop():
    expected = by_hand(network(), lambda s, x, y: F.cross_entropy(s(x), y))
    result = lb.distill(network(), None, rows(), **QUICK)
    assert close(result.student, expected)
    assert not same(result.student, network())
    assert not any(part.training for part in result.student.modules())


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        (
            {"optimizer": "adamw", "weight_decay": 0.5},
            {"optimizer": partial(torch.optim.AdamW, lr=0.05, weight_decay=0.5)},
        ),
        (
            {"nesterov": True, "momentum": 0.8, "weight_decay": 0.01},
            {"optimizer": partial(SGD, momentum=0.8, nesterov=True, weight_decay=0.01)},
        ),
        ({"clip": 0.1}, {"clip": 0.1}),
    ],
)
def test_optimizers_and_clipping_are_torchs(options, plain):
    expected = by_hand(network(), lambda s, x, y: F.cross_entropy(s(x), y), **plain)
    assert close(lb.distill(network(), None, rows(), **QUICK | options).student, expected)


def test_every_epoch_and_seed_has_its_own_order():
    orders = {
        tuple(torch.cat(epoch_order(48, 16, seed, epoch)).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4
    assert all(sorted(order) == list(range(48)) for order in orders)


def test_every_step_and_seed_draws_its_own_numbers():
    class Noise(nn.Module):
        def forward(self, x):
            if self.training:
                drawn.append(torch.rand(()).item())
            return x

    drawn = []
    for seed in (0, 1):
        student = nn.Sequential(Noise(), network()).eval()  # training puts it into train mode
        lb.distill(student, None, rows(), seed=seed, **QUICK)
    assert len(drawn) == len(set(drawn)) == 2 * 9


def test_a_last_batch_of_one_row_is_left_out():
    def steps(count):
        lb.distill(
            network(norm=True), None, rows(count), on_ready=lambda loop, _: kept.append(loop), **one
        )
        return [len(batch) for batch in kept[-1].order.batches_of(0)]

    kept, one = [], QUICK | {"epochs": 1}
    assert steps(33) == [16, 16]  # BatchNorm has no variance of one row
    assert steps(34) == [16, 16, 2]
    assert lb.distill(network(norm=True), None, rows(33), **one).record.status == "finished"


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


def test_each_teacher_has_a_term_with_parameters_of_its_own():
    loss = ITRD(student_width=8, teacher_width=10)
    first, second = copies(loss, 2)
    assert first is loss
    assert same(first, second)
    assert not {id(part) for part in first.parameters()} & {id(p) for p in second.parameters()}


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
    thirds = Options(epochs=5, milestones=(0.05, 0.7))  # 0.25 and 3.5 epochs
    assert milestones(thirds) == [1.0, 4.0]
    rising = lb.distill(network(), None, rows(), warmup_epochs=2, **QUICK).record
    # The last of three steps in each epoch: 2/3, 5/3 and 8/3 epochs after the start.
    assert rising.curves["learning rate"] == pytest.approx([0.05 / 3, 0.05 * 5 / 6, 0.05])


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
    again = F.cross_entropy(best(test_rows[0]), test_rows[1]).item()
    assert found["best"]["validation"]["epoch"] < 12
    assert found["best"]["test"]["cross_entropy"] == pytest.approx(again, rel=1e-5)
    assert found["last"]["test"]["cross_entropy"] == pytest.approx(
        F.cross_entropy(result.student(test_rows[0]), test_rows[1]).item(), rel=1e-5
    )


def test_validation_rows_are_looked_at_every_few_epochs_and_at_the_end():
    options = QUICK | {"epochs": 5, "evaluate_every": 2}
    curves = lb.distill(network(), None, rows(), validation=rows(30), **options).record.curves
    assert [value is None for value in curves["validation accuracy"]] == [1, 0, 1, 0, 0]


def test_without_validation_there_is_no_best_and_the_last_ten_are_of_the_test(monkeypatch):
    calls = []

    def counted(*given, **how):
        calls.append(1)
        return outputs_over(*given, **how)

    for module in (evaluate, last_look):
        monkeypatch.setattr(module, "outputs_over", counted)
    found = lb.distill(
        network(), None, rows(), test=rows(30, seed=5), **QUICK | {"epochs": 12}
    ).record.results
    assert "best" not in found
    assert set(found["mean_of_last_ten"]) == {"test"}
    assert len(calls) == 10 + 1  # the last ten epochs, then the result


def test_the_teacher_does_not_change_and_gets_no_gradient():
    teacher = nn.Sequential(
        nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.5), nn.Linear(10, 3)
    ).train()
    before = weights_of(teacher)
    lb.distill(
        *(network(), teacher, rows()),
        loss="kd",
        force=True,
        on_ready=lambda *_: teacher.train().training,  # as model.train() of a parent would
        **QUICK,
    )
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(teacher), strict=True))
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.training


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("layers", [None, {"student": "1", "teacher": "1"}])
def test_no_hook_stays_behind(average, layers):
    student, teacher = network(), good_teacher()
    own = student[0].register_forward_hook(lambda *_: None)
    result = lb.distill(
        student, teacher, rows(), loss="itrd", layers=layers, average=average, **QUICK
    )
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
    def run(**options):
        return lb.distill(network(), good_teacher(), rows(), loss="itrd", **QUICK, **options)

    full = run()
    for option in ("precision", "teacher_precision"):
        result = run(**{option: "bf16"})
        assert all(part.dtype == torch.float32 for part in weights_of(result.student))
        assert all(math.isfinite(value) for value in result.record.curves["loss total"])
        assert not same(result.student, full.student)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluation_has_the_precision_of_training(precision):
    class Rounded(Classification):
        selection = ("rounded", "max")

        def metrics(self, outputs, batch):
            return {"rounded": float(torch.equal(outputs.logits, outputs.logits.bfloat16()))}

    record = lb.distill(
        *(network(), None, rows()),
        task=Rounded(),
        validation=rows(30),
        precision=precision,
        **QUICK,
    ).record
    assert record.results["last"]["validation"]["rounded"] == (precision == "bf16")


def test_max_steps_stops_inside_an_epoch():
    ready = []
    record = lb.distill(
        *(network(), None, rows()),
        max_steps=4,
        on_ready=lambda loop, _: not ready.append(loop),
        **QUICK,
    ).record
    assert len(record.curves["loss total"]) == 2
    assert ready[0].total_steps == 4


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


def test_views_are_drawn():
    drawn: dict[int, list[int]] = {}

    def augment(inputs, index, view):
        for row, which in zip(index.tolist(), view.tolist(), strict=True):
            drawn.setdefault(row, []).append(which)
        return inputs

    def by_row(epochs, batch_size):
        drawn.clear()
        settings = QUICK | {"epochs": epochs, "batch_size": batch_size, "learning_rate": 1e-9}
        data = lb.Data(rows(), augment=augment)
        lb.distill(network(), None, data, views=3, view_order="draw", **settings)
        return torch.tensor([views[-epochs:] for _, views in sorted(drawn.items())])

    every = by_row(100, 48)
    # Rows of an epoch differ, and each view comes as often as the others: 4,800 draws in all.
    assert all(set(column.tolist()) == {0, 1, 2} for column in every.T)
    shares = every.flatten().bincount() / every.numel()
    assert (shares - 1 / 3).abs().max().item() < 4 * (2 / 9 / every.numel()) ** 0.5
    assert by_row(5, 16).equal(every[:, :5])  # whatever batch a row is in


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
        form = {"memory_format": torch.channels_last}
        student.register_forward_pre_hook(
            lambda _, inputs: forms.add(inputs[0].is_contiguous(**form))
        )
        images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return lb.distill(student, None, (images, torch.arange(32) % 3), **QUICK, **options).student

    forms: set[bool] = set()
    plain = run(channels_last=False)
    assert True not in forms
    last, chosen = run(channels_last=True), run()
    assert True in forms  # the first look at the models is in the rows' own
    assert same(last, chosen)  # on a CPU it is the default for images
    assert not plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert chosen[0].weight.is_contiguous()  # given back as it came
    assert close(plain, last)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while compiling
def test_a_compiled_student_learns_the_same(without_shape_hook):
    plain = lb.distill(network(), good_teacher(), rows(), loss="itrd", **QUICK)
    compiled = lb.distill(network(), good_teacher(), rows(), loss="itrd", compile=True, **QUICK)
    assert close(plain.student, compiled.student)
    assert "_orig_mod" not in "".join(compiled.student.state_dict())


def test_micro_batches_of_full_size_alone_are_compiled(monkeypatch):
    student, teacher, ran = network(), good_teacher(), []

    def compiled(module):
        return lambda inputs: (ran.append((module, len(inputs))), module(inputs))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    options = QUICK | {"epochs": 1, "accumulate": 2}
    lb.distill(student, teacher, rows(40), loss="kd", compile=True, **options)
    # Batches of 16, 16 and 8 rows in two halves each; the preflight runs nothing compiled.
    assert ran == 4 * [(teacher, 8), (student, 8)]
    ran.clear()
    lb.distill(student, teacher, rows(40), loss="kd", **options)
    assert not ran


def test_a_loss_by_name_starts_from_the_runs_seed():
    def start(seed, loss="itrd"):
        kept = []
        lb.distill(
            *(network(), good_teacher(), rows()),
            loss=loss,
            seed=seed,
            on_ready=lambda ready, _: bool(kept.append(weights_of(ready.inner.losses)[0])),
            **QUICK,
        )
        return kept[0]

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(0), start(1))
    assert torch.equal(start(0), start(1, loss={"name": "itrd", "seed": 0}))


def test_time_shares_cover_the_step():
    time = lb.distill(network(), good_teacher(), rows(), loss="kd", **QUICK).record.time
    shares = {name: value for name, value in time.items() if name.startswith("share ")}
    assert set(shares) == {
        f"share {part}" for part in ("data", "teacher", "student", "loss", "backward", "optimiser")
    }
    assert sum(shares.values()) == pytest.approx(1.0)
    assert time["seconds"] > 0


def test_a_result_prints_its_metrics_with_units_and_no_module(tmp_path):
    held = rows(30, seed=1)
    result = lb.distill(
        network(), None, rows(), validation=held, test=held, out=tmp_path / "run", **QUICK
    )
    said = str(result).splitlines()
    assert repr(result) == str(result)
    assert said[0] == f"train, seed 0: finished, {tmp_path / 'run'}"
    found = result.record.results["last"]["test"]
    assert (
        f"last, test: accuracy {100 * found['accuracy']:.2f} %, "
        f"cross_entropy {found['cross_entropy']:.4f} nats"
    ) in said
    epoch = result.record.results["best"]["validation"]["epoch"]
    assert sum(line.startswith(f"best, validation: epoch {int(epoch)}, acc") for line in said) == 1
    assert [line.partition(":")[0] for line in said[1:]] == [
        "last, validation", "last, test", "mean of last ten, validation",
        "best, validation", "best, test",
    ]  # fmt: skip
    assert "Linear" not in str(result)
