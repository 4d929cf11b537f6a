"""certify() for students that read token ids: prefixes, padding, transformers, strings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.checks import ArgumentError, ModelError
from limbeck.records import TeacherRecord
from limbeck.training.certify import certify


class Reader(nn.Module):
    """A causal language model: the logits are a running sum of embeddings."""

    def __init__(self, words=6, *, causal=True, last=False):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(words, words)
        self.causal, self.last, self.passes = causal, last, []

    def forward(self, ids):
        self.passes.append(tuple(ids.shape))
        vectors = self.table(ids)
        if self.causal:
            said = vectors.cumsum(1)
        else:
            said = vectors.cumsum(1) + vectors.mean(1, keepdim=True)
        return said[:, -1] if self.last else said


class Masked(Reader):
    """The same with a transformers signature; it checks what it is given."""

    def forward(self, input_ids, attention_mask=None):
        assert attention_mask is not None
        assert (attention_mask.diff(dim=1) <= 0).all()  # padded on the right
        return {"logits": super().forward(input_ids)}


@pytest.mark.parametrize("kind", [Reader, Masked])
def test_a_language_model_reads_prefixes_in_one_pass(kind):
    student = kind()
    texts = [(1, 2, 3, 4, 5), (1, 2, 0), (3,), (2, 2, 2, 2)]
    prefixes = [text[:n] for text in texts for n in range(1, len(text) + 1)]
    records = [TeacherRecord(one, 0, -1.0, sequence="all", position=0) for one in prefixes]
    found = certify(student, records, device="cpu", units="record")
    with torch.no_grad():
        logs = [
            student.table(torch.tensor(one)).double().sum(0).log_softmax(0)[0] for one in prefixes
        ]
    terms = [max(0.0, -math.expm1(float(log) + 1)) for log in logs]
    assert found.total_variation.value == pytest.approx(np.mean(terms), abs=1e-6)
    # Two passes of the probe, then the texts that begin no other: (1, 2) is read off a longer one.
    assert sum(rows for rows, _ in student.passes[2:]) == 4
    assert "acceptance rate as a draft" in str(found)


@pytest.mark.parametrize(("causal", "last"), [(False, False), (True, True), (False, True)])
def test_networks_that_look_ahead_or_say_one_row_are_run_on_every_input(causal, last):
    student = Reader(causal=causal, last=last)
    inputs = [(1, 2, 3, 4), (1, 2, 3), (1, 2), (4,)]
    found = certify(student, [TeacherRecord(one, 2, -2.0) for one in inputs], device="cpu")
    terms = []
    for one in inputs:
        with torch.no_grad():
            said = student(torch.tensor([one]))
        row = (said if last else said[:, -1])[0].double().softmax(0)
        terms.append(max(0.0, 1 - float(row[2]) / math.exp(-2)))
    assert found.total_variation.value == pytest.approx(np.mean(terms), abs=1e-6)


def test_a_transformers_model_in_batches_and_alone():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20,
        n_positions=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    student = transformers.GPT2LMHeadModel(config).eval()
    generator = np.random.default_rng(0)
    texts = [tuple(generator.integers(0, 20, n).tolist()) for n in (3, 7, 7, 12, 1)]
    records = [
        TeacherRecord(text[:place], text[place], -2.0, sequence=number, position=place - 1)
        for number, text in enumerate(texts)
        for place in range(1, len(text))
    ]
    wrong = [
        TeacherRecord((1, 25), 0, -1.0),
        TeacherRecord((1,) * 13, 0, -1.0),
        TeacherRecord((), 0, -1.0),
    ]
    found = certify(student, [*records, *wrong], device="cpu")
    terms = []
    for record in records:
        with torch.no_grad():
            row = student(torch.tensor([record.input])).logits[0, -1].double().log_softmax(0)
        terms.append(max(0.0, -math.expm1(float(row[record.label]) + 2)))
    assert found.total_variation.value == pytest.approx(np.mean(terms), abs=1e-5)
    assert (found.unit, found.units, found.records) == ("sequence", 4, len(records))
    assert "response_kl" in found.estimates
    assert dict(found.left_out) == {
        "with a token id outside of the student's vocabulary": 1,
        "with more tokens than the student's context holds": 1,
        "with an empty list of tokens": 1,
    }


def test_rows_of_tokens_as_data():
    """A language model on padded rows of a data set: after the last real token."""
    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    data = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    student = Masked()
    found = certify(student, [TeacherRecord(s, 1, -1.5) for s in (0, 1)], data, device="cpu")
    with torch.no_grad():
        sums = [student.table(torch.tensor(one)).double().sum(0) for one in ([1, 2, 3], [4, 5])]
    terms = [max(0.0, 1 - float(one.softmax(0)[1]) / math.exp(-1.5)) for one in sums]
    assert found.total_variation.value == pytest.approx(np.mean(terms), abs=1e-6)


def test_strings_by_a_callable_and_by_a_tokenizer():
    law = {"cat": [0.9, 0.1], "dog": [0.2, 0.8]}
    records = [TeacherRecord(word, 0, math.log(0.5), count=10) for word in law]
    found = certify(lambda words: [law[word] for word in words], records)
    assert found.total_variation.value == pytest.approx((0 + 0.6) / 2)
    student = Reader()

    def tokenizer(texts):
        return {"input_ids": [[len(text), 1] for text in texts]}

    by_ids = certify(student, [TeacherRecord((3, 1), 0, -1.0)] * 3, device="cpu")
    by_text = certify(
        student, [TeacherRecord("cat", 0, -1.0)] * 3, device="cpu", tokenizer=tokenizer
    )
    assert by_text.total_variation.value == by_ids.total_variation.value
    with pytest.raises(ArgumentError, match="Give `tokenizer`, or a callable"):
        certify(student, records)


def test_scores_that_fit_no_token_are_refused():
    with pytest.raises(ModelError, match=r"scores \[rows, tokens, labels\]"):
        certify(_Flat(), [TeacherRecord((1, 2), 0, -1.0)], device="cpu")


class _Flat(nn.Module):
    def forward(self, ids):
        return ids.flatten().float()
