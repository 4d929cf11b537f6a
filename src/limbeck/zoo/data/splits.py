"""Stratified choices of rows that depend on a seed and on nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.checks import ArgumentError
from limbeck.randomness import derive_seed, keyed_uniform


def stratified(labels: Tensor, total: int, seed: int, purpose: str) -> Tensor:
    """Choose ``total`` rows so that every class keeps its share and at least one row.

    Each class gets its share of ``total`` rounded down; the rows left over go to the classes with
    the largest remainders. Which rows is decided by numbers keyed with (seed, purpose, row), so
    the choice is the same on every machine and in every version of torch.

    Args:
        labels: Class indices, int64 [rows].
        total: How many rows to choose, from the number of classes present to all rows.
        seed: Another seed gives another choice.
        purpose: What the choice is for: choices for two purposes are independent.

    Returns:
        The chosen positions, int64 [total], ascending.

    Raises:
        ArgumentError: If ``total`` is outside of its range.

    Example:
        >>> labels = torch.tensor([0] * 6 + [1] * 4)
        >>> labels[stratified(labels, 5, 0, "doc")].tolist()
        [0, 0, 0, 1, 1]
    """
    _, groups, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if not len(counts) <= total <= len(labels):
        raise ArgumentError(
            f"load_dataset: expected `{purpose}` to leave between {len(counts)} rows, one a class, "
            f"and {len(labels)}, all there are; got {total}."
        )
    quota = _shares(counts, total)
    rows = torch.arange(len(labels))
    draw = keyed_uniform(derive_seed(seed, purpose), rows, torch.zeros_like(rows), 1)[:, 0]
    shuffled = torch.argsort(draw, stable=True)
    by_class = shuffled[torch.argsort(groups[shuffled], stable=True)]
    place_in_class = rows - (counts.cumsum(0) - counts)[groups[by_class]]
    return by_class[place_in_class < quota[groups[by_class]]].sort().values


def cut(labels: Tensor, share: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Split rows in two, stratified by class; every class keeps at least one row in the first.

    Args:
        labels: Class indices, int64 [rows].
        share: Share of rows in the second part, in (0, 1).
        seed: Another seed gives another split.
        purpose: What the second part is for.

    Returns:
        Positions of the rows that stay and of those cut off, both ascending.

    Raises:
        ArgumentError: If one of the parts would be empty, or a class lost its last row.
    """
    cut_off = round(share * len(labels))
    if cut_off == 0:
        raise ArgumentError(
            f"load_dataset: expected `{purpose}` to hold at least one row; got a share of {share} "
            f"of {len(labels)} rows. Ask for a larger share, or for 0.0."
        )
    stay = stratified(labels, len(labels) - cut_off, seed, purpose)
    left = torch.ones(len(labels), dtype=torch.bool)
    left[stay] = False
    return stay, left.nonzero()[:, 0]


def hide_labels(labels: Tensor, keep: int | float, seed: int) -> Tensor:
    """Return labels with all but ``keep`` of them set to -1, stratified by class.

    Args:
        labels: Class indices, int64 [rows].
        keep: How many labels (int) or which share of them (float in [0, 1]) to keep: none, or at
            least one a class.
        seed: Another seed keeps others.

    Raises:
        ArgumentError: If ``keep`` is outside of its range.
    """
    if isinstance(keep, float) and not 0 <= keep <= 1:
        raise ArgumentError(
            f"load_dataset: expected `labels` as a whole number or a share in [0, 1]; got {keep}."
        )
    total = round(keep * len(labels)) if isinstance(keep, float) else int(keep)
    hidden = torch.full_like(labels, -1)
    if total != 0:
        known = stratified(labels, total, seed, "labels")
        hidden[known] = labels[known]
    return hidden


def _shares(counts: Tensor, total: int) -> Tensor:
    exact = counts * total
    quota = exact // counts.sum()
    left = total - int(quota.sum())
    largest_remainder = torch.argsort(-(exact % counts.sum()), stable=True)
    quota[largest_remainder[:left]] += 1
    for empty in (quota == 0).nonzero()[:, 0]:
        quota[quota.argmax()] -= 1
        quota[empty] = 1
    return quota
