"""The report's section on what was forecast, and what came."""

from __future__ import annotations

import json
import math
import re

import pytest
from scipy import stats

from limbeck.estimates import Estimate
from limbeck.forecasting.result import Forecast, ForecastEntry
from limbeck.record import RunRecord
from limbeck.report import write_report
from limbeck.report.forecast_file import read_forecasts
from limbeck.report.intervals import Interval, Pair, pairs_svg


NASTY = "<script>alert('x')</script>"
CONTROL = {0: (0.70, 1.0), 1: (0.72, 0.9), 2: (0.74, 0.8)}  # accuracy, cross-entropy [nats]
KD = {0: (0.74, 0.8), 1: (0.78, 0.6), 2: (0.78, 0.7)}


def gain(value, lower, upper, unit, status="resolved"):
    return Estimate(value, lower, upper, 108, unit, status, {"level": 0.9})


def entry(points=(3.0, 1.0, 6.0), bits=(0.25, -0.5, 0.75), outside=(), teacher="t", **changes):
    status = "unresolved" if outside else "resolved"
    shares = {"accuracy": {"accuracy_gap": -1.25, "corrects": 0.5}, "cross_entropy": {}}
    fields = {
        "teacher": teacher, "layer": None, "accuracy": gain(*points, "points", status),
        "cross_entropy": gain(*bits, "bits", status), "shares": shares, "outside": outside,
        "figures": {"accuracy_gap": 12.5}, "missing": (), "seconds": {"scores": 0.5},
    }  # fmt: skip
    return ForecastEntry(**fields | changes)


def forecast(*entries, loss="kd", warnings=()):
    data = {"name": "rows", "rows": 503, "labelled": 50, "validation": 252}
    return Forecast(entries or (entry(),), loss, 108, data, {"steps": 1576}, 2.0, warnings)


def run(folder, name, results, loss=None, weight=None):
    for seed, (accuracy, cross_entropy) in results.items():
        found = {"accuracy": accuracy, "cross_entropy": cross_entropy}
        RunRecord(
            kind="distill" if loss else "train", seed=seed, status="finished",
            settings={"loss": loss, "weight": weight}, results={"last": {"test": found}},
        ).save(folder / name / f"seed{seed}")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, "control", CONTROL)
    run(tmp_path, "kd", KD, "KD")
    return tmp_path


def page(folder):
    text = write_report([folder], folder / "report.html").read_text("utf8")
    return text.replace("\u2212", "-").replace("&#39;", "'")


