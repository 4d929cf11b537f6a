"""Who imports whom: the rooms of the house plan, enforced on every import statement."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parents[1] / "src" / "limbeck"
FOUNDATIONS = frozenset(
    path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")
)
BARE = frozenset({"types", "checks"})  # import nothing of ours
GROUND = frozenset({"losses", "information", "limits", "store", "students", "zoo", "asking"})
BELOW = {
    "cli": FOUNDATIONS | GROUND | {"report", "forecasting", "training", "weighting"},
    "report": FOUNDATIONS,
    "forecasting": FOUNDATIONS | (GROUND - {"zoo"}) | {"training", "weighting"},
    "training": FOUNDATIONS | (GROUND - {"zoo"}) | {"weighting"},
    "weighting": FOUNDATIONS | {"losses"},
    **dict.fromkeys(GROUND, FOUNDATIONS),
    **dict.fromkeys(FOUNDATIONS - BARE, FOUNDATIONS),
    **dict.fromkeys(BARE, frozenset()),
}
LOSSES_NEED = {"torch", "jaxtyping"}

# Building a model by its name reaches the zoo without knowing it, so that folders and recipes can
# name its networks; nothing else may.
BY_NAME = {("limbeck.training.building", "limbeck.zoo.networks")}
# A measurement that is saved is drawn: the figures get its record as JSON has it, never a model.
DRAWN = {
    ("limbeck.training.measurement", "limbeck.report.atoms"),
    ("limbeck.weighting.reporting.variance_report", "limbeck.report.weights"),
}
EXCEPTIONS = BY_NAME | DRAWN
# Import what the user, or a table of public names, asks for.
WHATEVER_IS_ASKED = {"limbeck", "limbeck.cli.material", "limbeck.training.building"}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported(module: str, source: str, *, is_package: bool) -> Iterator[str | None]:
    """Yield the full name of everything that a source imports; None for a name made at run time."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                up = node.level - is_package
                parents = module.split(".")[: -up or None]
                home = ".".join([*parents, home] if home else parents)
            yield from (f"{home}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_importer(node.func) and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield name.value
            else:
                yield constants.get(name.id) if isinstance(name, ast.Name) else None


def _is_importer(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what a module imports against the rules."""
    own = room_of(module)
    found = []
    for target in imported(module, source, is_package=is_package):
        if target is None:
            if module not in WHATEVER_IS_ASKED:
                found.append(f"{module} imports a name made at run time")
        elif target.split(".")[0] != "limbeck":
            if (
                own == "losses"
                and target.split(".")[0] not in LOSSES_NEED | sys.stdlib_module_names
            ):
                found.append(f"{module} imports {target}")
        elif (module, target) not in EXCEPTIONS and not _allowed(own, target):
            found.append(f"{module} imports {target}")
    return found


def _allowed(own: str, target: str) -> bool:
    room = room_of(target)
    if own in ("", "__main__"):  # limbeck itself names what it exports
        return True
    if room == "__version__":
        return True
    return room == own or room in BELOW[own]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["limbeck", *path.relative_to(PACKAGE).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_every_import_follows_the_rules():
    found, seen = [], 0
    for module, path in modules():
        found += violations(module, path.read_text("utf8"), is_package=path.stem == "__init__")
        seen += 1
    assert seen > 40
    assert found == []


def test_every_room_is_known():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= set(BELOW)
    assert {"types", "checks", "data", "tasks", "capture", "estimates"} <= FOUNDATIONS


def test_exceptions_are_used():
    sources = dict(modules())
    for module, target in EXCEPTIONS:
        assert target in imported(module, sources[module].read_text("utf8"), is_package=False)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("limbeck.losses.kd", "from limbeck.information.renyi import entropy"),
        ("limbeck.losses.kd", "import limbeck.store"),
        ("limbeck.losses.kd", "from limbeck import training"),
        ("limbeck.losses.kd", "import numpy as np"),
        ("limbeck.losses.kd", "def f():\n    from scipy.stats import norm"),
        ("limbeck.report.html", "from limbeck.training.loop import Loop"),
        ("limbeck.report.html", "from limbeck.losses import KD"),
        ("limbeck.weighting.measuring.moments", "from limbeck.information import pid"),
        ("limbeck.report.html", "from limbeck.forecasting.result import Forecast"),
        ("limbeck.training.loop", "from limbeck.forecasting.forecast import forecast"),
        ("limbeck.forecasting.forecast", "from limbeck.cli.main import app"),
        ("limbeck.forecasting.forecast", "from limbeck.report import html"),
        ("limbeck.forecasting.forecast", "from limbeck.zoo.data import sets"),
        ("limbeck.training.loop", "from limbeck.zoo.data import sets"),
        (
            "limbeck.training.loop",
            "import importlib\nimportlib.import_module('limbeck.zoo.networks')",
        ),
        (
            "limbeck.training.loop",
            "import importlib\n_N = 'limbeck.cli'\nimportlib.import_module(_N)",
        ),
        ("limbeck.training.loop", "import importlib\ndef f(n): return importlib.import_module(n)"),
        ("limbeck.training.loop", "__import__('limbeck.report')"),
        ("limbeck.training.building", "from limbeck.zoo.networks import NETWORKS"),
        ("limbeck.training.building", "from limbeck.zoo import data"),
        ("limbeck.training.measure", "from limbeck.report import atoms"),
        ("limbeck.training.measurement", "from limbeck.report import html"),
        ("limbeck.data", "from limbeck.losses.numerics import at_least_float32"),
        ("limbeck.data", "if TYPE_CHECKING:\n    from limbeck.training.distil import Result"),
        ("limbeck.types", "from limbeck.checks import ShapeError"),
        ("limbeck.checks", "from limbeck.types import Batch"),
        ("limbeck.zoo.networks.vgg", "from ..data import sets\nfrom ...losses import kd"),
        ("limbeck.losses.kd", "from limbeck import distill"),
        ("limbeck.losses.kd", "import limbeck"),
    ],
)
def test_a_violation_is_found(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("limbeck.cli.train", "from limbeck.zoo.data import sets\nfrom limbeck.report import html"),
        ("limbeck.cli.forecasting", "from limbeck.forecasting.forecast import forecast"),
        (
            "limbeck.forecasting.forecast",
            "from limbeck.training.measure import measure\nfrom limbeck.weighting import theory",
        ),
        ("limbeck.training.loop", "from limbeck.losses.kd import KD\nimport numpy"),
        ("limbeck.losses.kd", "from limbeck.losses.pairs import check\nimport math, torch"),
        ("limbeck.losses.kd", "from .pairs import check\nfrom . import match"),
        ("limbeck.data", "from limbeck.types import Batch\nfrom limbeck import __version__"),
        ("limbeck.zoo.networks.vgg", "from .base import Network"),
    ],
)
def test_what_is_allowed_is_not_reported(module, source):
    assert violations(module, source) == []


def test_relative_imports_of_a_package():
    assert violations("limbeck.losses", "from .kd import KD", is_package=True) == []
    assert violations("limbeck.losses", "from ..store import f", is_package=True) == [
        "limbeck.losses imports limbeck.store.f"
    ]
