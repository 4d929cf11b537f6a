import pickle

import numpy as np
import pytest
import torch

from limbeck.checks import ArgumentError, ShapeError
from limbeck.data import Data
from limbeck.randomness import keyed_uniform
from limbeck.zoo.data import CropFlip, Shift, augment as module


def images(batch=12, channels=3, height=9, width=6, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randint(1, 256, shape, generator=drawn, dtype=torch.uint8)


def one_by_one(inputs, index, view, *, padding, flip, seed):
    """The definition again: pad one image, cut its window, mirror it."""
    draws = keyed_uniform(seed, index, view, 3).double().numpy()
    _, _, height, width = inputs.shape
    views = []
    for image, (down, right, mirror) in zip(inputs.numpy(), draws, strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        top, left = int(down * (2 * padding + 1)), int(right * (2 * padding + 1))
        window = padded[:, top : top + height, left : left + width]
        views.append(window[:, :, ::-1] if flip and mirror < 0.5 else window)
    return np.stack(views)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_equals_the_definition_image_by_image(padding, flip, dtype):
    inputs = images().to(dtype)
    index, view = torch.arange(12) * 31, torch.arange(12) % 5
    expected = one_by_one(inputs, index, view, padding=padding, flip=flip, seed=7)
    got = CropFlip(padding, flip, seed=7)(inputs, index, view)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.numpy(), expected)


def test_a_row_is_the_same_in_any_batch():
    inputs, index, view = images(), torch.arange(12) + 100, torch.arange(12) % 3
    change = CropFlip(2)
    whole = change(inputs, index, view)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(change(inputs[order], index[order], view[order]), whole[order])
    for row in range(12):
        alone = slice(row, row + 1)
        assert torch.equal(change(inputs[alone], index[alone], view[alone]), whole[alone])


def test_inputs_are_left_as_they_were_and_global_random_state_too():
    inputs, state = images(), torch.get_rng_state()
    before = inputs.clone()
    CropFlip()(inputs, torch.arange(12), torch.zeros(12, dtype=torch.int64))
    assert torch.equal(inputs, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_view_sample_and_seed_each_change_the_picture():
    inputs = images(1).expand(64, -1, -1, -1)
    index, view = torch.arange(64), torch.zeros(64, dtype=torch.int64)
    base = CropFlip(4)(inputs, index, view)
    assert len(base.flatten(1).unique(dim=0)) > 40  # of the 162 that there are
    assert not torch.equal(CropFlip(4)(inputs, index, view + 1), base)
    assert not torch.equal(CropFlip(4, seed=1)(inputs, index, view), base)


def test_offsets_and_mirroring_are_uniform():
    """Chi-square over the 2 x 3 x 3 outcomes: below the 99.9 % point of 17 degrees of freedom."""
    samples, padding = 18_000, 1
    corner = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    corner[0, 0, 1, 1], corner[0, 0, 1, 2] = 1, 2  # 1 left of 2, unless mirrored
    index = torch.arange(samples)
    got = CropFlip(padding)(corner.expand(samples, -1, -1, -1), index, index % 7).flatten(1)
    codes = (got == 1).long().argmax(1) * 16 + (got == 2).long().argmax(1)
    counts = codes.unique(return_counts=True)[1].double()
    assert len(counts) == 18
    expected = samples / 18
    assert float(((counts - expected) ** 2 / expected).sum()) < 40.79


@pytest.mark.parametrize("padding", range(0, 70, 3))
def test_the_largest_draw_stays_inside_the_border(padding, monkeypatch):
    largest = 1 - 2.0**-24
    monkeypatch.setattr(module, "keyed_uniform", lambda *_: torch.full((1, 3), largest))
    inputs = images(1)
    zero = torch.zeros(1, dtype=torch.int64)
    got = CropFlip(padding)(inputs, zero, zero)
    expected = torch.zeros_like(inputs)
    if padding < 6:
        expected[..., : 9 - padding, : 6 - padding] = inputs[..., padding:, padding:]
    assert torch.equal(got, expected)


def test_repr_names_every_setting_and_pickling_keeps_them():
    assert repr(CropFlip()) == "CropFlip(padding=4, flip=True, seed=0)"
    assert repr(Shift(2, seed=3)) == "CropFlip(padding=2, flip=False, seed=3)"
    assert pickle.loads(pickle.dumps(CropFlip(3, False, 9))) == CropFlip(3, False, 9)


def test_serves_as_the_augmentation_of_data():
    inputs, targets = images(), torch.arange(12)
    data = Data((inputs, targets), augment=CropFlip(2))
    rows, views = torch.tensor([5, 0]), torch.tensor([3, 8])
    (batch,) = data.batches([(rows, views)])
    expected = one_by_one(inputs[rows], rows, views, padding=2, flip=True, seed=0)
    np.testing.assert_array_equal(batch.inputs.numpy(), expected.astype(np.float32) / 255)


def test_refuses_what_is_no_image_batch():
    rows = torch.arange(3)
    with pytest.raises(ShapeError, match=r"CropFlip: expected images .* got inputs \(3, 8\)"):
        CropFlip()(torch.zeros(3, 8), rows, rows)
    with pytest.raises(ShapeError, match=r"view \(2,\)"):
        CropFlip()(torch.zeros(3, 1, 8, 8), rows, rows[:2])
    with pytest.raises(ShapeError, match=r"index \(2,\)"):
        CropFlip()(torch.zeros(3, 1, 8, 8), rows[:2], rows[:2])
    with pytest.raises(ArgumentError, match="CropFlip: expected `padding` >= 0; got -1"):
        CropFlip(-1)
