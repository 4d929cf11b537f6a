"""The program ``limbeck``: its subcommands, and how errors end it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import traceback
from typing import Annotated

import typer

from limbeck import __version__
from limbeck.cli.arguments import EPILOG, process_index
from limbeck.cli.audit import EPILOG as AUDIT_EPILOG, audit
from limbeck.cli.cache import cache
from limbeck.cli.certify import certify
from limbeck.cli.collect import EPILOG as COLLECT_EPILOG, collect
from limbeck.cli.demo_command import demo
from limbeck.cli.distill import distill
from limbeck.cli.evaluate import evaluate
from limbeck.cli.forecast import forecast
from limbeck.cli.import_records import import_records
from limbeck.cli.info import info
from limbeck.cli.init import init
from limbeck.cli.lab import lab
from limbeck.cli.measure import measure
from limbeck.cli.plan import plan
from limbeck.cli.probe import EPILOG as PROBE_EPILOG, probe
from limbeck.cli.report import report
from limbeck.cli.train import train
from limbeck.cli.weigh import weigh


app = typer.Typer(
    name="limbeck",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    measure,
    forecast,
    cache,
    weigh,
    train,
    distill,
    evaluate,
    certify,
    plan,
    report,
    demo,
    init,
    info,
):
    app.command(epilog=EPILOG)(command)
app.command(epilog=AUDIT_EPILOG)(audit)
app.command(epilog=COLLECT_EPILOG)(collect)
app.command(epilog=PROBE_EPILOG)(probe)
app.command("import", epilog=EPILOG)(import_records)
app.add_typer(lab, name="lab")


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
        app(prog_name="limbeck")
    except Exception as problem:  # noqa: BLE001  (the last place that can explain it)
        sys.exit(_explained(problem))
    finally:
        _leave_process_group()


def _explained(problem: Exception) -> int:
    """Print an error for a person and return the exit code."""
    from limbeck.checks import LimbeckError

    if not isinstance(problem, LimbeckError):
        traceback.print_exception(problem)
        print(
            f"limbeck {__version__}: this {type(problem).__name__} is a bug in limbeck (or in a "
            "module of yours that it called). Please report it with the lines above.",
            file=sys.stderr,
        )
        return 1
    lines = str(problem).splitlines() or [type(problem).__name__]
    process = process_index()
    if process:  # the main process shows it in full; one line here, should only this one fail
        print(f"[process {process}] {lines[0]}", file=sys.stderr)
    else:
        print("\n".join(_wrapped(line) for line in lines), file=sys.stderr)
    signal = getattr(problem, "signal", None)
    return 2 if signal is None else 128 + signal


def _wrapped(line: str) -> str:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    return textwrap.fill(
        line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _leave_process_group() -> None:
    if "torch.distributed" in sys.modules:
        distributed = sys.modules["torch.distributed"]
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
