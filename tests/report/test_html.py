"""The report as a reader's browser gets it: whole, without addresses, with the records' numbers."""

import math
import re

import pytest
from helpers.reports import ACCURACY, NASTY, Page, make_record
from scipy import stats

from limbeck.checks import ArgumentError, DataError
from limbeck.report import read_study, render, write_report


@pytest.fixture
def folder(tmp_path):
    for name, values in ACCURACY.items():
        for seed, value in enumerate(values):
            make_record(name, seed, value).save(tmp_path / "runs" / name / f"seed{seed}")
    return tmp_path / "runs"


@pytest.fixture
def page(folder):
    return Page(write_report([folder], folder / "report.html").read_text(encoding="utf8"))


def test_file_loads_nothing_and_runs_nothing(folder):
    path = write_report([folder], folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf8")
    assert path.stat().st_size < 2**20
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img", "base", "image"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                assert (value or "").startswith("#"), (tag, name, value)
            elif not name.startswith("xmlns"):
                assert "://" not in (value or ""), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "<!DOCTYPE svg" not in text
    assert "<metadata" not in text


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    for _, attributes in page.tags:
        for value in attributes.values():
            for target in re.findall(r"^#(.+)|url\(#([^)]+)\)", value or ""):
                assert "".join(target) in ids


def test_table_has_the_numbers_of_the_records(page):
    control = ACCURACY["control"]
    for name, values in ACCURACY.items():
        row = page.row(name)
        interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert row[1] == (
            f"{100 * sum(values) / 3:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        )
        assert row[5:7] == ["1,442", "4.0 s"]  # seeds took 3, 4 and 5 s
        if name == "control":
            assert row[2:5] == ["", "", ""]
            continue
        gains = [100 * (value - base) for value, base in zip(values, control, strict=True)]
        paired = stats.ttest_rel(values, control).confidence_interval(0.95)
        shown = (
            f"{sum(gains) / 3:+.1f} [{100 * paired.low:+.1f}, {100 * paired.high:+.1f}]"
        ).replace("-", "−")
        won = sum(gain > 0 for gain in gains)
        assert row[2:5] == [shown, {"kd": "better", "itrd": "inconclusive"}[name], f"{won} of 3"]
    teacher = page.row("Teacher")
    assert teacher[1] == "98.1 % one network"
    assert teacher[5] == "53,362"


def test_seeds_stand_below_unrounded(page):
    for seed in range(3):
        expected = [str(seed), *(repr(ACCURACY[name][seed]) for name in ("control", "itrd", "kd"))]
        assert expected in page.rows


def test_verdict_is_the_first_sentence(page):
    text = " ".join("".join(page.text).split())
    assert (
        "Against “control”, in test accuracy over 3 seeds: itrd is inconclusive (+1.1 points "
    ) in text
    assert "kd is better by 19.8 points [" in text
    assert text.index("Against") < text.index("Results")


def test_figures_have_their_data_behind_them(page):
    figures = [tag for tag, _ in page.tags].count("figure")
    assert figures == 3
    captions = "".join(page.text)
    for caption in ("Validation accuracy [%]", "Task loss on the training rows [nats]"):
        assert caption in captions
    assert ["1", "1.9", "1.9", "1.9"] in page.rows  # task loss: mean of 2.0, 1.9 and 1.8
    assert ["2", "51", "51", "51"] in page.rows  # validation accuracy in percent
    assert ["3", "0", "0", "0"] not in page.rows  # validation was not looked at in epoch 3
    assert ["3", "-1", "-1"] in page.rows  # distillation loss, of the two that have one
    svgs = [found for tag, found in page.tags if tag == "svg" and "focusable" in found]
    assert [found["role"] for found in svgs] == ["img"] * 3
    assert all("viewbox" in attributes and "width" not in attributes for attributes in svgs)


def test_figures_take_their_colours_from_the_page(folder):
    text = write_report([folder], folder).read_text(encoding="utf8")
    assert "currentColor" in text
    assert "var(--series-0)" in text
    drawn = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    for figure in drawn:
        assert not re.search(r"(fill|stroke): #(?!ffffff)", figure)


def test_report_is_the_same_each_time(folder):
    first = write_report([folder], folder / "a.html").read_bytes()
    assert first == write_report([folder], folder / "b.html").read_bytes()


def test_text_of_users_is_escaped(tmp_path):
    name = "a<b>&$x_1$"
    make_record("kd", 0, 0.5, warnings=[NASTY], command=f"limbeck '{NASTY}'").save(
        tmp_path / name / "seed0"
    )
    make_record("control", 0, 0.4, settings={NASTY: NASTY}).save(tmp_path / "control" / "seed0")
    text = render(read_study([tmp_path]))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, _ in page.tags}
    assert "".join(page.text).count(NASTY) >= 5  # class name, warning, command, setting, its value
    assert page.row(name)
    assert re.search(r"<text[^>]*>a&lt;b&gt;&amp;\$x_1\$</text>", text)  # no mathematics in figures


def test_everything_needed_to_repeat_is_said(page):
    text = " ".join("".join(page.text).split())
    for part in (
        "limbeck distill recipe.yaml --seeds 3",
        "Seeds: 0, 1, 2.",
        "torch",
        "2.13.0",
        "cores",
        "epochs",
        "data 25 %, student 75 %",
    ):
        assert part in text
    assert text.count("limbeck distill recipe.yaml") == 1  # once, not once a run
    assert ["loss", "control", "itrd", "kd"] in page.rows
    assert ["milestones", "1, 2"] in page.rows


def test_warnings_stand_before_the_results(tmp_path):
    for seed, accuracy in enumerate((0.5, 0.6)):
        make_record("control", seed, accuracy).save(tmp_path / "control" / f"seed{seed}")
        make_record(
            "kd",
            seed,
            accuracy,
            warnings=["teacher: sees raw pixels", *(["only once"] if seed else [])],
            hardware={"cores": 2 + seed},
            status="finished" if seed == 0 else "interrupted",
        ).save(tmp_path / "kd" / f"seed{seed}")
    text = " ".join("".join(Page(render(read_study([tmp_path]))).text).split())
    before = text[: text.index("Results")]
    assert "kd: teacher: sees raw pixels" in before
    assert "kd, seed 1: only once" in before
    assert "different hardware" in before
    assert "kd, seed 1: the run is interrupted" in before
    assert "different versions" not in before
    assert "kd cannot be judged from one seed" in before


def test_assumptions_of_losses_are_shown_over_their_seeds(folder):
    plain = write_report([folder], folder / "plain.html").read_text(encoding="utf8")
    assert "take for granted" not in plain
    name = "I(Y; teacher's filter | student's filter), layer 1"
    cells = [
        {"bits": 0.1, "lower": 0.05, "upper": 0.2, "rows": 539.0},
        {"bits": 0.31, "lower": 0.2, "upper": 0.4, "rows": 539.0},
    ]
    for seed, cell in enumerate(cells):
        results = {"last": {"test": {"accuracy": 0.5}, name: cell}}
        make_record("rid", seed, 0.5, results=results).save(folder / "rid" / f"seed{seed}")
    page = Page(write_report([folder], folder / "report.html").read_text(encoding="utf8"))
    assert ["rid", name, "0.21 0.05 to 0.40", "2"] in [
        [row[0].lower(), *row[1:]] for row in page.rows if len(row) == 4
    ]


def test_one_run_gives_a_number_and_no_interval(tmp_path):
    folder = make_record("kd", 7, 0.9137).save(tmp_path / "kd").parent
    page = Page(render(read_study([folder])))
    assert page.row("kd")[1] == "91.4 % one seed, no interval"
    text = " ".join("".join(page.text).split())
    assert "One run, kd, reached 91.4 % test accuracy" in text
    assert "inf" not in text.replace("information", "").lower()


def test_runs_given_one_by_one_are_compared(tmp_path):
    first = make_record("control", 0, 0.5).save(tmp_path / "plain").parent
    second = make_record("kd", 0, 0.7).save(tmp_path / "kd").parent
    study = read_study([first, second])
    assert (list(study.groups), study.control) == (["plain", "kd"], "plain")
    assert Page(render(study)).row("kd")[2:4] == ["one seed, no interval", "unresolved"]


def test_control_is_the_group_of_that_name_among_several_without_a_teacher(tmp_path):
    for name in ("control", "smoothed", "kd"):
        make_record(name, 0, 0.5, kind="distill" if name == "kd" else "train").save(tmp_path / name)
    assert read_study([tmp_path]).control == "control"
    (tmp_path / "control").rename(tmp_path / "plain")
    assert read_study([tmp_path]).control is None  # two candidates: none is guessed
    assert read_study([tmp_path], control="plain").control == "plain"


def test_without_a_result_the_report_says_so(tmp_path):
    make_record("kd", 0, 0.5, status="running", results={}).save(tmp_path / "kd")
    text = "".join(Page(render(read_study([tmp_path]))).text)
    assert "No run has finished with a result yet." in text
    assert "run is running" in text


def test_validation_stands_in_where_there_is_no_test(tmp_path):
    for seed in range(2):
        results = {"last": {"validation": {"mse": 1.5 + seed}}}
        make_record("kd", seed, 0.0, results=results).save(tmp_path / "kd" / f"seed{seed}")
    page = Page(render(read_study([tmp_path])))
    half = stats.t.ppf(0.975, 1) * math.sqrt(0.5) / math.sqrt(2)
    assert page.row("kd")[1] == f"2 [{2 - half:.4g}, {2 + half:.4g}]".replace("-", "−")
    assert "less is better" in "".join(page.text)


def test_a_trained_teacher_is_a_row_and_no_competitor(tmp_path):
    make_record("control", 0, 0.99).save(tmp_path / "teacher" / "seed0")
    for seed in range(2):
        make_record("control", seed, 0.5 + 0.1 * seed).save(tmp_path / "control" / f"seed{seed}")
    page = Page(render(read_study([tmp_path])))
    assert page.row("teacher")[1] == "99.0 % one network"
    assert page.row("teacher")[2:5] == ["", "", ""]
    text = "".join(page.text)
    assert "teacher" not in text[: text.index("Results")]  # neither in the verdict nor warned of


def test_folders_without_records_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder with record\.json"):
        write_report([tmp_path], tmp_path / "report.html")
    make_record("kd", 0, 0.5).save(tmp_path / "kd")
    with pytest.raises(ArgumentError, match="control"):
        write_report([tmp_path], tmp_path / "report.html", control="nobody")
    assert not (tmp_path / "report.html").exists()
