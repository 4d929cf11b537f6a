"""``limbeck lab limits``: what it prints and writes, and that it fails loudly."""

import json

import pytest

from limbeck.lab_result import LabResult, compare
from limbeck.limits.lab import cases, constants


def test_a_case_that_passes(limbeck, tmp_path):
    said, errors = limbeck(
        *("lab", "limits", "--case", "censored", "--quick", "--out", tmp_path / "new")
    )
    assert errors == ""
    for text in ("censored, seed 0", "head and tail: slope", "renormalised: bias", "passed"):
        assert text in said
    assert "FAILED" not in said
    record = json.loads((tmp_path / "new" / "lab.json").read_text())
    assert (record["lab"], record["passed"], record["quick"]) == ("limits", True, True)
    assert all(curve["log"] for curve in record["results"][0]["curves"])
    figure = (tmp_path / "new" / "censored.svg").read_text()
    assert "6 of 6 checks passed" in figure
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["censored.svg", "lab.json"]


def test_a_wrong_constant_exits_with_1_and_says_what_failed(limbeck, monkeypatch, tmp_path):
    right = constants.soft_label_risk
    monkeypatch.setattr(constants, "soft_label_risk", lambda *a: 1.1 * right(*a))
    said, errors = limbeck(
        *("lab", "limits", "--case", "constants", "--quick", "--seed", 3, "--out", tmp_path),
        code=1,
    )
    assert said.count("FAILED") == 1
    assert "constants, seed 3" in said
    assert "lab limits: 1 check failed: constants, 20 inputs, 21 labels: soft labels: " in errors
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


def test_all_cases_run_in_order(limbeck, known):
    found = limbeck.json("lab", "limits", "--quick", "--seed", 2)
    assert [one["case"] for one in found["results"]] == list(known) == list(cases.CASES)
    assert {(s.quick, s.seed) for s in known.values()} == {(True, 2)}
    assert found["passed"] is True
    limbeck("lab", "limits", "--case", "zipf")
    assert not known["zipf"].quick


def test_what_is_wrong_is_said(limbeck, tmp_path):
    _, said = limbeck("lab", "limits", "--case", "plateaus", code=2)
    assert "'plateaus'. Did you mean plateau" in " ".join(said.split())
    (tmp_path / "file").write_text("")
    limbeck("lab", "limits", "--case", "exponents", "--out", tmp_path / "file", code=2)
    limbeck("lab", "limits", "--seed", "-1", code=2)


def test_help_names_every_case(limbeck):
    said, _ = limbeck("lab", "limits", "--help")
    plain = " ".join(said.replace("│", " ").split())
    assert "Exit codes: 0 all checks passed; 1 a check failed" in plain
    for name in cases.CASES:
        assert name in plain


def test_a_result_without_checks_exits_with_1(limbeck, monkeypatch):
    monkeypatch.setitem(cases.CASES, "zipf", lambda _: LabResult("zipf", (), (), {"seed": 0}, 0.0))
    _, errors = limbeck("lab", "limits", "--case", "zipf", code=1)
    assert "zipf: no checks" in errors
