"""The report's section on weights that were measured while runs trained."""

from __future__ import annotations

import math
import re

import pytest
from helpers.small import QUICK, good_teacher, network, rows

import limbeck as lb
from limbeck.record import RunRecord
from limbeck.report import read_study, render, weighed
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.reporting import diagnosis


NASTY = "<script>alert('x')</script>"


def measurement(step=0, **changes):
    return {
        "step": step, "tr_gg": 4.0, "tr_gh": 3.0, "tr_hh": 3.5, "learning_rate": 0.1,
        "batch_size": 16.0, "curvature": 2.0, "noise_left": 0.5, "hbar2": 0.0015,
        "measured": 0.6, "lower": 0.55, "upper": 0.7, "weight": 0.58,
    } | changes  # fmt: skip


def record(history, **settings):
    return RunRecord(
        kind="distill", seed=3, command="x", status="finished", weighing=history, settings=settings
    )


def shown(one):
    return weighed.section({"kd": [one]}, {"kd": "KD"}, {"kd": 0})


def cells(text):
    """Return the tables' rows after the section's heading, without tags."""
    part = text[text.index("How much was distilled") :]
    found = re.findall(r"<tr>(.*?)</tr>", part[: part.index("</section>")], flags=re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in found]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "healthy"),
        ({"tr_hh": 0.2}, "interpolating teacher"),
        ({"tr_gh": -1.0}, "anti-correlated teacher"),
        ({"lower": 0.2, "upper": 0.7}, "unresolved"),
        # 2 * 16 * 0.02 against 0.1 * 2 * 0.5 * 3.5.
        ({"hbar2": 0.02}, "biased teacher"),
        ({"hbar2": 0.01}, "healthy"),
        ({"hbar2": -1.0}, "healthy"),
    ],
)
def test_the_words_are_those_of_weigh(changes, expected):
    assert weighed.diagnosis(measurement(**changes)) == expected
    assert expected in diagnosis.ACTIONS
    assert weighed.SAME_AS_LABELS == diagnosis.SAME_AS_LABELS
    assert AdaptiveWeight("hbar").freeze_width == weighed.FREEZE_WIDTH


def test_a_run_has_its_own_width():
    wide = [measurement(lower=0.1, upper=0.8)]
    for asked, expected in (
        ("auto", "unresolved"),
        ({"mode": "hbar"}, "unresolved"),
        ({"freeze_width": 0.9}, "healthy"),
        ({"freeze_width": None}, "healthy"),
    ):
        assert shown(record(wide, weight=asked))["rows"][0]["diagnosis"] == expected


def test_the_last_measurement_is_told():
    found = shown(record([measurement(0, weight=0.9), measurement(20, tr_gh=3.25)], weight="auto"))
    (row,) = found["rows"]
    assert row["name"] == "KD, seed 3"
    assert (row["weight"], row["measured"], row["range"]) == ("0.580", "0.600", "[0.550, 0.700]")
    assert row["numbers"] == ["4", "3.25", "3.5", "0.0015", "2"]
    assert (row["noise_left"], row["measurements"], row["step"]) == ("50 %", 2, 20)
    assert found["races"] == []


def test_losspair_and_measurements_that_failed():
    pair = {
        "step": 4, "tr_gg": 2.0, "noise_floor": 0.1, "loss_difference": 0.0, "mean_weight": 0.5,
        "teacher_excess": 0.2, "learning_rate": 0.1, "batch_size": 8.0, "measured": 0.3,
        "lower": 0.25, "upper": 0.4, "weight": 0.3,
    }  # fmt: skip
    broken = pair | {"step": 8, "measured": math.nan, "lower": -math.inf}
    (row,) = shown(record([pair, broken], weight={"mode": "losspair"}))["rows"]
    assert row["numbers"] == ["2", "-", "-", "-", "-"]
    assert (row["diagnosis"], row["measurements"]) == ("biased teacher", 1)
    assert shown(record([broken])) is None


def test_nothing_is_said_of_fixed_weights():
    assert shown(record([], weight=0.5)) is None


def test_long_histories_are_thinned_and_keep_their_end():
    history = [measurement(20 * at, weight=0.5 + at / 1e4) for at in range(4001)]
    found = shown(record(history, weight="auto"))
    assert len(found["figures"][0]["picture"].svg()) < 60_000
    assert found["rows"][0]["measurements"] == 4001


def test_the_page_of_real_runs(tmp_path):
    weight = {"mode": "hbar", "every": 1, "warmup": 0}
    race = weight | {"confirm": True, "pilot": 0.5}
    for name, seed, asked in (("plain", 0, weight), ("plain", 1, weight), ("raced", 0, race)):
        lb.distill(
            network(seed=seed), good_teacher(), rows(), validation=rows(30, seed=6), loss="kd",
            weight=asked, seed=seed, out=tmp_path / "runs" / name / f"seed{seed}",
            **QUICK | {"epochs": 2},
        )  # fmt: skip
    study = read_study([tmp_path / "runs"])
    text = render(study)
    assert text.count("<figcaption>plain, seed 0</figcaption>") == 1  # the first seed's figure
    assert "<figcaption>plain, seed 1</figcaption>" not in text
    table = cells(text)
    for seed in range(2):
        last = study.groups["plain"][seed].weighing[-1]
        row = next(one for one in table if one[0] == f"plain, seed {seed}")
        assert row[1] == f"{last['weight']:.3f}"
        assert row[3:7] == [f"{last[name]:.3g}" for name in ("tr_gg", "tr_gh", "tr_hh", "hbar2")]
    told = study.groups["raced"][0].settings["weight_race"]
    pilots = [row for row in table if row[0] == "raced, seed 0" and len(row) == 7]
    assert [row[1] for row in pilots] == list(weighed.RACED.values())
    assert [row[4].split(" %")[0] for row in pilots] == [
        f"{100 * value:.1f}" for value in told["validation"].values()
    ]
    taken = [row[1] for row in pilots if row[6] == "taken"]
    assert taken == [weighed.RACED[told["winner"]]]


def test_text_of_records_is_escaped(tmp_path):
    race = {"metric": NASTY, "epochs": NASTY, "winner": NASTY, "validation": {NASTY: 0.5}}
    made = record([measurement()], weight="auto", weight_race=race)
    folder = tmp_path / NASTY.replace("/", "")
    made.save(folder)
    text = render(read_study([folder]))
    assert "How much was distilled" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
