"""The documentation by itself: links, navigation, commands, code, names; mkdocs is not needed."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.M | re.S
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.M)
SHELL = {"", "sh", "bash", "console", "shell"}


def name_of(page):
    return str(page.relative_to(ROOT))


def prose(text):
    """Return a page without its code."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))


def anchors(text):
    """Return the anchors of a page's headings as Python-Markdown and GitHub make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", text), re.M):
        own = re.search(r"\{ *#([\w-]+) *\}", heading)
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        found.add(own[1] if own else re.sub(r"[\s-]+", "-", slug))
    return found


def blocks(*kinds):
    for page in PAGES:
        for number, found in enumerate(FENCE.finditer(page.read_text("utf8"))):
            if found["kind"] in kinds:
                code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.M)
                yield pytest.param(code, id=f"{name_of(page)}:{number}")


def faults_of_links(page, text):
    """Return what is wrong with the relative links of a page."""
    faults = []
    for link in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        to, _, anchor = link.partition("#")
        path = (page.parent / to).resolve() if to else page
        if not path.exists():
            faults.append(f"{link}: no such file")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text("utf8")):
            faults.append(f"{link}: no such heading")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_images_lead_somewhere(page):
    assert faults_of_links(page, page.read_text("utf8")) == []


def navigated(entry):
    """Return all pages of a navigation."""
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for one in inner for page in navigated(one)]


def test_every_page_is_in_the_navigation_once():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf8"))
    here = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    listed = navigated(settings["nav"])
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == here


def test_the_site_loads_nothing_from_elsewhere():
    text = (ROOT / "mkdocs.yml").read_text("utf8")
    assert yaml.safe_load(text)["theme"]["font"] is False
    assert "//" not in text
    for path in DOCS.glob("*.css"):
        assert "//" not in path.read_text("utf8")
        assert "@import" not in path.read_text("utf8")


@functools.cache
def program():
    from limbeck.cli.main import app

    return typer.main.get_command(app)


def commands_in(code):
    """Return the lines of a block that call limbeck, as words; what runs them is left out."""
    code = re.sub(r"\\\n", " ", code)
    for line in code.splitlines():
        line = re.sub(r"^[$>] ", "", line.strip())
        words = re.sub(r"\s+#.*$", "", line)
        try:
            words = shlex.split(words)
        except ValueError:  # output, not a command
            continue
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[:1] == ["torchrun"] and "limbeck" in words:
            words = words[words.index("limbeck") :]
        if words[:1] == ["limbeck"] and len(words) > 1 and not words[1].endswith(":"):
            yield words


def fault_of_command(words):
    """Return what the program would not know of a call, or an empty string."""
    command, rest = program(), words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"-h", "--help"} | {
        name for option in command.params for name in (*option.opts, *option.secondary_opts)
    }
    flags = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return ", ".join(f"no option {flag!r} of {command.name}" for flag in flags if flag not in known)


@pytest.mark.parametrize("code", list(blocks(*SHELL)))
def test_commands_and_their_options_exist(code):
    assert [found for words in commands_in(code) if (found := fault_of_command(words))] == []


@pytest.mark.parametrize("code", list(blocks("python", "py")))
def test_python_compiles(code):
    compile(re.sub(r"^(>>>|\.\.\.) ?", "", code, flags=re.M), "page", "exec")


@pytest.mark.parametrize("code", list(blocks("yaml", "yml")))
def test_yaml_can_be_read(code):
    yaml.safe_load(code)


def public_names():
    """Return the names of the package as its source lists them."""
    tree = ast.parse((ROOT / "src/limbeck/__init__.py").read_text("utf8"))
    homes = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"
    )
    return [key.value for key in homes.keys]


def documented():
    found = []
    for page in (DOCS / "api").glob("*.md"):
        found += DIRECTIVE.findall(page.read_text("utf8"))
    return found


def test_every_public_name_has_a_place_in_the_reference_once():
    listed = documented()
    assert len(listed) == len(set(listed))
    assert [name for name in public_names() if f"limbeck.{name}" not in listed] == []


def test_every_loss_by_name_is_in_the_reference():
    from limbeck.losses import LOSSES

    listed = documented()
    assert [
        name for name, loss in LOSSES.items() if f"limbeck.losses.{loss.__name__}" not in listed
    ] == []


@pytest.mark.parametrize("name", documented())
def test_what_the_reference_names_exists(name):
    room, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(room), last)


def test_a_broken_page_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `title`, here\n[a](#a-title-here) [b](#elsewhere) [c](gone.md) `[d](x)`\n")
    assert faults_of_links(page, page.read_text("utf8")) == [
        "#elsewhere: no such heading",
        "gone.md: no such file",
    ]


def test_a_wrong_command_is_found():
    code = (
        "limbeck plan --inputs 3 \\\n  --eror 0.1\nlimbeck disitll x.yaml\nlimbeck demo: output\n"
    )
    assert [fault_of_command(words) for words in commands_in(code)] == [
        "no option '--eror' of plan",
        "no command 'disitll'",
    ]
