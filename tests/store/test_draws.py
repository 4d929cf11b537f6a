"""Drawn labels follow the teacher's distribution, and depend on nothing but seed, sample, view."""

import pytest
import torch
from scipy import stats

from limbeck.store import Keep, encode
from limbeck.store.draws import counted, drawn_labels, uniform_numbers
from limbeck.types import Outputs


PROBABILITIES = torch.tensor([0.45, 0.05, 0.3, 0.0, 0.199, 0.001])


def rows_of(count):
    return Outputs(PROBABILITIES.log().expand(count, -1))


def test_shares_by_enumeration():
    """Of numbers spread evenly over [0, 1) each label gets its share, to the grid's fineness."""
    grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    labels = drawn_labels(PROBABILITIES.log()[None], grid[None])[0]
    shares = torch.bincount(labels, minlength=6) / 100_000
    assert torch.allclose(shares, PROBABILITIES, atol=2e-5)
    assert (labels.diff() >= 0).all()


def test_labels_without_probability_are_never_drawn():
    log_t = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log()
    numbers = torch.tensor([[0.0, 0.5, 1 - 2**-48]], dtype=torch.float64)
    assert drawn_labels(log_t, numbers).tolist() == [[1, 3, 3]]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("over", ["samples", "views", "draws"])
def test_shares_of_real_draws(over, temperature):
    many = 40_000
    index, view, draws = torch.zeros(many, dtype=torch.int64), 0, 1
    if over == "samples":
        index = torch.arange(many)
    elif over == "views":
        view = torch.arange(many)
    else:
        index, draws = index[:1], many
    keep = Keep.of("sampled_counts", draws=draws, seed=7, temperature=temperature)
    columns = encode(rows_of(len(index)), index, view, keep)
    labels, counts = columns["labels"].long().flatten(), columns["counts"].long().flatten()
    seen = torch.zeros(6, dtype=torch.int64).scatter_add(0, labels.clamp_min(0), counts)
    shares = PROBABILITIES.double() ** (1 / temperature)
    shares = shares / shares.sum()
    possible = shares > 0
    assert seen.sum() == many
    assert seen[~possible].sum() == 0
    chi = stats.chisquare(seen[possible].numpy(), many * shares[possible].numpy())
    assert chi.pvalue > 1e-3


def test_rare_labels_are_drawn():
    """A float32 number in [0, 1) would never pass a label of probability 1e-9 unevenly."""
    numbers = uniform_numbers(0, torch.arange(1000), torch.zeros(1000, dtype=torch.int64), 3)
    assert numbers.dtype == torch.float64
    assert numbers.shape == (1000, 3)
    assert ((numbers >= 0) & (numbers < 1)).all()
    fraction = numbers * (1 << 24) % 1
    assert stats.kstest(fraction.flatten().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3


def test_a_pure_function_of_seed_sample_and_view():
    index, view = torch.arange(200), torch.arange(200) % 5
    keep = Keep.of("hard_labels", seed=1)
    whole = encode(rows_of(200), index, view, keep)["labels"]
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    mixed = encode(rows_of(200), index[order], view[order], keep)["labels"]
    assert torch.equal(mixed, whole[order])
    alone = [
        encode(rows_of(1), index[i : i + 1], view[i : i + 1], keep)["labels"] for i in range(9)
    ]
    assert torch.equal(torch.cat(alone), whole[:9])
    for other in (
        encode(rows_of(200), index, view, Keep.of("hard_labels", seed=2)),
        encode(rows_of(200), index, view + 1, keep),
        encode(rows_of(200), index + 1, view, keep),
    ):
        assert not torch.equal(other["labels"], whole)


def test_counted_by_a_plain_loop():
    labels = torch.randint(0, 5, (50, 8), generator=torch.Generator().manual_seed(0))
    distinct, counts = counted(labels, 5)
    for row in range(50):
        drawn = labels[row].tolist()
        expected = sorted(set(drawn))
        pad = [-1] * (5 - len(expected))
        assert distinct[row].tolist() == expected + pad
        assert counts[row].tolist() == [drawn.count(label) for label in expected] + [0] * len(pad)
