"""The demo: few labels, a teacher who had more, and what of it reaches a small student."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.cli.demo_bits import measured
from limbeck.cli.demo_telling import bar, print_summary
from limbeck.cli.demo_weight import chapter, compared, weighed
from limbeck.data import Arrays, Data
from limbeck.information.threads import one_thread
from limbeck.record import FILE_NAME, RunRecord, this_command
from limbeck.report.bits import MEASURED as MEASURED_FOLDER
from limbeck.report.comparison import Comparison, compare
from limbeck.report.html import write_report
from limbeck.report.reading import TEACHER
from limbeck.tasks import Classification
from limbeck.training.building import build
from limbeck.training.distil import Result, distill
from limbeck.training.measurement import Measurement
from limbeck.training.weighing import Weight
from limbeck.zoo.data import DataSet, load_dataset
from limbeck.zoo.data.splits import cut, hide_labels


CONTROL = "control"
MEASURED = (CONTROL, "kd", "itrd")
WEIGHED = 2  # seeds with other weights of KD
_TITLES = {
    TEACHER: "Teacher",
    CONTROL: "No distillation",
    "label-smoothing": "Label smoothing",
    "kd": "KD",
    "itrd": "ITRD",
}
_SEED = re.compile(r"seed\d+")


@dataclass(frozen=True)
class Plan:
    """What the demo does; every choice was made on validation images, with other seeds.

    ``benchmarks/demo_search.py`` repeats the search: every network has the learning rate, and every
    student the rows, that serve it best.

    Attributes:
        labels: How many of the students' images have labels.
        teacher: Width and depth of the teacher, a ``small_cnn``.
        student: Width and depth of the students.
        teacher_epochs: Epochs of the teacher.
        epochs: Epochs of every student.
        batch_size: Rows of a step.
        learning_rates: Of every network by name.
    """

    labels: int = 50
    teacher: tuple[int, int] = (24, 3)
    student: tuple[int, int] = (8, 2)
    teacher_epochs: int = 20
    epochs: int = 20
    batch_size: int = 32
    learning_rates: Mapping[str, float] = field(
        default_factory=lambda: {
            TEACHER: 0.05,
            CONTROL: 0.8,
            "label-smoothing": 1.6,
            "kd": 0.4,
            "itrd": 0.2,
        }
    )


@dataclass(frozen=True)
class DemoSummary:
    """What came out.

    Attributes:
        folder: Where runs and report lie.
        report: The HTML file.
        comparison: Test accuracy of every group with its difference to the control.
        teacher_accuracy: The teacher's accuracy on the test images, in [0, 1].
        measurement: What of the teacher's knowledge each student of the first seed lacks [bits],
            and an untrained one.
        weights: The chapter on the weight, as the report has it.
        seconds: Wall-clock seconds of the whole.
    """

    folder: Path
    report: Path
    comparison: Comparison
    teacher_accuracy: float
    measurement: Measurement
    weights: dict[str, Any]
    seconds: float


def run_demo(
    out: Path | str, seeds: int = 5, *, progress: bool = True, plan: Plan | None = None
) -> DemoSummary:
    """Distil on the handwritten digits inside scikit-learn and write a report.

    A teacher is trained on one half of the training images with their labels. Small students get
    the other half, in which few images have labels: a control without the teacher, one with label
    smoothing, KD and ITRD. All students of a seed begin with the same weights and take the same
    number of steps. KD and ITRD see all images, the labelled ones repeated until they fill half of
    every batch; the controls see the labelled ones alone, which serves them better.

    Args:
        out: Folder for ``GROUP/seedK`` and ``report.html``; an earlier demo in it is replaced.
        seeds: How many students of each kind.
        progress: Show progress and, at the end, the table.
        plan: Other sizes and settings than those chosen for the demo.

    Returns:
        Folder, report and comparison.

    Raises:
        ArgumentError: If ``seeds`` is below 1.
        CheckpointError: If ``out`` holds a run that is no demo.
    """
    if seeds < 1:
        raise ArgumentError(f"demo: expected at least one seed; got {seeds}.")
    plan, folder, started = plan or Plan(), Path(out), time.monotonic()
    _clear(folder)
    digits = load_dataset("digits", validation=0.2)
    mine, theirs = cut(_arrays(digits).targets, 0.5, 0, "teacher and students")
    summary = _summary(plan, digits, seeds, (len(mine), len(theirs)))
    summary.save(folder)
    records: dict[str, list[RunRecord]] = {name: [] for name in _TITLES}
    first: dict[str, nn.Module] = {"untrained": network(digits, "student", 0, plan)}
    taught_by_kd: list[Result] = []
    with bar(3 + seeds * (len(_TITLES) - 1), shown=progress) as tell:
        tell(_TITLES[TEACHER])
        guide = trained(digits, digits.train.subset(mine), None, TEACHER, 0, plan, folder)
        records[TEACHER].append(guide.record)
        for seed in range(seeds):
            rows = student_rows(digits, theirs, plan.labels, seed)
            for name in list(_TITLES)[1:]:
                tell(f"{_TITLES[name]}, seed {seed}")
                taught = name in ("kd", "itrd")
                run = trained(
                    digits,
                    rows if taught else labelled_alone(rows),
                    guide.student if taught else None,
                    name,
                    seed,
                    plan,
                    folder,
                )
                records[name].append(run.record)
                if seed == 0 and name in MEASURED:
                    first[_TITLES[name]] = run.student
                if name == "kd":
                    taught_by_kd.append(run)
        tell("weighing how much to distil")
        weight_chapter = _weigh(digits, theirs, guide.student, taught_by_kd, plan)
        tell("measuring what is left to distil")
        measuring = time.monotonic()
        measurement = measured(digits, guide.student, first, folder)
        measuring = time.monotonic() - measuring
    students = {name: group for name, group in records.items() if name != TEACHER}
    comparison = compare(students, control=CONTROL)
    summary.results = {
        row.name: {"test": {"accuracy": row.estimate.value}} for row in comparison.rows
    }
    summary.settings["chapters"] = [weight_chapter]
    summary.status = "finished"
    summary.time = {"seconds": time.monotonic() - started, "measuring": measuring}
    summary.save(folder)
    report = write_report([folder], folder / "report.html")
    found = DemoSummary(
        folder,
        report,
        comparison,
        guide.record.results["last"]["test"]["accuracy"],
        measurement,
        weight_chapter,
        time.monotonic() - started,
    )
    if progress:
        print_summary(found, guide.record, _TITLES)
    return found


def student_rows(digits: DataSet, positions: Tensor, labels: int, seed: int) -> Data:
    """Return the students' images: all of them, then the labelled ones again.

    Which images are labelled depends on the seed. They are repeated so often that about half of
    all rows are labelled; every repetition is augmented by itself.
    """
    source = _arrays(digits)
    targets = hide_labels(source.targets[positions], labels, seed)
    labelled = (targets >= 0).nonzero()[:, 0]
    missing = max(len(positions) - 2 * len(labelled), 0)
    again = labelled.repeat(-(-missing // len(labelled)))[:missing]
    rows = torch.cat([torch.arange(len(positions)), again])
    return Data(
        (source.inputs[positions][rows], targets[rows]),
        augment=digits.train.augment,
        class_names=digits.class_names,
        name="the students' images",
    )


def labelled_alone(rows: Data) -> Data:
    """Return as many rows as these, but the labelled ones alone, again and again."""
    assert rows.targets is not None  # student_rows gives targets
    labelled = (rows.targets >= 0).nonzero()[:, 0]
    return rows.subset(labelled.repeat(-(-len(rows) // len(labelled)))[: len(rows)])


@one_thread()  # networks this small lose more to the handing out of work than they gain
def trained(
    digits: DataSet,
    rows: Data,
    teacher: nn.Module | None,
    name: str,
    seed: int,
    plan: Plan,
    out: Path | None,
    weight: Weight = None,
) -> Result:
    """Train one network of the demo: the teacher, or a student called ``name``."""
    trains_teacher = name == TEACHER
    smoothing = 0.1 if name == "label-smoothing" else 0.0
    return distill(
        network(digits, name, seed, plan),
        teacher,
        rows,
        task=Classification(label_smoothing=smoothing),
        loss="kd" if teacher is None else name,
        weight=weight,
        validation=digits.validation,
        test=digits.test,
        seed=seed,
        out=None if out is None else out / name / f"seed{seed}",
        overwrite=True,
        epochs=plan.teacher_epochs if trains_teacher else plan.epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rates[name],
        schedule="cosine",
        device="cpu",
        progress=False,
    )


def _weigh(
    digits: DataSet, theirs: Tensor, teacher: nn.Module, published: list[Result], plan: Plan
) -> dict[str, Any]:
    """Return the chapter on the weight: the law's advice, and two seeds of other weights."""

    def rows(seed: int) -> Data:
        return student_rows(digits, theirs, plan.labels, seed)

    def train(seed: int, weight: Weight) -> Result:
        return trained(digits, rows(seed), teacher, "kd", seed, plan, None, weight)

    runs = compared(train, published, min(len(published), WEIGHED))
    advice = weighed(
        published[0].student,
        teacher,
        rows(0),
        learning_rate=plan.learning_rates["kd"],
        batch_size=plan.batch_size,
        momentum=published[0].record.settings["momentum"],
    )
    return chapter(advice, runs)


