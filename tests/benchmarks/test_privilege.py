"""The benchmark of privileges: its arithmetic by closed forms, and all of it at toy scale."""

import argparse
import importlib
import json
import math
import sys
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck import plan


FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
BUDGETS = (250, 500, 1000, 2000, 4000)
PRIVILEGES = ("hard_labels", "sampled_probabilities", "soft_labels")


class AtOnce:
    """An executor without processes, in which what a test replaced stays replaced."""

    def __init__(self, workers):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, run, one):
        done = Future()
        done.set_result(run(one))
        return done


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a script of benchmarks/ anew."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("curves", "figure", "images", "text")
    for name in ("common", "resumable", "privilege", *(f"privilege_{one}" for one in names)):
        monkeypatch.delitem(sys.modules, name, raising=False)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


def repeated(curve, privileges=PRIVILEGES):
    """Return three runs a budget, scattered by 1 % about a curve, one high, one low, one on it."""
    factors = (0.99, 1.0, 1.01)
    return {(one, n): [curve(one, n) * f for f in factors] for one in privileges for n in BUDGETS}


def test_a_curve_is_crossed_between_its_points(load):
    curves = load("privilege_curves")
    points = [(n, n**-0.5) for n in BUDGETS]
    assert curves.crossing(points, 1400**-0.5) == pytest.approx(1400)  # straight in logarithms
    assert curves.crossing(points, 500**-0.5) == pytest.approx(500)
    assert curves.crossing(points, 0.01) == math.inf
    assert curves.crossing(points, 0.9) == 0.0
    uneven = [(100, 0.4), (200, 0.5), (400, 0.2)]  # rises before it falls
    assert curves.crossing(uneven, 0.5) == 0.0
    between = 200 * 2 ** (math.log(0.5 / 0.3) / math.log(0.5 / 0.2))
    assert curves.crossing(uneven, 0.3) == pytest.approx(between)


def test_one_answer_is_worth_what_the_laws_say(load):
    curves = load("privilege_curves")
    laws = {"hard_labels": lambda n: 2 * n**-0.5, "sampled_probabilities": lambda n: 44.8 / n}
    errors = repeated(lambda one, n: laws[one](n), laws)
    found = curves.worth(errors, ("sampled_probabilities", "hard_labels"), BUDGETS, 10)
    ratio = (2 / 0.0448) ** 2 / 1000  # 2 / sqrt(n) comes down to 44.8 / 1000
    assert found["error"] == pytest.approx(0.0448)
    assert found["ratio"] == pytest.approx(ratio)
    assert found["at_least"] is None
    assert found["at_most"] is None
    assert found["planner_by_pilot"] == pytest.approx(ratio, rel=0.05)
    assert found["worst_case"] == pytest.approx(math.e * 0.9 / (2 * math.pi * 0.0448))
    own = found["ratio_over_seeds"]
    assert own["value"] == pytest.approx(ratio)  # a seed's error and curve have the same factor
    assert own["upper"] - own["lower"] == pytest.approx(0, abs=1e-6)


def test_what_is_not_reached_has_a_bound_in_place_of_a_number(load):
    curves = load("privilege_curves")
    levels = {"hard_labels": 1.0, "sampled_probabilities": 0.1}
    errors = repeated(lambda one, n: levels[one] * (0.1 + n**-0.5), levels)
    found = curves.worth(errors, ("sampled_probabilities", "hard_labels"), BUDGETS, 10)
    assert [found[key] for key in ("ratio", "at_least", "at_most")] == [None, 4.0, None]
    assert found["ratio_over_seeds"] is None


def test_a_better_kind_that_is_worse_is_worth_less_than_the_first_budget(load):
    curves = load("privilege_curves")
    levels = {"hard_labels": 0.1, "sampled_probabilities": 1.0}
    errors = repeated(lambda one, n: levels[one] * (0.1 + n**-0.5), levels)
    found = curves.worth(errors, ("sampled_probabilities", "hard_labels"), BUDGETS, 10)
    assert [found[key] for key in ("ratio", "at_least", "at_most")] == [None, None, 0.25]


@pytest.mark.parametrize(("exponent", "status"), [(0.5, "exact"), (0.9, "resolved")])
def test_the_fit_is_that_of_the_plan(load, exponent, status):
    curves = load("privilege_curves")
    factors = 1 + 1e-4 * np.array([-1, 0, 1])
    errors = {("hard_labels", n): (0.02 + 30 * n**-exponent / 3) * factors for n in BUDGETS}
    data = curves.pilot(errors, "hard_labels", BUDGETS)
    assert data[0].tolist() == [250] * 3 + [500] * 3 + [1000] * 3
    fit = curves.planners_fit("hard_labels", *data)
    assert fit.exponent.status == status
    planned, needed = plan(error=0.1, pilot={"hard_labels": data}).hard_labels, fit.needed(0.1)
    assert planned.status == needed.status
    assert planned.interval == (needed.queries.lower, needed.queries.upper)


