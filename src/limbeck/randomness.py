"""Random numbers that are pure functions of what they are for: seed, sample, view, epoch."""

from __future__ import annotations

import hashlib
import operator

import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on every part; equal parts give equal seeds.

    Example:
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
        True
        >>> derive_seed(0, "order", 3) == derive_seed(0, "order", 4)
        False
    """
    # A number of numpy or a bool is written like the integer that it equals.
    plain = tuple(str(part) if isinstance(part, str) else operator.index(part) for part in parts)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def keyed_uniform(seed: int, index: Tensor, view: Tensor, count: int) -> Tensor:
    """Draw uniform numbers for each (sample, view) without any state.

    The bits are two rounds of a multiply-xorshift finaliser (Steele, Lea and Flood 2014,
    SplitMix64) over (seed, index, view, position), in int64 arithmetic that wraps alike on every
    device. So row i of the result is the same whatever batch, worker, process or device it is in.

    Args:
        seed: Any integer.
        index: Sample positions, int64 [batch].
        view: View numbers, int64 [batch].
        count: How many numbers each row gets.

    Returns:
        float32 [batch, count] in [0, 1), on the device of ``index``.
    """
    index, view = index.to(torch.int64), view.to(torch.int64)
    position = torch.arange(count, device=index.device, dtype=torch.int64)
    state = _mixed(index + _signed(derive_seed(seed, "keyed")))
    state = _mixed(state ^ (view * _signed(0x9E3779B97F4A7C15)))
    bits = _mixed(state[:, None] + (position + 1) * _signed(0xBF58476D1CE4E5B9))
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) / float(1 << 24)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right without the sign, which int64 would drag along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant
