"""Parts of the page: names of figures, what stands behind them, and text that stays text."""

import json
import re

from helpers.reports import Page, make_record

from limbeck.report import read_study, render
from limbeck.report.sections import common_and_differing


def test_names_stay_text_in_every_part_and_every_drawing(tmp_path):
    """A class, groups, a path and what lies beside the runs, each called like a script."""
    short = "<script>alert(1)</script>"
    folder = tmp_path / 'it\'s "quoted" <script>'
    bins = [{"rows": 4, "confidence": 0.75, "accuracy": 0.5}]
    details = {
        "part": "test",
        "classes": {"rows": [3, 1], "right": [2, 0], "predicted": [4, 0]},
        "calibration": {"error": 0.25, "bins": bins},
        "agreement": {short: {"rows": 4, "same_class": 0.75, "kl": 0.125}},
    }
    for name in ("control", short.replace("/", "")):
        for seed in range(2):
            made = make_record(name, seed, 0.5 + seed / 10, details=details)
            made.data["class_names"] = ["zero", short]
            made.weighing = [
                {"step": at, "weight": 0.5, "measured": 0.5, "lower": 0.4, "upper": 0.6,
                 "tr_gg": 1.0, "tr_gh": 0.5, "tr_hh": 0.5, "hbar2": 0.1, "curvature": 1.0,
                 "batch_size": 8, "learning_rate": 0.1}
                for at in range(2)
            ]  # fmt: skip
            made.save(folder / name / f"seed{seed}")
    atom = {"value": 1.0, "lower": 0.5, "upper": 1.5, "n": 9, "status": "resolved"}
    atoms = ("redundant", "unique_teacher", "unique_student", "synergistic", "mutual_teacher")
    estimate = dict.fromkeys(atoms, atom) | {
        "verdict": short, "warnings": [short], "target_entropy": 3.0,
        "null": {"unique_teacher": 0.1},
    }  # fmt: skip
    entries = [
        {"teacher": short, "student": f"{short}{at}", "teacher_layer": short,
         "student_layer": short, "estimate": estimate}
        for at in range(2)
    ]  # fmt: skip
    measurement = {"kind": "measurement", "entries": entries, "warnings": [short]}
    one = {"value": 0.5, "lower": 0.25, "upper": 0.75, "status": "resolved"}
    grid = [
        {"weight": at / 2, "noise_left": 1.0, "bias_one_step": 0.1, "bias_long_run": 0.1,
         "plateau": 0.5}
        for at in range(3)
    ]  # fmt: skip
    advice = {"one_step": one, "loss": one, "horizon": one, "floor": 1.0, "diagnosis": short,
              "settings": {"horizon": None}}  # fmt: skip
    weights = {"kind": "weights", "grid": grid, "advice": advice, "advised": "loss",
               "verdict": short, "notes": [short], "weight_in_use": 0.5}  # fmt: skip
    privileges = ("hard_labels", "sampled_probabilities", "soft_labels")
    plan = {"error": 0.5} | {name: {"assumption": short, "status": short} for name in privileges}
    for name, what in (("measurement", measurement), ("weights", weights), ("plan", plan)):
        for at in range(2):
            place = folder / f"{name}{at}"
            place.mkdir()
            (place / f"{name}.json").write_text(json.dumps(what), "utf8")
    text = render(read_study([folder]))
    assert "<script" not in text
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    said = "".join(page.text)
    for heading in ("Class by class", "How sure", "follow their teacher", "gradient's noise",
                    "left to distil", "was planned", "How much was distilled"):  # fmt: skip
        assert heading in said
    assert said.count(short) > 20
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "it&#39;s" not in said  # nothing is escaped twice
    assert re.search(r"<text[^>]*>(\.\.\.)?[^<]*&lt;/script&gt;[01]?</text>", text)


def test_digests_are_shortened_and_told_apart():
    first, other = "0123456789ab" + 52 * "0", "0123456789ac" + 52 * "0"
    groups = {
        name: [make_record(name, 0, 0.5, settings={"loss": "KD", "weights": digest})]
        for name, digest in (("kd", first), ("itrd", other))
    }
    common, differing = common_and_differing(groups)
    assert common["loss"] == "KD"
    assert differing == [("weights", ["0123456789ab", "0123456789ac"])]


