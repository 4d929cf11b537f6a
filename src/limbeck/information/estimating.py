"""Each method of estimating, from checked samples to the result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from limbeck.estimates import Estimate
from limbeck.information import samples
from limbeck.information.gaussian_samples import gaussian_pid_from_samples
from limbeck.information.hull_estimate import figures_of, terms_of
from limbeck.information.pid import ATOMS
from limbeck.information.pid_estimate import PIDEstimate
from limbeck.information.probes import Probe, cross_fit, floored, narrowed
from limbeck.information.quantise import FeatureClusters, PosteriorCells, kept_information
from limbeck.information.rivals import held_out_r2, linear_cka, rivals
from limbeck.information.tables import TableEstimate, shuffled_atoms, table_estimate
from limbeck.randomness import derive_seed


RELIABLE = 1000  # rows; nothing that was tried is to be trusted with fewer
A_CLASS = 20  # rows that every class needs on average
FAR = 0.1  # of an atom that is extrapolated: beyond that it is not resolved
LITTLE = 0.05  # bits that may always be extrapolated
KEPT = 0.95  # share of the probe's information that symbols should keep
JOINT_WIDTH = 256  # components a side of what the joint probe sees
NULL_CELLS = 10
PERMUTATIONS = 100
LEAST_WIDTH = 1e-3  # bits: nobody knows an atom better
SIDES = ("teacher", "student")
NAMES = (*ATOMS, "mutual_teacher", "mutual_student", "mutual_joint")
SPOKEN = {
    "unique_teacher": "distillable (unique_teacher)",
    "redundant": "distilled (redundant)",
    "mutual_teacher": "I(Y;T)",
    "mutual_student": "I(Y;S)",
    "mutual_joint": "I(Y;T,S)",
}
GAUSSIAN = (
    "targets and features are taken to be jointly Gaussian, and so is what they share: an "
    "assumption, which is false for classes."
)


@dataclass(frozen=True, eq=False)
class Given:
    """Checked samples."""

    targets: Int[np.ndarray, " n"]
    classes: int
    teacher: Float[np.ndarray, "n d_t"]
    student: Float[np.ndarray, "n d_s"]
    own: Mapping[str, Float[np.ndarray, "n classes"] | None]
    total: int
    seed: int
    device: torch.device
    fitted: MutableMapping[tuple[str, str], Probe] = field(default_factory=dict)

    def settings(self, method: str, **others: Any) -> dict[str, Any]:
        """Return what makes the estimate repeatable."""
        return {
            "method": method,
            "seed": self.seed,
            "rows_used": len(self.targets),
            "rows_given": self.total,
            "classes": self.classes,
            "teacher_width": self.teacher.shape[1],
            "student_width": self.student.shape[1],
            "level": 0.95,
            **others,
        }


def _probes(given: Given, *, joint: bool = True) -> dict[str, Probe]:
    """Return cross-fitted posteriors of each side and, if wanted, of both together.

    All have one seed, hence the same folds: what chance does to both sides is no difference.
    """
    found = {
        side: _probe(given, side, features)
        for side, features in zip(SIDES, (given.teacher, given.student), strict=True)
    }
    if not joint:
        return found
    both = [narrowed(rows, JOINT_WIDTH, given.seed) for rows in (given.teacher, given.student)]
    found["joint"] = cross_fit(
        np.concatenate(both, 1),
        given.targets,
        given.classes,
        seed=given.seed,
        given=_apart(found, "posteriors", given),
        coarse_given=_apart(found, "coarse", given),
        device=given.device,
    )
    return found


def _probe(given: Given, side: str, features: Float[np.ndarray, "n d"]) -> Probe:
    """Return the probe of one side, which may have been fitted to these very rows before."""
    own = given.own[side]
    arrays = (given.targets, features) if own is None else (given.targets, features, own)
    # By content, so that a kept probe is never one of other rows.
    digest = hashlib.blake2b(f"{given.seed} {given.classes}".encode(), digest_size=16)
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    key = (side, digest.hexdigest())
    if key not in given.fitted:
        given.fitted[key] = cross_fit(
            features,
            given.targets,
            given.classes,
            seed=given.seed,
            given=None if own is None else {"own": np.log(floored(own))},
            device=given.device,
        )
    return given.fitted[key]


def _apart(probes: Mapping[str, Probe], kind: str, given: Given) -> dict[str, np.ndarray]:
    """Return log posteriors for both sides together that need no fit of their own."""
    teacher, student = (np.log(getattr(probes[side], kind)) for side in SIDES)
    counts = np.bincount(given.targets, minlength=given.classes) + 0.5
    both = teacher + student - np.log(counts / counts.sum()).astype(np.float32)
    both -= both.max(1, keepdims=True)
    both -= np.log(np.exp(both).sum(1, keepdims=True))
    return {"teacher": teacher, "student": student, "independent": both}


def by_cells(given: Given, n_symbols: int | None) -> PIDEstimate:
    """Return the estimate of the probes' posteriors, clustered to symbols and solved exactly."""
    probes = _probes(given, joint=False)
    count = n_symbols or min(2 * given.classes, 50)
    symbols = [_cells(probes[side].posteriors, count, given) for side in SIDES]
    table = table_estimate(given.targets, *symbols, seed=given.seed)
    kept = {
        side: kept_information(given.targets, own, probes[side].posteriors)
        for side, own in zip(SIDES, symbols, strict=True)
    }
    lost = (
        "cells of the two sides' posteriors lose what only both features together tell: synergy "
        "is too low. Take it from method 'hull'."
    )
    found = _of_table(given, table, kept, _rivals(given, probes), "cells", count)
    return replace(found, warnings=(*found.warnings, lost))


