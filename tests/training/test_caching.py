"""A teacher that is run once: training with its store is training with it live."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows, same
from torch import nn

import limbeck as lb
from limbeck.checks import (
    ArgumentError,
    CheckpointError,
    LayerError,
    ModelError,
    StoreError,
)
from limbeck.losses.features import pooled
from limbeck.randomness import keyed_uniform
from limbeck.training import caching
from limbeck.training.interrupts import Interrupted
from limbeck.types import Batch, Outputs


KIND_LOSSES = {
    "logits": ("kd", "dkd", "top_k", "sel", "sampled_labels"),
    "top_k": ("top_k",),
    "sampled_counts": ("sampled_counts", "sampled_labels", "sel", "k3"),
    "sampled_probability": ("sel", "k3", "naive_probability", "control_variate", "sampled_labels"),
    "hard_labels": ("sampled_labels",),
}


def noisy(inputs, index, view):
    """Shift every row by numbers of its own, other ones in each view."""
    return inputs + keyed_uniform(7, index, view, inputs.shape[1]).to(inputs.dtype)


def data(count=48, augment=noisy):
    return lb.Data(rows(count), augment=augment)


def cached(folder, given=None, **options):
    return lb.cache(good_teacher(), given or data(), folder, batch_size=16, device="cpu", **options)


def trained(teacher, given=None, **options):
    # 48 rows in batches of 16: live and stored answers come from batches of one size.
    settings = QUICK | {"loss": "kd", "epochs": 5} | options
    return lb.distill(network(), teacher, given or data(), **settings)


def rows_plain():
    return data(augment=None)


def live_in_stored_batches(given):
    """Return a live teacher that sees the rows in order, 16 at a time, whatever it is asked.

    Which bits a product of matrices has depends on the batch that a row is in.
    """
    teacher = good_teacher().eval()

    def answer(batch):
        said = {}
        for view in batch.view.unique().tolist():
            with torch.no_grad():
                inputs = [part.inputs for part in given.batches(given.in_order(16, view))]
                hidden = [teacher[0](part) for part in inputs]
                said[view] = torch.cat([teacher[2](part) for part in hidden]), torch.cat(hidden)
        pairs = list(zip(batch.index.tolist(), batch.view.tolist(), strict=True))
        logits, features = (torch.stack([said[v][n][i] for i, v in pairs]) for n in range(2))
        return Outputs(logits, {"penultimate": features})

    return answer


@pytest.mark.parametrize(("loss", "keep"), [("kd", "logits"), ("itrd", "logits+features")])
@pytest.mark.parametrize("order", ["cycle", "draw"])
def test_live_and_stored_give_the_same_bits(tmp_path, loss, keep, order):
    store = cached(tmp_path / "store", views=3, keep=keep)
    stored = trained(store, loss=loss, view_order=order)
    options = {"loss": loss, "views": 3, "view_order": order}
    equal = trained(live_in_stored_batches(data()), **options)
    assert same(stored.student, equal.student)
    assert stored.record.curves == equal.record.curves
    assert stored.record.settings["views"] == 3
    live = trained(good_teacher(), **options)
    for name, curve in live.record.curves.items():
        assert stored.record.curves[name] == pytest.approx(curve, rel=1e-5), name
    fresh = trained(good_teacher(), loss=loss).record.curves["loss total"]
    assert fresh != pytest.approx(live.record.curves["loss total"], rel=1e-3)  # the views matter


def test_half_precision_is_as_far_off_as_its_rounding(tmp_path):
    """The loss is 4 KL at T = 4: its derivative by a teacher's logit is below 4 of log-odds."""
    live = trained(good_teacher(), views=2, epochs=1)
    for dtype, bits in (("fp16", 11), ("bf16", 8)):
        store = cached(tmp_path / dtype, views=2, dtype=dtype)
        whole = cached(tmp_path / "whole", views=2)
        every = torch.arange(48).repeat(2), torch.tensor([0, 1]).repeat_interleave(48)
        exact, kept = (one.read(*every)["logits"].double() for one in (whole, store))
        assert ((kept - exact).abs() <= exact.abs() * 2.0**-bits).all()
        curve = trained(store, epochs=1).record.curves["loss total"]
        apart = abs(curve[0] - live.record.curves["loss total"][0])
        assert 0 < apart < 16 * float(exact.abs().max()) * 2.0**-bits


