"""Case ``mnist``: its sizes, and what is predicted for each of its students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.lab_result import Check, LabCurve, compare, line
from limbeck.weighting.controlling.unbiased import predicted_factor
from limbeck.weighting.theory.laws import loss_weight, noise_floor, shrinkage, shrinkage_weight


WEIGHTS = np.linspace(0, 1, 11)
MASKED_WEIGHTS = np.linspace(0, 1, 6)
QUALITIES = {"good": 0.1, "fair": 1.0, "poor": 10.0}  # excess loss in floors of small steps
GRID_STEP = 0.1
# A single run each, and steps that small-step laws describe to a tenth.
UNBIASED_WITHIN, REPEATED_WITHIN = 0.15, 0.2
LAW_WITHIN, CONVERGED = 0.06, 0.05  # of the floor of plain SGD


@dataclass(frozen=True)
class MnistSizes:
    """Sizes of the case on images.

    Attributes:
        rows: Of the training set, the first so many.
        steps: Of the linear students.
        dropped: Of these, before losses are averaged.
        every: Steps between two looks at the losses.
        learning_rate: Of the linear students.
        batch_size: Of all students.
        ridge: Of the linear students and teachers.
        snapshots: Steps between two snapshots of repeated self-distillation: long enough to forget.
        svrg_snapshots: The same of SVRG, which needs many: each takes a share of the excess.
        sparsity: Share of the weights that the fixed mask removes.
        repeated_weight: Of repeated self-distillation and of the ReLU students' cosines.
        hidden: Units of the ReLU network.
        epochs: Of the ReLU students.
        network_learning_rate: Of the ReLU students.
        weight_decay: Of the ReLU students.
    """

    rows: int = 4000
    steps: int = 12000
    dropped: int = 4000
    every: int = 100
    learning_rate: float = 0.05
    batch_size: int = 10
    ridge: float = 0.01
    snapshots: int = 800
    svrg_snapshots: int = 800
    sparsity: float = 0.5
    repeated_weight: float = 0.7
    hidden: int = 100
    epochs: int = 3
    network_learning_rate: float = 0.01
    weight_decay: float = 1e-4


def repeated_factor(distillation_weight: float) -> float:
    r"""Return what self-distillation from one's own snapshots leaves of plain SGD's excess.

    .. math:: \frac{1 - \lambda}{1 + \lambda}, \qquad \text{from } v = (1 - \lambda)^2 A +
              \lambda^2 v

    In least squares, with snapshots so far apart that they are independent.

    Args:
        distillation_weight: :math:`\lambda`, in [0, 1].

    Returns:
        The factor, in [0, 1].

    Example:
        >>> round(repeated_factor(0.6), 9)
        0.25

    Source:
        Derived.
    """
    return (1 - distillation_weight) / (1 + distillation_weight)


def judge_linear(
    found: dict[str, Any],
    sizes: MnistSizes,
    checks: list[Check],
    curves: list[LabCurve],
    remarks: list[str],
) -> None:
    """Add what the three teachers' students show: best weight, curve, moments alone."""
    problem, step = (
        found["problem"],
        {"learning_rate": sizes.learning_rate, "batch_size": sizes.batch_size},
    )
    for name, excess in found["excess"].items():
        theta = found["teachers"][name]
        tr_gg, tr_gh, tr_hh = problem.traces(found["best"], theta)
        bias = problem.bias_in_loss(found["best"], theta)
        weight = min(max(loss_weight(tr_gh, tr_hh, bias, **step), 0.0), 1.0)
        floor, small, far = float(excess[0]), noise_floor(tr_gg, **step), found["bias"][name]
        best, text = float(WEIGHTS[int(excess.argmin())]), f"linear, {name} teacher"
        right = shrinkage_weight(floor, far)
        checks.append(compare(f"{text}: best weight", best, right, 1.5 * GRID_STEP))
        law = [shrinkage(w, floor=floor, bias=far) for w in WEIGHTS]
        if QUALITIES[name] <= 1:
            apart = float(np.abs(excess - law).max()) / floor
            checks.append(compare(f"{text}: distance from the law, in A", apart, 0.0, LAW_WITHIN))
        there = float(np.interp(weight, WEIGHTS, excess)) / floor
        checks.append(compare(f"{text}: share left by moments alone", there, 1.0, 1e-9, "at_most"))
        alone = [small * predicted_factor(w, tr_gg, tr_gh, tr_hh) + w**2 * bias for w in WEIGHTS]
        curves.append(
            LabCurve(
                f"{text} (weight predicted {right:.2f})",
                "distillation weight",
                "excess cross-entropy [nats]",
                line(WEIGHTS),
                line(excess),
                line(law),
                {"from moments alone": line(np.array(alone, dtype=np.float64))},
            )
        )
        remarks.append(
            f"{text}: excess {far:.4f}, D_T {bias:.4f} nats; plain SGD {floor:.4f}, by the law of "
            f"small steps {small:.4f}; best weight {right:.2f}, from moments alone {weight:.2f}"
        )


