"""The commands as a whole: their order, the same options everywhere, --json, completion."""

import inspect
import json
import os
import subprocess
import sys
import types
import typing

import pytest
import typer
from typer.models import OptionInfo

from limbeck.cli import completing
from limbeck.cli.facts import DATA_SETS
from limbeck.cli.main import app
from limbeck.cli.recipes import names
from limbeck.losses import LOSSES
from limbeck.students import BINARY_NETWORKS
from limbeck.zoo.networks import NETWORKS


# Options that mean the same but must say more, or something else, of their command.
REASONS = {
    "--out": "where the result goes; what is written, and so file or folder, differs",
    "--teacher": "a model everywhere; measure and forecast compare several, distill also takes a "
    "store",
}
# Options that take one value here and several there.
SEVERAL = {"--teacher"}


def commands(found=app, prefix=""):
    """Yield (name, function) of every command, also those in groups."""
    for one in found.registered_commands:
        yield prefix + (one.name or one.callback.__name__), one.callback
    for group in found.registered_groups:
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def options(function):
    """Yield (name, type, typer's option) of a command."""
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind, info = typing.get_args(parameter.annotation)[:2]
        if isinstance(info, OptionInfo):
            named = [info.default, *(info.param_decls or ())]  # the first stands as the default
            given = [name for name in named if isinstance(name, str) and name.startswith("--")]
            yield (given or [f"--{parameter.name.replace('_', '-')}"])[0], kind, info


def plain(kind):
    """Return a type without None, and choices as text: some commands know a default, some not."""
    parts = [one for one in typing.get_args(kind) if one is not types.NoneType]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return plain(parts[0])
    return str if typing.get_origin(kind) is typing.Literal else kind


EVERY = [(command, *one) for command, function in commands() for one in options(function)]


@pytest.mark.parametrize(("name", "function"), list(commands()))
def test_every_command_has_json(name, function):
    assert "--json" in [option for option, _, _ in options(function)]


@pytest.mark.parametrize("option", sorted({option for _, option, _, _ in EVERY}))
def test_an_option_is_the_same_everywhere(option):
    found = [(command, kind, info) for command, name, kind, info in EVERY if name == option]
    kinds = {plain(kind) for _, kind, _ in found}
    if option in SEVERAL:
        kinds = {typing.get_args(kind)[0] if typing.get_args(kind) else kind for kind in kinds}
    assert len(kinds) == 1
    first = {info.help.split(".")[0].split(":")[0] for _, _, info in found}
    assert len(first) == 1 or option in REASONS


def test_reasons_are_needed():
    seen = {}
    for _, option, _, info in EVERY:
        seen.setdefault(option, set()).add(info.help)
    assert [option for option in REASONS if len(seen[option]) < 2] == []


def test_help_tells_the_story_in_order(limbeck):
    said, _ = limbeck("--help")
    lines = [line.split()[1] for line in said.splitlines() if line.startswith("│ ")]
    story = ["measure", "forecast", "cache", "weigh", "distill", "certify", "report"]
    at = lines.index("measure")
    assert lines[at : at + len(story)] == story
    heads = [line for line in said.splitlines() if line.startswith("╭")]
    assert "The story, in order" in heads[2]
    assert [heads.index(line) for line in heads if "Beside it" in line] == [3]
    for name in ("plan", "lab", "train", "evaluate"):
        assert lines.index(name) >= at + len(story)


def test_json_of_init_and_info(limbeck, tmp_path):
    found = limbeck.json("init", "--list")
    assert found == {"recipes": names()}
    printed, _ = limbeck("init")
    path = tmp_path / "a.yaml"
    assert limbeck.json("init", path) == {"recipe": "digits", "file": str(path), "text": printed}
    assert path.read_text() == printed
    limbeck("init", path, "--overwrite", "--recipe", "language")
    assert path.read_text() == limbeck("init", "--recipe", "language")[0]
    assert limbeck.json("info")["data sets"] == list(DATA_SETS)
    assert "limbeck.zoo.text:load_text" in limbeck.json("info")["texts (data.module)"]


