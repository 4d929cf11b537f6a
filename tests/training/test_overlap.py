"""Held-out rows that are training rows are said, where that is certain."""

import pytest
import torch
from helpers.small import QUICK, network, rows
from torch.utils.data import Dataset, Subset

import limbeck as lb
from limbeck.training.overlap import check_overlap


class Rows(Dataset):
    """Items of :func:`rows`, read one by one."""

    def __init__(self):
        self.rows = rows()

    def __len__(self):
        return 48

    def __getitem__(self, at):
        return self.rows[0][at], self.rows[1][at]


X, Y = rows()
ITEMS = Rows()
NUMPY = X.numpy()


@pytest.mark.parametrize(
    ("train", "held_out", "shared"),
    [
        ((X, Y), (X, Y), 48),
        ((X[:30], Y[:30]), (X[20:], Y[20:]), 10),
        ((X[:30], Y[:30]), (X[30:], Y[30:]), 0),
        ((X, Y), (X.clone(), Y), 0),  # copies are not looked for
        ((X, Y), (X[::2], Y[::2]), 0),  # nor rows that do not lie side by side
        ((NUMPY[:30], Y[:30]), (NUMPY[20:40], Y[20:40]), 10),
        ({"a": X, "b": X[:, :2]}, {"a": X, "b": X[:, :2].clone()}, 0),
        ({"a": X, "labels": Y}, {"a": X, "labels": Y}, 48),
        (ITEMS, ITEMS, 48),
        (ITEMS, Rows(), 0),
        (Subset(ITEMS, [0, 1, 2, 3]), Subset(ITEMS, [3, 2, 9]), 2),
        (Subset(Subset(ITEMS, [8, 9, 10]), [1]), Subset(ITEMS, [9, 1]), 1),
        (Subset(Subset(ITEMS, [8, 9, 10]), [1]), Subset(ITEMS, [8, 1]), 0),
        ((X, Y), ITEMS, 0),
    ],
)
def test_rows_that_are_surely_shared_are_counted(train, held_out, shared):
    found = check_overlap(lb.Data(train), validation=lb.Data(held_out), test=None)
    expected = [f"validation: {shared} of its rows are training rows too"] if shared else []
    assert [one.text.partition(",")[0] for one in found] == expected
    assert all(one.level == "warning" for one in found)


def test_shared_rows_stand_in_the_record():
    other = rows(24, seed=4)
    record = lb.distill(network(), None, (X, Y), validation=(X, Y), test=other, **QUICK).record
    assert [text[:24] for text in record.warnings] == ["validation: 48 of its ro"]
    data = lb.Data((NUMPY.copy(), Y))
    record = lb.distill(network(), None, data, validation=other, test=data, **QUICK).record
    assert [text[:18] for text in record.warnings] == ["test: 48 of its ro"]
    assert torch.equal(data.source.inputs, X)
