"""Four readers and a writer that adds views, all at once."""

import multiprocessing
import time

import torch
from store.small_store import (
    ROWS,
    batch_of,
    fingerprints,
    plan_of,
    said,
    write_missing,
    write_store,
)

from limbeck.store import StoreWriter, TeacherStore


def read_until(folder, stop, results, seed):
    """Read random rows of the newest store and of one opened at the beginning."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    old, seen, batches = TeacherStore.open(folder), set(), 0
    done = False
    while not done:
        done = stop.is_set()  # and once more, when the last view is there
        store = TeacherStore.open(folder)
        seen.add(store.views)
        for opened in (old, store):
            index = torch.randint(ROWS, (32,), generator=generator)
            view = torch.randint(opened.views, (32,), generator=generator)
            found, expected = opened(batch_of(index, view)), said(index, view)
            assert torch.equal(found.logits, expected.logits)
            assert torch.equal(found.features["map"], expected.features["map"])
        batches += 1
    assert old.verify() == []
    results.put((batches, sorted(seen)))


def test_four_readers_and_a_writer(tmp_path):
    folder = write_store(tmp_path, plan_of(views=1, made_of=fingerprints()))
    context = multiprocessing.get_context("forkserver")
    stop, results = context.Event(), context.Queue()
    readers = [
        context.Process(target=read_until, args=(folder, stop, results, seed)) for seed in range(4)
    ]
    for reader in readers:
        reader.start()
    for views in range(2, 9):
        with StoreWriter(folder, plan_of(views=views)) as writer:
            write_missing(writer)
            writer.finish()
        time.sleep(0.05)
    stop.set()
    told = [results.get(timeout=120) for _ in readers]
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert all(batches > 0 and views[-1] == 8 for batches, views in told)
    assert TeacherStore.open(folder).verify() == []


def write_share(rank, folder):
    torch.set_num_threads(1)
    with StoreWriter(folder, plan_of(shard_rows=3), rank, 3) as writer:
        write_missing(writer)


def test_processes_that_write_together(tmp_path):
    whole = write_store(tmp_path / "whole", plan_of(shard_rows=3))
    context = multiprocessing.get_context("forkserver")
    writers = [
        context.Process(target=write_share, args=(rank, tmp_path / "store")) for rank in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    with StoreWriter(tmp_path / "store", plan_of(shard_rows=3)) as writer:
        assert writer.missing() == []
        manifest = writer.finish()
    assert manifest.shards == TeacherStore.open(whole).manifest.shards
    assert TeacherStore.open(tmp_path / "store").verify() == []
