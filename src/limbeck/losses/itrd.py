"""Information theoretic representation distillation (ITRD)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.checks import ArgumentError, ShapeError, check_between, check_positive, check_same_rows
from limbeck.losses.connectors import Layer, layer_names, seeded
from limbeck.losses.features import feature_of, pooled
from limbeck.losses.numerics import (
    at_least_float32,
    centred_moments,
    nonzero_rows,
    unit_rows,
    without_autocast,
)
from limbeck.losses.pairs import pair_sum
from limbeck.losses.whole_batch import rows_before
from limbeck.ranks import gather_rows, sum_over_ranks, world_size
from limbeck.types import Batch, Outputs


GUARD = 1e-8  # inside the logarithm: the floor of the correlation loss is ln 1e-8 = -18.4 nats


def itrd_loss(
    student: Float[Tensor, "batch student_width"],
    teacher: Float[Tensor, "batch teacher_width"],
    *,
    embedded: Float[Tensor, "batch teacher_width"] | None = None,
    alpha: float = 1.01,
    correlation_weight: float | None = None,
    mutual_weight: float = 1.0,
    eps: float = 1e-5,
    paper_code: bool = False,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Make the student's features correlate with the teacher's, and spread where those do.

    .. math:: \lambda_{corr}\, L_{corr}(\Phi(Z_s), Z_t) + \lambda_{mi}\, L_{mi}(F_s, Z_t), \qquad
              F_s = Z_s \text{ if } d_s = d_t \text{ else } \Phi(Z_s)

    The two terms are :func:`correlation_loss` and :func:`mutual_information_loss`. The matching
    comes from the first; the second keeps the student's batch from collapsing. :math:`\Phi` is one
    linear layer that is trained along, which :class:`ITRD` owns.

    Args:
        student: The student's features, pooled, before the classifier; gradients flow into these.
        teacher: The teacher's features; detached here.
        embedded: The student's features through the projection. They enter the correlation term
            always, the other only where the widths differ. None takes ``student`` itself.
        alpha: Order of the correlation term, in [0.5, 10]. The paper's settings are 1.01 between
            networks of one architecture and 1.5 between different ones.
        correlation_weight: Weight of the correlation term, at least zero. None is the paper's 2 for
            that term in bits, which is 2/ln 2 = 2.885 for nats and 2 with ``paper_code``. A number
            is taken as it is in both.
        mutual_weight: Weight of the mutual-information term, at least zero; at zero it is skipped.
        eps: Added to variances; see :func:`correlation_loss`.
        paper_code: Return what the authors' code returns: see the two terms.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The weighted sum, of a correlation term in nats (bits with ``paper_code``) and a
        dimensionless one. It has no fixed zero and is negative for well correlated features; lower
        is better.

    Raises:
        ShapeError: If the rows do not fit, or the widths differ and ``embedded`` is None.
        ArgumentError: If a hyperparameter is outside of its range.

    Example:
        Both features anticorrelate perfectly (v = -1 up to eps), so the correlation term is
        ln(2² + 2²) = 2.0794 at alpha = 1. Two different rows are orthogonal or, for the teacher,
        opposite, so the other term is 0.

        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> itrd_loss(-z, z, alpha=1.0, correlation_weight=1.0)
        tensor(2.0794)

    Source:
        Miles, Lopez Rodriguez and Mikolajczyk (2022), arXiv:2112.00459; the formulas are those of
        the authors' code (roymiles/ITRD). Zheng and Yang (2024), arXiv:2402.11148, appendix A.5,
        quote the settings. The code's defaults (order 1.5, mutual weight 0.05) are not those of
        its published runs, which are used here.
    """
    check_between("itrd_loss", 0.0, float("inf"), mutual_weight=mutual_weight)
    if correlation_weight is None:
        correlation_weight = 2.0 if paper_code else 2.0 / math.log(2.0)
    check_between("itrd_loss", 0.0, float("inf"), correlation_weight=correlation_weight)
    check_same_rows("itrd_loss", student=student, teacher=teacher)
    if embedded is None:
        if student.shape[1] != teacher.shape[1]:
            raise ShapeError(
                "itrd_loss: expected features of one width, or `embedded`; got student "
                f"{tuple(student.shape)}, teacher {tuple(teacher.shape)}. Pass the student's "
                "features through a linear layer as `embedded=`, or use the ITRD module."
            )
        embedded = student
    total = correlation_weight * correlation_loss(
        embedded,
        teacher,
        alpha=alpha,
        eps=eps,
        paper_code=paper_code,
        across_ranks=across_ranks,
    )
    if mutual_weight > 0:
        spread = student if student.shape[1] == teacher.shape[1] else embedded
        total = total + mutual_weight * mutual_information_loss(
            spread, teacher, paper_code=paper_code, across_ranks=across_ranks
        )
    return total


