"""Prices of a query by privilege, and the ratios of prices at which two kinds cost the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from limbeck.checks import ArgumentError, check_choice
from limbeck.limits.bounds.arguments import Number, check_domain, check_error
from limbeck.teacher_record import PRIVILEGES, Privilege


PAIRS: tuple[tuple[Privilege, Privilege], ...] = (
    ("sampled_probabilities", "hard_labels"),
    ("soft_labels", "sampled_probabilities"),
    ("soft_labels", "hard_labels"),
)


def check_prices(where: str, prices: Mapping[str, Number] | None) -> dict[str, float]:
    """Return prices of a query by privilege as floats.

    Raises:
        ArgumentError: If a key is no privilege, or a price negative or not finite.
    """
    if prices is not None and not isinstance(prices, Mapping):
        raise ArgumentError(
            f"{where}: expected `prices` as a mapping from privilege to price; got {prices!r}. "
            "Give {'hard_labels': 1, ...}."
        )
    found: dict[str, float] = {}
    for privilege, price in (prices or {}).items():
        check_choice(where, "prices", privilege, PRIVILEGES)
        if isinstance(price, bool) or not isinstance(price, Real) or not 0 <= price < math.inf:
            raise ArgumentError(
                f"{where}: expected a price >= 0 for {privilege}; got {price!r}. Give the price of "
                "one query, in any currency."
            )
        found[privilege] = float(price)
    return found


def break_even(*, labels: int, error: Number) -> dict[tuple[str, str], float]:
    r"""Return the ratios of prices below which the better answer is the cheaper way to an error.

    .. math:: \frac{c_2}{c_1} = \frac{e (A - 1)}{2 \pi A \varepsilon}, \qquad
              \frac{c_3}{c_2} = A, \qquad \frac{c_3}{c_1} = \frac{e (A - 1)}{2 \pi \varepsilon}

    Buy the log-probability in place of the text alone where it costs less than the first ratio
    times the text, the row in place of one log-probability below the second, the row in place of
    the text below the third.

    Args:
        labels: A, at least 2.
        error: epsilon, a total variation in (0, 1).

    Returns:
        The ratio for (better, poorer) privilege.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.43/eps at many labels.

        >>> round(break_even(labels=50, error=0.05)["sampled_probabilities", "hard_labels"], 4)
        8.4795

    Source:
        Derived from the sharp rates of the three privileges.
    """
    check_domain("break_even", inputs=1, labels=labels)
    check_error("break_even", error)
    row_for_text = math.e * (labels - 1) / (2 * math.pi * error)
    return dict(zip(PAIRS, (row_for_text / labels, float(labels), row_for_text), strict=True))