def test_every_figure_has_a_name_and_its_data(tmp_path):
    for seed in range(2):
        for name in ("control", "kd"):
            make_record(name, seed, 0.5).save(tmp_path / name / f"seed{seed}")
    text = render(read_study([tmp_path]))
    drawn = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(drawn) == 3
    for figure in drawn:
        assert re.search(r'<svg role="img" aria-label="[^"]{10,}"', figure)
        (table,) = re.findall(
            r"<details><summary>Data</summary>.*?<table>.*?</table>", figure, re.S
        )
        assert table.count("<tr>") > 1
        dashed = re.findall(r"stroke-dasharray: [\d.]+", figure)
        assert dashed  # colour is not the only sign


def test_learning_rates_memory_and_costs_are_shown(tmp_path):
    store = {
        "teacher": {"digest": "t"}, "data": "d", "kind": "logits", "dtype": "fp32", "layers": [],
        "views": 2, "bytes": 2**20, "seconds": 3.0, "pays_after_epochs": 4.0,
    }  # fmt: skip
    curves = {"loss task": [2.0, 1.0], "learning rate": [0.125, 0.0625]}
    time = {"seconds": 10.0, "share teacher": 0.25}
    for name in ("control", "kd"):
        make_record(
            name, 0, 0.5, curves=curves, time=time, memory={"resident": 512.0},
            teacher={"stores": [store]} if name == "kd" else {},
        ).save(tmp_path / name)  # fmt: skip
    page = Page(render(read_study([tmp_path])))
    assert ["2", "0.0625", "0.0625"] in page.rows
    assert ["kd", "a store of logits fp32, 2 views", "200", "3.0 s", "1.0 MiB", "2.5 s", "4.0"] in (
        page.rows
    )
    assert ["kd", "10 s", "512", "teacher 25 %"] in page.rows


def test_long_curves_keep_their_ends_and_the_page_stays_small(tmp_path):
    curves = {"loss task": [float(at) for at in range(5000)]}
    for name in ("control", "kd"):
        make_record(name, 0, 0.5, curves=curves).save(tmp_path / name)
    text = render(read_study([tmp_path]))
    page = Page(text)
    _, *epochs = [int(row[0]) for row in page.rows if len(row) == 3 and row[0].isdigit()]
    assert (epochs[0], epochs[-1]) == (1, 5000)
    assert len(epochs) <= 401
    assert len(text) < 200_000
    assert "one in 13 epochs is shown" in text


def test_one_teacher_live_and_stored_is_one_row(tmp_path):
    store = {
        "teacher": {"digest": "t", "parameters": 777}, "data": "d", "kind": "logits",
        "dtype": "fp32", "layers": [], "views": 1, "bytes": 9, "seconds": 3.0,
    }  # fmt: skip
    told = {"control": {}, "live": {"test": {"accuracy": 0.9375}, "parameters": 777}}
    told["stored"] = {"test": {"accuracy": 0.9375 + 1e-9}, "stores": [store]}
    for name, teacher in told.items():
        settings = {"teacher_stores": [{"kind": name}]}
        make_record(name, 0, 0.5, teacher=teacher, settings=settings).save(tmp_path / name)
    page = Page(render(read_study([tmp_path])))
    (row,) = [row for row in page.rows if row and row[0].startswith("Teacher") and "%" in row[1]]
    assert (row[0], row[1], row[5]) == ("Teacher", "93.8 % one network", "777")
    assert ["teacher stores.0.kind", "control", "live", "stored"] in page.rows
    make_record("other", 0, 0.5, teacher={"test": {"accuracy": 0.5}}).save(tmp_path / "other")
    page = Page(render(read_study([tmp_path])))
    assert {row[0] for row in page.rows if row and row[0].startswith("Teacher ")} == {
        "Teacher 0",
        "Teacher 1",
    }
