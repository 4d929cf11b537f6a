"""Risk of the best student that gets only the labels a teacher samples: bounds at n queries.

The risk is the total variation between student and teacher, averaged over inputs. S inputs, A
labels, n independent queries. The learner of the upper bounds counts labels (maximum likelihood).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq

from limbeck.limits.bounds.arguments import (
    Number,
    check_confidence,
    check_domain,
    check_queries,
)


_LOWER = math.exp(-0.5) / 16


def hard_labels_lower(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return the mean risk that no student can beat on every teacher, from hard labels.

    .. math:: \frac{e^{-1/2}}{16} \sqrt{\frac{S A}{n}}

    At fewer queries than :func:`hard_labels_lower_from` the bound stays at its value there, as
    fewer labels never help.

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        The minimax risk is at least this [total variation, in [0, 1]].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        exp(-1/2)/16 at n = S A.

        >>> round(hard_labels_lower(queries=420, inputs=20, labels=21), 7)
        0.0379082

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, theorem 3.1, there for even A and n >= S A/4. The
        wider range and odd A are derived: the step from exp(-KL) to exp(-1/2) leaves room.
    """
    check_domain("hard_labels_lower", inputs=inputs, labels=labels)
    check_queries("hard_labels_lower", queries)
    at = max(float(queries), hard_labels_lower_from(inputs=inputs, labels=labels))
    return _LOWER * math.sqrt(float(inputs) * labels / at)


def hard_labels_lower_from(*, inputs: int, labels: int) -> float:
    r"""Return the number of queries from which :func:`hard_labels_lower` falls.

    The teacher of the proof tilts B/2 pairs of labels by D, with B = A or, for odd A, A - 1, and
    :math:`D = \frac14 \sqrt{S B / n}`. Assouad's lemma and Bretagnolle-Huber give

    .. math:: R \ge \frac{D}{4} \exp\left(-\frac{1}{8 D} \ln \frac{1 + D}{1 - D}\right)

    which is at least the bound as long as D is below the root that is found here.

    Args:
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        n, a real number above 0; S A / 14.7 for even A.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        The paper proves it from S A/4 = 125,000 on.

        >>> round(hard_labels_lower_from(inputs=10_000, labels=50))
        34085

    Source:
        Derived, from appendix C.1 of Zhao and Zhu (2023), arXiv:2310.07838.
    """
    check_domain("hard_labels_lower_from", inputs=inputs, labels=labels)
    tilted = labels - labels % 2
    room = 0.5 - 0.5 * math.log(labels / tilted)
    tilt = float(brentq(lambda d: math.atanh(d) / (4 * d) - room, 0.01, 1 - 1e-9))  # pyright: ignore[reportArgumentType]
    return inputs * tilted / (16 * tilt**2)


