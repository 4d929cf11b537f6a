"""Tables of texts, and measuring text encoders on them."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import shutil
import sys

import pytest
import torch

from limbeck import TeacherRecord, certify, write_records
from limbeck.checks import ArgumentError, DataError
from limbeck.cli.main import run
from limbeck.training.building import build
from limbeck.training.saving import save_model
from limbeck.zoo.text import load_text, read_table


transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own

GOOD, BAD = ["fine", "nice", "great"], ["poor", "dull", "bad"]
FILLERS = ["the", "film", "was", "so", "it", "is"]


def lines(count=240):
    """Return texts of unequal length whose label hangs on one word."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(count):
        draw = torch.randint(6, (6,), generator=generator).tolist()
        word = (GOOD if number % 2 else BAD)[draw[0] % 3]
        found.append((" ".join([word, *(FILLERS[d] for d in draw[: 1 + draw[1]])]), number % 2))
    return found


def write_csv(path, rows, opener=open):
    with opener(path, "wt", encoding="utf8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "text"])
        writer.writerows((number, label, text) for number, (text, label) in enumerate(rows))
    return path


def encoder(folder, width, vocabulary=None):
    """Save a small random BERT with a tokenizer of whole words."""
    words = vocabulary or ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, *GOOD, *BAD]
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=12,
        num_labels=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(width)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def limbeck(monkeypatch, capsys):
    """Return a caller of the program that gives (exit code, standard output, standard error)."""

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def teacher(tmp_path):
    return encoder(tmp_path / "teacher", 16)


def test_tables_of_all_kinds_hold_the_same_rows(tmp_path):
    rows = [("a, b", "1"), ('say "x"', "0"), ("two\nlines", "1"), ("ä", "0")]
    found = [
        read_table(write_csv(tmp_path / "t.csv", rows)),
        read_table(write_csv(tmp_path / "t.csv.xz", rows, lzma.open)),
        read_table(write_csv(tmp_path / "t.csv.gz", rows, gzip.open)),
    ]
    text = "\n".join(json.dumps({"text": text, "label": int(label)}) for text, label in rows)
    (tmp_path / "t.jsonl").write_text(text + "\n\n")
    with lzma.open(tmp_path / "t.jsonl.xz", "wt") as file:
        file.write(text)
    found += [read_table(tmp_path / "t.jsonl"), read_table(tmp_path / "t.jsonl.xz")]
    assert found == [rows] * 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"text,lable\nx,1\n", r"t.csv, line 1: .*got text, lable. Did you mean lable"),
        ("t.csv", b'text,label\n"two\nlines",1\nx\n', "line 4: expected a label.*got None"),
        ("t.csv", b"text,label\nx,1\ny\n", "line 3: expected a label.*got None"),
        ("t.csv", b"text,label\nx,1\ny,0,z\n", "line 3: expected as many columns"),
        ("t.csv", b'text,label\nx,1\n"y,0\n', "line 3: expected CSV"),
        ("t.csv", b"text,label\nx,1\n\xff,0\n", "line 3: expected UTF-8; got byte 0xff"),
        ("t.csv", b"text,label\n", "expected at least one row"),
        (
            "t.jsonl",
            b'{"text": "x", "label": 1}\n{"text": "y"\n',
            "line 2: expected JSON; .*column",
        ),
        ("t.jsonl", b'{"text": "x", "label": 1}\n["y"]\n', "line 2: expected an object"),
        ("t.jsonl", b'\n{"text": "x", "lab": 1}\n', "line 2: expected columns.*got text, lab"),
        ("t.jsonl", b'{"text": 3, "label": 1}\n', "line 1: expected a text; got 3"),
        ("t.jsonl", b'{"text": "x", "label": 0.5}\n', "line 1: expected a label.*got 0.5"),
        ("t.tsv", b"", "expected a table .csv or .jsonl"),
        ("t.csv.xz", b"text,label\n", "cannot be read"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_parts_share_no_row_and_masks_tell_the_padding(tmp_path, teacher):
    rows = lines(100)
    table = write_csv(tmp_path / "reviews.csv.xz", rows, lzma.open)
    found = load_text(table, teacher, tokens=6, validation=0.2)
    assert (found.name, found.classes, found.class_names) == ("reviews", 2, ["0", "1"])
    parts = [found.train, found.validation, found.test]
    assert [len(part) for part in parts] == [56, 14, 30]
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher)
    known = {
        tuple(tokenizer(text, truncation=True, max_length=6)["input_ids"]): label
        for text, label in rows
    }
    for part in parts:
        inputs, mask = part.source.inputs["input_ids"], part.source.inputs["attention_mask"]
        assert inputs.shape[1] <= 6
        for ids, kept, target in zip(inputs, mask, part.targets.tolist(), strict=True):
            assert known[tuple(ids[kept.bool()].tolist())] == target
            assert (ids[~kept.bool()] == tokenizer.pad_token_id).all()
    small = load_text(table, teacher, validation=0.0, limit=20, labels=10)
    assert small.validation is None
    assert len(small.train) == 20
    assert int((small.train.targets >= 0).sum()) == 10


