"""``limbeck cache``: from a recipe to a store, and a student that learns from it."""

from __future__ import annotations

import json

import pytest
import torch

from limbeck import TeacherStore, load
from limbeck.record import RunRecord
from limbeck.zoo.data import load_dataset


BATCH = ("training.batch_size=50", "--batch-size", 50)  # 200 rows: every batch is whole


def stored(limbeck, recipe, folder, *arguments):
    return limbeck.json("cache", recipe, "--out", folder, "--device", "cpu", *arguments)


def test_a_store_is_written_and_teaches_as_the_teacher_does(limbeck, recipe, tmp_path):
    said = stored(limbeck, recipe, tmp_path / "store", "--views", 2, *BATCH)
    part = said["parts"]["train"]
    assert (part["rows"], part["views"], part["kind"]) == (200, 2, "logits")
    assert part["bytes"] > 2 * 200 * 10 * 4
    common = ("training.epochs=3", "training.batch_size=50")
    out, _ = limbeck(
        "distill", recipe, *common, "--teacher", tmp_path / "store", "--out", tmp_path / "stored"
    )
    assert "200 stored training rows" in out
    assert "stored teacher: 2 views took" in out
    assert "this run had 3." in out
    limbeck("distill", recipe, *common, "training.views=2", "--out", tmp_path / "live")
    one, other = (RunRecord.open(tmp_path / name) for name in ("stored", "live"))
    for name, curve in other.curves.items():
        assert one.curves[name] == pytest.approx(curve, rel=1e-5), name
    assert "share teacher" in one.time


def test_it_goes_on_and_is_given_more_views(limbeck, recipe, tmp_path):
    stored(limbeck, recipe, tmp_path / "store", "--views", 1)
    before = (tmp_path / "store/manifest.json").read_text()
    stored(limbeck, recipe, tmp_path / "store", "--views", 1)
    assert (tmp_path / "store/manifest.json").read_text() == before
    assert stored(limbeck, recipe, tmp_path / "store", "--views", 2)["parts"]["train"]["views"] == 2


def test_what_the_recipe_needs_is_kept(limbeck, recipe, tmp_path):
    """ITRD compares features of the penultimate layer; all losses may have logits."""
    part = stored(limbeck, recipe, tmp_path / "itrd", "loss=itrd", "--views", 1)["parts"]["train"]
    assert set(part["columns"]) == {"features.penultimate", "logits"}
    part = stored(limbeck, recipe, tmp_path / "kd", "training.views=3")["parts"]["train"]
    assert (set(part["columns"]), part["views"]) == ({"logits"}, 3)
    part = stored(limbeck, recipe, tmp_path / "plain", "data.augment=none")["parts"]["train"]
    assert part["views"] == 1
    part = stored(limbeck, recipe, tmp_path / "eight")["parts"]["train"]
    assert part["views"] == 8


def test_options_reach_the_store(limbeck, recipe, tmp_path):
    options = ("--views", 1, "--keep", "top_k+features", "--k", 3, "--layers", "penultimate")
    options += ("--dtype", "fp16", "--temperature", 2.0)
    part = stored(limbeck, recipe, tmp_path / "store", *options)["parts"]["train"]
    assert part["columns"]["labels"] == "int32 [3]"
    assert part["columns"]["log_probabilities"] == "float16 [3]"
    keep = TeacherStore.open(tmp_path / "store").keep
    assert (keep.k, keep.temperature, keep.dtype) == (3, 2.0, "fp16")
    drawn = ("--keep", "sampled_counts", "--draws", 4, "--views", 1, "seed=9")
    stored(limbeck, recipe, tmp_path / "drawn", *drawn)
    keep = TeacherStore.open(tmp_path / "drawn").keep
    assert (keep.draws, keep.seed) == (4, 9)
    greedy = ("--keep", "hard_labels", "--greedy", "--views", 1, "--precision", "bf16")
    stored(limbeck, recipe, tmp_path / "greedy", *greedy)
    store = TeacherStore.open(tmp_path / "greedy")
    assert store.keep.greedy
    assert store.manifest.plan.fingerprints.teacher.precision == "bf16"


def test_parts_lie_side_by_side(limbeck, recipe, teacher, tmp_path):
    said = stored(
        limbeck, recipe, tmp_path / "store", "--views", 2, "--parts", "train,validation,test"
    )
    assert [part["views"] for part in said["parts"].values()] == [2, 1, 1]
    digits = load_dataset("digits")
    found = (
        TeacherStore.open(tmp_path / "store").on(digits.test).read(torch.arange(len(digits.test)))
    )
    with torch.no_grad():
        wanted = load(teacher)(digits.test.source.inputs.float() / 255)
    assert torch.allclose(found["logits"], wanted, atol=1e-4)
    _, error = limbeck("cache", recipe, "--parts", "train,dev", code=2)
    assert "expected `part` to be one of train, validation, test; got 'dev'" in error


