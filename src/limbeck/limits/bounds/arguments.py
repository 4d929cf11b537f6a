"""Checks of the arguments that the bounds and the planner share."""

from __future__ import annotations

import math
import numbers

from limbeck.checks import ArgumentError


Number = float | int
LARGEST_DELTA = 0.1  # lemma E.6 of the paper holds up to here
SURE = 1e-12  # nearest to 0 and 1 that a confidence may be: beyond, floats cannot tell it
SMALLEST, LARGEST = 1e-60, 1e60  # error and sizes whose products stay within what floats hold


def check_sizes(where: str, **sizes: Number) -> None:
    """Raise ArgumentError unless every size is a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, numbers.Real) or not size >= 1:
            raise ArgumentError(f"{where}: expected `{name}` >= 1; got {size!r}. Count from 1.")
        if size > LARGEST:
            raise ArgumentError(
                f"{where}: expected `{name}` <= {LARGEST:g}; got more. Plan with a pilot."
            )
        if size != math.floor(size):
            raise ArgumentError(f"{where}: expected a whole `{name}`; got {size!r}. Round it.")


def check_domain(where: str, *, inputs: Number, labels: Number) -> None:
    """Raise ArgumentError unless there is an input, and a choice of labels."""
    check_sizes(where, inputs=inputs, labels=labels)
    if labels < 2:
        raise ArgumentError(
            f"{where}: expected `labels` >= 2; got {labels}. With one label there is nothing to "
            "learn."
        )


def check_queries(where: str, queries: Number) -> None:
    """Raise ArgumentError unless the number of queries is finite and at least 1."""
    if not 1 <= queries < math.inf:
        raise ArgumentError(f"{where}: expected `queries` >= 1; got {queries}. Ask at least once.")


def check_error(where: str, error: Number) -> None:
    """Raise ArgumentError unless a total variation can be a target: above 0 and below 1."""
    if isinstance(error, bool) or not isinstance(error, numbers.Real) or not 0 < error < 1:
        raise ArgumentError(
            f"{where}: expected `error` between 0 and 1 (a total variation); got {error!r}. 0.05 "
            "is a common target."
        )
    if error < SMALLEST:
        raise ArgumentError(
            f"{where}: expected an error of at least {SMALLEST:g} for each query; got {error:g}. "
            "No number of queries can be counted for it: take a larger error, or fewer tokens."
        )


def check_confidence(where: str, confidence: Number, *, least: Number = 0.0) -> None:
    """Raise ArgumentError unless the confidence is below 1 and at or above what a bound needs."""
    if isinstance(confidence, bool) or not isinstance(confidence, numbers.Real):
        raise ArgumentError(f"{where}: expected a number as `confidence`; got {confidence!r}.")
    if not 0 < confidence < 1:
        raise ArgumentError(
            f"{where}: expected `confidence` between 0 and 1; got {confidence}. 0.95 fails once "
            "in twenty."
        )
    if not SURE <= confidence <= 1 - SURE:
        raise ArgumentError(
            f"{where}: expected `confidence` at least {SURE:g} away from 0 and 1; got "
            f"{confidence}. 0.999 is nearly sure."
        )
    if confidence < least and not math.isclose(confidence, least, rel_tol=1e-12):
        raise ArgumentError(
            f"{where}: expected `confidence` >= {least:g}, where the bound on missing mass is "
            f"proved; got {confidence:g}. Take {least:g} or more, or none for the mean."
        )


def round_up(queries: float) -> int:
    """Return the least whole number of queries at or above a bound, at least 1.

    A bound that is a whole number but for rounding errors of floats is not moved to the next one.
    """
    return max(1, math.ceil(queries * (1 - 1e-15)))


def round_down(queries: float) -> int:
    """Return the largest whole number of queries at or below a bound, at least 0."""
    return max(0, math.floor(queries * (1 + 1e-15)))
