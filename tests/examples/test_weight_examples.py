"""The examples of the measured weight run, move the weight, and train on what they say."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch


FOLDER = Path(__file__).parents[2] / "examples"
NAMES = ("weight_plain_loop", "weight_hf_trainer", "weight_lightning")


def example(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def softmax(z):
    odds = np.exp(z - z.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_under_60_lines(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 60


@pytest.fixture(scope="module")
def plain():
    return example("weight_plain_loop")


def test_a_good_teacher_is_followed_and_an_ignorant_one_is_not(plain, capsys):
    student, meter, loss = plain["main"](steps=200)
    good = meter.weight.history()[-1]
    assert capsys.readouterr().out.startswith(f"weight {good['weight']:.3f}; step 199 measured")
    assert 1.0 < loss < np.log(10)  # of the labels a third says nothing
    assert good["weight"] > 0.6
    bad = plain["main"](steps=100, teacher_steps=0)[1].weight.history()[-1]
    assert bad["weight"] < 0.2
    assert bad["hbar2"] > 0.05 > 0.005 > good["hbar2"]
    assert all(p.isfinite().all() for p in student.parameters())


def test_the_first_step_of_the_plain_loop_by_hand(plain):
    student, meter, _ = plain["main"](steps=1, teacher_steps=0)
    assert float(meter.weight.weight) == 0.5  # a single measurement says nothing yet
    torch.manual_seed(0)
    x, y = plain["digits"]()
    teacher, before = plain["network"](32), plain["network"](16)
    (rows,) = torch.randint(len(x), (1, 32))
    a, b, c, d = (p.detach().numpy().astype(float) for p in before.parameters())
    inputs = x[rows].numpy().astype(float)
    hidden = np.maximum(inputs @ a.T + b, 0)
    p = softmax(hidden @ c.T + d)
    q = softmax(teacher(x[rows]).detach().numpy().astype(float))
    missed = (0.5 * (p - np.eye(10)[y[rows]]) + 0.5 * (p - q)) / 32
    inner = (missed @ c) * (hidden > 0)
    slopes = (inner.T @ inputs, inner.sum(0), missed.T @ hidden, missed.sum(0))
    for now, old, slope in zip(student.parameters(), (a, b, c, d), slopes, strict=True):
        np.testing.assert_allclose(now.detach().numpy(), old - 0.5 * slope, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own
def test_the_trainer_of_transformers(capsys, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs the extra `examples`")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    module = example("weight_hf_trainer")
    trainer = module["main"](steps=40, teacher_steps=10, disable_tqdm=True, logging_steps=10)
    rows = trainer.weight.history()
    assert f"weight {rows[-1]['weight']:.3f}; step 39 measured" in capsys.readouterr().out
    # Before Adam's first step there is no metric to measure in; the rate falls in a line to 0.
    assert [row["step"] for row in rows] == list(range(1, 40))
    rates = [row["learning_rate"] for row in rows]
    assert rates == pytest.approx([5e-3 * (1 - step / 40) for step in range(1, 40)], rel=1e-5)
    assert rows[0]["batch_size"] == 8
    assert max(row["weight"] for row in rows) > 0
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    tokens = torch.arange(12).view(3, 4)
    inputs = {"input_ids": tokens, "labels": torch.tensor([0, 1, 2])}
    trainer.model.eval()
    w = float(trainer.weight.weight)
    with torch.no_grad():
        loss, answer = trainer.compute_loss(trainer.model, dict(inputs), return_outputs=True)
        p = softmax(answer.logits.numpy().astype(float))
        q = softmax(trainer.teacher(input_ids=tokens).logits.numpy().astype(float))
    task = -np.log(p[np.arange(3), [0, 1, 2]]).mean()
    kl = (q * np.log(q / p)).sum(1).mean()
    assert loss.item() == pytest.approx((1 - w) * task + w * kl, rel=1e-5)


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, loggers and its own code
def test_a_lightning_module_and_its_checkpoint(capsys, tmp_path):
    pytest.importorskip("lightning", reason="needs the extra `examples`")
    module = example("weight_lightning")
    torch.manual_seed(1)
    ignorant = torch.nn.Linear(64, 10)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    first = module["main"](ignorant, steps=60, default_root_dir=tmp_path, **quiet)
    rows = first.weight.history()
    assert [row["step"] for row in rows] == list(range(0, 60, 2))
    assert rows[-1]["learning_rate"] == pytest.approx(0.6)  # 0.3 / (1 - 0.5)
    assert 0 <= rows[-1]["weight"] < 0.3  # it started at 0.5
    assert f"weight {rows[-1]['weight']:.3f}; step 58" in capsys.readouterr().out
    (path,) = tmp_path.rglob("*.ckpt")
    options = {"default_root_dir": tmp_path / "again", "enable_checkpointing": False, **quiet}
    second = module["main"](ignorant, steps=90, path=str(path), **options)
    history = second.weight.history()
    assert [row["step"] for row in history] == list(range(0, 90, 2))
    assert history[:30] == rows
