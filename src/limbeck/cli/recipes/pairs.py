"""The 13 pairs of CIFAR-100 networks of the literature, and their layers by the zoo's names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A teacher and a student.

    Attributes:
        letter: Its name in tables, A to M; A to G have one kind of network on both sides.
        teacher: Name in the zoo.
        student: Name in the zoo.
        teacher_accuracy: Published, trained without a teacher [percent].
        student_accuracy: The same of the student.
    """

    letter: str
    teacher: str
    student: str
    teacher_accuracy: str
    student_accuracy: str

    @property
    def name(self) -> str:
        """As it stands in the names of recipes: TEACHER-STUDENT."""
        return f"{self.teacher}-{self.student}"

    @property
    def learning_rate(self) -> float:
        """As published for the student."""
        return learning_rate(self.student)


_R50, _MOBILE = "resnet50_32px", "mobilenetv2_half"

PAIRS = {
    pair.letter: pair
    for pair in (
        Pair("A", "wrn_40_2", "wrn_16_2", "75.61", "73.26"),
        Pair("B", "wrn_40_2", "wrn_40_1", "75.61", "71.98"),
        Pair("C", "resnet56", "resnet20", "72.34", "69.06"),
        Pair("D", "resnet110", "resnet20", "74.31", "69.06"),
        Pair("E", "resnet110", "resnet32", "74.31", "71.14"),
        Pair("F", "resnet32x4", "resnet8x4", "79.42", "72.50"),
        Pair("G", "vgg13", "vgg8", "74.64", "70.36"),
        Pair("H", "vgg13", _MOBILE, "74.64", "64.60"),
        Pair("I", _R50, _MOBILE, "79.34", "64.60"),
        Pair("J", _R50, "vgg8", "79.34", "70.36"),
        Pair("K", "resnet32x4", "shufflenetv1", "79.42", "70.50"),
        Pair("L", "resnet32x4", "shufflenetv2", "79.42", "71.82"),
        Pair("M", "wrn_40_2", "shufflenetv1", "75.61", "70.50"),
    )
}
"""By letter. Accuracies: the table of HobbitLong/RepDistiller (Tian et al. 2020), last epoch."""

ALONE = {pair.teacher: pair.teacher_accuracy for pair in PAIRS.values()} | {
    pair.student: pair.student_accuracy for pair in PAIRS.values()
}
"""Published accuracy [percent] of every network of the pairs when it learns without a teacher."""


def learning_rate(network: str) -> float:
    """Return the published learning rate of a network that learns."""
    return 0.01 if network.startswith(("mobilenet", "shufflenet")) else 0.05


def stages(network: str) -> list[str]:
    """Return the layers after each stage, which losses on several maps take.

    Those of the wide ResNets and of MobileNetV2 are signed, the others after a ReLU.
    """
    prefix = "layer" if network.startswith("resnet") else "stage"
    deep = network.startswith(("vgg", "mobilenet", _R50))
    return [f"{prefix}{i}" for i in range(1, 5 if deep else 4)]


def averaged_map(network: str) -> str:
    """Return the map that the global average pooling before the classifier averages."""
    if network.startswith("wrn"):
        return "relu"
    return "head" if network in (_MOBILE, "shufflenetv2") else stages(network)[-1]
