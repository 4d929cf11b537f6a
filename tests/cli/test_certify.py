"""``limbeck certify``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from limbeck import Certificate, TeacherRecord, certify, load, write_records
from limbeck.zoo.data import load_dataset


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture
def answers(digits, tmp_path):
    """Return the path of a made-up teacher's answers at the test rows, and its rows."""
    rows = torch.randn(len(digits.test), 10, generator=torch.Generator().manual_seed(0)).double()
    rows = (rows + 4 * torch.nn.functional.one_hot(digits.test.targets, 10)).softmax(1).numpy()
    labels = (rows.cumsum(1) > np.random.default_rng(0).random((len(rows), 1))).argmax(1)
    records = [
        TeacherRecord(place, int(label), float(np.log(rows[place, label])))
        for place, label in enumerate(labels)
    ]
    return write_records(tmp_path / "answers.jsonl", records), records


def test_a_run_is_certified_on_its_own_test_rows(limbeck, teacher, answers, digits, tmp_path):
    path, records = answers
    found = limbeck.json(
        "certify", teacher, "--records", path, "--out", tmp_path / "made", "--device", "cpu"
    )
    direct = certify(load(teacher), records, digits.test, device="cpu")
    assert found["estimates"]["total_variation"]["value"] == pytest.approx(
        direct.total_variation.value, abs=1e-9
    )
    assert found["estimates"]["kl"]["lower"] == pytest.approx(direct.kl.lower, abs=1e-9)
    assert (found["records"], found["data"]) == (539, "digits, test rows")
    saved = json.loads((tmp_path / "made" / "certificate.json").read_text())
    assert {key: found[key] for key in saved} == saved


def test_the_table_says_numbers_and_what_they_rest_on(limbeck, teacher, answers):
    path, _ = answers
    said, _ = limbeck("certify", teacher, "--records", path, "--confidence", "0.9")
    for part in (
        "539 records, sampled_probabilities (digits, test rows)",
        "total variation",
        "guarantee",
        "approximate",
        "total variation at most",
        "(one-sided, 0.9)",
        "scope: the teacher is taken for the truth",
    ):
        assert part in said


def test_data_by_name_recipe_and_part(limbeck, teacher, answers, recipe):
    path, _ = answers
    first = limbeck.json("certify", teacher, "--records", path)["estimates"]
    named = limbeck.json("certify", teacher, "--records", path, "--data", "digits")
    assert named["estimates"] == first
    assert (
        limbeck.json("certify", teacher, "--records", path, "--data-of", recipe)["estimates"]
        == first
    )
    train = limbeck.json("certify", teacher, "data.limit=50", "--records", path, "--set", "train")
    assert train["left_out"] == {"with an index outside of the data": 489}
    assert any("memorised" in text for text in train["remarks"])
    _, said = limbeck(
        "certify", teacher, "--records", path, "--data", "digits", "--data-of", recipe, code=2
    )
    assert "got both" in said


def test_another_student_by_its_spec_needs_data(limbeck, answers, tmp_path):
    path, _ = answers
    _, said = limbeck("certify", "zoo:small_cnn,width=4", "--records", path, code=2)
    assert "Give --data or --data-of" in " ".join(said.split())
    found = limbeck.json(
        "certify", "zoo:small_cnn,width=4", "--records", path, "--data", "digits", "--interval",
        "hoeffding", "--units", "record",
    )  # fmt: skip
    assert found["student"] == "small_cnn"
    assert found["estimates"]["total_variation"]["settings"]["interval"] == "hoeffding"


def test_labels_alone_are_refused_and_compared(limbeck, teacher, answers, tmp_path):
    _, records = answers
    bare = [TeacherRecord(one.input, one.label) for one in records]
    path = write_records(tmp_path / "bare.jsonl", bare)
    _, said = limbeck("certify", teacher, "--records", path, code=2)
    assert "--against on the command line" in " ".join(said.split())
    found = limbeck.json(
        "certify", teacher, "--records", path, "--against", "zoo:small_cnn,width=4", "--out",
        tmp_path / "made",
    )  # fmt: skip
    assert found["kl"]["upper"] < 0
    assert "is nearer" in found["verdict"]
    assert (tmp_path / "made" / "comparison.json").is_file()
    said, _ = limbeck("certify", teacher, "--records", path, "--against", teacher)
    assert "no difference is resolved" in said
    _, said = limbeck(
        "certify", teacher, "--records", path, "--against", teacher, "--built-from", path, code=2
    )
    assert "no --built-from beside --against" in " ".join(said.split())


def test_faulty_lines_are_remarked(limbeck, teacher, answers):
    path, _ = answers
    path.write_text("nonsense\n" * 5 + path.read_text())
    found = limbeck.json("certify", teacher, "--records", path)
    assert found["left_out"] == {"faulty lines (not_json)": 5}
    assert found["records"] == 539
    assert len(found["remarks"]) == 4
    assert found["remarks"][-1].startswith("2 more faults of")
    _, said = limbeck("certify", teacher, "--records", path)
    assert "note: line 1: not_json" in said


def test_built_from_deployment_and_training_rows(limbeck, teacher, answers, tmp_path):
    path, records = answers
    built = write_records(tmp_path / "built.jsonl", records[:200])
    fresh = tmp_path / "fresh.jsonl"
    fresh.write_text("5\n6\n\n" + '{"input": 500}\n' * 60)
    found = limbeck.json(
        "certify", teacher, "--records", path, "--built-from", built, "--deployment", fresh,
        "--trained-on", built,
    )  # fmt: skip
    assert found["records"] == 339
    assert found["left_out"] == {"that the student was trained on": 200}
    assert found["estimates"]["residual"]["value"] == pytest.approx(1)
    assert found["estimates"]["residual_deployment"]["n"] == 62
    fresh.write_text('{"inputs": 3}\n')
    _, said = limbeck(
        "certify", teacher, "--records", path, "--built-from", built, "--deployment", fresh, code=2
    )
    assert "line 1: expected an index, a string or a list of token ids" in " ".join(said.split())


def test_token_ids_need_no_data(limbeck, tmp_path):
    records = [TeacherRecord((1, 2, 3), 1, -1.0), TeacherRecord((1, 2), 0, -1.0)]
    path = write_records(tmp_path / "tokens.jsonl", records)
    found = limbeck.json("certify", "torch.nn:Embedding,num_embeddings=5,embedding_dim=5",
                         "--records", path, "--device", "cpu")  # fmt: skip
    assert found["data"] is None
    assert found["settings"]["tokens"] is True


def test_what_is_missing_is_said(limbeck, teacher, tmp_path):
    _, said = limbeck("certify", teacher, code=2)
    assert "expected --records" in said
    _, said = limbeck("certify", teacher, "--records", tmp_path / "none.jsonl", code=2)
    assert "no such file" in said
    (tmp_path / "empty.jsonl").write_text("")
    _, said = limbeck("certify", teacher, "--records", tmp_path / "empty.jsonl", code=2)
    assert "expected teacher records" in said


def test_one_process_writes(limbeck, teacher, answers, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    path, _ = answers
    said = limbeck("certify", teacher, "--records", path, "--out", tmp_path / "made")
    assert said == ("", "")
    assert not (tmp_path / "made" / "certificate.json").exists()


def test_the_program_lists_it(limbeck):
    said, _ = limbeck("--help")
    assert "certify" in said
    assert isinstance(Certificate, type)
