"""Mixed images: pure functions of (sample, view), and a teacher's word on them is kept exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError, ShapeError, StoreError
from limbeck.training.preflight import PreflightError
from limbeck.zoo.data.augment import CropFlip
from limbeck.zoo.data.mixed import Mixed


COUNT = 4000


def flat(count=COUNT):
    """Return images of one colour each, their number over the count: a mixture tells its parts."""
    return (torch.arange(count) / count)[:, None, None, None].expand(-1, 1, 16, 16).contiguous()


def mixed(count=COUNT, view=0, **options):
    index = torch.arange(count)
    images = flat(count)
    return images, Mixed(images, **options)(images, index, torch.full_like(index, view))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_view_is_the_same_in_any_batch(kind):
    images, whole = mixed(64, kind=kind)
    index = torch.tensor([40, 3, 17])
    again = Mixed(images, kind=kind)(images[index], index, torch.zeros(3, dtype=torch.int64))
    assert again.equal(whole[index])
    for change in ({"view": 1}, {"seed": 1}, {"alpha": 0.3}):
        assert not mixed(64, kind=kind, **change)[1].equal(whole)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_is_a_mixture_with_a_share_of_the_beta_distribution(alpha):
    """Images of one colour: lambda x_i + (1 - lambda) x_j, with j uniform and apart from lambda."""
    images, made = mixed(alpha=alpha)
    own, found = images[:, 0, 0, 0].double(), made[:, 0, 0, 0].double()
    assert (made == made[:, :, :1, :1]).all()
    # Of image 0, which is black, nothing is seen but (1 - lambda) x_j.
    index = torch.zeros(COUNT, dtype=torch.int64)
    black = Mixed(flat(), alpha=alpha)(
        flat()[index], index, torch.arange(COUNT)
    )[:, 0, 0, 0].double()  # fmt: skip
    product = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    product *= np.random.default_rng(1).random(20_000)
    assert stats.ks_2samp(black.numpy(), product).pvalue > 1e-3
    # E[lambda] = 1/2: half of what an image differs from the mean is left.
    slope = ((own - own.mean()) * (found - found.mean())).mean() / own.var(correction=0)
    assert slope.item() == pytest.approx(0.5, abs=0.04)


def test_cutmix_pastes_one_box_with_the_rest_of_the_share():
    images, made = mixed(kind="cutmix")
    own = images[:, :, :1, :1]
    pasted = made != own
    boxes = pasted[:, 0]
    rows, columns = boxes.any(2), boxes.any(1)
    assert (boxes == rows[:, :, None] & columns[:, None, :]).all()
    for line in (rows, columns):  # a run without a gap
        assert ((line.int().diff(dim=1) != 0).sum(1) <= 2).all()
    assert all(len(part.unique()) <= 2 for part in made[:50])
    # Without the cut at the border the mean share of a uniform lambda would be 1/2.
    assert 0.25 < boxes.double().mean().item() < 0.5
    # A box is anywhere: where it lies in one direction says nothing of the other.
    some = boxes.flatten(1).any(1)
    places = torch.arange(16.0)
    middles = [(line * places).sum(1)[some] / line.sum(1)[some] for line in (rows, columns)]
    assert torch.corrcoef(torch.stack(middles))[0, 1].abs().item() < 4 / some.sum().item() ** 0.5


def test_some_images_stay_as_they_are():
    images, made = mixed(share=0.25)
    untouched = (made == images).flatten(1).all(1).double().mean().item()
    assert untouched == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / COUNT) ** 0.5)


def test_both_images_are_augmented_before():
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8)
    index, view = torch.arange(8), torch.full((8,), 2)
    inner = CropFlip(padding=1)
    plain = Mixed(images, inner=inner)(images, index, view)
    before = inner(images, index, view)
    assert plain.equal(Mixed(before)(before, index, view))
    # Where the share of the other is zero, only the inner augmentation is left.
    alone = Mixed(images, inner=inner, share=1e-12)(images, index, view)
    assert torch.allclose(alone, inner(images, index, view).float() / 255)
    assert not torch.allclose(plain, alone)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def test_a_store_of_mixed_images_is_exact_and_labels_may_not_count(tmp_path):
    images = torch.rand(32, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32) % 3
    data = lb.Data((images, labels), augment=Mixed(images, kind="cutmix"))
    teacher = network()
    with torch.no_grad():
        teacher[1].weight.mul_(3)
    options = {"loss": "kd", "epochs": 3, "batch_size": 32, "device": "cpu", "progress": False}
    options |= {"learning_rate": 0.01}
    store = lb.cache(teacher, data, tmp_path / "store", views=3, batch_size=32, device="cpu")
    with pytest.raises(PreflightError, match=r"labels are not mixed.*weight=1.0"):
        lb.distill(network(), store, data, **options)
    unlabelled = lb.Data(images, augment=Mixed(images, kind="cutmix"))
    for given, weight in ((data, 1.0), (unlabelled, None)):
        stored, live = (
            lb.distill(network(), guide, given, weight=weight, force=True, views=3, **options)
            for guide in (store, teacher)
        )
        assert not any("labels are not mixed" in text for text in stored.record.warnings)
        for name, curve in live.record.curves.items():
            assert stored.record.curves[name] == pytest.approx(curve, rel=1e-5), name
    other = data.viewed(Mixed(images, kind="cutmix", seed=1))
    with pytest.raises(StoreError, match="augmentation Mixed"):
        store.on(other)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "cutout"}, ArgumentError, "one of mixup, cutmix"),
        ({"alpha": 0.0}, ArgumentError, "`alpha` > 0"),
        ({"share": 0.0}, ArgumentError, "`share` in"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        Mixed(flat(4), **options)


def test_wrong_images_are_named():
    with pytest.raises(ShapeError, match="all images"):
        Mixed(torch.rand(4, 6))
    with pytest.raises(ShapeError, match="as those to mix with"):
        Mixed(flat(4))(torch.rand(2, 1, 8, 8), torch.arange(2), torch.arange(2))
