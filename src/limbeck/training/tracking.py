"""Curves of a run passed on to TensorBoard, trackio, wandb or mlflow, by accelerate's trackers.

Nothing is imported or sent unless ``track`` asks for it, and a tracker that fails ends neither the
run nor the other trackers.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import netrc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from limbeck.checks import ArgumentError
from limbeck.files import write_text
from limbeck.record import RunRecord


Name = Literal["tensorboard", "trackio", "wandb", "mlflow"]
FOLDER = "track"
PROJECT = "limbeck"
_STATE = "passed_on.json"  # by tracker, the last epoch and what names its run
_INSTALL = {"tensorboard": "'limbeck[track]'"}
_IN_NATS = ("classification", "multilabel", "embedding", "language_model")


def check_track(names: Sequence[str], folder: Path | None) -> None:
    """Refuse trackers that could not start, before anything is trained.

    Args:
        names: Of trackers; nothing is looked at without any.
        folder: The run's folder, in whose ``track`` the logs lie.

    Raises:
        ArgumentError: If there is no folder, a package is missing, or wandb would ask for a login.
    """
    if names and folder is None:
        raise ArgumentError(
            f"track: expected `out` beside it, the folder that the logs of {', '.join(names)} lie "
            "in; got none. Give `out`, or leave `track` out."
        )
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ArgumentError(
                f"track: expected the package {name}; it is not installed. pip install "
                f"{_INSTALL.get(name, name)}, or leave {name} out of `track`."
            )
    if "wandb" in names and not _wandb_knows_where_to():
        raise ArgumentError(
            "track: expected WANDB_MODE=offline (nothing is sent) or a key in WANDB_API_KEY for "
            "wandb; got neither, and it would ask for a login. Set one of them."
        )


class Tracking:
    """Passes on what a record's curves and results get.

    Args:
        names: Of trackers.
        folder: The run's folder.
        record: Of the run; it is told where a tracker fails.
    """

    def __init__(self, names: Sequence[str], folder: Path | None, record: RunRecord) -> None:
        self._record = record
        self._trackers: dict[str, Any] = {}
        self._epochs: dict[str, int] = {}
        self._nats = record.settings.get("task") in _IN_NATS
        if not names or folder is None:
            return
        self._place = folder / FOLDER
        state = _read(self._place / _STATE) if record.curves else {}
        for name in names:
            # A record that is resumed has the start of its first part, so the name stays.
            self._epochs[name] = int(state.get(name, 0))
            self._try(name, lambda name=name: self._start(name, folder))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Pass on an epoch's values; one that was passed on before a resume is left out.

        Args:
            number: Of the epoch, from 1 on.
            values: By the names of the record's curves; loss terms of most tasks are in nats.
        """
        for name in list(self._trackers):
            if number > self._epochs[name]:
                self._try(name, lambda name=name: self._log(name, number, values))

    def finish(self) -> None:
        """Pass on the final results of the record."""
        results = {
            f"{moment} {part} {metric}": value
            for moment, parts in self._record.results.items()
            for part, metrics in parts.items()
            for metric, value in metrics.items()
        }
        number = max((len(curve) for curve in self._record.curves.values()), default=0)
        tagged = {f"results/{_plain(name)}": value for name, value in results.items()}
        for name in list(self._trackers):
            self._try(name, lambda name=name: self._trackers[name].log(tagged, step=number))

    def close(self) -> None:
        """Write what is left, and end every tracker."""
        for name in list(self._trackers):
            self._try(name, lambda name=name: self._end(name))
        self._trackers.clear()

    def _start(self, name: str, folder: Path) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        run = _Run(self._place, _run_name(folder, self._record), self._epochs[name])
        tracker = _MADE[name](run)
        tracker.start()
        self._trackers[name] = tracker
        if self._epochs[name]:
            return
        settings = _flat({"seed": self._record.seed, **self._record.settings})
        if name == "tensorboard":  # its own way makes a second run of hyperparameters
            rows = "\n".join(f"    {key}: {value}" for key, value in settings.items())
            tracker.log({"settings": rows}, step=0)
        else:
            tracker.store_init_configuration(settings)

    def _end(self, name: str) -> None:
        if name == "trackio":  # the package keeps its run, and would end it again at exit
            importlib.import_module("trackio").finish()
        else:
            self._trackers[name].finish()

    def _log(self, name: str, number: int, values: Mapping[str, float]) -> None:
        tagged = {_tag(key, nats=self._nats): float(value) for key, value in values.items()}
        self._trackers[name].log(tagged, step=number)
        self._epochs[name] = number
        write_text(self._place / _STATE, json.dumps(self._epochs) + "\n")

    def _try(self, name: str, what: Callable[[], object]) -> None:
        """Do something with a tracker; where it fails, the run goes on without it."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a command's output is its own
                what()
        except Exception as problem:  # noqa: BLE001  (whatever a service does, training goes on)
            self._trackers.pop(name, None)
            first = (str(problem).splitlines() or [""])[0][:200]
            self._record.warnings.append(
                f"track: {name} failed ({type(problem).__name__}: {first}); the run went on "
                "without it. The record has all values."
            )
            if self._record.status == "finished":  # it was written before the trackers' end
                self._record.save(self._place.parent)


@dataclass(frozen=True)
class _Run:
    """What a tracker is made of: where its files lie, the run's name, epochs passed on before."""

    place: Path
    name: str
    epochs: int