def judge_mask(found: dict[str, Any], checks: list[Check], curves: list[LabCurve]) -> None:
    """Add the best weight of a student with a fixed mask and a dense optimal teacher."""
    tr_gg, tr_gh, tr_hh = found["masked_traces"]
    excess, weight = found["masked"], min(max(tr_gh / tr_hh, 0.0), 1.0)
    best = float(MASKED_WEIGHTS[int(excess.argmin())])
    spacing = float(MASKED_WEIGHTS[1])
    checks.append(compare("fixed mask: best weight", best, weight, 1.5 * spacing))
    law = [
        float(excess[0]) * float(predicted_factor(w, tr_gg, tr_gh, tr_hh)) for w in MASKED_WEIGHTS
    ]
    curves.append(
        LabCurve(
            f"fixed mask, dense teacher (weight predicted {weight:.2f})",
            "distillation weight",
            "excess cross-entropy [nats]",
            line(MASKED_WEIGHTS),
            line(excess),
            line(law),
        )
    )


def judge_unbiased(found: dict[str, Any], sizes: MnistSizes, checks: list[Check]) -> None:
    """Add what unbiased distillation, repeated self-distillation and SVRG leave."""
    tr_gg, tr_gh, tr_hh = found["problem"].traces(found["best"], found["teachers"]["poor"])
    plain, left = float(found["excess"]["poor"][0]), "share of the excess left"
    for name, share, law, within in (
        (
            "unbiased, poor teacher",
            found["unbiased"],
            float(predicted_factor(tr_gh / tr_hh, tr_gg, tr_gh, tr_hh)),
            UNBIASED_WITHIN,
        ),
        (
            "repeated self-distillation",
            found["repeated"],
            repeated_factor(sizes.repeated_weight),
            REPEATED_WITHIN,
        ),
    ):
        checks.append(compare(f"{name}: {left}", share / plain, law, within, "relative"))
    checks.append(compare(f"SVRG from afar: {left}", found["svrg"] / plain, 0.0, CONVERGED))


def judge_network(found: dict[str, Any], checks: list[Check], curves: list[LabCurve]) -> None:
    """Add how a ReLU network's gradient is aligned with that of self-distillation."""
    cosines: np.ndarray = found["cosines"]  # [epochs, 4]: mean, std, least, most
    text = "ReLU network: least mean cosine of an epoch"
    checks.append(compare(text, float(cosines[:, 0].min()), 0.0, 0.0, "at_least"))
    curves.append(
        LabCurve(
            "ReLU network: cosine of the two gradients",
            "epoch",
            "cosine",
            line(range(1, len(cosines) + 1)),
            line(cosines[:, 0]),
            None,
            {"least": line(cosines[:, 2]), "most": line(cosines[:, 3])},
        )
    )
    curves.append(
        LabCurve(
            "ReLU network after the last epoch",
            "distillation weight",
            "training cross-entropy [nats]",
            line(found["weights"]),
            line(found["losses"]),
        )
    )