def test_measure_and_weigh_read_a_store(limbeck, recipe, teacher, tmp_path):
    stored(limbeck, recipe, tmp_path / "store", "--views", 1, "--parts", "train,validation,test")
    common = ("--student", teacher, "--layers", "logits", "--set", "test", "--device", "cpu")
    common += ("--method", "cells", "--rows", 300)
    bits = [
        limbeck.json("measure", recipe, "--teacher", one, *common)
        for one in (tmp_path / "store", teacher)
    ]
    one, other = (found["entries"][0]["estimate"]["unique_teacher"]["value"] for found in bits)
    assert one == pytest.approx(other, abs=1e-3)
    moments = [
        limbeck.json("weigh", recipe, f"teacher.folder={one}", "--no-curvature", "--device", "cpu")
        for one in (tmp_path / "store", teacher)
    ]
    one, other = (found["train"]["tr_gh"] for found in moments)
    assert one == pytest.approx(other, rel=1e-3)


def test_a_store_is_audited_and_certifies(limbeck, recipe, teacher, tmp_path):
    kept = ("--keep", "sampled_counts", "--parts", "train,test", "data.augment=none")
    stored(limbeck, recipe, tmp_path / "store", *kept)
    assert limbeck.json("audit", tmp_path / "store/test")["records"] >= 360
    said = limbeck.json(
        "certify", teacher, "--records", tmp_path / "store/test", "--data", "digits",
        "--device", "cpu",
    )  # fmt: skip
    assert said["estimates"]["total_variation"]["lower"] == pytest.approx(0.0, abs=1e-6)
    assert said["estimates"]["total_variation"]["value"] < 1e-4  # the student is the teacher
    _, error = limbeck("audit", tmp_path / "store", code=2)
    assert "expected one store" in error


def test_a_dry_run_says_what_it_takes_and_writes_nothing(limbeck, recipe, tmp_path):
    out, _ = limbeck("cache", recipe, "--views", 4, "--dry-run", "--out", tmp_path / "store")
    assert not (tmp_path / "store").exists()
    for text in ("dry run", "bytes a row and view", "sampled_counts (50)", "unbiased"):
        assert text in out
    said = stored(limbeck, recipe, tmp_path / "store", "--views", 4, "--dry-run")["parts"]["train"]
    assert said["bytes_per_row"] == 10 * 4
    whole = stored(limbeck, recipe, tmp_path / "store", "--views", 4)["parts"]["train"]["bytes"]
    assert whole <= said["bytes"] < 1.5 * whole + 16384 * 4
    kinds = {(kind["keep"], kind["dtype"]): kind for kind in said["kinds"]}
    assert kinds["logits", "fp32"]["distance"] < 1e-6
    assert kinds["logits", "fp16"]["bytes_per_row"] == 20
    assert 0 < kinds["logits", "fp16"]["distance"] < kinds["logits", "bf16"]["distance"] < 0.01
    draws = kinds["sampled_counts (50)", "fp32"]["distance"]
    assert draws < kinds["sampled_probability", "fp32"]["distance"]


def test_verify_names_the_file_that_changed(limbeck, recipe, tmp_path):
    stored(limbeck, recipe, tmp_path / "store", "--views", 2)
    out, _ = limbeck("cache", "verify", tmp_path / "store")
    assert "every bit is as it was written" in out
    shard = sorted((tmp_path / "store/shards").iterdir())[1]
    bits = bytearray(shard.read_bytes())
    bits[-3] ^= 1
    shard.write_bytes(bytes(bits))
    out, _ = limbeck("cache", "verify", tmp_path / "store", code=2)
    assert shard.stem in out
    assert "every bit" not in out
    out, _ = limbeck("cache", "verify", tmp_path / "store", "--json", code=2)
    assert len(json.loads(out)["faults"][str(tmp_path / "store")]) == 1
    _, error = limbeck("cache", "verify", tmp_path, "nothing", code=2)
    assert "expected a store" in error
    _, error = limbeck("cache", "verify", code=2)
    assert "expected the folder of a store" in error


def test_what_is_wrong_is_said(limbeck, recipe, teacher, tmp_path):
    _, error = limbeck("cache", recipe, "teacher=null", code=2)
    assert "it is null" in error
    stored(limbeck, recipe, tmp_path / "store", "--views", 1)
    _, error = limbeck("cache", recipe, "--out", tmp_path / "store", "--dtype", "fp16", code=2)
    assert "dtype fp32 in the store, fp16 asked for" in error
    _, error = limbeck("cache", recipe, "--out", teacher, code=2)
    assert "expected" in error
    convert = f"teacher={{folder: {tmp_path / 'store'}, convert: binary}}"
    _, error = limbeck("distill", recipe, convert, code=2)
    assert "teacher.convert: expected a model to convert" in error
    _, error = limbeck("distill", recipe, "data.limit=150", "--teacher", tmp_path / "store", code=2)
    assert "data of 200 rows in the store, 150 rows now" in error
