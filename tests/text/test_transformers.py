"""Models of transformers by the name ``hf:folder``, read from disk only."""

from __future__ import annotations

import pytest
import torch
from helpers.small import QUICK, same

import limbeck as lb
from limbeck.checks import ModelError
from limbeck.training.building import build


transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own


@pytest.fixture
def encoder(tmp_path):
    """Return a folder with a small random encoder for three classes."""
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        num_labels=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def words():
    """Return token ids and masks whose first token tells the class."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 30, (60, 6), generator=generator)
    mask = torch.ones_like(tokens)
    mask[::2, 4:] = 0
    return {"input_ids": tokens, "attention_mask": mask}, tokens[:, 0] % 3


def test_an_encoder_is_taught_saved_and_loaded(encoder, tmp_path):
    teacher, student = build(f"hf:{encoder}"), build(f"hf:{encoder}")
    assert same(teacher, student)
    lb.distill(
        teacher, None, words(), **QUICK | {"optimizer": "adamw", "learning_rate": 0.01, "epochs": 8}
    )
    result = lb.distill(
        student,
        teacher,
        words(),
        loss="itrd",
        layers={"student": "bert.encoder", "teacher": "bert.encoder"},
        out=tmp_path / "run",
        **QUICK | {"optimizer": "adamw", "learning_rate": 0.005},
    )
    assert (
        result.record.curves["loss distillation"][-1] < result.record.curves["loss distillation"][0]
    )
    assert same(lb.load(tmp_path / "run"), result.student)


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="could not be built"):
        build(f"hf:{tmp_path}")
