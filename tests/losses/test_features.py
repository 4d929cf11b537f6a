"""Pooling maps and token states to one vector a sample."""

import pytest
import torch

from limbeck.checks import ShapeError
from limbeck.losses import pooled
from limbeck.types import Batch


def batch_with(inputs) -> Batch:
    return Batch(inputs, None, torch.arange(2), torch.arange(2))


def test_vectors_are_returned_as_they_are():
    vectors = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert pooled(vectors, batch_with(torch.zeros(2))) is vectors


def test_maps_are_averaged_over_both_axes_in_float32():
    maps = torch.arange(2 * 3 * 2 * 5).reshape(2, 3, 2, 5)
    expected = torch.tensor([[4.5, 14.5, 24.5], [34.5, 44.5, 54.5]])
    assert torch.equal(pooled(maps.float(), batch_with(torch.zeros(2))), expected)
    narrow = pooled(maps.bfloat16(), batch_with(torch.zeros(2)))
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, expected)
    assert pooled(maps.double(), batch_with(torch.zeros(2))).dtype == torch.float64


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32])
def test_only_tokens_of_the_mask_count(kind):
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [torch.nan, 99.0]]])
    mask = torch.tensor([[1, 1], [1, 0]]).to(kind)
    vectors = pooled(states, batch_with({"input_ids": mask, "attention_mask": mask}))
    assert vectors.tolist() == [[2.0, 4.0], [5.0, 7.0]]


def test_tokens_without_a_mask_count_alike():
    states = torch.tensor([[[1.0], [3.0]], [[5.0], [9.0]]])
    for inputs in (torch.zeros(2, 2), {"input_ids": torch.zeros(2, 2)}):
        assert pooled(states, batch_with(inputs)).tolist() == [[2.0], [7.0]]


def test_a_sample_without_tokens_gives_zeros_and_a_finite_gradient():
    states = torch.ones(2, 2, 1).requires_grad_()
    mask = torch.tensor([[0, 0], [1, 1]])
    vectors = pooled(states, batch_with({"attention_mask": mask}))
    assert vectors.tolist() == [[0.0], [1.0]]
    (gradient,) = torch.autograd.grad(vectors.sum(), states)
    assert gradient.flatten().tolist() == [0.0, 0.0, 0.5, 0.5]


def test_messages():
    with pytest.raises(ShapeError, match=r"pooled: .*got \(2,\)"):
        pooled(torch.zeros(2), batch_with(torch.zeros(2)))
    with pytest.raises(ShapeError, match=r"attention mask \(2, 3\); got features \(2, 2, 1\)"):
        pooled(torch.zeros(2, 2, 1), batch_with({"attention_mask": torch.ones(2, 3)}))