def hard_labels_sharp(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return the risk to plan with at many queries, for the worst teacher.

    .. math:: \sqrt{\frac{S (A - 1)}{2 \pi n}}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        The leading term of the minimax risk [total variation]; above 1 where n is small.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        S (A - 1) = 400 and n = 400 leave sqrt(1/(2 pi)).

        >>> round(hard_labels_sharp(queries=400, inputs=20, labels=21), 6)
        0.398942

    Source:
        Kamath et al., COLT 2015, for S = 1; for S > 1 asymptotic and confirmed by simulation.
    """
    check_domain("hard_labels_sharp", inputs=inputs, labels=labels)
    check_queries("hard_labels_sharp", queries)
    return math.sqrt(float(inputs) * (labels - 1) / (2 * math.pi * queries))


def hard_labels_upper(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return a mean risk that counting labels never exceeds, on any teacher and inputs.

    .. math:: \frac{\sqrt{S (A - 1)} + \sqrt{S - 1}}{2 \sqrt{n}}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        E R is at most this [total variation]; it says nothing where it is above 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        (sqrt(4) + 0) / (2 sqrt(100)).

        >>> hard_labels_upper(queries=100, inputs=1, labels=5)
        0.1

    Source:
        Derived: the risk split at the empirical law of the inputs, whose own distance is paid once.
    """
    check_domain("hard_labels_upper", inputs=inputs, labels=labels)
    check_queries("hard_labels_upper", queries)
    rows, inputs_alone = math.sqrt(float(inputs) * (labels - 1)), math.sqrt(inputs - 1)
    return (rows + inputs_alone) / (2 * math.sqrt(queries))


def hard_labels_upper_paper(*, queries: Number, inputs: int, labels: int) -> float:
    r"""Return the paper's bound on the mean risk of counting labels.

    .. math:: \tfrac{1}{2} \sqrt{\frac{S A}{n}} + \sqrt{\frac{S}{n}}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.

    Returns:
        E R is at most this [total variation]; :func:`hard_labels_upper` is below it.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        0.5 * 2/10 + 1/10.

        >>> hard_labels_upper_paper(queries=100, inputs=1, labels=4)
        0.2

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, (D.9)-(D.11), without the slack that is added there.
    """
    check_domain("hard_labels_upper_paper", inputs=inputs, labels=labels)
    check_queries("hard_labels_upper_paper", queries)
    return math.sqrt(float(inputs) * labels / queries) / 2 + math.sqrt(inputs / queries)


def hard_labels_probable(
    *, queries: Number, inputs: int, labels: int, confidence: Number = 0.95
) -> float:
    r"""Return a risk that counting labels exceeds with probability delta at most.

    .. math:: \sqrt{\frac{A \ln 2 + L}{2}} \sqrt{\frac{S}{n}} + \sqrt{\frac{S \ln 2 + L}{2 n}},
              \qquad L = \ln \frac{S + 1}{\delta}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        confidence: 1 - delta, in (0, 1).

    Returns:
        R is at most this with that probability [total variation].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        S = 1, A = 2, delta = 1/2: L = 2 ln 2 = b, (sqrt(2 b / 2) + sqrt(1.5 b / 2)) / sqrt(100).

        >>> round(hard_labels_probable(queries=100, inputs=1, labels=2, confidence=0.5), 6)
        0.219708

    Source:
        Derived, as :func:`hard_labels_upper`, with lemma E.4 of arXiv:2310.07838.
    """
    rows, inputs_alone = _probable("hard_labels_probable", queries, inputs, labels, confidence)
    return rows + inputs_alone / 2


def hard_labels_probable_paper(
    *, queries: Number, inputs: int, labels: int, confidence: Number = 0.95
) -> float:
    r"""Return the paper's bound that holds with probability 1 - delta, from hard labels.

    .. math:: \sqrt{\frac{A \ln 2 + L}{2}} \sqrt{\frac{S}{n}}
              + \sqrt{\frac{2}{n} (S \ln 2 + L)}, \qquad L = \ln \frac{S + 1}{\delta}

    Args:
        queries: n, at least 1.
        inputs: S, at least 1.
        labels: A, at least 2.
        confidence: 1 - delta, in (0, 1).

    Returns:
        R is at most this with that probability; :func:`hard_labels_probable` is below it.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        As in :func:`hard_labels_probable`, its second term twice.

        >>> round(hard_labels_probable_paper(queries=100, inputs=1, labels=2, confidence=0.5), 6)
        0.321674

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, (D.7)-(D.8).
    """
    where = "hard_labels_probable_paper"
    rows, inputs_alone = _probable(where, queries, inputs, labels, confidence)
    return rows + inputs_alone


def _probable(
    where: str, queries: Number, inputs: int, labels: int, confidence: Number
) -> tuple[float, float]:
    check_domain(where, inputs=inputs, labels=labels)
    check_queries(where, queries)
    check_confidence(where, confidence)
    slack = math.log((inputs + 1) / (1 - confidence))
    rows = math.sqrt((labels * math.log(2) + slack) / 2 * inputs / queries)
    return rows, math.sqrt(2 * (inputs * math.log(2) + slack) / queries)
