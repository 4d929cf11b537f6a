"""Writing a store: what is in its folder at the end, and what is refused."""

import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from store.small_store import (
    BOTH,
    ROWS,
    batch_of,
    columns_of,
    files_in,
    fingerprints,
    plan_of,
    said,
    write_missing,
    write_store,
)

from limbeck.checks import ArgumentError, StorageError, StoreError
from limbeck.store import Keep, Plan, StoreWriter, TeacherStore, encode


def test_a_finished_folder(tmp_path):
    folder = write_store(tmp_path / "new" / "store")
    names = [f"v{view:03d}-r{start:08d}" for view in (0, 1) for start in (0, 20, 40)]
    assert list(files_in(folder)) == [
        "manifest.json",
        *(f"shards/{name}.safetensors" for name in names),
    ]
    told = json.loads((folder / "manifest.json").read_text())
    assert (told["format"], told["version"]) == ("limbeck store", 1)
    assert list(told["shards"]) == names
    assert told["seconds"] == [1.5, 1.5]
    assert told["plan"]["fingerprints"]["teacher"]["digest"] == "a" * 64
    assert str(tmp_path) not in (folder / "manifest.json").read_text()
    assert os.uname().nodename not in (folder / "manifest.json").read_text()


def test_every_row_is_there(tmp_path):
    store = TeacherStore.open(write_store(tmp_path))
    index, view = torch.arange(ROWS).repeat(2), torch.arange(2).repeat_interleave(ROWS)
    found, expected = store(batch_of(index, view)), said(index, view)
    assert torch.equal(found.logits, expected.logits)
    assert found.features.keys() == expected.features.keys()
    for name, values in expected.features.items():
        assert torch.equal(found.features[name], values)


def test_going_on_where_it_stopped(tmp_path):
    whole = files_in(write_store(tmp_path / "whole"))
    with StoreWriter(tmp_path / "store", plan_of()) as writer:
        assert not writer.complete
        for shard in writer.missing()[:4]:
            writer.write(shard, columns_of(shard), seconds=0.5)
        with pytest.raises(
            StoreError, match="all 6 shards to be written; 2 are missing, first v001-r00000020"
        ):
            writer.finish()
    with StoreWriter(tmp_path / "store", plan_of()) as writer:
        assert write_missing(writer) == ["v001-r00000020", "v001-r00000040"]
        writer.finish()
    again = files_in(tmp_path / "store")
    assert without_created(again) == without_created(whole)
    with StoreWriter(tmp_path / "store", plan_of()) as writer:
        assert writer.complete
        assert writer.missing() == []
        writer.finish()
    assert files_in(tmp_path / "store") == again


def without_created(files):
    """Return files with manifests as dicts, without their times and the digest over them."""
    files = dict(files)
    told = json.loads(files["manifest.json"])
    del told["created"], told["digest"]
    return files | {"manifest.json": told}


def test_ranks_give_the_store_of_one(tmp_path):
    whole = files_in(write_store(tmp_path / "whole"))
    writers = [StoreWriter(tmp_path / "store", plan_of(), rank, 4) for rank in range(4)]
    shares = [[shard.name for shard in writer.missing()] for writer in writers]
    assert [len(share) for share in shares] == [2, 2, 1, 1]
    assert len({name for share in shares for name in share}) == 6
    for writer in reversed(writers):
        write_missing(writer)
    with pytest.raises(ArgumentError, match="expected rank 0 to finish the store; got rank 1"):
        writers[1].finish()
    for writer in writers[1:]:
        writer.close()
    writers[0].finish()
    assert without_created(files_in(tmp_path / "store")) == without_created(whole)


def test_more_views_later(tmp_path):
    whole = files_in(write_store(tmp_path / "whole", plan_of(views=3)))
    made_of = fingerprints()
    folder = write_store(tmp_path / "store", plan_of(views=1, made_of=made_of))
    reader = TeacherStore.open(folder)
    with StoreWriter(folder, plan_of(views=3)) as writer:
        assert len(write_missing(writer)) == 6
        assert TeacherStore.open(folder).views == 1
        writer.finish()
    assert without_created(files_in(folder)) == without_created(whole)
    index = torch.arange(ROWS)
    assert torch.equal(reader(batch_of(index)).logits, said(index, 0).logits)
    assert TeacherStore.open(folder).views == 3
    with StoreWriter(folder, plan_of(views=1, made_of=made_of)) as writer:
        assert writer.complete
        assert writer.finish().plan.views == 3
    assert without_created(files_in(folder)) == without_created(whole)


def test_fewer_views_than_were_begun(tmp_path):
    whole = files_in(write_store(tmp_path / "whole"))
    with StoreWriter(tmp_path / "store", plan_of(views=5)) as writer:
        for shard in writer.missing()[:10]:
            writer.write(shard, columns_of(shard), seconds=0.5)
    with StoreWriter(tmp_path / "store", plan_of()) as writer:
        assert writer.missing() == []
        writer.finish()
    assert without_created(files_in(tmp_path / "store")) == without_created(whole)


