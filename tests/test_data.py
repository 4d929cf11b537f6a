"""Everything that may be given as data, and what comes out of it."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from limbeck import Data
from limbeck.checks import ArgumentError, DataError


X = torch.arange(12, dtype=torch.float32).reshape(6, 2)
Y = torch.tensor([0, 1, 2, 0, -1, 2])


class Pairs(Dataset):
    """A map-style data set that says which items were read."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[0], 0)])


class NoLength(Dataset):
    def __getitem__(self, row):
        return X[row], 0


PAIRS = Pairs([(x, int(y)) for x, y in zip(X, Y, strict=True)])


def stacked(items):
    return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])


def served(data, index, view=None):
    rows = torch.tensor(index)
    views = torch.zeros_like(rows) if view is None else torch.tensor(view)
    (batch,) = data.batches([(rows, views)])
    return batch


WITH_TARGETS = {
    "data set": lambda: PAIRS,
    "list of items": lambda: PAIRS.items,
    "subset": lambda: Subset(PAIRS, range(6)),
    "tensor data set": lambda: TensorDataset(X, Y),
    "tensors": lambda: (X, Y),
    "list of two arrays": lambda: [X.numpy(), Y.numpy()],
    "numpy": lambda: (X.numpy(), Y.numpy()),
    "list of targets": lambda: (X, Y.tolist()),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "list of tensors as targets": lambda: (X, list(Y)),
    "small integers": lambda: (X.numpy(), Y.numpy().astype(np.int8)),
    "big-endian": lambda: (X.numpy().astype(">f4"), Y.numpy().astype(">i4")),
    "reversed views": lambda: (X.numpy()[::-1].copy()[::-1], Y.numpy()[::-1].copy()[::-1]),
    "columns": lambda: (np.asfortranarray(X.numpy()), Y.numpy()),
    "loader": lambda: DataLoader(PAIRS, batch_size=4),
    "loader of tensors": lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    "loader with collation": lambda: DataLoader(PAIRS, collate_fn=stacked),
    "loader without batches": lambda: DataLoader(PAIRS, batch_size=None),
    "loader with a sampler of batches": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(SequentialSampler(PAIRS), 4, drop_last=True)
    ),
}


@pytest.mark.parametrize("kind", list(WITH_TARGETS))
def test_inputs_and_targets(kind):
    data = Data(WITH_TARGETS[kind]())
    assert len(data) == 6
    batch = served(data, [4, 1, 0])
    torch.testing.assert_close(batch.inputs, X[[4, 1, 0]], check_dtype=False)
    assert batch.targets.tolist() == [-1, 1, 0]
    assert batch.targets.dtype == torch.int64
    assert batch.index.tolist() == [4, 1, 0]
    assert batch.weights is None


@pytest.mark.parametrize(
    "source",
    [
        X,
        X.numpy(),
        TensorDataset(X),
        DataLoader(TensorDataset(X)),
        Pairs(list(X)),
        list(X),
        (X, None),
    ],
    ids=["tensor", "numpy", "tensor data set", "loader", "data set", "list", "pair with None"],
)
def test_inputs_alone(source):
    data = Data(source)
    batch = served(data, [3, 2])
    assert torch.equal(batch.inputs, X[[3, 2]])
    assert batch.targets is None
    assert data.targets is None


def test_read_only_memory_is_read_without_a_warning():
    frozen = X.numpy().copy()
    frozen.flags.writeable = False
    batch = served(Data((frozen, Y)), [1])
    batch.inputs.add_(1.0)
    assert frozen[1].tolist() == X[1].tolist()


NAMED = {"input_ids": torch.arange(12).reshape(6, 2), "mask": torch.ones(6, 2)}


