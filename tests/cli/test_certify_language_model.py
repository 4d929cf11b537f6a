"""``limbeck certify hf:FOLDER``: a causal language model from disk, on records of token ids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from limbeck import TeacherRecord, write_records


transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own
WORDS, LENGTH, TEXTS = 12, 8, 60


def gpt2(seed, scale):
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.GPT2LMHeadModel(config).double().eval()
        with torch.no_grad():
            model.transformer.wte.weight.mul_(scale)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a student with tied weights, as transformers saves it."""
    path = tmp_path_factory.mktemp("gpt2")
    gpt2(0, 8.0).float().save_pretrained(path)
    return path


@torch.no_grad()
def rows_after(model, tokens):
    """Return the distribution after every token of one text, without padding or batches."""
    return model(torch.tensor([tokens])).logits[0].double().softmax(1).numpy()


@pytest.fixture(scope="module")
def texts():
    """Return what a teacher wrote, token by token: records, and its rows at each."""
    teacher, random = gpt2(1, 8.0), np.random.default_rng(0)
    records, rows = [], []
    for text in range(TEXTS):
        tokens = [int(random.integers(WORDS))]
        for place in range(LENGTH - 1):
            row = rows_after(teacher, tokens)[-1]
            label = int(random.choice(WORDS, p=row))
            log = math.log(row[label])
            records.append(TeacherRecord(tuple(tokens), label, log, sequence=text, position=place))
            rows.append(row)
            tokens.append(label)
    return records, rows


def test_a_folder_of_transformers_is_certified_by_its_next_tokens(limbeck, folder, texts, tmp_path):
    records, rows = texts
    path = write_records(tmp_path / "answers.jsonl", records)
    found = limbeck.json(
        "certify", f"hf:{folder}", "--records", path, "--device", "cpu", "--batch-size", "7"
    )
    student = transformers.GPT2LMHeadModel.from_pretrained(folder).double().eval()
    said = [rows_after(student, record.input)[-1] for record in records]
    terms = [
        max(0.0, 1 - own[record.label] / math.exp(record.log_probability))
        for own, record in zip(said, records, strict=True)
    ]
    measured = found["estimates"]["total_variation"]
    assert measured["value"] == pytest.approx(np.mean(terms), abs=1e-5)
    exact = np.mean([np.abs(own - row).sum() / 2 for own, row in zip(said, rows, strict=True)])
    assert exact > 0.2  # two teachers of different seeds
    assert measured["lower"] < exact < measured["upper"]
    log_ratio = np.log([own[record.label] for own, record in zip(said, records, strict=True)])
    log_ratio -= [record.log_probability for record in records]
    assert found["estimates"]["kl_k1"]["value"] == pytest.approx(-log_ratio.mean(), abs=1e-5)
    products = log_ratio.reshape(TEXTS, LENGTH - 1).sum(1)
    whole = found["estimates"]["response_total_variation"]["value"]
    assert whole == pytest.approx(np.maximum(-np.expm1(products), 0).mean(), abs=1e-5)
    assert (found["unit"], found["units"], found["records"]) == ("sequence", TEXTS, len(records))
    assert found["data"] is None
    shown, _ = limbeck("certify", f"hf:{folder}", "--records", path, "--device", "cpu")
    assert "acceptance rate as a draft" in " ".join(shown.split())


def test_the_teacher_itself_is_at_distance_zero(limbeck, texts, tmp_path):
    records, _ = texts
    gpt2(1, 8.0).float().save_pretrained(tmp_path / "teacher")
    path = write_records(tmp_path / "answers.jsonl", records[:70])
    found = limbeck.json("certify", f"hf:{tmp_path / 'teacher'}", "--records", path)
    assert found["estimates"]["total_variation"]["value"] == pytest.approx(0, abs=1e-5)
    assert found["estimates"]["kl"]["value"] == pytest.approx(0, abs=1e-5)


def test_what_the_model_cannot_be_given_is_left_out_and_said(limbeck, folder, tmp_path):
    good = [TeacherRecord((1, place % WORDS), 2, -1.0) for place in range(20)]
    bad = [
        TeacherRecord((1, WORDS), 2, -1.0),
        TeacherRecord(tuple([1] * (LENGTH + 1)), 2, -1.0),
        TeacherRecord("one two", 2, -1.0),
    ]
    path = write_records(tmp_path / "answers.jsonl", good + bad)
    found = limbeck.json("certify", f"hf:{folder}", "--records", path)
    assert found["left_out"] == {
        "with a token id outside of the student's vocabulary": 1,
        "with more tokens than the student's context holds": 1,
        "with another kind of input": 1,
    }
    assert found["records"] == 20
    path = write_records(tmp_path / "other.jsonl", [TeacherRecord((1,), WORDS, -1.0)] * 3)
    _, said = limbeck("certify", f"hf:{folder}", "--records", path, code=2)
    assert f"expected labels below {WORDS}" in " ".join(said.split())


def test_a_record_set_without_numbers_compares_two_folders(limbeck, folder, texts, tmp_path):
    records, _ = texts
    bare = [TeacherRecord(one.input, one.label, sequence=one.sequence) for one in records]
    path = write_records(tmp_path / "bare.jsonl", bare)
    gpt2(1, 8.0).float().save_pretrained(tmp_path / "teacher")
    found = limbeck.json(
        "certify", f"hf:{tmp_path / 'teacher'}", "--records", path, "--against", f"hf:{folder}"
    )
    assert found["kl"]["upper"] < 0
    assert found["verdict"].split(" (")[0].endswith("teacher is likely nearer to the teacher")