def test_a_folder_with_its_own_test_table(tmp_path, teacher):
    folder = tmp_path / "set"
    folder.mkdir()
    write_csv(folder / "train.csv", [(text, "ab"[label]) for text, label in lines(40)])
    write_csv(folder / "test.csv.xz", [("fine", "b"), ("bad", "a"), ("so", "b")], lzma.open)
    found = load_text(folder, teacher)
    assert found.class_names == ["a", "b"]
    assert found.test.targets.tolist() == [1, 0, 1]
    assert (len(found.train), len(found.validation)) == (36, 4)
    write_csv(folder / "test.csv.xz", [("fine", "b"), ("bad", "c")], lzma.open)
    with pytest.raises(DataError, match=r"row 2: .*a, b; got 'c'"):
        load_text(folder, teacher)
    (folder / "train.csv").rename(folder / "other.csv")
    with pytest.raises(DataError, match=r"expected train.csv.*got other.csv"):
        load_text(folder, teacher)


def test_rows_with_an_empty_label_are_trained_on_without_one(tmp_path, teacher):
    known, free = lines(100), [(f"{text} so so", "") for text, _ in lines(40)]
    mixed = [*known[:30], *free[:25], *known[30:], *free[25:]]
    alone = load_text(write_csv(tmp_path / "a.csv", known), teacher)
    found = load_text(write_csv(tmp_path / "b.csv", mixed), teacher)
    for part in ("validation", "test"):  # as if the unlabelled rows were not there
        ours, theirs = getattr(found, part), getattr(alone, part)
        assert torch.equal(ours.targets, theirs.targets)
        count = theirs.source.inputs["input_ids"].shape[1]
        assert torch.equal(
            ours.source.inputs["input_ids"][:, :count], theirs.source.inputs["input_ids"]
        )
    targets, ids = found.train.targets, found.train.source.inputs["input_ids"]
    assert torch.equal(targets[targets >= 0], alone.train.targets)
    so = transformers.AutoTokenizer.from_pretrained(teacher).convert_tokens_to_ids("so")
    ends = [row[row != 0][-3:-1].tolist() == [so, so] for row in ids]
    assert int((targets == -1).sum()) == 40
    assert all(end for end, target in zip(ends, targets.tolist(), strict=True) if target == -1)
    few = load_text(tmp_path / "b.csv", teacher, labels=10)
    assert int((few.train.targets >= 0).sum()) == 10
    less = load_text(tmp_path / "b.csv", teacher, limit=50)
    assert len(less.train) == 50
    assert 0 < int((less.train.targets == -1).sum()) < 40
    objects = [{"text": text, "label": label} for text, label in known]
    objects += [{"text": "so", "label": None}, {"text": "it", "label": " "}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, objects)))
    assert int((load_text(tmp_path / "c.jsonl", teacher).train.targets == -1).sum()) == 2
    with pytest.raises(DataError, match=r"b.csv, row 31: expected a label .*got ''"):
        load_text(tmp_path / "a.csv", teacher, test=tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"d.csv: expected rows with a label; got none"):
        load_text(write_csv(tmp_path / "d.csv", free), teacher)


def test_a_folder_without_a_tokenizer(tmp_path):
    table = write_csv(tmp_path / "t.csv", lines(20))
    with pytest.raises(ArgumentError, match="expected a folder with a tokenizer"):
        load_text(table, tmp_path)


