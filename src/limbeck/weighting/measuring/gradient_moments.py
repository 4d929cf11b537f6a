"""The moments of the two gradients whose trade-off decides how much to distil."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.weighting.measuring.curvature import Curvature
from limbeck.weighting.measuring.products import MOMENTS, Numbers, Products, Traces, influences


@dataclass(frozen=True)
class GradientMoments:
    r"""Moments of the gradients g of the task and h of task minus distillation, at one student.

    The gradient of (1 - lambda) task + lambda distillation is g - lambda h: h removes noise by its
    covariance with g, adds some of its own, and its mean is a bias. All moments are unbiased.

    Attributes:
        tr_gh: tr Cov(g, h), a row.
        tr_gg: tr Cov(g), a row.
        tr_hh: tr Cov(h), a row.
        gbar2: Squared norm of the mean of g; may come out negative.
        hbar2: Squared norm of the mean of h, the teacher's bias; may come out negative.
        standard_errors: Of these five, by name.
        covariance: Of these five, [5, 5], in that order.
        units: Rows, or groups of rows, that the errors come from.
        n: Rows.
        layers: The five moments of each layer; they add up to those of the model.
        noise_dimensions: Over how many directions the noise of h is spread; None where the way of
            measuring does not show it.
        curvature: D_T and what goes with it, or None.
        settings: How it was measured: method, loss, temperature, seed, whether it is a proxy.
        products: What each unit contributes.
        index: Positions in the data of each unit's rows, int64 [units, rows in a unit]; None where
            they are not known.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; estimators derived.
    """

    tr_gh: float
    tr_gg: float
    tr_hh: float
    gbar2: float
    hbar2: float
    standard_errors: Mapping[str, float]
    covariance: Numbers = field(repr=False)
    units: int
    n: int
    layers: Mapping[str, Traces] = field(repr=False)
    noise_dimensions: float | None
    curvature: Curvature | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    products: Products = field(repr=False)
    index: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def rho(self) -> float:
        """Correlation of the two stochastic gradients, in [-1, 1]; 0 where one does not vary."""
        size = math.sqrt(max(self.tr_gg, 0.0) * max(self.tr_hh, 0.0))
        return self.tr_gh / size if size > 0 else 0.0

    @property
    def lambda_cv(self) -> float:
        """The weight that removes most noise, bias left aside; NaN where h does not vary."""
        return self.tr_gh / self.tr_hh if self.tr_hh > 0 else math.nan

    @property
    def B_T(self) -> float:  # noqa: N802
        """Teacher noise scale [rows]: the batch whose noise in h equals the bias; may be inf."""
        return self.tr_hh / self.hbar2 if self.hbar2 > 0 else math.inf

    @property
    def D_T(self) -> float | None:  # noqa: N802
        """The teacher's bias in loss units [nats], or None where curvature was not measured."""
        return None if self.curvature is None else self.curvature.D_T

    @property
    def mu_hat(self) -> float | None:
        """Curvature along the bias, harmonic where it is resolved, else the Rayleigh quotient."""
        if self.curvature is None:
            return None
        bias, error = self.curvature.D_T, self.curvature.standard_error
        seen = self.resolved("hbar2") and bias > 2 * error
        return self.hbar2 / (2 * bias) if seen else self.curvature.rayleigh

    def resolved(self, name: str) -> bool:
        """Say whether a moment is two standard errors above zero."""
        return getattr(self, name) >= 2 * self.standard_errors[name] > 0

    def influences(self) -> Numbers:
        """Return what each unit contributes to the error of each moment, [units, 5]."""
        return influences(self.products.total(), self.products.rows)[1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        curvature = self.curvature
        return {
            **{name: getattr(self, name) for name in MOMENTS},
            "standard_errors": dict(self.standard_errors),
            "rho": self.rho,
            "lambda_cv": _finite(self.lambda_cv),
            "B_T": _finite(self.B_T),
            "noise_dimensions": _finite(self.noise_dimensions),
            "D_T": self.D_T,
            "mu_hat": self.mu_hat,
            "curvature": None
            if curvature is None
            else {
                name: getattr(curvature, name)
                for name in (
                    "standard_error", "mean", "rayleigh", "damping", "iterations", "residual",
                    "converged",
                )
            },
            "n": self.n,
            "units": self.units,
            "layers": {name: traces._asdict() for name, traces in self.layers.items()},
            "settings": dict(self.settings),
        }  # fmt: skip

    def __str__(self) -> str:
        """Return the moments with their standard errors, one a line."""
        lines = [f"gradient moments, {self.n} rows, by {self.settings['method']}"]
        if self.settings.get("proxy"):
            lines[0] += " (a proxy: one layer of the model)"
        lines += [
            f"  {name:6} {getattr(self, name):10.4g} ± {self.standard_errors[name]:.2g}"
            for name in MOMENTS
        ]
        lines.append(f"  rho    {self.rho:10.3f}    B_T {self.B_T:.4g} rows")
        if self.curvature is not None:
            lines.append(
                f"  D_T    {self.curvature.D_T:10.4g} ± {self.curvature.standard_error:.2g} nats"
            )
        return "\n".join(lines)


def moments_of(
    products: Products,
    *,
    settings: Mapping[str, Any],
    noise_dimensions: float | None = None,
    curvature: Curvature | None = None,
    added: Numbers | None = None,
) -> GradientMoments:
    """Return the moments that products of at least two units have.

    Args:
        products: Of all units.
        settings: Kept with the result.
        noise_dimensions: Where known.
        curvature: Where measured.
        added: Covariance [5, 5] of errors that the units do not show, such as of random directions.
    """
    found, parts = influences(products.total(), products.rows)
    units = products.units
    covariance = parts.T @ parts / (units * (units - 1))
    if added is not None:
        covariance = covariance + added
    errors = np.sqrt(np.diag(covariance))
    return GradientMoments(
        *(float(value) for value in found),
        standard_errors={name: float(e) for name, e in zip(MOMENTS, errors, strict=True)},
        covariance=covariance,
        units=units,
        n=units * products.rows,
        layers=products.by_layer(),
        noise_dimensions=noise_dimensions,
        curvature=curvature,
        settings=settings,
        products=products,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
