"""What is not as it was written is refused or found, and named."""

import json
import os
import re
import shutil

import pytest
import torch
from store.small_store import ROWS, columns_of, plan_of, write_store

from limbeck.checks import StoreError
from limbeck.store import StoreWriter, TeacherStore, verify


SHARD = "v001-r00000020"


@pytest.fixture
def folder(tmp_path):
    return write_store(tmp_path / "store")


@pytest.fixture
def shard(folder):
    return folder / "shards" / f"{SHARD}.safetensors"


def test_nothing_is_wrong_with_a_new_one(folder):
    seen = []
    assert TeacherStore.open(folder).verify(seen.append) == []
    assert sum(seen) == TeacherStore.open(folder).manifest.bytes
    assert verify(folder) == []


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 1.0])
def test_a_flipped_bit(folder, shard, place):
    contents = bytearray(shard.read_bytes())
    contents[round(place * (len(contents) - 1))] ^= 4
    shard.write_bytes(contents)
    for faults in (TeacherStore.open(folder).verify(), verify(folder)):
        assert [fault.shard for fault in faults] == [SHARD]
        assert "Its bytes have changed" in faults[0].text
        assert str(faults[0]).startswith(f"{SHARD}: expected digest ")


def test_all_faults_are_named(folder):
    for name in ("v000-r00000000", SHARD):
        path = folder / "shards" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [fault.shard for fault in verify(folder)] == ["v000-r00000000", SHARD]


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_shard(folder, shard, size):
    whole = shard.stat().st_size
    size %= whole
    told = (
        f"{SHARD}.safetensors: expected the shard .* {size} bytes in the place of {whole}.*Restore"
    )
    os.truncate(shard, size)
    with pytest.raises(StoreError, match=told):
        TeacherStore.open(folder)
    assert [fault.shard for fault in verify(folder)] == [SHARD]


def test_a_shard_that_has_grown(folder, shard):
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(StoreError, match=f"{SHARD}.safetensors: .* bytes in the place of"):
        TeacherStore.open(folder)


def test_a_truncated_shard_of_an_open_store(folder, shard):
    store = TeacherStore.open(folder)
    os.truncate(shard, 100)
    store.read(torch.arange(20), 1)
    with pytest.raises(StoreError, match=f"{SHARD}.*100 bytes"):
        store.read(torch.arange(ROWS), 1)


def test_a_missing_shard(folder, shard):
    shard.unlink()
    with pytest.raises(StoreError, match=f"{SHARD}.safetensors: .* got No such file"):
        TeacherStore.open(folder)
    assert [fault.shard for fault in verify(folder)] == [SHARD]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"logits"', b'"logitz"'),
        (b"F32", b"F16"),
        (b"[20,7]", b"[7,20]"),
        (b'{"', b'[["'),
        (b"data_offsets", b"data_offsetz"),
    ],
)
def test_a_shard_with_another_header(folder, shard, old, new):
    contents = shard.read_bytes()
    changed = contents.replace(old, new)
    assert changed != contents
    shard.write_bytes(changed[: len(contents)].ljust(len(contents)))
    with pytest.raises(
        StoreError,
        match=f"{SHARD}.safetensors: expected the shard that the manifest tells of; got no",
    ):
        TeacherStore.open(folder).read(torch.arange(ROWS), 1)


def test_offsets_outside_of_the_file(folder, shard):
    contents = shard.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8 : 8 + length])
    for entry in header.values():
        entry["data_offsets"] = [offset + 9000 for offset in entry["data_offsets"]]
    told = json.dumps(header, separators=(",", ":")).encode()
    assert len(told) <= length + 40
    told = told.ljust(-(-len(told) // 8) * 8)
    shard.write_bytes(
        (len(told).to_bytes(8, "little") + told + contents[8 + length :])[: len(contents)]
    )
    store = TeacherStore.open(folder)
    with pytest.raises(StoreError, match="expected the shard that the manifest tells of"):
        store.read(torch.arange(ROWS), 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rows": 50', '"rows": 51'),
        ('"fp32"', '"fp16"'),
        ('"seed": 0', '"seed": 1'),
        ('"views": 2', '"views": 1'),
        ('"digest": "aaaa', '"digest": "aaab'),
        (" 0.5,", " 0.25,"),
        ('"plan"', '"plans"'),
    ],
)
def test_an_edited_manifest(folder, old, new):
    path = folder / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(
        StoreError,
        match=r"manifest\.json: expected the file as limbeck wrote it; it says digest .* edited",
    ):
        TeacherStore.open(folder)
    with pytest.raises(StoreError, match="edited or damaged"):
        StoreWriter(folder, plan_of())


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ("", "it cannot be read"),
        ('{"format": "limbeck sto', "it cannot be read"),
        ("[]", "expected the file of a limbeck store"),
        ('{"format": "other"}', "expected the file of a limbeck store"),
        (
            '{"format": "limbeck store", "version": 2}',
            "expected version 1 of the store format; got 2",
        ),
    ],
)
def test_manifests_that_are_none(folder, contents, told):
    (folder / "manifest.json").write_text(contents)
    with pytest.raises(StoreError, match=told):
        TeacherStore.open(folder)
    with pytest.raises(StoreError, match=told):
        verify(folder)