def test_lab_takes_data_as_other_commands_do(limbeck, monkeypatch, tmp_path):
    from limbeck.cli import lab

    pixels, _ = lab._images("digits", None)
    assert pixels.shape[1] == 64
    assert len(pixels) > 1000
    (tmp_path / "module_of_rows.py").write_text(
        "import torch\n"
        "def rows():\n"
        "    x = torch.arange(12.0).reshape(3, 1, 2, 2) / 12\n"
        "    return (x, torch.tensor([0, 1, 0])), None, None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    pixels, targets = lab._images("module_of_rows:rows", None)
    assert pixels.shape == (3, 4)
    assert targets.tolist() == [0, 1, 0]


def completions(words, shell="bash"):
    """Return what the shell's protocol gives for words of which the last is incomplete."""
    pieces = [piece for word in words for piece in _pieces(word)] if shell == "bash" else words
    asked = {"_LIMBECK_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= {"COMP_WORDS": " ".join(pieces), "COMP_CWORD": str(len(pieces) - 1)}
    else:
        asked |= {
            "_TYPER_COMPLETE_ARGS": " ".join(pieces),
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
    script = (
        "import sys\n"
        "from limbeck.cli.main import run\n"
        "try:\n    run()\n"
        "finally:\n    print([m for m in ('torch', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | asked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


def _pieces(word):
    """Cut a word as bash does."""
    return word.replace("=", " = ").replace(":", " : ").split() or [""]


def test_completion_of_commands_and_losses():
    assert completions(["limbeck", "di"]) == ["distill"]
    assert set(completions(["limbeck", ""])) == {name.split()[0] for name, _ in commands()}
    assert completions(["limbeck", "lab", "v"]) == ["variance"]
    assert completions(["limbeck", "distill", "r.yaml", "loss=k"]) == [
        name for name in LOSSES if name.startswith("k")
    ]
    assert completions(["limbeck", "distill", "r.yaml", "loss=k"], "fish") == [
        f"loss={name}" for name in LOSSES if name.startswith("k")
    ]
    assert "--teacher" in completions(["limbeck", "distill", "--te"])


@pytest.mark.parametrize(
    ("word", "cut", "shell"),
    [
        (["--student", "zoo:wrn_16"], ["wrn_16_1", "wrn_16_2", "wrn_16_8"], "bash"),
        (["--student", "zoo:wrn_16_1"], ["zoo:wrn_16_1"], "fish"),
        (["r.yaml", "teacher=binary:resnet1"], ["resnet18"], "bash"),
        (["--data", "cif"], ["cifar10", "cifar100"], "bash"),
        (["r.yaml", "data=fash"], ["fashion-mnist"], "bash"),
        (["r.yaml", "epochs=1"], [], "bash"),
        (["--set", "t"], ["train", "test"], "bash"),
    ],
)
def test_completion_of_values(word, cut, shell):
    assert completions(["limbeck", "measure", *word], shell) == cut


def test_names_for_completion_are_those_of_the_library():
    assert completing.losses() == list(LOSSES)
    assert completing.models() == [
        *(f"zoo:{name}" for name in NETWORKS), *(f"binary:{name}" for name in BINARY_NETWORKS),
    ]  # fmt: skip
    assert completing.complete_recipe("train/wrn_40") == [
        name for name in names() if name.startswith("train/wrn_40")
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(limbeck, monkeypatch, shell):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    said, _ = limbeck("--show-completion", shell)
    assert "_LIMBECK_COMPLETE" in said
    assert f"complete_{shell}" in said


def test_json_of_the_demo_is_all_of_standard_output(limbeck, monkeypatch, tmp_path):
    from limbeck.cli import demo, demo_command

    monkeypatch.setattr(
        demo,
        "run_demo",
        lambda out, seeds, told: types.SimpleNamespace(
            to_dict=lambda: {"out": str(out), "seeds": seeds, "told": told}
        ),
    )
    assert inspect.signature(demo_command.demo).parameters["seeds"].default == 5
    found = limbeck.json("demo", "--out", tmp_path, "--seeds", "2")
    assert found == {"out": str(tmp_path), "seeds": 2, "told": False}
    assert json.dumps(found)
    assert isinstance(app, typer.Typer)
