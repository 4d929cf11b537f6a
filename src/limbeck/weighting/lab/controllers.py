"""Case ``controllers``: measured weights against an oracle's while the learning rate falls."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import softplus

from limbeck.lab_result import (
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    line,
    standard_error,
    widened,
)
from limbeck.weighting.controlling.controllers import HbarController, LossPairController
from limbeck.weighting.lab.chains import sigmoid
from limbeck.weighting.lab.logistic import Logistic
from limbeck.weighting.theory.laws import noise_floor, shrinkage_weight


WITHIN = 0.10
RATES = {"full": (0.4, 0.1, 0.025), "quick": (0.4, 0.1)}  # learning rates, one after the other
BIASES = (0.0005, 0.005, 0.05)  # nats, of the teachers, before the third order
SERIES = ("none", "oracle", "hbar", "losspair")
CONTROLLERS = {"hbar": HbarController, "losspair": LossPairController}
BATCH, HALF, WARMUP, RIDGE = 8, 4, 200, 0.05
CHAINS = {"full": 32, "quick": 12}
STEPS = 3000  # of a phase; looked at is the last tenth
EVERY = 1  # steps between two measurements
_TENSOR = object()


def example_slopes() -> Logistic:
    """Return 2000 rows in 10 dimensions; always the same."""
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((2000, 10)) * np.linspace(0.7, 1.3, 10)
    truth = rng.standard_normal(10)
    odds = sigmoid(rows @ (1.2 * truth / np.linalg.norm(truth)))
    return Logistic(rows, (rng.random(2000) < odds).astype(np.float64), RIDGE)


def controllers(settings: LabSettings) -> LabResult:
    r"""Check that both controllers do as well as an oracle who knows noise and bias.

    SGD on logistic regression with batches of 8 in halves of 4, three teachers, and a learning rate
    that falls twice by four. The oracle's weight is :math:`A / (A + \Delta)`, with the noise floor
    :math:`A = \gamma\,\mathrm{tr}_{gg} / (4 B)` of each phase and the teacher's excess loss; each
    controller starts from 0, rests for 200 steps and then follows what it measures. In all nine
    cells the plateau of a controller lies within 10 % of the oracle's, below the one without
    distillation, and its mean weight within 0.10 of the oracle's; that of "losspair" from the
    second learning rate on, as it overshoots where the best weight is near its limit of 0.95, and
    before the student has caught up: the first one is told in a remark.

    Args:
        settings: A quick run takes fewer chains, the first two learning rates, and criteria widened
            by the chains' own spread.

    Returns:
        Checks, and plateau [nats] and mean weight over the learning rate for each teacher.

    Source:
        Derived, in the setting of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    began = time.perf_counter()
    problem, found = example_slopes(), measure(settings)
    rates = tuple(found["settings"]["learning_rates"])
    floors = [noise_floor(problem.traces(problem.optimum)[0], learning_rate=rate, batch_size=BATCH)
              for rate in rates]  # fmt: skip
    checks, curves, remarks = [], [], []
    for place, theta in enumerate(_teachers(problem)):
        bias = float(problem.excess(theta))
        oracle = np.array([shrinkage_weight(floor, bias) for floor in floors])
        excess, weights = found["excess"][..., place, :], found["weights"][..., place, :]
        best = excess[:, SERIES.index("oracle")]
        for name in CONTROLLERS:
            own = excess[:, SERIES.index(name)]
            errors = [
                standard_error(a - b * a.mean() / b.mean()) / b.mean()
                for a, b in zip(own, best, strict=True)
            ]
            apart = own.mean(-1) / best.mean(-1)
            at = int(np.abs(apart - 1).argmax())
            said = f"{name}, teacher at {bias:.2g} nats"
            tolerance = widened(WITHIN, errors[at], quick=settings.quick)
            where = f"{said}: worst plateau over the oracle's, gamma = {rates[at]:g}"
            checks.append(compare(where, float(apart[at]), 1.0, tolerance, "relative"))
            plain = float((own.mean(-1) / excess[:, SERIES.index("none")].mean(-1)).max())
            where = f"{said}: largest plateau over that without a teacher"
            checks.append(compare(where, plain, 1.0, 0.0, "at_most"))
            means = weights[:, SERIES.index(name)].mean(-1)
            first = 1 if name == "losspair" else 0
            at = first + int(np.abs(means - oracle)[first:].argmax())
            error = standard_error(weights[at, SERIES.index(name)])
            tolerance = widened(WITHIN, error, quick=settings.quick)
            where = f"{said}: farthest mean weight, gamma = {rates[at]:g}"
            checks.append(compare(where, float(means[at]), float(oracle[at]), tolerance))
            if first:
                remarks.append(
                    f"{said}: mean weight {means[0]:.3f} at gamma = {rates[0]:g}, the oracle's "
                    f"{oracle[0]:.3f}"
                )
        curves += _curves(f"teacher at {bias:.2g} nats", rates, excess, weights, oracle)
    return LabResult(
        "controllers",
        tuple(checks),
        tuple(curves),
        found["settings"],
        round(time.perf_counter() - began, 3),
        tuple(remarks),
    )


