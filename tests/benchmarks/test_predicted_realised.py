"""Predicted beside realised: the arithmetic by hand, the law by closed forms, the page."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch


FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
BUDGETS = (250, 500, 1000, 2000, 4000)
PRIVILEGES = ("hard_labels", "sampled_probabilities", "soft_labels")


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a script of benchmarks/ anew."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("common", "predicted_realised", "predicted_plateaus", "privilege_curves")
    for name in names:  # not quality_convex, whose problem is cached
        monkeypatch.delitem(sys.modules, name, raising=False)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


def test_a_ratio_of_means_has_the_interval_of_its_logarithm(load):
    found = load("predicted_plateaus").measured_change([1.0, 3.0], [2.0, 2.0])
    # Parts -1/2 and 1/2: standard error 1/2; Student's t of one degree of freedom is tan(0.475 pi).
    wide = math.exp(math.tan(0.475 * math.pi) / 2)
    assert found == pytest.approx({"value": 1.0, "lower": 1 / wide, "upper": wide, "n": 2})
    uneven = load("predicted_plateaus").measured_change([1.0, 2.0], [1.0, 4.0])
    assert uneven["value"] == pytest.approx(3 / 5)  # of the means, not the mean of ratios


def test_what_pairs_share_is_no_spread(load):
    found = load("predicted_plateaus").measured_change([2.0, 6.0, 10.0], [1.0, 3.0, 5.0])
    assert [found[key] for key in ("value", "lower", "upper")] == pytest.approx([2.0] * 3)


def test_predictions_are_judged_by_both_intervals(load):
    plateaus = load("predicted_plateaus")
    measured = {"value": 0.5, "lower": 0.4, "upper": 0.8, "n": 5}
    found = plateaus.judged(0.6, measured, (0.55, 0.7))
    assert found["predicted_over_measured"] == pytest.approx(1.2)
    assert found["inside_measured_interval"]
    assert not found["measured_inside_predicted"]
    assert found["same_direction"]
    assert plateaus.judged(1.2, {"value": 2.0, "lower": 1.4, "upper": 2.6})["same_direction"]
    wrong = plateaus.judged(1.2, measured)
    assert not wrong["inside_measured_interval"]
    assert wrong["measured_inside_predicted"] is None
    assert wrong["same_direction"] is False
    unclear = plateaus.judged(0.9, {"value": 0.9, "lower": 0.7, "upper": 1.1, "n": 5})
    assert unclear["same_direction"] is None


def test_the_law_is_that_of_the_four_points(load):
    # Case F of the reference, batch 1: A = 1/32, R(1/2) = 259/1000, D_T = 1/20.
    plateaus = load("predicted_plateaus")
    exact = {"tr_gg": 2.5, "tr_gh": 2.5, "tr_hh": 2.59, "hbar2": 0.25, "D_T": 0.05}
    floor = plateaus.exact_floor(exact, 0.05, 1, None)
    assert floor == pytest.approx(1 / 32)
    assert plateaus.by_law(exact, 0.5, floor) == pytest.approx(0.259 + 0.0125 * 32)
    # One step an epoch is the full gradient; in two, pace 1/8: a = 7/8, (15 - 15 / 113 * 113) is 0.
    assert plateaus.exact_floor(exact, 0.05, 1, 1) == 0
    a = 1 - 0.05 * 2.5
    share = 2 - (1 + a) / (1 - a) * (1 - a**2) / (1 + a**2)
    assert plateaus.exact_floor(exact, 0.05, 1, 2) == pytest.approx(share / 32)


def test_exact_moments_are_those_of_an_intercept(load):
    # Case P: targets 3/4, teacher 7/8. Two logits move apart, so that all but D_T is doubled.
    rows, labels = torch.ones(4, 1, dtype=torch.float64), torch.tensor([1, 1, 1, 0])
    student, teacher = (
        torch.tensor([[0.0], [math.log(odds)]], dtype=torch.float64) for odds in (3, 7)
    )
    found = load("predicted_plateaus").exact_moments(rows, labels, student, teacher)
    doubled = dict.fromkeys(("tr_gg", "tr_gh", "tr_hh"), 3 / 8)
    assert found == pytest.approx({**doubled, "hbar2": 1 / 32, "D_T": 1 / 24})


def test_exact_moments_are_those_of_plain_loops(load):
    source = torch.Generator().manual_seed(0)
    x = torch.randn(7, 2, generator=source, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2, 1])
    student, teacher = (torch.randn(3, 2, generator=source, dtype=torch.float64) for _ in "st")
    found = load("predicted_plateaus").exact_moments(x, y, student, teacher)

    def gradients(weight):
        each = []
        for row, label in zip(x, y, strict=True):
            own = weight.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy((own @ row)[None], label[None])
            each.append(torch.autograd.grad(loss, own)[0].flatten())
        return torch.stack(each).numpy()

    g, h = gradients(student), gradients(teacher)
    whole = torch.autograd.functional.hessian(
        lambda w: torch.nn.functional.cross_entropy(x @ w.view(3, 2).T, y), student.flatten()
    )
    bias = h.mean(0)
    assert found["hbar2"] == pytest.approx(bias @ bias)
    assert found["D_T"] == pytest.approx(bias @ np.linalg.pinv(whole.numpy()) @ bias / 2)
    for name, one, two in (("tr_gg", g, g), ("tr_gh", g, h), ("tr_hh", h, h)):
        by_loops = sum((a - one.mean(0)) @ (b - two.mean(0)) for a, b in zip(one, two, strict=True))
        assert found[name] == pytest.approx(by_loops / 7)


def test_the_benchmarks_teachers_cost_what_they_lie_above(load):
    plateaus, convex = load("predicted_plateaus"), load("quality_convex")
    given = convex.problem()
    for teacher, excess in zip(given.teachers[:2], convex.EXCESS[:2], strict=True):
        found = plateaus.exact_moments(given.x, given.y, given.best, teacher)
        assert found["D_T"] == pytest.approx(excess, rel=0.1)  # near the optimum they are the same


def test_a_student_without_teacher_is_near_its_plateau(load):
    plateaus, convex = load("predicted_plateaus"), load("quality_convex")
    given = convex.problem()
    above = [given.loss(plateaus.plain_student(at)).item() - given.least for at in range(3)]
    # Small-step law: rate * tr_gg / (4 * 8) with tr_gg of 3.9 falls 16-fold over the phases.
    assert 0.01 < above[0] < 0.2
    assert above[0] > above[1] > above[2]
    assert above[2] < 0.005


@pytest.mark.parametrize("teacher", [0, 2])  # whose bias is lost in its error, and is not
def test_moments_foretell_by_their_formula(load, teacher):
    plateaus, convex = load("predicted_plateaus"), load("quality_convex")
    given = convex.problem()
    moments = plateaus.gradient_moments(
        convex.network(given.best),
        convex.network(given.teachers[teacher]),
        (given.x, given.y),
        n=500,
        loss=convex.term,
    )
    value, ends, floor, status = plateaus.foretold(moments, 0.7, learning_rate=0.1, batch_size=8)
    assert floor == pytest.approx(0.1 * moments.tr_gg / 32)
    left = 1 - 1.4 * moments.tr_gh / moments.tr_gg + 0.49 * moments.tr_hh / moments.tr_gg
    bias, error = moments.D_T, moments.curvature.standard_error
    assert value == pytest.approx(left + 0.49 * max(bias, 0) / floor)
    assert ends[1] == pytest.approx(left + 0.49 * (bias + 1.96 * error) / floor)
    assert ends[0] == pytest.approx(left + 0.49 * max(bias - 1.96 * error, 0) / floor)
    assert status == plateaus.recommend_weight(moments, learning_rate=0.1, batch_size=8).loss.status


def test_runs_that_follow_the_law_are_found_to(load, monkeypatch):
    plateaus, convex = load("predicted_plateaus"), load("quality_convex")
    given, data = convex.problem(), []
    exact = [plateaus.exact_moments(given.x, given.y, given.best, t) for t in given.teachers]
    for teacher, own in enumerate(exact):
        for arm in ("0", *plateaus.WEIGHTS):
            for seed, noise in enumerate((0.9, 1.1)):
                run = {"case": "convex", "arm": arm, "teacher": teacher, "seed": seed}
                for phase, measure in enumerate(convex.MEASURES):
                    floor = plateaus.exact_floor(own, 0.4 * 0.25**phase, 8, 250)
                    run[measure] = noise * floor * plateaus.by_law(own, float(arm), floor)
                data.append(run)
    data.append({"case": "digits", "arm": "0", "teacher": 0, "seed": 7})
    monkeypatch.setattr(plateaus, "plain_student", lambda phase: given.best)
    measure = plateaus.gradient_moments
    monkeypatch.setattr(plateaus, "gradient_moments", lambda *a, **k: measure(*a, **k | {"n": 64}))
    rows = plateaus.convex_rows(data)
    assert len(rows) == 3 * 3 * 5 * 3
    law = [row for row in rows if row["moments"] == "exact"]
    assert all(r["predicted_over_measured"] == pytest.approx(1) for r in law)
    assert all(r["plain_predicted"] == pytest.approx(r["plain_measured"]) for r in law)
    assert {row["measured"]["n"] for row in rows} == {2}
    pairs = zip(
        *(([r for r in rows if r["moments"] == m]) for m in ("optimum", "student")), strict=True
    )
    assert all(one["predicted"] == two["predicted"] for one, two in pairs)


def test_networks_and_logistic_regression_of_the_laboratory(load, monkeypatch):
    plateaus = load("predicted_plateaus")
    problem = plateaus.logistic.example_logistic()
    weights = plateaus.logistic.WEIGHTS
    excess = np.outer([0.9, 1.0, 1.1], 1 + weights)
    monkeypatch.setattr(
        plateaus.logistic, "measure", lambda _: {"cells": [((0.2, 4), excess, excess)]}
    )
    rows = plateaus.logistic_rows()
    assert [row["weight"] for row in rows] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [row["measured"]["value"] for row in rows] == pytest.approx([1.2, 1.4, 1.6, 1.8, 2.0])
    assert rows[0]["plain_measured"] == pytest.approx(1.0)
    assert rows[0]["D_T"] == pytest.approx(plateaus.logistic.BIAS, rel=0.15)
    near = problem.teacher(1e-8)  # as near the optimum g and h are the same
    assert problem.traces(near)[1] == pytest.approx(problem.traces(near)[0], rel=1e-3)


def row(predicted, measured, interval=(0.0, 9.0), **more):
    base = {"part": "convex", "moments": "optimum", "status": "resolved", "same_direction": None}
    return base | {
        "predicted": predicted,
        "measured": {"value": measured, "lower": 0.4, "upper": 2.0, "n": 5},
        "predicted_interval": interval,
        "predicted_over_measured": predicted / measured,
        "inside_measured_interval": 0.4 <= predicted <= 2.0,
        "measured_inside_predicted": interval[0] <= measured <= interval[1],
        **more,
    }  # fmt: skip


def test_summaries_count_and_take_the_median_of_logarithms(load):
    realised = load("predicted_realised")
    rows = [
        row(0.2, 1.0, same_direction=True),
        row(4.0, 1.0, (3.0, 5.0), same_direction=False),
        row(1.9, 1.0),
    ]
    assert realised.summary(rows) == {
        "n": 3,
        "inside_measured_interval": 1,
        "measured_inside_predicted": 2,
        "same_direction": [1, 2],
        "median_absolute_log_ratio": pytest.approx(math.log(4)),
        "largest_absolute_log_ratio": pytest.approx(math.log(5)),
    }
    assert realised.summary([row(1.0, 1.0) | {"other": 2.0}], "other")[
        "median_absolute_log_ratio"
    ] == pytest.approx(math.log(2))


def test_groups_tell_resolved_advice_apart(load):
    realised = load("predicted_realised")
    rows = [
        row(1.0, 1.0),
        row(2.0, 1.0, status="unresolved"),
        row(1.0, 1.0, moments="exact", status="exact"),
        row(1.0, 1.0, part="network"),
    ]
    assert {name: len(own) for name, own in realised.groups(rows).items()} == {
        "convex, moments at the optimum": 2,
        "convex, moments at the optimum; resolved": 1,
        "convex, moments at the optimum; unresolved": 1,
        "convex, moments exact": 1,
        "network, moments at the optimum": 1,
    }


def test_plans_are_held_against_larger_budgets_and_no_change(load):
    realised = load("predicted_realised")
    runs = [
        {"case": "images", "privilege": one, "queries": n, "seed": seed, "total_variation": error}
        for one, power in zip(PRIVILEGES, (0.5, 1.0, 1.0), strict=True)
        for n in BUDGETS
        for seed, error in ((1, 3.03 * n**-power), (0, 2.97 * n**-power))
    ]
    runs.append(runs[0] | {"case": "text"})
    errors = realised.errors_of(runs, "images")
    assert errors["hard_labels", 250] == [2.97 * 250**-0.5, 3.03 * 250**-0.5]
    rows = realised.plan_rows("images", BUDGETS, errors)
    assert [(one["privilege"], one["queries"]) for one in rows] == [
        (privilege, n) for privilege in PRIVILEGES for n in (2000, 4000)
    ]
    assert [one["predicted_over_measured"] for one in rows] == pytest.approx([1.0] * 6, rel=1e-3)
    assert [one["last_pilot_over_measured"] for one in rows] == pytest.approx(
        [2**0.5, 2.0, 2.0, 4.0, 2.0, 4.0]
    )
    assert all(one["inside_measured_interval"] for one in rows)
    assert all(one["misfit_p"] > 0.5 for one in rows)
    half = 0.03 * 4000**-0.5 * math.tan(0.475 * math.pi)  # sd 0.03 sqrt(2), over sqrt(2)
    assert rows[1]["measured"]["upper"] - rows[1]["measured"]["value"] == pytest.approx(half)


def test_numbers_and_cells_of_tables(load):
    realised = load("predicted_realised")
    assert [realised.number(one) for one in (0.49, 46.46, 0.00075, 123.4, 0.0)] == [
        "0.490", "46.5", "0.000750", "123", "0.00",
    ]  # fmt: skip
    assert realised.foreseen(row(0.5, 1.0)) == "0.500 [0.00, 9.00]"
    assert realised.foreseen(row(3.0, 1.0) | {"predicted_interval": None}) == "**3.00**"
    asked = {"queries_advised": None, "queries_advised_interval": [755.3, None]}
    assert realised.advised(asked) == "at least 755"
    asked = {"queries_advised": 1458, "queries_advised_interval": [986.4, 3914.7]}
    assert realised.advised(asked) == "1,458 [986, 3,915]"
    assert realised.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_page_is_renewed_between_its_markers(load):
    page = "Before.\n<!-- begin one -->\nold\n<!-- end one -->\nAfter."
    once = load("pages").replaced(page, {"one": "new"})
    assert once == "Before.\n<!-- begin one -->\n\nnew\n\n<!-- end one -->\nAfter."
    assert load("pages").replaced(once, {"one": "new"}) == once
    with pytest.raises(SystemExit, match="begin two"):
        load("pages").replaced(page, {"two": "new"})


def test_all_of_it_from_the_results_to_the_page(load, monkeypatch, tmp_path, capsys):
    realised, plateaus = load("predicted_realised"), load("predicted_plateaus")
    common = load("common")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    made = {"hardware": {"cores": 2, "processor": "box"}, "versions": {"torch": "9"}}
    runs = [
        {"case": "images", "privilege": one, "queries": n, "seed": seed, "total_variation": error}
        for one in PRIVILEGES
        for n in BUDGETS
        for seed, error in enumerate((3.03 * n**-0.5, 2.97 * n**-0.5))
    ]
    case = {"facts": {"settings": {"budgets": BUDGETS}}}
    stored = {
        "weighting_quality": {"runs": []},
        "privilege": {"runs": runs, "cases": {"images": case}},
    }
    for name, one in stored.items():
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(made | one))
    own = {"teacher": "near", "learning_rate": 0.4, "batch_size": 8, "weight": 0.5}
    level = {"plain_predicted": 0.01, "plain_measured": 0.02}
    rows = [row(0.5, 1.0, moments=m, **own, **level) for m in ("optimum", "student", "exact")]
    rows[0]["plain_predicted"] = rows[1]["plain_predicted"] = 0.07
    monkeypatch.setattr(plateaus, "convex_rows", lambda runs: rows)
    monkeypatch.setattr(
        plateaus, "network_rows", lambda: [row(3.0, 1.0, part="network", **own, **level)]
    )
    monkeypatch.setattr(plateaus, "logistic_rows", list)
    names = ("weight summary", "convex", "network", "plain plateaus", "plan", "sources")
    page = tmp_path / "docs" / "results" / "predicted.md"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in names))
    realised.main()
    said = page.read_text()
    assert "| near | 0.4 | 0.5 | 0.500 [0.00, 9.00] | 0.500 [0.00, 9.00] |" in said
    assert "| near | 0.5 | **3.00** [0.00, 9.00] | 1.00 [0.400, 2.00] | 3.00 |" in said
    assert "| convex | 0.4 | 8 | 0.01000 | 0.02000 | 0.500 |" in said
    assert said.count("| images | labels |") == 2
    assert "`privilege.py`: 2 cores of an box; torch 9." in said
    written = json.loads((tmp_path / "results" / "predicted_realised.json").read_text())
    assert len(written["weight"]["rows"]) == 4
    assert written["plan"]["summary"]["n"] == 6
    assert written["weight"]["summary"]["network, moments at the optimum"]["n"] == 1
    # Errors fall as 1 / sqrt(n): half a factor of two, or a whole one, in logarithms.
    unchanged = written["plan"]["summary"]["median_absolute_log_ratio_of_last_pilot"]
    assert unchanged == pytest.approx(0.75 * math.log(2), rel=1e-3)
    assert "inside the" in capsys.readouterr().out


def test_the_page_of_the_repository_has_every_marker(load):
    page = (FOLDER.parent / "docs" / "results" / "predicted.md").read_text("utf8")
    names = ("weight summary", "convex", "network", "plain plateaus", "plan", "sources")
    assert load("pages").replaced(page, dict.fromkeys(names, "x")).count("\nx\n") == len(names)
