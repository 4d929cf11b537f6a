"""The demo's chapter on information: what the teacher knows that each student lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from limbeck.data import Arrays, Data
from limbeck.estimates import Estimate
from limbeck.report.bits import MEASURED
from limbeck.training.measure import measure
from limbeck.training.measurement import Measurement
from limbeck.zoo.data import DataSet


def measured(
    digits: DataSet, teacher: nn.Module, students: Mapping[str, nn.Module], folder: Path
) -> Measurement:
    """Measure the students against the teacher on all held-out images, and save it.

    Validation images chose learning rates, with other seeds; no network was trained on them.
    """
    rows = held_out(digits)
    found = measure(teacher, students, rows, layers="penultimate", device="cpu")
    found.save(folder / MEASURED)
    return found


def held_out(digits: DataSet) -> Data:
    """Return validation and test images together."""
    parts = []
    for rows in (digits.validation, digits.test):
        assert rows is not None  # the demo asks for validation images
        assert isinstance(rows.source, Arrays)
        parts.append((rows.source.inputs, rows.source.targets))
    inputs, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    return Data((inputs, targets), class_names=digits.class_names, name="held-out digits")


def bits_sentence(found: Measurement) -> str:
    """Return before and after in words."""

    def words(estimate: Estimate) -> str:
        ends = f"[{estimate.lower:.2f}, {estimate.upper:.2f}]"
        return ends if estimate.status == "unresolved" else f"{estimate.value:.2f} {ends}"

    told = "; ".join(
        f"{entry.student} {words(entry.estimate.distillable)}" for entry in found.trajectory()
    )
    return (
        "Of what the teacher knows about a digit, a student of the first seed still lacks, in bits "
        f"with 95 % intervals: {told}."
    )
