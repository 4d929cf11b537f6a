"""Queries that a target error needs where inputs are points and the teacher is Lipschitz."""

from __future__ import annotations

import math

from limbeck.checks import ArgumentError, check_positive
from limbeck.limits.bounds.arguments import Number, check_domain, check_error, check_sizes
from limbeck.limits.bounds.hard_labels import hard_labels_upper
from limbeck.limits.planning.needs import Need, Needs


def lipschitz_needs(*, lipschitz: Number, dimension: int, labels: int, error: Number) -> Needs:
    r"""Return what each privilege needs for an error on a Lipschitz teacher over a unit cube.

    Cells of side r = 1/m share a row, so that S = m^D; with the best whole m for each privilege,

    .. math:: L r + \sqrt{\frac{S (A - 1)}{2 \pi n_1}} = \varepsilon, \qquad
              L r + \frac{S A}{e n_2} = \varepsilon, \qquad
              \frac{L \, \Gamma(1 + 1/D)}{2 n_3^{1/D}} = \varepsilon

    so that the error falls as (A/n)^(1/(D+2)), (A/n)^(1/(D+1)) and n^(-1/D), where whole rows are
    taken from the nearest input and inputs lie evenly.

    Args:
        lipschitz: L: total variation between rows per distance (largest difference of a
            coordinate) between inputs, in an embedding scaled to the unit cube; above 0.
        dimension: D of the embedding, at least 1.
        labels: A, at least 2.
        error: epsilon, in (0, 1).

    Returns:
        A need a privilege. What is enough is proved, in the mean and for any input law: for hard
        labels as the mean row of a cell is learnt; for soft labels as the first row of a cell is
        kept, L r + S/(e n); for sampled probabilities, whose numbers differ inside a cell, as for
        hard labels.

    Raises:
        ArgumentError: If a number is outside of its range, or the cells are too many to count.

    Example:
        L = 1, D = 1 and soft labels: neighbours are 1/(2 n) away, so n = 5; proved is that m = 20
        cells of error 0.05 leave 0.05 for 20 / (0.05 e).

        >>> needs = lipschitz_needs(lipschitz=1, dimension=1, labels=2, error=0.1)
        >>> round(needs["soft_labels"].planning, 9), round(needs["soft_labels"].sufficient, 1)
        (5.0, 147.2)

    Source:
        Derived from the tabular bounds.
    """
    where = "lipschitz_needs"
    check_domain(where, inputs=1, labels=labels)
    check_sizes(where, dimension=dimension)
    check_positive(where, lipschitz=lipschitz)
    check_error(where, error)
    slope = float(lipschitz)
    if dimension * math.log10(max(3 * slope / error, 1)) > 15:
        raise ArgumentError(
            f"{where}: expected fewer cells than 10^15; got {3 * slope / error:.3g} a side in "
            f"{dimension} dimensions. Reduce the dimension, or measure with a pilot."
        )

    def cells(power: int, factor: float) -> tuple[float, int]:
        """Return the least n with L/m + (factor m^D / n)^(1/power) = error, and its m."""
        best = slope * (1 + power / dimension) / error
        least = math.floor(slope / error) + 1
        sides = {max(least, math.floor(best)), max(least, math.ceil(best))}
        return min(
            (factor * float(m) ** dimension / (error - slope / m) ** power, m)
            for m in sides
            if error > slope / m
        )

    hard, hard_sides = cells(2, (labels - 1) / (2 * math.pi))
    enough = min(_enough(m, slope, dimension, labels, error) for m in (hard_sides, hard_sides + 1))
    sampled, sampled_sides = cells(1, labels / math.e)
    kept, _ = cells(1, 1 / math.e)
    nearest = (slope * math.gamma(1 + 1 / dimension) / (2 * error)) ** dimension

    rule = (
        f"Lipschitz rule: rows differ by at most {slope:g} times the distance of their inputs in "
        f"[0, 1]^{dimension}; "
    )

    def need(planning: float, sufficient: float, sides: int) -> Need:
        assumption = f"{rule}best at {float(sides) ** dimension:,.0f} cells"
        return Need(planning, assumption, "Lipschitz rule", sufficient=sufficient)

    by_neighbour = f"{rule}nearest neighbours of evenly spread inputs (enough: cells, any inputs)"
    return {
        "hard_labels": need(hard, enough, hard_sides),
        "sampled_probabilities": need(sampled, enough, sampled_sides),
        "soft_labels": Need(nearest, by_neighbour, "Lipschitz rule", sufficient=kept),
    }


def _enough(sides: int, slope: float, dimension: int, labels: int, error: Number) -> float:
    at_one = hard_labels_upper(queries=1, inputs=sides**dimension, labels=labels)
    return (at_one / (error - slope / sides)) ** 2
