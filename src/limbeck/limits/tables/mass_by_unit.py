"""The missing mass of records that come in independent units, with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Int64

from limbeck.checks import DataError


MOST_AT_ONE = 16  # units at one input up to which each two of them are looked at together


@dataclass(frozen=True, slots=True, eq=False)
class UnitMass:
    """How much a set has not met, estimated from the set alone.

    Attributes:
        value: The missing mass [fraction].
        error: Standard error of it less the true missing mass; infinite for a single unit.
        units: Independent units that count, n^2 / sum L^2 for unequal ones.
        step: What one unit that meets something new adds to the value, as a mean over the new.
        times: In how many units each symbol came, at least 1.
    """

    value: float
    error: float
    units: float
    step: float
    times: Int64[np.ndarray, " symbols"] = field(repr=False)


def mass_by_unit(
    inputs: Int[np.ndarray, " r"],
    labels: Int[np.ndarray, " r"],
    counts: Int[np.ndarray, " r"],
    *,
    units: Int[np.ndarray, " r"] | None = None,
    probabilities: Float[np.ndarray, " r"] | None = None,
) -> UnitMass:
    r"""Estimate the missing mass of a fresh unit by leaving each unit out in turn.

    .. math:: \hat m_0 = \frac1n \sum_g x_g, \qquad x_g = \sum_{i \in g} u_i, \qquad
              u_i = 1 - \sum_{a\ \mathrm{seen\ at}\ s_i\ \mathrm{outside\ of}\ g} \pi^*(a | s_i)

    with probabilities, else :math:`u_i` is 1 where the pair came in no other unit and 0 elsewhere.
    Units are sequences, whose records depend on each other in any way; for draws that are
    independent it is Good and Turing's estimate and its sharper form. Its error has two parts,

    .. math:: n^2 \mathrm{SE}^2 = \sum_g (x_g - L_g \hat m_0)^2 + \sum_{g \ne h} D_{gh} D_{hg}

    where D_gh is by how much x_g would grow if h were left out too; for single draws this is
    Esty's :math:`N_1 (1 - N_1 / n) + 2 N_2`. At inputs that more than 16 units share, the second
    part is summed input by input.

    Args:
        inputs: Number of each record's input.
        labels: Its label; all 0 where inputs are the symbols.
        counts: How many equal draws it stands for, at least 1.
        units: Number of its unit, from 0 without gaps; None where all draws are independent.
        probabilities: Of its label by the teacher, in (0, 1]; equal for equal pairs up to noise.

    Returns:
        The estimate.

    Raises:
        DataError: If there is no record.

    Example:
        Two sequences that met one input each, three times: a fresh one will meet a new one.

        >>> at, none = np.array([0, 0, 0, 1, 1, 1]), np.zeros(6, int)
        >>> mass_by_unit(at, none, none + 1).value
        0.0
        >>> mass_by_unit(at, none, none + 1, units=at).value
        1.0

    Source:
        Derived; Good (1953), and Esty (1983), Ann. Stat. 11, 905-912, for single draws.
    """
    if not len(inputs):
        raise DataError("mass_by_unit: expected at least one record; got none. Draw first.")
    numbered = np.unique(labels, return_inverse=True)[1]
    width = int(numbered.max()) + 1
    code, pair = np.unique(np.asarray(inputs) * width + numbered, return_inverse=True)
    law = None
    if probabilities is not None:
        law = np.bincount(pair, probabilities) / np.bincount(pair)
    at = np.unique(code // width, return_inverse=True)[1]
    if units is None:
        return _independent(at, np.bincount(pair, counts), law)
    return _grouped(at, pair, np.asarray(counts, float), np.asarray(units), law)


def _independent(
    at: Int64[np.ndarray, " p"], drawn: Float[np.ndarray, " p"], law: Float[np.ndarray, " p"] | None
) -> UnitMass:
    n = float(drawn.sum())
    once, twice = drawn == 1, drawn == 2
    if law is None:
        new, shared = once.astype(float), 2.0 * twice.sum()
    else:
        left = np.maximum(1 - np.bincount(at, law), 0.0)
        own = np.where(once, law, 0.0)
        alone = np.bincount(at, drawn)[at] == 1
        new = np.where(alone, 1.0, np.minimum(left[at] + own, 1.0))
        singles = np.bincount(at, own)
        shared = float(singles @ singles - own @ own + 2 * (law[twice] ** 2).sum())
    value = float(drawn @ new) / n
    own_part = float(drawn @ (new - value) ** 2)
    step = float(drawn @ new**2) / n / float(drawn @ new) if value else 1 / n
    return UnitMass(value, _error(own_part, shared, n, n), n, step, drawn.astype(np.int64))


def _grouped(
    at: Int64[np.ndarray, " p"],
    pair: Int64[np.ndarray, " r"],
    counts: Float[np.ndarray, " r"],
    units: Int[np.ndarray, " r"],
    law: Float[np.ndarray, " p"] | None,
) -> UnitMass:
    number = int(units.max()) + 1
    met, place = np.unique(pair * number + units, return_inverse=True)
    symbol, unit, drawn = met // number, met % number, np.bincount(place, counts)
    times = np.bincount(symbol)
    sizes = np.bincount(units, counts, minlength=number)
    once, first = times[symbol] == 1, np.flatnonzero(times[symbol] == 2)[::2]
    one, other = unit[first], unit[first + 1]
    if law is None:
        new = np.bincount(unit, drawn * once, minlength=number)
        shared = _products(number, one, other, drawn[first], drawn[first + 1])
    else:
        cells, cell = np.unique(at[symbol] * number + unit, return_inverse=True)
        cell_at, cell_unit = cells // number, cells % number
        here, own = np.bincount(cell, drawn), np.bincount(cell, law[symbol] * once)
        left = np.maximum(1 - np.bincount(at, law), 0.0)
        alone = np.bincount(cell_at)[cell_at] == 1
        fresh = np.where(alone, 1.0, np.minimum(left[cell_at] + own, 1.0))
        new = np.bincount(cell_unit, here * fresh, minlength=number)
        both = law[symbol[first]]
        lost = [here[cell[first]] * both, here[cell[first + 1]] * both]
        few, many = _neighbours(cell_at, own)
        columns = [
            np.concatenate([ours, theirs])
            for ours, theirs in zip(
                (one, other, *lost),
                (
                    cell_unit[few[0]],
                    cell_unit[few[1]],
                    here[few[0]] * own[few[1]],
                    here[few[1]] * own[few[0]],
                ),
                strict=True,
            )
        ]
        shared = _products(number, columns[0], columns[1], columns[2], columns[3])
        weights = np.where(many, here * own, 0.0)
        together = np.bincount(cell_at, weights)
        shared += float(together @ together - weights @ weights)
    n = float(sizes.sum())
    value = float(new.sum()) / n
    own_part = float(((new - sizes * value) ** 2).sum())
    effective = n**2 / float(sizes @ sizes)
    step = float(new @ new) / n / float(new.sum()) if value else 1 / effective
    return UnitMass(value, _error(own_part, shared, n, float(number)), effective, step, times)


def _neighbours(
    at: Int64[np.ndarray, " c"], own: Float[np.ndarray, " c"]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return each two cells at one input, and which cells are at inputs with too many of them."""
    size = np.bincount(at)[at]
    begins = np.flatnonzero(np.diff(at, prepend=-1))
    ours, theirs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for width in range(2, MOST_AT_ONE + 1):
        block = begins[size[begins] == width]
        one, other = np.triu_indices(width, 1)
        ours.append((block[:, None] + one).ravel())
        theirs.append((block[:, None] + other).ravel())
    first, second = np.concatenate(ours), np.concatenate(theirs)
    use = (own[first] > 0) | (own[second] > 0)
    return (first[use], second[use]), size > MOST_AT_ONE


def _products(
    number: int, ours: np.ndarray, theirs: np.ndarray, gain: np.ndarray, other: np.ndarray
) -> float:
    """Return the sum of D_gh D_hg over ordered pairs of units, of which each may come often."""
    turned = ours > theirs
    code = np.where(turned, theirs * number + ours, ours * number + theirs)
    place = np.unique(code, return_inverse=True)[1]
    low = np.bincount(place, np.where(turned, other, gain))
    high = np.bincount(place, np.where(turned, gain, other))
    return 2 * float(low @ high)


def _error(own: float, shared: float, n: float, units: float) -> float:
    if units < 2:
        return math.inf
    return math.sqrt(max(own * units / (units - 1) + shared, 0.0)) / n
