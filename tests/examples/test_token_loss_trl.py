"""The example with TRL's trainer runs, and its loss is that of plain loops."""

import logging
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import limbeck as lb


PATH = Path(__file__).parents[2] / "examples" / "token_loss_trl.py"


def test_it_has_under_60_lines():
    assert len(PATH.read_text().splitlines()) < 60


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("trl", reason="needs the extra `examples`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("trl")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        logging.getLogger("trl").setLevel(logging.ERROR)
        module = runpy.run_path(str(PATH))
        quiet = {"disable_tqdm": True, "logging_steps": 10, "gradient_accumulation_steps": 2}
        return *module["main"](steps=60, teacher_steps=40, **quiet), quiet


@pytest.mark.filterwarnings("ignore")  # of TRL and datasets
def test_the_student_learns_and_is_certified(run):
    trainer, answers, _ = run
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
    found = lb.certify(trainer.model, answers, device="cpu").total_variation
    new = lb.certify(type(trainer.model)(trainer.model.config), answers, device="cpu")
    assert found.upper < new.total_variation.lower
    assert lb.audit(answers).passed


@pytest.mark.filterwarnings("ignore")
def test_the_loss_by_loops_and_under_accumulation(run):
    trainer, _, _ = run
    model = trainer.model.eval()
    ids = torch.arange(24).view(3, 8) % 8 + 2
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[0, :4] = -100  # a prompt
    mask[1, 5:], labels[1, 5:] = 0, -100  # padding

    def inputs():
        return {"input_ids": ids, "attention_mask": mask, "labels": labels.clone()}

    with torch.no_grad():
        value = trainer.compute_loss(model, inputs()).item()
        part = trainer.compute_loss(model, inputs(), num_items_in_batch=torch.tensor(40)).item()
        said = [one(input_ids=ids, attention_mask=mask).logits.double().numpy()
                for one in (model, trainer.teacher)]  # fmt: skip
    p, q = (np.exp(z) / np.exp(z).sum(2, keepdims=True) for z in said)
    each = [
        (q[b, t] * np.log(q[b, t] / p[b, t])).sum()
        for b in range(3)
        for t in range(7)
        if labels[b, t + 1] >= 0
    ]
    assert len(each) == 4 + 4 + 7
    assert value == pytest.approx(np.mean(each), rel=1e-4)
    assert part == pytest.approx(np.sum(each) / 40, rel=1e-4)
