"""The format as docs/store-format.md tells it, read without limbeck's reader."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from store.small_store import BOTH, ROWS, columns_of, plan_of, write_store

from limbeck.store import Shard


PAGE = Path(__file__).parents[2] / "docs" / "store-format.md"


def blake(contents):
    return hashlib.blake2b(contents, digest_size=32).hexdigest()


def test_shards_are_plain_safetensors(tmp_path):
    folder = write_store(tmp_path)
    told = json.loads((folder / "manifest.json").read_text())
    rows = told["plan"]["shard_rows"]
    seen = 0
    for name, shard in told["shards"].items():
        path = folder / "shards" / f"{name}.safetensors"
        assert path.stat().st_size == shard["bytes"]
        assert blake(path.read_bytes()) == shard["digest"]
        with safe_open(path, "pt") as file:
            assert file.metadata() is None
        view, start = int(name[1:4]), int(name[6:])
        assert start % rows == 0
        expected = columns_of(Shard(view, start, min(start + rows, ROWS)), BOTH)
        found = load_file(path)
        assert found.keys() == expected.keys() == told["plan"]["columns"].keys()
        for column, values in expected.items():
            assert torch.equal(found[column], values)
        seen += len(found["logits"])
    assert seen == 2 * ROWS


def test_the_manifest_has_its_own_digest(tmp_path):
    told = json.loads((write_store(tmp_path) / "manifest.json").read_text())
    stated = told.pop("digest")
    assert blake(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()) == stated


def test_the_page_names_every_key(tmp_path):
    told = json.loads((write_store(tmp_path) / "manifest.json").read_text())
    page = PAGE.read_text("utf8")
    for key in (*told, *told["plan"]["keep"]):
        assert f"`{key}`" in page or key == "plan", key
    for key in told["plan"]:
        assert f"`plan.{key}`" in page, key


def test_lists_are_on_one_line_and_texts_are_left_alone(tmp_path):
    from dataclasses import replace

    from limbeck.store import Fingerprints, TeacherStore

    plan = plan_of()
    odd = replace(plan.fingerprints.transform, name="Mix([1.,   2.], \\[\n 3\n])")
    made_of = plan.fingerprints
    plan = replace(plan, fingerprints=Fingerprints(made_of.teacher, made_of.data, odd))
    folder = write_store(tmp_path, plan)
    assert TeacherStore.open(folder).manifest.plan == plan
    assert "[ 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5 ]" in (folder / "manifest.json").read_text()
