"""What may be kept, and what it takes on disk."""

from dataclasses import replace

import pytest
import torch
from store.small_store import CLASSES, LAYERS, said

from limbeck.checks import ArgumentError
from limbeck.store import Column, Keep, bytes_per_row, encode
from limbeck.store.sizes import planned_columns


@pytest.mark.parametrize(
    ("text", "settings", "privilege", "drawn"),
    [
        ("logits", {}, "soft_labels", False),
        ("features + logits", {"dtype": "bf16"}, "soft_labels", False),
        ("top_k", {"k": 3, "temperature": 2.0}, "top_k", False),
        ("sampled_counts", {"draws": 9, "seed": -4}, "sampled_probabilities", True),
        ("sampled_probability", {"dtype": "fp16"}, "sampled_probabilities", True),
        ("hard_labels", {"seed": 5, "temperature": 2.0}, "hard_labels", True),
        ("hard_labels", {"greedy": True}, "hard_labels", False),
        ("hard_labels+features", {"dtype": "fp16"}, "hard_labels", True),
        ("features", {"dtype": "fp16"}, None, False),
    ],
)
def test_kinds(text, settings, privilege, drawn):
    keep = Keep.of(text, **settings)
    assert keep.privilege == privilege
    assert keep.drawn is drawn
    assert keep.features == ("features" in text)
    assert keep.kind == text.replace("features + ", "").split("+")[0]
    assert Keep.of(keep) is keep
    assert keep == replace(keep)


def test_defaults():
    assert (Keep.of("top_k").k, Keep.of("top_k").draws) == (20, None)
    assert (Keep.of("sampled_counts").draws, Keep.of("sampled_probability").draws) == (50, 1)
    assert Keep.of("logits") == Keep()


@pytest.mark.parametrize(
    ("text", "settings", "match"),
    [
        ("logit", {}, "got 'logit'. Did you mean logits"),
        ("logits+top_k", {}, "expected one kind of answers, alone or with features"),
        ("features+features", {}, "expected one kind"),
        ("logits", {"dtype": "int8"}, "`dtype` to be one of fp32, fp16, bf16; got 'int8'"),
        ("top_k", {"k": 0}, "`k` to be a whole number >= 1; got 0"),
        ("top_k", {"k": True}, "`k` to be a whole number"),
        ("sampled_counts", {"draws": 2.5}, "`draws` to be a whole number"),
        ("top_k", {"temperature": 0.0}, "expected `temperature` > 0"),
        ("logits", {"k": 3}, "expected no `k` with logits, which it does nothing for; got 3"),
        ("logits", {"temperature": 2.0}, "expected no `temperature` with logits"),
        ("logits", {"seed": 1}, "expected no `seed` with logits"),
        ("top_k", {"draws": 3}, "expected no `draws` with top_k"),
        ("sampled_probability", {"draws": 2}, "expected no `draws` with sampled_probability"),
        ("hard_labels", {"dtype": "fp16"}, "expected no `dtype` with hard_labels"),
        ("hard_labels", {"greedy": True, "seed": 1}, "expected no `seed` with hard_labels"),
        ("logits", {"greedy": True}, "expected no `greedy` with logits"),
    ],
)
def test_refused(text, settings, match, without_shape_hook):
    with pytest.raises(ArgumentError, match=match):
        Keep.of(text, **settings)


def test_nothing_to_keep():
    with pytest.raises(ArgumentError, match="expected a kind of answers, features or both"):
        Keep(None)
    with pytest.raises(ArgumentError, match=r"expected settings inside of Keep\(...\); got dtype"):
        Keep.of(Keep(), dtype="fp16")


KEEPS = [
    Keep.of("logits"),
    Keep.of("logits+features", dtype="fp16"),
    Keep.of("features", dtype="bf16"),
    Keep.of("top_k", k=4, dtype="fp16"),
    Keep.of("top_k", k=CLASSES),
    Keep.of("sampled_counts", draws=3, dtype="bf16"),
    Keep.of("sampled_counts", draws=30),
    Keep.of("sampled_probability"),
    Keep.of("hard_labels"),
    Keep.of("hard_labels+features", greedy=True),
]


@pytest.mark.parametrize("keep", KEEPS, ids=str)
def test_planned_columns_are_those_that_are_written(keep):
    index = torch.arange(5)
    found = encode(said(index, 1), index, 1, keep)
    assert planned_columns(keep, CLASSES, LAYERS) == {
        name: Column.of(values) for name, values in found.items()
    }
    written = sum(values.nbytes for values in found.values())
    assert 5 * bytes_per_row(keep, CLASSES, LAYERS) == written


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Keep.of("logits"), 400),
        (Keep.of("logits", dtype="fp16"), 200),
        (Keep.of("top_k", k=10, dtype="fp16"), 10 * (4 + 2) + 2),
        (Keep.of("sampled_counts", draws=12, dtype="fp16"), 12 * (4 + 2 + 4)),
        (Keep.of("sampled_probability"), 8),
        (Keep.of("hard_labels"), 4),
        (Keep.of("features", dtype="bf16"), 2 * (3 + 4)),
    ],
)
def test_bytes_by_hand(keep, expected):
    assert bytes_per_row(keep, 100, LAYERS) == expected


def test_bytes_of_tokens():
    assert bytes_per_row(Keep.of("top_k", k=2), (5, 100)) == 5 * (2 * 8 + 4)


def test_what_a_size_needs():
    with pytest.raises(ArgumentError, match="expected `classes` with logits"):
        bytes_per_row(Keep())
    with pytest.raises(ArgumentError, match="expected `widths`"):
        bytes_per_row(Keep.of("features"))
    with pytest.raises(ArgumentError, match="`k` of at most 10, the number of classes; got 20"):
        bytes_per_row(Keep.of("top_k"), 10)
