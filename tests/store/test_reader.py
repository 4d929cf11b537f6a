"""A store answers as the teacher did, for any rows, in any process."""

import copy
import gc
import os
import pickle
import threading

import hypothesis.strategies as st
import pytest
import torch
from helpers.processes import exit_code
from hypothesis import given, settings
from store.small_store import (
    BOTH,
    CLASSES,
    ROWS,
    batch_of,
    fingerprints,
    plan_of,
    said,
    write_store,
)

from limbeck.checks import LayerError, StoreError
from limbeck.store import Keep, TeacherStore, encode, shards
from limbeck.types import Teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), plan_of(views=3, shard_rows=8))


def test_what_it_says_of_itself(folder):
    store = TeacherStore.open(str(folder))
    assert isinstance(store, Teacher)
    assert (store.rows, store.views, store.kind, store.privilege) == (
        50,
        3,
        "logits",
        "soft_labels",
    )
    assert store.layers == ("body.pool", "map")
    assert list(store.columns) == ["features.body.pool", "features.map", "logits"]
    assert store.keep == BOTH
    assert store.manifest.seconds == (3.5, 3.5, 3.5)
    assert "50 rows, 3 views, logits: " in repr(store)
    assert str(folder) not in repr(store)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_rows_in_any_order(folder, data):
    count = data.draw(st.integers(0, 80))
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=count, max_size=count))
    views = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    index, view = torch.tensor(rows, dtype=torch.int64), torch.tensor(views, dtype=torch.int64)
    store = data.draw(st.sampled_from([TeacherStore.open(folder), _kept_open(folder)]))
    found, expected = store(batch_of(index, view)), said(index, view)
    assert torch.equal(found.logits, expected.logits)
    for name, values in expected.features.items():
        assert torch.equal(found.features[name], values)
    assert found.answers is None


@pytest.mark.parametrize("shard_rows", [8, 20, 25, 50])  # 7, 3, 2 and 1 of them a view
def test_rows_of_several_shards(tmp_path, shard_rows):
    keep = Keep.of("top_k+features", k=3, dtype="fp16")
    store = TeacherStore.open(write_store(tmp_path, plan_of(keep, views=3, shard_rows=shard_rows)))
    generator = torch.Generator().manual_seed(0)
    for size in (2, 400):
        index = torch.randint(ROWS, (size,), generator=generator)
        view = torch.randint(3, (size,), generator=generator)
        expected = encode(said(index, view), index, view, keep)
        found = store.read(index, view)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert torch.equal(found[name], values)
            assert found[name].is_contiguous()
    assert torch.equal(store.read(index, 1)["labels"], _labels(index, 1, keep))
    assert torch.equal(store.read(index)["labels"], _labels(index, 0, keep))


def _labels(index, view, keep):
    return encode(said(index, view), index, view, keep)["labels"]


_OPEN = {}


def _kept_open(folder):
    return _OPEN.setdefault(folder, TeacherStore.open(folder))


@pytest.mark.parametrize(
    "keep",
    [
        Keep.of("logits", dtype="fp16"),
        Keep.of("logits", dtype="bf16"),
        Keep.of("top_k+features", k=3, dtype="fp16"),
        Keep.of("sampled_counts", draws=5, seed=3),
        Keep.of("sampled_probability", temperature=2.0),
        Keep.of("hard_labels"),
        Keep.of("hard_labels", greedy=True),
        Keep.of("features", dtype="bf16"),
    ],
    ids=str,
)
def test_every_kind_is_read_as_it_was_encoded(tmp_path, keep):
    store = TeacherStore.open(write_store(tmp_path, plan_of(keep)))
    assert (store.kind, store.privilege) == (keep.kind, keep.privilege)
    index = torch.tensor([49, 0, 7, 7, 20, 19, 40])
    view = torch.tensor([0, 1, 0, 1, 1, 0, 1])
    columns = store.read(index, view)
    expected = encode(said(index, view), index, view, keep)
    assert columns.keys() == expected.keys()
    for name, values in expected.items():
        assert columns[name].dtype == values.dtype
        assert torch.equal(columns[name], values)
    outputs = store(batch_of(index, view))
    assert (outputs.logits is not None) == (keep.what == "logits")
    assert (outputs.answers is not None) == (keep.what not in ("logits", None))
    assert set(outputs.features) == ({"body.pool", "map"} if keep.features else set())


