"""Noise of epochs without replacement: exact sums, limits, simulation."""

import itertools

import numpy as np
import pytest
import torch

from limbeck.checks import ArgumentError
from limbeck.weighting.theory.reshuffling import reshuffled_share


def share_by_sums(a, n, epochs=400):
    """The variance at an epoch's end, term by term, over that of independent noise."""
    ages = np.arange(n * epochs)
    terms = (a**ages).reshape(epochs, n)
    apart = (terms**2).sum()
    # Noise of two steps of one epoch has the correlation -1 / (n - 1).
    together = (terms.sum(1) ** 2).sum() - apart
    return (apart - together / (n - 1)) / apart


@pytest.mark.parametrize("n", [2, 3, 20, 250])
@pytest.mark.parametrize("pace", [0.9, 0.3, 0.05])
def test_it_is_the_sum_of_all_covariances(n, pace):
    found = reshuffled_share(torch.tensor(pace, dtype=torch.float64), n).item()
    assert found == pytest.approx(share_by_sums(1 - pace, n), rel=1e-9)


def test_all_orders_of_a_small_epoch():
    """Noise -1, 0, 1 in every order, forgotten by the next epoch: a^3 is 1e-6."""
    a = 0.01
    ends = [sum(a ** (2 - at) * x for at, x in enumerate(order)) for order in
            itertools.permutations((-1.0, 0.0, 1.0))]  # fmt: skip
    assert np.var(ends) / (2 / 3 / (1 - a * a)) == pytest.approx(
        reshuffled_share(1 - a, 3).item(), rel=1e-4
    )


def test_limits():
    small = torch.tensor([1e-6, 1e-5], dtype=torch.float64)
    for pace in small:
        assert reshuffled_share(pace, 100).item() == pytest.approx(
            (pace.item() * 100) ** 2 / 12 * (100 + 1) / 100, rel=0.02
        )
    assert reshuffled_share(1.0, 50).item() == pytest.approx(1.0)  # no memory
    assert reshuffled_share(3.0, 50).item() == pytest.approx(1.0)
    assert reshuffled_share(0.0, 50).item() == 0.0
    assert reshuffled_share(0.3, 1).item() == 0.0
    assert reshuffled_share(0.5, 10**6).item() == pytest.approx(1.0, abs=1e-5)


def test_it_grows_with_the_pace():
    paces = torch.linspace(0, 1, 101, dtype=torch.float64)
    shares = torch.stack([reshuffled_share(pace, 37) for pace in paces])
    assert (shares.diff() >= 0).all()
    assert shares.dtype == torch.float64
    assert reshuffled_share(torch.tensor(0.1), 37).dtype == torch.float32


@pytest.mark.parametrize(("pace", "steps"), [(-0.1, 5), (float("nan"), 5), (0.1, 0)])
def test_what_is_refused(pace, steps):
    with pytest.raises(ArgumentError, match="reshuffled_share: expected"):
        reshuffled_share(pace, steps)
