"""Causal language models of transformers: by name, saved, loaded, packed, from the command line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from helpers.small import same
from helpers.tokens import QUICK, batch_of, ids_of, pattern

import limbeck as lb
from limbeck.checks import ArgumentError, ModelError
from limbeck.cli.material import Material
from limbeck.cli.texts import defaults_of
from limbeck.data import Data
from limbeck.losses import TokenKD
from limbeck.training.building import build, is_trusted, rebuild
from limbeck.training.preflight import PreflightError
from limbeck.training.token_preflight import vocabulary_of
from limbeck.types import Outputs
from limbeck.zoo.tokens import load_tokens


transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own

SMALL = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 11}
LLAMA = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "vocab_size": 11,
}
TOKENS = {"task": "language_model", **QUICK}


@pytest.mark.parametrize(("kind", "sizes"), [("gpt2", SMALL), ("llama", LLAMA)])
def test_a_new_model_is_trained_saved_and_loaded_without_its_folder(tmp_path, kind, sizes):
    student = build(f"hf-config:{kind}", seed=3, **sizes)
    assert same(student, build(f"hf-config:{kind}", seed=3, **sizes))
    assert not same(student, build(f"hf-config:{kind}", seed=4, **sizes))
    teacher = build(f"hf-config:{kind}", **sizes)
    lb.distill(teacher, None, {"input_ids": pattern(32, 12)}, **TOKENS | {"epochs": 8})
    result = lb.distill(
        student, teacher, {"input_ids": pattern(32, 12)}, loss="token_kd", out=tmp_path / "run",
        **TOKENS | {"epochs": 8},
    )  # fmt: skip
    curve = result.record.curves["loss distillation"]
    assert curve[-1] < curve[0]
    loaded = lb.load(tmp_path / "run")
    assert same(loaded, result.student)
    assert loaded.config.use_cache is False
    ids = ids_of(2, 9)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, result.student(ids).logits)


def test_a_folder_of_transformers_is_read_and_its_students_need_it_no_more(tmp_path):
    original = build("hf-config:gpt2", **SMALL)
    original.save_pretrained(tmp_path / "gpt2")
    model = build(f"hf:{tmp_path / 'gpt2'}")
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert same(model, original)
    smaller = build(f"hf-config:{tmp_path / 'gpt2'}", n_layer=1, n_embd=4)
    assert smaller.config.vocab_size == 11
    folder = lb.distill(
        smaller, model, {"input_ids": pattern(16, 12)}, loss="token_kd", out=tmp_path / "run",
        **TOKENS | {"force": True},
    ).folder  # fmt: skip
    (tmp_path / "gpt2").rename(tmp_path / "gone")
    assert lb.load(folder).config.n_embd == 4
    source = model.limbeck_source
    assert str(tmp_path) not in json.dumps(source)
    own = model.config.to_diff_dict()
    same_settings = rebuild(source).config.to_diff_dict()
    assert same_settings == {k: v for k, v in own.items() if k not in ("architectures", "dtype")}
    assert is_trusted(source["builder"], source["kwargs"])


def test_heads_by_folder_and_by_wish(tmp_path):
    build("hf-config:gpt2", **SMALL).save_pretrained(tmp_path)
    name = f"hf:{tmp_path}"
    classifier = build(name, head="classification", num_labels=3)
    assert type(classifier).__name__ == type(build(name, num_labels=3)).__name__
    assert type(classifier).__name__ == "GPT2ForSequenceClassification"
    assert type(build(name, head="causal")).__name__ == "GPT2LMHeadModel"
    with pytest.raises(ArgumentError, match="causal, classification"):
        build(name, head="masked")


def test_a_new_classifier_by_number_of_labels_or_head(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "vocab_size": 11, "max_position_embeddings": 12}
    transformers.BertConfig(**sizes, num_labels=5).save_pretrained(tmp_path / "bert")
    name = f"hf-config:{tmp_path / 'bert'}"
    kind = "BertForSequenceClassification"
    asked = build(name, head="classification")
    assert (type(asked).__name__, asked.classifier.out_features) == (kind, 5)
    assert type(build(name, num_labels=3, head="causal")).__name__ == "BertLMHeadModel"
    student = build(name, num_labels=3, hidden_size=4)
    assert (type(student).__name__, student.classifier.out_features) == (kind, 3)
    with pytest.raises(ArgumentError, match="causal, classification"):
        build(name, head="masked")
    tokens = pattern(30, 6)
    folder = lb.distill(
        student, None, ({"input_ids": tokens}, tokens[:, 0] % 3), out=tmp_path / "run", **QUICK
    ).folder
    shutil.rmtree(tmp_path / "bert")  # a student of it needs it no more
    loaded = lb.load(folder)
    assert (type(loaded).__name__, loaded.config.hidden_size) == (kind, 4)
    assert same(loaded, student)


def test_a_new_classifier_takes_its_classes_from_the_data():
    rows = Data(({"input_ids": pattern(6, 4)}, torch.tensor([0, 1, 2, 0, 1, 2])))
    material = Material("rows", rows, None, None, classes=3)
    assert defaults_of("hf-config:bert", material) == {"num_labels": 3}
    assert defaults_of("hf:bert", material) == {}
    assert defaults_of("hf-config:bert", Material("rows", rows, None, None)) == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hf-config:gpt5", {}, "a model type of transformers.*got 'gpt5'"),
        ("hf-config:gpt2", {"n_layr": 1}, "a setting of GPT2Config; got `n_layr`.*n_layer"),
        ("hf-config:gpt2", {"n_embd": 9, "n_head": 2}, "could not be built"),
        ("hf-config:resnet", {}, "could not be built"),
    ],
)
def test_what_cannot_be_built_is_named(name, options, message):
    with pytest.raises(ModelError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("contents", "message"), [("{", r"it cannot be read \("), ("[3]", "an object; got list")]
)
def test_a_configuration_that_is_none_is_named(tmp_path, contents, message):
    (tmp_path / "config.json").write_text(contents)
    with pytest.raises(ModelError, match=rf"config\.json: expected the configuration.*{message}"):
        build(f"hf-config:{tmp_path}")


def test_settings_that_reach_out_are_not_trusted():
    assert not is_trusted("hf-config:gpt2", {"trust_remote_code": True})
    assert not is_trusted("hf-config:a:b")


@pytest.mark.parametrize(("kind", "sizes"), [("gpt2", SMALL), ("llama", LLAMA)])
def test_packed_documents_are_as_if_alone(kind, sizes):
    """Logits, loss and gradients of packed rows are those of the documents one by one."""
    student, teacher = (build(f"hf-config:{kind}", seed=i, **sizes).eval() for i in (0, 1))
    ids = ids_of(1, 9)
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    batch, loss = batch_of(ids, position_ids=places), TokenKD()
    with torch.no_grad():
        theirs = teacher(input_ids=ids, position_ids=places).logits
    packed = student(input_ids=ids, position_ids=places).logits
    value = loss(Outputs(packed), Outputs(theirs), batch)
    parts = []
    for piece in (ids[:, :4], ids[:, 4:]):
        mine = student(input_ids=piece).logits
        with torch.no_grad():
            said = teacher(input_ids=piece).logits
        count = piece.shape[1] - 1
        parts.append(count * loss(Outputs(mine), Outputs(said), batch_of(piece)))
    alone = sum(parts) / 7
    assert value.item() == pytest.approx(alone.item(), rel=1e-5)
    weights = [p for p in student.parameters() if p.requires_grad]
    for one, other in zip(
        torch.autograd.grad(value, weights), torch.autograd.grad(alone, weights), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_borders_and_encoders_of_transformers_are_seen():
    places = torch.arange(12).repeat(16, 1)
    places[:, 5:] -= 5
    rows = {"input_ids": pattern(16, 12), "position_ids": places}
    with_cache = build("hf-config:gpt2", **SMALL)
    assert lb.distill(with_cache, None, rows, **TOKENS).record.warnings == []
    with_cache.config.use_cache = True
    told = lb.distill(with_cache, None, rows, **TOKENS).record.warnings
    assert any("GPT2LMHeadModel crosses the borders of packed documents" in one for one in told)
    bert = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    encoder = build("hf-config:bert", **bert)
    with pytest.raises(PreflightError, match=r"student: expected a causal.*BertLMHeadModel later"):
        lb.distill(encoder, None, {"input_ids": pattern(16, 12)}, **TOKENS)


def tokenizer(folder, words):
    """Save a byte-level tokenizer without merges, but for these words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<eos>", *letters, *words]
    merges = [(word[: i + 1], word[i + 1]) for word in words for i in range(len(word) - 1)]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>")
    fast.save_pretrained(folder)
    return folder


