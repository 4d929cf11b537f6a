"""The demo's stores: the teacher runs once over the students' images, and what that saves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.cli.demo_material import Plan
from limbeck.data import Data
from limbeck.information.threads import one_thread
from limbeck.record import RunRecord
from limbeck.store import TeacherStore
from limbeck.training.caching import cache


FOLDER = "store"


@one_thread()
def stored(teacher: nn.Module, rows: Data, seed: int, plan: Plan, out: Path) -> TeacherStore:
    """Store what the teacher says of a seed's images: a view for each epoch, as if it were live."""
    return cache(
        teacher,
        rows,
        out / FOLDER / f"seed{seed}",
        views=plan.epochs,
        keep="logits+features",
        batch_size=plan.batch_size,
        device="cpu",
    )


def chapter(stores: Sequence[TeacherStore], taught: Iterable[RunRecord]) -> dict[str, Any]:
    """Return the chapter on what the stores saved, as a report's record keeps it.

    Args:
        stores: One a seed.
        taught: The runs that learned from them, pilots not among them.
    """
    runs = list(taught)
    passes = sum(store.views for store in stores)
    writing = sum(sum(store.manifest.seconds) for store in stores)
    epochs = sum(len(run.curves["loss total"]) for run in runs)
    reading = sum(run.time["seconds"] * run.time.get("share teacher", 0.0) for run in runs)
    megabytes = sum(store.manifest.bytes for store in stores) / 1e6
    how = (
        "The teacher was run once over the students' images, in as many views as there are "
        f"epochs, for each seed ({megabytes:.1f} MB of scores and features on disk). All "
        f"{len(runs)} students that learn from it read these: what they see is what a live teacher "
        "would have said of the same views, up to rounding."
    )
    return {
        "title": "What the store saved",
        "paragraphs": [how],
        "columns": ["Teacher", "Passes over the images", "Seconds"],
        "rows": [
            ["live, in every epoch (from the time of a pass)", str(epochs),
             f"{writing / passes * epochs:.1f}"],
            ["stored: to write", str(passes), f"{writing:.1f}"],
            ["stored: to read", "", f"{reading:.1f}"],
        ],
    }  # fmt: skip


def told(chapter: dict[str, Any]) -> str:
    """Return what the stores saved in a sentence."""
    live, write, read = (row[2] for row in chapter["rows"])
    return (
        f"The teacher's answers were stored: {chapter['rows'][1][1]} passes over the images in "
        f"{write} s, and {read} s to read them, where a live one would have taken "
        f"{chapter['rows'][0][1]} passes in about {live} s."
    )
