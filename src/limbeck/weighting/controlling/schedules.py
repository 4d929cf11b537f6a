"""Distillation weights that follow the step or the learning rate, and nothing measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from limbeck.checks import check_between, check_positive


Schedule = Callable[[int, float], float]
"""Takes the step, from 0 on, and the learning rate, and returns the weight in [0, 1]."""


@dataclass(frozen=True)
class Constant:
    r"""One weight for all steps.

    Args:
        weight: Share of the distillation term, in [0, 1].

    Raises:
        ArgumentError: If it is outside of its range.

    Example:
        >>> Constant(0.7)(1000, 0.1)
        0.7
    """

    weight: float

    def __post_init__(self) -> None:
        """Check the range."""
        check_between("Constant", 0.0, 1.0, weight=self.weight)

    def __call__(self, step: int, learning_rate: float) -> float:
        """Return the weight."""
        return self.weight


@dataclass(frozen=True)
class Linear:
    r"""From one weight to another in equal steps, then the second.

    .. math:: \lambda_t = \lambda_0 + \min(t / T, 1)\, (\lambda_T - \lambda_0)

    Args:
        start: Weight of step 0, in [0, 1].
        end: Weight from step T on, in [0, 1].
        steps: T, at least 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> [Linear(0.75, 0.0, steps=3)(step, 0.1) for step in (0, 1, 2, 3, 4)]
        [0.75, 0.5, 0.25, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_between("Linear", 0.0, 1.0, start=self.start, end=self.end)
        check_positive("Linear", steps=self.steps)

    def __call__(self, step: int, learning_rate: float) -> float:
        """Return the weight of this step."""
        share = min(step / self.steps, 1.0)
        return (1 - share) * self.start + share * self.end


@dataclass(frozen=True)
class Cosine:
    r"""From one weight to another on half a cosine, then the second.

    .. math:: \lambda_t = \lambda_T + \tfrac12 (\lambda_0 - \lambda_T)
              \left(1 + \cos(\pi \min(t / T, 1))\right)

    Args:
        start: Weight of step 0, in [0, 1].
        end: Weight from step T on, in [0, 1].
        steps: T, at least 1.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        At a third of the way the cosine is 1/2: 0.2 + 0.3 * 1.5.

        >>> round(Cosine(0.8, 0.2, steps=300)(100, 0.1), 9)
        0.65
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_between("Cosine", 0.0, 1.0, start=self.start, end=self.end)
        check_positive("Cosine", steps=self.steps)

    def __call__(self, step: int, learning_rate: float) -> float:
        """Return the weight of this step."""
        share = 0.5 - 0.5 * math.cos(math.pi * min(step / self.steps, 1.0))
        return (1 - share) * self.start + share * self.end


@dataclass(frozen=True)
class Exponential:
    r"""A weight times a factor each epoch, up to a maximum.

    .. math:: \lambda_t = \min(\lambda_0 f^{\lfloor t / s \rfloor}, \lambda_\max)

    The authors use f = 0.9, and f = 1.047 while the weight is at most 0.9 or 1; theirs may pass the
    maximum by 4.7 %, this one does not. It does so by changing the value, not the rule: the first
    weight that would pass it is the maximum itself.

    Args:
        start: Weight of the first epoch, in [0, 1].
        factor: f, above 0; above 1 the weight rises.
        steps_per_epoch: s, at least 1.
        maximum: Largest weight, in [start, 1].

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        >>> rising = Exponential(0.5, factor=1.5, steps_per_epoch=10, maximum=0.9)
        >>> [rising(step, 0.1) for step in (0, 9, 10, 20, 100000)]
        [0.5, 0.5, 0.75, 0.9, 0.9]

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; rules as in IST-DASLab/KDVR.
    """

    start: float
    factor: float
    steps_per_epoch: int
    maximum: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_between("Exponential", 0.0, 1.0, start=self.start)
        check_between("Exponential", self.start, 1.0, maximum=self.maximum)
        check_positive("Exponential", factor=self.factor, steps_per_epoch=self.steps_per_epoch)

    def __call__(self, step: int, learning_rate: float) -> float:
        """Return the weight of this step's epoch."""
        epoch = step // self.steps_per_epoch
        if self.start <= 0 or self.factor <= 1:
            return self.start * self.factor**epoch
        # A power of many epochs overflows.
        limit = math.log(self.maximum / self.start) / math.log(self.factor)
        return self.maximum if epoch >= limit else self.start * self.factor**epoch


@dataclass(frozen=True)
class WithLearningRate:
    r"""The best weight at each learning rate, from the noise at one of them and the teacher's bias.

    .. math:: \lambda_t = \frac{A_t}{A_t + \Delta}, \qquad A_t = A \frac{\gamma_t}{\gamma}

    A smaller learning rate leaves less noise, and the weight must fall with it. Divide both rates
    by 1 - momentum or neither: only their ratio counts.

    Args:
        noise_floor: A, the excess loss [nats] that plain SGD levels off at with the reference
            rate: gamma tr_gg / (4 B); at least 0.
        teacher_excess: Delta [nats], the teacher's excess loss in the student's class; at least 0.
        reference: The learning rate gamma of that noise, above 0.

    Raises:
        ArgumentError: If a number is outside of its range.

    Returns:
        A weight in [0, 1]; 0 without noise, 1 with a perfect teacher.

    Example:
        Noise and bias alike give 1/2; a quarter of the rate gives (1/4) / (5/4).

        >>> weight = WithLearningRate(noise_floor=0.25, teacher_excess=0.25, reference=0.5)
        >>> weight(0, 0.5), weight(3000, 0.125)
        (0.5, 0.2)

    Source:
        Derived; the setting is that of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """

    noise_floor: float
    teacher_excess: float
    reference: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        name = "WithLearningRate"
        most = math.nextafter(math.inf, 0.0)
        floor, excess = self.noise_floor, self.teacher_excess
        check_between(name, 0.0, most, noise_floor=floor, teacher_excess=excess)
        check_positive(name, reference=self.reference)

    def __call__(self, step: int, learning_rate: float) -> float:
        """Return the weight of this learning rate, which must be at least 0."""
        noise = self.noise_floor * learning_rate / self.reference
        return noise / (noise + self.teacher_excess) if noise > 0 else 0.0
