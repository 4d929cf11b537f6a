"""From features to calibrated posteriors of rows that fitted none of them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from scipy.optimize import minimize_scalar
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from limbeck.information.directions import Directions
from limbeck.information.discriminants import clusters, linear, quadratic, subclasses
from limbeck.information.network import correction
from limbeck.information.threads import one_thread, side_by_side
from limbeck.randomness import derive_seed


FLOOR = 1e-5  # of a posterior: no row decides alone
WIDEST = 512  # principal components that a probe sees
FEW = 25  # classes up to which clusters and subclasses are tried
SHAPED = 200  # classes up to which each is tried with a Gaussian of its own
NARROW = 128  # dimensions, up to which one thread is faster
SMALL = 5000  # rows up to which five folds are cheap


@dataclass(frozen=True, eq=False)
class Probe:
    """What classifiers make of a representation, on rows that did not fit them.

    Attributes:
        posteriors: p(y | row), from classifiers fitted on the other folds; rows sum to one.
        coarse: The same from a quarter of the other folds' rows, for the learning curve.
        shares: How much each classifier counts in the mixture.
        temperature: What the mixture's log posteriors are divided by.
    """

    posteriors: Float32[np.ndarray, "n classes"]
    coarse: Float32[np.ndarray, "n classes"]
    shares: Mapping[str, float]
    temperature: float


def cross_fit(
    features: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    classes: int,
    *,
    seed: int,
    given: Mapping[str, Float[np.ndarray, "n classes"]] | None = None,
    coarse_given: Mapping[str, Float[np.ndarray, "n classes"]] | None = None,
    device: torch.device | str = "cpu",
) -> Probe:
    """Fit classifiers on folds and mix them by their likelihood on held-out rows.

    A linear and a quadratic discriminant, Gaussian clusters, subclasses, and a network that
    corrects the best of them, on the directions that tell the label (:class:`Directions`). Mixture
    weights by EM and one temperature are chosen on the held-out rows.

    Args:
        features: One row a sample, finite.
        targets: Labels from 0.
        classes: Number of labels.
        seed: Of folds and starts.
        given: Log posteriors of classifiers that no row here fitted, by name [nats].
        coarse_given: What takes their place in the learning curve; None for the same ones.
        device: Where the network trains.
    """
    features = narrowed(features, WIDEST, seed)
    count = 5 if len(targets) <= SMALL else 3
    places = _places(targets, seed)
    folds, few = places % count, places // count % 4 == 0
    full: dict[str, np.ndarray] = {}
    coarse: dict[str, np.ndarray] = {}

    def fit(fold: int, among: np.ndarray, into: dict[str, np.ndarray]) -> None:
        used, held = np.flatnonzero((folds != fold) & among), np.flatnonzero(folds == fold)
        with one_thread() if features.shape[1] <= NARROW else contextlib.nullcontext():
            said = _said(features, targets, classes, used, held, seed, device)
        for name, logs in said.items():
            whole = into.setdefault(name, np.empty((len(targets), classes), np.float32))
            whole[held] = logs

    kinds = ((np.ones_like(few), full), (few, coarse))
    with warnings.catch_warnings():
        # A mixture need not be at its likelihood's maximum; it is judged on other rows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        side_by_side([partial(fit, fold, *kind) for fold in range(count) for kind in kinds])
    full.update(given or {})
    coarse.update(given or {} if coarse_given is None else coarse_given)
    posteriors, shares, temperature = _mixed(full, targets)
    return Probe(posteriors, _mixed(coarse, targets)[0], shares, temperature)


def narrowed(features: Float[np.ndarray, "n d"], width: int, seed: int) -> Float[np.ndarray, "n r"]:
    """Return at most ``width`` principal components of the rows."""
    if features.shape[1] <= width:
        return features
    random = derive_seed(seed, "components") % 2**32
    return PCA(min(width, len(features)), random_state=random).fit_transform(features)


def floored(posteriors: Float[np.ndarray, "n classes"]) -> Float32[np.ndarray, "n classes"]:
    """Return the rows with no probability below the floor, summing to one."""
    raised = np.maximum(posteriors, FLOOR)
    return (raised / raised.sum(1, keepdims=True)).astype(np.float32)


def _places(targets: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Return each row's place when sorted by class, in random order within one.

    Every k-th place is then a share of the rows that holds its part of every class, however the
    rows were sorted.
    """
    random = np.random.default_rng(derive_seed(seed, "folds"))
    places = np.empty(len(targets), dtype=np.int64)
    places[np.lexsort((random.random(len(targets)), targets))] = np.arange(len(targets))
    return places


