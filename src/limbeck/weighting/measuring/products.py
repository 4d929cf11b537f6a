"""Inner products of gradients, unit by unit: all that the moments are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


NAMES = ("gh", "gg", "hh", "g_gbar", "g_hbar", "h_gbar", "h_hbar")
MOMENTS = ("tr_gh", "tr_gg", "tr_hh", "gbar2", "hbar2")
Numbers = NDArray[np.float64]


class Traces(NamedTuple):
    """The five moments of a set of gradients, each a number."""

    tr_gh: float
    tr_gg: float
    tr_hh: float
    gbar2: float
    hbar2: float


@dataclass(frozen=True)
class Products:
    r"""What is kept of the gradients g_i of the task and h_i of task minus distillation.

    A unit i is a row, or the mean over a group of rows. With these seven numbers of each unit and
    layer, and the two mean vectors that four of them need, no gradient is kept. They add over
    layers; units of several processes are put side by side.

    Attributes:
        layers: Names of the layers.
        values: [layers, units, 7]: <g_i, h_i>, |g_i|^2, |h_i|^2, then <g_i, gbar>, <g_i, hbar>,
            <h_i, gbar>, <h_i, hbar> with gbar and hbar the means over all units.
        rows: Rows in a unit, m.
    """

    layers: tuple[str, ...]
    values: Numbers
    rows: int = 1

    @property
    def units(self) -> int:
        """Their number."""
        return self.values.shape[1]

    def total(self) -> Numbers:
        """Return the numbers of the whole model, [units, 7]."""
        return self.values.sum(0)

    def by_layer(self) -> dict[str, Traces]:
        """Return the moments of each layer; over layers they add up to those of the model."""
        return {
            name: Traces(*influences(values, self.rows)[0])
            for name, values in zip(self.layers, self.values, strict=True)
        }


def influences(numbers: Numbers, rows: int = 1) -> tuple[Numbers, Numbers]:
    r"""Return the five moments and what each unit contributes to their error.

    With u units of m rows: :math:`\mathrm{tr}_{gh} = \frac{m}{u - 1} \sum_i \langle g_i - \bar g,
    h_i - \bar h \rangle`, the other traces alike, and :math:`|\bar h|^2 = \frac{1}{u (u - 1)}
    \sum_{i \ne j} \langle h_i, h_j \rangle`, the mean over i of :math:`t_i = \langle h_i,
    \bar h_{(-i)} \rangle`. All are unbiased.

    Args:
        numbers: As a layer of :class:`Products`, [units, 7], of two units at least.
        rows: Rows in a unit, m.

    Returns:
        The moments in the order of MOMENTS, [5], and [units, 5]: for the traces m times each
        unit's summand minus the trace, for the squared norms 2 (t_i - mean). The covariance of the
        moments is ``influences.T @ influences / (units (units - 1))``.

    Source:
        Derived; moments of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    u = len(numbers)
    gh, gg, hh, g_gbar, g_hbar, h_gbar, h_hbar = numbers.T
    centred = np.stack(
        [
            gh - g_hbar - h_gbar + g_hbar.mean(),
            gg - 2 * g_gbar + g_gbar.mean(),
            hh - 2 * h_hbar + h_hbar.mean(),
        ],
        axis=1,
    )
    traces = rows * centred.sum(0) / (u - 1)
    others = np.stack([(u * g_gbar - gg) / (u - 1), (u * h_hbar - hh) / (u - 1)], axis=1)
    squares = others.mean(0)
    found = np.concatenate([traces, squares])
    return found, np.concatenate([rows * centred - traces, 2 * (others - squares)], axis=1)