@pytest.mark.parametrize(
    "source",
    [
        (NAMED, Y),
        (UserDict(NAMED), Y),
        NAMED | {"labels": Y},
        UserDict(NAMED | {"labels": Y.tolist()}),
        {name: part.tolist() for name, part in NAMED.items()} | {"label": Y.numpy()},
        Pairs([{k: v[i] for k, v in NAMED.items()} | {"labels": Y[i]} for i in range(6)]),
        Pairs([({k: v[i] for k, v in NAMED.items()}, Y[i]) for i in range(6)]),
        DataLoader(
            Pairs(list(range(6))),
            collate_fn=lambda rows: UserDict(
                {k: v[rows] for k, v in NAMED.items()} | {"labels": Y[rows]}
            ),
        ),
        DataLoader(
            Pairs(list(range(6))),
            collate_fn=lambda rows: (UserDict({k: v[rows] for k, v in NAMED.items()}), Y[rows]),
        ),
    ],
    ids=[
        "pair",
        "pair of Mapping",
        "dict",
        "Mapping",
        "lists",
        "items",
        "items in pairs",
        "collated Mapping",
        "collated pair",
    ],
)
def test_named_inputs(source):
    data = Data(source)
    assert len(data) == 6
    batch = served(data, [5, 0])
    assert isinstance(batch.inputs, dict)
    assert set(batch.inputs) == {"input_ids", "mask"}
    assert batch.inputs["input_ids"].tolist() == [[10, 11], [0, 1]]
    assert batch.targets.tolist() == [2, 0]


def test_a_loader_keeps_what_it_was_told():
    loader = DataLoader(PAIRS, batch_size=4, num_workers=2, collate_fn=stacked, shuffle=True)
    data = Data(loader)
    assert (data.batch_size, data.source.workers, data.source.collate) == (4, 2, stacked)
    got = [batch.inputs for batch in data.batches(data.in_order(4))]
    assert torch.equal(torch.cat(got), X)
    assert [len(part) for part in got] == [4, 2]
    assert Data(PAIRS).batch_size is None


def test_a_loader_over_some_rows_stays_with_them():
    data = Data(DataLoader(PAIRS, batch_size=2, sampler=SubsetRandomSampler([5, 0, 3])))
    assert len(data) == 3
    assert served(data, [0, 1, 2]).targets.tolist() == [2, 0, 0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), "got an IterableDataset"),
        (DataLoader(Stream()), "got an IterableDataset"),
        (DataLoader(NoLength(), sampler=[0]), "Give it __len__ and __getitem__"),
        (NoLength(), "got NoLength"),
        (3, "got int"),
        ("folder", "got str"),
        ((row for row in X), "got generator"),
        (Data((X, Y)), "got Data"),
    ],
)
def test_what_is_no_data(source, message):
    with pytest.raises(ArgumentError, match=message):
        Data(source)


def test_of():
    data = Data((X, Y))
    assert Data.of(data) is data
    assert Data.of((X, Y), name="validation").name == "validation"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((X[:0], Y[:0]), "at least one row; got none"),
        ([], "at least one row; got none"),
        ({}, "got rows"),
        ((X, Y[:5]), "rows: inputs 6, targets 5"),
        (({"a": X, "b": X[:2]}, Y), "rows: a 6, b 2, targets 6"),
        ((X, Y - 1), r"targets >= 0, or -1 .* got -2. For a regression"),
        ((X, list("abcdef")), "expected arrays of numbers; got list"),
        ((X, np.array(list("abcdef"))), "arrays of numbers; got ndarray"),
        ((X, np.array([None] * 6)), "arrays of numbers; got ndarray"),
        ((np.array([[1, 2], [3]], dtype=object), [0, 1]), "arrays of numbers"),
        ((X, [[1], [1, 2], 3, 4, 5, 6]), "arrays of numbers; got list"),
        (
            {"input_ids": [[1, 2], [3, 4]], "label": ["bad", "good"]},
            r"^data: targets: expected arrays .* Number the classes from 0; -1 marks",
        ),
        (
            {"text": ["so it is", "no"], "label": [0, 1]},
            r"^data: text: expected arrays .* tokenizer .*limbeck\.zoo\.text\.load_text",
        ),
        ({"tags": [["a", "b"], ["c", "d"]]}, r"^data: tags: .* A tokenizer"),
        (
            {"input_ids": [[1, 2], [3]], "label": [0, 1]},
            r"^data: input_ids: .* Pad the rows to one length",
        ),
        ((X[:1], 3), "one row a sample; got a single number"),
        ((X[:1], np.int64(3)), "one row a sample; got a single number"),
        (torch.tensor(1.0), "one row a sample; got a single number"),
        ((X, torch.tensor([0.0, 1, 2, torch.inf, 4, 5])), "finite targets.* in 1 places"),
    ],
)
def test_data_that_cannot_be_used(source, message):
    with pytest.raises(DataError, match=message):
        Data(source)


