"""Moments by groups of rows: two backward passes a group, for any architecture."""

from __future__ import annotations

from limbeck.weighting.measuring.collecting import Collector
from limbeck.weighting.measuring.problem import Parameters, Part, Problem


def collect(problem: Problem, parts: list[Part], collector: Collector) -> None:
    """Give the collector the mean gradients of every part, which is a group of rows.

    Args:
        problem: The student, in eval mode.
        parts: The groups, of one size.
        collector: Takes them as units.
    """
    for part in parts:
        g, h = problem.pulled_back(part.batch, part.g, part.h)
        collector.add(_unit(g, len(part.batch)), _unit(h, len(part.batch)))


def _unit(side: Parameters, rows: int) -> Parameters:
    return {name: (value / rows)[None] for name, value in side.items()}
