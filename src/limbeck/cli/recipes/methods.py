"""What each method's loss and training are for a pair, as published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limbeck.cli.recipes.pairs import PAIRS, Pair, averaged_map, stages
from limbeck.cli.recipes.published import CATKD, DKD_BETA, LSKD, LUMINET, REVIEWKD, TEMPERED, WKD


Loss = dict[str, Any]

_WARMUP = 20  # epochs in which the term's weight rises, as in megvii-research/mdistiller
_ROWS = 50_000  # of the training set, in the memory bank of CRD


@dataclass(frozen=True)
class Method:
    """How a method goes into a recipe.

    Attributes:
        title: As people write it.
        loss: The recipe's ``loss`` for a pair; None where nothing is published for it.
        weight: The recipe's ``weight``; None adds the loss to the task's with its own weights.
        warmup: Epochs in which the loss's weight rises.
        learning_rate: In place of the student's usual one.
        note: What differs from the publication, or must be known.
        first_stage: Whether the recipe is that of 30 epochs on this term alone, after which the
            student is trained without a teacher.
    """

    title: str
    loss: Callable[[Pair], Loss | None]
    weight: float | None = None
    warmup: int = 0
    learning_rate: float | None = None
    note: str = ""
    first_stage: bool = False

    @property
    def letters(self) -> str:
        """The pairs that it is published for."""
        return "".join(letter for letter, pair in PAIRS.items() if self.loss(pair) is not None)


def _layers(student: list[str], teacher: list[str]) -> dict[str, Any] | list[str] | str:
    """Return a loss's ``layer``, as short as it can be said."""
    if student == teacher:
        return student if len(student) > 1 else student[0]
    one = len(student) == 1
    return {"student": student[0], "teacher": teacher[0]} if one else _both(student, teacher)


def _both(student: list[str], teacher: list[str]) -> dict[str, list[str]]:
    return {"student": student, "teacher": teacher}


def _all_stages(pair: Pair) -> Any:
    return _layers(stages(pair.student), stages(pair.teacher))


def _stage(pair: Pair, place: int) -> Any:
    return _layers([stages(pair.student)[place]], [stages(pair.teacher)[place]])


def _pooled_only(name: str, weight: float) -> Callable[[Pair], Loss]:
    return lambda _: {name: {"weight": weight}}


def _on_stages(name: str, weight: float) -> Callable[[Pair], Loss]:
    return lambda pair: {name: {"weight": weight, "layer": _all_stages(pair)}}


def _on_last_map(name: str, weight: float) -> Callable[[Pair], Loss]:
    return lambda pair: {name: {"weight": weight, "layer": _stage(pair, -1)}}


def _itrd(pair: Pair) -> Loss:
    alpha = 1.01 if pair.letter in "ABCDEFG" else 1.5
    mutual = 0.0 if pair.letter in "IJM" else 1.0
    return {"itrd": {"weight": 1.0, "alpha": alpha, "mutual_weight": mutual}}


def _crd(_: Pair) -> Loss:
    return {"crd": {"weight": 0.8, "bank": _ROWS}}


def _tempered(name: str, table: str) -> Callable[[Pair], Loss]:
    def loss(pair: Pair) -> Loss:
        exponent, weight = TEMPERED[table][pair.letter]
        return {name: {"weight": weight, "exponent": exponent}}

    return loss


def _dkd(pair: Pair) -> Loss | None:
    beta = DKD_BETA.get(pair.letter)
    if beta is None:
        return None
    return {"dkd": {"weight": 1.0, "temperature": 4.0, "nontarget_weight": beta}}


def _catkd(pair: Pair) -> Loss | None:
    if pair.letter not in CATKD:
        return None
    weight, size, normalise = CATKD[pair.letter]
    layer = _layers([averaged_map(pair.student)], [averaged_map(pair.teacher)])
    return {"catkd": {"weight": weight, "size": size, "normalise": normalise, "layer": layer}}


def _luminet(pair: Pair) -> Loss | None:
    if pair.letter not in LUMINET:
        return None
    scale, temperature, task = LUMINET[pair.letter]
    options = {"scale": scale, "temperature": temperature}
    # By its name alone it brings the published weight 2 of the task; in a sum that is 1.
    return {"name": "luminet", **options} if task == 2.0 else {"luminet": {"weight": 1.0} | options}


def _lskd(pair: Pair) -> Loss | None:
    if pair.letter not in LSKD:
        return None
    temperature, weight = LSKD[pair.letter]
    # The recipe's weight 0.9 takes 0.1 x task + 0.9 x loss, so the loss brings weight / 0.9.
    return {"lskd": {"weight": round(weight / 0.9, 6), "temperature": temperature}}


def _reviewkd(pair: Pair) -> Loss | None:
    weight = REVIEWKD.get(pair.letter)
    if weight is None:
        return None
    ends = [[*stages(network), "penultimate"] for network in (pair.student, pair.teacher)]
    return {"reviewkd": {"weight": weight, "layer": _layers(*ends)}}


def _skd(pair: Pair) -> Loss | None:
    return {"name": "skd", "temperature": 4.0} if pair.letter in "ABCEFG" else None


def _on_logits(temperature: float, distance: float) -> Loss:
    return {"wkdl": {"weight": 1.0, "temperature": temperature, "distance_weight": distance}}


def _on_maps(pair: Pair, weight: float, ratio: float, grid: int) -> Loss:
    layer = _stage(pair, -1)
    return {"wkdf": {"weight": weight, "mean_weight": ratio, "grid": grid, "layer": layer}}


def _wkdl(pair: Pair) -> Loss | None:
    found = WKD["wkdl"].get(pair.letter)
    return None if found is None else _on_logits(*found)


def _wkdf(pair: Pair) -> Loss | None:
    found = WKD["wkdf"].get(pair.letter)
    return None if found is None else _on_maps(pair, *found)


def _wkd(pair: Pair) -> Loss | None:
    found = WKD["wkdl+wkdf"].get(pair.letter)
    return None if found is None else _on_logits(*found[:2]) | _on_maps(pair, *found[2:])


def _ab(pair: Pair) -> Loss:
    return {"name": "ab", "share": 1.0, "layer": _all_stages(pair)}


def _fsp(pair: Pair) -> Loss | None:
    """Only where teacher and student have equal channels, as the method wants it."""
    if pair.letter not in "ACDEFG":
        return None
    layer = _layers(["stem", *stages(pair.student)], ["stem", *stages(pair.teacher)])
    return {"name": "fsp", "share": 1.0, "layer": layer}


def _sum(*parts: Callable[[Pair], Loss]) -> Callable[[Pair], Loss]:
    def loss(pair: Pair) -> Loss:
        found: Loss = {}
        for part in parts:
            found |= part(pair)
        return found

    return loss


def _kd_beside(_: Pair) -> Loss:
    """KD beside another loss: full weight, as in RepDistiller's commands for CRD+KD."""
    return {"kd": {"weight": 1.0, "temperature": 4.0}}


_DECAY = "Its weight fell to 0 from epoch 150 on; here it stays."

METHODS: dict[str, Method] = {
    "kd": Method("KD", lambda _: {"name": "kd", "temperature": 4.0}, weight=0.9),
    "fitnet": Method("FitNet", lambda p: {"fitnet": {"weight": 100.0, "layer": _stage(p, 1)}}),
    "at": Method("AT", _on_stages("at", 1000.0)),
    "sp": Method("SP", _on_last_map("sp", 3000.0)),
    "cc": Method("CC", _pooled_only("cc", 0.02)),
    "vid": Method("VID", _on_stages("vid", 1.0)),
    "rkd": Method("RKD", _pooled_only("rkd", 1.0)),
    "pkt": Method("PKT", _pooled_only("pkt", 30000.0)),
    "ab": Method("AB", _ab, weight=1.0, first_stage=True),
    "ft": Method(
        "FT",
        lambda p: {"name": "ft", "layer": _stage(p, -1)},
        note="The first 30 of the epochs train its paraphraser.",
    ),
    "fsp": Method("FSP", _fsp, weight=1.0, first_stage=True),
    "nst": Method("NST", _on_stages("nst", 50.0)),
    "crd": Method("CRD", _crd),
    "itrd": Method("ITRD", _itrd),
    "dkd": Method("DKD", _dkd, warmup=_WARMUP),
    "dist": Method("DIST", lambda _: {"dist": {"weight": 2.0, "temperature": 4.0}}),
    "ttm": Method("TTM", _tempered("ttm", "ttm")),
    "wttm": Method("WTTM", _tempered("wttm", "wttm")),
    "lskd": Method("LSKD", _lskd, weight=0.9),
    "ctkd": Method("CTKD", lambda _: {"name": "ctkd"}, weight=0.9),
    "catkd": Method("CAT-KD", _catkd),
    "luminet": Method("LumiNet", _luminet, warmup=_WARMUP),
    "reviewkd": Method(
        "ReviewKD", _reviewkd, warmup=_WARMUP, note="There the teacher's maps are before the ReLU."
    ),
    "rld": Method(
        "RLD",
        lambda _: {
            "rld": {
                "weight": 1.0,
                "temperature": 4.0,
                "confidence_weight": 1.0,
                "correlation_weight": 8.0,
            }
        },
        warmup=_WARMUP,
    ),
    "skd": Method("SKD", _skd, learning_rate=0.1),
    "wkdl": Method("WKD-L", _wkdl, note=_DECAY),
    "wkdf": Method("WKD-F", _wkdf, note=_DECAY),
    "kd+crd": Method("KD+CRD", _sum(_kd_beside, _crd)),
    "kd+itrd": Method("KD+ITRD", _sum(_kd_beside, _itrd), note="KD's weight is that of KD+CRD."),
    "wttm+crd": Method("WTTM+CRD", _sum(_tempered("wttm", "wttm+crd"), _crd)),
    "wttm+itrd": Method("WTTM+ITRD", _sum(_tempered("wttm", "wttm+itrd"), _itrd)),
    "wkdl+wkdf": Method("WKD-L+F", _wkd, note=_DECAY),
}
"""By name, as in the names of recipes; sums of losses are written with a plus."""


def weight_of(method: Method, pair: Pair) -> float | None:
    """Return the recipe's ``weight``: SKD's differs for one pair."""
    if method.title == "SKD":
        return 0.5 if pair.letter == "F" else 0.9
    return method.weight
