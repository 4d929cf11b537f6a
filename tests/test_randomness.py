"""Numbers that depend on nothing but what they are for."""

import numpy as np
import pytest
import torch
from scipy import stats

from limbeck.randomness import derive_seed, generator, keyed_uniform


MASK = (1 << 64) - 1


def mixed(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def plain(seed: int, index: int, view: int, position: int) -> float:
    """Say it again in Python's unbounded integers."""
    state = mixed((index + derive_seed(seed, "keyed")) & MASK)
    state = mixed(state ^ ((view * 0x9E3779B97F4A7C15) & MASK))
    bits = mixed((state + (position + 1) * 0xBF58476D1CE4E5B9) & MASK)
    return ((bits >> 40) & 0xFFFFFF) / 2**24


@pytest.mark.parametrize("seed", [0, -1, -(2**70), 2**63 - 1, 2**100])
def test_equals_plain_integers(seed):
    index = torch.tensor([0, 1, 2, 2**31, 2**62, 2**63 - 1, -5])
    view = torch.tensor([0, 7, -1, 2**31, 2**63 - 1, 3, -(2**63)])
    drawn = keyed_uniform(seed, index, view, 3)
    expected = [
        [plain(seed, i, v, k) for k in range(3)]
        for i, v in zip(index.tolist(), view.tolist(), strict=True)
    ]
    assert drawn.dtype == torch.float32
    assert drawn.tolist() == expected


def test_same_whatever_the_batch_or_the_integer_type():
    index, view = torch.arange(100), torch.arange(100) % 3
    whole = keyed_uniform(1, index, view, 5)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keyed_uniform(1, index[order], view[order], 5), whole[order])
    assert torch.equal(keyed_uniform(1, index[7:8], view[7:8], 5), whole[7:8])
    assert torch.equal(keyed_uniform(1, index, view, 2), whole[:, :2])
    assert torch.equal(keyed_uniform(1, index.int(), view.to(torch.uint8), 5), whole)


def test_global_state_is_neither_read_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = keyed_uniform(0, torch.arange(4), torch.zeros(4, dtype=torch.int64), 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(keyed_uniform(0, torch.arange(4), torch.zeros(4, dtype=torch.int64), 2), one)


def uniform_p(numbers: torch.Tensor) -> float:
    counts = np.histogram(numbers.numpy().ravel(), bins=64, range=(0.0, 1.0))[0]
    return float(stats.chisquare(counts).pvalue)


def test_uniform():
    rows, nought = torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64)
    drawn = keyed_uniform(0, rows, nought, 2)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert uniform_p(drawn) > 1e-3
    assert uniform_p(keyed_uniform(0, nought, rows, 2)) > 1e-3
    assert uniform_p(keyed_uniform(0, nought[:1], nought[:1], 40_000)) > 1e-3


def test_neighbours_are_independent():
    rows, nought = torch.arange(20_000), torch.zeros(20_000, dtype=torch.int64)
    base = keyed_uniform(0, rows, nought, 2)
    others = {
        "next position": base[:, 1],
        "next view": keyed_uniform(0, rows, nought + 1, 1)[:, 0],
        "next sample": keyed_uniform(0, rows + 1, nought, 1)[:, 0],
        "next seed": keyed_uniform(1, rows, nought, 1)[:, 0],
        "index and view exchanged": keyed_uniform(0, nought, rows, 1)[:, 0],
    }
    for name, other in others.items():
        cells = np.histogram2d(base[:, 0], other, bins=8, range=[(0, 1), (0, 1)])[0]
        assert stats.chisquare(cells.ravel()).pvalue > 1e-3, name


def test_derived_seeds():
    assert derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
    every = {
        derive_seed(*parts) for parts in [(0,), (0, 0), ("0",), ("0, 0",), (-1,), (0, "0"), ()]
    }
    assert len(every) == 7
    assert all(0 <= seed < 2**63 for seed in every)


def test_equal_parts_of_another_type_give_equal_seeds(without_shape_hook):
    assert derive_seed(np.int64(3), np.str_("a")) == derive_seed(3, "a")
    assert derive_seed(True) == derive_seed(1)


def test_a_real_number_is_no_seed(without_shape_hook):
    with pytest.raises(TypeError, match="float"):
        derive_seed(0.5)


def test_generator():
    one, two = (torch.rand(3, generator=generator(5, "x")) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, torch.rand(3, generator=generator(6, "x")))
    assert generator(5, "x").initial_seed() == derive_seed(5, "x")
