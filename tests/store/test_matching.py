"""A store answers for the data, augmentation and teacher that it was written with, and no other."""

import pytest
import torch
from torch import nn

from limbeck.checks import StoreError
from limbeck.data import Data
from limbeck.randomness import keyed_uniform
from limbeck.store import (
    Fingerprints,
    Keep,
    Plan,
    StoreGroup,
    StoreWriter,
    TeacherStore,
    data_fingerprint,
    encode,
    is_store,
    open_store,
    teacher_fingerprint,
    transform_fingerprint,
)
from limbeck.types import Outputs
from limbeck.zoo.data.augment import CropFlip


def images(rows=24, seed=0):
    return torch.rand(rows, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def teacher(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).eval()


def write(folder, data, *, views=1, module=None, finish=True, dtype="fp32"):
    net, keep = module or teacher(), Keep.of("logits", dtype=dtype)
    made_of = Fingerprints(
        teacher_fingerprint(net), data_fingerprint(data), transform_fingerprint(data)
    )

    def columns(start, stop, view):
        rows = torch.arange(start, stop)
        (batch,) = data.batches([(rows, torch.full_like(rows, view))])
        with torch.no_grad():
            return encode(Outputs(net(batch.inputs)), batch.index, batch.view, keep)

    plan = Plan.of(keep, columns(0, 2, 0), made_of, views=views, shard_bytes=4096 + 400)
    with StoreWriter(folder, plan) as writer:
        for shard in writer.missing() if finish else writer.missing()[:1]:
            writer.write(shard, columns(shard.start, shard.stop, shard.view))
        if finish:
            writer.finish()
    return folder


def test_live_and_stored_are_the_same(tmp_path):
    data = Data(images(), augment=CropFlip(1))
    store = TeacherStore.open(write(tmp_path, data, views=4)).on(data)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        rows = torch.randint(24, (9,), generator=generator)
        views = torch.randint(4, (9,), generator=generator)
        (batch,) = data.batches([(rows, views)])
        live = torch.cat([teacher()(batch.inputs[i : i + 1]) for i in range(9)])
        assert torch.allclose(store(batch).logits, live, atol=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("store"), Data(images(), augment=CropFlip(1)), views=2)


def test_the_same_data(folder):
    store = TeacherStore.open(folder)
    assert store.on(Data((images(), torch.zeros(24)), augment=CropFlip(1), name="x")) is store


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            lambda: Data(images(23), augment=CropFlip(1)),
            "data of 24 rows in the store, 23 rows now",
        ),
        (
            lambda: Data(images(seed=1), augment=CropFlip(1)),
            "data [0-9a-f]{12} in the store, [0-9a-f]{12} now",
        ),
        (lambda: Data(images().flip(0), augment=CropFlip(1)), "data [0-9a-f]{12} in the store"),
        (lambda: Data(images().double(), augment=CropFlip(1)), "data [0-9a-f]{12} in the store"),
        (
            lambda: Data(images()),
            r"data with CropFlip\(padding=1, .*\) in the store, with no augmentation now",
        ),
        (
            lambda: Data(images(), augment=CropFlip(1, seed=5)),
            r"augmentation .*, seed=0\) in the store, CropFlip\(padding=1, .*, seed=5\) now",
        ),
        (
            lambda: Data(images(), augment=CropFlip(2)),
            r"augmentation .*, seed=0\) in the store, CropFlip\(padding=2",
        ),
        (lambda: images(), "data with .* with no augmentation now"),
    ],
)
def test_other_data(folder, data, told):
    with pytest.raises(
        StoreError, match=rf"expected what the store was written for; {told}.*Give the same data"
    ):
        TeacherStore.open(folder).on(data())


def crop_like(power):
    """Return an augmentation of one name whose code differs."""

    def augment(inputs, index, view):
        return inputs + 0.1 * keyed_uniform(0, index, view, 1)[:, :, None, None] ** power

    return augment


