"""The demo's chapter on queries: what more answers of the teacher would buy, and a certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.data import Arrays, Data
from limbeck.limits.distance.certificate import Certificate
from limbeck.limits.planning.pilot_curve import CurveFit, fit_curve
from limbeck.losses import KD, ControlVariate, SampledLabels
from limbeck.losses.teacher_draws import TeacherDraws
from limbeck.records import TeacherRecord
from limbeck.training.certify import certify
from limbeck.training.evaluate import outputs_over
from limbeck.types import Batch


MORE = 100  # queries
SHARES = (0.25, 0.5, 1.0)  # of the students' images, asked about once each
REPEATS = 2
LOSSES: dict[str, Any] = {
    "hard_labels": lambda seed: SampledLabels(seed=seed),
    "sampled_probabilities": lambda seed: ControlVariate(seed=seed),
    "soft_labels": lambda seed: KD(temperature=1.0),  # noqa: ARG005
}
EXPONENTS = {"hard_labels": 0.5, "sampled_probabilities": 1.0, "soft_labels": 1.0}
TITLES = {
    "hard_labels": "text: a drawn label",
    "sampled_probabilities": "a drawn label with its probability",
    "soft_labels": "all probabilities",
}
Errors = Mapping[str, Sequence[tuple[int, float]]]


def probabilities(model: nn.Module, rows: Data) -> Tensor:
    """Return the class distribution of every row [rows, classes]."""
    said, _ = outputs_over(model, rows)
    assert said.logits is not None  # classifiers
    return said.logits.double().softmax(1)


def distance(student: nn.Module, teacher: Tensor, rows: Data) -> float:
    """Return the mean total variation between a student and the teacher's rows."""
    return 0.5 * (probabilities(student, rows) - teacher).abs().sum(1).mean().item()


def answers(teacher: nn.Module, rows: Data, seed: int = 0) -> list[TeacherRecord]:
    """Return one sampled answer of the teacher for every row, with its log-probability."""
    said, batch = outputs_over(teacher, rows)
    assert said.logits is not None  # a classifier
    asked = Batch(said.logits, None, batch.index, batch.view)
    labels, numbers = TeacherDraws("demo", seed=seed)(said.logits.double(), asked)
    return [
        TeacherRecord(int(at), int(label), float(number))
        for at, label, number in zip(batch.index, labels[:, 0], numbers[:, 0], strict=True)
    ]


def certified(student: nn.Module, teacher: nn.Module, rows: Data) -> Certificate:
    """Certify a student by one sampled answer of the teacher for each held-out row."""
    return certify(student, answers(teacher, rows), rows, device="cpu")


def unlabelled(rows: Data, count: int) -> Data:
    """Return the first rows as they are, without labels."""
    assert isinstance(rows.source, Arrays)  # digits are small
    assert isinstance(rows.source.inputs, Tensor)
    return Data((rows.source.inputs[:count], torch.full((count,), -1)))


def chapter(errors: Errors, found: Certificate) -> dict[str, Any]:
    """Return the chapter as a report's record keeps it: title, paragraphs, columns and rows."""
    sizes = sorted({size for measured in errors.values() for size, _ in measured})
    rows: list[list[str]] = []
    for privilege, measured in errors.items():
        means = [fmean(error for size, error in measured if size == one) for one in sizes]
        rows.append(
            [TITLES[privilege], *(f"{mean:.3f}" for mean in means), gain_of(privilege, measured)]
        )
    return {
        "title": "What more queries would buy",
        "paragraphs": [
            _asked(sizes[-1]),
            certificate_sentence(found),
        ],
        "columns": [
            "A query gives",
            *(f"{size} queries" for size in sizes),
            f"{MORE} more: error falls by",
        ],
        "rows": rows,
    }


def gain_of(privilege: str, measured: Sequence[tuple[int, float]]) -> str:
    """Return by how much the fitted error falls with more queries, beside how sure it is."""
    fit = curve_of(privilege, measured)
    fall = fit.error_at(fit.largest) - fit.error_at(fit.largest + MORE)
    floor = f"floor {fit.floor.lower:.3f} to {fit.floor.upper:.3f}"
    return f"{fall:.4f} (fitted; {floor})"


def curve_of(privilege: str, measured: Sequence[tuple[int, float]]) -> CurveFit:
    """Fit a floor and the exponent of the theory to measured errors."""
    sizes, errors = np.array(measured, dtype=float).T
    return fit_curve(sizes, errors, exponent=EXPONENTS[privilege])


def certificate_sentence(found: Certificate) -> str:
    """Return what the certificate says in words."""
    tv, kl = found.total_variation, found.kl
    words = (
        "Certificate of the KD student of the first seed, by one sampled answer of the teacher for "
        f"each of {found.records} held-out images: its probabilities differ from the teacher's by "
        f"{tv.value:.3f} [{tv.lower:.3f}, {tv.upper:.3f}] in total variation (guaranteed)"
    )
    if kl is not None:
        words += f", {kl.value:.3f} [{kl.lower:.3f}, {kl.upper:.3f}] nats of KL (approximate)"
    return words + "."


def _asked(most: int) -> str:
    return (
        f"Students without any labels learnt from {most} images or fewer, about each of which the "
        f"teacher was asked once; the number is their distance from the teacher on held-out images "
        f"(total variation, mean of {REPEATS} seeds). The curve R = floor + C n^-b, with the "
        "exponent of the theory (1/2 for labels alone, else 1), says what more queries would bring."
    )
