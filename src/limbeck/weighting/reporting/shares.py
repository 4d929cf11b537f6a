"""Which layers, and which classes, the noise and the bias come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from limbeck.estimates import Estimate
from limbeck.weighting.measuring.gradient_moments import GradientMoments
from limbeck.weighting.measuring.products import Numbers, influences
from limbeck.weighting.theory.fieller import Ratio, ratio_of, weight_estimate


@dataclass(frozen=True)
class Share:
    """The part of a layer, or of the rows of one class, in the moments.

    Attributes:
        rows: Rows that it comes from.
        rho: Correlation of the two stochastic gradients in it, in [-1, 1]; 0 where one is
            constant.
        unbiased: lambda_cv = tr_gh / tr_hh with Fieller's interval: its best weight were there no
            bias; "unresolved" where tr_hh may be zero.
        tr_gg: Noise of the task's gradient in it, a row.
        tr_hh: Noise of h in it, a row.
        hbar2: Its squared bias; of a class the mean of <h_i, hbar>, which may be negative.
        share_gg: Its share of the model's tr_gg; shares add up to 1.
        share_hh: The same of tr_hh; None where that is zero.
        share_hbar2: The same of hbar2; None where that is not resolved.
    """

    rows: int
    rho: float
    unbiased: Estimate
    tr_gg: float
    tr_hh: float
    hbar2: float
    share_gg: float | None
    share_hh: float | None
    share_hbar2: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        return {**vars(self), "unbiased": self.unbiased.to_dict()}


def unbiased_weight(moments: GradientMoments) -> Estimate:
    """Return lambda_cv = tr_gh / tr_hh, the weight of the unbiased mode, with its interval.

    Args:
        moments: Of two units at least.
    """
    found = np.array([moments.tr_gh, moments.tr_gg, moments.tr_hh, moments.gbar2, moments.hbar2])
    return _weight(ratio_of(found, moments.covariance, 0.0), moments.n)


def layer_shares(moments: GradientMoments) -> dict[str, Share]:
    """Return the part of each layer in the moments; their moments add up to those of the model.

    Args:
        moments: Of two units at least.
    """
    products, units = moments.products, moments.units
    shares: dict[str, Share] = {}
    for name, values in zip(products.layers, products.values, strict=True):
        found, parts = influences(values, products.rows)
        covariance = parts.T @ parts / (units * (units - 1))
        if len(products.layers) == 1:  # of random directions it knows their error too
            covariance = moments.covariance
        estimate = _weight(ratio_of(found, covariance, 0.0), moments.n)
        shares[name] = _share(moments, found, estimate, moments.n, 1.0)
    return shares


def class_shares(
    moments: GradientMoments, targets: Tensor | None, names: Sequence[str] | None = None
) -> dict[str, Share] | None:
    r"""Return the part of the rows of each class in the moments.

    .. math:: \mathrm{tr}_{gh}(c) = \frac{n}{n - 1}\, \mathrm{mean}_{i \in c}
              \langle g_i - \bar g, h_i - \bar h \rangle

    with the means over all rows, so that the classes, each with its share of the rows, add up to
    the whole; tr_gg and tr_hh alike.

    Args:
        moments: Of single rows.
        targets: The class of each unit, -1 where it has no label.
        names: Of the classes.

    Returns:
        By class, in their order; None where units are groups of rows or targets no classes.

    Source:
        Derived.
    """
    products, units = moments.products, moments.units
    if products.rows != 1 or targets is None or targets.is_floating_point():
        return None
    if targets.shape != (units,):
        return None
    found, parts = influences(products.total())
    each = parts + found
    each[:, :3] *= units / (units - 1)  # of a unit the traces are summands without it
    each[:, 3:] = parts[:, 3:] / 2 + found[3:]
    kinds, shares = targets.cpu().numpy(), {}
    for kind in np.unique(kinds):
        rows = each[kinds == kind]
        name = "unlabelled" if kind < 0 else str(kind)
        if names is not None and 0 <= kind < len(names):
            name = names[int(kind)]
        mean = rows.mean(0)
        spread = np.cov(rows[:, [0, 2]].T) / len(rows) if len(rows) > 1 else np.full((2, 2), np.inf)
        ratio = Ratio(
            float(mean[0]),
            float(mean[2]),
            float(spread[0, 0]),
            float(spread[0, 1]),
            float(spread[1, 1]),
        )
        estimate = _weight(ratio, len(rows))
        shares[name] = _share(moments, mean, estimate, len(rows), len(rows) / units)
    return shares


def _share(
    moments: GradientMoments, found: Numbers, unbiased: Estimate, rows: int, part: float
) -> Share:
    gh, gg, hh, _, hbar2 = (float(value) for value in found)
    size = math.sqrt(max(gg, 0.0) * max(hh, 0.0))
    return Share(
        rows=rows,
        rho=gh / size if size > 0 else 0.0,
        unbiased=unbiased,
        tr_gg=gg,
        tr_hh=hh,
        hbar2=hbar2,
        share_gg=part * gg / moments.tr_gg if moments.tr_gg > 0 else None,
        share_hh=part * hh / moments.tr_hh if moments.tr_hh > 0 else None,
        share_hbar2=part * hbar2 / moments.hbar2 if moments.resolved("hbar2") else None,
    )


def _weight(ratio: Ratio, rows: int) -> Estimate:
    if not math.isfinite(ratio.var_bottom):  # one row shows no spread
        return Estimate(0.0, 0.0, 1.0, n=rows, unit="fraction", status="unresolved")
    value = ratio.top / ratio.bottom if ratio.bottom > 0 else 0.0
    return weight_estimate(ratio, value, n=rows, settings={"kappa": -1.0})
