"""Intersection information: what deterministic functions of teacher and student have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8

from limbeck.checks import DataError, check_choice
from limbeck.information.certificate import xlogx
from limbeck.information.entropy import checked_table


MOST_SYMBOLS = 10  # 115,975 set partitions
IRRELEVANT = 1e-12  # nats of I(Y; Q | f) that count as none
CHUNK = 8192  # partitions whose allowed cells are looked at in one go
SEVERAL = 64  # of those that pass, checked in one go

Plan = list[tuple[int, Int[np.ndarray, "..."]]]


def intersection_information(
    pmf: Real[np.ndarray, "y t s"], *, common: Literal["teacher", "student"] = "teacher"
) -> float:
    r"""Return the most that a function of the teacher tells, beside one of the student, for sure.

    .. math:: Red_\cap(Y:T,S) = \max_{f_t, f_s} I(Y; f_t(T)) \quad\text{subject to}\quad
              I(Y; f_t(T) \mid f_s(S)) = 0

    over all deterministic functions: the problem that redundant information distillation (RID)
    relaxes. It is a lower bound of ``redundant`` of :func:`broja_pid`, and zero as soon as noise
    separates teacher and student: see Note.

    Args:
        pmf: The table P(y, t, s): probabilities that sum to one, or integer counts. At most 10
            symbols of the teacher and 10 of the student have mass.
        common: Whose function is to be the common one: "teacher" as above, or "student", which
            maximises I(Y; f_s(S)) subject to I(Y; f_s(S) | f_t(T)) = 0.

    Returns:
        The intersection information [bits]; zero where no function that tells anything about the
        targets is made irrelevant by one of the other side. At most 1e-12 nats of conditional
        information count as none.

    Raises:
        ShapeError: If the table has not three dimensions.
        DataError: If it is empty, negative, not finite, or sums to something else than one; if one
            side has more than 10 symbols.
        ArgumentError: If ``common`` is neither.

    Example:
        The teacher has two bits and the student only the first; the targets are both. The first
        bit is common. A student that is wrong now and then has nothing in common with a perfect
        teacher, while its own bit adds nothing to what the teacher's says.

        >>> pmf = np.zeros((4, 4, 2), dtype=int)
        >>> pmf[0, 0, 0] = pmf[1, 1, 0] = pmf[2, 2, 1] = pmf[3, 3, 1] = 1
        >>> intersection_information(pmf)
        1.0
        >>> noisy = np.array([[[0.45, 0.05], [0, 0]], [[0, 0], [0, 0.5]]])
        >>> intersection_information(noisy)
        0.0
        >>> round(intersection_information(noisy, common="student"), 4)  # I(Y;S)
        0.7583

    Note:
        A function is a partition of symbols. :math:`f_t` is irrelevant given :math:`f_s` exactly
        if, in each cell of :math:`f_s`, the indicator of each block of :math:`f_t` is independent
        of Y. So one table over pairs of subsets (block, cell) answers for all partitions: those of
        the teacher are kept whose blocks are feasible one by one, taken in falling order of
        I(Y; f_t), and the student's symbols are tiled with the cells that all blocks allow, by
        dynamic programming over subsets, thousands of partitions at a time. The first that can be
        tiled is the answer.

    Source:
        Griffith and Ho (2015), arXiv:1411.4732, for the measure; Dissanayake, Hamman, Halder,
        Sucholutsky, Zhang and Dutta (2025), arXiv:2411.07483, definition 4.1 and problem (P1), for
        this form. ``common="student"`` is limbeck's.
    """
    table = checked_table("intersection_information", pmf, 3)
    check_choice("intersection_information", "common", common, ("teacher", "student"))
    table = table[np.ix_(*(table.sum(others) > 0 for others in ((1, 2), (0, 2), (0, 1))))]
    for side, size in (("teacher", table.shape[1]), ("student", table.shape[2])):
        if size > MOST_SYMBOLS:
            raise DataError(
                f"intersection_information: expected at most {MOST_SYMBOLS} symbols with mass a "
                f"side; got {size} of the {side}. Merge some: the result is then a lower bound."
            )
    if common == "student":
        table = table.transpose(0, 2, 1)
    plan = _plan(table.shape[2])
    cells, feasible = _feasible_blocks(table, plan)
    for values, partitions in _tileable_partitions(table, cells, feasible, plan):
        fits = _least_conditional(_conditional(table, partitions), plan) <= IRRELEVANT
        if fits.any():
            return max(float(values[fits.argmax()]), 0.0) / math.log(2.0)
    return 0.0


def _feasible_blocks(
    table: Float[np.ndarray, "y t s"], plan: Plan
) -> tuple[UInt8[np.ndarray, "blocks bytes"], Bool[np.ndarray, " blocks"]]:
    """Return for every subset of the teacher's symbols the cells in which it tells nothing.

    The cells, which are subsets of the student's symbols, come as bits; with them comes whether
    they tile the student's symbols. The empty set and the whole set tell nothing anywhere.
    """
    everything = 2 ** table.shape[1] - 1
    allowed = np.ones((everything + 1, 2 ** table.shape[2]), dtype=bool)
    feasible = np.ones(everything + 1, dtype=bool)
    # A block and its complement are one bipartition; the one without the last symbol stands first.
    first = np.arange(1, (everything + 1) // 2)
    if len(first):
        costs = _conditional(table, np.stack([first, everything - first], 1))
        allowed[first] = allowed[everything - first] = costs <= IRRELEVANT
        fits = _least_conditional(costs, plan) <= IRRELEVANT
        feasible[first] = feasible[everything - first] = fits
    return np.packbits(allowed, axis=1), feasible


def _tileable_partitions(
    table: Float[np.ndarray, "y t s"],
    cells: UInt8[np.ndarray, "blocks bytes"],
    feasible: Bool[np.ndarray, " blocks"],
    plan: Plan,
) -> Iterator[tuple[Float[np.ndarray, " n"], Int[np.ndarray, "n size"]]]:
    """Yield I(Y; f) [nats] and blocks of partitions that a function of the student may fit.

    They come in falling order, one first and then more at a time.
    """
    partitions = _partitions(table.shape[1])
    partitions = partitions[feasible[partitions].all(1)]
    pair = _members(table.shape[1]) @ table.sum(2).T
    worth = xlogx(pair).sum(1) - xlogx(pair.sum(1))
    values = worth[partitions].sum(1) - xlogx(table.sum((1, 2))).sum()
    order = np.argsort(-values, kind="stable")
    several = 1
    for start in range(0, len(order), CHUNK):
        at = order[start : start + CHUNK]
        allowed = np.bitwise_and.reduce(cells[partitions[at]], axis=1)
        by_cell = np.unpackbits(allowed, axis=1, count=2 ** table.shape[2]).T
        fits = np.unpackbits(_tiled(np.packbits(by_cell, axis=1), plan))[: len(at)]
        hits = at[fits.astype(bool)]
        while len(hits):
            yield values[hits[:several]], partitions[hits[:several]]
            hits, several = hits[several:], min(2 * several, SEVERAL)


def _tiled(allowed: UInt8[np.ndarray, "cells bytes"], plan: Plan) -> UInt8[np.ndarray, " bytes"]:
    """Return, a bit a problem, whether disjoint allowed cells make up all symbols."""
    reached = np.zeros_like(allowed)
    reached[0] = 255
    for whole, cells in plan:
        reached[whole] = np.bitwise_or.reduce(allowed[cells] & reached[whole ^ cells], axis=0)
    return reached[-1]


def _least_conditional(costs: Float[np.ndarray, "n cells"], plan: Plan) -> Float[np.ndarray, " n"]:
    """Return the least I(Y; f | g(S)) over all functions g of the student, for every f [nats]."""
    given = np.ascontiguousarray(costs.T)
    best = np.zeros_like(given)
    for whole, cells in plan:
        best[whole] = (given[cells] + best[whole ^ cells]).min(0)
    return best[-1]


def _conditional(
    table: Float[np.ndarray, "y t s"], partitions: Int[np.ndarray, "n size"]
) -> Float[np.ndarray, "n cells"]:
    """Return P(c) I(Y; f | S in c) for every partition f and subset c of the student [nats]."""
    blocks, cells = _members(table.shape[1])[partitions], _members(table.shape[2]).T
    found = np.zeros((len(partitions), cells.shape[1]))
    over_labels = np.zeros((*partitions.shape, cells.shape[1]))
    for label in table:
        joint = blocks @ (label @ cells)
        found += xlogx(joint).sum(1) - xlogx(label.sum(0) @ cells)
        over_labels += joint
    return found - xlogx(over_labels).sum(1) + xlogx(over_labels.sum(1))


def _plan(symbols: int) -> Plan:
    """Return the sets of symbols that may be left, smallest first, with the cells to take next.

    A tiling is taken in the order of its cells' first symbols, so that the next cell has the first
    symbol of what is left, and what is left, once begun, is without symbol 0.
    """
    everything = 2**symbols - 1
    subsets = np.arange(everything + 1)
    plan = []
    for whole in [*range(2, everything, 2), everything]:
        inside = (subsets & ~whole) == 0
        plan.append((whole, subsets[inside & (subsets & whole & -whole > 0)]))
    return plan


def _members(symbols: int) -> Float[np.ndarray, "subsets symbols"]:
    """Return which symbols are in each subset, as ones and zeros."""
    return ((np.arange(2**symbols)[:, None] >> np.arange(symbols)) & 1).astype(np.float64)


def _partitions(symbols: int) -> Int[np.ndarray, "n symbols"]:
    """Return all set partitions, one a row: its blocks as subsets, and zeros for none."""
    labels = np.zeros((1, 1), dtype=np.int64)
    for _ in range(symbols - 1):
        # The next symbol joins one of the blocks there are, or opens one.
        choices = labels.max(1) + 2
        starts = np.repeat(np.cumsum(choices) - choices, choices)
        chosen = np.arange(choices.sum()) - starts
        labels = np.column_stack([np.repeat(labels, choices, axis=0), chosen])
    bits = 2 ** np.arange(symbols)
    return np.stack([(labels == block) @ bits for block in range(symbols)], 1)
