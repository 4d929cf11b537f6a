"""Case ``identities``: the gradient of distillation, and the paths of least squares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.lab_result import (
    Check,
    LabCurve,
    LabResult,
    LabSettings,
    compare,
    line,
)
from limbeck.losses.kd import kd_loss
from limbeck.randomness import generator


EXACT = 1e-12
WEIGHT, ROWS, STEPS = 0.6, 32, 200
ADAM_MISSES_BY = 0.01
Rule = Callable[[list[Tensor]], torch.optim.Optimizer]
RULES: dict[str, Rule] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.02),
}


def distillation_gradient(
    task: Sequence[Tensor], difference: Sequence[Tensor], weight: float
) -> list[Tensor]:
    r"""Return the gradient of distillation, :math:`g - \lambda h`, a tensor a parameter.

    Args:
        task: g, of the task loss.
        difference: h, of task loss minus distillation loss.
        weight: :math:`\lambda`.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    return [g - weight * h for g, h in zip(task, difference, strict=True)]


def probability_difference(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    r"""Return h in logit space, :math:`(p - y) - \tau (p^\tau - q^\tau)`, a row a sample.

    Args:
        student: Logits.
        teacher: Logits.
        targets: Class indices.
        temperature: :math:`\tau`, above 0; at 1 this is q - y, whatever the student says.

    Source:
        Derived; the setting is that of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    missed = student.softmax(1) - F.one_hot(targets, student.shape[1])
    apart = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    return missed - temperature * apart


def interpolated(alone: Tensor, teacher: Tensor, weight: float) -> Tensor:
    r"""Return :math:`(1 - \lambda) x^{SGD} + \lambda \theta`, as in least squares.

    Args:
        alone: Parameters of training without a teacher.
        teacher: Parameters of the teacher.
        weight: :math:`\lambda`.

    Source:
        Derived, for the linear case of Safaryan, Peste and Alistarh (2023), arXiv:2305.17581.
    """
    return (1 - weight) * alone + weight * teacher


def identities(settings: LabSettings) -> LabResult:
    """Check the gradient identities and the pathwise one to 1e-12; Adam must break the latter.

    Args:
        settings: Only the seed counts.

    Returns:
        Deviations, predicted to be 0, and the distance of the two runs over the steps.

    Source:
        Safaryan, Peste and Alistarh (2023), arXiv:2305.17581; identities derived.
    """
    began = time.perf_counter()
    seed = settings.seed
    checks = [
        _exact("linear regression: g(x) - lambda g(theta)", _linear(seed)),
        _exact("softmax regression: g(x) - lambda g(theta)", _softmax(seed)),
        _exact("deep linear: A' (G(P) - lambda G(Q)) B'", _deep(seed)),
        *(
            _exact(f"network at temperature {t:g}: g - lambda h", _network(seed, t))
            for t in (1.0, 4.0)
        ),
        _exact("q = p: h = g", _limits(seed, same=True)),
        _exact("q = y: h = 0", _limits(seed, same=False)),
    ]
    curves = []
    for name, rule in RULES.items():
        apart = _apart(seed, rule)
        if name == "Adam":
            text = "Adam does not interpolate"
            checks.append(compare(text, apart[-1], ADAM_MISSES_BY, 0.0, "at_least"))
        else:
            checks.append(_exact(f"{name} interpolates, 200 steps", max(apart)))
        curves.append((name, line(apart)))
    checks.append(_exact("any start, weight decay: three runs add up", _any_start(seed)))
    (_, first), *others = curves
    curve = LabCurve(
        title="distance from (1 - lambda) x_SGD + lambda theta",
        x_label="step",
        y_label="largest difference of a parameter",
        grid=line(range(1, STEPS + 1)),
        measured=first,
        others=dict(others),
    )
    sizes = {"seed": seed, "rows": ROWS, "steps": STEPS, "weight": WEIGHT}
    return LabResult(
        "identities", tuple(checks), (curve,), sizes, round(time.perf_counter() - began, 3)
    )


def _exact(name: str, deviation: float) -> Check:
    return compare(name, deviation, 0.0, EXACT)


def _drawn(seed: int, name: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    source = generator(seed, "lab", name)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes]


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters))


def _largest(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


def _squares(said: Tensor, wanted: Tensor) -> Tensor:
    return 0.5 * (said - wanted).square().sum(1).mean()


def _linear(seed: int) -> float:
    rows, wanted, x, theta = _drawn(seed, "linear", (ROWS, 5), (ROWS, 3), (5, 3), (5, 3))
    for one in (x, theta):
        one.requires_grad_()
    task, dist = _squares(rows @ x, wanted), _squares(rows @ x, (rows @ theta).detach())
    true = _gradients((1 - WEIGHT) * task + WEIGHT * dist, [x])
    own = _gradients(_squares(rows @ x, wanted), [x])
    return _largest(
        true,
        distillation_gradient(own, _gradients(_squares(rows @ theta, wanted), [theta]), WEIGHT),
    )


def _softmax(seed: int) -> float:
    rows, x, theta = _drawn(seed, "softmax", (ROWS, 5), (5, 4), (5, 4))
    targets = torch.randint(4, (ROWS,), generator=generator(seed, "lab", "targets"))
    for one in (x, theta):
        one.requires_grad_()
    task, dist = (
        F.cross_entropy(rows @ x, targets),
        kd_loss(rows @ x, rows @ theta, temperature=1.0),
    )
    true = _gradients((1 - WEIGHT) * task + WEIGHT * dist, [x])
    own = _gradients(F.cross_entropy(rows @ x, targets), [x])
    other = _gradients(F.cross_entropy(rows @ theta, targets), [theta])
    return _largest(true, distillation_gradient(own, other, WEIGHT))


def _deep(seed: int) -> float:
    rows, wanted, last, middle, first, teacher = _drawn(
        seed, "deep", (ROWS, 5), (ROWS, 3), (3, 4), (4, 6), (6, 5), (3, 5)
    )
    layers = [matrix.requires_grad_() for matrix in (last, middle, first)]
    said = rows @ (last @ middle @ first).T
    task, dist = _squares(said, wanted), _squares(said, rows @ teacher.T)
    true = _gradients((1 - WEIGHT) * task + WEIGHT * dist, layers)
    with torch.no_grad():
        whole = last @ middle @ first
        at = [(m @ rows.T - wanted.T) @ rows / ROWS for m in (whole, teacher)]
        (kept,) = distillation_gradient(at[:1], at[1:], WEIGHT)
        found = [
            kept @ (middle @ first).T,
            last.T @ kept @ first.T,
            (last @ middle).T @ kept,
        ]
    return _largest(true, found)


def _logits(seed: int) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Return the parameters of a tanh network, its logits, a teacher's and the targets."""
    rows, first, last, teacher = _drawn(seed, "network", (ROWS, 5), (5, 7), (7, 4), (ROWS, 4))
    targets = torch.randint(4, (ROWS,), generator=generator(seed, "lab", "targets"))
    parameters = [first.requires_grad_(), last.requires_grad_()]
    return parameters, (rows @ first).tanh() @ last, teacher, targets


def _network(seed: int, temperature: float) -> float:
    parameters, student, teacher, targets = _logits(seed)
    task = F.cross_entropy(student, targets)
    loss = (1 - WEIGHT) * task + WEIGHT * kd_loss(student, teacher, temperature=temperature)
    pulled = probability_difference(student.detach(), teacher, targets, temperature) / ROWS
    true, own, h = (
        list(torch.autograd.grad(value, parameters, cotangent, retain_graph=True))
        for value, cotangent in ((loss, None), (task, None), (student, pulled))
    )
    return _largest(true, distillation_gradient(own, h, WEIGHT))


def _limits(seed: int, *, same: bool) -> float:
    """Return how far h is from g for a teacher like the student, or from 0 for the labels."""
    _, student, _, targets = _logits(seed)
    labels = F.one_hot(targets, student.shape[1])
    # Logits so far apart that their softmax is exactly the labels.
    teacher = student.detach() if same else 1e4 * labels.double()
    wanted = student.softmax(1).detach() - labels if same else torch.zeros_like(student)
    return _largest([probability_difference(student.detach(), teacher, targets, 1.0)], [wanted])


def _run(seed: int, rule: Rule, start: Tensor, weight: float, decay: float = 0.0) -> list[Tensor]:
    rows, wanted, theta = _drawn(seed, "path", (ROWS, 5), (ROWS, 3), (5, 3))
    labels = (1 - weight) * wanted + weight * (rows @ theta)
    order = torch.randint(ROWS, (STEPS, 4), generator=generator(seed, "lab", "order"))
    x = start.clone().requires_grad_()
    optimizer, path = rule([x]), []
    optimizer.param_groups[0]["weight_decay"] = decay
    for batch in order:
        optimizer.zero_grad()
        _squares(rows[batch] @ x, labels[batch]).backward()
        optimizer.step()
        path.append(x.detach().clone())
    return path


def _apart(seed: int, rule: Rule) -> list[float]:
    """Return after each step how far distillation is from interpolation with the teacher."""
    theta = _drawn(seed, "path", (ROWS, 5), (ROWS, 3), (5, 3))[2]
    (start,) = _drawn(seed, "start", (5, 3))
    alone = _run(seed, rule, start, 0.0)
    both = _run(seed, rule, interpolated(start, theta, WEIGHT), WEIGHT)
    return [
        _largest([two], [interpolated(one, theta, WEIGHT)])
        for one, two in zip(alone, both, strict=True)
    ]


def _any_start(seed: int) -> float:
    (start,) = _drawn(seed, "start", (5, 3))
    rule = RULES["momentum"]
    alone, both, teacher = (_run(seed, rule, start, w, decay=0.1)[-1] for w in (0.0, WEIGHT, 1.0))
    return _largest([both], [interpolated(alone, teacher, WEIGHT)])
