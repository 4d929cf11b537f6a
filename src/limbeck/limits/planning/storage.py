"""Bytes that a stored answer of the teacher takes, and what precision costs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from limbeck.checks import ArgumentError, check_between, check_choice
from limbeck.limits.bounds.arguments import Number, check_domain, check_sizes
from limbeck.teacher_record import PRIVILEGES


LABEL_BYTES = 3  # 17 bits of a label and 7 of a count, or a label of up to 24 bits


def bytes_per_query(
    privilege: str,
    labels: int,
    *,
    draws: int | None = None,
    unique: Number | None = None,
    top: int | None = None,
    value_bytes: int = 2,
) -> float:
    r"""Return the bytes that the answer to one query takes on disk.

    .. math:: u (b_{id} + b_{value}) \text{ for } u \text{ labels}, \qquad
              A \, b_{value} \text{ for a whole row}

    Args:
        privilege: "hard_labels" (labels, no values), "sampled_probabilities" or "soft_labels".
        labels: A, at least 2.
        draws: N draws an input, whose counts are stored with the labels; None for one.
        unique: u, the mean number of different labels among the draws, in [1, min(N, A)]; None
            takes the most there can be.
        top: k, how many labels of a row are kept with their ids; None keeps the whole row.
        value_bytes: Of a log-probability: 2 (fp16, not bf16), 4 or 8, or 1 for a byte of your own
            coding.

    Returns:
        Bytes, without the inputs, which are kept by index.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        Twelve labels with counts and fp16 values: 12 (3 + 2).

        >>> bytes_per_query("sampled_probabilities", 128_256, draws=50, unique=12)
        60.0

    Source:
        Derived; 12 labels of 3 bytes from Random Sampling KD (2025), arXiv:2503.16870.
    """
    where = "bytes_per_query"
    check_choice(where, "privilege", privilege, PRIVILEGES)
    check_domain(where, inputs=1, labels=labels)
    if value_bytes not in (1, 2, 4, 8):
        raise ArgumentError(
            f"{where}: expected `value_bytes` to be 1, 2, 4 or 8; got {value_bytes}. Take 2."
        )
    if privilege == "soft_labels":
        check_top(where, top, labels)
        kept = None if top is None else top * (_label_bytes(labels, 1) + value_bytes)
        return float(labels * value_bytes if kept is None else kept)
    check_sizes(where, draws=draws or 1)
    most = min(draws or 1, labels)
    if unique is not None:
        check_between(where, 1.0, float(most), unique=unique)
    each = _label_bytes(labels, draws or 1)
    value = value_bytes if privilege == "sampled_probabilities" else 0
    return float((most if unique is None else unique) * (each + value))


def check_top(where: str, top: int | None, labels: int) -> None:
    """Raise ArgumentError unless top is None or a number of labels that a row has."""
    if top is not None:
        check_sizes(where, top=top)
        check_between(where, 1.0, float(labels), top=top)


def check_record_bytes(where: str, given: Mapping[str, Number] | None) -> dict[str, float]:
    """Return bytes a record by privilege, as given; raise ArgumentError for what is no size."""
    found: dict[str, float] = {}
    for privilege, size in (given or {}).items():
        check_choice(where, "record_bytes", privilege, PRIVILEGES)
        if not 0 <= size < math.inf:
            raise ArgumentError(
                f"{where}: expected bytes >= 0 for {privilege}; got {size}. Count what a record "
                "takes on disk."
            )
        found[privilege] = float(size)
    return found


def readable_bytes(size: Number) -> str:
    """Return a decimal size with its unit, to two digits or more.

    Example:
        >>> readable_bytes(7_357_600), readable_bytes(128_300), readable_bytes(3)
        ('7.4 MB', '128 kB', '3 B')
    """
    size = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 999.5 or unit == "PB":
            break
        size /= 1000
    exact = size == int(size) or size >= 9.95
    return f"{size:.0f} {unit}" if exact else f"{size:.1f} {unit}"


def _label_bytes(labels: int, draws: int) -> int:
    count_bits = draws.bit_length() if draws > 1 else 0
    return max(LABEL_BYTES, math.ceil(((labels - 1).bit_length() + count_bits) / 8))
