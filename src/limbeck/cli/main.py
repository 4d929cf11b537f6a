"""The program ``limbeck``: its subcommands, and how errors end it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import traceback
from typing import Annotated

import typer

from limbeck import __version__
from limbeck.cli.arguments import CACHE_EPILOG, EPILOG, RUN_EPILOG, process_index
from limbeck.cli.audit import EPILOG as AUDIT_EPILOG, audit
from limbeck.cli.cache import cache
from limbeck.cli.certify import certify
from limbeck.cli.collect import EPILOG as COLLECT_EPILOG, collect
from limbeck.cli.demo_command import demo
from limbeck.cli.distill import distill
from limbeck.cli.evaluate import evaluate
from limbeck.cli.export import export
from limbeck.cli.forecast import forecast
from limbeck.cli.import_records import import_records
from limbeck.cli.info import info
from limbeck.cli.init import init
from limbeck.cli.lab import lab
from limbeck.cli.measure import measure
from limbeck.cli.plan import plan
from limbeck.cli.probe import EPILOG as PROBE_EPILOG, probe
from limbeck.cli.report import report
from limbeck.cli.stopping import Commands, Stopped, exit_code, listening
from limbeck.cli.train import train
from limbeck.cli.weigh import weigh


SCREEN = 24  # lines that an error may take
START, STORY = "Start here", "The story, in order"
BESIDE, SERVICE = "Beside it", "Answers of a service, as records"

app = typer.Typer(
    name="limbeck",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (
    (START, "demo", demo, EPILOG),
    (START, "init", init, EPILOG),
    (START, "info", info, EPILOG),
    (STORY, "measure", measure, EPILOG),
    (STORY, "forecast", forecast, EPILOG),
    (STORY, "cache", cache, CACHE_EPILOG),
    (STORY, "weigh", weigh, EPILOG),
    (STORY, "distill", distill, RUN_EPILOG),
    (STORY, "certify", certify, EPILOG),
    (STORY, "report", report, EPILOG),
    (BESIDE, "plan", plan, EPILOG),
    (BESIDE, "train", train, RUN_EPILOG),
    (BESIDE, "evaluate", evaluate, EPILOG),
    (BESIDE, "export", export, EPILOG),
    (SERVICE, "probe", probe, PROBE_EPILOG),
    (SERVICE, "collect", collect, COLLECT_EPILOG),
    (SERVICE, "import", import_records, EPILOG),
    (SERVICE, "audit", audit, AUDIT_EPILOG),
)
for panel, name, command, epilog in _COMMANDS:
    app.command(name, epilog=epilog, rich_help_panel=panel)(command)
app.add_typer(lab, name="lab", rich_help_panel=BESIDE)


def _show_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"limbeck {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def limbeck(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and exit."),
    ] = None,
) -> None:
    """Measure, perform, weigh and plan knowledge distillation in PyTorch."""


def run() -> None:
    """Run the program on ``sys.argv`` and exit with the code that its help documents."""
    try:
        with listening():
            app(prog_name="limbeck")
    except Exception as problem:  # noqa: BLE001  (the last place that can explain it)
        sys.exit(_explained(problem))
    finally:
        _leave_process_group()


def _explained(problem: Exception) -> int:
    """Print an error for a person and return the exit code."""
    if isinstance(problem, Stopped):
        _say(str(problem).splitlines())
        return exit_code(problem.signal)
    from limbeck.checks import LimbeckError

    if not isinstance(problem, LimbeckError):
        traceback.print_exception(problem)
        print(
            f"limbeck {__version__}: this {type(problem).__name__} is a bug in limbeck (or in a "
            "module of yours that it called). Please report it with the lines above.",
            file=sys.stderr,
        )
        return 1
    _say(str(problem).splitlines() or [type(problem).__name__])
    signal = getattr(problem, "signal", None)
    return 2 if signal is None else exit_code(signal)


def _say(lines: list[str]) -> None:
    """Print an error on one screen; the main process in full, another by its first line."""
    process = process_index()
    if process:
        print(f"[process {process}] {lines[0]}", file=sys.stderr)
        return
    wrapped = [row for line in lines for row in _wrapped(line)]
    if len(wrapped) > SCREEN:
        left = len(wrapped) - SCREEN + 1
        wrapped = [*wrapped[: SCREEN - 1], f"... and {left} more lines; correct these first."]
    print("\n".join(wrapped), file=sys.stderr)


def _wrapped(line: str) -> list[str]:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    rows = textwrap.wrap(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return rows or [""]


def _leave_process_group() -> None:
    if "torch.distributed" in sys.modules:
        distributed = sys.modules["torch.distributed"]
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
