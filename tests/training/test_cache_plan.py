"""What a store would take, against a teacher whose distribution is known."""

from __future__ import annotations

import pytest
import torch
from helpers.small import rows
from torch import nn

import limbeck as lb
from limbeck.checks import StoreError
from limbeck.training.cache_plan import plan_cache


class Always(nn.Module):
    """Says the same of every row: 1/2, 1/4, 1/4, and never the fourth class."""

    def __init__(self):
        super().__init__()
        law = torch.tensor([0.5, 0.25, 0.25, 0.0])
        self.law = nn.Parameter(law.log())

    def forward(self, x):
        return self.law.expand(len(x), -1)


def planned(tmp_path, **options):
    data = lb.Data(rows(400), augment=lambda inputs, index, view: inputs + view[:, None])
    return plan_cache(Always(), data, tmp_path / "store", views=3, device="cpu", **options)


def test_bytes_and_distances_by_hand(tmp_path):
    found = planned(tmp_path)
    assert not (tmp_path / "store").exists()
    assert (found.rows, found.views, found.bytes_per_row, found.looked_at) == (400, 3, 16, 400)
    assert found.seconds > 0
    kinds = {kind.keep: kind for kind in found.kinds if kind.dtype in ("fp32", "")}
    for kind in kinds.values():
        assert kind.bytes == kind.bytes_per_row * 400 * 3
    assert kinds["logits"].distance == pytest.approx(0.0, abs=1e-6)
    # A drawn label alone is off by one minus its probability: 1/2 half of the time, else 3/4.
    for name in ("hard_labels", "sampled_probability"):
        assert kinds[name].distance == pytest.approx(0.625, abs=4 * 0.125 / 20)
    # The three possible labels are all there is to know; the impossible one is marked as absent.
    assert kinds["top_k (4)"].distance == pytest.approx(0.0, abs=1e-6)
    assert kinds["hard_labels"].bytes_per_row == 4
    assert kinds["sampled_probability"].bytes_per_row == 8


def test_the_chosen_kind_comes_first_with_its_settings(tmp_path):
    found = planned(tmp_path, keep="top_k", k=2, temperature=2.0, dtype="fp16")
    first = found.kinds[0]
    assert (first.keep, first.dtype, first.privilege) == ("top_k (2)", "fp16", "top_k")
    # At T = 2: shares 0.4142, 0.2929 and 0.2929; half of what is missing.
    assert first.distance == pytest.approx(0.2929 / 2, abs=1e-3)
    greedy = planned(tmp_path, keep="hard_labels", greedy=True).kinds[0]
    assert (greedy.distance, greedy.in_the_mean) == (pytest.approx(0.5), "biased")


def test_features_alone_have_no_kinds(tmp_path):
    found = plan_cache(
        nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), rows(), tmp_path, keep="features",
        device="cpu",
    )  # fmt: skip
    assert found.kinds == ()
    assert found.columns == {"features.penultimate": "float32 [5]"}


class Padded(Always):
    """Marks the class that is never said by a large number, as language models do."""

    def forward(self, x):
        return super().forward(x).clamp_min(-1e9)


def test_kinds_that_cannot_hold_the_numbers_are_no_choice(tmp_path):
    found = plan_cache(Padded(), rows(20), tmp_path / "store", device="cpu")
    logits = [kind.dtype for kind in found.kinds if kind.keep == "logits"]
    assert logits == ["fp32", "bf16"]
    with pytest.raises(StoreError, match="that fp16 can hold"):
        plan_cache(Padded(), rows(20), tmp_path / "store", device="cpu", dtype="fp16")


class Many(torch.utils.data.Dataset):
    """More rows than float32 has whole numbers for."""

    def __len__(self):
        return 2**24 + 4

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return torch.tensor([float(index % 7)])


def test_the_last_of_many_rows(tmp_path):
    found = plan_cache(Always(), Many(), tmp_path / "store", keep="hard_labels", device="cpu")
    assert (found.rows, found.looked_at) == (2**24 + 4, 512)
