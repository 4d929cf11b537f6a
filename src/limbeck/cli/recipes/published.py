"""Published accuracies on CIFAR-100 and published weights, by method and pair."""

from __future__ import annotations


_LETTERS = "ABCDEFGHIJKLM"


def _by_pair(text: str) -> dict[str, str]:
    """Return the entries of a row by the pairs' letters; "-" stands for none."""
    entries = dict(zip(_LETTERS, text.split(), strict=True))
    return {letter: entry for letter, entry in entries.items() if entry != "-"}


_CRD = "Tian et al. 2020, last epoch"
_TTM = "Zheng and Yang 2024"
_LS = "Sun et al. 2024, best epoch on test data"

#: Method: source and accuracies [percent] for the pairs A to M.
_TABLE = {
    "kd": (_CRD, "74.92 73.54 70.66 70.67 73.08 73.33 72.98 67.37 67.35 73.81 74.07 74.45 74.83"),
    "fitnet": (
        _CRD,
        "73.58 72.24 69.21 68.99 71.06 73.50 71.02 64.14 63.16 70.69 73.59 73.54 73.73",
    ),
    "at": (_CRD, "74.08 72.77 70.55 70.22 72.31 73.44 71.43 59.40 58.58 71.84 71.73 72.73 73.32"),
    "sp": (_CRD, "73.83 72.43 69.67 70.04 72.69 72.94 72.68 66.30 68.08 73.34 73.48 74.56 74.52"),
    "cc": (_CRD, "73.56 72.21 69.63 69.48 71.48 72.97 70.71 64.86 65.43 70.25 71.14 71.29 71.38"),
    "vid": (_CRD, "74.11 73.30 70.38 70.16 72.61 73.09 71.23 65.56 67.57 70.30 73.38 73.40 73.61"),
    "rkd": (_CRD, "73.35 72.22 69.61 69.25 71.82 71.90 71.48 64.52 64.43 71.50 72.28 73.21 72.21"),
    "pkt": (_CRD, "74.54 73.45 70.34 70.25 72.61 73.64 72.88 67.13 66.52 73.01 74.10 74.69 73.89"),
    "ab": (_CRD, "72.50 72.38 69.47 69.53 70.98 73.17 70.94 66.06 67.20 70.65 73.55 74.31 73.34"),
    "ft": (_CRD, "73.25 71.59 69.84 70.22 72.37 72.86 70.58 61.78 60.99 70.29 71.75 72.50 72.03"),
    "fsp": (_CRD, "72.91 - 69.95 70.11 71.89 72.62 70.23 - - - - - -"),
    "nst": (_CRD, "73.68 72.24 69.60 69.53 71.96 73.30 71.53 58.16 64.96 71.28 74.12 74.68 74.89"),
    "crd": (_CRD, "75.48 74.14 71.16 71.46 73.48 75.51 73.94 69.73 69.11 74.30 75.11 75.65 76.05"),
    "itrd": (
        "Miles et al. 2022, last epoch",
        "76.12 75.18 71.47 71.99 74.26 76.19 74.93 70.39 71.41 75.71 76.91 77.40 77.35",
    ),
    "dkd": (
        "Zhao et al. 2022",
        "76.24 74.81 71.97 - 74.11 76.32 74.68 69.71 70.35 - 76.45 77.07 76.70",
    ),
    "dist": (
        "Huang et al. 2022",
        "75.51 74.73 71.75 71.65 73.69 76.31 73.89 68.50 68.66 74.11 76.34 77.35 76.40",
    ),
    "ttm": (_TTM, "76.23 74.32 71.83 71.46 73.97 76.17 74.33 68.98 69.24 74.87 74.18 76.57 75.39"),
    "wttm": (_TTM, "76.37 74.58 71.92 71.67 74.13 76.06 74.44 69.16 69.59 74.82 74.37 76.55 75.42"),
    "wttm+crd": (
        _TTM,
        "76.61 74.94 72.20 72.13 74.52 76.65 74.71 70.30 70.84 75.30 75.82 77.04 76.86",
    ),
    "wttm+itrd": (
        _TTM,
        "76.65 75.34 72.16 72.20 74.36 77.36 75.13 70.70 71.56 76.00 77.03 77.68 77.44",
    ),
    "lskd": (_LS, "76.11 74.37 71.43 71.48 74.17 76.62 74.36 68.61 69.02 - - 75.56 -"),
    "ctkd": (_LS, "75.45 73.93 71.19 70.99 73.52 73.39 73.52 68.50 68.67 - - 75.37 -"),
    "catkd": (
        "Guo et al. 2023, second hand",
        "75.60 74.82 71.62 - 73.62 76.91 74.65 69.13 71.36 - 78.26 78.41 77.35",
    ),
    "luminet": ("Hossain et al. 2023", "- 75.12 - - - 77.50 74.94 70.50 70.97 - - - 76.95"),
    "reviewkd": (
        "Chen et al. 2021",
        "76.12 75.09 71.89 - 73.89 75.63 74.85 70.37 69.89 - 77.45 77.78 77.14",
    ),
    "rld": ("ICCV 2025, second hand", "- 74.88 72.00 71.67 74.02 76.64 74.93 - - - - - -"),
    "skd": (
        "CVPR 2026, own teachers, KD 0.9 to 1.4 higher",
        "76.60 76.04 72.50 - 74.84 78.33 75.75 - - - - - -",
    ),
    "wkdl": ("Lv et al. 2024", "- - - - - 76.53 - - - - - - 76.72"),
    "wkdf": ("Lv et al. 2024", "- - - - - 76.77 - - - - - - 77.36"),
    "wkdl+wkdf": ("Lv et al. 2024", "- - - - - 77.28 - - - - - - 77.50"),
}