def test_the_interval_is_that_of_linear_regression(load):
    curves = load("privilege_curves")
    errors = repeated(lambda _, n: 0.2 + 3 * n**-0.5, ["hard_labels"])
    sizes, values = curves.pilot(errors, "hard_labels", BUDGETS)
    fit = curves.planners_fit("hard_labels", sizes, values)
    assert fit.exponent.status == "exact"
    for size in (1000.0, 4000.0):
        value, lower, upper = curves.foreseen(fit, size)
        # floor and scale are free of their bounds here: weighted least squares, relative errors
        weights = np.repeat(fit.groups.weights, 3)
        design = np.stack([np.ones(9), sizes**-0.5], 1)
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        best = inverse @ design.T @ (weights * values)
        misfit = weights @ (values - design @ best) ** 2
        at = np.array([1.0, size**-0.5])
        half = math.sqrt((fit.limit - misfit) * (at @ inverse @ at))
        assert value == pytest.approx(at @ best, rel=1e-6)
        assert [lower, upper] == pytest.approx([at @ best - half, at @ best + half], rel=1e-4)


def test_predictions_say_what_was_missed(load):
    curves = load("privilege_curves")

    def floored(_, n):
        return 3 * n**-0.5 if n <= 1000 else 0.3

    errors = repeated(floored, ["hard_labels"])
    found = curves.predictions(errors, "hard_labels", BUDGETS)
    assert found["pilot_runs"] == 9
    assert [at["queries"] for at in found["at"]] == [2000, 4000]
    assert not any(at["inside"] for at in found["at"])
    last = found["at"][1]
    assert last["measured"] == pytest.approx(0.3)
    assert last["foreseen_over_measured"] == pytest.approx(last["foreseen"] / 0.3)
    data = curves.pilot(errors, "hard_labels", BUDGETS)
    advised = plan(error=last["measured"], pilot={"hard_labels": data}).hard_labels
    assert last["planner_for_measured_error"]["planning"] == advised.planning


def test_distances_are_those_of_plain_loops(load):
    images = load("privilege_images")
    student, teacher = (torch.randn(4, 3, generator=torch.manual_seed(s)).double() for s in (0, 1))
    variation = divergence = 0.0
    for row in range(4):
        p, t = (
            [math.exp(one) / sum(map(math.exp, side[row].tolist())) for one in side[row].tolist()]
            for side in (student, teacher)
        )
        variation += sum(abs(a - b) for a, b in zip(p, t, strict=True)) / 2 / 4
        divergence += sum(b * math.log(b / a) for a, b in zip(p, t, strict=True)) / 4
    found = images.distances(student, teacher)
    assert found["total_variation"] == pytest.approx(variation)
    assert found["kl_nats"] == pytest.approx(divergence)


SET_UP = {
    "data": "digits", "teacher_rows": 300, "pool": 300, "held_out": 100, "teacher": (4, 2),
    "student": (2, 2), "teacher_epochs": 1, "budgets": (20, 40, 80, 160), "batch": 20, "steps": 8,
}  # fmt: skip