def test_spaces_of_a_manifest_do_not_matter(folder):
    """The digest is of what it says, so that a formatter does no harm."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert TeacherStore.open(folder).verify() == []


def test_a_manifest_with_its_own_digest_but_other_fields(folder):
    from limbeck.store.manifest import _digest

    path = folder / "manifest.json"
    told = json.loads(path.read_text())
    told["plan"]["rows"] = "fifty"
    told["digest"] = _digest({name: value for name, value in told.items() if name != "digest"})
    path.write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"plan\.rows: Input should be a valid integer"):
        TeacherStore.open(folder)


def test_an_edited_plan(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        shard = writer.missing()[0]
        writer.write(shard, columns_of(shard))
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"rows": 50', '"rows": 60'))
    with pytest.raises(StoreError, match=r"plan\.json: .* edited or damaged"):
        StoreWriter(tmp_path, plan_of())


def test_stores_that_are_not_finished(tmp_path):
    with StoreWriter(tmp_path / "store", plan_of()) as writer:
        for done in range(6):
            told = f"expected a finished store; {done} of 6 shards are written"
            with pytest.raises(StoreError, match=told):
                TeacherStore.open(tmp_path / "store")
            shard = writer.missing()[0]
            writer.write(shard, columns_of(shard))
        with pytest.raises(StoreError, match="6 of 6 shards are written"):
            TeacherStore.open(tmp_path / "store")
        with pytest.raises(StoreError, match="expected a finished store"):
            verify(tmp_path / "store")
        writer.finish()
    assert TeacherStore.open(tmp_path / "store").verify() == []


def test_no_store_at_all(tmp_path):
    with pytest.raises(
        StoreError, match=r"expected a store, which has a manifest\.json; there is none"
    ):
        TeacherStore.open(tmp_path)
    with pytest.raises(StoreError, match="there is no such folder"):
        TeacherStore.open(tmp_path / "none")


def test_a_shard_of_another_store(folder, tmp_path, shard):
    """Of the same size: opening does not see it, verifying does."""
    shutil.copy(folder / "shards" / "v000-r00000000.safetensors", shard)
    assert [fault.shard for fault in TeacherStore.open(folder).verify()] == [SHARD]


def test_a_note_without_its_shard_is_no_shard(tmp_path):
    with StoreWriter(tmp_path, plan_of()) as writer:
        first, second, *_ = writer.missing()
        for shard in (first, second):
            writer.write(shard, columns_of(shard))
        (tmp_path / "shards" / f"{first.name}.safetensors").unlink()
        (tmp_path / "shards" / f"{second.name}.json").write_text("{}")
        assert writer.missing()[:2] == [first, second]


def test_errors_name_both_sides_and_what_to_do(folder, shard):
    os.truncate(shard, 10)
    with pytest.raises(StoreError) as caught:
        TeacherStore.open(folder)
    assert re.fullmatch(r".*: expected .*; got .*\. .*\.", str(caught.value))


def _moved(name, begin, stop):
    """Return what moves a column's stretch of the file by so many bytes at either end."""

    def change(header):
        old = header[name]["data_offsets"]
        return header | {name: header[name] | {"data_offsets": [old[0] + begin, old[1] + stop]}}

    return change


@pytest.mark.parametrize(
    "change",
    [
        _moved("logits", 0, -4),
        _moved("logits", -4, 0),
        _moved("logits", -1, -1),
        _moved("features.body.pool", -8, -8),
        lambda header: header | {"logits": [5]},
        lambda header: header | {"logits": header["logits"] | {"data_offsets": [0]}},
        lambda header: header | {"logits": header["logits"] | {"data_offsets": ["0", "560"]}},
        lambda header: header | {"logits": header["logits"] | {"data_offsets": 560}},
        lambda header: header | {"logits": header["logits"] | {"data_offsets": [0.0, 560.0]}},
    ],
    ids=[
        "shorter",
        "longer",
        "between two numbers",
        "in the header",
        "no object",
        "one offset",
        "texts",
        "a number",
        "floats",
    ],
)
def test_a_header_of_other_things(folder, shard, change):
    contents = shard.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    told = json.dumps(change(json.loads(contents[8 : 8 + length])), separators=(",", ":")).encode()
    told = told.ljust(-(-len(told) // 8) * 8)
    made = len(told).to_bytes(8, "little") + told + contents[8 + length :]
    shard.write_bytes(made[: len(contents)].ljust(len(contents), b"\0"))
    with pytest.raises(
        StoreError, match=f"{SHARD}.safetensors: .* got no float32 (logits|features)"
    ):
        TeacherStore.open(folder).read(torch.arange(ROWS), 1)


@pytest.mark.parametrize(
    "start",
    [
        b"\xff" * 8,
        (2**40).to_bytes(8, "little"),
        (1200).to_bytes(8, "little") + b"[" * 1200,
        (2).to_bytes(8, "little") + b"[]",
    ],
    ids=["endless", "long", "deep", "a list"],
)
def test_the_length_of_a_header(folder, shard, start):
    contents = shard.read_bytes()
    shard.write_bytes(start + contents[len(start) :])
    with pytest.raises(StoreError, match=f"{SHARD}.safetensors: .* got no header of safetensors"):
        TeacherStore.open(folder).read(torch.arange(ROWS), 1)


def test_a_shard_that_the_system_does_not_map(folder, monkeypatch):
    """Without the right to read it, or with as many maps as a process may have."""

    def refused(*_, **__):
        raise RuntimeError("unable to mmap 100 bytes from file <x>: Cannot allocate memory (12)")

    store = TeacherStore.open(folder)
    monkeypatch.setattr(torch.UntypedStorage, "from_file", refused)
    with pytest.raises(StoreError, match=r"r00000000\.safetensors: .*Cannot allocate memory"):
        store.read(torch.arange(3))
