"""A run's student as a folder to give away: weights, how to build it, and a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.checks import ModelError
from limbeck.files import atomic, write_text
from limbeck.record import FILE_NAME, RunRecord
from limbeck.students.card import model_card
from limbeck.students.export import Exported


WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"
_USAGE = {
    ".pt2": "import torch\n\n"
    'student = torch.export.load("{name}").module()\n'
    "logits = student(inputs)  # or its tensors one after the other",
    ".onnx": "import onnxruntime\n\n"
    'session = onnxruntime.InferenceSession("{name}", providers=["CPUExecutionProvider"])\n'
    '(logits,) = session.run(None, {{"inputs": inputs}})  # or the names of its tensors',
}


class Saved(NamedTuple):
    """Where a student lies, which one of its run it is, and its run's record if there is one."""

    folder: Path
    which: str
    record: RunRecord | None


def saved_student(folder: str | Path) -> Saved:
    """Find a student in its own folder, or in that of its run: there it is the last one.

    Raises:
        ModelError: If there is none.
        DataError: If the run's record is damaged.
    """
    place = Path(folder)
    if not (place / DESCRIPTION).is_file():
        place = place / "student"
    for name in (DESCRIPTION, WEIGHTS):
        if not (place / name).is_file():
            raise ModelError(
                f"{folder}: expected a student that limbeck saved ({WEIGHTS}, {DESCRIPTION}); got "
                "no such files. Give a run's folder, or its student or best."
            )
    homes = (place, place.absolute().parent)
    home = next((home for home in homes if (home / FILE_NAME).is_file()), None)
    which = "best" if place.absolute().name == "best" else "last"
    return Saved(place, which, None if home is None else RunRecord.open(home))


def ship(
    folder: str | Path,
    out: str | Path,
    *,
    data_name: str | None = None,
    trust: bool = False,
) -> Path:
    """Copy a student into a folder with a model card, which ``limbeck.load`` reads.

    Args:
        folder: A run's folder (its last student), or its ``student`` or ``best``.
        out: Made if absent; the student's own folder gets the card alone.
        data_name: What the data set is called, for the card.
        trust: Whether loading it calls a builder outside of limbeck: the card says so.

    Returns:
        The card's path.

    Raises:
        ModelError: If there is no student, or no record of its run to make a card of.
        StorageError: If the folder cannot be written.
    """
    student, out = saved_student(folder), Path(out)
    if student.record is None:
        raise ModelError(
            f"{folder}: expected {FILE_NAME} beside the student to make a model card of; got none. "
            "Give the folder of a run."
        )
    if out.absolute() != student.folder.absolute():
        for name in (WEIGHTS, DESCRIPTION):
            with atomic(out / name) as aside:
                shutil.copyfile(student.folder / name, aside)
    description = _description(student)
    arguments = '"FOLDER"' + (", trust=True" if trust else "")
    lines = ["import limbeck as lb", ""]
    if not description.get("source"):
        name = description["class"].rpartition(":")[2]
        lines.append(f"# a module of the class that was trained: {description['class']}")
        arguments += f", {name}(...)"
    lines.append(f"student = lb.load({arguments})  # this folder; in eval mode, on the CPU")
    return _write(student, out, "\n".join(lines), data_name)


def card_beside(
    folder: str | Path, exported: Exported, *, data_name: str | None = None
) -> Path | None:
    """Write the model card of an exported program beside it.

    Args:
        folder: Of the student that was exported, or of its run.
        exported: What :func:`limbeck.students.export` returned.
        data_name: What the data set is called.

    Returns:
        The card's path; None where the student has no record of a run.
    """
    student, parity = saved_student(folder), exported.parity
    if student.record is None:
        return None
    remark = (
        f"{exported.program.name} against the student on {parity.rows} rows: logits up to "
        f"{parity.max_difference:.3g} apart, the same answer on {100 * parity.same_answer:.1f} %."
    )
    usage = _USAGE[exported.program.suffix].format(name=exported.program.name)
    return _write(student, exported.program.parent, usage, data_name, [remark])


def _write(
    student: Saved, out: Path, usage: str, data_name: str | None, remarks: Sequence[str] = ()
) -> Path:
    assert student.record is not None  # both callers looked
    text = model_card(
        student.record,
        _description(student),
        usage=usage,
        which=student.which,
        data_name=data_name,
        remarks=remarks,
    )
    write_text(out / CARD, text)
    return out / CARD


def _description(student: Saved) -> dict[str, Any]:
    try:
        return json.loads((student.folder / DESCRIPTION).read_bytes())
    except ValueError as problem:
        raise ModelError(
            f"{student.folder / DESCRIPTION}: expected JSON that limbeck wrote; got {problem}. "
            "Copy or save the student again."
        ) from None
