"""Another seed, parameter or code of an augmentation is noticed; another address is not."""

import functools

import pytest
import torch

from limbeck.checks import StoreError
from limbeck.data import Data
from limbeck.randomness import keyed_uniform
from limbeck.store import transform_fingerprint
from limbeck.store.transform import name_of
from limbeck.zoo.data.augment import CropFlip


IMAGES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def of(augment, inputs=IMAGES):
    return transform_fingerprint(Data(inputs, augment=augment))


class Jitter:
    """An augmentation whose repr says nothing but its address."""

    def __init__(self, size=0.1, seed=0):
        self.size, self.seed = size, seed

    def __call__(self, inputs, index, view):
        shift = keyed_uniform(self.seed, index, view, 1) - 0.5
        return inputs + self.size * shift.reshape(-1, *[1] * (inputs.ndim - 1))


def test_without_one():
    assert of(None) is None


def test_the_same_again():
    first = of(CropFlip())
    assert first == of(CropFlip())
    assert first.name == "CropFlip(padding=4, flip=True, seed=0)"
    assert len(first.norms) == 4 * 16
    assert len(first.projections) == 8 * 4 * 16
    assert of(Jitter()) == of(Jitter())
    assert of(Jitter()).name == "Jitter"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CropFlip(), CropFlip(seed=1)),
        (CropFlip(), CropFlip(padding=3)),
        (CropFlip(), CropFlip(flip=False)),
        (CropFlip(), Jitter()),
        (Jitter(), Jitter(seed=1)),
        (Jitter(), Jitter(size=0.12)),
        (lambda x, i, v: x, lambda x, i, v: x * 1.01),
        (lambda x, i, v: x, lambda x, i, v: torch.where(v[:, None, None, None] == 3, -x, x)),
        (functools.partial(CropFlip(1)), functools.partial(CropFlip(2))),
    ],
)
def test_another_one(before, after):
    first, second = of(before), of(after)
    told = first.difference(second)
    assert told is not None
    assert second.difference(first) is not None
    assert first.name in told
    if first.name == second.name:
        assert f"behaviour {first.digest[:12]} in the store, {second.digest[:12]} now" in told
        assert "seed, its parameters or its code" in told
    else:
        assert f"{second.name} now" in told


def test_rounding_of_another_device_is_allowed():
    exact = of(Jitter())
    noise = 1e-6 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1))

    class Rounded(Jitter):
        def __call__(self, inputs, index, view):
            return super().__call__(inputs, index, view) + noise[index]

    Rounded.__qualname__ = "Jitter"
    rounded = of(Rounded())
    assert rounded.digest != exact.digest
    assert exact.difference(rounded) is None


def test_other_rows_are_another_behaviour():
    told = of(Jitter()).difference(of(Jitter(), IMAGES[:10]))
    assert "gives other views" in told


def test_dicts_and_bytes():
    def shifted(inputs, index, view):
        return {"ids": inputs["ids"] + view[:, None], "mask": inputs["mask"]}

    def masked(inputs, index, view):
        return {"ids": inputs["ids"] + view[:, None], "mask": ~inputs["mask"]}

    masked.__qualname__ = shifted.__qualname__
    texts = {"ids": torch.arange(60).reshape(20, 3), "mask": torch.arange(60).reshape(20, 3) > 7}
    assert of(shifted, texts) == of(shifted, texts)
    assert of(shifted, texts).difference(of(masked, texts))
    pixels = (IMAGES * 255).to(torch.uint8)
    assert of(CropFlip(), pixels).difference(of(CropFlip(seed=1), pixels))


class Items:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return IMAGES[index], 0


def test_items_are_as_arrays():
    assert transform_fingerprint(Data(Items(), augment=CropFlip())) == of(CropFlip())


@pytest.mark.parametrize(
    "augment",
    [
        lambda x, i, v: x + torch.rand_like(x),
        lambda x, i, v: x + torch.arange(len(x))[:, None, None, None],
        lambda x, i, v: x - x.mean(0, keepdim=True) * torch.arange(len(x)).flip(0)[0] + x[:1],
    ],
    ids=["random", "place in the batch", "first of the batch"],
)
def test_what_is_no_function_of_sample_and_view(augment):
    with pytest.raises(StoreError, match=r"pure function of \(sample, view\).*keyed_uniform"):
        of(augment)


def test_the_global_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    of(lambda x, i, v: x + 0 * torch.rand_like(x))
    assert torch.equal(torch.rand(3), expected)


def test_names():
    def inner(x, index, view):
        return x

    assert name_of(inner) == "test_names.<locals>.inner"
    assert name_of(functools.partial(inner, view=CropFlip(1))) == (
        "partial(test_names.<locals>.inner, view=CropFlip(padding=1, flip=True, seed=0))"
    )
    assert name_of(Jitter()) == "Jitter"
    assert name_of(Jitter().__call__) == "Jitter.__call__"
    assert len(name_of(torch.arange(10_000).tolist())) == 1003
