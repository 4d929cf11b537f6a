"""Outputs to columns and back: exactly, or rounded as torch rounds."""

import math

import pytest
import torch
from store.small_store import CLASSES, said

from limbeck.checks import ArgumentError, StoreError
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.losses.top_k import top_k_loss
from limbeck.store import Keep, decode, encode, stacked
from limbeck.types import Batch, Outputs


INDEX = torch.arange(40)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


def teacher(rows=40, classes=CLASSES, seed=0):
    logits = 3 * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))
    return Outputs(logits, {"layer": torch.randn(rows, 3, 2)})


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_come_back_as_torch_rounds_them(dtype):
    outputs = teacher()
    hard = torch.tensor(
        [0.0, -0.0, 1e-45, -3e38 if dtype != "fp16" else -6e4, 1 / 3, 65503.0, 2049]
    )
    outputs.logits[0] = hard
    keep = Keep.of("logits+features", dtype=dtype)
    columns = encode(outputs, INDEX, 0, keep)
    assert columns.keys() == {"logits", "features.layer"}
    assert all(values.dtype == DTYPES[dtype] for values in columns.values())
    back = decode(columns, keep)
    for found, given in (
        (back.logits, outputs.logits),
        (back.features["layer"], outputs.features["layer"]),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(bits(found), bits(given.to(DTYPES[dtype]).to(torch.float32)))
    assert back.answers is None


def test_float64_stays_at_fp32():
    logits = torch.randn(40, 4, dtype=torch.float64)
    columns = encode(Outputs(logits), INDEX, 0, Keep())
    assert torch.equal(decode(columns, Keep()).logits, logits)
    narrow = encode(Outputs(logits), INDEX, 0, Keep(dtype="bf16"))["logits"]
    assert torch.equal(narrow, logits.to(torch.bfloat16))


def test_half_precision_teachers_lose_nothing():
    logits = torch.randn(40, 4).to(torch.bfloat16)
    assert torch.equal(
        decode(encode(Outputs(logits), INDEX, 0, Keep()), Keep()).logits, logits.float()
    )


def test_stacked_batches_are_one():
    whole = encode(said(INDEX, 1), INDEX, 1, Keep.of("sampled_counts+features", draws=5))
    parts = [
        encode(
            said(part, 1), part, torch.ones_like(part), Keep.of("sampled_counts+features", draws=5)
        )
        for part in INDEX.split(7)
    ]
    together = stacked(parts)
    assert whole.keys() == together.keys()
    assert all(torch.equal(whole[name], together[name]) for name in whole)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_top_k_with_its_tail(temperature):
    outputs = teacher(seed=3)
    keep = Keep.of("top_k", k=3, temperature=temperature)
    columns = encode(outputs, INDEX, 0, keep)
    probabilities = (outputs.logits.double() / temperature).softmax(1)
    for row in range(40):
        order = sorted(range(CLASSES), key=lambda label: -float(probabilities[row, label]))
        assert columns["labels"][row].tolist() == order[:3]
        expected = [math.log(probabilities[row, label]) for label in order[:3]]
        assert columns["log_probabilities"][row].tolist() == pytest.approx(
            expected, rel=1e-5, abs=1e-6
        )
        rest = math.log(sum(float(probabilities[row, label]) for label in order[3:]))
        assert float(columns["tail"][row]) == pytest.approx(rest, rel=1e-5)
    answers = decode(columns, keep).answers
    assert answers.labels.dtype == torch.int64
    assert answers.counts is None
    live = (outputs.logits / temperature).log_softmax(1)
    top = live.topk(3, dim=1)
    student = torch.randn(40, CLASSES)
    assert torch.equal(
        top_k_loss(student, answers.labels, answers.log_probabilities),
        top_k_loss(student, top.indices, top.values),
    )


def test_a_tail_far_below_rounding():
    logits = torch.tensor([[0.0, -50.0, -60.0]])
    tail = encode(Outputs(logits), INDEX[:1], 0, Keep.of("top_k", k=1))["tail"]
    assert float(tail) == pytest.approx(-50 + math.log1p(math.exp(-10)), rel=1e-6)


def test_classes_that_cannot_be():
    logits = torch.tensor([[0.0, -math.inf, 0.0, -math.inf]])
    columns = encode(Outputs(logits), INDEX[:1], 0, Keep.of("top_k", k=3, dtype="fp16"))
    assert sorted(columns["labels"][0].tolist()) == [-1, 0, 2]
    assert columns["log_probabilities"][0].tolist() == pytest.approx(
        [-0.6931, -0.6931, 0], abs=1e-3
    )
    assert float(columns["tail"]) == -math.inf
    kept = decode(encode(Outputs(logits), INDEX[:1], 0, Keep(dtype="fp16")), Keep(dtype="fp16"))
    assert torch.equal(kept.logits, logits)


def test_greedy_labels_are_the_most_likely():
    outputs = teacher()
    keep = Keep.of("hard_labels", greedy=True)
    answers = decode(encode(outputs, INDEX, 0, keep), keep).answers
    assert torch.equal(answers.labels[:, 0], outputs.logits.argmax(1))
    assert answers.counts is None
    assert answers.log_probabilities is None


@pytest.mark.parametrize("view", [0, 3])
@pytest.mark.parametrize("draws", [1, 6])
def test_drawn_labels_are_those_of_a_live_teacher(draws, view):
    outputs = teacher(seed=2)
    views = torch.full_like(INDEX, view)
    batch = Batch(torch.zeros(40, 1), None, INDEX + 90, views)
    live, log_t = TeacherDraws("test", draws=draws, seed=11, redraw=True)(outputs.logits, batch)
    if draws == 1:
        keep = Keep.of("sampled_probability", seed=11)
        answers = decode(encode(outputs, INDEX + 90, views, keep), keep).answers
        assert torch.equal(answers.labels, live)
        assert torch.equal(answers.log_probabilities, log_t)
        assert torch.equal(answers.counts, torch.ones_like(live))
        text = Keep.of("hard_labels", seed=11)
        alone = decode(encode(outputs, INDEX + 90, view, text), text).answers
        assert torch.equal(alone.labels, live)
        assert torch.equal(alone.counts, torch.ones_like(live))
        assert alone.log_probabilities is None
        return
    keep = Keep.of("sampled_counts", draws=draws, seed=11)
    answers = decode(encode(outputs, INDEX + 90, views, keep), keep).answers
    labels, counts = torch.full_like(live, -1), torch.zeros_like(live)
    for row in range(40):
        for place, label in enumerate(sorted(set(live[row].tolist()))):
            labels[row, place] = label
            counts[row, place] = live[row].tolist().count(label)
    assert torch.equal(answers.labels, labels)
    assert torch.equal(answers.counts, counts)
    all_of_them = outputs.logits.log_softmax(1)
    expected = all_of_them.gather(1, labels.clamp_min(0)).masked_fill(labels < 0, 0.0)
    assert torch.equal(answers.log_probabilities, expected)


def test_tokens_are_rows_of_their_own():
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    keep = Keep.of("sampled_counts", draws=400)
    columns = encode(Outputs(logits), INDEX[:3], 0, keep)
    assert columns["labels"].shape == (3, 4, 5)
    assert columns["counts"].sum(-1).eq(400).all()
    labels = columns["labels"].long()
    seen = torch.zeros(3, 4, 5).scatter_add(2, labels.clamp_min(0), columns["counts"].float())
    spread = (logits.softmax(-1) * (1 - logits.softmax(-1)) * 400).sqrt()
    assert ((seen - 400 * logits.softmax(-1)).abs() < 5 * spread + 1).all()
    assert len({tuple(row) for row in seen.reshape(12, 5).tolist()}) == 12
    top = encode(Outputs(logits), INDEX[:3], 0, Keep.of("top_k", k=2))
    assert torch.equal(top["labels"].long(), logits.topk(2).indices)
    assert top["tail"].shape == (3, 4)


def test_blocks_change_nothing(monkeypatch):
    keep = Keep.of("sampled_counts", draws=9, seed=1)
    whole = encode(teacher(), INDEX, 2, keep)
    monkeypatch.setattr("limbeck.store.encoding.BLOCK", 3 * CLASSES)
    blocks = encode(teacher(), INDEX, 2, keep)
    assert all(torch.equal(whole[name], blocks[name]) for name in whole)


@pytest.mark.parametrize("what", ["logits", "features.layer"])
def test_too_large_for_half_precision(what):
    outputs = teacher()
    place = outputs.logits if what == "logits" else outputs.features["layer"]
    place.view(-1)[5] = -7e4
    with pytest.raises(
        StoreError, match=f"{what} that fp16 can hold; got 7e.04 in 1 .* bf16 or fp32"
    ):
        encode(outputs, INDEX, 0, Keep.of("logits+features", dtype="fp16"))
    encode(outputs, INDEX, 0, Keep.of("logits+features", dtype="bf16"))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_none(number):
    outputs = teacher()
    outputs.logits[3, 2] = number
    with pytest.raises(
        StoreError, match="finite logits; got NaN or infinity in 1 places, first for sample 13"
    ):
        encode(outputs, INDEX + 10, 0, Keep())
    outputs = teacher()
    outputs.features["layer"][4] = -math.inf
    with pytest.raises(
        StoreError, match=r"finite features\.layer; .* in 6 places, first for sample 4\."
    ):
        encode(outputs, INDEX, 0, Keep.of("features"))


def test_outputs_that_lack_what_is_kept():
    with pytest.raises(StoreError, match="expected logits of the teacher, to keep top_k; got none"):
        encode(Outputs(None, {"layer": torch.zeros(40, 2)}), INDEX, 0, Keep.of("top_k"))
    with pytest.raises(StoreError, match="expected features of the teacher; got none"):
        encode(Outputs(torch.zeros(40, 2)), INDEX, 0, Keep.of("logits+features"))
    with pytest.raises(StoreError, match="expected 40 rows of logits; got 39"):
        encode(Outputs(torch.zeros(39, 2)), INDEX, 0, Keep())
    with pytest.raises(ArgumentError, match="`k` of at most 7"):
        encode(teacher(), INDEX, 0, Keep.of("top_k", k=8))


def test_part_of_the_columns():
    keep = Keep.of("logits+features")
    columns = encode(teacher(), INDEX, 0, keep)
    assert decode({"features.layer": columns["features.layer"]}, keep).logits is None
    assert decode({"logits": columns["logits"]}, keep).features == {}


def test_a_row_in_which_no_class_can_be():
    """Its softmax is NaN, which no kind may hand on."""
    outputs = teacher()
    outputs.logits[7] = -math.inf
    for keep in ("logits", "top_k", "sampled_counts"):
        settings = {"k": 2} if keep == "top_k" else {}
        with pytest.raises(StoreError, match=r"finite logits; .* first for sample 7"):
            encode(outputs, INDEX, 0, Keep.of(keep, **settings))


def test_batches_of_several_lengths_are_named():
    with pytest.raises(StoreError, match=r"logits of one shape .* got \[5, 3\] and \[6, 3\]"):
        stacked([{"logits": torch.zeros(2, 5, 3)}, {"logits": torch.zeros(2, 6, 3)}])