def test_float64_columns(tmp_path):
    """Doubles stand before narrower columns in a file, whatever their names."""
    made_of = fingerprints(augmented=False)
    from dataclasses import replace

    from limbeck.store import Column, StoreWriter

    plan = replace(plan_of(views=1, made_of=made_of), columns={"logits": Column("float64", (3,))})
    with StoreWriter(tmp_path, replace(plan, keep=Keep())) as writer:
        for shard in writer.missing():
            writer.write(
                shard,
                {
                    "logits": torch.arange(shard.start, shard.stop)[:, None].double() / 3
                    + torch.zeros(3)
                },
            )
        writer.finish()
    found = TeacherStore.open(tmp_path)(batch_of(torch.tensor([41, 2]))).logits
    assert found.dtype == torch.float64
    assert torch.equal(found[:, 1], torch.tensor([41, 2]).double() / 3)


@pytest.mark.parametrize(
    ("index", "view", "match"),
    [
        ([0, 50], [0, 0], r"samples from 0 to 49, which the store has; got 50\. Give the data"),
        ([-1], [0], "samples from 0 to 49, which the store has; got -1"),
        ([0], [3], r"views from 0 to 2, .* got 3\. Train with `views=3`, or extend the store to 4"),
        ([0], [-2], "views from 0 to 2, which the store has; got -2"),
        ([2**40], [0], "got 1099511627776"),
    ],
)
def test_rows_that_are_not_there(folder, index, view, match):
    store = TeacherStore.open(folder)
    with pytest.raises(StoreError, match=match):
        store(batch_of(torch.tensor(index), torch.tensor(view)))


def test_views_are_ignored_without_augmentation(tmp_path):
    store = TeacherStore.open(write_store(tmp_path, plan_of(views=1)))
    index = torch.arange(ROWS)
    found = store(batch_of(index, torch.arange(ROWS) + 7)).logits
    assert torch.equal(found, said(index, 0).logits)


def test_views_of_drawn_labels_count_without_augmentation(tmp_path):
    keep = Keep.of("hard_labels")
    plan = plan_of(keep, views=2, made_of=fingerprints(augmented=False))
    store = TeacherStore.open(write_store(tmp_path, plan))
    index = torch.arange(ROWS)
    for view in (0, 1):
        expected = encode(said(index, view), index, view, keep)["labels"]
        assert torch.equal(store.read(index, view)["labels"], expected)
    with pytest.raises(StoreError, match="views from 0 to 1"):
        store.read(index, 2)


def test_low_level_reading(folder):
    store = TeacherStore.open(folder)
    index = torch.tensor([3, 48])
    only = store.read(index, 2, columns=["features.map"])
    assert only.keys() == {"features.map"}
    assert torch.equal(only["features.map"], said(index, 2).features["map"])
    assert torch.equal(store.read(index)["logits"], said(index, 0).logits)
    assert torch.equal(store.read(index.to(torch.int32), 1)["logits"], said(index, 1).logits)
    with pytest.raises(
        StoreError, match=r"a column of the store; got 'logit'.*Did you mean logits"
    ):
        store.read(index, 0, columns=["logit"])


def test_copies_never_change_the_store(folder):
    store = TeacherStore.open(folder)
    index = torch.arange(ROWS)
    before = store.manifest
    store.read(index, 1)["logits"].zero_()
    store(batch_of(index)).features["map"].zero_()
    store._shards._mapped(2).columns["logits"].zero_()  # nor does who writes to the map itself
    store = TeacherStore.open(folder)
    assert torch.equal(store.read(index, 1)["logits"], said(index, 1).logits)
    assert store.verify() == []
    assert store.manifest == before


