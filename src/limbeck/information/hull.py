"""The union information from posteriors, without symbols: the hull form of the BROJA dual."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int64
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from limbeck.information.threads import one_thread
from limbeck.randomness import derive_seed, generator


ROWS = 8000  # that the vertices are fitted on, at most
BATCH = 500  # rows of a step
SCREENING = 60  # steps of every start
SCREENED = 2000  # rows that rank the starts
STEPS = 250  # steps of the best starts; four times as many where there are many classes
MANY = 25  # classes
VERTICES = 64  # at most: with more classes, each vertex starts from a group of them
FINALISTS = 2
PROJECTION = 60  # steps that bring a row to its nearest point of the hull


@dataclass(frozen=True, eq=False)
class Hull:
    r"""Vertices of a convex set of label vectors, which bound the union information from below.

    .. math:: I_\cup \ge I(Y;S) + E_t\, KL(p_t \| B) - E_s\, KL(p_s \| B), \qquad
              B = \mathrm{conv}(b_1, \dots, b_k)

    Attributes:
        vertices: The :math:`b_j`; not normalised, only the shape of the set counts.
        turned: Whether teacher and student change places in the formula.
    """

    vertices: Float[Tensor, "k classes"]
    turned: bool

    def duals(
        self, teacher: Float[Tensor, "n classes"], student: Float[Tensor, "n classes"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n classes"]]:
        r"""Return scores :math:`\lambda(y, t)` and :math:`\mu(y, s)` of each row [nats].

        The sum of :math:`e^{\lambda_{yt} + \mu_{ys}}` over labels is at most one for every pair of
        rows, seen or not: the mean of both at the rows' labels is at most :math:`I_\cup - H(Y)` in
        expectation, whatever the posteriors are, as long as rows fitted neither them nor the hull.
        """
        first, second = (student, teacher) if self.turned else (teacher, student)
        tight = self._tight(first)
        loose = (project(second, self.vertices) @ self.vertices).log()
        return (loose, tight) if self.turned else (tight, loose)

    def _tight(self, posteriors: Float[Tensor, "n classes"]) -> Float[Tensor, "n classes"]:
        """Return the highest scores that keep every vertex's sum at or below one."""
        nearest = project(posteriors, self.vertices) @ self.vertices
        ratio = posteriors / nearest
        # One up to what the projection left over.
        worst = (ratio @ self.vertices.T).amax(1, keepdim=True)
        return ratio.log() - worst.log()


