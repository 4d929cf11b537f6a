"""The task of a language model against loops, F.cross_entropy and the loss of transformers."""

import math

import pytest
import torch
from helpers.tokens import VOCABULARY, Tiny, batch_of, ids_of
from torch.nn import functional as F

import limbeck as lb
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.language_model import LanguageModel
from limbeck.tasks import selection_of, task_of
from limbeck.types import Batch, Outputs


IDS = ids_of(3, 7)
MASK = torch.ones_like(IDS)
MASK[0, 5:] = MASK[2, 2:] = 0
TARGETS = IDS.masked_fill(ids_of(3, 7, seed=5) < 2, -100)
Z = torch.randn(3, 7, VOCABULARY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pairs(batch):
    """Yield row, position and token of every prediction that counts, by a loop."""
    ids, mask = batch.inputs["input_ids"], batch.inputs.get("attention_mask")
    targets = ids if batch.targets is None else batch.targets
    for b in range(len(ids)):
        for t in range(ids.shape[1] - 1):
            if (mask is None or (mask[b, t] and mask[b, t + 1])) and targets[b, t + 1] >= 0:
                yield b, t, int(targets[b, t + 1])


def mean_by_hand(z, batch, weights=None):
    weights = torch.ones(len(z)) if weights is None else weights
    each = [(-z[b, t].log_softmax(0)[y], weights[b]) for b, t, y in pairs(batch)]
    return float(sum(v * w for v, w in each) / sum(w for _, w in each))


@pytest.mark.parametrize("targets", [None, TARGETS])
@pytest.mark.parametrize("mask", [None, MASK])
def test_loss_and_metrics_by_a_loop(targets, mask):
    batch = batch_of(IDS, targets, **({} if mask is None else {"attention_mask": mask}))
    task = LanguageModel()
    expected = mean_by_hand(Z, batch)
    assert task.loss(Outputs(Z), batch).item() == pytest.approx(expected, rel=1e-12)
    found = task.metrics(Outputs(Z), batch)
    right = [int(Z[b, t].argmax()) == y for b, t, y in pairs(batch)]
    assert found == pytest.approx(
        {
            "cross_entropy": expected,
            "perplexity": math.exp(expected),
            "accuracy": sum(right) / len(right),
        }
    )
    assert task.counted(batch).item() == len(right)


def test_row_weights_and_smoothing():
    weights = torch.tensor([0.5, 2.0, 0.0])
    batch = Batch({"input_ids": IDS}, None, *[torch.arange(3)] * 2, weights)
    found = LanguageModel().loss(Outputs(Z), batch).item()
    assert found == pytest.approx(mean_by_hand(Z, batch, weights), rel=1e-7)
    assert LanguageModel().counted(batch).item() == 6 * 2.5
    plain = batch_of(IDS)
    smooth = LanguageModel(label_smoothing=0.2).loss(Outputs(Z), plain).item()
    rows, labels = Z[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()
    assert smooth == pytest.approx(F.cross_entropy(rows, labels, label_smoothing=0.2).item())


def test_nothing_labelled_gives_zero_and_no_metrics():
    z = Z.clone().requires_grad_()
    batch = batch_of(IDS, torch.full_like(IDS, -1))
    value = LanguageModel().loss(Outputs(z), batch)
    assert value.item() == 0.0
    assert (torch.autograd.grad(value, z)[0] == 0).all()
    assert LanguageModel().metrics(Outputs(Z), batch) == {}


def test_what_stands_at_padding_is_never_looked_at():
    spoilt = Z.masked_fill(MASK[:, :, None] == 0, math.nan).requires_grad_()
    batch = batch_of(IDS, attention_mask=MASK)
    value = LanguageModel().loss(Outputs(spoilt), batch)
    assert value.item() == pytest.approx(mean_by_hand(Z, batch), rel=1e-12)
    (slope,) = torch.autograd.grad(value, spoilt)
    assert slope.isfinite().all()
    assert (slope[MASK == 0] == 0).all()
    assert LanguageModel().metrics(Outputs(spoilt.detach()), batch)["cross_entropy"] > 0


def test_bits_per_byte_is_the_text_s():
    """Three tokens of two bits each stand for four bytes, of which one has none."""
    table = [1, 3, 0, 9]
    ids = torch.tensor([[3, 1, 2, 0]])  # 3 bytes, the end, 1 byte; the first is given
    found = LanguageModel(token_bytes=table).metrics(Outputs(torch.zeros(1, 4, 4)), batch_of(ids))
    assert found["bits_per_byte"] == pytest.approx(3 * 2 / 4)
    assert found["perplexity"] == pytest.approx(4)
    assert "bits_per_byte" not in LanguageModel().metrics(
        Outputs(torch.zeros(1, 4, 4)), batch_of(ids)
    )


def test_sums_of_parts_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr("limbeck.language_model.BLOCK", 2 * VOCABULARY)
    task = LanguageModel(token_bytes=torch.arange(VOCABULARY))
    whole = task.metrics(Outputs(Z), batch_of(IDS, TARGETS, attention_mask=MASK))
    totals = {}
    for b in range(3):
        part = batch_of(IDS[[b]], TARGETS[[b]], attention_mask=MASK[[b]])
        for name, value in task.sums(Outputs(Z[[b]]), part).items():
            totals[name] = totals.get(name, 0) + value
    assert task.of_sums(totals) == pytest.approx(whole)


def test_a_perplexity_beyond_floats_is_finite():
    z = torch.zeros(1, 2, 3, dtype=torch.float64)
    z[0, 0, 0] = 5000.0
    found = LanguageModel().metrics(Outputs(z), batch_of(torch.tensor([[0, 1]])))
    assert found["cross_entropy"] == pytest.approx(5000)
    assert math.isfinite(found["perplexity"])


def test_it_is_the_loss_of_transformers():
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=8,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
    labels = TARGETS.masked_fill(MASK == 0, -100)
    with torch.no_grad():
        said = model(input_ids=IDS, attention_mask=MASK, labels=labels)
    found = LanguageModel().loss(Outputs(said.logits), batch_of(IDS, labels, attention_mask=MASK))
    assert found.item() == pytest.approx(said.loss.item(), rel=1e-6)


def test_by_name():
    assert isinstance(task_of("language_model"), LanguageModel)
    assert selection_of(task_of("language_model")) == ("cross_entropy", "min")
    with pytest.raises(ArgumentError, match="label_smoothing"):
        LanguageModel(label_smoothing=1.5)


@pytest.mark.parametrize(
    ("outputs", "ids", "error", "message"),
    [
        (Outputs(None), IDS, ArgumentError, "features alone"),
        (Outputs(torch.zeros(3, 4)), IDS, ShapeError, r"vocabulary\] for token ids \(3, 7\); got"),
        (Outputs(torch.zeros(3, 6, 4)), IDS, ShapeError, "classifier or an encoder"),
        (Outputs(torch.zeros(3, 7, 4)), IDS, DataError, "below 4, the model's vocabulary; got 10"),
    ],
)
def test_what_does_not_fit_is_refused(outputs, ids, error, message):
    with pytest.raises(error, match=message):
        LanguageModel().loss(outputs, batch_of(ids))


def test_data_takes_the_labels_of_transformers():
    data = lb.Data({"input_ids": IDS, "labels": TARGETS})
    assert torch.equal(data.targets, TARGETS.masked_fill(TARGETS == -100, -1))
    with pytest.raises(DataError, match="-100"):
        lb.Data((Z[:, 0], torch.tensor([-100, 0, 0])))  # one class a row: a mistake
    with pytest.raises(DataError, match="got -2"):
        lb.Data({"input_ids": IDS, "labels": TARGETS.masked_fill(TARGETS < 0, -2)})


def test_tiny_is_causal():
    model = Tiny()
    late = IDS.clone()
    late[:, 4:] = 0
    assert torch.equal(model(IDS)[:, :4], model(late)[:, :4])
