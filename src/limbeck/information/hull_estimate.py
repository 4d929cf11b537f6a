"""From cross-fitted posteriors to atoms with intervals, through the hull."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from limbeck.information.bracket import hull_gap
from limbeck.information.hull import Hull, fit_hull
from limbeck.information.pid import ATOMS
from limbeck.information.probes import Probe
from limbeck.information.samples import entropy as target_entropy
from limbeck.information.threads import side_by_side
from limbeck.randomness import derive_seed


# What a probe lacks falls as 1/n: a quarter of the rows lacks four times as much.
CURVE = 1.0 / 3.0
WIDENING = 1.0  # share of the extrapolated part that the interval is wider by, on both sides
QUANTILE = 1.96
INFORMATIONS = ("mutual_teacher", "mutual_student", "mutual_joint", "union")


@dataclass(frozen=True, eq=False)
class Terms:
    """Log probabilities of each row's label [nats]; their means are cross-entropies."""

    teacher: Float[np.ndarray, " n"]
    student: Float[np.ndarray, " n"]
    joint: Float[np.ndarray, " n"]
    union: Float[np.ndarray, " n"]

    def stacked(self) -> Float[np.ndarray, "4 n"]:
        """Return them in the order of ``INFORMATIONS``."""
        return np.stack([self.teacher, self.student, self.joint, self.union])


@dataclass(frozen=True, eq=False)
class Figures:
    """Atoms and informations by name [bits], before anything is clipped.

    Attributes:
        values: Extrapolated to probes fitted on endless rows.
        measured: With the probes as they are.
        below: How far the 95 % interval reaches below the value.
        above: How far it reaches above.
    """

    values: Mapping[str, float]
    measured: Mapping[str, float]
    below: Mapping[str, float]
    above: Mapping[str, float]


def hull_terms(
    teacher: Float32[np.ndarray, "n classes"],
    student: Float32[np.ndarray, "n classes"],
    targets: Int[np.ndarray, " n"],
    *,
    seed: int,
    device: torch.device | str = "cpu",
    starts: Sequence[Hull | None] = (None, None),
) -> tuple[Float[np.ndarray, " n"], tuple[Hull, ...]]:
    """Return lambda + mu at each row's label [nats], and the two hulls that other rows chose."""
    half = _halves(targets, seed)
    p, q = (torch.as_tensor(side).to(device) for side in (teacher, student))
    y = torch.as_tensor(targets, dtype=torch.int64).to(device)
    found = np.empty(len(targets))

    def fit(turn: int, start: Hull | None) -> Hull:
        fitted, held = (torch.as_tensor(half == part).to(device) for part in (turn, 1 - turn))
        hull = fit_hull(p[fitted], q[fitted], y[fitted], seed=seed, start=start)
        found[half != turn] = _at_labels(hull, p[held], q[held], y[held])
        return hull

    hulls = side_by_side([partial(fit, turn, start) for turn, start in enumerate(starts)])
    return found, tuple(hulls)


def _halves(targets: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Return 0 or 1 for each row; every class is split evenly."""
    random = np.random.default_rng(derive_seed(seed, "halves"))
    half = np.empty(len(targets), dtype=np.int64)
    half[np.lexsort((random.random(len(targets)), targets))] = np.arange(len(targets)) % 2
    return half


def _at_labels(
    hull: Hull, teacher: torch.Tensor, student: torch.Tensor, targets: torch.Tensor
) -> Float[np.ndarray, " n"]:
    found = []
    for p, q, y in zip(*(rows.split(20_000) for rows in (teacher, student, targets)), strict=True):
        first, second = hull.duals(p, q)
        at = y[:, None]
        found.append((first.gather(1, at) + second.gather(1, at))[:, 0].double().cpu().numpy())
    return np.concatenate(found)


def terms_of(
    probes: Mapping[str, Probe],
    targets: Int[np.ndarray, " n"],
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> tuple[Terms, Terms, float | None]:
    """Return the terms of the probes, of their coarse versions, and the hull's gap [bits]."""
    index = np.arange(len(targets))

    def terms(kind: str, starts: Sequence[Hull | None]) -> tuple[Terms, tuple[Hull, ...]]:
        said = {name: getattr(probe, kind) for name, probe in probes.items()}
        logs = {name: np.log(p[index, targets].astype(np.float64)) for name, p in said.items()}
        union, hulls = hull_terms(
            said["teacher"], said["student"], targets, seed=seed, device=device, starts=starts
        )
        return Terms(logs["teacher"], logs["student"], logs["joint"], union), hulls

    full, hulls = terms("posteriors", (None, None))
    held = _halves(targets, seed) == 1  # of the first hull
    sides = [probes[side].posteriors[held] for side in ("teacher", "student")]
    return full, terms("coarse", hulls)[0], hull_gap(hulls[0], *sides, seed=seed)


def figures_of(
    full: Terms, coarse: Terms, targets: Int[np.ndarray, " n"], gap: float = 0.0
) -> Figures:
    r"""Return the atoms with what the probes lack extrapolated, and their intervals.

    Each cross-entropy is extrapolated as :math:`v + (v - v_{n/4})/3`, row by row, so that the
    identities between atoms and informations hold. The interval joins the rows' standard error
    and the extrapolated part, which is not known better than to its own size. What the union
    information may be more than the hull's bound, ``gap`` [bits], lengthens it on that side.
    """
    n = len(targets)
    surprise = -np.log(np.bincount(targets)[targets] / n)
    to_bits = 1.0 / math.log(2.0)
    entropy = target_entropy(targets) / to_bits
    rows, quarter = full.stacked(), coarse.stacked()
    step = CURVE * (rows - quarter)
    values, measured, below, above = {}, {}, {}, {}
    for name, weights in _weights().items():
        share = float(weights.sum())
        own = weights @ (rows + step) + share * surprise
        values[name] = (float((weights @ (rows + step)).mean()) + share * entropy) * to_bits
        measured[name] = (float((weights @ rows).mean()) + share * entropy) * to_bits
        error = QUANTILE * float(own.std()) / math.sqrt(n) * to_bits
        width = math.hypot(error, WIDENING * (values[name] - measured[name]))
        further = gap * weights[INFORMATIONS.index("union")]
        below[name], above[name] = width - min(further, 0.0), width + max(further, 0.0)
    return Figures(values, measured, below, above)


def _weights() -> dict[str, Float[np.ndarray, " 4"]]:
    """Return how each atom and information is made of teacher, student, joint and union."""
    atoms = ((0, -1, 0, 1), (-1, 0, 0, 1), (1, 1, 0, -1), (0, 0, 1, -1))
    named = dict(zip(ATOMS, atoms, strict=True))
    named |= dict(zip(INFORMATIONS, np.eye(4).tolist(), strict=True))
    return {name: np.array(row, dtype=np.float64) for name, row in named.items()}
