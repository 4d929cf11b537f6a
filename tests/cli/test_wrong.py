"""What people get wrong: each mistake ends with 2 and an error that fits on one screen."""

import json

import pytest
import yaml

from limbeck.checks import RecipeError
from limbeck.cli import main


@pytest.fixture
def place(tmp_path, monkeypatch, teacher, recipe):
    """Give a folder with a recipe, a teacher and files that are wrong in their ways."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "teacher").symlink_to(teacher)
    (tmp_path / "alone.yaml").write_text(
        recipe.read_text().replace(f"{{folder: {teacher}}}", "null")
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "broken.yaml").write_text("data: {name: digits\nstudent: [\n")
    (tmp_path / "tabs.yaml").write_text("data:\n\tname: digits\n")
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    fields = yaml.safe_load(recipe.read_text())
    many = {f"epochs{n}": n for n in range(30)}
    fields["training"] |= many | {"batch_size": "x", "learning_rate": -1, "precision": "fp64"}
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(fields | {"lose": "kd", "sed": 3}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/record.json").write_text("{")
    (tmp_path / "cut").mkdir()
    for name in ("model.json", "model.safetensors"):
        whole = (teacher / "student" / name).read_bytes()
        (tmp_path / "cut" / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.jsonl").write_text("not json\n" * 3)
    (tmp_path / "prompts.txt").write_text("hello\n")
    good = {"input": 0, "label": 1, "log_probability": -0.5}
    (tmp_path / "records.jsonl").write_text(json.dumps(good) + "\n")
    (tmp_path / "beyond.jsonl").write_text(json.dumps(good | {"input": 10**6}) + "\n")
    (tmp_path / "rows.csv").write_text("privilege,queries\nhard_labels,10\n")
    return tmp_path


# What was typed, and what the message must name.
WRONG = [
    ("mesure", "mesure"),
    ("--jsn", "--jsn"),
    ("lab varience", "varience"),
    # recipes
    ("distill", "RECIPE"),
    ("distill nothing.yaml", "nothing.yaml"),
    ("distill smal.yaml", "small.yaml"),
    ("distill empty", "empty"),
    ("distill empty.yaml", "empty.yaml"),
    ("distill list.yaml", "list.yaml"),
    ("distill broken.yaml", "broken.yaml, line"),
    ("distill tabs.yaml", "tabs.yaml, line 2"),
    ("distill twice.yaml", "`seed` is given twice"),
    ("distill binary.yaml", "binary.yaml"),
    ("distill many.yaml", "training.epochs0"),
    ("distill small.yaml epochs=3", "`epochs`"),
    ("distill small.yaml training.epoch=3", "epochs"),
    ("distill small.yaml training.epochs=many", "training.epochs"),
    ("distill small.yaml training.epochs=0", "training.epochs"),
    ("distill small.yaml training.epochs", "training.epochs"),
    ("distill small.yaml seed.sub=3", "seed"),
    ("distill small.yaml seed=-1", "seed"),
    ("distill small.yaml --seed -1", "--seed"),
    ("distill small.yaml --seeds 0", "--seeds"),
    ("distill small.yaml loss=kdd", "kdd"),
    ("distill small.yaml loss.temprature=2", "temprature"),
    ("distill small.yaml loss=fitnet layers.student=conv9", "conv9"),
    ("distill small.yaml loss=fitnet layers.pupil=penultimate", "pupil"),
    ("distill small.yaml weight=2", "weight"),
    ("distill small.yaml weight=much", "much"),
    ("distill small.yaml task=clasification", "clasification"),
    ("distill small.yaml task=regression", "regression"),
    ("distill small.yaml data=digit", "digit"),
    ("distill small.yaml data.limt=3", "data.limt"),
    ("distill small.yaml data.folder=nowhere", "nowhere"),
    ("distill small.yaml data=cifar10", "cifar10"),
    ('distill small.yaml data={"module":"nothing.at:all"}', "nothing"),
    ('distill small.yaml data={"module":"json:loads"}', "json:loads"),
    ('distill small.yaml data={"module":"json:load"}', "json:load"),
    ('distill small.yaml data={"module":"builtins:dict"}', "builtins:dict"),
    ("distill small.yaml data.name=null data.module=json:load", "`limit` goes with `name`"),
    ("distill small.yaml student=zoo:resnet21", "resnet21"),
    ("distill small.yaml student.wdith=4", "wdith"),
    ("distill small.yaml student.model=null", "student"),
    ("distill small.yaml student.convert=ternery", "ternery"),
    ("distill small.yaml student=nothing:at_all", "nothing"),
    ("distill small.yaml student=hf:nowhere", "nowhere"),
    ("distill small.yaml --teacher nowhere", "nowhere"),
    ("distill small.yaml --teacher empty", "empty"),
    ("distill small.yaml --teacher cut", "cut"),
    ("distill small.yaml --device gpu", "gpu"),
    ("distill small.yaml --device cuda:9", "cuda:9"),
    ("distill small.yaml training.track=tensorbord", "tensorbord"),
    ("distill small.yaml training.train_only=[none]", "none"),
    ("distill small.yaml --out prompts.txt", "prompts.txt"),
    ("distill small.yaml --out teacher", "teacher"),
    ("distill alone.yaml", "teacher"),
    ("train small.yaml", "teacher"),
    ("train alone.yaml --dry-run --resume", "--resume"),
    # measuring
    ("measure", "teacher"),
    ("measure nothing", "nothing"),
    ("measure empty", "empty"),
    ("measure damaged", "damaged"),
    ("measure small.yaml --layers conv9", "conv9"),
    ("measure small.yaml --layers pupil=conv9", "pupil"),
    ("measure small.yaml --layers teacher=", "teacher="),
    ("measure small.yaml --set tset", "tset"),
    ("measure small.yaml --method hul", "hul"),
    ("measure small.yaml --rows 0", "--rows"),
    ("measure small.yaml --data nothing", "nothing"),
    ("measure small.yaml --student zoo:resnet21", "resnet21"),
    ("forecast alone.yaml", "teacher"),
    ("forecast small.yaml task=regression", "regression"),
    ("forecast small.yaml data.validation=0", "validation"),
    ("weigh small.yaml loss=cc", "CC"),
    ("weigh alone.yaml", "teacher"),
    ("weigh small.yaml --rows 7", "--rows"),
    ("weigh empty", "empty"),
    # stores
    ("cache alone.yaml", "teacher"),
    ("cache verify", "verify"),
    ("cache verify nowhere", "nowhere"),
    ("cache verify empty", "empty"),
    ("cache small.yaml --keep logit", "logit"),
    ("cache small.yaml --parts trian", "trian"),
    ("cache small.yaml --layers conv9", "conv9"),
    ("cache small.yaml --views 0", "--views"),
    ("cache small.yaml --dtype fp8", "fp8"),
    ("cache small.yaml --out prompts.txt", "prompts.txt"),
    # models that are there
    ("export nowhere", "nowhere"),
    ("export empty --data digits", "empty"),
    ("export teacher --format pdf", "pdf"),
    ("export teacher --data digit", "digit"),
    ("export teacher --data digits --data-of small.yaml", "--data-of"),
    ("export teacher --rows 1", "--rows"),
    ("evaluate nowhere", "nowhere"),
    ("evaluate empty --data digits", "empty"),
    ("evaluate cut --data digits", "cut"),
    ("evaluate teacher --data digit", "digit"),
    ("evaluate teacher --set tets", "tets"),
    ("evaluate teacher --data digits --data-of small.yaml", "--data-of"),
    ("evaluate teacher --predictions empty", "empty"),
    ("info nowhere", "nowhere"),
    ("info empty", "empty"),
    ("info damaged", "damaged"),
    ("info zoo:resnet21", "resnet21"),
    ("init --recipe digit", "digit"),
    ("init small.yaml", "small.yaml"),
    ("init empty", "empty"),
    ("report", "RUN"),
    ("report nowhere", "nowhere"),
    ("report damaged", "damaged"),
    ("demo --seeds 0", "--seeds"),
    ("demo --out prompts.txt", "prompts.txt"),
    ("demo --out teacher", "teacher"),
    # queries
    ("plan", "--error"),
    ("plan --error 2 --inputs 10 --labels 3", "error"),
    ("plan --error 0.1", "inputs"),
    ("plan --error 0.1 --inputs 10 --labels 0", "--labels"),
    ("plan --error 0.1 --inputs 10 --labels 3 --price soft=2", "soft"),
    ("plan --error 0.1 --inputs 10 --labels 3 --price soft_labels=x", "soft_labels=x"),
    ("plan --error 0.1 --inputs 10 --labels 3 --confidence 7", "confidence"),
    ("plan --error 0.1 --pilot nothing.csv", "nothing.csv"),
    ("plan --error 0.1 --pilot rows.csv", "rows.csv"),
    ("plan --error 0.1 --law nothing.npz", "nothing.npz"),
    ("plan --error 0.1 --law prompts.txt", "prompts.txt"),
    ("plan --error 0.1 --pilot rows.csv --exponent steep", "steep"),
    ("certify teacher", "--records"),
    ("certify teacher --records nowhere.jsonl", "nowhere.jsonl"),
    ("certify teacher --records words.jsonl", "words.jsonl"),
    ("certify teacher --records beyond.jsonl", "an index outside of the data"),
    ("certify nowhere --records records.jsonl", "nowhere"),
    ("certify teacher --records records.jsonl --interval wide", "wide"),
    ("certify teacher --records records.jsonl --confidence 1", "confidence"),
    ("certify teacher --records records.jsonl --deployment none", "none"),
    ("certify teacher --records records.jsonl --tokenizer empty", "empty"),
    ("audit nowhere.jsonl", "nowhere.jsonl"),
    ("audit words.jsonl", "words.jsonl"),
    ("audit empty", "empty"),
    ("audit records.jsonl --labels 0", "--labels"),
    ("audit records.jsonl --confidence 2", "confidence"),
    ("import nowhere.jsonl --out r.jsonl", "nowhere.jsonl"),
    ("import words.jsonl --out r.jsonl", "words.jsonl"),
    ("import words.jsonl --out records.jsonl", "records.jsonl"),
    ("import words.jsonl", "--out"),
    ("import words.jsonl --out r.jsonl --form chats", "chats"),
    ("import words.jsonl --out r.jsonl --columns inputs=a", "inputs"),
    ("import words.jsonl --out r.jsonl --columns input", "input"),
    ("collect prompts.txt --out r.jsonl", "--model"),
    ("collect nowhere.txt --model m --out r.jsonl", "nowhere.txt"),
    ("collect prompts.txt --model m --out r.jsonl --extra {", "--extra"),
    ("collect prompts.txt --model m --out r.jsonl --key-name NO_KEY", "NO_KEY"),
    ("collect prompts.txt --model m --out r.jsonl --form chats", "chats"),
    ("collect prompts.txt --model m --out r.jsonl --draws 0", "draws"),
    ("probe", "--model"),
    ("probe --model m --form chats", "chats"),
    ("probe --model m --draws 1", "draws"),
    ("probe --model m --retries 0 --base-url http://127.0.0.1:9", "127.0.0.1:9"),
    ("lab variance --case identity", "identity"),
    ("lab variance --case mnist", "--data"),
    ("lab variance --case mnist --data nothing", "nothing"),
    ("lab variance --data digits --case mlp", "mlp"),
    ("lab limits --case slope", "slope"),
    ("lab limits --case plateau --seed -1", "--seed"),
    ("lab limits --case plateau --quick --out prompts.txt", "prompts.txt"),
]


@pytest.mark.parametrize(("typed", "named"), WRONG)
def test_a_mistake_ends_with_2_and_fits_on_one_screen(limbeck, place, monkeypatch, typed, named):
    monkeypatch.setenv("COLUMNS", "100")
    said, remarks = limbeck(*typed.split(), code=2)
    assert said == ""
    lines = remarks.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert "Traceback" not in remarks
    # A path that was wrapped, or stands in a box, is still named.
    assert named in remarks or named in " ".join(remarks.replace("│", " ").split())


def test_the_table_covers_every_command():
    from limbeck.cli.main import app

    commands = {one.name for one in app.registered_commands} | {"lab"}
    assert commands <= {typed.split()[0] for typed, _ in WRONG}
    assert len(WRONG) >= 60


def test_a_long_error_is_cut_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    code = main._explained(RecipeError("\n".join(f"line {n}" for n in range(40))))
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert lines[:23] == [f"line {n}" for n in range(23)]
    assert lines[23:] == ["... and 17 more lines; correct these first."]
