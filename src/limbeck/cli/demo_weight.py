"""The demo's chapter on the weight: what the law of gradient noise advises, and what runs say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import nn

from limbeck.data import Data
from limbeck.estimates import Estimate
from limbeck.losses import KD
from limbeck.training.distil import Result
from limbeck.weighting.measuring.moments import gradient_moments
from limbeck.weighting.reporting.advice import WeightAdvice, recommend_weight


ROWS = 128  # whose gradients are taken
FIXED = (0.0, 0.5)  # beside the published weight, which the students called "kd" have
RACED: dict[str, Any] = {"mode": "hbar", "confirm": True}
_TITLE = "How much to distil"


def weighed(
    student: nn.Module,
    teacher: nn.Module,
    rows: Data,
    *,
    learning_rate: float,
    batch_size: int,
    momentum: float,
) -> WeightAdvice:
    """Return what the law advises for a trained student and the rows it was trained on."""
    moments = gradient_moments(student, teacher, rows.viewed(None), n=ROWS, loss=KD())
    return recommend_weight(
        moments, learning_rate=learning_rate, batch_size=batch_size, momentum=momentum
    )


def compared(
    train: Callable[[int, Any], Result], published: Sequence[Result], seeds: int
) -> dict[str, list[Result]]:
    """Train students with other weights and return all by the name of their weight.

    Args:
        train: Gives a student for a seed and a weight.
        published: Those that have the published weight, in order of their seeds.
        seeds: How many of each.
    """
    task, distillation = KD.published_weights
    own = f"{distillation / (task + distillation):g}, as published"
    fixed = {f"{weight:g}": weight for weight in FIXED}
    found = {name: [train(seed, weight) for seed in range(seeds)] for name, weight in fixed.items()}
    found[own] = list(published[:seeds])
    found["raced"] = [train(seed, RACED) for seed in range(seeds)]
    return found


def chapter(advice: WeightAdvice, runs: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Return the chapter as a report's record keeps it: title, paragraphs, columns and rows."""
    races = [run.record.settings["weight_race"] for run in runs["raced"]]
    winners = {"none": "no distillation", "published": "the published weight"}
    won = ", ".join(
        f"{winners.get(race['winner'], 'the measured weight')} (seed {seed})"
        for seed, race in enumerate(races)
    )
    return {
        "title": _TITLE,
        "paragraphs": [
            advice_sentence(advice),
            _law(races[0]["epochs"], won),
            conclusion(advice, _means(runs, "validation")),
        ],
        "columns": ["Weight of KD", "Test accuracy, mean", "Each seed"],
        "rows": [
            [name, f"{100 * fmean(values):.1f} %", ", ".join(f"{100 * x:.1f}" for x in values)]
            for name, group in runs.items()
            for values in [[one.record.results["last"]["test"]["accuracy"] for one in group]]
        ],
    }


def conclusion(advice: WeightAdvice, accuracies: Mapping[str, float]) -> str:
    """Say which weight was best on validation images, and whether the advice points there.

    Args:
        advice: What the law of the training loss advises.
        accuracies: Mean validation accuracy [fraction] by the name of the weight.

    Returns:
        Two sentences.
    """
    best, *others = sorted(accuracies, key=lambda name: -accuracies[name])
    rest = ", ".join(f"{name}: {100 * accuracies[name]:.1f} %" for name in others)
    told = (
        f"Best on validation images (means of few seeds, without intervals): weight {best}, "
        f"{100 * accuracies[best]:.1f} % ({rest})."
    )
    advised, number = _advised(advice), best.partition(",")[0]
    if advised.status == "unresolved" or number == "raced":
        return f"{told} For new images go by validation."
    if advised.lower <= float(number) <= advised.upper:
        return f"{told} The advice for the training loss agrees with it."
    return (
        f"{told} That contradicts the advice, {advised.value:.2f}, which is for the training loss: "
        "for new images go by validation."
    )


def _means(runs: Mapping[str, Sequence[Result]], part: str) -> dict[str, float]:
    return {
        name: fmean(one.record.results["last"][part]["accuracy"] for one in group)
        for name, group in runs.items()
    }


def _advised(advice: WeightAdvice) -> Estimate:
    return advice.loss if advice.loss is not None else advice.horizon


def _law(epochs: int, won: str) -> str:
    return (
        "That is a law of the training loss, here of few labels; it says nothing about what soft "
        "labels do for new images. So `confirm` races no distillation, the published weight and "
        f"the measured one on validation images, for {epochs} epochs each; there won: {won}."
    )


def advice_sentence(advice: WeightAdvice) -> str:
    """Return the advised weight with its interval, the diagnosis and the action in words."""
    found = _advised(advice)
    return (
        "For the training loss of the KD student of the first seed, gradient noise and bias ask "
        f"for the weight {_words(found)}, for a single step {_words(advice.one_step)}. Diagnosis: "
        f"{advice.diagnosis}. {advice.action}"
    )


def _words(found: Estimate) -> str:
    ends = f"[{found.lower:.2f}, {found.upper:.2f}]"
    return f"unresolved {ends}" if found.status == "unresolved" else f"{found.value:.2f} {ends}"