@pytest.mark.parametrize(
    ("kind", "loss"), [(kind, loss) for kind, losses in KIND_LOSSES.items() for loss in losses]
)
def test_every_kind_teaches_the_losses_that_fit(tmp_path, kind, loss):
    settings = {"k": 2} if kind == "top_k" else {}
    store = cached(tmp_path, rows_plain(), keep=kind, **settings)
    result = trained(store, rows_plain(), loss=loss)
    curve = result.record.curves["loss total"]
    assert all(map(math.isfinite, curve))
    assert not same(result.student, network())
    described = result.record.teacher["stores"][0]
    assert (described["kind"], described["views"]) == (kind, 1)


@pytest.mark.parametrize("kind", [kind for kind in KIND_LOSSES if kind != "logits"])
def test_a_loss_on_whole_rows_says_what_it_misses(tmp_path, kind):
    store = cached(tmp_path, rows_plain(), keep=kind, **({"k": 2} if kind == "top_k" else {}))
    with pytest.raises(ArgumentError, match="KD: expected the teacher's logits, whole rows"):
        trained(store, rows_plain(), loss="kd")


def test_drawn_labels_are_those_of_a_live_teacher(tmp_path):
    """A store of one drawn label a row and view is the service that a loss asks live."""
    store = cached(tmp_path, views=3, keep="sampled_probability", seed=5)
    options = {"epochs": 3, "views": 3}
    stored = trained(store, loss={"name": "sel", "seed": 5, "redraw": True}, **options)
    loss = {"name": "sel", "seed": 5, "redraw": True}
    live = trained(live_in_stored_batches(data()), loss=loss, **options)
    assert same(stored.student, live.student)


def test_a_killed_call_goes_on(tmp_path, monkeypatch):
    whole = cached(tmp_path / "whole", views=3, shard_bytes=4400)
    assert whole.manifest.plan.shard_rows == 16  # a whole batch, where 25 rows would fit
    asked = []
    real = caching.Asking.encoded

    def counted(self, batch):
        asked.append((int(batch.index[0]), int(batch.view[0])))
        if len(asked) == 6:
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(caching.Asking, "encoded", counted)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "killed", views=3, shard_bytes=4400)
    with pytest.raises(StoreError, match=r"expected a finished store; [1-9]"):
        lb.TeacherStore.open(tmp_path / "killed")
    before = set(asked[:-1])
    asked[:] = [()] * 6  # never again the sixth
    store = cached(tmp_path / "killed", views=3, shard_bytes=4400)
    first = asked[6]
    assert first == (0, 0)  # the example
    assert not before & set(asked[7:])
    for view in range(3):
        every = torch.arange(48), view
        assert store.read(*every)["logits"].equal(whole.read(*every)["logits"])
    asked[:] = [()] * 6
    cached(tmp_path / "killed", views=3, shard_bytes=4400)
    assert len(asked) == 7  # nothing but the example


def test_a_signal_ends_it_after_a_shard(tmp_path, monkeypatch):
    import signal

    real = caching.Asking.columns

    def signalled(self, *arguments):
        signal.raise_signal(signal.SIGTERM)
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(caching.Asking, "columns", signalled)
        with pytest.raises(Interrupted, match=r"cache: stopped by SIGTERM.*same command again"):
            cached(tmp_path, views=3, shard_bytes=4400)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) == 1
    assert cached(tmp_path, views=3, shard_bytes=4400).views == 3


