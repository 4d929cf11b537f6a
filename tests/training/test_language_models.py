"""Language models in the real loop: what is learned, how tokens are weighed, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.processes import command as on_rank, spread
from helpers.small import same
from helpers.tokens import QUICK, VOCABULARY, Tiny, batch_of, knowing, pattern, sets
from safetensors.torch import load_file
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, LimbeckError
from limbeck.language_model import LanguageModel
from limbeck.training.evaluate import evaluate
from limbeck.training.preflight import PreflightError
from limbeck.types import Answers, Outputs
from limbeck.vocabulary import Vocabulary


TOKENS = {"task": "language_model", **QUICK}


@pytest.mark.parametrize("loss", ["token_kd", "token_top_k", "token_sampled"])
def test_a_student_comes_near_its_teacher(loss):
    train, validation, _ = sets()
    teacher, student = knowing(), Tiny(8, seed=2)
    before = evaluate(student, validation, "language_model")
    result = lb.distill(
        student,
        teacher,
        train,
        loss=loss,
        validation=validation,
        test=validation,
        **TOKENS | {"epochs": 30, "optimizer": "adamw", "learning_rate": 0.02},
    )
    record = result.record
    found = record.results["best"]["validation"]
    assert found["cross_entropy"] < 0.7 * before["cross_entropy"]
    theirs = evaluate(teacher, validation, "language_model")
    assert record.teacher["test"] == theirs
    assert set(theirs) == {"cross_entropy", "perplexity", "accuracy"}
    curve = record.curves["loss distillation"]
    assert curve[-1] < curve[0]
    assert record.data["labelled"] == int((train[1] >= 0).sum())


def test_without_targets_every_token_is_one_and_answers_of_a_store_are_learned_from():
    ids, teacher = pattern(24, 8), knowing()

    def stored(batch):
        with torch.no_grad():
            top = teacher(batch.inputs["input_ids"]).log_softmax(2).topk(4)
        return Outputs(None, answers=Answers(top.indices, top.values))

    both = [
        lb.distill(
            Tiny(), guide, {"input_ids": ids}, loss={"name": "token_top_k", "k": 4}, **TOKENS
        )
        for guide in (teacher, stored)
    ]
    assert same(both[0].student, both[1].student)
    record = lb.distill(Tiny(), None, {"input_ids": ids}, **TOKENS).record
    assert record.curves["loss task"][0] > 1.0
    with pytest.raises(ArgumentError, match=r"TokenKD: expected the teacher's logits.*token_top_k"):
        lb.distill(Tiny(), stored, {"input_ids": ids}, loss="token_kd", **TOKENS)


def test_features_of_tokens_work_too():
    train, _, _ = sets()
    layers = {"student": "words", "teacher": "words"}
    record = lb.distill(Tiny(), knowing(), train, loss="itrd", layers=layers, **TOKENS).record
    assert record.status == "finished"


@pytest.mark.parametrize("loss", ["token_kd", {"name": "token_kd", "positions": "all"}, None])
def test_accumulated_gradients_are_those_of_the_whole_batch(loss):
    """Rows have 1 to 8 labelled tokens; a mean of micro-batches' means would be another one."""
    train, _, _ = sets()
    students = []
    for pieces in (1, 3, 8):
        result = lb.distill(
            Tiny(seed=1).double(),
            None if loss is None else knowing().double(),
            train,
            loss=loss or "kd",
            weight=None if loss is None else 0.6,
            accumulate=pieces,
            **TOKENS,
        )
        students.append(result)
    one = students[0]
    for other in students[1:]:
        for name, weight in one.student.state_dict().items():
            torch.testing.assert_close(
                other.student.state_dict()[name], weight, rtol=1e-6, atol=1e-7
            )
        for name, curve in one.record.curves.items():
            assert other.record.curves[name] == pytest.approx(curve, rel=1e-6), name


