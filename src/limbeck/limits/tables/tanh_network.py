"""Networks with one hidden layer of tanh units, as teachers and as students of each privilege."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from limbeck.checks import ArgumentError, ShapeError, check_choice, check_positive


NetworkLoss = Literal[
    "cross_entropy",
    "naive_cross_entropy",
    "squared_error",
    "k3",
    "control_variate",
    "kl_divergence",
]
OUTPUT = 3.0  # by which a teacher's last layer is larger, so that its rows are far from uniform
START = 0.5  # of a teacher's scale, where students start
BATCH, RATE, MOMENTS = 256, 0.008, (0.9, 0.99)
MOST_RATIO, MOST_LOG = math.exp(3), 5.0  # clips of r and of log r, early in training
DECAY = 0.98  # of the control variate's averages
Labels = Int[np.ndarray, " n"]
Rows = Float[np.ndarray, "n labels"]


@dataclass(frozen=True, slots=True, eq=False)
class TanhNetwork:
    r"""A conditional law, :math:`\pi(\cdot | x) = \mathrm{softmax}(B \tanh(A x + a) + b)`.

    Attributes:
        layers: A [inputs, width], a [width], B [width, labels] and b [labels].
    """

    layers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def random(
        cls, inputs: int, width: int, labels: int, random: np.random.Generator, scale: float = 1.0
    ) -> TanhNetwork:
        """Return one with normal weights of deviation 1 / sqrt(fan-in), the last ones times 3.

        Args:
            inputs: Features of an input, at least 1.
            width: Hidden units, at least 1.
            labels: A, at least 2.
            random: Generator.
            scale: Of all weights, above 0; biases are 0.

        Raises:
            ArgumentError: If a number is out of range.
        """
        if inputs < 1 or width < 1 or labels < 2:
            raise ArgumentError(
                "TanhNetwork.random: expected `inputs` and `width` >= 1 and `labels` >= 2; got "
                f"{inputs}, {width} and {labels}. Give larger sizes."
            )
        check_positive("TanhNetwork.random", scale=scale)
        first = scale * random.normal(size=(inputs, width)) / math.sqrt(inputs)
        last = OUTPUT * scale * random.normal(size=(width, labels)) / math.sqrt(width)
        return cls((first, np.zeros(width), last, np.zeros(labels)))

    @property
    def free(self) -> int:
        """Free parameters: the softmax ignores one direction a hidden unit, and one bias."""
        return sum(one.size for one in self.layers) - len(self.layers[2]) - 1

    def rows(self, x: Float[np.ndarray, "n inputs"]) -> Rows:
        """Return the conditional laws at inputs.

        Example:
            >>> flat = TanhNetwork((np.zeros((1, 2)), np.zeros(2), np.zeros((2, 2)), np.zeros(2)))
            >>> flat.rows(np.ones((1, 1))).tolist(), flat.free
            ([[0.5, 0.5]], 7)
        """
        return np.exp(_logs(self.layers, x)[1])


def fit_tanh_network(
    x: Float[np.ndarray, "n inputs"],
    drawn: Int[np.ndarray, " k"],
    teacher: Float[np.ndarray, "m labels"],
    *,
    loss: NetworkLoss,
    width: int,
    random: np.random.Generator,
    steps: int = 2500,
) -> TanhNetwork:
    r"""Train a student on draws from its teacher, by Adam with a falling learning rate.

    The gradients by the logits, with p the student's row, t the teacher's, a the drawn label, e_a
    its unit vector and r = p(a) / t(a), are

    .. math:: p - e_a, \quad t(a) (p - e_a), \quad \log r \,(e_a - p), \quad (r - 1)(e_a - p),
              \quad (\lambda r - 1)(e_a - p), \quad p - t

    r is cut at e^3 and log r at 5; lambda is the quotient of running means of r s and r^2 s with
    s = 1 - 2 p(a) + |p|^2, in [0, 1].

    Args:
        x: Inputs.
        drawn: The label drawn at each.
        teacher: The teacher's rows there. "cross_entropy" does not look at them, the next four look
            at the drawn labels' probabilities only.
        loss: In the order of the formula: "cross_entropy", "naive_cross_entropy", "squared_error",
            "k3", "control_variate" or "kl_divergence".
        width: Hidden units of the student, at least 1.
        random: Generator of its start and of the batches.
        steps: Of 256 inputs each, at least 1.

    Returns:
        The student.

    Raises:
        ArgumentError: If an option is out of range.
        ShapeError: If shapes do not fit.

    Source:
        Kingma and Ba (2015), arXiv:1412.6980, for Adam; losses of Zhao and Zhu (2023),
        arXiv:2310.07838, and derived.
    """
    check_choice("fit_tanh_network", "loss", loss, get_args(NetworkLoss))
    check_positive("fit_tanh_network", steps=steps)
    if drawn.shape != (len(x),) or len(teacher) != len(x):
        raise ShapeError(
            f"fit_tanh_network: expected a label and a row for each of {len(x)} inputs; got "
            f"{drawn.shape} and {teacher.shape}. Cut them alike."
        )
    student = TanhNetwork.random(x.shape[1], width, teacher.shape[1], random, scale=START)
    layers = [one.astype(np.float32) for one in student.layers]
    x, teacher = x.astype(np.float32), teacher.astype(np.float32)
    pull = _Pull(loss)
    means, squares = [np.zeros_like(one) for one in layers], [np.zeros_like(one) for one in layers]
    for step in range(steps):
        at = random.integers(len(x), size=min(BATCH, len(x)))
        hidden, logs = _logs(layers, x[at])
        by_logits = pull(logs, drawn[at], teacher[at]) / len(at)
        slopes = _by_layers(layers, x[at], hidden, by_logits)
        rate = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        first, second = (1 - decay ** (step + 1) for decay in MOMENTS)
        for layer, slope, mean, square in zip(layers, slopes, means, squares, strict=True):
            mean += (1 - MOMENTS[0]) * (slope - mean)
            square += (1 - MOMENTS[1]) * (slope**2 - square)
            layer -= rate * (mean / first) / (np.sqrt(square / second) + 1e-8)
    first_layer, bias, last_layer, last_bias = (one.astype(np.float64) for one in layers)
    return TanhNetwork((first_layer, bias, last_layer, last_bias))


class _Pull:
    """Gradients by the logits, one a loss; the control variate keeps its running means."""

    def __init__(self, loss: NetworkLoss) -> None:
        self.of: Callable[..., np.ndarray] = getattr(self, loss)
        self.top = self.bottom = 0.0

    def __call__(self, logs: Rows, drawn: Labels, teacher: Rows) -> Rows:
        p, row = np.exp(logs), np.arange(len(drawn))
        if self.of == self.kl_divergence:
            return p - teacher
        weights = self.of(p, logs[row, drawn], teacher[row, drawn], drawn)
        gradient = weights[:, None] * p  # weights are those of p - e_a
        gradient[row, drawn] -= weights
        return gradient

    def cross_entropy(self, p: Rows, log: np.ndarray, told: np.ndarray, _: Labels) -> np.ndarray:
        return np.ones_like(told)

    def naive_cross_entropy(
        self, p: Rows, log: np.ndarray, told: np.ndarray, _: Labels
    ) -> np.ndarray:
        return told

    def squared_error(self, p: Rows, log: np.ndarray, told: np.ndarray, _: Labels) -> np.ndarray:
        return -np.clip(log - np.log(told), -MOST_LOG, MOST_LOG)

    def k3(self, p: Rows, log: np.ndarray, told: np.ndarray, _: Labels) -> np.ndarray:
        return 1 - np.minimum(np.exp(log) / told, MOST_RATIO)

    def control_variate(self, p: Rows, log: np.ndarray, told: np.ndarray, _: Labels) -> np.ndarray:
        ratio = np.minimum(np.exp(log) / told, MOST_RATIO)
        weight = float(np.clip(self.top / self.bottom, 0.0, 1.0)) if self.bottom else 0.0
        size = 1 - 2 * np.exp(log) + (p**2).sum(1)
        self.top += (1 - DECAY) * (float((ratio * size).mean()) - self.top)
        self.bottom += (1 - DECAY) * (float((ratio**2 * size).mean()) - self.bottom)
        return 1 - weight * ratio

    def kl_divergence(self) -> None:
        """Stand for the loss that needs no drawn label."""


def _by_layers(
    layers: list[np.ndarray], x: np.ndarray, hidden: np.ndarray, by_logits: np.ndarray
) -> tuple[np.ndarray, ...]:
    by_hidden = (by_logits @ layers[2].T) * (1 - hidden**2)
    return x.T @ by_hidden, by_hidden.sum(0), hidden.T @ by_logits, by_logits.sum(0)


def _logs(
    layers: tuple[np.ndarray, ...] | list[np.ndarray], x: Float[np.ndarray, "n inputs"]
) -> tuple[np.ndarray, Rows]:
    hidden = np.tanh(x @ layers[0] + layers[1])
    scores = hidden @ layers[2] + layers[3]
    scores = scores - scores.max(1, keepdims=True)
    return hidden, scores - np.log(np.exp(scores).sum(1, keepdims=True))
