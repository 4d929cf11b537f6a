"""The missing mass as a function of the number of queries, from how often a pilot saw each symbol.

Symbols are inputs for soft labels and (input, label) pairs for sampled probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import bdtrc, ndtri

from limbeck.checks import DataError
from limbeck.estimates import Estimate, Status
from limbeck.limits.bounds.arguments import Number, check_confidence, check_error, check_queries
from limbeck.limits.planning.pilot_curve import Needed


DOUBLE = 2.0  # times the pilot: as far as Good and Toulmin's series goes
REACH = 10.0  # times the pilot: no number is given beyond
LEAST_DOUBLES = 10
SMOOTHING = 20


@dataclass(frozen=True)
class TailFit:
    r"""The missing mass of a pilot, before and beyond its size.

    Attributes:
        n: Queries of the pilot.
        distinct: Different symbols.
        singles: N_1, symbols that were seen once (by one sequence, where there are some).
        doubles: N_2.
        now: The missing mass at n queries.
        exponent: Zipf's alpha of a heavy tail, for which the missing mass falls as
            :math:`n^{-(1 - 1/\alpha)}`; unresolved where the tail is none, or too little is seen.
        heavy: Whether both estimates of alpha, from N_1/K and from 2 N_2/N_1, agree.
        confidence: Of the intervals.
    """

    n: int
    distinct: int
    singles: int
    doubles: int
    now: Estimate
    exponent: Estimate
    heavy: bool
    confidence: float
    times: Float[np.ndarray, " k"] = field(repr=False)
    number: Float[np.ndarray, " k"] = field(repr=False)
    level: float = field(repr=False)
    widening: float = field(default=1.0, repr=False)

    @property
    def effective_size(self) -> float:
        """S_eff = e n m_0(n), which takes the place of the number of symbols at n queries."""
        return math.e * self.n * self.now.value

    def mass_at(self, queries: Number) -> Estimate:
        r"""Return the missing mass at a number of queries.

        .. math:: m_0((1 + x) n) = \frac{1}{n} \sum_k (-x)^{k - 1} k N_k w_k

        Below the pilot's size the series has no cancellation and w = 1; up to twice the pilot w
        are weights that quieten its end; beyond that the tail's exponent continues it.

        Args:
            queries: At least 1.

        Returns:
            The mass, in [0, 1]; unresolved beyond what the pilot supports.
        """
        check_queries("TailFit.mass_at", queries)
        ratio = float(queries) / self.n
        if ratio <= DOUBLE:
            lower, value, upper = self._series(ratio - 1)
            return self._mass(value, lower, upper, resolved=True)
        if not self.heavy:  # a mass never rises, and may fall at once
            _, value, upper = self._series(DOUBLE - 1)
            return self._mass(value, 0.0, upper, resolved=False)
        lower, value, upper = self._series(0.0)
        slow, steep = self._slopes()
        ends = (lower * ratio**-steep, upper * ratio**-slow)
        value *= ratio ** -(1 - 1 / self.exponent.value)
        return self._mass(value, *ends, resolved=ratio <= REACH)

    def needed(self, error: Number) -> Needed:
        """Return the queries at which the missing mass is down to a target.

        Args:
            error: Target, in (0, 1).

        Returns:
            The queries, with the interval at which the mass's interval crosses the target. No
            number is given beyond twice the pilot where the tail is no power of the rank, or
            beyond ten times the pilot.

        Raises:
            ArgumentError: If the target is outside of its range.
        """
        check_error("TailFit.needed", error)
        middle, low, high = (self._crossing(float(error), side) for side in (0, -1, 1))
        low, high = min(low, middle), max(high, middle)
        supported = DOUBLE if not self.heavy else REACH
        if high <= supported * self.n:
            reason = f"{middle:,.4g} queries, in [{low:,.4g}, {high:,.4g}]"
            return Needed(self._queries(middle, low, high, resolved=True), "resolved", reason)
        # beyond what is supported only "more than that" is claimed
        low = min(low, supported * self.n)
        what = (
            f"beyond {REACH:g} times the pilot of {self.n:,} queries"
            if self.heavy
            else f"beyond twice the pilot of {self.n:,} queries, whose tail follows no power law"
        )
        reason = (
            f"the missing mass is {self.now} now, and {error:g} is reached {what}. Run a larger "
            "pilot."
        )
        return Needed(self._queries(max(middle, low), low, math.inf), "unresolved", reason)

    @property
    def _z(self) -> float:
        return float(ndtri((1 + self.confidence) / 2))

    def _series(self, x: float) -> tuple[float, float, float]:
        """Return the mass at (1 + x) n between the ends of its interval."""
        lower, value, upper = (float(curve[0]) for curve in self._curve(np.array([1 + x])))
        return lower, value, upper

    def _curve(
        self, ratios: Float[np.ndarray, " r"]
    ) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
        """Return lower ends, masses and upper ends at multiples of the pilot."""
        k, x = self.times, ratios[:, None] - 1
        before = x <= 0
        kept = before | (k <= SMOOTHING)
        weights = np.where(before, 1.0, bdtrc(k - 1, SMOOTHING, 1 / (1 + np.maximum(x, 0.0))))
        terms = (-x) ** np.where(kept, k - 1, 0.0) * np.where(kept, weights, 0.0)
        terms = terms * k * self.level / self.n
        values, variances = terms @ self.number, self.widening * (terms**2 @ self.number)
        # what one symbol more would add
        one = np.full_like(ratios, self.widening * self.level / self.n)
        own = variances / np.maximum(values, 1e-300)
        one = np.where(before[:, 0] & (values > 0), np.maximum(one, own), one)
        lower, upper = _score_interval(values, variances, one, self._z)
        return lower, np.clip(values, 0.0, 1.0), upper

    def _slopes(self) -> tuple[float, float]:
        """Return the least and the steepest exponent at which the mass falls."""
        return 1 - 1 / self.exponent.lower, 1 - 1 / self.exponent.upper

    def _crossing(self, error: float, side: int) -> float:
        """Return where the mass, or an end of its interval, falls to the target."""
        ratios = np.concatenate([np.geomspace(1 / self.n, 1, 200), np.linspace(1, DOUBLE, 101)[1:]])
        below = self._curve(ratios)[side + 1] <= error
        if below.any():
            first = int(below.argmax())
            if first == 0:
                return 1.0
            fine = np.linspace(ratios[first - 1], ratios[first], 1001)
            return float(fine[(self._curve(fine)[side + 1] <= error).argmax()]) * self.n
        if not self.heavy:
            return math.inf if side >= 0 else DOUBLE * self.n
        slow, steep = self._slopes()
        slope = {-1: steep, 0: 1 - 1 / self.exponent.value, 1: slow}[side]
        if slope <= 0:
            return math.inf
        log_ratio = math.log(self._series(0.0)[side + 1] / error) / slope
        return self.n * math.exp(min(log_ratio, 600.0))

    def _mass(self, value: float, lower: float, upper: float, *, resolved: bool) -> Estimate:
        value = min(max(value, 0.0), 1.0)
        lower, upper = min(max(lower, 0.0), value), max(min(upper, 1.0), value)
        return Estimate(value, lower, upper, self.n, "probability", _status(resolved))

    def _queries(
        self, value: float, lower: float, upper: float, *, resolved: bool = False
    ) -> Estimate:
        settings = {"interval": "crossing", "confidence": self.confidence}
        return Estimate(value, lower, upper, self.n, "queries", _status(resolved), settings)


def fit_tail(
    counts: Int64[np.ndarray, " k"],
    *,
    level: Number | None = None,
    draws: int | None = None,
    error: Number | None = None,
    confidence: Number = 0.95,
) -> TailFit:
    r"""Fit the missing mass of a pilot from how often it saw each symbol.

    Good-Turing's N_1/n now; Good and Toulmin's series up to twice the pilot; beyond it the power of
    a heavy tail, where the shares of singles and of doubles tell the same one:

    .. math:: \frac{1}{\alpha} = \frac{N_1}{K}, \qquad \frac{1}{\alpha} = 1 - \frac{2 N_2}{N_1}

    Args:
        counts: How often each symbol was seen, at least 1; in how many sequences, where draws of
            one depend on each other.
        level: The missing mass now, where something else than N_1/n is known, such as the
            Rao-Blackwellised form for pairs, or that by sequence: the curve is scaled to it.
        draws: Queries of the pilot, where the counts are of sequences; None for their sum.
        error: Standard error of the level, where dependence makes it larger than that of counts:
            all variances grow by the square of their ratio.
        confidence: Of the intervals, in (0, 1). They are score intervals of Poisson counts.

    Returns:
        The fit.

    Raises:
        DataError: If there are no counts, or a count is below 1.
        ArgumentError: If an option is outside of its range.

    Example:
        Two of ten queries saw something that was not seen again.

        >>> round(fit_tail(np.array([1, 1, 4, 4])).now.value, 6)
        0.2

    Source:
        Good (1953), Good and Toulmin (1956); exponents by Gnedin, Hansen and Pitman (2007),
        arXiv:math/0701718, their agreement as a condition derived.
    """
    where = "fit_tail"
    check_confidence(where, confidence)
    found = np.asarray(counts)
    if found.ndim != 1 or not len(found) or not (found >= 1).all():
        raise DataError(
            f"{where}: expected a list of counts >= 1; got {found.tolist()[:5]}. Leave out what "
            "was never seen."
        )
    times, number = np.unique(found, return_counts=True)
    n, distinct = int(found.sum()) if draws is None else draws, len(found)
    singles, doubles = (int((found == k).sum()) for k in (1, 2))
    scale = 1.0 if level is None or not singles else float(level) / (singles / n)
    z = float(ndtri((1 + float(confidence)) / 2))
    now = singles / n * scale if level is None or singles else float(level)
    # the spread of N_1 - n m_0 is that of N_1 + 2 N_2 (Esty 1983)
    variance = (scale / n) ** 2 * (singles + 2 * doubles)
    widening = _widening(error, variance, scale, n)
    spread, one = np.array([widening * variance]), np.array([widening * scale / n])
    lower, upper = (float(end[0]) for end in _score_interval(np.array([now]), spread, one, z))
    share, heavy = _share(singles, doubles, distinct, z * math.sqrt(widening))
    ends = [1 / max(min(end, 0.999), 1e-3) for end in (share[2], share[0], share[1])]
    alpha = Estimate(ends[1], min(ends[0], ends[1]), max(ends[2], ends[1]), n, "1", _status(heavy))
    return TailFit(
        n=n,
        distinct=distinct,
        singles=singles,
        doubles=doubles,
        now=Estimate(
            min(now, 1.0), min(lower, now, 1.0), min(upper, 1.0), n, "probability", "resolved"
        ),
        exponent=alpha,
        heavy=heavy,
        confidence=float(confidence),
        times=times.astype(np.float64),
        number=number.astype(np.float64),
        level=scale,
        widening=widening,
    )  # fmt: skip


def _widening(error: Number | None, variance: float, scale: float, n: int) -> float:
    """Return how many times the variance is that of independent draws, at least 1."""
    if error is None:
        return 1.0
    least = (scale / n) ** 2  # of one symbol, where none came once or twice
    return max(float(error) ** 2 / max(variance, least), 1.0)


def _share(
    singles: int, doubles: int, distinct: int, z: float
) -> tuple[tuple[float, float, float], bool]:
    """Return 1/alpha with its interval, and whether its two estimates agree."""
    if not singles or doubles < LEAST_DOUBLES:
        return (0.5, 0.001, 0.999), False
    first = singles / distinct
    first_sd = math.sqrt(first * (1 - first) / distinct)
    second = 1 - 2 * doubles / singles
    second_sd = (1 - second) * math.sqrt(1 / doubles + 1 / singles)
    lower = min(first - z * first_sd, second - z * second_sd)
    upper = max(first + z * first_sd, second + z * second_sd)
    agree = abs(first - second) <= z * math.hypot(first_sd, second_sd) + 0.03
    middle = (
        (first / first_sd**2 + second / second_sd**2) / (first_sd**-2 + second_sd**-2)
        if (first_sd > 0 and second_sd > 0)
        else first
    )
    heavy = agree and 0.05 < middle < 0.98
    return (middle, lower, upper), heavy


def _score_interval(
    values: Float[np.ndarray, " r"],
    variances: Float[np.ndarray, " r"],
    one: Float[np.ndarray, " r"],
    z: float,
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Return the ends of Wilson's interval for Poisson counts, which holds for few counts too."""
    middle = values + one * z**2 / 2
    reach = z * np.sqrt(variances + (one * z / 2) ** 2)
    return np.maximum(middle - reach, 0.0), middle + reach


def _status(resolved: bool) -> Status:
    return "resolved" if resolved else "unresolved"