def test_another_code_under_the_same_name(tmp_path):
    store = TeacherStore.open(write(tmp_path, Data(images(), augment=crop_like(1)), views=2))
    store.on(Data(images(), augment=crop_like(1)))
    with pytest.raises(StoreError, match="gives other views: its seed, its parameters or its code"):
        store.on(Data(images(), augment=crop_like(2)))


def test_another_teacher(folder):
    store = TeacherStore.open(folder)
    store.check_teacher(teacher())
    store.check_teacher(teacher(), "fp32")
    with pytest.raises(
        StoreError,
        match=r"written with; teacher weights [0-9a-f]{12} \(Sequential, 185 parameters\) in the "
        r"store, [0-9a-f]{12} .* write a store with this one",
    ):
        store.check_teacher(teacher(1))
    with pytest.raises(StoreError, match="a teacher in fp32 in the store, in bf16 now"):
        store.check_teacher(teacher(), "bf16")


def test_writers_are_refused_alike(folder):
    data = Data(images(), augment=CropFlip(1))
    with pytest.raises(StoreError, match="dtype fp32 in the store, bf16 asked for"):
        write(folder, data, views=2, dtype="bf16")
    with pytest.raises(StoreError, match="teacher weights"):
        write(folder, data, views=2, module=teacher(1))
    with pytest.raises(StoreError, match="seed=1"):
        write(folder, Data(images(), augment=CropFlip(1, seed=1)), views=2)
    with pytest.raises(StoreError, match="data of 24 rows in the store, 20 rows now"):
        write(folder, Data(images(20), augment=CropFlip(1)), views=2)


@pytest.fixture
def group(tmp_path):
    write(tmp_path / "train", Data(images(), augment=CropFlip(1)), views=2)
    write(tmp_path / "test", Data(images(seed=1)))
    return tmp_path


def test_a_group_picks_by_the_data(group):
    opened = open_store(group)
    assert isinstance(opened, StoreGroup)
    assert list(opened.stores) == ["test", "train"]
    assert (opened.kind, opened.privilege, opened.layers) == ("logits", "soft_labels", ())
    data = Data(images(seed=1))
    chosen = opened.on(data)
    assert chosen.folder == group / "test"
    (batch,) = data.batches(data.in_order(24))
    assert torch.allclose(chosen(batch).logits, teacher()(batch.inputs), atol=1e-6)
    assert opened.only(layers=[]).on(Data(images(), augment=CropFlip(1))).views == 2
    with pytest.raises(StoreError, match=r"which of test, train is meant\. Call on\(data\)"):
        opened(batch)
    with pytest.raises(
        StoreError, match=r"test: data .* in the store, .* now\. train: data .* in the store"
    ):
        opened.on(Data(images(seed=2)))


def test_a_group_is_checked_as_a_whole(group):
    opened = TeacherStore.open(group)
    opened.check_teacher(teacher())
    assert opened.verify() == []
    assert "train: TeacherStore(24 rows, 2 views" in repr(opened)
    with pytest.raises(StoreError, match="teacher weights"):
        opened.check_teacher(teacher(1))
    shard = next((group / "train" / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    assert [fault.shard for fault in opened.verify()] == [f"train/{shard.stem}"]


def test_a_group_whose_part_is_not_finished(group):
    write(group / "validation", Data(images(seed=3)), finish=False)
    opened = open_store(group)
    assert list(opened.stores) == ["test", "train"]
    with pytest.raises(StoreError, match=r"validation: expected a finished store; 1 of \d shards"):
        opened.on(Data(images(seed=3)))


def test_folders_that_are_stores(group):
    assert is_store(group)
    assert is_store(group / "train")
    assert not is_store(group / "train" / "shards")
    assert not is_store(group / "none")


def test_groups_of_several_kinds(group):
    write(group / "half", Data(images(seed=4)), dtype="fp16")
    assert open_store(group).kind == "logits"
    with pytest.raises(StoreError, match="expected stores of one kind"):
        _ = _mixed(group).kind


def _mixed(group):
    opened = open_store(group)
    opened.stores["test"].keep = Keep.of("top_k")
    return opened