ACCURACIES = {method: _by_pair(row) for method, (_, row) in _TABLE.items()}
"""Accuracy [percent] by method and pair, as published."""

SOURCES = {method: source for method, (source, _) in _TABLE.items()}
"""Where each method's accuracies are from, and of which epoch they are where that is known."""


def _tempered(text: str) -> dict[str, tuple[float, float]]:
    """Return (exponent g, weight beta) by pair."""
    numbers = [tuple(map(float, entry.split(","))) for entry in text.split()]
    return {letter: (g, beta) for letter, (g, beta) in zip(_LETTERS, numbers, strict=True)}


#: (g, beta) of TTM and WTTM, alone and in sums: arXiv:2402.11148, tables 8 and 9.
TEMPERED = {
    "ttm": _tempered(
        "0.1,101 0.1,76 0.3,7 0.2,8 0.1,33 0.1,100 0.1,45 0.2,16 0.2,20 0.1,70 0.2,12 0.4,40 0.3,8"
    ),
    "wttm": _tempered(
        "0.1,4 0.1,3 0.3,1.5 0.2,2 0.1,1.5 0.1,3 0.1,2.25 0.2,3 0.2,5 0.1,2 0.2,1.4 0.4,16 0.3,3"
    ),
    "wttm+crd": _tempered(
        "0.1,4 0.1,2 0.3,0.6 0.2,1.4 0.2,1 0.2,4 0.2,4 0.3,4.2 0.3,3 0.1,3 0.2,0.4 0.4,12 0.2,0.16"
    ),
    "wttm+itrd": _tempered(
        "0.3,6 0.4,0.08 0.5,5 0.3,1.5 0.3,0.015 0.1,1.5 0.1,0.5 0.3,0.03 0.2,0.02 0.1,1 0.3,0.6 "
        "0.4,0.8 0.1,0.2"
    ),
}

#: Weight of DKD's term on the other classes. megvii-research/mdistiller.
DKD_BETA = dict.fromkeys("CE", 2.0) | dict.fromkeys("ABGH", 6.0) | dict.fromkeys("FIKLM", 8.0)

#: (weight, grid, whether maps are normalised). GzyAftermath/CAT-KD.
CATKD = {
    "A": (12.0, 2, False),
    "B": (1.5, 2, False),
    "C": (0.7, 2, False),
    "E": (1.8, 2, False),
    "F": (15.0, 2, False),
    "G": (4.5, 2, False),
    "H": (15.0, 2, True),
    "I": (40.0, 2, True),
    "K": (600.0, 4, True),
    "L": (600.0, 4, True),
    "M": (80.0, 4, True),
}

#: (alpha, temperature, weight of the task). ismail31416/LumiNet.
LUMINET = {
    "B": (75.0, 8.0, 1.0),
    "F": (33.0, 4.0, 2.0),
    "G": (70.0, 8.0, 1.0),
    "H": (70.0, 8.0, 2.0),
    "I": (70.0, 8.0, 2.0),
    "M": (35.0, 4.0, 1.0),
}

#: (base temperature, weight) of standardised KD. sunshangquan/logit-standardization-KD.
LSKD = dict.fromkeys("ABCEFL", (2.0, 9.0)) | {
    "D": (4.0, 12.0),
    "G": (3.0, 9.0),
    "H": (3.0, 9.0),
    "I": (3.0, 1.0),
}

#: Weight of ReviewKD. megvii-research/mdistiller.
REVIEWKD = dict.fromkeys("ABFKM", 5.0) | {"C": 0.6, "E": 1.0, "L": 8.0}

#: (temperature, weight) on logits, and (weight, ratio, grid) on maps. JiamingLv/WKD.
WKD = {
    "wkdl": {"F": (8.0, 600.0), "M": (6.0, 200.0)},
    "wkdf": {"F": (0.08, 4.0, 1), "M": (0.3, 3.0, 4)},
    "wkdl+wkdf": {"F": (8.0, 200.0, 0.08, 8.0, 1), "M": (4.0, 60.0, 0.5, 3.0, 4)},
}