def measure(settings: LabSettings) -> dict[str, Any]:
    """Train all series; excess [nats] and weight at the end of each phase, by chain.

    Returns:
        ``excess`` and ``weights``, both [phases, series, teachers, chains], and ``settings``.
    """
    size = "quick" if settings.quick else "full"
    chains, every = CHAINS[size], EVERY
    run = _Run(example_slopes(), chains, every, settings.seed)
    parts = [run.phase(rate, STEPS) for rate in RATES[size]]
    excess, weights = (torch.stack(one).numpy() for one in zip(*parts, strict=True))
    return {
        "excess": excess,
        "weights": weights,
        "settings": {
            "seed": settings.seed,
            "chains": chains,
            "steps": STEPS,
            "batch_size": BATCH,
            "learning_rates": list(RATES[size]),
            "every": every,
            "warmup": WARMUP,
        },
    }


class _Run:
    """Chains of all series and teachers on the same batches."""

    def __init__(self, problem: Logistic, chains: int, every: int, seed: int) -> None:
        self.problem, self.chains, self.every = problem, chains, every
        self.rows, self.targets = (
            torch.from_numpy(problem.inputs),
            torch.from_numpy(problem.targets),
        )
        teachers = torch.from_numpy(np.stack(_teachers(problem)))
        self.teachers = teachers[:, None].expand(-1, chains, -1)
        self.source = torch.Generator().manual_seed(seed)
        shape = (len(SERIES), len(teachers), chains)
        start = torch.from_numpy(problem.optimum + 0.5 * _direction())
        self.x = start.expand(*shape, -1).clone()
        self.weight = torch.zeros(shape, dtype=torch.float64)
        self.step = 0
        curvature = float(np.trace(problem.hessian)) / len(problem.optimum)
        self.followers = {name: _Follower(name, curvature, every) for name in CONTROLLERS}

    def phase(self, rate: float, steps: int) -> tuple[Tensor, Tensor]:
        """Train at one learning rate; return mean excess and weight over its last part."""
        floor = noise_floor(
            self.problem.traces(self.problem.optimum)[0], learning_rate=rate, batch_size=BATCH
        )
        for place, theta in enumerate(_teachers(self.problem)):
            known = shrinkage_weight(floor, float(self.problem.excess(theta)))
            self.weight[SERIES.index("oracle"), place] = known
        excess, mean, seen = torch.zeros(()), torch.zeros(()), 0
        for step in range(steps):
            self._step(rate)
            if step >= 0.9 * steps and step % 10 == 0:
                excess = excess + torch.from_numpy(self.problem.excess(self.x.numpy()))
                mean, seen = mean + self.weight, seen + 1
        return excess / seen, mean / seen

    def _step(self, rate: float) -> None:
        drawn = torch.randint(len(self.rows), (self.chains, BATCH), generator=self.source)
        a, y = self.rows[drawn], self.targets[drawn]
        if self.step % self.every == 0:
            self._observe(rate, a, y)
        student = torch.einsum("cbd,mtcd->mtcb", a, self.x).sigmoid() - y
        teacher = torch.einsum("cbd,tcd->tcb", a, self.teachers).sigmoid() - y
        weight = self.weight[..., None]
        slope = torch.einsum("mtcb,cbd->mtcd", student - weight * teacher, a) / BATCH
        self.x = self.x - rate * (slope + RIDGE * (self.x - weight * self.teachers))
        self.step += 1

    def _observe(self, rate: float, a: Tensor, y: Tensor) -> None:
        many = self.teachers.shape[:2]
        batch = [one.expand(many[0], *one.shape).flatten(0, 1) for one in (a, y)]
        for name, follower in self.followers.items():
            place = SERIES.index(name)
            given = [one.flatten(0, 1) for one in (self.x[place], self.teachers)]
            found = follower.observe(rate, *given, *batch, self.weight[place].flatten())
            if self.step >= WARMUP:
                self.weight[place] = found.reshape(many)