def test_measure_runs_on_text(tmp_path, teacher, limbeck):
    """A random embedding of the words that tell the class holds all of it; its mean most."""
    table = write_csv(tmp_path / "reviews.csv.xz", lines(480), lzma.open)
    student = encoder(tmp_path / "student", 4)
    out = tmp_path / "out"
    code, said, errors = limbeck(
        *("measure", "--teacher", f"hf:{teacher}", "--student", f"hf:{student}"),
        *("--data", table, "--layers", "bert.encoder", "--method", "gaussian"),
        *("--device", "cpu", "--out", out, "--json"),
    )
    assert code == 0, errors
    found = json.loads(said)
    assert found["set"] == "test"  # who knows what these were trained on
    assert found["data"]["used"] == 144
    (entry,) = found["entries"]
    assert (entry["teacher_layer"], entry["student_layer"]) == ("bert.encoder", "bert.encoder")
    assert entry["estimate"]["mutual_teacher"]["value"] > 0.3
    assert (out / "atoms.svg").is_file()


def test_networks_that_read_different_tokens_share_no_rows(tmp_path, teacher, limbeck):
    table = write_csv(tmp_path / "t.csv", lines(60))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "other"]
    student = encoder(tmp_path / "student", 4, words)
    command = (
        "measure",
        "--teacher",
        f"hf:{teacher}",
        "--student",
        f"hf:{student}",
        "--data",
        table,
    )
    code, _, said = limbeck(*command)
    assert code == 2
    assert "one tokenizer for teacher and student" in said
    shutil.rmtree(student)
    code, _, said = limbeck(*command)
    assert code == 2
    assert "expected a folder with config.json" in " ".join(said.split())


def test_a_saved_model_is_evaluated_on_a_table(tmp_path, teacher, limbeck):
    rows = lines(20)
    folder = tmp_path / "set"
    folder.mkdir()
    write_csv(folder / "train.csv", lines(40))
    write_csv(folder / "test.csv", rows)
    model = build(f"hf:{teacher}").eval()
    save_model(model, tmp_path / "model")
    command = ("evaluate", tmp_path / "model", "--device", "cpu", "--json")
    code, said, errors = limbeck(*command, "--data", folder, "--tokenizer", teacher)
    assert code == 0, errors
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher)
    with torch.no_grad():  # one by one, without padding
        right = [
            int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) == label
            for text, label in rows
        ]
    found = json.loads(said)
    assert found["rows"] == 20
    assert found["metrics"]["accuracy"] == pytest.approx(sum(right) / 20)
    code, _, errors = limbeck(*command, "--data", folder)
    assert code == 2
    assert "expected a tokenizer for a table of texts; got none" in " ".join(errors.split())
    code, _, errors = limbeck(*command, "--data", "digits", "--tokenizer", teacher)
    assert code == 2
    assert "--tokenizer: expected a table of texts as data; got digits" in " ".join(errors.split())


def test_a_student_is_certified_on_a_table(tmp_path, teacher, limbeck):
    table = write_csv(tmp_path / "t.csv", lines(100))
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand(30, generator=generator)
    labels = (torch.rand(30, generator=generator) < chances).long()
    records = [
        TeacherRecord(place, label, (chance if label else 1 - chance).log().item())
        for place, (chance, label) in enumerate(zip(chances, labels.tolist(), strict=True))
    ]
    path = write_records(tmp_path / "answers.jsonl", records)
    command = ("certify", f"hf:{teacher}", "--records", path, "--data", table, "--json")
    code, said, errors = limbeck(*command, "--tokenizer", teacher, "--device", "cpu")
    assert code == 0, errors
    found = json.loads(said)
    rows = load_text(table, teacher).test
    direct = certify(build(f"hf:{teacher}"), records, rows, device="cpu")
    assert found["records"] == 30
    assert found["estimates"]["total_variation"]["value"] == pytest.approx(
        direct.total_variation.value, abs=1e-9
    )
    code, _, errors = limbeck(*command)
    assert code == 2
    assert "expected a tokenizer for a table of texts; got none" in " ".join(errors.split())
