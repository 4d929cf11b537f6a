"""Other measures of what teacher and student both know, for comparison; closed forms."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Real

from limbeck.information.certificate import Pairs, mutual_information, xlogx
from limbeck.information.entropy import checked_table


def redundancy_mmi(pmf: Real[np.ndarray, "y t s"]) -> float:
    r"""Return the redundancy of minimum mutual information.

    .. math:: Red_{MMI} = \min\{ I(Y;T),\; I(Y;S) \}

    It takes all that the worse one knows for known to the better one as well, and is never below
    the redundancy of :func:`broja_pid`.

    Args:
        pmf: The table P(y, t, s): probabilities that sum to one, or integer counts.

    Returns:
        The redundancy [bits]; zero where teacher or student knows nothing.

    Raises:
        ShapeError: If the table has not three dimensions.
        DataError: If it is empty, negative, not finite, or sums to something else than one.

    Example:
        The targets are two bits; the teacher has one and the student the other, so nothing is
        shared. This measure says 1 bit all the same.

        >>> copy = np.zeros((4, 2, 2), dtype=int)
        >>> copy[0, 0, 0] = copy[1, 0, 1] = copy[2, 1, 0] = copy[3, 1, 1] = 1
        >>> round(redundancy_mmi(copy), 6)
        1.0

    Source:
        Barrett (2015), arXiv:1411.2832.
    """
    pairs = Pairs.of(checked_table("redundancy_mmi", pmf, 3))
    nats = min(mutual_information(pairs.teacher), mutual_information(pairs.student))
    return nats / math.log(2.0)


def redundancy_imin(pmf: Real[np.ndarray, "y t s"]) -> float:
    r"""Return the redundancy of Williams and Beer: the least information about each label.

    .. math:: Red_{min} = \sum_y P(y) \min\{ I(Y{=}y;T),\; I(Y{=}y;S) \}, \qquad
              I(Y{=}y;X) = \sum_x P(x \mid y) \log_2 \frac{P(y \mid x)}{P(y)}

    It compares amounts, not contents. Never above that of :func:`redundancy_mmi`; it may be above
    that of :func:`broja_pid`.

    Args:
        pmf: The table P(y, t, s): probabilities that sum to one, or integer counts.

    Returns:
        The redundancy [bits]; zero where, for every label, one of both knows nothing.

    Raises:
        ShapeError: If the table has not three dimensions.
        DataError: If it is empty, negative, not finite, or sums to something else than one.

    Example:
        Each source has one bit of its own. About every label each knows 1 bit, so 1 bit comes out.

        >>> copy = np.zeros((4, 2, 2), dtype=int)
        >>> copy[0, 0, 0] = copy[1, 0, 1] = copy[2, 1, 0] = copy[3, 1, 1] = 1
        >>> round(redundancy_imin(copy), 6)
        1.0

    Source:
        Williams and Beer (2010), arXiv:1004.2515.
    """
    pairs = Pairs.of(checked_table("redundancy_imin", pmf, 3))
    least = np.minimum(_specific(pairs.teacher), _specific(pairs.student))
    return max(float(least.sum()), 0.0) / math.log(2.0)


def redundancy_do(pmf: Real[np.ndarray, "y t s"]) -> float:
    r"""Return the redundancy of Lyu, Clark and Raviv: what T and S share through Y alone.

    .. math:: Red_{do} = I_q(T;S), \qquad q(t,s) = \sum_y P(y) P(t \mid y) P(s \mid y)

    It is never above the redundancy of :func:`broja_pid`, since q(y,t,s) is one of the couplings
    over which that one takes the best.

    Args:
        pmf: The table P(y, t, s): probabilities that sum to one, or integer counts.

    Returns:
        The redundancy [bits]; zero where T and S are independent in q.

    Raises:
        ShapeError: If the table has not three dimensions.
        DataError: If it is empty, negative, not finite, or sums to something else than one.

    Example:
        Teacher and student both equal the targets, a fair bit: they share all of it.

        >>> round(redundancy_do(np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]]])), 6)
        1.0

    Source:
        Lyu, Clark and Raviv (2024), arXiv:2402.03554.
    """
    pairs = Pairs.of(checked_table("redundancy_do", pmf, 3))
    return mutual_information(pairs.independent().sum(0)) / math.log(2.0)


def _specific(pair: Float[np.ndarray, "y x"]) -> Float[np.ndarray, " y"]:
    """Return P(y) I(Y=y; X) for every label [nats]."""
    label, symbol = pair.sum(1), pair.sum(0)
    # P(y) sum_x P(x|y) log P(x|y)/P(x); where a symbol has no mass, neither has its cell.
    given = xlogx(pair).sum(1) - xlogx(label)
    return given - pair @ np.log(np.where(symbol > 0, symbol, 1.0))
