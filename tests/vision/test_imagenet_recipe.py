"""The ImageNet recipes with the module that docs/recipes.md gives, on a handful of images."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from limbeck.cli.main import app
from limbeck.cli.recipes import names, text_of
from limbeck.cli.yaml_text import mapping_of
from limbeck.training.torchvision_cpu import define_missing_operators


# find_spec, since an import would load half of torchvision where it does not fit torch
missing = [name for name in ("timm", "torchvision") if find_spec(name) is None]
pytestmark = [
    pytest.mark.vision,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: `make test-vision` runs it"),
]

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write imagenet.py as the page has it, and images in two classes."""
    define_missing_operators()
    code = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    (tmp_path / "imagenet.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imagenet", raising=False)
    source = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("cat", "dog"):
            (tmp_path / "images" / part / kind).mkdir(parents=True)
            for i in range(2):
                pixels = source.integers(0, 256, (80, 90, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / kind / f"{i}.jpeg")
    return tmp_path


@pytest.mark.parametrize("name", [name for name in names() if "timm:" in text_of(name)])
def test_every_imagenet_recipe_takes_a_step(name, module):
    mapping = mapping_of(text_of(name), name)
    mapping["teacher"]["pretrained"] = False  # nothing is downloaded
    mapping["data"]["options"] = {"folder": str(module / "images"), "workers": 0, "side": 64}
    if "crd" in mapping["loss"]:
        mapping["loss"]["crd"]["bank"] = 4
    mapping["out"] = str(module / "run")
    mapping["training"] |= {"epochs": 1, "batch_size": 4, "device": "cpu", "progress": False}
    (module / "recipe.yaml").write_text(yaml.safe_dump(mapping))
    result = CliRunner().invoke(app, ["distill", str(module / "recipe.yaml"), "--force"])
    assert result.exit_code == 0, result.output + str(result.exception)
    assert (module / "run" / "student").is_dir()
