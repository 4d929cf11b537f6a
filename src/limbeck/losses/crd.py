"""Contrastive representation distillation (CRD) with negatives from the batch."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError, check_between, check_positive, check_same_rows
from limbeck.losses.connectors import Layer, layer_names, pooled_pairs
from limbeck.losses.embeddings import Embeddings
from limbeck.losses.memory_bank import NO_LABEL, MemoryBank
from limbeck.losses.numerics import at_least_float32, unit_rows, without_autocast
from limbeck.losses.whole_batch import all_rows
from limbeck.ranks import gather_rows, share_of_batch, sum_over_ranks
from limbeck.types import Batch, Outputs


GUARD = 1e-7  # in the denominators of the authors' code


def log_mean_score(
    queries: Float[Tensor, "batch width"],
    candidates: Float[Tensor, "candidates width"],
    chosen: Bool[Tensor, "batch candidates"],
    *,
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    r"""Return :math:`\ln` of the mean of :math:`e^{\langle q, k \rangle / \tau}` over chosen pairs.

    Args:
        queries: Vectors q of length 1.
        candidates: Vectors k of length 1.
        chosen: Which pairs count.
        temperature: :math:`\tau`, above zero.

    Returns:
        A scalar [no unit] without gradient; 0 where no pair is chosen.

    Example:
        >>> one = torch.ones(1, 1)
        >>> log_mean_score(one, one, torch.tensor([[True]]), temperature=0.5)
        tensor(2.)
    """
    check_positive("log_mean_score", temperature=temperature)
    mine, theirs = at_least_float32(queries.detach(), candidates.detach())
    with without_autocast(mine):
        scores = mine @ theirs.T / temperature
    count = chosen.sum().to(scores.dtype)
    total = scores.masked_fill(~chosen, -math.inf).flatten().logsumexp(0)
    return torch.where(count > 0, total - count.clamp_min(1.0).log(), 0.0)


def noise_contrastive_loss(
    queries: Float[Tensor, "batch width"],
    candidates: Float[Tensor, "candidates width"],
    positive: Int[Tensor, " batch"],
    negatives: Bool[Tensor, "batch candidates"],
    *,
    temperature: float = 0.07,
    log_normaliser: Float[Tensor, ""] | None = None,
    size: int | None = None,
) -> Float[Tensor, ""]:
    r"""Tell every query's own candidate from its negatives.

    .. math:: -\frac{1}{b} \sum_i \Bigl( \ln \frac{P_{i+}}{P_{i+} + c_i + \epsilon}
              + \sum_{j \in \text{negatives}} \ln \frac{c_i}{P_{ij} + c_i + \epsilon} \Bigr), \qquad
              P_{ij} = \frac{e^{\langle q_i, k_j \rangle / \tau}}{N Z}, \quad c_i = \frac{K_i}{N}

    with N rows that candidates are of, :math:`K_i` negatives and :math:`\epsilon` = 1e-7.

    Args:
        queries: Vectors q of length 1; gradients flow into these.
        candidates: Vectors k of length 1; gradients flow into these too.
        positive: Which candidate is a query's own.
        negatives: Which candidates are its negatives.
        temperature: :math:`\tau`, above zero.
        log_normaliser: :math:`\ln Z`; None takes :func:`log_mean_score` of these very pairs.
        size: N, where the candidates were drawn from more rows; None means that they are all.

    Returns:
        The batch mean, negative log-likelihood [nats], at least zero; near zero where positives
        score high and negatives low (and zero for a batch without rows).

    Raises:
        ArgumentError: If ``temperature`` is not above zero.

    Example:
        Positive and negative score alike, so P = 1/2 each and c = 1/2: 2 ln 2.

        >>> one = torch.ones(1, 1)
        >>> noise_contrastive_loss(
        ...     one, torch.ones(2, 1), torch.tensor([0]), torch.tensor([[False, True]])
        ... )
        tensor(1.3863)

    Source:
        Tian, Krishnan and Isola (2020), arXiv:1910.10699; Z and eps as in the authors' code.
    """
    check_positive("noise_contrastive_loss", temperature=temperature)
    mine, theirs = at_least_float32(queries, candidates)
    if log_normaliser is None:
        own = positive[:, None] == torch.arange(len(theirs), device=theirs.device)
        log_normaliser = log_mean_score(mine, theirs, negatives | own, temperature=temperature)
    size = size or max(len(theirs), 1)
    with without_autocast(mine):
        scores = mine @ theirs.T / temperature
    log_p = scores - log_normaliser.to(scores.dtype) - math.log(size)
    noise = negatives.sum(dim=1, keepdim=True).to(scores.dtype) / size
    log_guarded = (noise + GUARD).log()
    log_noise = torch.where(noise > 0, noise, 1.0).log()
    for_positive = F.softplus(log_guarded - log_p.gather(1, positive[:, None]))
    for_negatives = F.softplus(log_p - log_guarded) + log_guarded - log_noise
    total = for_positive.sum() + torch.where(negatives, for_negatives, 0.0).sum()
    return total / max(len(mine), 1)


def crd_loss(
    student: Float[Tensor, "batch width"],
    teacher: Float[Tensor, "batch width"],
    *,
    temperature: float = 0.07,
    labels: Int[Tensor, " batch"] | None = None,
    queue: Float[Tensor, "past width"] | None = None,
    queue_labels: Int[Tensor, " past"] | None = None,
    queue_filled: Bool[Tensor, " past"] | None = None,
    log_normaliser: Float[Tensor, ""] | None = None,
    across_ranks: bool = False,
) -> Float[Tensor, ""]:
    r"""Tell a sample's teacher embedding from those of other samples, and the reverse.

    The sum of :func:`noise_contrastive_loss` from the student's embeddings to the teacher's and
    from the teacher's to the student's, all divided by their length before. Negatives are the
    other samples of the batch, and, for the student's, past embeddings of the teacher. Without
    labels and a queue both directions have the same value.

    Args:
        student: The student's embedded features; gradients flow into these.
        teacher: The teacher's embedded features. Gradients flow into these as well, as both
            embeddings are trained: detach the features before they are embedded.
        temperature: Divides the cosines, above zero.
        labels: Classes; samples of one class are no negatives of each other. A label below zero is
            an unknown class. None takes all other samples.
        queue: Past embeddings of the teacher, detached here.
        queue_labels: Their classes, together with ``labels``.
        queue_filled: Which of them are there; None means all.
        log_normaliser: Logarithm of the mean score; None takes it from these embeddings, without
            gradient.
        across_ranks: Take the batch as spread over all processes of ``torch.distributed``; all of
            them must call. Averaged over them, value and gradient are those of the whole batch.

    Returns:
        The loss of the batch, a sum over two directions, one positive and all negatives [nats], at
        least zero.

    Raises:
        ShapeError: If the two are no matrices of one shape, or the queue does not fit.
        ArgumentError: If ``temperature`` is not above zero.

    Example:
        All embeddings are one and the same: 2 ln 2 for each of two directions.

        >>> crd_loss(torch.ones(2, 1), torch.ones(2, 1))
        tensor(2.7726)

    Source:
        Tian, Krishnan and Isola (2020), arXiv:1910.10699.
    """
    check_same_rows("crd_loss", student=student, teacher=teacher)
    if student.shape != teacher.shape or (
        queue is not None and queue.shape[1:] != teacher.shape[1:]
    ):
        past = "" if queue is None else f", queue {tuple(queue.shape)}"
        raise ShapeError(
            f"crd_loss: expected embeddings of one width; got student {tuple(student.shape)}, "
            f"teacher {tuple(teacher.shape)}{past}. Embed both in one space."
        )
    mine, theirs = (
        all_rows(unit_rows(side), across_ranks) for side in at_least_float32(student, teacher)
    )
    if labels is not None and across_ranks:
        labels = gather_rows(labels)
    own = torch.arange(len(mine), device=mine.device)
    others = own[:, None] != own
    if labels is not None:
        others = others & _other_class(labels, labels)
    candidates, negatives = theirs, others
    if queue is not None:
        past = torch.ones(len(queue), dtype=torch.bool, device=own.device)
        allowed = (past if queue_filled is None else queue_filled).expand(len(mine), -1)
        if labels is not None and queue_labels is not None:
            allowed = allowed & _other_class(labels, queue_labels)
        candidates = torch.cat([theirs, unit_rows(queue.detach().to(theirs.dtype))])
        negatives = torch.cat([others, allowed], dim=1)
    settings = {"temperature": temperature, "log_normaliser": log_normaliser}
    to_teacher = noise_contrastive_loss(mine, candidates, own, negatives, **settings)
    return to_teacher + noise_contrastive_loss(theirs, mine, own, others, **settings)


def _other_class(labels: Tensor, others: Tensor) -> Tensor:
    return (labels[:, None] != others) | (labels[:, None] < 0)


class CRD(nn.Module):
    """:func:`crd_loss` as a training term with an embedding for each side.

    The mean score that turns scores into probabilities is taken from the first batch, in
    ``prepare``, and kept (with a bank, that of its first draw). Negatives are those of the batch of
    all ranks and of the queue, or of the bank.

    Args:
        layer: Layer of both sides, or a dict of one each for "student" and "teacher". Maps are
            averaged over space and token states over tokens (:func:`limbeck.losses.pooled`).
        width: Of the embeddings, above zero.
        temperature: As in the function.
        queue: How many past embeddings of the teacher are kept as further negatives.
        bank: Number of training rows, to draw negatives for both sides from a memory of all of
            them, as the paper does, instead of batch and queue; 0 for none. It takes
            ``2 * bank * width`` numbers of memory, and rows with their ``batch.index``.
        negatives: How many rows of the bank are drawn for a batch.
        use_labels: Whether samples of one class are no negatives of each other, where the targets
            are classes (one whole number a sample).
        across_ranks: Whether the negatives are those of all processes.
        seed: Of the embeddings' first weights.
    """

    needs_logits: ClassVar[bool] = False
    tasks: ClassVar[frozenset[str] | None] = None
    published_weights: ClassVar[tuple[float, float]] = (1.0, 0.8)
    mean_over_samples: ClassVar[bool] = False
    log_normaliser: Tensor
    past: Tensor
    past_labels: Tensor
    seen: Tensor

    def __init__(
        self,
        layer: Layer = "penultimate",
        *,
        width: int = 128,
        temperature: float = 0.07,
        queue: int = 0,
        bank: int = 0,
        negatives: int = 16_384,
        use_labels: bool = True,
        across_ranks: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_positive("CRD", width=width, temperature=temperature, negatives=negatives)
        check_between("CRD", 0.0, 1e9, queue=queue, bank=bank)
        if queue and bank:
            raise ArgumentError(
                f"CRD: expected a queue or a bank; got queue={queue} and bank={bank}. The bank "
                "holds what the queue would."
            )
        self.layers = layer_names("CRD", layer, one=True)
        self.temperature, self.use_labels = temperature, use_labels
        self.across_ranks = across_ranks
        self.embeddings = Embeddings("CRD", width, seed)
        self.bank = MemoryBank(bank, width, negatives=negatives, seed=seed) if bank else None
        self.register_buffer("log_normaliser", torch.zeros(()))
        self.register_buffer("past", torch.zeros(queue, width))
        self.register_buffer("past_labels", torch.full((queue,), NO_LABEL))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def prepare(self, student: Outputs, teacher: Outputs, batch: Batch) -> None:
        """Make embeddings and the mean score from a first batch, unless there are any."""
        if self.embeddings.student is not None:
            return
        ((mine, theirs),) = pooled_pairs("CRD", self.layers, student, teacher, batch)
        self.embeddings.prepare(mine, theirs)
        with torch.no_grad():
            one, two = (unit_rows(rows) for rows in self.embeddings(mine, theirs))
        chosen = torch.ones(len(one), len(two), dtype=torch.bool, device=one.device)
        labels = self._labels(batch)
        if labels is not None:
            same = torch.eye(len(one), dtype=torch.bool, device=one.device)
            chosen = same | _other_class(labels, labels)
        start = log_mean_score(one, two, chosen, temperature=self.temperature)
        self.log_normaliser = start
        self.past = self.past.to(start)
        self.past_labels = self.past_labels.to(start.device)
        self.seen = self.seen.to(start.device)
        if self.bank is not None:
            self.bank.to(start)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of the batch; in training, put the teacher's embeddings in the queue."""
        ((mine, theirs),) = pooled_pairs("CRD", self.layers, student, teacher, batch)
        mine, theirs = self.embeddings(mine, theirs)
        if self.bank is not None:
            return self._with_bank(self.bank, mine, theirs, batch)
        labels, size = self._labels(batch), len(self.past)
        filled = torch.arange(size, device=self.seen.device) < self.seen
        value = crd_loss(
            mine,
            theirs,
            temperature=self.temperature,
            labels=labels,
            queue=self.past.clone() if size else None,  # it is overwritten before the backward pass
            queue_labels=self.past_labels.clone() if size else None,
            queue_filled=filled if size else None,
            log_normaliser=self.log_normaliser,
            across_ranks=self.across_ranks,
        )
        if self.training and size:
            self._enqueue(theirs.detach(), labels)
        return value

    def _with_bank(
        self, bank: MemoryBank, student: Tensor, teacher: Tensor, batch: Batch
    ) -> Tensor:
        """Return this rank's share; each side is compared with the other one's bank."""
        student, teacher = (unit_rows(rows) for rows in at_least_float32(student, teacher))
        labels, index = self._labels(batch), batch.index.to(student.device)
        places, negatives = bank.candidates(index, labels)
        own = torch.arange(len(index), device=student.device)
        total = student.new_zeros(())
        for side, queries, known in ((0, student, bank.teacher), (1, teacher, bank.student)):
            rows = known[places]
            if bool(bank.mean_scores[side].isnan()):
                counted = negatives.clone()
                counted[own, own] = True
                bank.mean_scores[side] = self._first_mean(queries, rows, counted)
            total = total + noise_contrastive_loss(
                queries,
                rows,
                own,
                negatives,
                temperature=self.temperature,
                log_normaliser=bank.mean_scores[side].clone(),
                size=len(known),
            )
        if self.training:
            bank.remember(index, student, teacher, labels, across_ranks=self.across_ranks)
        return share_of_batch(total, len(student)) if self.across_ranks else total

    @torch.no_grad()
    def _first_mean(self, queries: Tensor, rows: Tensor, counted: Tensor) -> Tensor:
        """Return the logarithm of the mean score over all ranks' pairs."""
        own = log_mean_score(queries, rows, counted, temperature=self.temperature)
        if not self.across_ranks:
            return own
        total, pairs = own.exp() * counted.sum(), counted.sum().to(own.dtype)
        return (sum_over_ranks(total) / sum_over_ranks(pairs).clamp_min(1.0)).log()

    @torch.no_grad()
    def _enqueue(self, rows: Tensor, labels: Tensor | None) -> None:
        if labels is None:
            labels = torch.full((len(rows),), NO_LABEL, device=rows.device)
        if self.across_ranks:
            rows, labels = gather_rows(rows), gather_rows(labels)
        size = len(self.past)
        rows, labels = rows[-size:], labels[-size:]
        places = (self.seen + torch.arange(len(rows), device=self.seen.device)) % size
        self.past[places] = unit_rows(rows).to(self.past.dtype)
        self.past_labels[places] = labels.to(self.past_labels.dtype)
        self.seen += len(rows)

    def _labels(self, batch: Batch) -> Tensor | None:
        """Return the classes of the batch, where its targets are classes."""
        targets = batch.targets
        if not self.use_labels or targets is None or targets.ndim != 1:
            return None
        return None if targets.dtype.is_floating_point else targets.to(torch.int64)