def _said(
    features: Float[np.ndarray, "n d"],
    targets: Int[np.ndarray, " n"],
    classes: int,
    used: Int[np.ndarray, " m"],
    held: Int[np.ndarray, " h"],
    seed: int,
    device: torch.device | str,
) -> dict[str, Float[np.ndarray, "h classes"]]:
    """Return log posteriors of the held rows from classifiers of the used ones."""
    y = targets[used]
    directions = Directions.fit(features[used], y, seed=seed)
    flat, to_flat = (directions.linear(features[rows]) for rows in (used, held))
    narrow, to_narrow = (directions.reduced(features[rows]) for rows in (used, held))
    width = narrow.shape[1]
    shape = width + width * (width + 1) / 2
    # Classifiers of the narrow coordinates, with how many numbers were fitted.
    fitted = {}
    if classes <= SHAPED:
        fitted["quadratic"] = quadratic(narrow, y, classes), classes * shape
    if classes <= FEW:
        for count in (classes + 2, 3 * classes):
            if 5 * count <= len(used):
                found = clusters(narrow, y, classes, count=count, seed=seed)
                fitted[f"clusters {count}"] = found, count * (shape + classes)
        found = subclasses(narrow, y, classes, count=2, seed=seed)
        fitted["subclasses"] = found, 2 * classes * shape
    shares = np.bincount(y, minlength=classes) + 0.5
    prior = np.log(shares / shares.sum()).astype(np.float32)
    flatly = linear(flat, y, classes)
    said = {"prior": np.broadcast_to(prior, (len(held), classes)), "linear": flatly(to_flat)}
    said |= {name: tell(to_narrow) for name, (tell, _) in fitted.items()}

    def cost(own: Float[np.ndarray, "m classes"], numbers: float) -> float:
        """Return the cross-entropy of the rows fitted on and one nat a number."""
        return (numbers - float(own[np.arange(len(used)), y].sum())) / len(used)

    best, start = "prior", np.broadcast_to(prior, (len(used), classes))
    least = cost(start, 0.0)
    simple = {"linear": (flatly, flat, classes * (flat.shape[1] + 1.0))}
    shaped = {name: (tell, narrow, numbers) for name, (tell, numbers) in fitted.items()}
    for name, (tell, rows, numbers) in (simple | shaped).items():
        if numbers >= least * len(used):
            continue  # no cross-entropy is below zero
        own = tell(rows)
        if cost(own, numbers) < least:
            best, start, least = name, own, cost(own, numbers)
    network = correction(narrow, y, start, seed=seed, device=device)
    logs = {name: other.astype(np.float32) for name, other in said.items()}
    logs["network"] = network(to_narrow, logs[best]).astype(np.float32)
    return logs


def _mixed(
    logs: Mapping[str, Float[np.ndarray, "n classes"]], targets: Int[np.ndarray, " n"]
) -> tuple[Float32[np.ndarray, "n classes"], dict[str, float], float]:
    """Return the mixture with the best likelihood of the labels, its weights and temperature."""
    index = np.arange(len(targets))
    said = np.exp(np.stack([found[index, targets] for found in logs.values()], 1).astype(float))
    shares = np.full(said.shape[1], 1.0 / said.shape[1])
    for _ in range(200):
        shares = (shares * said / np.maximum(said @ shares, 1e-300)[:, None]).mean(0)
    total = np.zeros_like(next(iter(logs.values())), dtype=np.float32)
    for share, found in zip(shares, logs.values(), strict=True):
        if share > 1e-4:
            total += share.astype(np.float32) * np.exp(found)
    mixed = np.log(np.maximum(total, 1e-12))

    def loss(log_heat: float) -> float:
        scaled = mixed / np.float32(np.exp(log_heat))
        top = scaled.max(1)
        summed = np.log(np.exp(scaled - top[:, None]).sum(1, dtype=np.float64)) + top
        return float((summed - scaled[index, targets]).mean())

    heat = minimize_scalar(loss, bounds=(-1.0, 1.0), method="bounded", options={"xatol": 0.01})
    temperature = float(np.exp(heat.x)) if heat.fun < loss(0.0) else 1.0
    scaled = mixed / np.float32(temperature)
    raised = np.exp(scaled - scaled.max(1, keepdims=True))
    shown = dict(zip(logs, np.round(shares, 4).tolist(), strict=True))
    return floored(raised / raised.sum(1, keepdims=True)), shown, temperature