class _Follower:
    """One controller for many chains at once, which works as none looks at a number."""

    def __init__(self, name: str, curvature: float, every: int) -> None:
        self.name, self.curvature = name, curvature
        self.decays = {"fast_decay": 0.99**every, "slow_decay": 0.999**every}
        self.state: Any = None
        self.numbers: list[Tensor] = []  # of the state, a chain in each row

    def observe(self, rate: float, *chains: Tensor) -> Tensor:
        """Take x, teacher, rows, targets and weight of each chain in; return their weights."""
        left: list[Any] = []

        def one(numbers: list[Tensor], *chain: Tensor) -> tuple[list[Tensor], Tensor]:
            controller = CONTROLLERS[self.name](**self.decays)
            if self.state is not None:
                controller.load_state_dict(_with_tensors(self.state, iter(numbers)))
            self._take(controller, rate, *chain)
            after: list[Tensor] = []
            left.append(_without_tensors(controller.state_dict(), after))
            return after, controller.weight()

        self.numbers, found = vmap(one)(self.numbers, *chains)
        self.state = left[0]
        return found

    def _take(
        self,
        controller: HbarController | LossPairController,
        rate: float,
        x: Tensor,
        theta: Tensor,
        a: Tensor,
        y: Tensor,
        used: Tensor,
    ) -> None:
        said = [a @ x, a @ theta]
        halves = [
            [
                [((z.sigmoid() - y)[half, None] * a[half]).mean(0) + RIDGE * at]
                for half in (slice(HALF), slice(HALF, None))
            ]
            for z, at in zip(said, (x, theta), strict=True)
        ]
        g, h = ((one, two) for one, two in halves)
        setting: dict[str, Any] = {"rows": HALF, "learning_rate": rate, "batch_size": BATCH}
        if isinstance(controller, HbarController):
            controller.observe(g, h, curvature=self.curvature, **setting)
            return
        losses = [
            (softplus(z) - y * z).mean() + RIDGE / 2 * (at @ at)
            for z, at in zip(said, (x, theta), strict=True)
        ]
        controller.observe(g, *losses, weight=used, **setting)


def _without_tensors(state: Any, found: list[Tensor]) -> Any:
    """Return a state with a mark in the place of each tensor, which is appended to the list."""
    if isinstance(state, Tensor):
        found.append(state)
        return _TENSOR
    if isinstance(state, Mapping):
        return {name: _without_tensors(one, found) for name, one in state.items()}
    return [_without_tensors(one, found) for one in state] if isinstance(state, list) else state


def _with_tensors(state: Any, tensors: Iterator[Tensor]) -> Any:
    """Return a state with the tensors in the places of the marks."""
    if state is _TENSOR:
        return next(tensors)
    if isinstance(state, Mapping):
        return {name: _with_tensors(one, tensors) for name, one in state.items()}
    return [_with_tensors(one, tensors) for one in state] if isinstance(state, list) else state


def _direction() -> Float[np.ndarray, " d"]:
    drawn = np.random.default_rng(9).standard_normal(10)
    return drawn / np.linalg.norm(drawn)


def _teachers(problem: Logistic) -> list[Float[np.ndarray, " d"]]:
    u = _direction()
    size = u @ problem.hessian @ u
    return [problem.optimum + u * np.sqrt(2 * bias / size) for bias in BIASES]


def _curves(
    title: str,
    rates: tuple[float, ...],
    excess: Float[np.ndarray, "phases series chains"],
    weights: Float[np.ndarray, "phases series chains"],
    oracle: Float[np.ndarray, " phases"],
) -> list[LabCurve]:
    means, taken = excess.mean(-1).T, weights.mean(-1).T
    at = SERIES.index("oracle")
    return [
        LabCurve(
            f"{title}: plateau",
            "learning rate",
            "excess loss [nats]",
            rates,
            line(means[SERIES.index("hbar")]),
            line(means[at]),
            {name: line(means[SERIES.index(name)]) for name in ("losspair", "none")},
        ),
        LabCurve(
            f"{title}: weight",
            "learning rate",
            "distillation weight",
            rates,
            line(taken[SERIES.index("hbar")]),
            line(oracle),
            {"losspair": line(taken[SERIES.index("losspair")])},
        ),
    ]