def correlation_loss(
    embedded: Float[Tensor, "batch width"],
    teacher: Float[Tensor, "batch width"],
    *,
    alpha: float = 1.01,
    eps: float = 1e-5,
    paper_code: bool = False,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Correlate every feature of the student with the same feature of the teacher.

    .. math:: L_{corr} = \ln\Bigl(\sum_k |1 - v_k|^{2\alpha} + \delta\Bigr), \qquad
              v_k = \frac{1}{b} \sum_i s_{ik} t_{ik}, \qquad
              s_{ik} = \frac{F_{ik} - \bar F_k}{\sqrt{\mathrm{var}_k + \epsilon}}

    and t likewise from the teacher's features, with biased variances and :math:`\delta` = 1e-8.

    Args:
        embedded: The student's features through the projection; gradients flow into these, also
            through their mean and variance.
        teacher: The teacher's features; detached here.
        alpha: Renyi's order, in [0.5, 10]; the larger, the more the worst features weigh.
        eps: Added to the variances, above zero. It damps features whose variance is far below it:
            where features are small in scale, pass 1e-5 times their mean variance.
        paper_code: Return the authors' scalar: unbiased deviations with division by b, no eps, no
            delta, bits. Its floor log2(d) - 2 alpha log2(b) depends on the batch.
        across_ranks: Take the batch as spread over all processes; the value is the same on each.

    Returns:
        The loss of the batch [nats; bits with ``paper_code``]: ln(width) where nothing correlates,
        about ln 1e-8 where all does. Features that are constant for the teacher are left out, and
        it is zero (with a zero gradient) where none is left, as in a batch of one. A feature that
        is constant for the student has v = 0.

    Raises:
        ShapeError: If the two differ in shape.
        ArgumentError: If ``alpha`` or ``eps`` is outside of its range.

    Example:
        One feature, perfectly anticorrelated: v = -1 up to eps, so 2 ln 2 = 1.3863 at alpha = 1.

        >>> z = torch.tensor([[1.0], [-1.0]])
        >>> correlation_loss(-z, z, alpha=1.0)
        tensor(1.3863)

    Note:
        Statistics are taken in float32 at least and from centred values. Where the authors' code
        gives NaN (constant features, a batch of one), ``paper_code`` does as said above.

    Source:
        Miles, Lopez Rodriguez and Mikolajczyk (2022), arXiv:2112.00459, correlation loss; with
        ``paper_code`` as in roymiles/ITRD. The default differs by biased variances, eps and delta,
        which make it finite and its floor the same for every batch size.
    """
    _check_pair("correlation_loss", embedded, teacher)
    check_between("correlation_loss", 0.5, 10.0, alpha=alpha)
    check_positive("correlation_loss", eps=eps)
    student, teacher = at_least_float32(embedded, teacher.detach())
    rows, (ss, tt, st) = centred_moments(student, teacher, across_ranks)
    kept = tt > 0
    if paper_code:
        spare = torch.where((ss > 0) & kept, ss * tt, 1.0)
        v = (rows - 1) / rows.clamp_min(1.0) * st * spare.rsqrt()
    else:
        rows = rows.clamp_min(1.0)
        v = st / rows * (ss / rows + eps).rsqrt() * (tt / rows + eps).rsqrt()
    total = torch.where(kept, (1.0 - v).abs().pow(2.0 * alpha), 0.0).sum()
    total = torch.where(kept.any(), total if paper_code else total + GUARD, 1.0)
    return total.log2() if paper_code else total.log()


def mutual_information_loss(
    student: Float[Tensor, "batch student_width"],
    teacher: Float[Tensor, "batch teacher_width"],
    *,
    paper_code: bool = False,
    across_ranks: bool = False,
    max_pairs: int = 1024 * 1024,
) -> Float[Tensor, ""]:
    r"""Spread the student's samples apart where the teacher's are apart.

    .. math:: L_{mi} = \frac{1}{b^2} \sum_{i \ne j} K_{s,ij}^2 (1 - K_{t,ij}^2)
              = \|G_s\|_F^2 - \|G_{st}\|_F^2

    :math:`K` are the matrices of cosines between the samples of a batch, :math:`G_s = K_s / b` and
    :math:`G_{st} = K_s \circ K_t / b`. It is not a matching loss: a student whose samples are all
    orthogonal reaches zero whatever the teacher does.

    Args:
        student: The student's features, of any width; gradients flow into these.
        teacher: The teacher's features; detached here.
        paper_code: Divide by traces as the authors' code does. The value differs only where there
            are rows of zeros, and can then be negative.
        across_ranks: Take the batch as spread over all processes; this rank's value and gradient
            are such that their average over the ranks is that of the whole batch.
        max_pairs: How many pairs of samples are held in memory at once; the value does not depend
            on it, and a batch of at most 1024 is done in one go.

    Returns:
        The loss of the batch [no unit], in [0, 1); zero where samples that the teacher tells apart
        are orthogonal for the student, and for a batch of one. Samples whose features are all zero
        for student or teacher are left out.

    Raises:
        ShapeError: If the two differ in their number of rows.
        ArgumentError: If ``max_pairs`` is not above zero.

    Example:
        Two samples, equal for the student, orthogonal for the teacher: (1 + 1)/2² = 0.5.

        >>> mutual_information_loss(torch.tensor([[1.0], [2.0]]), torch.eye(2))
        tensor(0.5000)

    Note:
        The closed form is used: no difference of nearly equal norms, memory O(b d).

    Source:
        Miles, Lopez Rodriguez and Mikolajczyk (2022), arXiv:2112.00459, mutual-information loss of
        order 2, as in roymiles/ITRD: without the logarithms and the teacher's own term.
    """
    check_same_rows("mutual_information_loss", student=student, teacher=teacher)
    check_positive("mutual_information_loss", max_pairs=float(max_pairs))
    student, teacher = at_least_float32(student, teacher.detach())
    in_student, both = nonzero_rows(student), nonzero_rows(student) * nonzero_rows(teacher)
    counted = in_student if paper_code else both
    rows = unit_rows(student) * counted[:, None], unit_rows(teacher)
    counts = torch.stack([in_student.sum(), both.sum()])
    columns, first, share = rows, 0, 1
    if across_ranks and world_size() > 1:
        columns = gather_rows(rows[0]), gather_rows(rows[1])
        first, share = rows_before(student), world_size()
        counts = sum_over_ranks(counts)
    n_student, n_both = counts.clamp_min(1.0)
    ratio = (n_student / n_both).square() if paper_code else torch.ones_like(n_both)
    pairs = pair_sum(rows, columns, ratio, first=first, clamp=not paper_code, max_pairs=max_pairs)
    if not paper_code:
        return share * pairs / n_both.square()
    # With zero rows the two traces differ, and so do the diagonals divided by them.
    value = share * pairs / n_student.square() + 1.0 / n_student - 1.0 / n_both
    return torch.where(counts[1] > 0, value, 0.0)


class ITRD(nn.Module):
    """:func:`itrd_loss` as a training term that owns the projection of the student's features.

    Args:
        layer: Layer whose output is compared, or one for each of "student" and "teacher". Maps are
            averaged over space and token states over tokens (:func:`limbeck.losses.pooled`).
        student_width: Number of student features; None makes the projection in ``prepare``.
        teacher_width: Number of teacher features; given together with ``student_width``.
        alpha: As in the function, and so are ``correlation_weight``, ``mutual_weight``, ``eps``
            and ``paper_code``.
        correlation_weight: See there.
        mutual_weight: See there.
        eps: See there.
        paper_code: See there.
        across_ranks: Whether the batch statistics are those of all processes' rows.
        seed: Of the projection's first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 1.0)
    mean_over_samples: ClassVar[bool] = False

    def __init__(
        self,
        layer: Layer = "penultimate",
        *,
        student_width: int | None = None,
        teacher_width: int | None = None,
        alpha: float = 1.01,
        correlation_weight: float | None = None,
        mutual_weight: float = 1.0,
        eps: float = 1e-5,
        paper_code: bool = False,
        across_ranks: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layers = layer_names("ITRD", layer, one=True)
        self.alpha, self.eps, self.paper_code = alpha, eps, paper_code
        self.correlation_weight, self.mutual_weight = correlation_weight, mutual_weight
        self.across_ranks, self.seed = across_ranks, seed
        self.embedding: nn.Linear | None = None
        if (student_width is None) != (teacher_width is None):
            raise ArgumentError(
                "ITRD: expected `student_width` and `teacher_width` together; got "
                f"{student_width} and {teacher_width}. Give both, or neither and call `prepare`."
            )
        if student_width is not None and teacher_width is not None:
            self.embedding = self._linear(student_width, teacher_width, torch.zeros(()))

    def _linear(self, width: int, out: int, like: Tensor) -> nn.Linear:
        return seeded(nn.Linear, width, out, like=like, key=(self.seed, "itrd", "embedding"))

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make the projection for the widths of a first batch, unless there is one."""
        mine, theirs = self._features(student, teacher, batch)
        if self.embedding is None:
            self.embedding = self._linear(mine.shape[1], theirs.shape[1], mine)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; labels are not used."""
        mine, theirs = self._features(student, teacher, batch)
        if self.embedding is None:
            raise ArgumentError(
                "ITRD: expected a projection; got a loss that is not prepared. Call "
                "`prepare(student, teacher, batch)` before the optimiser is made, or give "
                "`student_width` and `teacher_width`."
            )
        with without_autocast(mine):
            embedded = self.embedding(mine.to(self.embedding.weight.dtype))
        return itrd_loss(
            mine,
            theirs,
            embedded=embedded,
            alpha=self.alpha,
            correlation_weight=self.correlation_weight,
            mutual_weight=self.mutual_weight,
            eps=self.eps,
            paper_code=self.paper_code,
            across_ranks=self.across_ranks,
        )

    def _features(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        mine, theirs = (
            pooled(feature_of("ITRD", side, outputs, self.layers[side][0]), batch)
            for side, outputs in (("student", student), ("teacher", teacher))
        )
        widths, known = (mine.shape[1], theirs.shape[1]), self.embedding
        if known is not None and widths != (known.in_features, known.out_features):
            raise ShapeError(
                f"ITRD: expected {known.in_features} student and {known.out_features} teacher "
                f"features; got {tuple(mine.shape)} and {tuple(theirs.shape)}. "
                "Make a new loss for other layers."
            )
        return mine, theirs


def _check_pair(where: str, embedded: Tensor, teacher: Tensor) -> None:
    check_same_rows(where, embedded=embedded, teacher=teacher)
    if embedded.shape != teacher.shape:
        raise ShapeError(
            f"{where}: expected as many embedded as teacher features; got embedded "
            f"{tuple(embedded.shape)}, teacher {tuple(teacher.shape)}. "
            "Project the student's features to the teacher's width."
        )