def test_rows_are_what_other_tasks_count():
    """A feature loss beside the task keeps its mean over rows under micro-batches."""
    train, _, _ = sets()
    layers = {"student": "words", "teacher": "words"}
    loss = {"name": "fitnet"}
    found = [
        lb.distill(
            Tiny(seed=1).double(), Tiny(seed=3).double(), train, loss=loss, layers=layers,
            weight=0.5, accumulate=pieces, **TOKENS | {"force": True},
        ).record.curves["loss distillation"]
        for pieces in (1, 4)
    ]  # fmt: skip
    assert found[1] == pytest.approx(found[0], rel=1e-5)


RECIPE = """\
task: language_model
data: {module: "helpers.tokens:sets"}
teacher: {model: "helpers.tokens:double_teacher"}
student: {model: "helpers.tokens:double_student"}
loss: {name: token_sampled, draws: 2}
weight: 0.5
training: {epochs: 2, batch_size: 7, schedule: constant, progress: false, accumulate: 2}
"""


def test_two_processes_give_the_student_of_one(tmp_path):
    records, weights = [], []
    for count in (1, 2):
        out = tmp_path / str(count)
        out.mkdir()
        (out / "recipe.yaml").write_text(RECIPE)
        command = ["distill", str(out / "recipe.yaml"), "--out", str(out / "run")]
        command += ["--device", "cpu"]
        spread(on_rank, count, str(out / "meeting"), command, count=count)
        records.append(json.loads((out / "run" / "record.json").read_text()))
        weights.append(load_file(out / "run" / "student" / "model.safetensors"))
    assert records[1]["hardware"]["processes"] == 2
    for name, curve in records[0]["curves"].items():
        assert records[1]["curves"][name] == pytest.approx(curve, rel=1e-6), name
    for moment, found in records[0]["results"].items():
        for rows, metrics in found.items():
            assert records[1]["results"][moment][rows] == pytest.approx(metrics, rel=1e-6)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-6, atol=1e-7)


def test_evaluation_in_parts_is_that_of_the_whole(monkeypatch):
    train, _, _ = sets()
    model = Tiny()
    task = LanguageModel(token_bytes=range(VOCABULARY))
    with torch.no_grad():
        whole = Outputs(model(**train[0]))
    expected = task.metrics(whole, batch_of(train[0]["input_ids"], train[1], **_rest(train[0])))
    model.train()
    for most in (1, 3 * 9 * VOCABULARY, 2**25):
        monkeypatch.setattr("limbeck.training.summing.LOGITS", most)
        assert evaluate(model, train, task) == pytest.approx(expected)
    assert model.training
    assert set(expected) == {"cross_entropy", "perplexity", "accuracy", "bits_per_byte"}
    nothing = (train[0], torch.full_like(train[1], -1))
    assert evaluate(model, nothing, task) == {}


def _rest(inputs):
    return {key: value for key, value in inputs.items() if key != "input_ids"}


def padded() -> nn.Module:
    """Return the teacher that knows with an output layer of five more tokens."""
    teacher, wide = knowing(), Tiny(VOCABULARY, vocabulary=VOCABULARY + 5)
    with torch.no_grad():
        wide.words.weight[:VOCABULARY] = teacher.words.weight
        wide.head.weight[:VOCABULARY] = teacher.head.weight
        wide.head.bias[:VOCABULARY] = teacher.head.bias
        wide.head.bias[VOCABULARY:] = -9.0
    return wide


def test_another_vocabulary_is_refused_with_what_to_do():
    train, _, _ = sets()
    other = padded()
    with pytest.raises(PreflightError, match=r"vocabulary of 11 tokens; got 16.*sequence-level"):
        lb.distill(Tiny(), other, train, loss="token_kd", **TOKENS)
    loss = {"name": "token_kd", "vocabulary": VOCABULARY}
    assert lb.distill(Tiny(), other, train, loss=loss, **TOKENS).record.status == "finished"
    loss["vocabulary"] = VOCABULARY + 2  # more than the student has
    with pytest.raises(PreflightError, match="vocabulary of 11 tokens; got 16"):
        lb.distill(Tiny(), other, train, loss=loss, **TOKENS)
    # Losses on features compare no ids.
    layers = {"student": "words", "teacher": "words"}
    found = lb.distill(Tiny(), other, train, loss="itrd", layers=layers, **TOKENS)
    assert found.record.status == "finished"