def network(digits: DataSet, name: str, seed: int, plan: Plan) -> nn.Module:
    """Return a network as it is before training: the teacher's, or a student's."""
    width, depth = plan.teacher if name == TEACHER else plan.student
    return build(
        "zoo:small_cnn",
        seed=seed,
        width=width,
        depth=depth,
        num_classes=digits.classes,
        channels=digits.channels,
    )


class _Images:
    """Images and targets of a data set that is held in memory."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets


def _arrays(digits: DataSet) -> _Images:
    source = digits.train.source
    assert isinstance(source, Arrays)  # digits are small
    assert isinstance(source.inputs, Tensor)
    assert source.targets is not None
    return _Images(source.inputs, source.targets)


def _summary(plan: Plan, digits: DataSet, seeds: int, parts: tuple[int, int]) -> RunRecord:
    material = (
        f"The teacher was trained on {parts[0]} labelled images of handwritten digits (8x8 pixels, "
        f"from scikit-learn). Each student gets {parts[1]} other images, of which {plan.labels} "
        "have labels. With a teacher it sees all of them, the labelled ones repeated until they "
        "fill half of every batch; without one it sees the labelled ones alone, which served it "
        "better on validation images."
    )
    fairness = (
        "All students of a seed begin with the same weights and take the same number of steps. "
        "Each kind has the learning rate that served it best, with other seeds, on "
        f"{_rows(digits.validation)} validation images; the {len(digits.test)} test images were "
        "looked at once, at the end."
    )
    scope = (
        "A seed decides initial weights, order, and which images have labels. The teacher and the "
        "split are the same for all, so the intervals do not cover another teacher."
    )
    return RunRecord(
        kind="demo",
        seed=0,
        command=this_command(),
        settings={
            "title": "Distilling handwritten digits with few labels",
            "order": list(_TITLES),
            "titles": _TITLES,
            "control": CONTROL,
            "seeds": seeds,
            "plan": asdict(plan),
        },
        data={"name": digits.name, "class_names": digits.class_names},
        warnings=[material, fairness, scope],
    )


def _rows(data: Data | None) -> int:
    return 0 if data is None else len(data)


def _clear(folder: Path) -> None:
    """Remove the runs of an earlier demo, which could have had more seeds than this one."""
    if not (folder / FILE_NAME).is_file():
        return
    before = RunRecord.open(folder)
    if before.kind != "demo":
        raise CheckpointError(
            f"{folder}: expected an empty folder or an earlier demo; it holds a run of kind "
            f"{before.kind}. Choose another `out`."
        )
    for name in _TITLES:
        for run in (folder / name).glob("seed*"):
            if _SEED.fullmatch(run.name) and not run.is_symlink():
                shutil.rmtree(run)
    (folder / "report.html").unlink(missing_ok=True)
    for file in (folder / MEASURED_FOLDER).glob("*.*"):
        file.unlink()
