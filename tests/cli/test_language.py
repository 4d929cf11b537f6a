"""Language models from the shell: a text, a teacher, a student, what is said and refused."""

import json
import math

import pytest

from limbeck import load
from limbeck.record import RunRecord
from limbeck.training.evaluate import evaluate
from limbeck.zoo.data.reading import read_bytes
from limbeck.zoo.tokens import load_tokens


pytest.importorskip("transformers", reason="needs the extra `text`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own

SMALL = (
    "data.options.tokens=32",
    "student.n_positions=32",
    "student.n_head=2",
    "training.device=cpu",
    "training.progress=false",
    "training.learning_rate=0.01",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("language")


@pytest.fixture
def recipe(folder, limbeck, monkeypatch):
    """Return limbeck's own recipe, in a folder that has its text."""
    monkeypatch.chdir(folder)
    path = folder / "text.yaml"
    if not path.is_file():
        limbeck("init", path, "--recipe", "language")
    return path


@pytest.fixture
def text(folder, shared_data):
    """Write the first 40,000 characters of TinyShakespeare."""
    whole = read_bytes(shared_data / "text" / "tinyshakespeare.txt.xz").decode()
    (folder / "text.txt").write_text(whole[:40_000])
    return folder / "text.txt"


@pytest.fixture
def teacher(folder, recipe, text, limbeck):
    """Return the run of a teacher that the recipe's own first command makes."""
    run = folder / "runs" / "text-teacher"
    if not (run / "record.json").is_file():
        changes = ("teacher=null", f"out={run}", "student.n_embd=32", "training.epochs=3")
        limbeck("train", recipe, *SMALL, *changes)
    return run


def test_a_student_of_shakespeare(limbeck, recipe, teacher, text, folder):
    run = folder / "runs" / "text"
    small = (*SMALL, "student.n_embd=16", "student.n_layer=1", "training.epochs=2")
    said, _ = limbeck("distill", recipe, *small)
    record = RunRecord.open(run)
    assert (record.status, record.settings["task"]) == ("finished", "language_model")
    assert record.settings["loss"] == "TokenKD"
    found = record.results["last"]["test"]
    assert set(found) == {"cross_entropy", "perplexity", "accuracy", "bits_per_byte"}
    # Characters of one byte each: bits are nats over ln 2.
    assert found["bits_per_byte"] == pytest.approx(found["cross_entropy"] / math.log(2))
    assert record.teacher["test"]["cross_entropy"] < found["cross_entropy"] < math.log(60)
    curve = record.curves["loss distillation"]
    assert curve[-1] < curve[0]
    assert f"{found['cross_entropy']:.4f}" in said
    student, data = load(run), load_tokens(text, tokens=32)
    again = evaluate(student, data.test, "language_model")
    assert again["cross_entropy"] == pytest.approx(found["cross_entropy"])
    assert student.limbeck_vocabulary == data.vocabulary
    told = limbeck.json("evaluate", run)
    assert told["metrics"] == pytest.approx(found)
    _, refused = limbeck("evaluate", run, "--predictions", folder / "p.csv", code=2)
    assert "expected a classifier; got a language model" in refused


def test_what_a_run_would_take(limbeck, recipe, teacher, text):
    found = limbeck.json("distill", recipe, *SMALL, "student.n_embd=8", "--dry-run")
    texts = [one["text"] for one in found["findings"]]
    assert any("nats a token (perplexity" in one for one in texts)
    assert found["steps"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("data.options.tokenizer=bytes",), "`teacher` to read the tokens of text, bytes of 257"),
        (("task=classification",), "expected `task: language_model` for the tokens of text"),
        (("student.vocab_size=10",), "expected `student` to have the"),
        (("student.n_layr=1",), "a setting of GPT2Config; got `n_layr`"),
        (("student.n_positions=16",), "expected at most 16 tokens a row, its context; got 32"),
        (("loss=kd",), "KD is for classification; the task is language_model"),
        (("data.options.text=nothing.txt",), "there is no such file"),
    ],
)
def test_what_does_not_fit_is_refused(limbeck, recipe, teacher, text, changes, said):
    _, refused = limbeck("distill", recipe, *SMALL, "student.n_embd=8", *changes, code=2)
    assert said in " ".join(refused.split())


def test_a_teacher_of_other_characters(limbeck, recipe, teacher, folder):
    other = folder / "other.txt"
    other.write_text("0123456789 " * 300)
    change = f"data.options.text={other}"
    _, refused = limbeck("distill", recipe, *SMALL, "student.n_embd=8", change, code=2)
    assert "or take a model that was trained on these tokens" in " ".join(refused.split())
    description = json.loads((teacher / "student" / "model.json").read_text())
    assert description["vocabulary"]["tokenizer"] == "characters"
