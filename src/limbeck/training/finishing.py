"""The two ends of a run on disk: what a folder already holds, and what is left in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from limbeck.checks import ArgumentError, CheckpointError
from limbeck.files import check_writable
from limbeck.language_model import LanguageModel
from limbeck.record import FILE_NAME, RunRecord
from limbeck.tasks import Classification
from limbeck.training.assumption import note_assumption
from limbeck.training.checkpoint import open_checkpoint, remove_checkpoint
from limbeck.training.last_look import LastLook, last_look, look_at_teachers
from limbeck.training.loop import Loop
from limbeck.training.memory import peak_memory
from limbeck.training.saving import WEIGHTS, load_weights, save_model


def already_finished(loop: Loop, *, resume: bool, overwrite: bool) -> bool:
    """Restore what the run's folder holds, and say whether the run in it had finished.

    Raises:
        CheckpointError: If the folder holds a run and neither resume nor overwrite is given, or
            holds one with other settings.
        ArgumentError: If there is no folder to resume from.
        StorageError: If the folder cannot be written.
    """
    folder = loop.out
    if folder is None:
        if resume:
            raise ArgumentError("distill: expected `out` beside resume=True: the run's folder.")
        return False
    check_writable(folder)
    if not resume:
        check_free(folder, overwrite=overwrite)
        remove_checkpoint(folder)
        return False
    before = RunRecord.open(folder) if (folder / FILE_NAME).is_file() else None
    if before is not None and before.status == "finished":
        _check_same_run(loop, before)
        loop.record = before
        load_weights(loop.student, folder / "student" / WEIGHTS)
        return True
    state = open_checkpoint(folder, loop.identity)
    if state is not None:
        loop.restore(state)
    return False


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError where a folder holds a run that is not to be overwritten."""
    if overwrite or not (folder / FILE_NAME).is_file():
        return
    raise CheckpointError(
        f"{folder}: expected an empty folder; it holds a run ({RunRecord.open(folder).status}). "
        "Use resume=True (--resume) to go on, overwrite=True (--overwrite) to start anew, or "
        "another folder."
    )


def finish(loop: Loop) -> None:
    """Evaluate once on test data, save the students and the record, drop the checkpoint."""
    record, test = loop.record, loop.test
    look = last_look(loop)
    record.results = _results(loop, look)
    record.details = {} if look is None else look.details()
    note_assumption(loop)
    if test is not None and isinstance(loop.inner.task, (Classification, LanguageModel)):
        look_at_teachers(loop, test, look)
    record.time["seconds"] = loop.seconds
    record.memory = peak_memory(loop.accelerator.device)
    _note_what_stores_saved(loop)
    record.status = "finished"
    if loop.out is not None and loop.accelerator.is_main_process:
        names = loop.data.class_names
        if loop.best.epoch >= 0:
            save_model(
                loop.student, loop.out / "best", weights=loop.best.weights, class_names=names
            )
        save_model(loop.student, loop.out / "student", class_names=names)
        record.save(loop.out)
        remove_checkpoint(loop.out)
    loop.accelerator.wait_for_everyone()


def note_status(loop: Loop, status: Literal["interrupted", "failed"]) -> None:
    """Write into the record on disk that the run ended early."""
    loop.record.status = status
    if loop.out is not None and loop.accelerator.is_main_process:
        loop.record.save(loop.out)


def _note_what_stores_saved(loop: Loop) -> None:
    """Say of each store after how many epochs it is cheaper than to run the teacher each time.

    A store of V views took V epochs of the teacher; each epoch of the run then saves one, less the
    time to read it.
    """
    stores = loop.record.teacher.get("stores", ())
    read = loop.seconds * loop.record.time.get("share teacher", 0.0)
    for store in stores:
        an_epoch = store["seconds"] / store["views"]
        saved = an_epoch - read / max(loop.epoch, 1) / len(stores)
        store["pays_after_epochs"] = store["seconds"] / saved if saved > 0 else None


def _results(loop: Loop, look: LastLook | None) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {"last": {}}
    if loop.validation is not None and loop.last_ten:
        results["last"]["validation"] = loop.last_ten[-1]
    if loop.test is not None:
        results["last"]["test"] = loop.evaluated(loop.test) if look is None else look.metrics
    if loop.last_ten:
        where = "test" if loop.validation is None else "validation"
        count = len(loop.last_ten)
        results["mean_of_last_ten"] = {
            where: {
                name: sum(found[name] for found in loop.last_ten) / count
                for name in loop.last_ten[-1]
            }
        }
    if loop.best.epoch >= 0:
        epoch = {"epoch": float(loop.best.epoch)}
        results["best"] = {"validation": epoch | loop.best.found}
        if loop.test is not None:
            results["best"]["test"] = loop.evaluated_with(loop.best.weights, loop.test)
    return results


def _check_same_run(loop: Loop, before: RunRecord) -> None:
    found = {"seed": before.seed, **before.data, **before.settings}
    # The record is JSON: tuples have become lists, as in the identity, which was dumped as JSON.
    changed = [name for name, value in loop.identity.items() if found.get(name) != value]
    if changed:
        raise CheckpointError(
            f"{loop.out}: holds a finished run with other settings ({', '.join(sorted(changed))}). "
            "Choose another `out`, or overwrite=True."
        )
