"""Each example runs as a user runs it, on small data, and does what its head says."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import limbeck as lb


FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def shares(text):
    """Return the percentages that an example prints, by what stands before them."""
    found = re.findall(r"^([^:\n]+): ([\d.]+) %", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def lines_of(name):
    return (FOLDER / f"{name}.py").read_text("utf8").splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_named_in_the_docs_and_in_a_test(name):
    assert len(lines_of(name)) < 60
    assert ast.get_docstring(ast.parse("\n".join(lines_of(name))))
    docs = (FOLDER.parent / "docs" / "examples.md").read_text("utf8")
    assert docs.count(f"`{name}.py`") == 1
    tests = "".join(p.read_text("utf8") for p in sorted(Path(__file__).parent.glob("test_*.py")))
    assert f'"{name}"' in tests or f'"{name}.py"' in tests


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("weight", "tok"))])
def test_the_head_says_how_to_run_it_and_what_it_prints(name):
    head = ast.get_docstring(ast.parse("\n".join(lines_of(name))))
    assert re.search(rf"^Run:    .*python examples/{name}\.py", head, re.MULTILINE)
    assert "\nPrints: " in head


def test_a_folder_of_images(example, tmp_path):
    pixels, labels = load_digits(return_X_y=True)
    for row in range(600):
        place = tmp_path / "photos" / "abcdefghij"[labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        image = (pixels[row].reshape(8, 8) * 15.9).astype(np.uint8)
        Image.fromarray(image).save(place / f"{row}.png")
    said = example(
        "image_folder", tmp_path / "photos", "--side", 8, "--epochs", 8, "--out", tmp_path / "out"
    )
    found = shares(said)
    assert list(found) == ["teacher", "alone", "distilled"]
    assert found["teacher"] > 60  # chance is 10 %
    assert found["distilled"] > 20
    assert "of 120 images" in said
    record = lb.RunRecord.open(tmp_path / "out" / "distilled")
    assert record.kind == "distill"
    assert record.data["class_names"] == list("abcdefghij")
    assert record.data["rows"] == 480


def test_a_text_classifier(example, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra `text`")
    found = shares(example("text_classification", "--epochs", 8, "--out", tmp_path / "out"))
    assert found["teacher"] > 75  # chance is 50 %
    assert found["distilled"] > 55
    record = lb.RunRecord.open(tmp_path / "out" / "distilled")
    assert record.teacher["class"] == "BertForSequenceClassification"
    assert record.teacher["parameters"] > 5 * record.settings["student_parameters"]
    assert record.results["last"]["test"]["accuracy"] == pytest.approx(
        found["distilled"] / 100, abs=5e-4
    )


def test_a_language_model_of_records(example, tmp_path):
    pytest.importorskip("transformers", reason="needs the extra `text`")
    generator, records = np.random.default_rng(1), []
    for text in range(150):
        tokens = [text % 8] * (1 + text % 2)  # prompts of two lengths
        for place in range(10):
            law = np.roll([0.6, 0.3, 0.1], tokens[-1] % 3)
            step = int(generator.choice(3, p=law))
            label = (tokens[-1] + step + 1) % 8
            records.append(
                lb.TeacherRecord(
                    tuple(tokens), label, np.log(law[step]), sequence=text, position=place
                )
            )
            tokens.append(label)
    file = lb.write_records(tmp_path / "answers.jsonl", records)
    said = example("language_model_records", file, "--epochs", 12, "--out", tmp_path / "out")
    assert "audit passed: True" in said
    ends = re.findall(r"(before|after): [\d.]+ \[([\d.]+), ([\d.]+)\] fraction", said)
    (_, lowest_before, _), (_, _, highest_after) = ends
    assert float(highest_after) < float(lowest_before)


def test_what_the_recorded_teacher_says_by_hand():
    pytest.importorskip("transformers", reason="needs the extra `text`")
    import runpy

    module = runpy.run_path(str(FOLDER / "language_model_records.py"))
    prompt = [lb.TeacherRecord((5, 6), 1, -0.5), lb.TeacherRecord((5, 6, 1), 2, -0.25)]
    teacher = module["Recorded"]([prompt, [lb.TeacherRecord((7,), 3, -1.0)]])
    assert teacher.inputs["input_ids"].tolist() == [[5, 6, 1, 2], [7, 3, 0, 0]]
    assert teacher.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    rows = torch.tensor([1, 0])
    answers = teacher(lb.Batch({}, None, rows, rows)).answers
    assert answers.labels[:, :, 0].tolist() == [[3, -1, -1, -1], [-1, 1, 2, -1]]
    assert answers.counts[:, :, 0].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    known = answers.log_probabilities[:, :, 0][answers.counts[:, :, 0] > 0]
    assert known.tolist() == [-1.0, -0.5, -0.25]


def test_a_binary_student(example, tmp_path):
    said = example("binary_student", "--epochs", 6, "--out", tmp_path / "out")
    found = shares(said)
    assert found["teacher"] > 60
    assert found["distilled"] > 25  # chance is 10 %
    sizes = [int(one.replace(",", "")) for one in re.findall(r"([\d,]+) bytes", said)]
    assert sizes[0] > 30 * sizes[1] == 30 * sizes[2]
    saved = load_file(tmp_path / "out" / "distilled" / "student" / "model.safetensors")
    assert any(name.startswith("3.") for name in saved)
    assert (tmp_path / "out" / "export" / "student.pt2").is_file()


@pytest.mark.slow  # bits of three teachers with ten classes
def test_the_teacher_of_few_rows_is_not_chosen(example):
    said = example("choose_teacher", "--epochs", 10)
    first = re.findall(r"^(small|large|large, few rows)$", said, re.MULTILINE)
    assert sorted(first) == ["large", "large, few rows", "small"]
    assert first[-1] == "large, few rows"
    ranked = re.findall(r"^(\d)\. ([^:]+): .*distillable$", said, re.MULTILINE)
    assert [place for place, _ in ranked] == ["1", "2", "3"]
    assert ranked[-1][1] == "large, few rows"


def test_labels_that_were_planned_are_enough(example):
    said = example("plan_labels", "--held-out", 2000)
    assert "cheapest at these prices: sampled_probabilities" in said
    # S A / (e epsilon) = 30 x 6 / (2.71828 x 0.05) = 1324.4
    assert re.search(r"sampled probabilities +274 +1,325", said)
    assert "audit passed: True" in said
    (upper,) = re.findall(r"asked 1325; aimed at 0\.05, got .*, ([\d.]+)\] fraction", said)
    assert float(upper) < 0.05


def test_two_processes_give_the_student_of_one(tmp_path):
    script = [str(FOLDER / "two_processes.py"), "--epochs", "2", "--out"]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    said = {}
    for name, before in (("one", []), ("two", launcher)):
        done = subprocess.run(
            [sys.executable, *before, *script, str(tmp_path / name)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said[name] = done.stdout
    assert said["one"] == said["two"]  # printed by the main process alone
    file = Path("student", "student", "model.safetensors")
    one, two = (load_file(tmp_path / name / file) for name in ("one", "two"))
    for name, part in one.items():
        torch.testing.assert_close(two[name], part, atol=1e-9, rtol=0)
    processes = lb.RunRecord.open(tmp_path / "two" / "student").hardware["processes"]
    assert processes == 2
    assert float(re.findall(r"([\d.]+) %", said["one"])[0]) > 20  # chance is 10 %


def test_losses_in_a_plain_loop(example):
    found = shares(example("loss_plain_loop", "--steps", 300))
    assert found["teacher"] > 80
    assert found["distilled"] > found["alone"] + 10


@pytest.mark.filterwarnings("ignore")  # of transformers' own
def test_a_loss_in_the_trainer_of_transformers(example):
    pytest.importorskip("transformers", reason="needs the extra `examples`")
    said = example("loss_hf_trainer", "--steps", 200)
    found = {name: float(v) for name, v in re.findall(r"^(\w+): ([\d.]+)$", said, re.MULTILINE)}
    assert list(found) == ["teacher", "alone", "KD"]
    assert found["KD"] < min(found["alone"], np.log(4)) - 0.3


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers
def test_a_loss_in_a_lightning_module(example):
    pytest.importorskip("lightning", reason="needs the extra `examples`")
    said = example("loss_lightning", "--steps", 300)
    (found,) = re.findall(r"teacher: ([\d.]+) %, student: ([\d.]+) %", said)
    assert float(found[0]) > 80
    assert float(found[1]) > 40  # chance is 10 %
