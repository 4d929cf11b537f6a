"""What a store depends on, told apart by what it is and not by what it is called."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from limbeck.checks import ArgumentError, StoreError
from limbeck.data import Data
from limbeck.store import data_fingerprint, fingerprint, teacher_fingerprint
from limbeck.store.fingerprint import probe_rows


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()


def test_the_same_network_in_any_place():
    first, again = teacher_fingerprint(network()), teacher_fingerprint(network())
    assert first == again
    assert first.difference(again) is None
    assert (first.name, first.parameters, first.precision) == ("Sequential", 34, "fp32")
    loaded = network(1)
    loaded.load_state_dict(network().state_dict())
    assert teacher_fingerprint(loaded) == first
    assert teacher_fingerprint(torch.compile(network(), backend="eager")) == first
    columns_first = network()
    columns_first[0].weight.data = columns_first[0].weight.data.t().contiguous().t()
    assert teacher_fingerprint(columns_first) == first


def one_bit(net):
    net[2].weight.data.view(torch.int32)[1, 3] ^= 1


def a_buffer(net):
    net[1].running_var[2] += 1e-6


def another_type(net):
    net[2].half()


def another_shape(net):
    net[2].weight = nn.Parameter(net[2].weight.data.reshape(4, 2))


def another_name(net):
    net.add_module("3", nn.Linear(1, 1, bias=False))


@pytest.mark.parametrize(
    "change",
    [one_bit, a_buffer, another_type, another_shape, another_name],
    ids=lambda f: f.__name__,
)
def test_another_network(change):
    changed = network()
    change(changed)
    before, after = teacher_fingerprint(network()), teacher_fingerprint(changed)
    assert before.digest != after.digest
    told = before.difference(after)
    assert f"teacher weights {before.digest[:12]} (Sequential, 34 parameters) in the store" in told
    assert f"{after.digest[:12]} (Sequential, " in told


def test_same_weights_elsewhere():
    class Other(nn.Sequential):
        pass

    told = teacher_fingerprint(network()).difference(teacher_fingerprint(Other(*network())))
    assert told == "a teacher of class Sequential in the store, Other now"
    narrow = teacher_fingerprint(network(), "bf16")
    assert narrow.difference(teacher_fingerprint(network())) == (
        "a teacher in bf16 in the store, in fp32 now"
    )


def test_weights_of_any_kind():
    module = nn.Module()
    for name, value in {
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0),
        "brain": torch.zeros(2, dtype=torch.bfloat16),
        "complex": torch.ones(2, dtype=torch.complex64),
        "flags": torch.tensor([True, False]),
        "sparse": torch.eye(3).to_sparse(),
    }.items():
        module.register_buffer(name, value)
    before = teacher_fingerprint(module).digest
    module.sparse = 2 * torch.eye(3).to_sparse()
    assert teacher_fingerprint(module).digest != before


def test_what_is_no_teacher(without_shape_hook):
    with pytest.raises(ArgumentError, match="the teacher as a torch module; got function"):
        teacher_fingerprint(lambda batch: batch)
    with pytest.raises(ArgumentError, match=r"0\.weight is on the meta device"):
        teacher_fingerprint(nn.Sequential(nn.Linear(2, 2, device="meta")))


def arrays(rows=30):
    return torch.arange(rows * 6, dtype=torch.float32).reshape(rows, 2, 3)


def test_arrays_are_read_wholly():
    x = arrays()
    first = data_fingerprint(Data((x, torch.zeros(30))))
    assert (first.rows, first.method) == (30, "all")
    assert data_fingerprint(Data((x.numpy(), torch.ones(30)), name="other")) == first
    assert data_fingerprint(Data(x, augment=lambda x, i, v: x + 1)) == first
    for changed in (x.double(), x.reshape(30, 3, 2), x.flip(0), {"inputs": x, "mask": x > 3}):
        other = data_fingerprint(Data(changed))
        assert other.digest != first.digest
        assert first.difference(other) == (
            f"data {first.digest[:12]} in the store, {other.digest[:12]} now"
        )
    x = x.clone()
    x[29, 1, 2] += 1
    assert data_fingerprint(Data(x)).digest != first.digest


def test_dicts_whatever_their_order():
    x = {"ids": arrays().long(), "mask": arrays() > 3}
    turned = dict(reversed(x.items()))
    assert data_fingerprint(Data(x)) == data_fingerprint(Data(turned))
    swapped = {"ids": x["ids"], "other": x["mask"]}
    assert data_fingerprint(Data(x)).digest != data_fingerprint(Data(swapped)).digest


def test_fewer_rows():
    told = data_fingerprint(Data(arrays())).difference(data_fingerprint(Data(arrays(29))))
    assert told == "data of 30 rows in the store, 29 rows now"


class Images(Dataset):
    """Items of a data set, as torchvision's are."""

    def __init__(self, rows=500, noise=None, changed=()):
        self.rows, self.noise, self.changed = rows, noise, changed
        self.read = []

    def __len__(self):
        return self.rows

    def __getitem__(self, index):
        self.read.append(index)
        image = torch.full((2, 2), float(index))
        if index in self.changed:
            image = -image
        return (image if self.noise is None else image + self.noise(index)), index % 3


def test_items_are_probed():
    images = Images()
    first = data_fingerprint(Data(images))
    assert (first.rows, first.method) == (500, "probes")
    assert len(images.read) == 2 * 64
    assert {0, 499} < set(images.read)
    assert data_fingerprint(Data(Images())) == first
    assert data_fingerprint(Data(DataLoader(Images(), batch_size=7, num_workers=2))) == first
    for place in (0, 499, sorted(set(images.read))[20]):
        assert data_fingerprint(Data(Images(changed=[place]))).digest != first.digest


def test_large_arrays_are_probed(monkeypatch):
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 30 * 6 * 4 - 1)
    small = data_fingerprint(Data(arrays()))
    assert small.method == "probes"
    whole_rows = arrays(500)
    first = data_fingerprint(Data(whole_rows))
    whole_rows[499] += 1
    assert data_fingerprint(Data(whole_rows)).digest != first.digest


def test_items_of_many_lengths_are_not_padded():
    def padded(items):
        return torch.nn.utils.rnn.pad_sequence([item[0] for item in items], batch_first=True)

    texts = [(torch.arange(1 + i % 5), 0) for i in range(20)]
    loader = DataLoader(texts, batch_size=4, collate_fn=padded)
    assert data_fingerprint(Data(loader)).rows == 20


@pytest.mark.parametrize(
    "noise",
    [
        lambda _: torch.rand(1),
        lambda _: float(np.random.default_rng().random()),
        lambda index: torch.rand(1) * (index == 499),
    ],
)
def test_random_data_sets_are_refused(noise):
    data = Data(Images(noise=noise), name="train")
    with pytest.raises(
        StoreError, match=r"train that is the same whenever it is read; row \d+ .*augment="
    ):
        data_fingerprint(data)


def test_the_global_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    data_fingerprint(Data(Images()))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("rows", "count"), [(1, 64), (64, 64), (65, 64), (1000, 64), (10**7, 16)])
def test_probes_are_spread_over_the_data(rows, count):
    found = probe_rows(rows, count)
    assert torch.equal(found, probe_rows(rows, count))
    assert (found.diff() > 0).all()
    assert (found[0], found[-1]) == (0, rows - 1)
    assert len(found) == min(rows, count)
    gaps = found.diff().tolist()
    assert max(gaps, default=0) <= 2 * rows / (count - 2)
