"""What tests of contrastive losses share: the fixture of section 8.3, and plain loops."""

import math

import torch
from torch.nn import functional as F


INDICES = [(0, 3, 5, 7), (1, 2, 6, 9)]  # positive first


def golden():
    """Section 8.3: a bank of 10 rows and two queries, with three negatives each."""
    n, i = torch.arange(10.0).double()[:, None], torch.arange(2.0).double()[:, None]
    k = torch.arange(3.0).double()
    bank = F.normalize(torch.cos(0.3 + 0.5 * n + 0.7 * k))
    queries = F.normalize(torch.sin(0.2 + 0.4 * i + 0.9 * k))
    negatives = torch.zeros(2, 10, dtype=torch.bool)
    for row, (_, *others) in enumerate(INDICES):
        negatives[row, others] = True
    return queries, bank, torch.tensor([0, 1]), negatives


def plain_contrast(queries, bank, positive, negatives, temperature: float) -> float:
    """Return the loss of one direction, from lists; negatives are lists of indices."""
    queries, bank = (F.normalize(z).tolist() for z in (queries, bank))
    scores = [
        [math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / temperature) for k in bank]
        for q in queries
    ]
    chosen = [scores[i][j] for i, others in enumerate(negatives) for j in (positive[i], *others)]
    whole, total = len(bank) * sum(chosen) / len(chosen), 0.0
    for i, others in enumerate(negatives):
        noise = len(others) / len(bank)
        own = scores[i][positive[i]] / whole
        total -= math.log(own / (own + noise + 1e-7))
        for j in others:
            total -= math.log(noise / (scores[i][j] / whole + noise + 1e-7))
    return total / len(queries)