def test_another_tokenizer_is_refused_where_it_is_known():
    train, _, _ = sets()
    student, teacher = Tiny(), knowing()
    student.limbeck_vocabulary = Vocabulary.of("characters", "abcdefghijk")
    teacher.limbeck_vocabulary = Vocabulary.of("characters", "kjihgfedcba")
    with pytest.raises(PreflightError, match=r"an id stands for another token.*sequence-level"):
        lb.distill(student, teacher, train, loss="token_kd", **TOKENS)
    teacher.limbeck_vocabulary = Vocabulary.of("characters", "abcdefghijk")
    assert lb.distill(student, teacher, train, loss="token_kd", **TOKENS).folder is None


class Sequence(nn.Module):
    """A classifier of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, VOCABULARY)

    def forward(self, input_ids, position_ids=None):
        return self.head(self.words(input_ids).mean(1))


def test_encoders_and_classifiers_are_refused():
    train, _, _ = sets()
    for looks, who in ((Tiny(looks="ahead"), "student"), (Tiny(), "teacher")):
        teacher = Tiny(looks="ahead") if who == "teacher" else knowing()
        with pytest.raises(PreflightError, match=f"{who}: expected a causal language model; in Ti"):
            lb.distill(looks, teacher, train, loss="token_kd", **TOKENS)
    with pytest.raises(LimbeckError, match="a classifier or an encoder gives one row a text"):
        lb.distill(Tiny(), Sequence(), train, loss="token_kd", **TOKENS)
    with pytest.raises(LimbeckError, match="classifier or an encoder"):
        lb.distill(Sequence(), None, train, **TOKENS)


def test_attention_across_borders_is_told():
    train, _, _ = sets()
    told = lb.distill(Tiny(looks="across"), None, train, **TOKENS).record.warnings
    assert any("attention of Tiny crosses the borders of packed documents" in w for w in told)
    assert lb.distill(Tiny(), None, train, **TOKENS).record.warnings == []
    plain = {"input_ids": train[0]["input_ids"]}  # nothing is packed
    assert lb.distill(Tiny(looks="across"), None, plain, **TOKENS).record.warnings == []


def test_a_teacher_worse_than_guessing_is_refused():
    train, _, _ = sets()
    teacher = knowing()
    with torch.no_grad():
        teacher.head.weight.neg_()
    with pytest.raises(PreflightError, match=r"nats a token.*where guessing evenly gives 2\.398"):
        lb.distill(Tiny(), teacher, train, loss="token_kd", **TOKENS)


def test_tokens_beyond_the_vocabulary_and_the_context():
    ids = pattern(8, 6)
    with pytest.raises(DataError, match=r"student: expected token ids below 5.*got"):
        lb.distill(Tiny(vocabulary=5), None, {"input_ids": ids}, **TOKENS)
    with pytest.raises(DataError, match=r"data: expected token ids from 0; got -100\. .*pad"):
        lb.distill(Tiny(), None, {"input_ids": ids.where(ids > ids.min(), -100)}, **TOKENS)
    short = Tiny()
    short.config = type("Config", (), {"max_position_embeddings": 4})()
    with pytest.raises(DataError, match=r"teacher: expected at most 4 tokens a row.*got 6"):
        lb.distill(Tiny(), short, {"input_ids": ids}, loss="token_kd", **TOKENS)


def test_losses_and_tasks_that_do_not_fit():
    train, _, _ = sets()
    with pytest.raises(ArgumentError, match=r"the task is language_model.*fit: .*token_kd"):
        lb.distill(Tiny(), knowing(), train, loss="kd", **TOKENS)
    with pytest.raises(ArgumentError, match="TokenKD is for language_model"):
        lb.distill(Tiny(), knowing(), train, loss="token_kd", **QUICK)
    with pytest.raises(ArgumentError, match="mean over samples for weight='auto'; TokenKD"):
        lb.distill(Tiny(), knowing(), train, loss="token_kd", weight="auto", **TOKENS)