def _tensorboard(run: _Run) -> Any:
    from accelerate.tracking import TensorBoardTracker

    if not run.epochs:
        for old in (run.place / "tensorboard").glob("events.out.tfevents.*"):
            old.unlink()
    # What an earlier part of the run wrote of a later epoch does not count.
    return TensorBoardTracker("tensorboard", run.place, purge_step=run.epochs + 1)


def _trackio(run: _Run) -> Any:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=run.name, resume="allow")


def _wandb(run: _Run) -> Any:
    from accelerate.tracking import WandBTracker

    return WandBTracker(PROJECT, name=run.name, id=run.name, resume="allow", dir=str(run.place))


def _mlflow(run: _Run) -> Any:
    mlflow: Any = importlib.import_module("mlflow")
    from accelerate.tracking import MLflowTracker

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(run.place / 'mlflow.db').absolute()}")
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"attributes.run_name = '{run.name}'",
        output_format="list",
    )
    return MLflowTracker(
        PROJECT,
        logging_dir=(run.place / "mlflow").absolute().as_uri(),
        run_id=found[0].info.run_id if run.epochs and found else None,
        run_name=run.name,
    )


_MADE: dict[str, Callable[[_Run], Any]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _run_name(folder: Path, record: RunRecord) -> str:
    """Return a name that a resumed run has again, and another run has not."""
    place = "-".join(folder.parts[-2:]).strip("-/.") or "run"
    started = "".join(sign for sign in record.started[:19] if sign.isdigit())
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in place) + (
        f"-{started}"
    )


def _tag(name: str, *, nats: bool) -> str:
    """Return a curve's name as all trackers take it, grouped, with the unit of loss terms.

    Example:
        >>> _tag("loss total", nats=True), _tag("validation accuracy", nats=True)
        ('loss/total_nats', 'validation/accuracy')
    """
    group, space, rest = name.partition(" ")
    if group == "loss":
        return f"loss/{_plain(rest)}{'_nats' if nats else ''}"
    return f"validation/{_plain(rest)}" if group == "validation" and space else _plain(name)


def _plain(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in text)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return nested settings as names and plain values."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (str, int, float)):
            found[f"{prefix}{name}"] = value
        else:
            found[f"{prefix}{name}"] = json.dumps(value, default=str)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _wandb_knows_where_to() -> bool:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun", "shared"):
        return True
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc().authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
