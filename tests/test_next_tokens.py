"""Which token follows which, against plain loops over every position."""

import pytest
import torch
from helpers.tokens import batch_of, ids_of
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, ShapeError
from limbeck.next_tokens import follows, next_tokens, token_ids
from limbeck.types import Batch


def by_hand(ids, targets, mask, documents):
    """Return the next tokens by a loop; documents numbers the document of every token."""
    found = []
    for b in range(len(ids)):
        row = []
        for t in range(len(ids[b])):
            good = t + 1 < len(ids[b])
            good = good and bool(mask[b][t]) and bool(mask[b][t + 1])
            good = good and documents[b][t] == documents[b][t + 1]
            row.append(int(targets[b][t + 1]) if good and targets[b][t + 1] >= 0 else -1)
        found.append(row)
    return found


def positions_of(documents):
    return [[t - row.index(row[t]) for t in range(len(row))] for row in documents]


rows = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(sorted)


@settings(deadline=None)
@given(rows, rows, st.integers(0, 99))
def test_borders_padding_and_labels_by_a_loop(first, second, seed):
    length = min(len(first), len(second))
    documents = [first[:length], second[:length]]
    ids = ids_of(2, length, seed=seed)
    targets = ids.masked_fill(ids % 3 == 0, -100)
    mask = torch.ones_like(ids)
    mask[1, length // 2 + 1 :] = 0
    expected = by_hand(ids, targets, mask.tolist(), documents)
    numbers = torch.tensor(documents)
    whole = torch.ones(2, length, length).tril() * (numbers[:, :, None] == numbers[:, None, :])
    whole = (whole * mask[:, None, :] * mask[:, :, None])[:, None]
    forms = {
        "positions": {"attention_mask": mask, "position_ids": positions_of(documents)},
        "sequence_ids": {"attention_mask": mask, "sequence_ids": documents},
        "seq_idx": {"attention_mask": mask, "seq_idx": documents},
        "numbered mask": {"attention_mask": (numbers + 1) * mask},
        "square": {"attention_mask": whole.bool()},
        "added": {"attention_mask": (whole - 1.0) * 1e9},
    }
    for form in forms.values():
        inputs = {key: torch.as_tensor(value) for key, value in form.items()}
        assert next_tokens(batch_of(ids, targets, **inputs)).tolist() == expected


def test_without_targets_every_token_is_one():
    ids = ids_of(2, 5)
    expected = [[*row[1:], -1] for row in ids.tolist()]
    assert next_tokens(batch_of(ids)).tolist() == expected
    plain = Batch(ids, None, torch.arange(2), torch.zeros(2, dtype=torch.int64))
    assert next_tokens(plain).tolist() == expected
    scores = torch.randn(2, 5, 11)  # a teacher's, which stand in for targets
    assert next_tokens(batch_of(ids, scores)).tolist() == expected
    assert token_ids(plain) is ids


def test_left_padding():
    ids = ids_of(1, 5)
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    places = torch.tensor([[1, 1, 0, 1, 2]])  # as transformers numbers them
    for inputs in ({"attention_mask": mask}, {"attention_mask": mask, "position_ids": places}):
        assert follows(batch_of(ids, **inputs)).tolist() == [[False, False, True, True, False]]


def test_one_mask_of_documents_for_all_rows():
    seen = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]])[None, None].bool()
    found = follows(batch_of(ids_of(4, 3), attention_mask=seen))
    assert found.tolist() == [[True, False, False]] * 4


def test_a_row_of_one_token_has_no_next():
    assert next_tokens(batch_of(ids_of(2, 1))).tolist() == [[-1], [-1]]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (batch_of(ids_of(2, 3), ids_of(2, 2)), ShapeError, r"\(2, 3\), aligned.*got \(2, 2\)"),
        (batch_of(ids_of(2, 3), torch.zeros(2, dtype=torch.int64)), ShapeError, r"got \(2,\)"),
        (batch_of(ids_of(2, 3), attention_mask=ids_of(2, 4)), ShapeError, r"\[batch, heads, 3, 3"),
        (batch_of(ids_of(2, 3), position_ids=ids_of(1, 3)), ShapeError, "`position_ids`"),
        (batch_of(torch.zeros(2, 3)), ArgumentError, "keys input_ids"),
        (Batch({}, ids_of(2, 3), *[torch.arange(2)] * 2), ArgumentError, "keys none"),
        (Batch(torch.zeros(2, 3), None, *[torch.arange(2)] * 2), ArgumentError, r"float32 \(2, 3"),
    ],
)
def test_what_does_not_fit_is_refused(batch, error, message):
    with pytest.raises(error, match=message):
        next_tokens(batch)
