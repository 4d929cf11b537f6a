"""Case ``coverage``: how often the intervals of the weight hold the weight that is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from limbeck.lab_result import LabCurve, LabResult, LabSettings, compare, line
from limbeck.weighting.measuring.curvature import DAMPING, Curvature
from limbeck.weighting.measuring.gradient_moments import GradientMoments, moments_of
from limbeck.weighting.measuring.products import Products, Traces
from limbeck.weighting.reporting.advice import WeightAdvice, recommend_weight
from limbeck.weighting.theory.laws import loss_weight


LEAST = 0.93  # of intervals with a nominal coverage of 95 %
SLACK = 0.04  # for the sampling error of a short run at most
ROWS = (32, 128, 512, 2048)
DISTANCES = (0.05, 0.2, 0.6)  # of the teachers from the optimum
STUDENT = 0.1  # its distance from the optimum
TRIALS = {"full": 2000, "quick": 200}
LEARNING_RATE, BATCH = 0.05, 16
WEIGHTS = ("one_step", "horizon", "loss")


class Truth(NamedTuple):
    """What intervals should hold.

    Attributes:
        one_step: Weight of the next step.
        horizon: Of the long run, with the harmonic curvature along the bias.
        loss: Of the lowest plateau.
        moments: Traces and squared means of the population.
        D_T: The teacher's bias [squared unit of the targets].
    """

    one_step: float
    horizon: float
    loss: float
    moments: Traces
    D_T: float


@dataclass(frozen=True, eq=False)
class GaussianLine:
    r"""Rows a of independent normal inputs and targets :math:`a^T x^* + e`, without end.

    With the loss :math:`(a^T x - b)^2` the gradients at a student off the optimum by u, with a
    teacher off by v, are :math:`g = 2 (a^T u - e) a` and :math:`h = 2 (a^T v - e) a`, and

    .. math:: E \langle g, h \rangle = 4 \left[ (u^T S v + s^2)\, \mathrm{tr} S + 2 u^T S^2 v
              \right], \qquad \bar h = 2 S v, \qquad D_T = v^T S v

    with the inputs' covariance S, the Hessian 2 S, and the variance :math:`s^2` of e.

    Attributes:
        variances: Diagonal of S.
        noise: s.
        student: u.
        teacher: v.

    Source:
        Derived: fourth moments of the normal distribution (Isserlis 1918, Biometrika 12, 134-139).
    """

    variances: Float[np.ndarray, " d"]
    noise: float
    student: Float[np.ndarray, " d"]
    teacher: Float[np.ndarray, " d"]

    def truth(self) -> Truth:
        """Return the moments of the population and the three weights."""
        s, u, v = self.variances, self.student, self.teacher

        def trace(one: np.ndarray, two: np.ndarray) -> float:
            fourth = (one @ (s * two) + self.noise**2) * s.sum() + 2 * one @ (s**2 * two)
            return float(4 * (fourth - one @ (s**2 * two)))

        traces = trace(u, v), trace(u, u), trace(v, v)
        means = [float(4 * one @ (s**2 * one)) for one in (u, v)]
        found, bias = Traces(*traces, *means), float(v @ (s * v))
        step = LEARNING_RATE * found.hbar2 / (2 * bias)  # gamma mu
        growth = (2 - step) / step
        return Truth(
            found.tr_gh / (found.tr_hh + BATCH * found.hbar2),
            found.tr_gh / (found.tr_hh + BATCH * growth * found.hbar2),
            loss_weight(
                found.tr_gh, found.tr_hh, bias, learning_rate=LEARNING_RATE, batch_size=BATCH
            ),
            found,
            bias,
        )

    def drawn(self, n: int, rng: np.random.Generator) -> GradientMoments:
        """Measure the moments of n new rows as :func:`~limbeck.gradient_moments` would."""
        rows = rng.normal(size=(n, len(self.variances))) * np.sqrt(self.variances)
        e = self.noise * rng.normal(size=n)
        second = rng.permutation(n) >= n // 2
        return self.measured(rows, e, second)

    def measured(
        self,
        rows: Float[np.ndarray, "n d"],
        errors: Float[np.ndarray, " n"],
        second: np.ndarray,
    ) -> GradientMoments:
        """Return the moments of given rows, a dense solver in the place of the iterative one.

        Args:
            rows: a.
            errors: e.
            second: Which rows are in the second half, for the bias in loss units [n].
        """
        g, h = (2 * (rows @ off - errors)[:, None] * rows for off in (self.student, self.teacher))
        gbar, hbar = g.mean(0), h.mean(0)
        own = [(a * b).sum(1) for a, b in ((g, h), (g, g), (h, h))]
        values = np.stack([*own, g @ gbar, g @ hbar, h @ gbar, h @ hbar], axis=1)
        hessian = 2 * rows.T @ rows / len(rows)
        mean = float(np.trace(hessian)) / len(hessian)
        matrix = hessian + DAMPING * mean * np.eye(len(hessian))
        solved = [np.linalg.solve(matrix, h[side].mean(0)) for side in (~second, second)]
        # A row of one half counts along what the other half's mean solves.
        each = 0.5 * np.where(second, h @ solved[0], h @ solved[1])
        sides = [each[~second], each[second]]
        error = np.sqrt(sum(side.var(ddof=1) / len(side) for side in sides))
        curvature = Curvature(
            D_T=float(np.mean([side.mean() for side in sides])),
            standard_error=float(error),
            rows=each,
            half=second.astype(np.float64),
            mean=mean,
            rayleigh=float(hbar @ hessian @ hbar / (hbar @ hbar)),
            damping=DAMPING * mean,
            iterations=0,
            residual=0.0,
            converged=True,
        )
        made = Products(("x",), values[None])
        return moments_of(made, settings={"method": "closed form"}, curvature=curvature)


def example_lines() -> dict[str, GaussianLine]:
    """Return one problem with teachers of three qualities, by name; always the same."""
    source = np.random.default_rng(5)
    one, two = (drawn / np.linalg.norm(drawn) for drawn in source.normal(size=(2, 8)))
    variances = np.linspace(0.6, 1.4, 8) ** 2
    made = {}
    for distance in DISTANCES:
        line_ = GaussianLine(variances, 1.0, STUDENT * one, distance * two)
        found = line_.truth().moments
        made[f"B_T = {found.tr_hh / found.hbar2:.0f}"] = line_
    return made


def coverage(settings: LabSettings) -> LabResult:
    r"""Check that intervals of nominally 95 % hold the true weight in 93 % of samples at least.

    Least squares with normal rows, for which all moments are known. Samples of 32 to 2048 rows are
    drawn anew 2000 times each, for teachers of three qualities; judged are Fieller's interval of
    the weight for one step and the jackknife's of the weight in loss units, whose truth is that of
    the undamped curvature. An interval without bounds counts as it is shown, cut to [0, 1].

    Args:
        settings: A quick run draws 200 samples each, and its criterion is lower by four standard
            errors, 0.04 at most.

    Returns:
        A check for each teacher and interval at its worst number of rows, the share of intervals
        that hold the truth over the number of rows, and remarks on widths and on the long run.

    Source:
        Fieller (1954), J. R. Stat. Soc. B 16, 175-185; problem derived.
    """
    began = time.perf_counter()
    found = measure(settings)
    checks, curves, remarks = [], [], []
    for name, seen in found["teachers"].items():
        inside = seen["inside"].mean(1)
        for which, label in (("one_step", "one step"), ("loss", "loss units")):
            shares = inside[:, WEIGHTS.index(which)]
            at = int(shares.argmin())
            error = float(np.sqrt(shares[at] * (1 - shares[at]) / found["settings"]["trials"]))
            tolerance = min(4 * error, SLACK) if settings.quick else 0.0
            where = f"{name}, {label}: least share held, n = {ROWS[at]}"
            checks.append(compare(where, float(shares[at]), LEAST, tolerance, "at_least"))
        curves.append(
            LabCurve(
                f"teacher of {name}",
                "rows",
                "share of intervals that hold the weight",
                line(ROWS),
                line(inside[:, 0]),
                None,
                {
                    "loss units (jackknife)": line(inside[:, 2]),
                    "long run": line(inside[:, 1]),
                    "criterion": (LEAST,) * len(ROWS),
                },
            )
        )
        widths = "; ".join(
            f"n = {n}: {one:.2f}, {two:.2f}, resolved {100 * share:.0f} %"
            for n, (one, _, two), share in zip(
                ROWS, seen["width"].mean(1), seen["resolved"].mean(1), strict=True
            )
        )
        remarks.append(f"{name}: mean width for one step and in loss units: {widths}")
    return LabResult(
        "coverage",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
        tuple(remarks),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Draw all samples; return what each interval held.

    Returns:
        For each teacher ``inside`` and ``width`` [rows, trials, weights] and ``resolved`` (of the
        weight in loss units) [rows, trials].
    """
    trials = TRIALS["quick" if settings.quick else "full"]
    teachers = {}
    for place, (name, problem) in enumerate(example_lines().items()):
        truth = problem.truth()
        rng = np.random.default_rng((settings.seed, 11, place))
        advice = [
            [
                recommend_weight(
                    problem.drawn(n, rng), learning_rate=LEARNING_RATE, batch_size=BATCH
                )
                for _ in range(trials)
            ]
            for n in ROWS
        ]
        teachers[name] = {
            "inside": _each(
                advice, lambda one, of, t=truth: one.lower <= getattr(t, of) <= one.upper
            ),
            "width": _each(advice, lambda one, _: one.upper - one.lower),
            "resolved": _each(advice, lambda one, _: one.status == "resolved")[..., -1],
        }
    return {
        "teachers": teachers,
        "settings": {
            "seed": settings.seed,
            "trials": trials,
            "rows": list(ROWS),
            "learning_rate": LEARNING_RATE,
            "batch_size": BATCH,
        },
    }


def _each(advice: list[list[WeightAdvice]], of: Any) -> np.ndarray:
    """Return a number of each weight's estimate, [rows, trials, weights]."""
    return np.array(
        [[[of(getattr(one, name), name) for name in WEIGHTS] for one in row] for row in advice],
        dtype=np.float64,
    )
