"""Batch normalisation inside of losses is PyTorch's, over whatever positions there are."""

import pytest
import torch
from torch import nn

from limbeck.losses.batch_norm import BatchNorm


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 5), (7, 3, 2, 4)])
def test_equals_torch_in_training_and_afterwards(shape):
    source = torch.Generator().manual_seed(0)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    theirs = kind(3).double()
    ours = BatchNorm(3, torch.zeros((), dtype=torch.float64))
    with torch.no_grad():
        for one in (ours, theirs):
            one.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
            one.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
    for turn in range(3):
        rows = (1.0 + turn) * torch.randn(shape, generator=source, dtype=torch.float64) + turn
        torch.testing.assert_close(ours(rows), theirs(rows), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(rows), theirs.eval()(rows), rtol=1e-10, atol=1e-12)


def test_gradients():
    source = torch.Generator().manual_seed(1)
    rows = torch.randn(4, 2, 3, generator=source, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(BatchNorm(2, torch.zeros((), dtype=torch.float64)), rows)


def test_a_constant_channel_is_zero_with_finite_gradients():
    rows = torch.full((4, 1), 7.0, requires_grad=True)
    found = BatchNorm(1, rows)(rows)
    assert found.abs().max().item() < 1e-6
    assert torch.autograd.grad(found.square().sum(), rows)[0].isfinite().all()