def test_serving_less(folder):
    store = TeacherStore.open(folder)
    batch = batch_of(torch.arange(5))
    maps = store.only(layers=["map"], answers=False)
    assert (list(maps.columns), maps.layers) == (["features.map"], ("map",))
    assert maps(batch).logits is None
    assert list(maps(batch).features) == ["map"]
    assert store.only(layers=[])(batch).features == {}
    assert store.only(layers=[])(batch).logits is not None
    assert store.only().columns == store.columns
    assert store(batch).features.keys() == {"body.pool", "map"}
    with pytest.raises(
        LayerError,
        match=r"a layer of the store; got 'maps'. It holds body.pool, map. Did you mean map",
    ):
        store.only(layers=["maps"])
    with pytest.raises(StoreError, match="a column of the store; got 'logits'"):
        maps.read(torch.arange(2), columns=["logits"])


def test_shards_are_mapped_when_they_are_read(folder):
    def mapped():
        with open("/proc/self/maps") as lines:  # noqa: PTH123
            return {line.split("/")[-1].strip() for line in lines if str(folder) in line}

    _OPEN.clear()
    gc.collect()
    assert mapped() == set()
    store = TeacherStore.open(folder)
    assert mapped() == set()
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    store.read(torch.tensor([0, 8]), torch.tensor([0, 1]))
    assert mapped() == {"v000-r00000000.safetensors", "v001-r00000008.safetensors"}
    for view in range(3):
        store.read(torch.arange(ROWS), view)
    assert len(mapped()) == 21
    assert store._shards._mapped(3) is store._shards._mapped(3)
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    del store
    gc.collect()
    assert mapped() == set()


def test_pickles_carry_no_rows(folder):
    store = TeacherStore.open(folder)
    store.read(torch.arange(ROWS))
    told = pickle.dumps(store.only(layers=["map"]))
    assert len(told) < 20_000
    for again in (pickle.loads(told), copy.deepcopy(store).only(layers=["map"])):
        assert again.layers == ("map",)
        assert torch.equal(
            again.read(torch.arange(ROWS), 1)["logits"], said(torch.arange(ROWS), 1).logits
        )


class StoredRows(torch.utils.data.Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return self.store.rows

    def __getitem__(self, index):
        return self.store.read(torch.tensor([index]), 2)["logits"][0]


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_of_a_data_loader(folder, start):
    store = TeacherStore.open(folder)
    store.read(torch.arange(3), 2)  # maps that a forked worker inherits
    loader = torch.utils.data.DataLoader(
        StoredRows(store), batch_size=16, num_workers=1, multiprocessing_context=start
    )
    assert torch.equal(torch.cat(list(loader)), said(torch.arange(ROWS), 2).logits)


def test_threads(folder):
    """Threads that map other shards at the same moment each get their own rows."""
    for _ in range(20):
        store, wrong = TeacherStore.open(folder), []
        barrier = threading.Barrier(8)

        def read(part, store=store, wrong=wrong, barrier=barrier):
            barrier.wait()
            for start in range(0, ROWS, 8):
                index = torch.arange(start, min(start + 8, ROWS))
                found = store.read(index, part % 3)["logits"]
                if not torch.equal(found, said(index, part % 3).logits):
                    wrong.append(part)

        threads = [threading.Thread(target=read, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_thread_that_maps_while_another_does(folder, monkeypatch):
    store, index, inner = TeacherStore.open(folder), torch.arange(8), []

    class Slow(shards.Mapped):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            if not inner:  # another thread comes first
                inner.append(None)
                inner[0] = store.read(index, 2)["logits"]

    monkeypatch.setattr(shards, "Mapped", Slow)
    assert torch.equal(store.read(index, 1)["logits"], said(index, 1).logits)
    assert torch.equal(inner[0], said(index, 2).logits)
    for view in (2, 0, 1):
        assert torch.equal(store.read(index, view)["logits"], said(index, view).logits)


def _few_descriptors(folder):
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    store = TeacherStore.open(folder)
    for view in range(2):
        assert torch.equal(
            store.read(torch.arange(ROWS), view)["logits"], said(torch.arange(ROWS), view).logits
        )


def test_more_shards_than_descriptors(tmp_path):
    folder = write_store(tmp_path, plan_of(Keep(), shard_rows=1))
    assert exit_code(_few_descriptors, folder) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_outputs_are_where_the_batch_is(folder):
    outputs = TeacherStore.open(folder)(batch_of(torch.arange(CLASSES).cuda()))
    assert outputs.logits.is_cuda
    assert outputs.features["map"].is_cuda