def test_more_views_are_added(tmp_path):
    one = cached(tmp_path, views=1).read(torch.arange(48), 0)["logits"]
    three = cached(tmp_path, views=3)
    assert three.views == 3
    assert three.read(torch.arange(48), 0)["logits"].equal(one)
    assert not three.read(torch.arange(48), 2)["logits"].equal(one)


def test_what_is_stored_is_what_the_teacher_says(tmp_path):
    teacher, given = good_teacher(), data()
    store = cached(tmp_path, views=2, keep="logits+features", layers=["0", "penultimate"])
    (batch,) = given.batches([(torch.tensor([5, 1, 40]), torch.tensor([0, 1, 1]))])
    said = store(batch)
    hidden = teacher[0](batch.inputs)
    assert torch.allclose(said.logits, teacher(batch.inputs), atol=1e-5)
    assert torch.allclose(said.features["0"], hidden, atol=1e-5)
    assert torch.allclose(said.features["penultimate"], hidden, atol=1e-5)


@pytest.mark.parametrize("maps", [False, True])
def test_maps_are_pooled_or_kept(tmp_path, maps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(32, 2, 6, 6)
        teacher = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    forms = []
    teacher.register_forward_pre_hook(
        lambda _, inputs: forms.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    given = (images, torch.arange(32) % 3)
    store = lb.cache(
        teacher, given, tmp_path, keep="features", layers="0", maps=maps, batch_size=32,
        device="cpu",
    )  # fmt: skip
    assert forms[-1]  # as a live teacher sees them on a CPU
    with torch.no_grad():
        found = teacher[0](images)
    rows_ = torch.arange(32)
    wanted = found if maps else pooled(found, Batch(images, None, rows_, rows_))
    assert torch.allclose(store.read(rows_)["features.0"], wanted, atol=1e-5)
    assert all(weight.is_contiguous() for weight in teacher.parameters())


def test_the_teacher_may_run_in_bfloat16(tmp_path):
    store = cached(tmp_path, precision="bf16", views=1)
    (batch,) = data().batches(data().in_order(48))
    exact = good_teacher()(batch.inputs).detach()
    apart = (store.read(torch.arange(48))["logits"] - exact).abs().max().item()
    assert 1e-4 < apart < 3 * 2.0**-8 * float(exact.abs().max())  # two layers' weights and sums
    store.check_teacher(good_teacher())
    with pytest.raises(StoreError, match="in bf16 in the store, in fp32 now"):
        store.check_teacher(good_teacher(), "fp32")


def test_another_teacher_is_refused(tmp_path):
    cached(tmp_path)
    other = good_teacher()
    with torch.no_grad():
        other[0].bias += 1e-3
    with pytest.raises(StoreError, match=r"teacher weights .* in the store, .* now"):
        lb.cache(other, data(), tmp_path, batch_size=16, device="cpu")


def test_other_batches_would_have_other_bits_and_are_refused(tmp_path):
    cached(tmp_path)
    with pytest.raises(StoreError, match="batch_size 16 in the store, 8 asked for"):
        lb.cache(good_teacher(), data(), tmp_path, batch_size=8, device="cpu")


def test_other_rows_are_refused(tmp_path):
    store = cached(tmp_path, views=2)
    with pytest.raises(StoreError, match="data of 48 rows in the store, 47 rows now"):
        trained(store, data(47))
    with pytest.raises(StoreError, match=r"data with noisy in the store, with no augmentation now"):
        trained(store, rows_plain())
    other = lb.Data(rows(seed=3), augment=noisy)
    with pytest.raises(StoreError, match=r"data \w+ in the store, \w+ now"):
        trained(store, other)


def test_more_views_than_stored_are_refused_at_once(tmp_path):
    store = cached(tmp_path, views=2)
    with pytest.raises(ArgumentError, match=r"views.* up to those of the stored teacher, 2; got 3"):
        trained(store, views=3)
    assert trained(store, views=1).record.settings["views"] == 1


def test_a_layer_that_is_not_stored_is_refused(tmp_path):
    store = cached(tmp_path, views=1, keep="logits+features", layers="0")
    with pytest.raises(LayerError, match=r"got 'penultimate'.*It holds 0"):
        trained(store, loss="itrd")


def test_random_data_sets_are_refused(tmp_path):
    class Random(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, place):
            return torch.rand(6), place % 3

    with pytest.raises(StoreError, match="differs between two readings"):
        lb.cache(good_teacher(), Random(), tmp_path, keep="features", layers="0", device="cpu")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"views": 2}, ArgumentError, "expected `views` = 1 for data without augmentation"),
        ({"layers": "0"}, ArgumentError, "expected no `layers` where no features are kept"),
        ({"maps": True}, ArgumentError, "expected no `maps`"),
        ({"keep": "logit"}, ArgumentError, "Did you mean logits"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"precision": "fp8"}, ArgumentError, "precision"),
        ({"k": 3}, ArgumentError, "expected no `k` with logits"),
    ],
)
def test_wrong_options_are_named(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        lb.cache(good_teacher(), rows(), tmp_path, device="cpu", **change)


def test_a_teacher_must_be_a_module(tmp_path, without_shape_hook):
    with pytest.raises(ModelError, match="expected the teacher as a torch module; got function"):
        lb.cache(lambda batch: None, rows(), tmp_path, device="cpu")


def test_the_record_says_when_the_store_pays(tmp_path):
    store = cached(tmp_path, views=2)
    described = trained(store).record.teacher["stores"][0]
    assert described["seconds"] == sum(store.manifest.seconds) > 0
    # Two epochs of the teacher, and more by as much as reading takes.
    assert described["pays_after_epochs"] is None or described["pays_after_epochs"] >= 2


def test_a_group_serves_each_data_set(tmp_path):
    held_out = rows(31, seed=4)
    cached(tmp_path / "train", views=2)
    cached(tmp_path / "validation", lb.Data(held_out))
    store = lb.TeacherStore.open(tmp_path)
    live = trained(good_teacher(), views=2, validation=held_out)
    stored = trained(store, validation=held_out)
    assert stored.record.teacher["slice"] == {"accuracy": 1.0, "rows": 48.0}  # of training rows
    for name, curve in live.record.curves.items():
        assert stored.record.curves[name] == pytest.approx(curve, rel=1e-5), name
    bits = [
        lb.measure(teacher, network(), lb.Data(rows(300, seed=4)), layers="logits", device="cpu")
        for teacher in (
            good_teacher(),
            cached(tmp_path / "more", lb.Data(rows(300, seed=4))),
        )
    ]
    with pytest.raises(StoreError, match="data of 300 rows in the store, 299 rows now"):
        lb.measure(
            lb.TeacherStore.open(tmp_path / "more"), network(), lb.Data(rows(299)), device="cpu"
        )
    for one, other in zip(*(found.entries for found in bits), strict=True):
        assert other.estimate.unique_teacher.value == pytest.approx(
            one.estimate.unique_teacher.value, abs=1e-6
        )


def test_a_validation_set_without_targets_needs_a_store_of_its_own(tmp_path):
    """The embedding task compares with what the teacher says of held-out rows."""
    inputs, held_out = rows()[0], rows(32, seed=4)[0]
    teacher = good_teacher()
    options = QUICK | {"task": "embedding", "loss": "match", "validation": held_out}
    options["learning_rate"] = 1e-3
    lb.cache(teacher, inputs, tmp_path / "train", batch_size=16, device="cpu")
    alone = lb.TeacherStore.open(tmp_path / "train")
    with pytest.raises(StoreError, match="data of 48 rows in the store, 32 rows now"):
        lb.distill(network(), alone, inputs, **options)
    lb.cache(teacher, held_out, tmp_path / "held_out", batch_size=16, device="cpu")
    both = lb.distill(network(), lb.TeacherStore.open(tmp_path), inputs, **options)
    live = lb.distill(network(), teacher, inputs, **options)
    for name, curve in live.record.curves.items():
        assert both.record.curves[name] == pytest.approx(curve, rel=1e-5), name


def test_moments_of_gradients_are_those_of_the_live_teacher(tmp_path):
    store = cached(tmp_path)
    options = {"curvature": False, "method": "per_sample"}
    student = network()
    stored, live = (
        lb.gradient_moments(student, teacher, data(), **options)
        for teacher in (store, good_teacher())
    )
    for name in ("tr_gh", "tr_gg", "tr_hh", "gbar2", "hbar2"):
        assert getattr(stored, name) == pytest.approx(getattr(live, name), rel=1e-5), name
    with pytest.raises(StoreError, match="47 rows now"):
        lb.gradient_moments(student, store, data(47), **options)


@pytest.mark.parametrize("kind", ["logits", "sampled_counts", "sampled_probability"])
def test_a_store_certifies_a_student(tmp_path, kind):
    given = rows(400, seed=9)
    store = cached(tmp_path, lb.Data(given), keep=kind)
    found = lb.certify(network(), store, given, device="cpu")
    with torch.no_grad():
        laws = [net(given[0]).softmax(1).double() for net in (network(), good_teacher())]
    truth = (laws[0] - laws[1]).abs().sum(1).mean().item() / 2
    assert found.total_variation.lower <= truth <= found.total_variation.upper


def test_records_hold_every_draw(tmp_path):
    given = rows(400, seed=9)
    store = cached(tmp_path / "counts", lb.Data(given), keep="sampled_counts", draws=20)
    draws = [0] * 400
    for record in store.records():
        draws[record.input] += record.count
    assert draws == [20] * 400
    with torch.no_grad():
        law = (0.2 * good_teacher()(given[0])).softmax(1).double()
    soft = nn.Sequential(*good_teacher())
    with torch.no_grad():
        soft[2].weight *= 0.2
        soft[2].bias *= 0.2
    whole = lb.cache(soft, given, tmp_path / "whole", batch_size=16, device="cpu")
    labels = torch.tensor([record.label for record in whole.records()])
    top, likeliest = law.max(dim=1)
    deviation = (top * (1 - top)).sum().sqrt().item()
    hits = (labels == likeliest).sum().item()
    assert abs(hits - top.sum().item()) < 4 * deviation < 400 - top.sum().item()


def test_records_of_what_was_not_drawn_are_refused(tmp_path):
    store = cached(tmp_path / "top", rows_plain(), keep="top_k", k=2)
    with pytest.raises(StoreError, match="keeps top_k"):
        list(store.records())
    with pytest.raises(StoreError, match="these are augmented"):
        list(cached(tmp_path / "views").records())


def test_resuming_with_another_store_is_refused(tmp_path):
    store = cached(tmp_path / "store", rows_plain())
    settings = {"out": tmp_path / "run", "checkpoint_seconds": 0.0}
    trained(store, rows_plain(), **settings)
    rounded = cached(tmp_path / "rounded", rows_plain(), dtype="fp16")
    with pytest.raises(CheckpointError, match="teacher_stores"):
        trained(rounded, rows_plain(), resume=True, **settings)


def test_resuming_with_other_settings_of_a_kind_is_refused(tmp_path):
    settings = {"loss": "top_k", "out": tmp_path / "run", "checkpoint_seconds": 0.0}
    hot, cold = (
        cached(tmp_path / str(heat), rows_plain(), keep="top_k", k=2, temperature=heat)
        for heat in (4.0, 1.0)
    )
    trained(hot, rows_plain(), **settings)
    with pytest.raises(CheckpointError, match="teacher_stores"):
        trained(cold, rows_plain(), resume=True, **settings)