def by_hull(given: Given) -> PIDEstimate:
    """Return the estimate through the hull of cross-fitted posteriors."""
    probes = _probes(given)
    full, coarse, gap = terms_of(probes, given.targets, seed=given.seed, device=given.device)
    figures = figures_of(full, coarse, given.targets, gap or 0.0)
    extrapolated = {name: float(figures.values[name] - figures.measured[name]) for name in NAMES}
    far = [
        name
        for name in NAMES
        if abs(extrapolated[name]) > LITTLE + FAR * max(figures.values[name], 0.0)
    ]
    count = min(given.classes, NULL_CELLS)
    found = {
        name: _estimate(
            figures.values[name],
            figures.below[name],
            figures.above[name],
            len(given.targets),
            name not in far,
            extrapolated=extrapolated[name],
        )
        for name in NAMES
    }
    return PIDEstimate(
        **found,
        target_entropy=samples.most_known(given.targets),
        null=_null(given, probes, count),
        rivals=_rivals(given, probes),
        probe_shortfall={
            side: max(extrapolated[f"mutual_{side}"], 0.0) for side in (*SIDES, "joint")
        },
        kept={},
        hull_gap=gap,
        warnings=(*_few(given), *_unresolved(far)),
        settings=given.settings(
            "hull",
            null=f"{count} posterior cells a side, {PERMUTATIONS} permutations",
            **{f"{side}_probe": dict(probe.shares) for side, probe in probes.items()},
        ),
    )


def _null(given: Given, probes: Mapping[str, Probe], count: int) -> dict[str, float]:
    """Return the 95 % quantile of every atom for shuffled labels and fixed posterior cells."""
    symbols = [_cells(probes[side].posteriors, count, given) for side in SIDES]
    return shuffled_atoms(given.targets, *symbols, permutations=PERMUTATIONS, seed=given.seed)


def _cells(
    posteriors: Float[np.ndarray, "n classes"], count: int, given: Given
) -> Int[np.ndarray, " n"]:
    random = np.random.default_rng(derive_seed(given.seed, "cells"))
    some = random.permutation(len(posteriors))[:5000]
    return PosteriorCells.fit(posteriors[some], count, seed=given.seed).symbols(posteriors)


def by_clusters(given: Given, n_symbols: int | None) -> PIDEstimate:
    """Return the estimate by clusters of features, with a probe to say what they lose."""
    count = n_symbols or min(given.classes, 50)
    symbols, kept, probes = [], {}, {}
    for side, rows in (("teacher", given.teacher), ("student", given.student)):
        found = FeatureClusters.fit(rows, count, seed=given.seed).symbols(rows)
        symbols.append(found)
        probes[side] = _probe(given, side, rows)
        kept[side] = kept_information(given.targets, found, probes[side].posteriors)
    table = table_estimate(given.targets, *symbols, seed=given.seed)
    return _of_table(given, table, kept, _rivals(given, probes), "kmeans", count)


def _of_table(
    given: Given,
    table: TableEstimate,
    kept: Mapping[str, float],
    cheap: Mapping[str, float],
    method: str,
    count: int,
) -> PIDEstimate:
    """Return the estimate of counted symbols; its interval knows nothing of what symbols lose."""
    found = {
        name: _estimate(
            table.corrected[name],
            1.96 * table.spread[name],
            1.96 * table.spread[name],
            table.n,
            name not in table.untrusted,
            counted=table.raw[name],
        )
        for name in NAMES
    }
    lost = tuple(
        f"the {side}'s symbols keep {share:.0%} of what a classifier reads from its features: the "
        "interval does not cover the rest. Take more symbols or method 'hull'."
        for side, share in kept.items()
        if share < KEPT
    )
    return PIDEstimate(
        **found,
        target_entropy=samples.most_known(given.targets),
        null={name: table.null[name] for name in ATOMS},
        rivals=cheap,
        probe_shortfall={},
        kept=dict(kept),
        hull_gap=None,
        warnings=(*_few(given), *_unresolved(list(table.untrusted)), *lost),
        settings=given.settings(method, n_symbols=count),
    )


def by_gaussian(
    targets: np.ndarray,
    teacher: Float[np.ndarray, "n d_t"],
    student: Float[np.ndarray, "n d_s"],
    seed: int,
) -> PIDEstimate:
    """Return the estimate on the assumption of Gaussian variables, its spread from halves."""
    found = gaussian_pid_from_samples(targets, teacher, student)
    random = np.random.default_rng(derive_seed(seed, "gaussian"))
    again = []
    for _ in range(50):
        rows = random.choice(len(targets), len(targets) // 2, replace=False)
        other = gaussian_pid_from_samples(targets[rows], teacher[rows], student[rows]).corrected
        again.append([getattr(other, name) for name in NAMES])
    # Halves without replacement: their variance about the whole is that of the whole itself.
    spread = dict(zip(NAMES, np.std(again, axis=0, ddof=1).tolist(), strict=True))
    atoms = {
        name: _estimate(
            getattr(found.corrected, name),
            1.96 * spread[name],
            1.96 * spread[name],
            found.samples,
            True,
            uncorrected=getattr(found.raw, name),
        )
        for name in NAMES
    }
    explained = {
        f"{side}_r2": held_out_r2(targets, rows)
        for side, rows in zip(SIDES, (teacher, student), strict=True)
    }
    return PIDEstimate(
        **atoms,
        target_entropy=samples.most_known(targets) if targets.dtype.kind in "iu" else None,
        null={},
        rivals={"cka": linear_cka(teacher, student), **explained},
        probe_shortfall={},
        kept={},
        hull_gap=None,
        warnings=(GAUSSIAN,),
        settings={
            "method": "gaussian",
            "seed": seed,
            "rows_used": found.samples,
            "level": 0.95,
        },
    )


def _rivals(given: Given, probes: Mapping[str, Probe]) -> dict[str, float]:
    found = rivals(given.targets, probes["teacher"].posteriors, probes["student"].posteriors)
    return {**found, "cka": linear_cka(given.teacher, given.student)}


def _estimate(
    value: float, below: float, above: float, n: int, resolved: bool, **settings: float
) -> Estimate:
    """Return the estimate clipped at zero; at zero its interval has one side."""
    value = float(value)
    below, above = (max(float(side), LEAST_WIDTH) for side in (below, above))
    kept = max(value, 0.0)
    return Estimate(
        value=kept,
        lower=max(value - below, 0.0),
        upper=kept + above,
        n=n,
        unit="bits",
        status="resolved" if resolved else "unresolved",
        settings={"level": 0.95, **settings},
        raw=value,
    )


def _few(given: Given) -> tuple[str, ...]:
    need = max(RELIABLE, A_CLASS * given.classes)
    if len(given.targets) >= need:
        return ()
    text = (
        f"{len(given.targets)} rows for {given.classes} classes: below about {need} no interval is "
        "to be relied on, that of synergy least. Measure on more rows."
    )
    return (text,)


def _unresolved(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    told = ", ".join(SPOKEN.get(name, name) for name in names)
    text = (
        f"{told} cannot be told at this number of rows: too much of it is bias. "
        "Measure on more rows."
    )
    return (text,)
