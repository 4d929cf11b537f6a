"""Curves passed on to trackers: TensorBoard for real, the others by stand-ins of their packages."""

from __future__ import annotations

import builtins
import importlib.machinery
import json
import signal
import subprocess
import sys
import types

import pytest
from helpers.small import QUICK, good_teacher, network, rows

import limbeck as lb
from limbeck.checks import ArgumentError, RecipeError
from limbeck.training import loop, tracking
from limbeck.training.interrupts import Interrupted
from limbeck.training.options import NEUTRAL, Options


def distil(out, **options):
    """Distil small, with a measured metric a curve."""
    return lb.distill(
        network(),
        good_teacher(),
        rows(),
        loss="kd",
        validation=rows(20, seed=3),
        test=rows(20, seed=4),
        out=out,
        **QUICK | options,
    )


def scalars(out):
    """Return (step, value) by tag, as TensorBoard reads the log of a run."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(out / "track" / "tensorboard"))
    accumulator.Reload()
    found = {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }
    text = accumulator.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]
    return found, text.decode()


def as_curves(found):
    """Return the values of the epochs, which must be 1, 2, 3, ... once each."""
    curves = {tag: points for tag, points in found.items() if not tag.startswith("results/")}
    for tag, points in curves.items():
        assert [step for step, _ in points] == list(range(1, len(points) + 1)), tag
    return {tag: [value for _, value in points] for tag, points in curves.items()}


TAGS = {
    "loss/task_nats": "loss task",
    "loss/distillation_nats": "loss distillation",
    "loss/total_nats": "loss total",
    "learning_rate": "learning rate",
    "validation/accuracy": "validation accuracy",
    "validation/cross_entropy": "validation cross_entropy",
}


def check_same_values(out, record):
    """Compare the log with the record; TensorBoard keeps float32."""
    found, text = scalars(out)
    curves = as_curves(found)
    assert set(curves) == set(TAGS)
    for tag, name in TAGS.items():
        assert curves[tag] == pytest.approx(record.curves[name], rel=1e-6)
    value = record.results["last"]["test"]["accuracy"]
    last = len(record.curves["loss total"])
    assert found["results/last_test_accuracy"] == [(last, pytest.approx(value, rel=1e-6))]
    assert "learning_rate: 0.05" in text
    assert "seed: 0" in text


def test_tensorboard_has_the_records_values(tmp_path):
    record = distil(tmp_path, track="tensorboard").record
    assert record.warnings == []
    assert record.settings["track"] == ["tensorboard"]
    check_same_values(tmp_path, record)


def test_the_weight_is_logged_over_time(tmp_path):
    record = distil(tmp_path, track="tensorboard", weight="auto").record
    curves = as_curves(scalars(tmp_path)[0])
    assert curves["distillation_weight"] == pytest.approx(record.curves["distillation weight"])


def interrupted(monkeypatch, out, steps, **options):
    """Run until a signal in the ``steps``-th step."""
    original, calls = loop.Loop._one_step, []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == steps:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", signalled)
        with pytest.raises(Interrupted):
            distil(out, **options)


def test_a_resumed_run_continues_the_log(tmp_path, monkeypatch):
    whole = distil(tmp_path / "whole")
    out = tmp_path / "run"
    interrupted(monkeypatch, out, 5, track="tensorboard")  # in the second epoch of three steps each
    assert as_curves(scalars(out)[0])["loss/total_nats"] == pytest.approx(
        whole.record.curves["loss total"][:1], rel=1e-6
    )
    record = distil(out, track="tensorboard", resume=True).record
    assert record.curves == whole.record.curves
    check_same_values(out, record)
    assert len(list((out / "track/tensorboard").iterdir())) == 2


@pytest.mark.parametrize("noted", [2, 1])
def test_epochs_after_the_checkpoint_are_not_repeated(tmp_path, monkeypatch, noted):
    """A killed run had logged more than its checkpoint knows, or than it had noted."""
    interrupted(monkeypatch, tmp_path, 4, track="tensorboard")
    checkpoint = (tmp_path / "checkpoint.pt").read_bytes()
    early = (tmp_path / "record.json").read_text()
    interrupted(monkeypatch, tmp_path, 4, track="tensorboard", resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(checkpoint)
    (tmp_path / "record.json").write_text(early)
    (tmp_path / "track/passed_on.json").write_text(json.dumps({"tensorboard": noted}))
    assert len(as_curves(scalars(tmp_path)[0])["loss/total_nats"]) == 2
    check_same_values(tmp_path, distil(tmp_path, track="tensorboard", resume=True).record)


def test_a_run_that_starts_anew_has_a_new_log(tmp_path):
    distil(tmp_path, track="tensorboard", seed=1)
    record = distil(tmp_path, track="tensorboard", overwrite=True).record
    check_same_values(tmp_path, record)
    assert len(list((tmp_path / "track/tensorboard").iterdir())) == 1


def test_a_tracker_may_be_added_when_a_run_goes_on(tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 5)
    record = distil(tmp_path, track="tensorboard", resume=True).record
    points = scalars(tmp_path)[0]["loss/total_nats"]
    assert [step for step, _ in points] == [2, 3]
    assert "track" in NEUTRAL
    assert record.status == "finished"


def test_off_by_default_nothing_is_imported():
    script = (
        "import sys\n"
        "sys.path.insert(0, 'tests')\n"
        "from helpers.small import QUICK, good_teacher, network, rows\n"
        "import limbeck as lb\n"
        "lb.distill(network(), good_teacher(), rows(), loss='kd', **QUICK)\n"
        "print([m for m in ('tensorboard', 'wandb', 'mlflow', 'trackio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


class Log:
    """What a stand-in of a package was told."""

    def __init__(self):
        self.started, self.settings, self.values, self.ended = [], {}, [], 0

    def epochs(self, tag):
        """Return (step, value) of a tag."""
        return [(step, values[tag]) for values, step in self.values if tag in values]


@pytest.fixture
def stand_in(monkeypatch):
    """Give a function that puts a stand-in for a package into place and returns its log."""

    def put(name):
        log, module = Log(), types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        run = types.SimpleNamespace(
            log=lambda values, step=None, **_: log.values.append((dict(values), step)),
            finish=lambda *_, **__: setattr(log, "ended", log.ended + 1),
            config=types.SimpleNamespace(update=lambda values, **_: log.settings.update(values)),
        )
        module.init = lambda **given: (log.started.append(given), run)[1]
        module.config, module.finish = run.config, run.finish
        if name == "trackio":  # it must be ended through the package, which else ends it at exit
            run.finish = lambda: pytest.fail("the package still holds the run")
        if name == "mlflow":
            _as_mlflow(module, log)
        monkeypatch.setitem(sys.modules, name, module)
        return log

    return put


def _as_mlflow(module, log):
    runs = []

    def start(**given):
        log.started.append(given)
        run = types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"id of {given['run_name']}"))
        runs.append(run)
        return run

    limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
    module.utils = types.SimpleNamespace(validation=limits)
    module.set_tracking_uri = lambda uri: log.settings.update(uri=uri)
    module.search_runs = lambda **_: runs[:1]
    module.search_experiments = lambda **_: [types.SimpleNamespace(experiment_id="7")]
    module.start_run = start
    module.log_params = log.settings.update
    module.log_metrics = lambda values, step=None, **_: log.values.append((dict(values), step))
    module.end_run = lambda: setattr(log, "ended", log.ended + 1)


@pytest.mark.parametrize("name", ["trackio", "wandb", "mlflow"])
def test_other_trackers_get_the_same_through_accelerate(tmp_path, monkeypatch, stand_in, name):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log = stand_in(name)
    interrupted(monkeypatch, tmp_path, 5, track=[name])
    assert log.ended == 1
    record = distil(tmp_path, track=[name], resume=True).record
    assert record.warnings == []
    for tag, curve in TAGS.items():
        assert log.epochs(tag) == list(enumerate(record.curves[curve], 1))
    value = record.results["last"]["test"]["accuracy"]
    assert log.epochs("results/last_test_accuracy") == [(3, value)]
    assert float(log.settings["learning_rate"]) == 0.05
    assert log.ended == len(log.started) == 2
    first, again = log.started
    if name == "mlflow":
        assert log.settings["uri"] == f"sqlite:///{tmp_path}/track/mlflow.db"
        assert (first["run_id"], again["run_id"]) == (None, f"id of {first['run_name']}")
    else:
        assert first == again
        assert first["resume"] == "allow"


def test_a_tracker_that_fails_ends_nothing(tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("WANDB_API_KEY", "none")
    log = stand_in("wandb")

    def fail(values, step=None, **_):
        if step == 2:
            raise ConnectionError("the line is dead\nand more")
        log.values.append((values, step))

    monkeypatch.setattr(sys.modules["wandb"].init(), "log", fail)
    record = distil(tmp_path, track=["wandb", "tensorboard"]).record
    assert record.status == "finished"
    (warning,) = record.warnings
    assert warning.startswith(
        "track: wandb failed (ConnectionError: the line is dead); the run went"
    )
    assert [step for _, step in log.values] == [1]
    check_same_values(tmp_path, record)


def test_a_failure_at_the_very_end_is_in_the_record_on_disk(tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("WANDB_MODE", "offline")
    stand_in("wandb")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["wandb"].init(), "finish", fail)
    distil(tmp_path, track="wandb")
    saved = lb.RunRecord.open(tmp_path)
    assert saved.status == "finished"
    assert "wandb failed (OSError: disk full)" in saved.warnings[0]


def test_a_tracker_that_cannot_start_ends_nothing(tmp_path, monkeypatch, stand_in):
    monkeypatch.setenv("WANDB_MODE", "offline")
    stand_in("wandb")

    def fail(**_):
        raise RuntimeError("no")

    monkeypatch.setattr(sys.modules["wandb"], "init", fail)
    assert "RuntimeError: no" in distil(tmp_path, track="wandb").record.warnings[0]


def test_what_trackers_print_goes_to_standard_error(tmp_path, monkeypatch, stand_in, capsys):
    log = stand_in("trackio")
    original = sys.modules["trackio"].init

    def init(**given):
        sys.stdout.write("* created\n")
        return original(**given)

    monkeypatch.setattr(sys.modules["trackio"], "init", init)
    distil(tmp_path, track="trackio")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "* created\n")
    assert log.ended == 1


def test_wandb_without_a_key_is_refused_instead_of_asking(tmp_path, monkeypatch, stand_in):
    stand_in("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked for a login"))
    with pytest.raises(ArgumentError, match="WANDB_MODE=offline"):
        distil(tmp_path / "run", track="wandb")
    assert not (tmp_path / "run").exists()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password abc\n")
    (tmp_path / ".netrc").chmod(0o600)
    tracking.check_track(["wandb"], tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    with pytest.raises(ArgumentError, match="WANDB_API_KEY"):
        tracking.check_track(["wandb"], tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "'limbeck\\[track\\]'"), ("mlflow", "mlflow")]
)
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch, name, package):
    found = tracking.importlib.util.find_spec
    monkeypatch.setattr(
        tracking.importlib.util, "find_spec", lambda one: None if one == name else found(one)
    )
    with pytest.raises(ArgumentError, match=f"pip install {package}"):
        distil(tmp_path / "run", track=name)
    assert not (tmp_path / "run").exists()


def test_without_a_folder_and_other_names_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="expected `out` beside it"):
        distil(None, track="tensorboard")
    with pytest.raises(RecipeError, match="'tensorboard', 'trackio', 'wandb' or 'mlflow'"):
        distil(tmp_path, track=["tensorbord"])
    assert Options(track=None).track == ()


def test_names_of_all_trackers(tmp_path):
    """Letters, digits, _, -, . and / are what all of them take in names."""
    for name in ("loss hint layer1.0 (x)", "validation bits per byte", "learning rate"):
        assert set(tracking._tag(name, nats=True)) <= set(
            "abcdefghijklmnopqrstuvwxyz0123456789_-./"
        )
    assert tracking._tag("loss task", nats=False) == "loss/task"
    assert tracking._flat({"a": {"b": [1, 2], "c": None}, "d": 0.5}) == {
        "a.b": "[1, 2]", "a.c": "null", "d": 0.5,
    }  # fmt: skip


def test_a_damaged_note_of_epochs_is_as_none(tmp_path):
    for text in ("{", "[1]"):
        (tmp_path / "passed_on.json").write_text(text)
        assert tracking._read(tmp_path / "passed_on.json") == {}
    (tmp_path / "passed_on.json").write_text(json.dumps({"wandb": 2}))
    assert tracking._read(tmp_path / "passed_on.json") == {"wandb": 2}
