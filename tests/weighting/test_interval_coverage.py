"""How often the interval of the weight holds the weight of all rows: at least 93 in 100."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.gradients import mlp
from torch.nn import functional as F

from limbeck.weighting.measuring.products import influences
from limbeck.weighting.theory.fieller import fieller, ratio_of


ROWS, CLASSES, INPUTS, BATCH, TRIALS = 4000, 5, 20, 32, 250


def gaussians():
    """Five classes in 20 dimensions, a tenth of the labels drawn anew."""
    source = torch.Generator().manual_seed(3)
    means = 0.6 * torch.randn(CLASSES, INPUTS, generator=source, dtype=torch.float64)
    y = torch.randint(CLASSES, (ROWS,), generator=source)
    x = means[y] + torch.randn(ROWS, INPUTS, generator=source, dtype=torch.float64)
    anew = torch.rand(ROWS, generator=source) < 0.1
    return x, torch.where(anew, torch.randint(CLASSES, (ROWS,), generator=source), y)


def trained(width, seed, epochs, x, y):
    model = mlp(width, seed, inputs=INPUTS, classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    source = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(ROWS, generator=source).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model


def gradients(student, x, derivatives):
    """Pull derivatives by the logits back: a tanh network's gradients, in closed form."""
    first, last = student[0], student[2]
    hidden = torch.tanh(first(x))
    inner = (derivatives @ last.weight) * (1 - hidden**2)
    parts = [
        inner[:, :, None] * x[:, None],
        inner,
        derivatives[:, :, None] * hidden[:, None],
        derivatives,
    ]
    return torch.cat([one.flatten(1) for one in parts], dim=1).detach().numpy()


@pytest.fixture(scope="module")
def population():
    x, y = gaussians()
    student, teacher = trained(16, 0, 3, x, y), trained(64, 1, 6, x, y)
    p, q = student(x).softmax(1), teacher(x).softmax(1)
    truth = F.one_hot(y, CLASSES).double()
    return gradients(student, x, p - truth), gradients(student, x, q - truth)


def products(g, h):
    gbar, hbar = g.mean(0), h.mean(0)
    own = [np.einsum("ip,ip->i", a, b) for a, b in ((g, h), (g, g), (h, h))]
    return np.stack([*own, g @ gbar, g @ hbar, h @ gbar, h @ hbar], axis=1)


def test_the_closed_form_is_a_gradient(population):
    x, y = gaussians()
    student = trained(16, 0, 3, x, y)
    loss = F.cross_entropy(student(x[:1]), y[:1])
    found = torch.autograd.grad(loss, list(student.parameters()))
    assert population[0][0] == pytest.approx(torch.cat([one.flatten() for one in found]).numpy())


@pytest.mark.parametrize("n", [32, 128, 512, 2048])
def test_coverage(population, n):
    g, h = population
    whole, _ = influences(products(g, h))
    tr_gh, _, tr_hh, _, hbar2 = whole
    # B_T is in the hundreds: at 32 rows the bias is far from seen.
    assert 200 < tr_hh / hbar2 < 5000
    source, factors = np.random.default_rng(n), [BATCH * growth for growth in (1, 11, 101)]
    inside = np.zeros((TRIALS, 3), dtype=bool)
    for trial in range(TRIALS):
        rows = source.integers(ROWS, size=n)
        found, parts = influences(products(g[rows], h[rows]))
        covariance = parts.T @ parts / (n * (n - 1))
        for at, factor in enumerate(factors):
            low, high, _ = fieller(ratio_of(found, covariance, factor))
            inside[trial, at] = low <= tr_gh / (tr_hh + factor * hbar2) <= high
    assert (inside.mean(0) >= 0.93).all(), inside.mean(0)