def test_images_from_the_teacher_to_the_file(load, monkeypatch, tmp_path, capsys):
    privilege = load("privilege")
    images, common, resumable = (load(n) for n in ("privilege_images", "common", "resumable"))
    sizes = images.Sizes(**SET_UP)
    monkeypatch.setattr(images, "SIZES", {"quick": sizes, "full": sizes})
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(resumable, "ProcessPoolExecutor", AtOnce)
    out = tmp_path / "runs"
    options = ["--cases", "images", "--seeds", "0", "1", "--workers", "1", "--out", str(out)]

    monkeypatch.setattr(sys, "argv", ["privilege.py", *options, "--quick"])
    privilege.main()
    assert not (tmp_path / "results").exists()
    assert (out / "privilege.svg").read_text().count("<svg") == 1
    lines = (out / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 4 * 2

    (out / "runs.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])  # a kill
    monkeypatch.setattr(sys, "argv", ["privilege.py", *options])
    capsys.readouterr()
    privilege.main()
    said = capsys.readouterr().out
    assert "1 of 1: " in said
    written = json.loads((tmp_path / "results" / "privilege.json").read_text())
    case = written["cases"]["images"]
    assert len(written["runs"]) == 24
    assert {row["total_variation"]["n"] for row in case["measured"]} == {2}
    assert list(case["predictions"]) == list(PRIVILEGES)
    assert 0 < case["facts"]["teacher_entropy_nats"] < math.log(10)
    before = json.loads(lines[-1])  # the run that was cut off; it is made once more
    key = ("privilege", "queries", "seed")
    (again,) = (r for r in written["runs"] if all(r[k] == before[k] for k in key))
    assert again["total_variation"] == pytest.approx(before["total_variation"], rel=1e-4)
    assert (tmp_path / "results" / "privilege.svg").exists()

    other = sizes._replace(steps=9)
    monkeypatch.setattr(images, "SIZES", {"full": other})
    with pytest.raises(SystemExit, match="other settings"):
        privilege.main()


def test_students_of_every_budget_make_the_same_number_of_steps(load, monkeypatch, tmp_path):
    images = load("privilege_images")
    sizes = images.Sizes(**SET_UP)
    monkeypatch.setattr(images, "SIZES", {"full": sizes})
    torch.save([torch.zeros(sizes.pool, 10), torch.zeros(100, 10)], tmp_path / "images-answers.pt")
    o = argparse.Namespace(quick=False, images=None, image_folder=None, out=tmp_path)
    asked = []
    monkeypatch.setattr(images, "distill", lambda *given, **options: asked.append((given, options)))
    for budget in sizes.budgets:
        images.run("soft_labels", budget, 0, o)
    assert [len(given[2]) for given, _ in asked] == list(sizes.budgets)
    steps = [one["epochs"] * len(given[2]) / one["batch_size"] for given, one in asked]
    assert steps == [sizes.steps] * len(sizes.budgets)
    assert {one["weight"] for _, one in asked} == {1.0}


def test_published_sizes_divide_into_whole_passes(load):
    for sizes in load("privilege_images").SIZES.values():
        assert all(n % sizes.batch == 0 == sizes.steps * sizes.batch % n for n in sizes.budgets)
    for sizes in load("privilege_text").SIZES.values():
        assert all(n % sizes.window == 0 for n in sizes.budgets)


def test_students_ask_about_images_that_taught_nobody(load):
    images = load("privilege_images")
    given = images.material(images.Sizes(**SET_UP), None)
    parts = (given.rows, given.pool, given.held_out)
    seen = [
        {
            image.numpy().tobytes()
            for batch in rows.batches(rows.in_order(50))
            for image in batch.inputs
        }
        for rows in parts
    ]
    assert [len(one) for one in seen] == [300, 300, 100]
    assert len(set.union(*seen)) == 700


@pytest.fixture
def text(load, tmp_path, monkeypatch):
    module = load("privilege_text")
    words = ("what", "is", "a", "query", "worth", "to", "her")
    drawn = np.random.default_rng(0).integers(len(words), size=1500)
    path = tmp_path / "text.txt"
    path.write_text(" ".join(words[one] for one in drawn))
    o = argparse.Namespace(quick=True, text=path, out=tmp_path)
    return module, o


def test_text_students_learn_by_each_privilege(text):
    module, o = text
    facts = module.prepare(o)
    assert facts["labels"] == len(set("whatisaqueryworthtoher "))
    assert 0 < facts["teacher_entropy_nats"] < math.log(facts["labels"])
    found = {one: module.run(one, 256, 0, o) for one in PRIVILEGES}
    assert all(0 < one["total_variation"] < 1 for one in found.values())
    assert len({one["total_variation"] for one in found.values()}) == 3
    assert module.run("soft_labels", 256, 0, o) == pytest.approx(found["soft_labels"], rel=1e-4)


def test_text_parts_share_no_window(text):
    module, o = text
    sizes = module.sizes_of(o)
    given, whole = module.material(sizes, o.text), module.read(o.text)
    letters = sorted(set(whole))
    rows = "".join(letters[one] for one in given.rows.flatten().tolist())
    assert whole.startswith(rows)
    pool = "".join(letters[one] for one in given.pool.flatten().tolist())
    assert pool in whole[len(rows) :]
    rest = whole[round(module.STUDENT_PART * len(whole)) :]
    for window in given.held_out:
        assert "".join(letters[one] for one in window.tolist()) in rest


def test_labels_are_the_teachers_draws(load):
    module = load("privilege_text")
    row = torch.tensor([0.7, 0.2, 0.1]).log()
    logits = (row + 3.0).expand(50, 80, 3)
    labels, reported = module.drawn(logits, 0, 1)
    assert labels.shape == reported.shape == (50, 80)
    assert torch.allclose(reported, row[labels])
    shares = torch.bincount(labels.flatten(), minlength=3) / 4000
    spread = (row.exp() * (1 - row.exp()) / 4000).sqrt()
    assert ((shares - row.exp()).abs() < 4 * spread).all()
    assert (module.drawn(logits, 1, 1)[0] != labels).any()


def test_every_pass_has_each_row_once(load):
    module = load("privilege_text")
    rows = torch.cat(list(module.batches(6, 2, 9, 0)))
    assert rows.view(3, 6).sort(1).values.tolist() == [list(range(6))] * 3
    assert [len(part) for part in module.batches(3, 8, 4, 0)] == [3] * 4