def part(folder):
    """Return the section's HTML."""
    text = page(folder)
    text = text[text.index("<h2>What was forecast") :]
    return text[: text.index("</section>")]


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [[" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in row] for row in found]


def differences():
    """Return what came: means and 95 % ends in points and in bits, by scipy."""
    found = []
    for place, factor in ((0, 100.0), (1, -1.0 / math.log(2.0))):
        own, other = ([factor * one[place] for one in group.values()] for group in (KD, CONTROL))
        test = stats.ttest_rel(own, other)
        ends = test.confidence_interval(0.95)
        mean = sum(own) / 3 - sum(other) / 3
        found.append((mean, float(ends.low), float(ends.high)))
    return found


def test_expected_gain_verdict_reason_and_cost_are_told(folder):
    forecast(warnings=("three rows are shared.",)).save(folder)
    html = part(folder)
    assert cells(html)[1] == [
        "kd",
        "+3.0 [+1.0, +6.0] helps",
        "+0.25 [-0.50, +0.75] cannot tell",
        "teacher's accuracy less the short control's -1.2 points",
    ]
    assert 'class="mark better">helps' in html
    assert 'class="mark inconclusive">cannot tell' in html
    assert "over 108 distillations" in html
    assert "90 % intervals" in html
    assert "1,576 optimiser steps on 503 rows, 50 of them with a label" in html
    assert "252 held-out rows" in html
    reason = "Decided by accuracy_gap (teacher's accuracy less the short control's): 12.5 points."
    assert reason in html
    assert "three rows are shared." in html
    assert "The forecast cost 2.5 s (short control 2.0 s, scores 0.5 s)." in html


def test_what_came_is_the_paired_difference_in_points_and_bits(folder):
    forecast().save(folder / "forecast" / "kd")
    html = part(folder)
    assert "<h2>What was forecast, and what came</h2>" in html
    points, bits = differences()
    ends = "[{1:+.1f}, {2:+.1f}]".format(*points)
    assert (
        f"kd, accuracy: {points[0]:+.1f} points {ends} over 3 seeds came, inside of the forecast's "
        "interval [+1.0, +6.0]."
    ) in html
    ends = "[{1:+.2f}, {2:+.2f}]".format(*bits)
    assert (
        f"kd, cross-entropy: {bits[0]:+.2f} bits {ends} over 3 seeds came, inside of the "
        "forecast's interval [-0.50, +0.75]."
    ) in html
    data = cells(html)[-3::2]  # each below a line of names
    assert data[0] == ["kd", "Accuracy [points]", "+3.0", "+1.0", "+6.0"] + [
        f"{one:+.1f}" for one in points
    ]
    assert data[1] == ["kd", "Cross-entropy [bits]", "+0.25", "-0.50", "+0.75"] + [
        f"{one:+.2f}" for one in bits
    ]
    assert html.count("<svg") == 2
    assert "on test rows" in html


@pytest.mark.parametrize(
    ("ends", "place"),
    [((5.0, 6.0), "below"), ((1.0, 4.5), "above"), ((4.6, 4.7), "inside of")],
)
def test_where_it_lies_is_by_the_mean(folder, ends, place):
    lower, upper = ends  # what came: 4.67 points
    forecast(entry((sum(ends) / 2, lower, upper))).save(folder)
    assert f"seeds came, {place} the forecast's interval [+{lower}, +{upper}]" in part(folder)


def test_a_case_outside_of_the_grid_has_an_interval_and_no_number(folder):
    forecast(entry((3.25, 1.0, 6.0), outside=("classes is 9, the grid's 3 to 4",))).save(folder)
    html = part(folder)
    shown = "unresolved [+1.0, +6.0] outside of what I have seen"
    assert cells(html)[1][1] == shown
    assert 'class="mark unresolved"' in html
    assert "3.2" not in html
    assert "Outside of what was seen: classes is 9, the grid's 3 to 4." in html
    assert cells(html)[-3][2:5] == ["unresolved", "+1.0", "+6.0"]
    accuracy = html[html.index("<svg") : html.index("</svg>")]
    assert accuracy.count("<circle") == 1  # of what came


def test_an_interval_without_ends(folder):
    forecast(entry((3.0, -math.inf, math.inf))).save(folder)
    html = part(folder)
    assert "+3.0 [-∞, +∞] cannot tell" in cells(html)[1]
    assert "inside of the forecast's interval [-∞, +∞]" in html


def test_several_teachers_are_ranked_and_nothing_is_set_against_them(folder):
    entries = [entry(teacher="low"), entry((5.0, 1.0, 6.0), teacher="high", layer="body")]
    entries.append(entry((9.0, 1.0, 9.5), outside=("far",), teacher="strange"))
    forecast(*entries).save(folder)
    html = part(folder)
    names = [row[0] for row in cells(html)[1:]]
    assert names == ["kd, high (body)", "kd, low", "kd, strange"]
    assert "strange: Outside of what was seen: far." in html
    assert "what came" not in html


def test_missing_figures_are_named(folder):
    forecast(entry(missing=("cka", "renyi"), figures={})).save(folder)
    html = part(folder)
    assert "Not to be had, and taken as typical: cka, renyi." in html
    assert "short control's): unknown." in html


def test_only_runs_of_that_loss_with_its_published_weight_are_compared(folder):
    run(folder, "itrd", KD, "ITRD")
    run(folder, "light", KD, "KD", weight=0.1)
    run(folder, "teacher", {0: (0.9, 0.1)}, "KD")
    forecast().save(folder)
    html = part(folder)
    assert [row[0] for row in cells(html)] == ["Method", "kd"] * 3  # one table a figure
    forecast(loss="full_kl").save(folder)
    assert "what came" not in part(folder)
    run(folder, "other", KD, "FullKL")
    assert "other, accuracy: +4.7 points" in part(folder)


def test_two_groups_of_a_loss_are_told_apart(folder):
    run(folder, "again", KD, "KD")
    forecast().save(folder)
    html = part(folder)
    assert [row[0] for row in cells(html)[-6:]] == ["Method", "kd (again)", "kd (kd)"] * 2
    assert html.count('class="reach"') == 8


def test_titles_are_those_of_the_demo(folder):
    RunRecord(kind="demo", seed=0, settings={"titles": {"kd": "KD!"}, "control": "control"}).save(
        folder
    )
    forecast().save(folder / "forecast" / "kd")
    html = part(folder)
    assert cells(html)[1][0] == "KD!"
    assert "KD!, accuracy: +4.7 points" in html


def test_one_seed_says_nothing_of_what_came(tmp_path):
    run(tmp_path, "control", {0: CONTROL[0]})
    run(tmp_path, "kd", {0: KD[0]}, "KD")
    forecast().save(tmp_path)
    html = part(tmp_path)
    assert "kd, accuracy: one seed, which has no interval, does not say what came." in html
    assert "<svg" not in html
    assert cells(html)[-2] == ["kd", "Accuracy [points]", "+3.0", "+1.0", "+6.0", "", "", ""]


def test_without_a_control_or_results_the_forecast_stands_alone(tmp_path):
    run(tmp_path, "kd", KD, "KD")
    forecast().save(tmp_path)
    assert "<h2>What was forecast</h2>" in part(tmp_path)
    RunRecord(kind="distill", seed=0, status="running").save(tmp_path / "b" / "kd" / "seed0")
    forecast().save(tmp_path / "b")
    assert "<h2>What was forecast</h2>" in part(tmp_path / "b")


def test_runs_with_accuracy_alone_are_compared_by_it(folder):
    for path in folder.glob("*/*/record.json"):
        record = RunRecord.open(path.parent)
        del record.results["last"]["test"]["cross_entropy"]
        record.save(path.parent)
    forecast().save(folder)
    html = part(folder)
    assert html.count("<svg") == 1
    assert "cross-entropy:" not in html


def test_forecasts_lie_in_three_places_and_alike_ones_have_their_folder(folder):
    for place in (".", "forecast", "forecast/kd"):
        forecast().save(folder / place)
    forecast(loss="itrd").save(folder / "forecast" / "itrd")
    html = part(folder)
    names = [row[0] for row in cells(html)[1:5]]
    assert names == [f"kd ({folder.name})", "kd (forecast)", "itrd", "kd (kd)"]


def test_without_a_forecast_there_is_no_section(folder):
    assert read_forecasts(folder) == ({}, [])
    assert "forecast" not in page(folder)


def damaged(change):
    told = json.loads(json.dumps(forecast().to_dict()))
    change(told)
    return json.dumps(told)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "null", '{"kind": "measurement"}', b"\xff\xfe{}",
        damaged(lambda told: told.update(format=2)),
        damaged(lambda told: told.update(entries=[])),
        damaged(lambda told: told.update(ranking=[1])),
        damaged(lambda told: told["entries"][0]["gains"].pop("accuracy")),
        damaged(lambda told: told["entries"][0]["verdicts"].pop("cross_entropy")),
        damaged(lambda told: told["entries"][0]["gains"]["accuracy"].update(value="4")),
        damaged(lambda told: told["entries"][0]["gains"]["accuracy"].update(value=math.nan)),
        damaged(lambda told: told["entries"][0]["gains"]["accuracy"].update(status="maybe")),
        damaged(lambda told: told["entries"][0]["gains"]["accuracy"]["settings"].clear()),
        damaged(lambda told: told.update(seconds={"scores": None})),
    ],
)  # fmt: skip
def test_a_damaged_forecast_is_named_and_stops_nothing(folder, text):
    forecast(loss="itrd").save(folder)
    path = folder / "forecast" / "kd" / "forecast.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    html = page(folder)
    warnings = html[html.index("Before you believe") : html.index("<h2>Results")]
    assert warnings.count("expected a forecast of limbeck; ") == 1
    assert "forecast/kd/forecast.json: expected" in warnings
    assert "It is left out: forecast again." in warnings
    assert [row[0] for row in cells(part(folder))[1:]] == ["itrd"]


