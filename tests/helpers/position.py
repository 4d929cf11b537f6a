"""Section 9.3 of the reference: one token position, its losses and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor


TEACHER = torch.tensor([0.5, 0.25, 0.125, 0.1, 0.025], dtype=torch.float64)
SCORES = torch.tensor([1.0, 0.5, 0.0, -0.5, 0.2], dtype=torch.float64)
FULL = [-0.1221951616, -0.0208497821, 0.0139866328, -0.0157003459, 0.1447586567]

# By row of the table: the value and the gradient with respect to the logits.
TABLE: dict[str, tuple[float, list[float]]] = {
    "cross_entropy": (
        1.4733775171,
        [0.3778048384, -0.7708497821, 0.1389866328, 0.0842996541, 0.1697586567],
    ),
    "naive": (
        0.3683443793,
        [0.0944512096, -0.1927124455, 0.0347466582, 0.0210749135, 0.0424396642],
    ),
    "sel": (
        0.0037917380,
        [0.0329004377, -0.0671280318, 0.0121033946, 0.0073410799, 0.0147831196],
    ),
    "k3": (
        0.0036840276,
        [0.0315085942, -0.0642881999, 0.0115913640, 0.0070305177, 0.0141577240],
    ),
    "control_variate": (
        1.9316779529,
        [0.2046567163, -0.4175689910, 0.0752889984, 0.0456650859, 0.0919581904],
    ),
    "full_kl": (0.1178196482, FULL),
    "reverse_kl": (
        0.1996892739,
        [-0.1813159509, -0.0657139648, -0.0130126582, -0.0312314790, 0.2912740528],
    ),
    "raw": (
        0.1618859573,
        [-0.2166463712, -0.0781373366, 0.1042399746, 0.0632247406, 0.1273189925],
    ),
    "renormalised": (
        0.5035300155,
        [-0.2888618282, -0.1041831154, 0.1389866328, 0.0842996541, 0.1697586567],
    ),
    "bucket": (
        0.0487701953,
        [-0.1221951616, -0.0208497821, 0.0505828542, 0.0306800519, 0.0617820376],
    ),
    "skew_kl": (
        0.1012867541,
        [-0.1013672434, -0.0200659965, 0.0094246236, -0.0137097786, 0.1257183949],
    ),
    "jsd_half": (
        0.0351895454,
        [-0.0334521941, -0.0082124038, 0.0016983231, -0.0048989001, 0.0448651749],
    ),
    "jsd_tenth": (
        0.0109198682,
        [-0.0111223755, -0.0020492970, 0.0011552084, -0.0014667311, 0.0134831953],
    ),
    "counts": (
        0.3231069779,
        [-0.2221951616, 0.0291502179, -0.0610133672, 0.0842996541, 0.1697586567],
    ),
    "counts_one": (
        2.1324421101,
        [-0.0933881152, 0.0156155535, 0.0419667502, 0.0118808061, 0.0239250054],
    ),
    "counts_half": (
        1.7029098136,
        [-0.1577916384, 0.0223828857, -0.0095233085, 0.0480902301, 0.0968418310],
    ),
    "censored_outside": (
        1.5883163992,
        [-0.1221951616, -0.0208497821, 0.4041979689, -0.7548415393, 0.4936885140],
    ),
    "censored_inside": (
        0.0487701953,
        [-0.1221951616, -0.0208497821, 0.0505828542, 0.0306800519, 0.0617820376],
    ),
}


def student() -> Tensor:
    """Return the student's logits as a row that takes a gradient."""
    return SCORES[None].clone().requires_grad_()


def reported(labels: Tensor) -> Tensor:
    """Return the teacher's log-probabilities of labels."""
    return TEACHER.log()[labels]


def random_position(classes: int, seed: int, far: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return a student's logits and a teacher's probabilities, ``far`` from each other."""
    source = torch.Generator().manual_seed(seed)
    teacher = torch.randn(classes, generator=source, dtype=torch.float64)
    noise = torch.randn(classes, generator=source, dtype=torch.float64)
    return teacher + far * noise, teacher.softmax(0)
