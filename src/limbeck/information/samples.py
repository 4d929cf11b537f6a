"""What estimators accept: rows of features or posteriors with their labels, checked by name."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.checks import DataError, ShapeError
from limbeck.information.entropy import table_entropy
from limbeck.randomness import derive_seed


MOST = 200_000  # rows that are used; more hardly narrow an interval
LEAST_A_CLASS = 2
LEAST = 50  # rows
SUM_TOLERANCE = 1e-3  # of posteriors, which may come in half precision


def array(given: np.ndarray | Tensor) -> np.ndarray:
    """Return a numpy array of the given one."""
    if isinstance(given, Tensor):
        held = given.detach().cpu()
        return (held.float() if held.dtype in (torch.bfloat16, torch.float16) else held).numpy()
    return np.asarray(given)


def device_of(given: np.ndarray | Tensor) -> torch.device:
    """Return where a tensor lies, the CPU for an array."""
    return given.device if isinstance(given, Tensor) else torch.device("cpu")


def same_rows(where: str, **given: np.ndarray | Tensor) -> None:
    """Raise ShapeError unless all have one number of rows."""
    if len({len(rows) for rows in given.values()}) > 1:
        got = ", ".join(f"{name} {len(rows)}" for name, rows in given.items())
        raise ShapeError(
            f"{where}: expected one number of rows; got {got}. Take all from the same samples, in "
            "one order."
        )


def features(where: str, name: str, given: np.ndarray | Tensor) -> Float[np.ndarray, "n d"]:
    """Return finite features as a matrix."""
    rows = array(given)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ShapeError(
            f"{where}: expected `{name}` [rows, width]; got shape {tuple(rows.shape)}. Pool maps "
            "over their positions first."
        )
    if rows.dtype.kind not in "fiu":
        raise DataError(f"{where}: expected real numbers in `{name}`; got {rows.dtype}.")
    rows = rows.astype(np.float32 if rows.dtype == np.float32 else np.float64, copy=False)
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise DataError(
            f"{where}: expected finite numbers in `{name}`; {len(bad)} of {len(rows)} rows hold "
            f"others, the first is row {bad[0]}. Look for what made them."
        )
    return rows


def columns(where: str, given: np.ndarray | Tensor) -> int:
    """Return the number of classes that posteriors are about."""
    if given.ndim != 2:
        raise ShapeError(
            f"{where}: expected posteriors [rows, classes]; got shape {tuple(given.shape)}."
        )
    return int(given.shape[1])


def labels(
    where: str, given: np.ndarray | Tensor, *, known: int | None = None
) -> tuple[Int[np.ndarray, " n"], int]:
    """Return class numbers and how many classes there are."""
    targets = array(given)
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise DataError(
            f"{where}: expected `targets` to be class numbers [rows]; got {targets.dtype} of shape "
            f"{tuple(targets.shape)}. For regression take method 'gaussian'."
        )
    if len(targets) < LEAST:
        raise DataError(
            f"{where}: expected at least {LEAST} rows; got {len(targets)}. Measure on more: about "
            "1000 and 20 a class are needed for intervals that hold."
        )
    if targets.min() < 0 or (known is not None and targets.max() >= known):
        upper = "" if known is None else f" and below {known}"
        raise DataError(
            f"{where}: expected targets from 0{upper}; got {targets.min()} to {targets.max()}. "
            "Leave unlabelled rows out."
        )
    present, counts = np.unique(targets, return_counts=True)
    if len(present) < 2:
        raise DataError(
            f"{where}: expected at least two classes; got only class {present[0]}. There is "
            "nothing to know about targets that are all the same."
        )
    if counts.min() < LEAST_A_CLASS:
        few = present[counts < LEAST_A_CLASS]
        raise DataError(
            f"{where}: expected at least {LEAST_A_CLASS} rows of every class; {len(few)} have "
            f"fewer, such as class {few[0]}. Measure on more rows or leave these out."
        )
    return targets.astype(np.int64), int(targets.max()) + 1 if known is None else known


def posteriors(
    where: str, name: str, given: np.ndarray | Tensor | None, classes: int, rows: int
) -> Float[np.ndarray, "n classes"] | None:
    """Return rows that are distributions over the classes."""
    if given is None:
        return None
    found = array(given)
    if found.shape != (rows, classes):
        raise ShapeError(
            f"{where}: expected `{name}` [{rows}, {classes}]; got {tuple(found.shape)}. One row a "
            "sample, one column a class."
        )
    found = found.astype(np.float64)
    bad = ~(np.isfinite(found).all(1) & (found >= 0).all(1))
    bad |= np.abs(found.sum(1) - 1.0) > SUM_TOLERANCE
    if bad.any():
        raise DataError(
            f"{where}: expected rows of `{name}` that are >= 0 and sum to 1; {int(bad.sum())} of "
            f"{rows} do not, the first is row {int(bad.argmax())}. Pass probabilities, not logits."
        )
    return found / found.sum(1, keepdims=True)


def chosen_rows(rows: int, seed: int) -> Int[np.ndarray, " m"] | slice:
    """Return the rows that are used: all, or as many as are worth it, chosen by the seed."""
    if rows <= MOST:
        return slice(None)
    random = np.random.default_rng(derive_seed(seed, "rows"))
    return np.sort(random.choice(rows, MOST, replace=False))


def entropy(targets: Int[np.ndarray, " n"]) -> float:
    """Return H(Y) of the counts with Miller and Madow's correction [bits].

    Informations are differences to it, and less biased if it may pass log2 of the classes.
    """
    return table_entropy(np.bincount(targets), correction="miller-madow")


def most_known(targets: Int[np.ndarray, " n"]) -> float:
    """Return the same, at most log2 of the number of classes that occur [bits]."""
    return min(entropy(targets), math.log2(len(np.unique(targets))))