def project(
    posteriors: Tensor,
    vertices: Tensor,
    *,
    steps: int = PROJECTION,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Return the mixture weights [n, k] of each row's nearest point of the hull, by EM.

    .. math:: r_j \leftarrow r_j \sum_y p(y) \frac{b_j(y)}{b(y)}, \qquad b = \sum_j r_j b_j

    Every step lowers KL(p || b); weights of a start are continued from. Posteriors are
    [n, classes], vertices [k, classes]: unchecked, since it runs thousands of times.
    """
    if weights is None:
        weights = posteriors.new_full((len(posteriors), len(vertices)), 1.0 / len(vertices))
    across = vertices.T.contiguous()
    for _ in range(steps):
        weights = weights * ((posteriors / (weights @ vertices)) @ across)
    # They sum to what the row does, up to rounding; a point of the hull needs exactly one.
    return weights / weights.sum(1, keepdim=True)


@dataclass
class _Side:
    """Posteriors of one side, scaled so that every label has its share, and mixture weights."""

    rows: Float[Tensor, "n classes"]  # each sums to one
    mass: Float[Tensor, " n"]  # of the rows; n in total
    weights: Float[Tensor, "n k"]

    @classmethod
    def of(cls, posteriors: Float[Tensor, "n classes"], prior: Float[Tensor, " classes"]) -> _Side:
        scaled = posteriors * (prior / posteriors.mean(0))
        mass = scaled.sum(1)
        return cls(scaled / mass[:, None], mass * (len(mass) / mass.sum()), posteriors[:, :0])

    def flow(self, vertices: Tensor, index: Tensor) -> Tensor:
        """Return how much of each label goes to each vertex, after a few EM steps."""
        rows = self.rows[index]
        weights = project(rows, vertices, steps=6, weights=self.weights[index] + 1e-5)
        self.weights[index] = weights
        share = self.mass[index, None] * rows / (weights @ vertices)
        return vertices * (weights.T @ share) / len(index)


@one_thread()
def fit_hull(
    teacher: Float[Tensor, "n classes"],
    student: Float[Tensor, "n classes"],
    targets: Int[Tensor, " n"],
    *,
    seed: int,
    start: Hull | None = None,
) -> Hull:
    """Return the hull that bounds the union information best on these rows.

    Starts: the student's mean posterior for each predicted label, the corners of the simplex, a
    point; each with teacher and student in both roles. Where classes are many, labels that are
    taken for each other share a vertex. Adam raises the bound for each; its gradient
    is that of the inner projections held fixed. The best few go on, and the best of all is taken,
    judged by the rows' labels.

    Args:
        teacher: Posteriors of the teacher, above zero, rows summing to one.
        student: Posteriors of the student, likewise.
        targets: Labels of the rows.
        seed: Of the batches' order.
        start: A hull of similar posteriors, which spares the search for starts.
    """
    random = generator(seed, "hull")
    some = torch.randperm(len(targets), generator=random)[:ROWS].to(targets.device)
    teacher, student, targets = teacher[some], student[some], targets[some]
    prior = 0.5 * (teacher.mean(0) + student.mean(0))

    def value(hull: Hull, rows: int = ROWS) -> float:
        first, second = hull.duals(teacher[:rows], student[:rows])
        at = targets[:rows, None]
        return float((first.gather(1, at) + second.gather(1, at)).double().mean())

    def climbed(start: Hull, steps: int) -> Hull:
        first, second = (student, teacher) if start.turned else (teacher, student)
        tight, loose = _Side.of(first, prior), _Side.of(second, prior)
        return Hull(_climb(tight, loose, start.vertices, steps, random), start.turned)

    if start is None:
        tried = [climbed(hull, SCREENING) for hull in _starts(teacher, student, prior, seed)]
    else:
        tried = [start]
    tried.sort(key=lambda hull: value(hull, SCREENED), reverse=True)
    steps = STEPS if teacher.shape[1] <= MANY else 4 * STEPS
    finalists = [climbed(hull, steps) for hull in tried[:FINALISTS]]
    points = [Hull(torch.ones_like(prior)[None], turned) for turned in (False, True)]
    return max([*finalists, tried[0], *points], key=value)


def _starts(
    teacher: Float[Tensor, "n classes"],
    student: Float[Tensor, "n classes"],
    prior: Float[Tensor, " classes"],
    seed: int,
) -> Iterator[Hull]:
    for turned, loose in ((False, student), (True, teacher)):
        cells = loose.new_zeros(len(prior), len(prior)).index_add_(0, loose.argmax(1), loose)
        group = _groups(cells, seed)
        corners = F.one_hot(group).T.to(loose)
        shared = corners @ cells
        likely = shared / shared.sum(1, keepdim=True).clamp_min(1e-12) / prior
        yield Hull(likely.clamp_min(1e-3), turned)
        yield Hull(corners + 0.01, turned)
        yield Hull(0.3 * corners + 1.0, turned)


def _groups(cells: Float[Tensor, "classes classes"], seed: int) -> Int64[Tensor, " classes"]:
    """Return each label's vertex: its own, or one for those with similar posteriors."""
    classes = len(cells)
    if classes <= VERTICES:
        return torch.arange(classes, device=cells.device)
    shapes = (cells / cells.sum(1, keepdim=True).clamp_min(1e-12)).sqrt().cpu().numpy()
    grouped = KMeans(VERTICES, n_init="auto", random_state=derive_seed(seed, "groups") % 2**32)
    return torch.as_tensor(grouped.fit_predict(shapes)).long().to(cells.device)


def _climb(
    tight: _Side,
    loose: _Side,
    vertices: Float[Tensor, "k classes"],
    steps: int,
    random: torch.Generator,
) -> Float[Tensor, "k classes"]:
    """Raise the bound by Adam on the logarithms of the vertices, in batches of rows."""
    rows, logs = len(tight.rows), vertices.log()
    for side in (tight, loose):
        side.weights = project(side.rows, vertices, steps=10)
    batches = max(rows // BATCH, 1)
    first, second = torch.zeros_like(logs), torch.zeros_like(logs)
    order: list[Tensor] = []
    for step in range(steps):
        at = step % batches
        if at == 0:
            order = [torch.randperm(rows, generator=random).to(logs.device) for _ in range(2)]
        size = rows // batches
        picked = [index[at * size : (at + 1) * size] for index in order]
        vertices = logs.exp()
        slope = loose.flow(vertices, picked[1]) - tight.flow(vertices, picked[0])
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope.square()
        rate = 0.2 * 0.5 * (1.0 + math.cos(math.pi * step / steps)) + 5e-4
        done = step + 1
        scale = (second / (1.0 - 0.99**done)).sqrt() + 1e-12
        logs = logs + rate * first / (1.0 - 0.9**done) / scale
    return logs.exp()
