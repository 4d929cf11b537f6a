"""The gradient-noise view: what ``limbeck weigh`` saved beside runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.report import weights
from limbeck.report.pictures import Picture


_COLUMNS = (
    ("weight", "Weight"),
    ("noise_left", "Noise left [share of SGD's]"),
    ("bias_one_step", "Bias of a step [share]"),
    ("bias_long_run", "Bias that lasts [share]"),
    ("plateau", "Plateau above the least loss [nats]"),
)
_ADVISED = {"one_step": "a single step", "horizon": "the steps named", "loss": "the training loss"}


def section(record: Mapping[str, Any], place: str, suffix: str = "") -> dict[str, Any]:
    """Return one variance report for the template; numbers are words already.

    Args:
        record: As ``weights.json`` has it.
        place: The folder it lies in.
        suffix: Put behind the name of its figure, to tell it from others'.
    """
    advice, used = record["advice"], record.get("weight_in_use")
    title = "Noise and bias of the gradient by the distillation weight"
    picture = Picture(
        f"weights{suffix}",
        f"{title}, {place}",
        lambda _: weights.weights_figure(record),
        settings=lambda _: {**weights.SETTINGS, "pdf.fonttype": 42},
        keeps_colours=True,
    )
    return {
        "place": place,
        "verdict": _sentence(record["verdict"]),
        "advice": [
            {"name": name, "value": _value(advice[key]), "ends": _ends(advice[key])}
            for key, name in _ADVISED.items()
            if isinstance(advice.get(key), Mapping)
        ],
        "used": None if used is None else f"{used:.3g}",
        "diagnosis": advice.get("diagnosis", ""),
        "notes": [_sentence(text) for text in record.get("notes", [])],
        "figures": [
            {
                "title": title,
                "unit": "",
                "picture": picture,
                "columns": [said for _, said in _COLUMNS],
                "rows": [[_number(one.get(key)) for key, _ in _COLUMNS] for one in record["grid"]],
            }
        ],
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(estimate: Mapping[str, Any]) -> str:
    if estimate["status"] == "unresolved" or estimate["value"] is None:
        return "unresolved"
    return f"{estimate['value']:.3f}"


def _ends(estimate: Mapping[str, Any]) -> str:
    ends = (estimate["lower"], estimate["upper"])
    return f"[{', '.join('?' if end is None else f'{end:.3f}' for end in ends)}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
