"""The demo on the real digits, with few epochs: its folder, its fairness, its report."""

import io
import json
import re

import pytest
import torch
from helpers.forecasts import gain_model, use_models
from rich.console import Console

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.cli import demo, demo_forecast, demo_queries, demo_telling
from limbeck.cli.demo_bits import bits_sentence, held_out
from limbeck.cli.demo_weight import advice_sentence, conclusion
from limbeck.estimates import Estimate
from limbeck.record import RunRecord
from limbeck.store import TeacherStore
from limbeck.training.saving import load
from limbeck.weighting.reporting.advice import WeightAdvice
from limbeck.zoo.data import load_dataset
from limbeck.zoo.data.splits import cut


pytestmark = pytest.mark.slow

TINY = demo.Plan(epochs=2, teacher_epochs=3, query_epochs=1)
STUDENTS = ["control", "label-smoothing", "kd", "itrd"]
asked = []  # students of the chapter on queries: start, rows, result
weighed = []  # students of the chapter on the weight: start, rows, result
told = []  # whether both forecasts were saved, at the start of each training
foreseen = []  # what each forecast was given


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run a small demo once; keep what each training was given."""
    folder, given = tmp_path_factory.mktemp("demo"), []
    for each in (weighed, asked, told, foreseen):
        each.clear()

    def watched(student, teacher, data, **options):
        start = {name: part.clone() for name, part in student.state_dict().items()}
        told.append(len([*folder.glob("forecast/*/forecast.json")]) == 2)
        apart = asked if options["weight"] == 1.0 else weighed
        kept = given if options["out"] is not None else apart
        result = distill(student, teacher, data, **options)
        kept.append((start, teacher, data, options) if kept is given else (start, data, result))
        return result

    def listened(teacher, student, data, **options):
        foreseen.append((teacher, student, data, options))
        return forecast(teacher, student, data, **options)

    distill, forecast = demo.distill, demo_forecast.forecast
    with pytest.MonkeyPatch.context() as patched:
        # Models that are known, and that need no figure which takes long.
        points, bits = ({name: 0.25} for name in ("teacher_accuracy", "teacher_cross_entropy"))
        use_models(
            patched,
            accuracy=gain_model(points, constant=4.0, spread=30.0),
            cross_entropy=gain_model(bits, spread=3.0),
        )
        patched.setattr(demo_forecast, "forecast", listened)
        patched.setattr(demo, "distill", watched)
        summary = demo.run_demo(folder, 2, progress=False, plan=TINY)
    return summary, given


def test_folder_holds_every_run_and_the_report(done):
    summary, _ = done
    found = sorted(
        str(path.parent.relative_to(summary.folder)) for path in summary.folder.rglob("record.json")
    )
    runs = [f"{name}/seed{seed}" for name in STUDENTS for seed in (0, 1)]
    assert found == sorted([".", "teacher/seed0", *runs])
    assert summary.report == summary.folder / "report.html"
    for run in runs:
        record = RunRecord.open(summary.folder / run)
        assert (record.status, record.seed) == ("finished", int(run[-1]))
    assert load(summary.folder / "kd" / "seed1")(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_students_of_a_seed_start_alike_and_take_the_same_steps(done):
    _, given = done
    by_seed = {seed: [one for one in given[1:] if one[3]["seed"] == seed] for seed in (0, 1)}
    for runs in by_seed.values():
        first, _, rows, options = runs[0]
        assert len(runs) == len(STUDENTS)
        for start, _, other, also in runs[1:]:
            assert all(torch.equal(start[name], part) for name, part in first.items())
            assert len(other) == len(rows)
            for name in ("epochs", "batch_size", "schedule", "seed"):
                assert also[name] == options[name]
    one, other = (runs[0] for runs in by_seed.values())
    assert not torch.equal(one[0]["classifier.weight"], other[0]["classifier.weight"])
    assert not torch.equal(one[2].targets, other[2].targets)  # other images are labelled


def test_the_chapter_on_the_store_counts_what_was_spared(done):
    summary, given = done
    stores = [TeacherStore.open(summary.folder / "store" / f"seed{seed}") for seed in (0, 1)]
    taught = [run for run in given if isinstance(run[1], TeacherStore)]
    assert sorted(run[3]["seed"] for run in taught) == [0, 0, 1, 1]  # KD and ITRD of each
    for _, store, rows, options in taught:
        assert store.folder == stores[options["seed"]].folder
        assert store.on(rows).views == TINY.epochs
    live, write, read = summary.stores["rows"]
    runs = [RunRecord.open(summary.folder / name / f"seed{s}") for name in ("kd", "itrd")
            for s in (0, 1)] + [run[2].record for run in weighed]  # fmt: skip
    assert live[1] == str(sum(len(run.curves["loss total"]) for run in runs))
    assert write[1] == str(2 * TINY.epochs)
    seconds = sum(sum(store.manifest.seconds) for store in stores)
    assert write[2] == f"{seconds:.1f}"
    assert float(live[2]) == pytest.approx(seconds / (2 * TINY.epochs) * int(live[1]), abs=0.06)
    assert float(read[2]) < sum(run.time["seconds"] for run in runs)
    page = " ".join((summary.folder / "report.html").read_text("utf8").split())
    assert "<h2>What the store saved</h2>" in page
    for row in summary.stores["rows"]:
        assert f'<td class="n">{row[2]}</td>' in page


def test_the_chapter_on_the_weight_compares_like_with_like(done):
    _, given = done
    of_kd = {run[3]["seed"]: run for run in given if run[3]["loss"] == "kd" and run[1] is not None}
    weights = [run[2].record.settings["weight"] for run in weighed]
    assert weights[:4] == [0.0, 0.0, 0.5, 0.5]
    assert all(run[2].record.settings["weight_race"]["epochs"] == 1 for run in weighed[4:])
    for start, rows, result in weighed:
        first, _, own, options = of_kd[result.record.seed]
        assert all(torch.equal(start[name], part) for name, part in first.items())
        assert torch.equal(own.targets, rows.targets)
        assert options["learning_rate"] == result.record.settings["learning_rate"]


def test_the_chapter_on_the_weight_says_what_was_measured(done):
    summary, _ = done
    table = {row[0]: row for row in summary.weights["rows"]}
    assert list(table) == ["0", "0.5", "0.9, as published", "raced"]
    published = [
        RunRecord.open(summary.folder / "kd" / f"seed{seed}").results["last"]["test"]["accuracy"]
        for seed in (0, 1)
    ]
    none = [run[2].record.results["last"]["test"]["accuracy"] for run in weighed[:2]]
    for name, values in (("0", none), ("0.9, as published", published)):
        assert table[name][1] == f"{100 * sum(values) / 2:.1f} %"
        assert table[name][2] == ", ".join(f"{100 * value:.1f}" for value in values)
    page = " ".join((summary.folder / "report.html").read_text("utf8").split())
    assert "<h2>How much to distil</h2>" in page
    for row in summary.weights["rows"]:
        assert f'<th scope="row">{row[0]}</th><td class="n">{row[1]}</td>' in page
    assert "Diagnosis" in page
    saved = RunRecord.open(summary.folder).settings["chapters"]
    assert saved == [summary.stores, summary.weights, summary.queries]


def pixels(rows):
    return rows.source.inputs.float() / 255


def test_the_chapter_on_queries_says_how_far_its_students_are(done):
    summary, _ = done
    teacher = load(summary.folder / "teacher" / "seed0")
    x = pixels(held_out(load_dataset("digits", validation=0.2)))
    with torch.no_grad():
        p = teacher(x).softmax(1)
        away = [0.5 * (run[2].student(x).softmax(1) - p).abs().sum(1).mean() for run in asked]
    table = summary.queries["rows"]
    assert [row[0] for row in table] == list(demo_queries.TITLES.values())
    assert len(asked) == 18
    counts = [len(run[1]) for run in asked[:6]]
    assert counts == sorted(counts)
    assert all(int((run[1].targets >= 0).sum()) == 0 for run in asked)
    for at, row in enumerate(table):
        for size in range(3):
            pair = away[6 * at + 2 * size : 6 * at + 2 * size + 2]
            assert float(row[1 + size]) == pytest.approx(float(sum(pair)) / 2, abs=6e-4)
    assert summary.queries["columns"][1:4] == [f"{count} queries" for count in counts[::2]]


def test_the_fitted_gain_is_that_of_the_curve():
    measured = [(size, 0.05 + 3 / size) for size in (100, 200, 400)]
    assert demo_queries.gain_of("soft_labels", measured).startswith(f"{3 / 400 - 3 / 500:.4f} ")
    halves = [(size, 0.05 + 3 / size**0.5) for size in (100, 200, 400)]
    expected = 3 / 20 - 3 / 500**0.5
    assert demo_queries.gain_of("hard_labels", halves).startswith(f"{expected:.4f} ")


def test_the_certificate_is_that_of_sampled_answers(done):
    summary, _ = done
    student, teacher = (load(summary.folder / name / "seed0") for name in ("kd", "teacher"))
    rows = held_out(load_dataset("digits", validation=0.2))
    answers = demo_queries.answers(teacher, rows)
    with torch.no_grad():
        p, t = (model(pixels(rows)).double().softmax(1) for model in (student, teacher))
    at = torch.arange(len(rows)), torch.tensor([one.label for one in answers])
    for number, answer in zip(t[at].log(), answers, strict=True):
        assert answer.log_probability == pytest.approx(number.item(), abs=1e-9)
    drawn = torch.bincount(at[1], minlength=10) / len(rows)
    assert (drawn - t.mean(0)).abs().max() < 0.06  # three standard errors of 791 draws
    found = demo_queries.certified(student, teacher, rows)
    expected = (1 - p[at] / t[at]).clamp_min(0).mean().item()
    assert found.total_variation.value == pytest.approx(expected, abs=1e-4)
    assert demo_queries.certificate_sentence(found) == summary.queries["paragraphs"][1]


def test_an_advice_that_is_not_resolved_has_no_number():
    def estimate(status):
        return Estimate(0.25, 0.0, 1.0, n=9, unit="fraction", status=status)

    for status, words in (("resolved", "weight 0.25 [0.00, 1.00]"), ("unresolved", "unresolved [")):
        advice = WeightAdvice(
            estimate("resolved"), estimate(status), None, "unresolved", "Measure more rows.", None,
            0.1, None, 50.0, {},
        )  # fmt: skip
        assert words in advice_sentence(advice)


@pytest.mark.parametrize(
    ("lower", "upper", "status", "best", "words"),
    [
        (0.0, 0.2, "resolved", "0.9, as published", "That contradicts the advice, 0.10, which is"),
        (0.0, 0.2, "resolved", "0", "The advice for the training loss agrees with it."),
        (0.0, 1.0, "unresolved", "0", "For new images go by validation."),
        (0.0, 0.2, "resolved", "raced", "For new images go by validation."),
    ],
)
def test_the_best_weight_on_validation_is_said_beside_the_advice(lower, upper, status, best, words):
    found = Estimate(0.1, lower, upper, n=9, unit="fraction", status=status)
    advice = WeightAdvice(found, found, None, "healthy", "Lower it.", None, 0.1, None, 50.0, {})
    accuracies = {"0": 0.85, "0.5": 0.8, "0.9, as published": 0.75, "raced": 0.84} | {best: 0.935}
    said = conclusion(advice, accuracies)
    assert f"weight {best}, 93.5 % (" in said
    assert said.count(" %") == 4
    assert "0.5: 80.0 %" in said
    assert words in said


def test_controls_see_the_labelled_rows_of_the_distilled_students_alone(done):
    _, given = done
    for start in (1, 5):
        control, smoothed, kd, itrd = (run[2] for run in given[start : start + 4])
        for one, other in ((control, smoothed), (kd, itrd)):
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.source.inputs, other.source.inputs)
        assert int((control.targets >= 0).sum()) == len(kd)
        labelled = kd.source.inputs[kd.targets >= 0]
        assert images_of(control.source.inputs) == images_of(labelled)


def images_of(inputs):
    return {image.numpy().tobytes() for image in inputs}


def test_only_distilled_students_have_a_teacher_and_only_one_control_smooths(done):
    _, given = done
    students = list(zip(STUDENTS * 2, given[1:], strict=True))
    assert [given[0][1] is None, len({id(run[1]) for _, run in students})] == [True, 3]
    for name, (_, teacher, _, options) in students:
        assert (teacher is not None) == (name in ("kd", "itrd"))
        assert options["task"].label_smoothing == (0.1 if name == "label-smoothing" else 0.0)
        if teacher is not None:
            assert options["loss"] == name
            assert teacher.folder.name == f"seed{options['seed']}"  # one store a seed


def test_teacher_and_students_share_no_image(done):
    _, given = done
    digits = load_dataset("digits", validation=0.2)
    teacher, student = given[0][2].source.inputs, given[3][2].source.inputs
    rows = {
        part: images_of(images)
        for part, images in (
            ("teacher", teacher),
            ("student", student),
            ("train", digits.train.source.inputs),
            ("test", digits.test.source.inputs),
            ("validation", digits.validation.source.inputs),
        )
    }
    assert not rows["teacher"] & rows["student"]
    assert rows["teacher"] | rows["student"] == rows["train"]
    assert not rows["train"] & (rows["test"] | rows["validation"])


def test_labelled_images_fill_half_of_the_students_rows():
    digits = load_dataset("digits", validation=0.2)
    _, theirs = cut(digits.train.targets, 0.5, 0, "teacher and students")
    rows = demo.student_rows(digits, theirs, 50, seed=3)
    targets = rows.targets
    assert targets is not None
    labelled = targets[: len(theirs)] >= 0
    assert int(labelled.sum()) == 50
    assert abs(int((targets >= 0).sum()) - len(targets) / 2) <= 1
    truth = digits.train.targets[theirs]
    assert torch.equal(targets[: len(theirs)][labelled], truth[labelled])
    # What is repeated is the labelled images with their own labels, each about equally often.
    images = digits.train.source.inputs[theirs][labelled].numpy()
    label_of = {
        image.tobytes(): int(label) for image, label in zip(images, truth[labelled], strict=True)
    }
    again = rows.source.inputs[len(theirs) :].numpy()
    assert [label_of[image.tobytes()] for image in again] == targets[len(theirs) :].tolist()
    counts = [sum((again == image).all((1, 2, 3))) for image in images]
    assert max(counts) - min(counts) <= 1


def test_summary_has_the_numbers_of_the_records_and_so_has_the_report(done):
    summary, _ = done
    text = summary.report.read_text(encoding="utf8")
    for name in STUDENTS:
        records = [RunRecord.open(summary.folder / name / f"seed{seed}") for seed in (0, 1)]
        kept = [record.results["last"]["test"]["accuracy"] for record in records]
        row = summary.comparison.row(name)
        assert list(row.values.values()) == kept
        assert f">{50 * sum(kept):.1f} %<" in text
    teacher = RunRecord.open(summary.folder / "teacher" / "seed0").results["last"]["test"]
    assert summary.teacher_accuracy == teacher["accuracy"]
    assert f">{100 * teacher['accuracy']:.1f} %<" in text
    assert summary.comparison.control == "control"
    assert "503 labelled images" in text
    assert "of which 50 have labels" in text


def test_bits_before_and_after_are_measured_saved_and_shown(done):
    summary, _ = done
    digits = load_dataset("digits", validation=0.2)
    found = summary.measurement
    seconds = RunRecord.open(summary.folder).time
    chapters = [seconds[name] for name in ("forecasting", "weighing", "asking", "measuring")]
    assert min(chapters) > 0
    assert sum(chapters) < seconds["seconds"]
    names = [entry.student for entry in found.trajectory()]
    assert names == ["untrained", "No distillation", "KD", "ITRD"]
    assert found.entries[0].estimate.unique_teacher.n == len(digits.validation) + len(digits.test)
    saved = json.loads((summary.folder / "measurement" / "measurement.json").read_text("utf8"))
    assert [entry["student"] for entry in saved["entries"]] == names
    text = summary.report.read_text("utf8")
    assert "What was left to distil" in text
    for entry in found.entries:
        assert f"{entry.estimate.redundant.value:.2f} <span" in text
    said = bits_sentence(found)
    assert f"KD {found.entries[2].estimate.distillable.value:.2f} [" in said or "KD [" in said


def test_forecasts_are_saved_before_any_student_is_trained(done):
    assert told[0] is False  # the teacher
    assert all(told[1:])


def test_what_is_forecast_is_the_training_of_the_first_seed(done):
    summary, given = done
    kd = next(run for run in given if run[3]["loss"] == "kd" and run[1] is not None)
    start, _, repeated, options = kd
    kept = repeated.source.inputs.numpy()
    labelled = {kept[at].tobytes() for at in (repeated.targets >= 0).nonzero()[:, 0]}
    teacher = load(summary.folder / "teacher" / "seed0").state_dict()
    assert [one[3]["loss"] for one in foreseen] == ["kd", "itrd"]
    for guide, student, rows, asked_for in foreseen:
        assert all(torch.equal(part, teacher[name]) for name, part in guide.state_dict().items())
        assert all(torch.equal(part, start[name]) for name, part in student.state_dict().items())
        images = [image.numpy().tobytes() for image in rows.source.inputs]
        assert len(set(images)) == len(images)
        assert set(images) == images_of(repeated.source.inputs)
        known = [one for one, target in zip(images, rows.targets, strict=True) if target >= 0]
        assert set(known) == labelled
        seen = images_of(given[0][2].source.inputs) | set(images)
        held = images_of(asked_for["validation"].source.inputs)
        assert not seen & held
        assert not held & images_of(load_dataset("digits", validation=0.2).test.source.inputs)
        steps = asked_for["epochs"] * -(-len(rows) // asked_for["batch_size"])
        taken = options["epochs"] * -(-len(repeated) // options["batch_size"])
        assert abs(steps - taken) <= -(-len(rows) // asked_for["batch_size"]) / 2
        assert asked_for["learning_rate"] == given[1][3]["learning_rate"]  # the control's
        assert asked_for["schedule"] == options["schedule"]


def test_the_report_has_the_forecasts_and_what_came(done):
    summary, _ = done
    page = summary.report.read_text("utf8").replace("\u2212", "-")
    section = page[page.index("<h2>What was forecast, and what came</h2>") :]
    section = section[: section.index("</section>")]
    assert list(summary.forecasts) == ["kd", "itrd"]
    teacher = RunRecord.open(summary.folder / "teacher" / "seed0")
    right = teacher.results["last"]["validation"]["accuracy"]
    for loss, found in summary.forecasts.items():
        saved = json.loads((summary.folder / "forecast" / loss / "forecast.json").read_text("utf8"))
        assert saved["loss"] == loss
        assert saved["entries"][0]["gains"]["accuracy"]["value"] == found.accuracy.value
        assert found.accuracy.value == pytest.approx(4.0 + 25.0 * right)  # the model's
        assert f">{found.accuracy.value:+.1f} <" in section
        came = summary.comparison.row(loss).difference.estimate
        title = demo._TITLES[loss]
        assert f"{title}, accuracy: {100 * came.value:+.1f} points [" in section
    assert section.count("<svg") == 2


def test_what_is_measured_was_in_no_training(done):
    _, given = done
    rows = held_out(load_dataset("digits", validation=0.2))
    seen = {row.numpy().tobytes() for one in given for row in one[2].source.inputs}
    assert not any(row.numpy().tobytes() in seen for row in rows.source.inputs[:200])


def test_a_second_demo_replaces_the_first_and_repeats_it(done, tmp_path, monkeypatch):
    fewer = {name: demo._TITLES[name] for name in ("teacher", "control", "kd")}
    monkeypatch.setattr(demo, "_TITLES", fewer)
    monkeypatch.setattr(demo, "MEASURED", ())
    monkeypatch.setattr(demo, "FORECAST", ())
    first = demo.run_demo(tmp_path, 2, progress=False, plan=TINY)
    (tmp_path / "kd" / "seed1" / "record.json").rename(tmp_path / "kd" / "seed1" / "kept.json")
    (tmp_path / "kd" / "seeds of mine").mkdir()
    earlier = tmp_path / "forecast" / "kd" / "forecast.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of the first")
    second = demo.run_demo(tmp_path, 1, progress=False, plan=TINY)
    assert not (tmp_path / "kd" / "seed1").exists()
    assert not (tmp_path / "store" / "seed1").exists()
    assert not earlier.exists()
    assert (first.forecasts, second.forecasts) == ({}, {})
    assert (tmp_path / "kd" / "seeds of mine").is_dir()  # not the demo's
    before = done[0].comparison
    for name in ("control", "kd"):
        assert first.comparison.row(name).values == before.row(name).values
        assert second.comparison.row(name).values == {0: before.row(name).values[0]}
    difference = second.comparison.row("kd").difference
    assert difference is not None
    assert difference.verdict == "unresolved"


def test_a_folder_with_another_run_is_left_alone(tmp_path):
    RunRecord(kind="distill", seed=0).save(tmp_path)
    with pytest.raises(CheckpointError, match="holds a run of kind distill"):
        demo.run_demo(tmp_path, 1, progress=False, plan=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_no_seed_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="at least one seed"):
        demo.run_demo(tmp_path / "demo", 0)
    assert not (tmp_path / "demo").exists()


def test_table_in_the_terminal_fits_80_columns(done, monkeypatch):
    summary, _ = done
    screen = io.StringIO()
    monkeypatch.setattr(
        demo_telling, "Console", lambda **_: Console(file=screen, width=80, color_system=None)
    )
    teacher = RunRecord.open(summary.folder / "teacher" / "seed0")
    demo_telling.print_summary(summary, teacher, demo._TITLES)
    said = screen.getvalue()
    assert "…" not in said
    assert re.search(r"Test accuracy \[95 % interval", said)
    for row in summary.comparison.rows:
        assert f"{100 * row.estimate.value:.1f} %" in said
        assert demo._TITLES[row.name] in said
    assert max(map(len, said.split("Against")[0].splitlines())) <= 80
    assert "Forecast before any student was distilled" in " ".join(said.split())
    assert "still lacks" in " ".join(said.split())
    spoken = " ".join(said.split())
    assert "Test accuracy by the weight of KD (first seeds): 0: " in spoken
    assert "That is a law of the training loss" in spoken
    of_raced = [run[2].record.results["last"]["validation"]["accuracy"] for run in weighed[4:]]
    assert f"{100 * sum(of_raced) / 2:.1f} %" in spoken.split("Best on validation images")[1]
