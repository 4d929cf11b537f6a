"""The teacher's bias in loss units, by conjugate gradients on the damped Gauss-Newton matrix."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from limbeck.randomness import generator, keyed_uniform
from limbeck.ranks import alone, gather_rows, sum_over_ranks
from limbeck.weighting.measuring.mean_gradients import wide_zeros
from limbeck.weighting.measuring.problem import Parameters, Part, Problem, Together
from limbeck.weighting.measuring.products import Numbers
from limbeck.weighting.measuring.stripes import all_stripes


DAMPING = 0.04  # of the mean eigenvalue
RESIDUAL, PROBES = 1e-3, 4
FEWEST, MOST, WORK = 60, 200, 20_000_000  # iterations of a half; times parameters
Product = Callable[[Parameters], Parameters]


@dataclass(frozen=True)
class Curvature:
    r"""What the curvature of the task's loss says about a teacher's bias.

    Attributes:
        D_T: Half of hbar' (GGN + damping)^-1 hbar, by two independent halves of the rows [nats]; it
            may come out negative.
        standard_error: Of D_T over the rows, for a known matrix [nats]; too wide, by up to a
            half, where there is no bias.
        rows: What each row adds: the mean over either half is D_T [nats].
        half: Which half each row is in.
        mean: Mean eigenvalue of the Gauss-Newton matrix, by random directions.
        rayleigh: hbar' GGN hbar / |hbar|^2, never below the harmonic curvature along hbar; in the
            inner product of the moments.
        damping: What was added to every eigenvalue.
        iterations: Of both solutions together.
        residual: Larger relative residual of the two.
        converged: Whether both residuals are at most 1e-3.
    """

    D_T: float
    standard_error: float
    rows: Numbers
    half: Numbers
    mean: float
    rayleigh: float
    damping: float
    iterations: int
    residual: float
    converged: bool


def teacher_bias_in_loss(
    problem: Problem,
    parts: list[Part],
    *,
    seed: int = 0,
    damping: float = DAMPING,
    group_rows: int = 1,
    preconditioner: Mapping[str, Tensor] | None = None,
) -> Curvature:
    r"""Return what the teacher's bias costs at the plateau, were the weight one.

    .. math:: D_T = \tfrac{1}{2}\, \bar h_1' (\mathrm{GGN} + \epsilon I)^{-1} \bar h_2, \qquad
              \mathrm{GGN} = \mathrm{E}\, J_n' \nabla^2_z \ell_n J_n

    The means run over two halves of the rows, drawn by ``seed``: with one mean for both the noise
    of h would count as bias. The matrix is that of the task's loss.

    Args:
        problem: The student, in eval mode.
        parts: This process's rows.
        seed: Of the halves and of the random directions.
        damping: Share of the mean eigenvalue that is added to all.
        group_rows: Rows a unit of the moments beside which this stands.
        preconditioner: Factors D of the inner product of those moments: Rayleigh's quotient, which
            stands beside their norm of hbar, is that of sqrt(D) GGN sqrt(D). D_T depends on no
            such choice.

    Returns:
        The bias with its error and how the solver fared.

    Source:
        Derived; small-step law around Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
        Gauss-Newton matrix: Schraudolph (2002), Neural Computation 14, 1723-1738.
    """
    product = gauss_newton(problem, parts)
    count = sum(value.numel() for value in problem.parameters.values())
    trace = np.mean(
        [
            _inner(signs, product(signs))
            for signs in (_signs(problem.parameters, seed, at) for at in range(PROBES))
        ]
    )
    mean = float(trace) / count
    added = damping * mean
    halves = _halves(parts, seed)
    sums = [{k: wide_zeros(v) for k, v in problem.parameters.items()} for _ in range(2)]
    for part, second in zip(parts, halves, strict=True):
        sides = [tuple(one * _as_rows(mask, one) for one in part.h) for mask in (~second, second)]
        for total, found in zip(sums, problem.pulled_back(part.batch, *sides), strict=True):
            for name, value in found.items():
                total[name] += value
    size = sum_over_ranks(
        torch.stack([(~torch.cat(halves)).sum(), torch.cat(halves).sum()]).double()
    )
    means = [
        {name: sum_over_ranks(value) / float(n) for name, value in total.items()}
        for total, n in zip(sums, size, strict=True)
    ]
    solved = [_solve(product, one, added) for one in means]
    along = [rows_along(problem, parts, one.found)[1] for one in solved]
    # A row of the first half counts along what the second half's mean solves, and the reverse.
    second = torch.cat(halves)
    own = all_stripes(0.5 * torch.where(second, along[0], along[1]), group_rows).cpu().numpy()
    half = all_stripes(second.double(), group_rows).cpu().numpy()
    first, last = own[half == 0], own[half == 1]
    both = {
        name: (size[0] * means[0][name] + size[1] * means[1][name]) / size.sum()
        for name in means[0]
    }
    turned = both
    if preconditioner is not None:
        turned = {name: value * preconditioner[name].to(value) for name, value in both.items()}
    square = _inner(both, turned)
    return Curvature(
        D_T=float((first.mean() + last.mean()) / 2),
        standard_error=math.sqrt(first.var(ddof=1) / len(first) + last.var(ddof=1) / len(last)),
        rows=own,
        half=half,
        mean=mean,
        rayleigh=_inner(turned, product(turned)) / square if square > 0 else mean,
        damping=added,
        iterations=sum(one.iterations for one in solved),
        residual=max(one.residual for one in solved),
        converged=all(one.residual <= RESIDUAL for one in solved),
    )


def gauss_newton(problem: Problem, parts: list[Part]) -> Product:
    """Return the product with the Gauss-Newton matrix of the task's mean loss over all rows.

    Args:
        problem: The student, in eval mode.
        parts: This process's rows.
    """
    together = Together([part.batch for part in parts])
    with torch.no_grad():
        seen = [problem.function(problem.parameters, part.batch.inputs) for part in parts]
    leaves = tuple(together.all(torch.cat(one)).requires_grad_() for one in zip(*seen, strict=True))
    with torch.enable_grad(), alone():
        loss = problem.task.loss(problem.outputs(leaves), together.batch)
        slopes = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    curved = [at for at, slope in enumerate(slopes) if slope.requires_grad]

    def product(direction: Parameters) -> Parameters:
        moved = [_moved(problem, part, direction) for part in parts]
        joined = tuple(together.all(torch.cat(one)) for one in zip(*moved, strict=True))
        bent = torch.autograd.grad(
            [slopes[at] for at in curved],
            leaves,
            [joined[at] for at in curved],
            retain_graph=True,
            materialize_grads=True,
        )
        total = {name: wide_zeros(value) for name, value in problem.parameters.items()}
        for part, side in zip(
            parts, zip(*(together.split(one) for one in bent), strict=True), strict=True
        ):
            for name, value in problem.pulled_back(part.batch, side)[0].items():
                total[name] += value
        return {name: sum_over_ranks(value) for name, value in total.items()}

    return product


def rows_along(problem: Problem, parts: list[Part], direction: Parameters) -> tuple[Tensor, Tensor]:
    """Return every row's derivatives of task, and of task minus distillation, in a direction.

    Args:
        problem: The student, in eval mode.
        parts: This process's rows.
        direction: A change of the parameters.

    Returns:
        <g_i, direction> and <h_i, direction>, float64 [rows].
    """
    g: list[Tensor] = []
    h: list[Tensor] = []
    for part in parts:
        moved = _moved(problem, part, direction)
        for kept, side in ((g, part.g), (h, part.h)):
            products = [
                (d * z).double().flatten(1).sum(1) for d, z in zip(side, moved, strict=True)
            ]
            kept.append(torch.stack(products).sum(0))
    return torch.cat(g), torch.cat(h)


@dataclass(frozen=True)
class _Solution:
    found: Parameters
    iterations: int
    residual: float


def _solve(product: Product, right: Parameters, added: float) -> _Solution:
    from scipy.sparse.linalg import LinearOperator, cg

    def times(vector: Numbers) -> Numbers:
        direction = _unpacked(vector, right)
        return _packed(product(direction)) + added * vector

    target = _packed(right)
    steps: list[None] = []
    matrix = LinearOperator((len(target),) * 2, matvec=times, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    found, _ = cg(
        matrix,
        target,
        rtol=RESIDUAL,
        maxiter=min(max(FEWEST, WORK // len(target)), MOST),
        callback=lambda _: steps.append(None),
    )
    size = float(np.linalg.norm(target))
    residual = float(np.linalg.norm(times(found) - target)) / size if size > 0 else 0.0
    return _Solution(_unpacked(found, right), len(steps), residual)


def _moved(problem: Problem, part: Part, direction: Parameters) -> tuple[Tensor, ...]:
    """Return how the outputs change along a direction of the parameters.

    In forward mode; by two backward passes where an operator has no derivative in that mode, as
    straight-through ones of binary and quantised layers.
    """
    direction = {name: v.to(problem.parameters[name]) for name, v in direction.items()}
    if problem.forward_mode:
        parameters = {name: value.detach() for name, value in problem.parameters.items()}
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # torch's own, once, when it first looks for a derivative in forward mode
                warnings.filterwarnings("ignore", ".*torch.jit.script.*", DeprecationWarning)
                found = jvp(
                    lambda values: problem.function(values, part.batch.inputs),
                    (parameters,),
                    (direction,),
                )
            return cast(tuple[Tensor, ...], found[1])
        except NotImplementedError:
            problem.forward_mode = False
    with torch.enable_grad():
        values = problem.function(problem.parameters, part.batch.inputs)
        weights = tuple(torch.zeros_like(value, requires_grad=True) for value in values)
        pulled = torch.autograd.grad(
            values,
            tuple(problem.parameters.values()),
            weights,
            create_graph=True,
            materialize_grads=True,
        )
        along = zip(pulled, (direction[name] for name in problem.parameters), strict=True)
        linear = [(one, d) for one, d in along if one.requires_grad]
        return torch.autograd.grad(
            [one for one, _ in linear], weights, [d for _, d in linear], materialize_grads=True
        )


def _halves(parts: list[Part], seed: int) -> list[Tensor]:
    """Return which rows are in the second half: a function of their positions in the data."""
    drawn = [keyed_uniform(seed, part.batch.index, part.batch.view, 1) for part in parts]
    middle = gather_rows(torch.cat(drawn)).median()
    return [(one > middle)[:, 0] for one in drawn]


def _signs(parameters: Parameters, seed: int, at: int) -> Parameters:
    return {
        name: (
            2 * torch.randint(2, value.shape, generator=generator(seed, "curve", at, name)) - 1
        ).to(value)
        for name, value in parameters.items()
    }


def _as_rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.to(like).view(-1, *[1] * (like.ndim - 1))


def _inner(first: Parameters, second: Parameters) -> float:
    return sum(float((first[name].double() * second[name].double()).sum()) for name in first)


def _packed(vector: Parameters) -> Numbers:
    return torch.cat([value.detach().double().flatten() for value in vector.values()]).cpu().numpy()


def _unpacked(vector: Numbers, like: Parameters) -> Parameters:
    parts = torch.from_numpy(vector).split([value.numel() for value in like.values()])
    return {
        name: part.view(value.shape).to(value)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }
