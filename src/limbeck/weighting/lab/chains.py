"""Chains of distillation by SGD for models linear in their inputs, many weights at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


Numbers = np.ndarray[Any, np.dtype[np.float64]]
AHEAD = 256  # steps whose batches are drawn at once


@dataclass(frozen=True, eq=False)
class Chains:
    r"""Distillation by SGD, many series at once on common batches.

    .. math:: x \leftarrow C\left( x - \gamma \left[ \tfrac{1}{B} \sum a (\phi(a^T x) - t)
              + \mathrm{ridge}\, x + s \right] \right)

    A series has its own targets :math:`t_\lambda = (1 - \lambda) b + \lambda \phi(a^T \theta)`,
    its own constant shift s and its own compressor
    :math:`C(z)_k = z_k (1 \pm \sqrt\omega)` with fair signs. Batches and signs are the same for all
    series, so that differences between weights are far less noisy than the levels.

    Attributes:
        rows: Inputs a [n, d].
        targets: t, a column a series [n, series].
        learning_rate: :math:`\gamma`.
        batch_size: B; rows are drawn independently, with replacement.
        start: x at step 0 [d].
        link: :math:`\phi`.
        shift: s [series, d], or None for zero.
        ridge: On the parameters.
        omega: Of each series [series], or None without compression.

    Source:
        The setting of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """

    rows: Float[np.ndarray, "n d"]
    targets: Float[np.ndarray, "n series"]
    learning_rate: float
    batch_size: int
    start: Float[np.ndarray, " d"]
    link: Callable[[Numbers], Numbers] | None = None
    shift: Float[np.ndarray, "series d"] | None = None
    ridge: float = 0.0
    omega: Float[np.ndarray, " series"] | None = None

    def average(
        self,
        observe: Callable[[Numbers], Numbers],
        *,
        chains: int,
        steps: int,
        dropped: int,
        every: int,
        seed: tuple[int, ...],
    ) -> Numbers:
        """Return the mean over the kept steps of what is observed, by chain.

        Args:
            observe: From x [chains, series, d] to numbers [chains, ...].
            chains: Independent repetitions.
            steps: In all.
            dropped: First steps, which are not looked at.
            every: Look at every so manieth step.
            seed: Of batches and signs.

        Returns:
            [chains, ...].
        """
        rng = np.random.default_rng(seed)
        x = np.repeat(self.start[None, None], chains, 0).repeat(self.targets.shape[1], 1)
        shift = 0.0 if self.shift is None else self.shift
        total, seen = np.zeros(1), 0
        drawn = np.zeros((AHEAD, chains, self.batch_size), dtype=np.int64)
        for step in range(steps):
            if step % AHEAD == 0:
                drawn = rng.integers(len(self.rows), size=(AHEAD, chains, self.batch_size))
            rows = self.rows[drawn[step % AHEAD]]
            said = x @ rows.swapaxes(1, 2)
            wanted = self.targets[drawn[step % AHEAD]].swapaxes(1, 2)
            missed = (said if self.link is None else self.link(said)) - wanted
            gradient = missed @ rows / self.batch_size + self.ridge * x + shift
            x = x - self.learning_rate * gradient
            if self.omega is not None:
                signs = rng.integers(2, size=(chains, 1, x.shape[2])) * 2.0 - 1
                x *= 1 + np.sqrt(self.omega)[None, :, None] * signs
            if step >= dropped and step % every == 0:
                total, seen = total + observe(x), seen + 1
        return total / seen


def mixed(
    targets: Float[np.ndarray, " n"],
    teacher: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " series"],
) -> Float[np.ndarray, "n series"]:
    r"""Return the targets of distillation, :math:`(1 - \lambda) b + \lambda q`, by series."""
    return (1 - weights) * targets[:, None] + weights * teacher[:, None]


def sigmoid(z: Numbers) -> Numbers:
    """Return 1 / (1 + exp(-z)); it is finite for every z."""
    return 0.5 * (1 + np.tanh(0.5 * z))
