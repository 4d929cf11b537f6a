"""``limbeck lab``: what it prints and writes, and that it fails loudly."""

import json

import numpy as np
import pytest

from limbeck.lab_result import LabCurve, LabResult, compare
from limbeck.report.lab import lab_svg
from limbeck.weighting.lab import cases, identities


def test_a_case_that_passes(limbeck, tmp_path):
    said, errors = limbeck(
        *("lab", "variance", "--case", "identities", "--quick", "--out", tmp_path / "new")
    )
    assert errors == ""
    for text in ("identities, seed 0", "momentum interpolates", "1e-12", ">= 0.01", "passed"):
        assert text in said
    assert "FAILED" not in said
    record = json.loads((tmp_path / "new" / "lab.json").read_text())
    assert (record["passed"], record["quick"], record["seed"]) == (True, True, 0)
    assert [one["case"] for one in record["results"]] == ["identities"]
    figure = (tmp_path / "new" / "identities.svg").read_text()
    assert figure.startswith("<?xml")
    assert "12 of 12 checks passed" in figure
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "identities.svg",
        "lab.json",
    ]


def test_a_wrong_law_exits_with_1_and_says_what_failed(limbeck, monkeypatch, tmp_path):
    right = identities.interpolated
    monkeypatch.setattr(identities, "interpolated", lambda *a: 1.1 * right(*a))
    said, errors = limbeck(
        *("lab", "variance", "--case", "identities", "--seed", 3, "--out", tmp_path), code=1
    )
    assert said.count("FAILED") == 4
    assert "identities, seed 3" in said
    assert "lab variance: 4 checks failed: identities, SGD interpolates, 200 steps: " in errors
    assert "predicted 0" in errors
    assert json.loads((tmp_path / "lab.json").read_text())["passed"] is False


@pytest.fixture
def known(monkeypatch):
    """Put a case that records its settings in the place of each."""
    seen = {}

    def standing_in(name):
        def case(settings):
            seen[name] = settings
            check = compare("a", 1.0, 1.0, 0.1, "relative")
            return LabResult(name, (check,), (), {"seed": settings.seed}, 0.0, ("a remark",))

        return case

    monkeypatch.setattr(cases, "CASES", {name: standing_in(name) for name in cases.CASES})
    return seen


def test_all_cases_and_images_where_there_are_data(limbeck, known):
    found = limbeck.json("lab", "variance", "--quick", "--seed", 2)
    assert list(known) == [one["case"] for one in found["results"]]
    assert "mnist" not in known
    assert {(s.quick, s.seed) for s in known.values()} == {(True, 2)}
    assert found["passed"] is True
    limbeck("lab", "variance", "--data", "digits")
    pixels, targets = known["mnist"].images
    assert pixels.shape == (len(targets), 64)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert set(targets) == set(range(10))
    assert not known["mnist"].quick


def test_json_alone_is_on_standard_output(limbeck, known, tmp_path):
    said, errors = limbeck("lab", "variance", "--case", "mlp", "--json", "--out", tmp_path)
    assert json.loads(said)["results"][0]["remarks"] == ["a remark"]
    assert "lab.json, mlp.svg" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "logistics"], "'logistics'. Did you mean logistic"),
        (["--case", "mnist"], "expected --data for the case mnist; got none"),
        (["--case", "mlp", "--data", "digits"], "got 'digits' for mlp, which makes its own rows"),
        (["--data", "digit"], "Did you mean digits"),
    ],
)
def test_what_is_wrong_is_said(limbeck, arguments, message):
    _, said = limbeck("lab", "variance", *arguments, code=2)
    assert message in " ".join(said.split())


def test_help_documents_exit_codes(limbeck):
    for arguments in (["lab", "--help"], ["lab", "variance", "--help"]):
        said, _ = limbeck(*arguments)
        assert "Exit codes: 0 all checks passed; 1 a check failed" in " ".join(said.split())


def test_a_result_without_checks_exits_with_1(limbeck, monkeypatch):
    empty = LabResult("mlp", (), (), {"seed": 0}, 0.0)
    monkeypatch.setitem(cases.CASES, "mlp", lambda _: empty)
    _, errors = limbeck("lab", "variance", "--case", "mlp", code=1)
    assert "no checks" in errors


def test_figures_of_odd_curves():
    grid = tuple(float(x) for x in 10.0 ** np.arange(5))
    curves = (
        LabCurve("$a$", "x", "y [nats]", grid, grid, (float("nan"), *grid[1:]), {"b_c": grid}),
        LabCurve("steps", "step", "y", tuple(map(float, range(50))), (0.0,) * 50),
        LabCurve("one", "x", "y", (0.0,), (1.0,), (2.0,)),
        LabCurve("wide", "x", "y", (0.0, 1.0), (1.0, 1000.0), (1.0, 900.0)),
    )
    checks = (compare("a", 1, 1, 0), compare("b", 2, 1, 0))
    result = LabResult("all", checks, curves, {}, 0.0).to_dict()
    drawn = lab_svg(result)
    assert drawn == lab_svg(result)
    for text in ("all: 1 of 2 checks passed", "$a$", "y [nats]", "b_c", "measured", "predicted"):
        assert text in drawn
    assert "<metadata>" not in drawn
    assert "<svg" in lab_svg(LabResult("none", (), (), {}, 0.0).to_dict())