def test_cells_say_what_they_are_where_they_are_stacked_on_a_phone(folder):
    forecast().save(folder)
    table = part(folder)
    head = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', table[: table.index("</thead>")])
    row = table[table.index("<tbody>") : table.index("</tr>", table.index("<tbody>"))]
    assert re.findall('data-label="(.*?)"', row) == head[1:]
    assert '<table class="results">' in table[: table.index("<thead>")]


def test_a_folder_in_its_place_is_no_forecast(folder):
    (folder / "forecast.json").mkdir()
    assert read_forecasts(folder) == ({}, [])


def test_text_of_forecasts_is_escaped(tmp_path):
    control, other = NASTY.replace("/", ""), f"b{NASTY.replace('/', '')}"
    run(tmp_path, control, CONTROL)
    run(tmp_path, other, KD, NASTY)
    one = entry(outside=(NASTY,), missing=(NASTY,), seconds={NASTY: 1.0})
    forecast(one, loss=NASTY, warnings=(NASTY,)).save(tmp_path)
    text = page(tmp_path)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 8
    assert "<svg" in part(tmp_path)


def lines(svg, kind):
    found = re.findall(r"<line ([^>]*)/>", svg)
    return [dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in found if f'"{kind}"' in one]


def test_the_drawing_has_both_intervals_around_zero():
    pair = Pair("a", Interval("forecast", 1.0, -2.0, 6.0), Interval("came", 3.0, 2.0, 4.0))
    svg = str(pairs_svg([pair], "points"))
    (zero,) = lines(svg, "zero")
    forecast, came = ([float(one[at]) for at in ("x1", "x2", "y1")] for one in lines(svg, "reach"))
    assert forecast[2] < came[2]  # y grows downwards
    scale = (forecast[1] - forecast[0]) / 8.0
    assert float(zero["x1"]) == pytest.approx(forecast[0] + 2.0 * scale, abs=0.2)
    assert came[0] == pytest.approx(forecast[0] + 4.0 * scale, abs=0.2)
    assert came[1] == pytest.approx(forecast[0] + 6.0 * scale, abs=0.2)
    dots = [float(x) for x in re.findall(r'<circle cx="([^"]*)"', svg)]
    assert dots == pytest.approx([forecast[0] + 3.0 * scale, forecast[0] + 5.0 * scale], abs=0.2)
    assert len(lines(svg, "cap")) == 4
    ticks = dict(re.findall(r'<text x="([^"]*)"[^>]*>([^<]*\d)</text>', svg))
    for x, number in ticks.items():
        value = float(number.replace("\u2212", "-"))
        assert float(x) == pytest.approx(float(zero["x1"]) + value * scale, abs=0.2)
    assert len(ticks) >= 4
    assert min(map(float, ticks)) > 70


def test_an_end_at_infinity_runs_to_the_edge():
    pair = Pair("a", Interval("f", None, -math.inf, 1.0), Interval("c", 0.0, -1.0, 1.0))
    svg = str(pairs_svg([pair], "bits"))
    first, second = lines(svg, "reach")
    assert float(first["x1"]) == 76.0
    assert float(first["x2"]) == float(second["x2"]) < 446.0
    assert len(lines(svg, "cap")) == 3


def test_zero_is_shown_where_no_interval_holds_it():
    one = Interval("f", 5.0, 4.0, 6.0)
    (zero,) = lines(str(pairs_svg([Pair("a" * 80, one, one)] * 2, "bits")), "zero")
    assert 76.0 < float(zero["x1"]) < 120.0
    flat = Interval("f", 0.0, 0.0, 0.0)
    (zero,) = lines(str(pairs_svg([Pair("a", flat, flat)], "bits")), "zero")
    assert float(zero["x1"]) == (76.0 + 446.0) / 2
