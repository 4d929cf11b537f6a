"""Log-linear teachers and students that share their features, fitted at each privilege."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from limbeck.checks import ArgumentError, ShapeError, check_choice
from limbeck.limits.tables.dense import total_variation


Loss = Literal["cross_entropy", "naive_cross_entropy", "squared_error", "k3", "kl_divergence"]
STEPS, MOST_DAMPED = 200, 1e8
SMALLEST, PRECISE = 1e-30, 1e-14  # decrease that a step must promise, and as a share of the loss
RIDGE = 1e-10  # keeps fits of separable labels finite


@dataclass(frozen=True, slots=True, eq=False)
class LogLinearTeacher:
    r"""A conditional law that is log-linear in features which the student knows.

    .. math:: \pi_\theta(a | s) \propto \exp \langle \phi(s, a), \theta \rangle

    Attributes:
        parameters: theta [d].
        labels: A.
        scale: Standard deviation of a feature.

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendix H.
    """

    parameters: Float[np.ndarray, " d"]
    labels: int
    scale: float

    @classmethod
    def random(cls, dimension: int, labels: int, random: np.random.Generator) -> LogLinearTeacher:
        """Return one with normal parameters (standard deviation 1.2) and features 1.5 / sqrt(d)."""
        if dimension < 1 or labels < 2:
            raise ArgumentError(
                "LogLinearTeacher.random: expected `dimension` >= 1 and `labels` >= 2; got "
                f"{dimension} and {labels}. Give larger sizes."
            )
        return cls(1.2 * random.normal(size=dimension), labels, 1.5 / np.sqrt(dimension))

    def features(
        self, inputs: int, random: np.random.Generator
    ) -> Float[np.ndarray, "inputs labels d"]:
        """Draw the features of inputs, independent and normal for each label."""
        return self.scale * random.normal(size=(inputs, self.labels, len(self.parameters)))

    def rows(
        self, features: Float[np.ndarray, "inputs labels d"]
    ) -> Float[np.ndarray, "inputs labels"]:
        """Return the conditional laws at inputs with these features."""
        return np.exp(log_probabilities(features, self.parameters))


def log_probabilities(
    features: Float[np.ndarray, "inputs labels d"], parameters: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "inputs labels"]:
    """Return the log-probabilities of a log-linear law [nats].

    Args:
        features: phi(s, a).
        parameters: theta.

    Returns:
        At most 0; exponentials of a row sum to 1.

    Example:
        >>> log_probabilities(np.zeros((1, 2, 1)), np.ones(1)).round(6).tolist()
        [[-0.693147, -0.693147]]

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, definition H.1.
    """
    scores = features @ parameters
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def fit_log_linear(
    features: Float[np.ndarray, "n labels d"],
    drawn: Int[np.ndarray, " n"],
    teacher: Float[np.ndarray, "n labels"],
    *,
    loss: Loss,
) -> Float[np.ndarray, " d"]:
    r"""Fit a log-linear student to draws from its teacher, by damped Newton steps from 0.

    .. math:: -\log p(a), \quad -t(a) \log p(a), \quad \tfrac{1}{2} \log^2 r, \quad
              r - 1 - \log r, \quad \mathrm{KL}(t, p), \qquad r = p(a) / t(a)

    Args:
        features: phi of the n inputs.
        drawn: The label drawn at each, in [0, labels).
        teacher: Its rows at the inputs. "cross_entropy" does not look at them; the next three look
            at the drawn labels' probabilities only; "kl_divergence" looks at all.
        loss: "cross_entropy", "naive_cross_entropy", "squared_error", "k3" or "kl_divergence", in
            the order of the formula.

    Returns:
        theta [d]. Least squares and k3 find the teacher exactly from about n = d draws on.

    Raises:
        ArgumentError: If the loss is unknown.
        ShapeError: If shapes do not fit.

    Source:
        Derived; losses of Zhao and Zhu (2023), arXiv:2310.07838, and k3.
    """
    check_choice("fit_log_linear", "loss", loss, get_args(Loss))
    n, labels, dimension = features.shape
    if drawn.shape != (n,) or teacher.shape != (n, labels):
        raise ShapeError(
            f"fit_log_linear: expected {n} labels and rows {(n, labels)}; got {drawn.shape} and "
            f"{teacher.shape}. Cut them alike."
        )
    parameters, damping = np.zeros(dimension), 1e-3
    value, gradient, curvature = _expand(parameters, features, drawn, teacher, loss)
    for _ in range(STEPS):
        damped = curvature + damping * np.diag(np.maximum(np.diag(curvature), RIDGE))
        step = -np.linalg.solve(damped + RIDGE * np.eye(dimension), gradient)
        if -(gradient @ step) <= SMALLEST + PRECISE * abs(value) or damping > MOST_DAMPED:
            break
        tried = _expand(parameters + step, features, drawn, teacher, loss)
        if tried[0] <= value:
            parameters, (value, gradient, curvature) = parameters + step, tried
            damping = max(damping / 10, 1e-12)
        else:
            damping *= 10
    return parameters


def transfer_error(
    features: Float[np.ndarray, "n labels d"],
    student: Float[np.ndarray, " d"],
    teacher: Float[np.ndarray, " d"],
) -> float:
    """Return the mean total variation between two log-linear laws with common features.

    Args:
        features: Of test inputs.
        student: Its parameters.
        teacher: Its parameters.

    Returns:
        In [0, 1]; 0 where they agree.

    Example:
        >>> transfer_error(np.ones((1, 2, 1)), np.zeros(1), np.ones(1))
        0.0

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, appendix H.
    """
    own, right = (np.exp(log_probabilities(features, one)) for one in (student, teacher))
    return float(total_variation(own, right).mean())


def _expand(
    parameters: Float[np.ndarray, " d"],
    features: Float[np.ndarray, "n labels d"],
    drawn: Int[np.ndarray, " n"],
    teacher: Float[np.ndarray, "n labels"],
    loss: Loss,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the mean loss, its gradient and a positive semi-definite curvature."""
    said = log_probabilities(features, parameters)
    p, row = np.exp(said), np.arange(len(drawn))
    mean = (p[:, None] @ features)[:, 0]
    score = features[row, drawn] - mean  # gradient of log p(a)
    if loss in ("squared_error", "k3"):
        log_ratio = said[row, drawn] - np.log(teacher[row, drawn])
        if loss == "k3":
            ratio = np.exp(np.minimum(log_ratio, 50.0))
            values, slope, bend = ratio - 1 - log_ratio, ratio - 1, ratio
        else:
            values, slope, bend = log_ratio**2 / 2, log_ratio, np.ones(len(row))
        curvature = (score * bend[:, None]).T @ score
        return float(values.mean()), slope @ score / len(row), curvature / len(row)
    if loss == "kl_divergence":
        weights = np.ones(len(row))
        here = np.where(teacher > 0, teacher * (np.log(np.maximum(teacher, 1e-300)) - said), 0)
        value, pull = here.sum(1), (teacher[:, None] @ features)[:, 0] - mean
    else:
        weights = teacher[row, drawn] if loss == "naive_cross_entropy" else np.ones(len(row))
        value, pull = -weights * said[row, drawn], weights[:, None] * score
    centred = features - mean[:, None]
    spread = np.sqrt(p * weights[:, None])[..., None] * centred
    flat = spread.reshape(-1, len(parameters))
    return float(value.mean()), -pull.sum(0) / len(row), flat.T @ flat / len(row)