def spoiled(value):
    inputs = X.clone()
    inputs[[2, 4], 1] = value
    return inputs


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_row_that_is_not_finite_is_named(value):
    with pytest.raises(DataError, match=r"valid: inputs: .*in 2 places, first in row 2"):
        Data((spoiled(value), Y), name="valid")
    with pytest.raises(DataError, match=r"data: mask: .*first in row 2"):
        Data(({"mask": spoiled(value)}, Y))
    items = Data(Pairs(list(zip(spoiled(value), Y, strict=True))))
    with pytest.raises(DataError, match="in 1 places, first in row 4"):
        served(items, [0, 3, 4])


@pytest.mark.parametrize(
    ("items", "collate", "message"),
    [
        (
            [("a", 0), ("b", 1)],
            None,
            r"batches of type list \(tuple, Tensor\). Give the DataLoader",
        ),
        ([(X[0], X[1], 0)] * 2, None, r"type list \(Tensor, Tensor, Tensor\)"),
        ([{"text": "a"}] * 2, None, r"type dict \(list\)"),
        ([(X[0], "cat"), (X[1], "dog")], None, r"targets: .* numbers; got tuple .*Number the cl"),
        ([(X[0], -7)] * 2, None, "got -7"),
        (
            [(X[0], 0)] * 2,
            lambda items: stacked(items[:1]),
            "2 rows of inputs for as many items; got 1",
        ),
        ([(X[0], 0)] * 2, lambda items: (stacked(items)[0], [1]), "got 1 for 2 inputs"),
        ([(X[0], 0)] * 2, lambda _: 3, "batches of type int"),
    ],
)
def test_items_that_cannot_be_used(items, collate, message):
    loader = DataLoader(Pairs(items), collate_fn=collate)
    with pytest.raises(DataError, match=message):
        served(Data(loader), [0, 1])


