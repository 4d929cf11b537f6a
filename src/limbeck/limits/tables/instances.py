"""Laws for simulations: the four of the theorems, Zipf inputs, Dirichlet rows."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from limbeck.checks import ArgumentError, check_choice, check_positive
from limbeck.limits.tables.binomial import binomial_probability
from limbeck.limits.tables.finite_law import FiniteLaw


Number = float | int


def classic_instance(inputs: int, labels: int) -> FiniteLaw:
    r"""Return Instance 0, which does not change with n: half uniform, half one label.

    .. math:: \rho = U(S), \qquad \pi^*(\cdot | s) = \tfrac{1}{2} U(A) +
              \tfrac{1}{2} \delta_{s \bmod A}

    Args:
        inputs: S, at least 1.
        labels: A, at least 1.

    Returns:
        The law; inputs are numbered from 1 in the paper, so the first one prefers the second label.

    Raises:
        ArgumentError: If a number is below 1.

    Example:
        >>> classic_instance(1, 2).rows.tolist()
        [[0.25, 0.75]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, section 6.
    """
    _sizes("classic_instance", inputs, labels, 1)
    rows = np.full((inputs, labels), 0.5 / labels)
    rows[np.arange(inputs), np.arange(1, inputs + 1) % labels] += 0.5
    return FiniteLaw("instance 0", np.full(inputs, 1 / inputs), rows)


def hard_label_instance(inputs: int, labels: int, n: int) -> FiniteLaw:
    r"""Return Instance 1, which is hard for hard labels: rows almost uniform.

    .. math:: \pi^*(2j - 1) = \frac{1 + D}{A}, \quad \pi^*(2j) = \frac{1 - D}{A}, \qquad
              D = \tfrac{1}{4} \sqrt{S A / n}

    Args:
        inputs: S, at least 1; drawn uniformly.
        labels: A, at least 2; an odd one leaves the last label empty.
        n: Draws that it is made for, at least S A / 16.

    Returns:
        The law.

    Raises:
        ArgumentError: If a number is too small.

    Example:
        D = 0.25.

        >>> hard_label_instance(1, 2, 2).rows.tolist()
        [[0.625, 0.375]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendices C and F; after Paninski (2008).
    """
    _sizes("hard_label_instance", inputs, labels, 2)
    even = labels - labels % 2
    tilt = 0.25 * math.sqrt(inputs * even / n) if n > 0 else math.inf
    if tilt > 1:
        raise ArgumentError(
            f"hard_label_instance: expected `n` >= S A / 16 = {inputs * even / 16:g}; got {n}. The "
            "rows would be negative: give more draws."
        )
    rows = np.zeros((inputs, labels))
    rows[:, 0:even:2], rows[:, 1:even:2] = (1 + tilt) / even, (1 - tilt) / even
    return FiniteLaw("instance 1", np.full(inputs, 1 / inputs), rows)


def sampled_probability_instance(inputs: int, labels: int, n: int) -> FiniteLaw:
    r"""Return Instance 2, which is hard for sampled probabilities: many rare labels.

    .. math:: \pi^*(2j - 1) = \frac{S}{n + 1}, \quad \pi^*(2j) = 0, \qquad
              \pi^*(A) = 1 - \frac{S (A - 1)}{2 (n + 1)}

    Args:
        inputs: S, at least 1; drawn uniformly.
        labels: A, at least 3; an even one leaves the last label empty.
        n: Draws that it is made for, at least S (A - 1) / 2 - 1.

    Returns:
        The law.

    Raises:
        ArgumentError: If a number is too small.

    Example:
        >>> sampled_probability_instance(1, 3, 3).rows.tolist()
        [[0.25, 0.0, 0.75]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendices C and F.
    """
    _sizes("sampled_probability_instance", inputs, labels, 3)
    odd = labels - (labels + 1) % 2
    if inputs * (odd - 1) > 2 * (n + 1):
        raise ArgumentError(
            f"sampled_probability_instance: expected `n` >= {inputs * (odd - 1) / 2 - 1:g}; got "
            f"{n}. The rows would be negative: give more draws."
        )
    return FiniteLaw(
        "instance 2", np.full(inputs, 1 / inputs), _rare_rows(inputs, labels, inputs / (n + 1))
    )


def sampled_probability_instance_risk(inputs: int, labels: int, n: int) -> float:
    r"""Return the expected risk of sampled probabilities on Instance 2, but for rare inputs unseen.

    .. math:: E R \approx q \sum_u \mathrm{Bin}(h, (1 - \tfrac{1}{n + 1})^n)(u)
              \frac{u h}{h + u}, \qquad h = \frac{A - 1}{2}, \quad q = \frac{S}{n + 1}

    Args:
        inputs: S, at least 1.
        labels: A, at least 3; an even one counts as A - 1, with one more empty label.
        n: Draws, at least S (A - 1) / 2 - 1.

    Returns:
        In [0, 1]; exact where each input and its common label are surely drawn.

    Raises:
        ArgumentError: If a number is too small.

    Example:
        h = 1: one rare label, missed with probability (3/4)^3; then 1/4 * 1/2.

        >>> round(sampled_probability_instance_risk(1, 3, 3), 9)  # 27/64 / 8
        0.052734375

    Source:
        Derived.
    """
    law = sampled_probability_instance(inputs, labels, n)
    rare = (labels - 1) // 2
    empty = labels - rare - 1  # of probability 0: never drawn, they share what is left
    u = np.arange(rare + 1)
    weights = binomial_probability(u, rare, math.exp(n * math.log1p(-1 / (n + 1))))
    # u q is left for u + empty labels: u of them miss q, and the empty ones have too much.
    off = u * empty / np.maximum(u + empty, 1)
    return float(law.rows[0, 0] * (weights @ off))


def soft_label_instance(
    inputs: int, labels: int, n: int, *, rows: str = "sampled_probabilities"
) -> FiniteLaw:
    r"""Return Instance 3, which is hard for soft labels: many rare inputs.

    .. math:: \rho(s) = \frac{1}{n + 1} \text{ but for the last, with }
              1 - \frac{S - 1}{n + 1}

    Args:
        inputs: S, at least 2.
        labels: A, at least 2.
        n: Draws that it is made for, at least S - 1.
        rows: "sampled_probabilities" for those of Instance 2, or "dirac" for all on the last label.

    Returns:
        The law.

    Raises:
        ArgumentError: If a number is too small, or ``rows`` unknown.

    Example:
        >>> soft_label_instance(2, 2, 3, rows="dirac").input_law.tolist()
        [0.25, 0.75]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendices C and F.
    """
    check_choice("soft_label_instance", "rows", rows, ("sampled_probabilities", "dirac"))
    _sizes("soft_label_instance", inputs, labels, 2)
    if inputs < 2 or n < inputs - 1:
        raise ArgumentError(
            f"soft_label_instance: expected `inputs` >= 2 and `n` >= inputs - 1; got {inputs} and "
            f"{n}. Give more draws."
        )
    rho = np.full(inputs, 1 / (n + 1))
    rho[-1] = 1 - (inputs - 1) / (n + 1)
    if rows == "dirac":
        pi = np.zeros((inputs, labels))
        pi[:, -1] = 1
    else:
        pi = sampled_probability_instance(inputs, labels, n).rows
    return FiniteLaw("instance 3", rho, pi)


def zipf_law(size: int, exponent: Number) -> Float[np.ndarray, " size"]:
    r"""Return the Zipf law, :math:`p(k) \propto k^{-\alpha}` for k = 1, 2, ... size.

    Args:
        size: How many symbols, at least 1.
        exponent: alpha, at least 0 (0 is uniform).

    Returns:
        Probabilities, largest first.

    Raises:
        ArgumentError: If a number is out of range.

    Example:
        >>> (zipf_law(2, 1.0) * 3).round(12).tolist()
        [2.0, 1.0]

    Source:
        Zipf's law.
    """
    if size < 1 or not 0 <= exponent < math.inf:
        raise ArgumentError(
            f"zipf_law: expected `size` >= 1 and `exponent` >= 0; got {size} and {exponent}. Give "
            "numbers in range."
        )
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def dirichlet_law(
    inputs: int,
    labels: int,
    random: np.random.Generator,
    *,
    input_law: ArrayLike | Number = 1.0,
    concentration: Number = 1.0,
) -> FiniteLaw:
    """Return a law whose rows are drawn from a symmetric Dirichlet law.

    Args:
        inputs: S, at least 1.
        labels: A, at least 1.
        random: Generator.
        input_law: The input law itself [inputs], or a concentration above 0 to draw it with.
        concentration: Of the rows, above 0: small for rows near one label, large for uniform ones.

    Returns:
        The law.

    Raises:
        ArgumentError: If a number is out of range.

    Example:
        >>> dirichlet_law(3, 2, np.random.default_rng(0)).rows.shape
        (3, 2)

    Source:
        Limbeck's own.
    """
    _sizes("dirichlet_law", inputs, labels, 1)
    check_positive("dirichlet_law", concentration=concentration)
    given = np.asarray(input_law, np.float64)
    if given.ndim == 0:
        check_positive("dirichlet_law", input_law=float(given))
        given = _dirichlet(random, float(given), 1, inputs)[0]
    rows = _dirichlet(random, concentration, inputs, labels)
    return FiniteLaw("Dirichlet rows", given, rows)


def _dirichlet(
    random: np.random.Generator, concentration: float, count: int, width: int
) -> Float[np.ndarray, "count width"]:
    # Logarithms: small concentrations give weights that all round to 0 otherwise.
    logs = np.log(random.standard_gamma(concentration + 1, (count, width)))
    logs += np.log(random.uniform(np.finfo(float).tiny, 1, (count, width))) / concentration
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _rare_rows(inputs: int, labels: int, rare: float) -> Float[np.ndarray, "inputs labels"]:
    odd = labels - (labels + 1) % 2
    rows = np.zeros((inputs, labels))
    rows[:, 0 : odd - 1 : 2] = rare
    rows[:, odd - 1] = max(1 - rare * (odd - 1) / 2, 0.0)
    return rows


def _sizes(where: str, inputs: int, labels: int, least: int) -> None:
    if inputs < 1 or labels < least:
        raise ArgumentError(
            f"{where}: expected `inputs` >= 1 and `labels` >= {least}; got {inputs} and {labels}. "
            "Give larger sizes."
        )