def test_a_tokenizer_of_transformers(tmp_path):
    folder = tokenizer(tmp_path / "bpe", ["th", "the"])
    (tmp_path / "t.jsonl").write_text('{"text": "the thé"}\n{"text": "other"}')
    found = load_tokens(
        tmp_path / "t.jsonl", f"hf:{folder}", tokens=32, validation=0.0, test=0.0, packing=False
    )
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    rows = found.train.source.inputs
    kept = [row[mask.bool()].tolist() for row, mask in zip(*rows.values(), strict=True)]
    expected = [[*fast(text)["input_ids"], 0] for text in ("the thé", "other")]
    assert kept == expected
    sizes = [sum(found.token_bytes[token] for token in row) for row in kept]
    assert sizes == [8, 5]  # é takes two; the end none
    assert found.vocabulary.size == 259
    other = tokenizer(tmp_path / "other", ["th", "tho"])
    again = load_tokens(tmp_path / "t.jsonl", f"hf:{other}", validation=0.0, test=0.0)
    assert again.vocabulary.differs_from(found.vocabulary)
    model = build("hf-config:gpt2", **SMALL | {"vocab_size": 259})
    assert vocabulary_of(model) is None
    model.save_pretrained(folder)
    assert vocabulary_of(build(f"hf:{folder}")) == found.vocabulary


def test_bytes_are_not_claimed_where_they_are_not_known(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb")
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    (tmp_path / "t.txt").write_text("a b b a " * 9)
    found = load_tokens(tmp_path / "t.txt", f"hf:{tmp_path / 'bert'}", tokens=8)
    assert found.token_bytes is None