def test_an_extension_that_is_not_finished_stays(tmp_path):
    folder = write_store(tmp_path)
    with StoreWriter(folder, plan_of(views=4)) as writer:
        for shard in writer.missing()[:2]:
            writer.write(shard, columns_of(shard))
    assert TeacherStore.open(folder).views == 2
    with StoreWriter(folder, plan_of()) as writer:
        writer.finish()
    with StoreWriter(folder, plan_of(views=4)) as writer:
        assert len(write_missing(writer)) == 4
        writer.finish()
    assert TeacherStore.open(folder).verify() == []


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            {"keep": Keep.of("logits+features", dtype="fp16")},
            "dtype fp32 in the store, fp16 asked for",
        ),
        ({"keep": Keep.of("features")}, "what logits in the store, None asked for"),
        (
            {"made_of": fingerprints(teacher="d")},
            "teacher weights aaaaaaaaaaaa .* in the store, dddddddddddd",
        ),
        ({"made_of": fingerprints(rows=49)}, "data of 50 rows in the store, 49 rows now"),
        (
            {"made_of": replace(fingerprints(), transform=None), "views": 1},
            "data with Shift in the store, with no augmentation now",
        ),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_plans_are_refused(tmp_path, other, told, finished):
    with StoreWriter(tmp_path, plan_of()) as writer:
        if finished:
            write_missing(writer)
            writer.finish()
    before = files_in(tmp_path)
    with pytest.raises(
        StoreError, match=f"expected what the store was begun with; .*{told}.* another folder"
    ):
        StoreWriter(tmp_path, plan_of(**other))
    assert files_in(tmp_path) == before


def test_other_settings_and_shapes_are_refused(tmp_path):
    write_store(tmp_path)
    with pytest.raises(StoreError, match="batch_size 16 in the store, 32 asked for"):
        StoreWriter(tmp_path, replace(plan_of(), settings={"batch_size": 32}))
    columns = plan_of().columns
    wider = {**columns, "logits": replace(columns["logits"], shape=(8,))}
    with pytest.raises(
        StoreError, match=r"logits float32 \[7\].* in the store, .*logits float32 \[8\]"
    ):
        StoreWriter(tmp_path, replace(plan_of(), columns=wider))


def test_the_size_of_shards_is_the_folders(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        writer.write(writer.missing()[0], columns_of(writer.missing()[0]))
    with StoreWriter(tmp_path, plan_of(shard_rows=7)) as writer:
        assert writer.plan.shard_rows == 20
        write_missing(writer)
        writer.finish()
    assert TeacherStore.open(tmp_path).verify() == []


@pytest.mark.parametrize("name", ["notes.txt", "shards", "train", ".hidden"])
def test_a_folder_of_something_else(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        StoreError, match=f"expected an empty folder.*got {name}.*nothing in this one was changed"
    ):
        StoreWriter(tmp_path, plan_of())
    assert files_in(tmp_path) == {name: b"mine"}


def test_a_manifest_of_something_else(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "app"}')
    with pytest.raises(StoreError, match=r"manifest\.json: expected the file of a limbeck store"):
        StoreWriter(tmp_path, plan_of())
    assert files_in(tmp_path) == {"manifest.json": b'{"name": "app"}'}


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "store").write_text("mine")
    with pytest.raises(StorageError, match="expected a folder that can be written"):
        StoreWriter(tmp_path / "store", plan_of())


def test_files_beside_a_store_are_left_alone(tmp_path):
    write_store(tmp_path)
    (tmp_path / "README").write_text("mine")
    (tmp_path / "shards" / "notes.json").write_text("mine")
    with StoreWriter(tmp_path, plan_of(views=3)) as writer:
        write_missing(writer)
        writer.finish()
    assert (tmp_path / "README").read_text() == "mine"
    assert (tmp_path / "shards" / "notes.json").read_text() == "mine"


