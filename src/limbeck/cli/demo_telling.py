"""What the demo shows while it runs, and at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from limbeck.cli import demo_store
from limbeck.cli.demo_bits import bits_sentence
from limbeck.cli.demo_forecast import forecast_sentence
from limbeck.record import RunRecord
from limbeck.report.reading import TEACHER
from limbeck.report.sentences import gain, interval, number, seconds as spoken, verdict_sentence


if TYPE_CHECKING:
    from limbeck.cli.demo import DemoSummary


@contextlib.contextmanager
def bar(total: int, *, shown: bool) -> Generator[Callable[[str], None]]:
    """Give a function that tells what begins, on a terminal by a progress bar."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    live = shown and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not live) as bar:
        task = bar.add_task("demo", total=total)
        begun = 0

        def tell(what: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=f"{what} ({begun + 1} of {total})")
            begun += 1
            if shown and not live and begun in (1, 3):  # 2 is the forecast
                rest = "the teacher" if begun == 1 else f"{total - 5} students"
                console.print(f"limbeck demo: training {rest} ...", highlight=False)

        yield tell


def print_summary(found: DemoSummary, teacher: RunRecord, titles: Mapping[str, str]) -> None:
    """Print the table of accuracies and what the chapters found."""
    comparison, console = found.comparison, Console(highlight=False)
    table = Table(
        title=r"Test accuracy \[95 % interval over seeds]",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("network", no_wrap=True)
    for column in ("accuracy", "difference\n(points)"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("time\na run", justify="right", no_wrap=True)
    table.add_row(
        titles[TEACHER],
        number(found.teacher_accuracy, "accuracy"),
        "",
        "",
        spoken(teacher.time["seconds"]),
    )
    for row in comparison.rows:
        mean = sum(row.values.values()) / len(row.values)
        cells = ["", ""]
        if row.difference is not None:
            ends = interval(row.difference.estimate, "accuracy", signed=True)
            value = gain(row.difference.estimate.value, "accuracy")
            judged = row.difference.verdict != "unresolved"
            won = f"won {row.difference.wins} of {row.difference.pairs}"
            cells = [f"{value}\n{ends}" if judged else ends, f"{row.difference.verdict}\n{won}"]
        own = f"{number(mean, 'accuracy')}\n{interval(row.estimate, 'accuracy')}"
        table.add_row(titles[row.name], *map(escape, (own, *cells)), spoken(row.seconds))
    console.print(table)
    console.print(verdict_sentence(comparison, titles=dict(titles)), markup=False)
    if found.forecasts:
        console.print(forecast_sentence(found.forecasts, comparison, titles), markup=False)
    console.print(bits_sentence(found.measurement), markup=False)
    console.print(demo_store.told(found.stores), markup=False)
    advice, law, conclusion = found.weights["paragraphs"]
    told = "; ".join(f"{row[0]}: {row[1]}" for row in found.weights["rows"])
    console.print(f"{advice} {law}", markup=False)
    console.print(f"Test accuracy by the weight of KD (first seeds): {told}.", markup=False)
    console.print(conclusion, markup=False)
    console.print(found.queries["paragraphs"][1], markup=False)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(f"{found.report} ({found.seconds:.0f} s)", markup=False, soft_wrap=True)
