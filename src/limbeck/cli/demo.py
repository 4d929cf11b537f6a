"""The demo: few labels, a teacher who had more, and what of it reaches a small student."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.cli import demo_forecast, demo_queries, demo_store
from limbeck.cli.demo_bits import held_out, measured
from limbeck.cli.demo_material import (
    CONTROL,
    Plan,
    arrays_of,
    labelled_alone,
    network,
    student_images,
    student_rows,
)
from limbeck.cli.demo_telling import bar, print_summary
from limbeck.cli.demo_weight import chapter, compared, weighed
from limbeck.data import Data
from limbeck.forecasting.result import Forecast
from limbeck.information.threads import one_thread
from limbeck.record import FILE_NAME, RunRecord, this_command
from limbeck.report.bits import MEASURED as MEASURED_FOLDER
from limbeck.report.comparison import Comparison, compare
from limbeck.report.html import write_report
from limbeck.report.reading import TEACHER
from limbeck.store import TeacherStore
from limbeck.store.group import is_store
from limbeck.tasks import Classification
from limbeck.training.distil import Result, distill
from limbeck.training.measurement import Measurement
from limbeck.training.weighing import Weight
from limbeck.zoo.data import DataSet, load_dataset
from limbeck.zoo.data.splits import cut


MEASURED = (CONTROL, "kd", "itrd")
FORECAST = demo_forecast.LOSSES
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
class DemoSummary:
    """What came out.

    Attributes:
        folder: Where runs and report lie.
        report: The HTML file.
        comparison: Test accuracy of every group with its difference to the control.
        teacher_accuracy: The teacher's accuracy on the test images, in [0, 1].
        forecasts: What KD and ITRD were expected to add to the control, by loss.
        measurement: What of the teacher's knowledge each student of the first seed lacks [bits],
            and an untrained one.
        stores: The chapter on what storing the teacher's answers saved.
        weights: The chapter on the weight, as the report has it.
        queries: The chapter on what more queries to the teacher would buy, with a certificate.
        seconds: Wall-clock seconds of the whole.
    """

    folder: Path
    report: Path
    comparison: Comparison
    teacher_accuracy: float
    forecasts: dict[str, Forecast]
    measurement: Measurement
    stores: dict[str, Any]
    weights: dict[str, Any]
    queries: dict[str, Any]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; accuracies lie in [0, 1]."""
        rows = {row.name: row for row in self.comparison.rows}
        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "control": CONTROL,
            "teacher_accuracy": self.teacher_accuracy,
            "accuracy": {name: row.estimate.to_dict() for name, row in rows.items()},
            "difference": {
                name: {
                    "estimate": row.difference.estimate.to_dict(),
                    "verdict": row.difference.verdict,
                    "wins": row.difference.wins,
                    "pairs": row.difference.pairs,
                }
                for name, row in rows.items()
                if row.difference is not None
            },
            "forecasts": {name: one.to_dict() for name, one in self.forecasts.items()},
            "measurement": self.measurement.to_dict(),
            "chapters": [self.stores, self.weights, self.queries],
            "seconds": self.seconds,
        }