def test_columns_of_another_shape(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        shard = writer.missing()[0]
        columns = columns_of(shard)
        for wrong, told in (
            (
                {**columns, "logits": columns["logits"][:19]},
                "logits: 20 rows of float32 .7. planned, 19 rows",
            ),
            ({**columns, "logits": columns["logits"].double()}, "20 rows of float64 .7. given"),
            ({**columns, "logits": columns["logits"][:, :6]}, "20 rows of float32 .6. given"),
            ({**columns, "more": columns["logits"]}, "more: none planned"),
            (
                {"logits": columns["logits"]},
                "features.map: 20 rows of float32 .2, 2. planned, none given",
            ),
        ):
            with pytest.raises(StoreError, match=told):
                writer.write(shard, wrong)
        with pytest.raises(ArgumentError, match="a shard of the plan; got v009-r00000000"):
            writer.write(replace(shard, view=9), columns)
        assert len(writer.missing()) == 6


def test_a_shard_of_another_size_is_not_finished(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        write_missing(writer)
    cut = tmp_path / "shards" / "v001-r00000000.safetensors"
    os.truncate(cut, 100)
    with StoreWriter(tmp_path, plan_of()) as writer:
        assert write_missing(writer) == [cut.stem]
        writer.finish()
    assert TeacherStore.open(tmp_path).verify() == []


def test_half_files_of_the_killed_go_and_those_of_the_living_stay(tmp_path):
    with StoreWriter(tmp_path, plan_of()):
        pass
    own = tmp_path / "shards" / ".v000-r00000000.safetensors.99.part"
    others = tmp_path / "shards" / ".v000-r00000020.safetensors.98.part"
    for path in (own, others):
        path.write_text("half")
    with StoreWriter(tmp_path, plan_of(), 0, 2):
        assert not own.exists()
        assert others.exists()
    with StoreWriter(tmp_path, plan_of()):
        assert not others.exists()


def test_only_what_is_missing_is_written(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        shards = writer.missing()
        write_missing(writer)
        with pytest.raises(
            ArgumentError, match="expected a shard that is missing; v000-r00000000 is"
        ):
            writer.write(shards[0], columns_of(shards[0]))
        writer.finish()
        with pytest.raises(StoreError, match="expected an open writer; this one is closed"):
            writer.write(shards[0], columns_of(shards[0]))
    with StoreWriter(tmp_path, plan_of(views=3)) as writer:
        with pytest.raises(ArgumentError, match="v000-r00000000 is written"):
            writer.write(shards[0], columns_of(shards[0]))
        shard = writer.missing()[0]
    with pytest.raises(StoreError, match="this one is closed"):
        writer.write(shard, columns_of(shard))


Usage = namedtuple("Usage", "total used free")


def test_space_is_looked_at_before_anything_is_written(tmp_path, monkeypatch):
    need = plan_of().bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(need, 0, need - 1))
    with pytest.raises(StorageError, match=r"expected 0\.000 GB of free disk space.*fewer views"):
        StoreWriter(tmp_path, plan_of())
    assert files_in(tmp_path) == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(need, 0, need))
    with StoreWriter(tmp_path, plan_of()) as writer:
        writer.write(writer.missing()[0], columns_of(writer.missing()[0]))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(need, 0, need * 0.9))
    with StoreWriter(tmp_path, plan_of()) as writer:  # there is less to write now
        shard = writer.missing()[0]
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(need, 0, 100))
        with pytest.raises(StorageError, match="Finished shards stay"):
            writer.write(shard, columns_of(shard))


def test_whole_need_bounds_what_is_written(tmp_path):
    plan = plan_of()
    folder = write_store(tmp_path, plan)
    written = sum(len(contents) for contents in files_in(folder / "shards").values())
    assert written <= plan.bytes


def test_plans():
    example = encode(said(torch.arange(2), 0), torch.arange(2), 0, BOTH)
    plan = Plan.of(BOTH, example, fingerprints(), views=2, shard_bytes=7_000, batch_rows=16)
    assert plan.shard_rows % 16 == 0
    assert all(plan.bytes_of(shard) <= 7_000 for shard in plan.shards())
    covered = [(s.view, row) for s in plan.shards() for row in range(s.start, s.stop)]
    assert covered == [(view, row) for view in range(2) for row in range(ROWS)]
    assert len({shard.name for shard in plan.shards()}) == len(list(plan.shards()))
    tiny = Plan.of(BOTH, example, fingerprints(), shard_bytes=1, batch_rows=16)
    assert tiny.shard_rows == 1
    assert Plan.of(BOTH, example, fingerprints()).shard_rows == ROWS


def test_plans_that_make_no_sense():
    with pytest.raises(ArgumentError, match=r"`views` = 1 for data without augmentation.*got 2"):
        plan_of(views=2, made_of=fingerprints(augmented=False))
    drawn = Keep.of("hard_labels")
    assert plan_of(drawn, views=2, made_of=fingerprints(augmented=False)).distinct_views
    with pytest.raises(ArgumentError, match="expected `views` > 0; got 0"):
        plan_of(views=0)
    with pytest.raises(ArgumentError, match=r"columns with numbers in them; got \['logits'\]"):
        Plan.of(Keep(), {"logits": torch.zeros(2, 0)}, fingerprints())
    with pytest.raises(ArgumentError, match="`rank` from 0 to `ranks` - 1; got 2 of 2"):
        StoreWriter("never", plan_of(), 2, 2)


def test_a_file_without_an_ending_among_the_shards_is_left_alone(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        write_missing(writer)
        (tmp_path / "shards" / "notes").write_text("mine")
        writer.finish()
    assert (tmp_path / "shards" / "notes").read_text() == "mine"
    assert not (tmp_path / "plan.json").exists()
