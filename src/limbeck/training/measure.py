"""measure(): how many bits any teacher has that any student lacks, on any data, in one call."""

from __future__ import annotations

import contextlib
from typing import Any

import torch.distributed as dist

from limbeck.checks import check_positive
from limbeck.data import Data
from limbeck.ranks import world_size
from limbeck.training.accelerating import accelerator_for
from limbeck.training.candidates import Layers, candidates, layers_by_side
from limbeck.training.measurement import Measurement
from limbeck.training.measuring import Measuring, checked_task
from limbeck.training.preflight import first_batch
from limbeck.training.progress import Bar
from limbeck.types import Task


MEMORY = 2**30  # bytes of float32 features held at a time
POOLING = (
    "maps: mean over positions; tokens: mean over those of attention_mask; vectors: as they are"
)


def measure(
    teacher: Any,
    student: Any,
    data: Any,
    *,
    layers: Layers | None = None,
    task: str | Task = "classification",
    method: str = "hull",
    n_symbols: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    max_rows: int | None = None,
    memory: int = MEMORY,
    seen_in_training: bool = False,
    device: str | None = None,
    trust: bool = False,
    progress: bool = False,
) -> Measurement:
    r"""Measure what a teacher knows about the targets that a student lacks, in bits.

    .. math:: I(Y;T) = \mathrm{Uni}(Y:T \setminus S) + \mathrm{Red}(Y:T,S)

    The first part is distillable, the second distilled. Both networks are run over the rows in eval
    mode, unaugmented, without gradient; what their layers say is pooled to one vector a row (maps
    are averaged over positions, token states over the tokens of ``attention_mask``), and
    :func:`limbeck.estimate_pid` decomposes it.

    Args:
        teacher: A module, a folder that limbeck saved, or a Teacher; a list or a dict
            ``{label: teacher}`` of several to rank them for this student.
        student: The same; several students or checkpoints, ``{epoch: student}``, give a trajectory.
            What a layer of a teacher says is computed once.
        data: Rows with targets, held out from the training of both: whatever
            :class:`limbeck.Data` takes. Rows with target -1 are left out, weights of rows are not
            used.
        layers: Names of layers: one for both, or ``{"teacher": ..., "student": ...}``, each a name
            or a list of names (then every pair of layers is measured). Dotted paths,
            ``"penultimate"`` or ``"logits"``; None means ``penultimate``, and ``logits`` for a
            network without a linear head.
        task: "classification", or "regression" with ``method="gaussian"``.
        method: As of :func:`limbeck.estimate_pid`.
        n_symbols: As of :func:`limbeck.estimate_pid`.
        batch_size: Rows at a time; None takes the DataLoader's, or 256.
        seed: Of the estimate, and of the choice of rows where not all are used.
        max_rows: Use so many rows at most, chosen by the seed and their positions; None for all.
        memory: Bytes of float32 vectors held at a time, those of all teachers and one student;
            beyond it fewer rows are used, and a warning says so. The estimate needs some times as
            much beside it.
        seen_in_training: Say so where one of the networks was trained on these rows.
        device: "cpu", "cuda", ...; None takes the accelerator if there is one.
        trust: Call builders outside of limbeck that folders name.
        progress: Show a progress bar where the output is a terminal.

    Returns:
        The decomposition with 95 % intervals [bits] of every pair; zero distillable bits mean that
        the student can say whatever the teacher can. How accurate the networks' own class scores
        are stands beside it.

    Raises:
        LayerError: If a layer does not exist (near names are listed), or did not run.
        DataError: If features are not finite (layer and network are named), or rows or classes are
            too few.
        ArgumentError: If the task has neither classes nor real-valued targets, or the method does
            not fit it.
        ModelError: If a network cannot be loaded or run on these rows.

    Note:
        Under several processes each runs a share of the batches; all return the same measurement.

    Example:
        A student that sees one of two bits, a teacher that sees both.

        >>> import torch
        >>> bits = (torch.arange(800)[:, None] // torch.tensor([1, 2])) % 2
        >>> rows = (bits.float(), bits @ torch.tensor([2, 1]))
        >>> student = torch.nn.Linear(2, 1, bias=False)
        >>> student.weight.data = torch.tensor([[1.0, 0.0]])
        >>> teacher = torch.nn.Identity()
        >>> found = measure(teacher, student, rows, layers="logits", method="cells", device="cpu")
        >>> round(found.distillable.value, 1), round(found.distilled.value, 1), found.verdict
        (1.0, 1.0, 'distil')

    Source:
        Dissanayake and others (2025), arXiv:2411.07483, for the two atoms as distillable and
        distilled knowledge; Bertschinger and others (2014), arXiv:1311.2852, for the
        decomposition.
    """
    kind = checked_task(task, method)
    for name, number in (("batch_size", batch_size), ("max_rows", max_rows), ("memory", memory)):
        if number is not None:
            check_positive("measure", **{name: number})
    by_side = layers_by_side(layers)
    teachers = candidates("teacher", teacher, trust=trust)
    students = candidates("student", student, trust=trust)
    rows = Data.of(data, "data").viewed(None)
    where = accelerator_for(device).device
    job = Measuring(
        rows,
        first_batch(rows, where),
        by_side,
        where,
        batch_size or rows.batch_size or 256,
        is_classification=kind == "classification",
        options={"method": method, "n_symbols": n_symbols, "seed": seed},
    )
    job.check_targets()
    with contextlib.ExitStack() as stack:
        guides = [stack.enter_context(job.opened(one)) for one in teachers]
        first = stack.enter_context(job.opened(students[0]))
        widths = [sum(first.widths.values())]
        for other in students[1:]:
            with job.opened(other) as network:
                widths.append(sum(network.widths.values()))
        width = max(widths) + sum(sum(guide.widths.values()) for guide in guides)
        chosen = job.chosen_rows(seed, max_rows, memory, width)
        steps = len(students) * (1 + -(-len(chosen) // job.batch_size) // world_size())
        shown = progress and (world_size() == 1 or dist.get_rank() == 0)
        bar = stack.enter_context(Bar(steps, shown=shown, label="measure"))
        places, targets, said = job.read([*guides, first], chosen, bar)
        job.check_rows(targets, chosen)
        known = list(zip(teachers, said, strict=False))
        # Popped, not kept: one student's vectors are held at a time.
        entries = job.entries(known, (students[0], said.pop()), targets, bar)
        for other in students[1:]:
            with job.opened(other) as network:
                entries += job.entries(
                    known, (other, job.read([network], places, bar)[2].pop()), targets, bar
                )
    if seen_in_training:
        job.warnings.append(
            "one of the networks was trained on these rows: what it memorised looks like "
            "knowledge. Measure on rows that neither was trained on."
        )
    return Measurement(
        entries=tuple(entries),
        accuracy=job.accuracy,
        cross_entropy=job.cross_entropy,
        data={
            "name": rows.name,
            "rows": len(rows),
            "used": len(targets),
            "unlabelled": job.unlabelled,
            "class_names": rows.class_names,
        },
        settings={
            "task": kind,
            **job.options,
            "layers": {side: names and list(names) for side, names in by_side.items()},
            "pooling": POOLING,
            "batch_size": job.batch_size,
            "max_rows": max_rows,
            "memory": memory,
            "sampled": job.sampled,
            "seen_in_training": seen_in_training,
            "device": where.type,
        },
        warnings=tuple(job.warnings),
    )