def run_demo(
    out: Path | str,
    seeds: int = 5,
    *,
    progress: bool = True,
    told: bool = True,
    plan: Plan | None = None,
) -> DemoSummary:
    """Distil on the handwritten digits inside scikit-learn and write a report.

    A teacher is trained on one half of the training images with their labels. Small students get
    the other half, in which few images have labels: a control without the teacher, one with label
    smoothing, KD and ITRD. All students of a seed begin with the same weights and take the same
    number of steps. KD and ITRD see all images, the labelled ones repeated until they fill half of
    every batch; the controls see the labelled ones alone, which serves them better. What
    KD and ITRD will add is forecast before any student is trained.

    Args:
        out: Folder for ``GROUP/seedK`` and ``report.html``; an earlier demo in it is replaced.
        seeds: How many students of each kind.
        progress: Show progress and, where ``told``, at the end the table.
        told: Print the table of results.
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
    mine, theirs = cut(arrays_of(digits).targets, 0.5, 0, "teacher and students")
    summary = _summary(plan, digits, seeds, (len(mine), len(theirs)))
    summary.save(folder)
    records: dict[str, list[RunRecord]] = {name: [] for name in _TITLES}
    first: dict[str, nn.Module] = {"untrained": network(digits, "student", 0, plan)}
    taught_by_kd: list[Result] = []
    stores: list[TeacherStore] = []
    learned: list[RunRecord] = []  # from these
    with bar(5 + seeds * (len(_TITLES) - 1), shown=progress) as tell:
        tell(_TITLES[TEACHER])
        guide = trained(digits, digits.train.subset(mine), None, TEACHER, 0, plan, folder)
        records[TEACHER].append(guide.record)
        tell("forecasting what it will bring")
        begun = time.monotonic()
        expected = demo_forecast.forecasts(digits, theirs, guide.student, plan, folder, FORECAST)
        forecasting = time.monotonic() - begun
        for seed in range(seeds):
            rows = student_rows(digits, theirs, plan.labels, seed)
            stores.append(demo_store.stored(guide.student, rows, seed, plan, folder))
            for name in list(_TITLES)[1:]:
                tell(f"{_TITLES[name]}, seed {seed}")
                taught = name in ("kd", "itrd")
                run = trained(
                    digits,
                    rows if taught else labelled_alone(rows),
                    stores[-1] if taught else None,
                    name,
                    seed,
                    plan,
                    folder,
                )
                records[name].append(run.record)
                if seed == 0 and name in MEASURED:
                    first[_TITLES[name]] = run.student
                if taught:
                    learned.append(run.record)
                if name == "kd":
                    taught_by_kd.append(run)
        clock = [time.monotonic()]
        tell("weighing how much to distil")
        weight_chapter, others = _weigh(digits, theirs, guide.student, stores, taught_by_kd, plan)
        clock.append(time.monotonic())
        tell("asking the teacher")
        query_chapter = _ask(digits, theirs, guide.student, taught_by_kd[0].student, plan)
        clock.append(time.monotonic())
        tell("measuring what is left to distil")
        measurement = measured(digits, guide.student, first, folder)
        clock.append(time.monotonic())
    students = {name: group for name, group in records.items() if name != TEACHER}
    comparison = compare(students, control=CONTROL)
    summary.results = {
        row.name: {"test": {"accuracy": row.estimate.value}} for row in comparison.rows
    }
    store_chapter = demo_store.chapter(stores, [*learned, *others])
    summary.settings["chapters"] = [store_chapter, weight_chapter, query_chapter]
    summary.status = "finished"
    chapters = zip(("weighing", "asking", "measuring"), pairwise(clock), strict=True)
    summary.time = {name: end - begin for name, (begin, end) in chapters}
    summary.time["forecasting"] = forecasting
    summary.time["seconds"] = time.monotonic() - started
    summary.save(folder)
    report = write_report([folder], folder / "report.html")
    found = DemoSummary(
        folder,
        report,
        comparison,
        guide.record.results["last"]["test"]["accuracy"],
        expected,
        measurement,
        store_chapter,
        weight_chapter,
        query_chapter,
        time.monotonic() - started,
    )
    if progress and told:
        print_summary(found, guide.record, _TITLES)
    return found


@one_thread()  # networks this small lose more to the handing out of work than they gain
def trained(
    digits: DataSet,
    rows: Data,
    teacher: nn.Module | TeacherStore | None,
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
    digits: DataSet,
    theirs: Tensor,
    teacher: nn.Module,
    stores: list[TeacherStore],
    published: list[Result],
    plan: Plan,
) -> tuple[dict[str, Any], list[RunRecord]]:
    """Return the chapter on the weight, and the records of two seeds of other weights."""

    def rows(seed: int) -> Data:
        return student_rows(digits, theirs, plan.labels, seed)

    def train(seed: int, weight: Weight) -> Result:
        return trained(digits, rows(seed), stores[seed], "kd", seed, plan, None, weight)

    runs = compared(train, published, min(len(published), WEIGHED))
    advice = weighed(
        published[0].student,
        teacher,
        rows(0),
        learning_rate=plan.learning_rates["kd"],
        batch_size=plan.batch_size,
        momentum=published[0].record.settings["momentum"],
    )
    made = {id(run): run.record for group in runs.values() for run in group}
    for run in published:
        made.pop(id(run), None)
    return chapter(advice, runs), list(made.values())


@one_thread()
def _ask(
    digits: DataSet, theirs: Tensor, teacher: nn.Module, student: nn.Module, plan: Plan
) -> dict[str, Any]:
    """Return the chapter on queries: errors by their number and kind, and a certificate."""
    rows, fresh = student_images(digits, theirs), held_out(digits)
    truth = demo_queries.probabilities(teacher, fresh)
    errors: dict[str, list[tuple[int, float]]] = {}
    for privilege, loss in demo_queries.LOSSES.items():
        for share, seed in product(demo_queries.SHARES, range(demo_queries.REPEATS)):
            count = round(share * len(theirs))
            made = distill(
                network(digits, privilege, seed, plan),
                teacher,
                demo_queries.unlabelled(rows, count),
                loss=loss(seed),
                weight=1.0,
                seed=seed,
                out=None,
                epochs=max(1, round(plan.query_epochs / share)),
                batch_size=plan.batch_size,
                learning_rate=plan.learning_rates["kd"],
                schedule="cosine",
                device="cpu",
                progress=False,
            ).student
            error = demo_queries.distance(made, truth, fresh)
            errors.setdefault(privilege, []).append((count, error))
    return demo_queries.chapter(errors, demo_queries.certified(student, teacher, fresh))


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
        "looked at once, at the end. What KD and ITRD would add was forecast before any student "
        "was trained."
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
    for store in (folder / demo_store.FOLDER).glob("seed*"):
        if is_store(store) and not store.is_symlink():
            shutil.rmtree(store)
    (folder / "report.html").unlink(missing_ok=True)
    demo_forecast.clear(folder)
    for file in (folder / MEASURED_FOLDER).glob("*.*"):
        file.unlink()
