"""Importing is cheap, and every public name is there and documented."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck


def loaded_by(statement: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_import_limbeck_loads_nothing_heavy():
    loaded = loaded_by("import limbeck; limbeck.__version__; dir(limbeck)")
    assert "limbeck" in loaded
    assert not loaded & {"torch", "numpy"}
    assert not {name for name in loaded if name.startswith("limbeck.")}


def test_import_losses_loads_neither_data_nor_tools():
    loaded = loaded_by("import limbeck; limbeck.losses")
    assert "limbeck.losses.kd" in loaded
    assert not loaded & {
        *("sklearn", "scipy", "accelerate", "pydantic", "typer", "rich", "matplotlib"),
        *("limbeck.data", "limbeck.tasks", "limbeck.record"),
    }


def test_tasks_load_sklearn_only_for_metrics():
    assert "sklearn" not in loaded_by("import limbeck.tasks, limbeck.data, limbeck.capture")


@pytest.mark.parametrize("name", [name for name in limbeck.__all__ if name != "__version__"])
def test_public_name(name):
    thing = getattr(limbeck, name)
    text = inspect.getdoc(thing) or ""
    assert text, name
    assert inspect.ismodule(thing) == (name == "losses")
    if inspect.isfunction(thing):
        assert "Returns:" in text
        assert not thing.__module__.startswith("limbeck.losses") or "Source:" in text


def test_no_module_hides_a_public_name():
    """Importing ``limbeck.x`` sets the attribute ``x``: a function of that name would be lost."""
    beside = {path.stem for path in Path(limbeck.__file__).parent.iterdir()}
    assert beside & set(limbeck.__all__) == {"losses"}


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'limbeck' has no attribute 'destill'"):
        limbeck.destill  # noqa: B018