def test_real_targets_stay_real_with_their_gaps():
    targets = torch.tensor([0.5, torch.nan, -3.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    for source in ((X, targets), Pairs(list(zip(X, targets, strict=True)))):
        batch = served(Data(source), [1, 2])
        assert batch.targets.dtype == torch.float64
        assert batch.targets[0].isnan()
        assert batch.targets[1] == -3.0


def test_truth_values_and_columns_of_targets():
    several = torch.tensor([[1, 0], [0, -1]] * 3)
    assert served(Data((X, several)), [1]).targets.tolist() == [[0, -1]]
    assert served(Data((X, several > 0)), [0]).targets.tolist() == [[1, 0]]


def test_pixels_are_scaled_after_augmentation():
    pixels = torch.tensor([[[[0, 255]]], [[[51, 102]]]], dtype=torch.uint8)
    seen = []

    def augment(inputs, index, view):
        seen.append(inputs.dtype)
        return inputs

    for data in (Data((pixels, [0, 1]), augment=augment), Data((pixels, [0, 1]))):
        batch = served(data, [1, 0])
        assert batch.inputs.dtype == torch.float32
        torch.testing.assert_close(batch.inputs.flatten(), torch.tensor([0.2, 0.4, 0.0, 1.0]))
    assert seen == [torch.uint8]
    assert pixels.max() == 255


def test_other_types_of_inputs_reach_the_model_as_they_are():
    for kind in (torch.int64, torch.float16, torch.float64, torch.bool):
        assert served(Data(X.to(kind)), [0]).inputs.dtype == kind
    tokens = {"mask": torch.ones(2, 2, dtype=torch.uint8)}
    assert served(Data((tokens, [0, 1])), [0]).inputs["mask"].dtype == torch.uint8


def test_augmentation_gets_the_position_and_the_view():
    data = Data(
        (X, Y), augment=lambda inputs, index, view: inputs + 100 * index[:, None] + view[:, None]
    )
    batch = served(data, [4, 0, 4], [1, 2, 3])
    assert batch.inputs.tolist() == [[409.0, 410.0], [2.0, 3.0], [411.0, 412.0]]
    assert batch.view.tolist() == [1, 2, 3]
    plain = data.viewed(None)
    assert served(plain, [4], [1]).inputs.tolist() == [[8.0, 9.0]]
    assert data.augment is not None
    assert served(plain.viewed(data.augment), [4], [1]).inputs.tolist() == [[409.0, 410.0]]


def test_named_inputs_are_augmented_as_they_are():
    data = Data((NAMED, Y), augment=lambda inputs, _, view: inputs | {"view": view})
    assert served(data, [0, 1], [5, 6]).inputs["view"].tolist() == [5, 6]


def test_in_order():
    plan = Data((X, Y)).in_order(4, view=3)
    assert [(index.tolist(), view.tolist()) for index, view in plan] == [
        ([0, 1, 2, 3], [3, 3, 3, 3]),
        ([4, 5], [3, 3]),
    ]


@pytest.mark.parametrize("source", [(X, Y), PAIRS], ids=["arrays", "items"])
@pytest.mark.parametrize(
    "index",
    [
        [5, 1],
        (5, 1),
        np.array([5, 1]),
        torch.tensor([5, 1]),
        torch.tensor([5, 1], dtype=torch.int32),
        [-1, 1],
    ],
)
def test_subset(source, index):
    data = Data(source, weights=[0.0, 1, 2, 3, 4, 5], class_names=["a", "b", "c"], name="mine")
    some = data.subset(index)
    assert len(some) == 2
    batch = served(some, [0, 1])
    assert batch.targets.tolist() == [2, 1]
    assert batch.index.tolist() == [0, 1]
    assert batch.weights.tolist() == [5.0, 1.0]
    assert (some.name, some.class_names) == ("mine", ["a", "b", "c"])
    assert len(data) == 6
    assert served(some.subset([1]), [0]).inputs.tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize("mask", [Y == 0, (Y == 0).numpy(), (Y == 0).tolist()])
def test_subset_by_a_mask(mask):
    some = Data((X, Y)).subset(mask)
    assert some.source.inputs.tolist() == X[[0, 3]].tolist()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "at least one row; got none"),
        ([False] * 6, "at least one row; got none"),
        ([6], r"from 0 to 5, .* got int64 of shape \(1,\) from 6 to 6"),
        ([-7], "from -7 to -7"),
        ([0.5], "got float64"),
        ([True, False], "mask of 6 truth values; got bool"),
        ([[0, 1]], r"shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize("source", [(X, Y), PAIRS], ids=["arrays", "items"])
def test_subset_refuses(source, index, message):
    with pytest.raises(DataError, match=message):
        Data(source).subset(index)


def test_weights():
    for weights in ([0, 1, 2, 3, 4, 5], np.arange(6), torch.arange(6)):
        batch = served(Data((X, Y), weights=weights), [5, 0])
        assert batch.weights.dtype == torch.float32
        assert batch.weights.tolist() == [5.0, 0.0]


@pytest.mark.parametrize(
    "weights", [[1.0] * 5, [[1.0]] * 6, [1.0] * 5 + [-0.1], [1.0] * 5 + [torch.nan], 2.0]
)
def test_weights_refuse(weights):
    with pytest.raises(DataError, match=r"`weights` of shape \(6,\), finite and not"):
        Data((X, Y), weights=weights)


def test_to_moves_arrays_and_leaves_items():
    data = Data((NAMED, Y), weights=[1.0] * 6)
    moved = data.to("meta")
    assert {part.device.type for part in moved.source.inputs.values()} == {"meta"}
    assert moved.source.targets.device.type == "meta"
    assert data.source.targets.device.type == "cpu"
    items = Data(PAIRS)
    assert items.to("meta") is items


def test_targets_at_hand():
    assert Data((X, Y)).targets.tolist() == Y.tolist()
    assert Data(PAIRS).targets is None


def test_batches_hand_out_copies():
    data = Data((X.clone(), Y))
    served(data, [0, 1]).inputs.zero_()
    assert torch.equal(served(data, [0, 1]).inputs, X[:2])
