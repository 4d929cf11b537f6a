import gzip
import hashlib
import io
import lzma
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from limbeck.checks import ArgumentError, DataError
from limbeck.zoo.data import CropFlip, Shift, load_dataset
from limbeck.zoo.data.splits import stratified


def pixels(rows, *shape, seed=0, high=256):
    return np.random.default_rng(seed).integers(0, high, (rows, *shape), dtype=np.uint8)


def classes(rows, count):
    return (np.arange(rows) * 7 % count).astype(np.uint8)


def images_of(data):
    return data.source.inputs


def as_set(data):
    return {row.tobytes() for row in images_of(data).numpy()}


def shared_data():
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("LIMBECK_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs the data folder {folder}; name another in LIMBECK_SHARED_DATA")
    return folder


# ---- writers of the original formats


def idx(array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(
    folder, *, ending="", images_name="images-idx3-ubyte", labels_name="labels-idx1-ubyte"
):
    pack = gzip.compress if ending == ".gz" else bytes
    parts = {
        "train": (pixels(40, 6, 5), classes(40, 10)),
        "t10k": (pixels(20, 6, 5, seed=1), classes(20, 10)),
    }
    for part, (x, y) in parts.items():
        (folder / f"{part}-{images_name}{ending}").write_bytes(pack(idx(x)))
        (folder / f"{part}-{labels_name}{ending}").write_bytes(pack(idx(y)))
    return parts["train"], parts["t10k"]


def cifar_parts(count, rows=20):
    train = [(pixels(rows, 3072, seed=n), classes(rows, count)) for n in range(5)]
    return train, (pixels(rows, 3072, seed=9), classes(rows, count))


def python2_pickle(labels_key, x, y, *, column_major=False):
    """A batch as python 2 and numpy 1 wrote it: protocol 2, byte strings, array by _reconstruct."""

    def text(value):
        return b"T" + struct.pack("<I", len(value)) + value

    def whole(value):
        return b"J" + struct.pack("<i", value)

    kind = b"cnumpy\ndtype\n" + text(b"u1") + whole(0) + whole(1) + b"\x87R"
    kind += b"(" + whole(3) + text(b"|") + b"NNN" + whole(-1) + whole(-1) + whole(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    array += whole(0) + b"\x85" + text(b"b") + b"\x87R"
    array += b"(" + whole(1) + whole(x.shape[0]) + whole(x.shape[1]) + b"\x86" + kind
    array += b"\x88" if column_major else b"\x89"
    array += text(x.tobytes(order="F" if column_major else "C")) + b"tb"
    numbers = b"](" + b"".join(whole(int(value)) for value in y) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(labels_key) + numbers + b"u."


def write_cifar(folder, count, kind, encode):
    """Write all files of one archive into ``folder``; return its training and test arrays."""
    folder.mkdir(exist_ok=True)
    train, test = cifar_parts(count)
    if count == 100:
        x, y = (np.concatenate(part) for part in zip(*train, strict=True))
        train = [(x, y)]
        names = ["train", "test"]
    else:
        names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    for name, (x, y) in zip(names, [*train, test], strict=True):
        (folder / f"{name}{kind}").write_bytes(encode(x, y))
    x, y = (np.concatenate(part) for part in zip(*train, strict=True))
    return (x, y), test


def binary10(x, y):
    return np.concatenate([y[:, None], x], axis=1).tobytes()


def binary100(x, y):
    return np.concatenate([y[:, None] // 5, y[:, None], x], axis=1).tobytes()


def expect(data, x, y):
    """Check one part against arrays of the same order."""
    np.testing.assert_array_equal(
        images_of(data).numpy().reshape(len(x), -1), x.reshape(len(x), -1)
    )
    assert images_of(data).dtype == torch.uint8
    assert data.targets.tolist() == y.tolist()


# ---- digits and the parts


def test_digits_are_all_there_and_scaled():
    digits = load_dataset("digits")
    assert (digits.classes, digits.channels, digits.size) == (10, 1, (8, 8))
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1132, 126, 539)
    x, y = load_digits(return_X_y=True)
    everything = torch.cat(
        [images_of(part) for part in (digits.train, digits.validation, digits.test)]
    )
    scaled = np.floor(x / 16 * 255 + 0.5).astype(np.uint8)
    got = sorted(row.tobytes() for row in everything.numpy().reshape(-1, 64))
    assert got == sorted(row.tobytes() for row in scaled)
    for name in range(10):
        held = [
            int((part.targets == name).sum())
            for part in (digits.train, digits.validation, digits.test)
        ]
        assert sum(held) == int((y == name).sum())
        assert abs(held[2] - 0.3 * sum(held)) <= 1
        assert abs(held[1] - 0.1 * (held[0] + held[1])) <= 1


def test_a_batch_of_digits_is_float_in_0_1_and_only_train_is_augmented():
    digits = load_dataset("digits")
    (batch, *_) = digits.test.batches(digits.test.in_order(16, view=3))
    torch.testing.assert_close(batch.inputs, images_of(digits.test)[:16].float() / 255)
    (batch, *_) = digits.train.batches(digits.train.in_order(16, view=3))
    assert not torch.equal(batch.inputs, images_of(digits.train)[:16].float() / 255)
    assert digits.test.augment is None
    assert digits.validation.augment is None


def test_the_test_part_never_moves_and_the_validation_part_moves_with_its_seed():
    one, two = load_dataset("digits"), load_dataset("digits", split_seed=5, validation=0.3)
    assert torch.equal(images_of(one.test), images_of(two.test))
    again = load_dataset("digits")
    assert torch.equal(images_of(one.validation), images_of(again.validation))
    other = load_dataset("digits", split_seed=5)
    assert not torch.equal(images_of(one.validation), images_of(other.validation))
    assert load_dataset("digits", validation=0.0).validation is None
    assert len(load_dataset("digits", validation=0.0).train) == 1132 + 126


def numbered(folder, rows, count):
    """An .npz whose images all differ."""
    x = np.zeros((rows, 4, 4), np.uint8)
    x[:, 0, 0], x[:, 0, 1] = np.arange(rows) % 256, np.arange(rows) // 256
    np.savez(folder / "data.npz", x=x, y=classes(rows, count))
    return x


def test_parts_share_no_row_and_lose_none(tmp_path):
    x = numbered(tmp_path, 1000, 5)
    data = load_dataset("npz", folder=tmp_path, validation=0.2)
    parts = [as_set(part) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [560, 140, 300]
    assert set.union(*parts) == {row.tobytes() for row in x[:, None]}
    for part in (data.train, data.validation, data.test):
        counts = part.targets.bincount()
        assert counts.tolist() == [len(part) // 5] * 5


def test_shares_are_largest_remainders_and_no_class_is_lost():
    labels = torch.tensor([0] * 700 + [1] * 295 + [2] * 4 + [3])
    chosen = labels[stratified(labels, 100, 0, "test of it")]
    assert chosen.bincount().tolist() == [68, 30, 1, 1]  # of 70, 29.5, 0.4 and 0.1
    assert labels[stratified(labels, 4, 0, "test of it")].tolist() == [0, 1, 2, 3]
    everything = stratified(labels, 1000, 0, "test of it")
    assert torch.equal(everything, torch.arange(1000))


def test_choices_are_even_over_rows():
    labels = torch.zeros(50, dtype=torch.int64)
    hits = torch.zeros(50)
    for seed in range(400):
        hits[stratified(labels, 10, seed, "evenness")] += 1
    assert float(((hits - 80) ** 2 / (80 * 0.8)).sum()) < 85.4  # 99.9 % of chi-square 49 (of 49/50)


def test_a_choice_for_another_purpose_is_another():
    labels = torch.zeros(1000, dtype=torch.int64)
    one, two = (set(stratified(labels, 500, 0, name).tolist()) for name in ("labels", "limit"))
    assert 200 < len(one & two) < 300


# ---- labels and limit


def test_labels_by_number_and_by_share():
    plain = load_dataset("digits", validation=0.0)
    few = load_dataset("digits", validation=0.0, labels=50)
    known = few.train.targets >= 0
    assert int(known.sum()) == 50
    assert few.train.targets[known].bincount().tolist() == [5] * 10
    assert torch.equal(few.train.targets[known], plain.train.targets[known])
    assert set(few.train.targets[~known].tolist()) == {-1}
    assert len(few.train) == len(plain.train)
    share = load_dataset("digits", validation=0.0, labels=0.5).train.targets
    assert int((share >= 0).sum()) == 629
    assert load_dataset("digits", labels=0).train.targets.unique().tolist() == [-1]
    assert torch.equal(
        load_dataset("digits", validation=0.0, labels=1.0).train.targets, plain.train.targets
    )
    assert int(few.test.targets.min()) == 0
    other = load_dataset("digits", validation=0.0, labels=50, split_seed=1)
    assert not torch.equal(other.train.targets, few.train.targets)


def test_validation_keeps_its_labels_and_its_rows_whatever_the_limit():
    plain = load_dataset("digits")
    small = load_dataset("digits", limit=100, labels=20)
    assert torch.equal(small.validation.targets, plain.validation.targets)
    assert torch.equal(images_of(small.validation), images_of(plain.validation))
    assert len(small.train) == 100
    assert int((small.train.targets >= 0).sum()) == 20
    assert as_set(small.train) <= as_set(plain.train)
    counts = load_dataset("digits", limit=100).train.targets.bincount()
    assert counts.tolist() == [10] * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"limit": 9},
            "expected `limit` to leave between 10 rows, one a class, and 1132, .* got 9",
        ),
        ({"limit": 5000}, "expected `limit` to leave between 10 rows, .* got 5000"),
        ({"labels": 9}, "expected `labels` to leave between 10 rows, .* got 9"),
        ({"labels": -3}, "expected `labels` to leave between 10 rows, .* got -3"),
        ({"labels": 1.5}, r"expected `labels` as a whole number or a share in \[0, 1\]; got 1.5"),
        ({"validation": 1.0}, r"expected `validation` in \[0, 1\); got 1.0"),
        ({"validation": -0.1}, r"expected `validation` in \[0, 1\); got -0.1"),
        (
            {"validation": 0.0001},
            "expected `validation` to hold at least one row; got a share of 0.0001",
        ),
        ({"validation": 0.999}, "expected `validation` to leave between 10 rows"),
        ({"augment": "cropflip"}, "expected `augment` to be one of .* Did you mean crop-flip"),
        (
            {"folder": "somewhere"},
            "expected no `folder` for digits, .* got somewhere. Leave it out",
        ),
        ({"size": 32}, "expected `size` for an image folder only; got 32 for digits"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ArgumentError, match="^load_dataset: " + message):
        load_dataset("digits", **arguments)


def test_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(ArgumentError, match=r"got 'cifar-10'. Did you mean cifar10"):
        load_dataset("cifar-10")


def test_augmentation_by_name(tmp_path):
    numbered(tmp_path, 100, 2)
    assert load_dataset("digits").train.augment == Shift(1)
    assert load_dataset("npz", folder=tmp_path).train.augment is None
    assert load_dataset("digits", augment="none").train.augment is None
    assert load_dataset("digits", augment="crop-flip").train.augment == CropFlip(4)
    assert load_dataset("digits", augment="shift").train.augment == Shift(1)
    assert load_dataset("digits", augment=CropFlip(3)).train.augment == CropFlip(3)


# ---- files that are not there


@pytest.mark.parametrize(
    ("name", "layout", "get"),
    [
        ("mnist", "train-images-idx3-ubyte", "torchvision"),
        ("cifar10", "data_batch_1.bin", "cs.toronto.edu"),
        ("cifar100", "train.bin", "cs.toronto.edu"),
        ("folder", "train/<class>/<name>.png", "a folder of its own"),
        ("npz", "one .npz file", "numpy.savez"),
    ],
)
def test_missing_files_say_what_was_looked_for(name, layout, get, tmp_path):
    with pytest.raises(
        DataError, match=f"expected `folder` for {name}, with .*{layout}.* got None.*{get}"
    ):
        load_dataset(name)
    with pytest.raises(DataError, match=f"{layout}.*absent; got no such folder.*{get}"):
        load_dataset(name, folder=tmp_path / "absent")
    with pytest.raises(DataError, match=f"{layout}.*got an empty folder.*{get}"):
        load_dataset(name, folder=tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=f"{layout}.*got notes.txt.*{get}"):
        load_dataset(name, folder=tmp_path)


def test_fashion_mnist_is_looked_for_where_debian_puts_it(tmp_path):
    (x, y), _ = write_idx(tmp_path)
    fashion = load_dataset("fashion-mnist", folder=tmp_path, validation=0.0)
    expect(fashion.train, x, y)
    assert fashion.class_names[9] == "Ankle boot"
    assert fashion.train.augment == CropFlip(2)
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        load_dataset("fashion-mnist", folder=tmp_path / "absent")
    if not Path("/usr/share/datasets/fashion-mnist").exists():
        with pytest.raises(DataError, match="in /usr/share/datasets/fashion-mnist; got no such"):
            load_dataset("fashion-mnist")


# ---- MNIST


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_round_trip(tmp_path, ending, joint):
    names = {"images_name": f"images{joint}idx3-ubyte", "labels_name": f"labels{joint}idx1-ubyte"}
    (x, y), (xt, yt) = write_idx(tmp_path, ending=ending, **names)
    mnist = load_dataset("mnist", folder=tmp_path, validation=0.0)
    expect(mnist.train, x, y)
    expect(mnist.test, xt, yt)
    assert (mnist.size, mnist.channels, mnist.classes) == ((6, 5), 1, 10)
    assert mnist.train.augment == Shift(2)


@pytest.mark.parametrize("ending", ["", ".xz", ".gz"])
def test_npy_round_trip(tmp_path, ending):
    pack = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}[ending]
    arrays = {"x_train": pixels(40, 6, 5), "y_train": classes(40, 10)}
    arrays |= {"x_test": pixels(20, 6, 5, seed=1), "y_test": classes(20, 10)}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        (tmp_path / f"{name}.npy{ending}").write_bytes(pack(buffer.getvalue()))
    mnist = load_dataset("mnist", folder=tmp_path, validation=0.0)
    expect(mnist.train, arrays["x_train"], arrays["y_train"])
    expect(mnist.test, arrays["x_test"], arrays["y_test"])


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "train-images-idx3-ubyte",
            lambda b: b[:-1],
            r"1216 bytes for an array of shape \(40, 6, 5\) .*; got 1215. Fetch it again",
        ),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "1216 bytes .*; got 1217"),
        ("train-images-idx3-ubyte", lambda b: b[:6], r"16 bytes for .*; got 6"),
        ("train-images-idx3-ubyte", lambda _: b"", "with magic number 2051 at .*; got 0"),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: b"\0\0\x08\x03" + b[4:],
            "with magic number 2049 at .*t10k-labels-idx1-ubyte; got 2051. Check that images and",
        ),
        (
            "t10k-images-idx3-ubyte",
            lambda _: idx(pixels(0, 6, 5)),
            "one label for each image in t10k-images-idx3-ubyte; got 0 images and 20",
        ),
        (
            "t10k-images-idx3-ubyte",
            lambda _: idx(pixels(20, 5, 5)),
            r"test images of the training images' shape \(1, 6, 5\) in mnist; got \(1, 5, 5\)",
        ),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: b[:-1] + b"\x0b",
            "labels from 0 to 9 in the test part of mnist; got labels from 0 to 11",
        ),
        (
            "train-labels-idx1-ubyte",
            lambda b: b[:8] + b"\4" * 40,
            "training rows of at least two classes in mnist; got 40 rows, all of class 4",
        ),
    ],
)
def test_damaged_idx_files(tmp_path, name, change, message):
    write_idx(tmp_path)
    damage(tmp_path, name, change)
    with pytest.raises(DataError, match="^load_dataset: expected .*" + message):
        load_dataset("mnist", folder=tmp_path)


def test_idx_without_rows(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels(0, 6, 5)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(classes(0, 10)))
    with pytest.raises(
        DataError, match=r"expected at least one image in train-images.*\(0, 6, 5, 1\)"
    ):
        load_dataset("mnist", folder=tmp_path)


@pytest.mark.parametrize("change", [lambda b: b[: len(b) // 2], lambda _: b"no gzip at all"])
def test_damaged_gzip(tmp_path, change):
    write_idx(tmp_path, ending=".gz")
    damage(tmp_path, "train-images-idx3-ubyte.gz", change)
    with pytest.raises(
        DataError, match=r"expected a whole file .*train-images-idx3-ubyte.gz; got one"
    ):
        load_dataset("mnist", folder=tmp_path)


class Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_npy_of_objects_is_refused(tmp_path):
    sprung = tmp_path / "sprung"
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.save(tmp_path / f"{name}.npy", np.array([Trap(sprung)], dtype=object))
    with pytest.raises(DataError, match=r"expected a whole file .*npy; got one .*allow_pickle"):
        load_dataset("mnist", folder=tmp_path)
    assert not sprung.exists()


# ---- CIFAR, the original archives


LAYOUTS = [
    (10, ".bin", binary10, "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
    (100, ".bin", binary100, "cifar-100-binary", "cifar-100-binary.tar.gz"),
    (10, "", lambda x, y: python2_pickle(b"labels", x, y), "cifar-10-batches-py",
     "cifar-10-python.tar.gz"),
    (100, "", lambda x, y: python2_pickle(b"fine_labels", x, y), "cifar-100-python",
     "cifar-100-python.tar.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("count", "kind", "encode", "inner", "archive"), LAYOUTS)
@pytest.mark.parametrize("where", ["here", "inside", "packed", "archive itself"])
def test_cifar_round_trip(tmp_path, where, count, kind, encode, inner, archive):
    files = tmp_path if where == "here" else tmp_path / inner
    (x, y), (xt, yt) = write_cifar(files, count, kind, encode)
    folder = tmp_path
    if where in ("packed", "archive itself"):
        folder = tmp_path / "packed"
        folder.mkdir()
        with tarfile.open(folder / archive, "w:gz") as packed:
            packed.add(files, inner)
        folder = folder if where == "packed" else folder / archive
    cifar = load_dataset(f"cifar{count}", folder=folder, validation=0.0)
    expect(cifar.train, x, y)
    expect(cifar.test, xt, yt)
    assert (cifar.classes, cifar.channels, cifar.size) == (count, 3, (32, 32))
    assert cifar.train.augment == CropFlip(4)
    assert cifar.class_names[-1] == ("truck" if count == 10 else "worm")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar_saved_again_by_python_3(tmp_path, protocol):
    def encode(x, y):
        return pickle.dumps({b"data": x, b"labels": y.tolist()}, protocol=protocol)

    (x, y), _ = write_cifar(tmp_path, 10, "", encode)
    expect(load_dataset("cifar10", folder=tmp_path, validation=0.0).train, x, y)


def test_cifar_array_in_column_order(tmp_path):
    (x, y), _ = write_cifar(
        tmp_path, 10, "", lambda x, y: python2_pickle(b"labels", x, y, column_major=True)
    )
    expect(load_dataset("cifar10", folder=tmp_path, validation=0.0).train, x, y)


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    write_cifar(tmp_path, 10, "", lambda x, y: python2_pickle(b"labels", x, y))
    sprung = tmp_path / "sprung"
    trap = {"data": Trap(sprung), "labels": []}
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(DataError, match=r"original CIFAR batch in data_batch_3; .*it names "):
        load_dataset("cifar10", folder=tmp_path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    "stolen",
    [
        b"cbuiltins\neval\n(V1\ntR.",
        b"c__builtin__\ngetattr\n(tR.",
        b"cos\nsystem\n(Vtrue\ntR.",
        b"cnumpy\nload\n(Vx\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(Vx\ntR.",
        b"c_codecs\ndecode\n(Vx\nVzip\ntR.",
        b"(Vtrue\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    ],
)
def test_no_other_name_is_admitted(tmp_path, stolen):
    write_cifar(tmp_path, 10, "", lambda x, y: python2_pickle(b"labels", x, y))
    (tmp_path / "data_batch_1").write_bytes(stolen)
    with pytest.raises(DataError, match=r"cannot be read safely \(it names"):
        load_dataset("cifar10", folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": [1], "labels": [2]}),
         "expected `data` and `labels` in .*; got data, labels"),
        (pickle.dumps({"names": [1]}), "expected `data` and `labels` in data_batch_1; got names"),
        (pickle.dumps([1, 2]), "expected `data` and `labels` in data_batch_1; got list"),
        (b"cnumpy\ndtype\n(Vu1\ntR.", "expected `data` and `labels` in data_batch_1; got _Kind"),
        (b"hello", "cannot be read safely"),
        (b"", "cannot be read safely"),
        (python2_pickle(b"labels", pixels(5, 3072), classes(5, 10))[:9000],
         "cannot be read safely"),
        (python2_pickle(b"labels", pixels(5, 3071), classes(5, 10)),
         r"shape \(rows, 3072\) in .*3071"),
        (pickle.dumps({"data": pixels(5, 3072).astype(np.int16), "labels": [1] * 5}, protocol=2),
         "an array that is not of uint8"),
        (pickle.dumps({"data": pixels(5, 3072), "labels": ["a"] * 5}, protocol=2),
         "expected `data` and `labels`"),
    ],
)  # fmt: skip
def test_pickles_that_are_no_batches(tmp_path, content, message):
    write_cifar(tmp_path, 10, "", lambda x, y: python2_pickle(b"labels", x, y))
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset("cifar10", folder=tmp_path)


def test_damaged_cifar_archives(tmp_path):
    write_cifar(tmp_path, 10, ".bin", binary10)
    damage(tmp_path, "data_batch_2.bin", lambda b: b[:-1])
    with pytest.raises(
        DataError, match=r"records of 3073 bytes in data_batch_2.bin; got 61459 bytes"
    ):
        load_dataset("cifar10", folder=tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(
        binary10(pixels(2, 3072), np.array([3, 11], np.uint8))
    )
    with pytest.raises(
        DataError, match=r"labels from 0 to 9 in the train part of cifar10; .* 0 to 11"
    ):
        load_dataset("cifar10", folder=tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_1.bin, .* got no data_batch_2.bin. Fetch"):
        load_dataset("cifar10", folder=tmp_path)


def test_damaged_tar(tmp_path):
    write_cifar(tmp_path / "files", 100, ".bin", binary100)
    archive = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "files" / "train.bin", "cifar-100-binary/train.bin")
    with pytest.raises(DataError, match=r"train.bin, test.bin in .*tar.gz; got no test.bin"):
        load_dataset("cifar100", folder=tmp_path)
    damage(tmp_path, archive.name, lambda b: b[: len(b) // 2])
    with pytest.raises(DataError, match=r"expected a whole file .*tar.gz; got one that cannot"):
        load_dataset("cifar100", folder=tmp_path)
    archive.write_bytes(b"nothing packed")
    with pytest.raises(DataError, match=r"expected a whole file .*tar.gz; got one that cannot"):
        load_dataset("cifar100", folder=tmp_path)


# ---- contact sheets


def sheet(tiles, across):
    rows = tiles.reshape(-1, across, 32, 32, 3).swapaxes(1, 2)
    return Image.fromarray(rows.reshape(-1, across * 32, 3))


def write_sheets(folder, infix=""):
    x, xt = pixels(24, 32, 32, 3, high=52), pixels(12, 32, 32, 3, seed=1)
    y, yt = classes(24, 10), classes(12, 10)
    for number in range(2):
        part = x[number * 12 : number * 12 + 12]
        sheet(part, 4).save(folder / f"train_{infix}{number:02}.webp", lossless=True, quality=0)
    sheet(xt, 3).save(folder / "test_00.webp", lossless=True, quality=0)
    np.save(folder / "train_labels.npy", y)
    np.save(folder / "test_labels.npy", yt)
    return (x, y), (xt, yt)


@pytest.mark.parametrize(("infix", "factor"), [("", 1), ("q5_", 5)])
def test_sheets_round_trip(tmp_path, infix, factor):
    (x, y), (xt, yt) = write_sheets(tmp_path, infix)
    cifar = load_dataset("cifar10", folder=tmp_path, validation=0.0)
    expect(cifar.train, x.transpose(0, 3, 1, 2) * np.uint8(factor), y)
    expect(cifar.test, xt.transpose(0, 3, 1, 2), yt)


def test_damaged_sheets(tmp_path):
    write_sheets(tmp_path, "q5_")
    Image.fromarray(pixels(32, 33, 3, high=9)).save(tmp_path / "train_q5_01.webp", lossless=True)
    with pytest.raises(DataError, match=r"tiles of 32x32 pixels in .*train_q5_01.webp; got 32x33"):
        load_dataset("cifar10", folder=tmp_path)
    Image.fromarray(np.full((32, 32, 3), 52, np.uint8)).save(
        tmp_path / "train_q5_01.webp", lossless=True
    )
    with pytest.raises(DataError, match=r"pixels up to 51, to be multiplied by 5, in .*; got 52"):
        load_dataset("cifar10", folder=tmp_path)
    damage(tmp_path, "train_q5_01.webp", lambda b: b[:20])
    with pytest.raises(DataError, match=r"expected a whole file .*train_q5_01.webp"):
        load_dataset("cifar10", folder=tmp_path)
    (tmp_path / "train_q5_01.webp").unlink()
    with pytest.raises(
        DataError, match=r"one label for each image in .*; got 12 images and 24 labels"
    ):
        load_dataset("cifar10", folder=tmp_path)


# ---- image folders


def write_image(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write_folder(folder, parts=("train", "val", "test"), channels=(3,)):
    kept = {}
    for seed, part in enumerate(parts):
        x = pixels(20, 5, 7, *channels, seed=seed)
        for row in range(20):
            write_image(folder / part / ("cat" if row < 12 else "dog") / f"{row:02}.png", x[row])
        kept[part] = x.transpose(0, 3, 1, 2) if channels else x[:, None]
    return kept, np.array([0] * 12 + [1] * 8)


@pytest.mark.parametrize("channels", [(3,), ()])
def test_image_folder_round_trip(tmp_path, channels):
    x, y = write_folder(tmp_path, channels=channels)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    data = load_dataset("folder", folder=tmp_path)
    for part, found in {"train": data.train, "val": data.validation, "test": data.test}.items():
        expect(found, x[part], y)
    assert data.class_names == ["cat", "dog"]
    assert (data.channels, data.size) == (3 if channels else 1, (5, 7))
    assert data.train.augment == CropFlip(4)
    assert load_dataset("folder", folder=tmp_path, validation=0.0).validation is None


def test_image_folder_without_val_and_test(tmp_path):
    x, _ = write_folder(tmp_path, parts=("train",))
    data = load_dataset("folder", folder=tmp_path, validation=0.2)
    parts = [as_set(part) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [11, 3, 6]
    assert set.union(*parts) == {row.tobytes() for row in x["train"]}


def test_image_folder_of_classes_alone_is_a_train_by_itself(tmp_path):
    write_folder(tmp_path / "parted", parts=("train",))
    (tmp_path / "parted" / "train").rename(tmp_path / "photos")
    plain = load_dataset("folder", folder=tmp_path / "photos", validation=0.2)
    (tmp_path / "photos").rename(tmp_path / "parted" / "train")
    parted = load_dataset("folder", folder=tmp_path / "parted", validation=0.2)
    assert plain.class_names == ["cat", "dog"]
    for part in ("train", "validation", "test"):
        one, other = getattr(plain, part), getattr(parted, part)
        assert torch.equal(images_of(one), images_of(other))
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize(
    "names",
    [("Training/cat", "Training/dog"), ("cat", "validation"), ("cat", "dog/young"), ("cat",)],
)
def test_what_is_neither_layout_of_an_image_folder(tmp_path, names):
    for name in names:
        write_image(tmp_path / name / "00.png", pixels(4, 4, 3))
    said = r"expected train/<class>/<name>.png or <class>/<name>.png .*under train/ where"
    with pytest.raises(DataError, match=said):
        load_dataset("folder", folder=tmp_path)


def test_image_folder_resizes_to_the_common_or_the_given_size(tmp_path):
    x, _ = write_folder(tmp_path, parts=("train", "test"))
    odd = np.full((40, 40, 3), 90, np.uint8)
    write_image(tmp_path / "train" / "dog" / "99.png", odd)
    data = load_dataset("folder", folder=tmp_path, validation=0.0)
    assert data.size == (5, 7)
    np.testing.assert_array_equal(images_of(data.train).numpy()[:20], x["train"])
    assert images_of(data.train)[20].unique().tolist() == [90]
    assert load_dataset("folder", folder=tmp_path, size=(6, 9)).size == (6, 9)
    assert load_dataset("folder", folder=tmp_path, size=16).size == (16, 16)


def test_image_folder_of_grey_and_coloured_images_is_coloured(tmp_path):
    write_folder(tmp_path, parts=("train", "test"), channels=())
    coloured = pixels(1, 5, 7, 3)[0]
    write_image(tmp_path / "train" / "dog" / "99.png", coloured)
    data = load_dataset("folder", folder=tmp_path, validation=0.0)
    assert data.channels == 3
    np.testing.assert_array_equal(images_of(data.train)[20].numpy(), coloured.transpose(2, 0, 1))
    assert images_of(data.test).shape == (20, 3, 5, 7)


@pytest.mark.parametrize("keep", [0, 30, 80])
def test_unreadable_image_is_named(tmp_path, keep):
    write_folder(tmp_path)
    damage(tmp_path, "test/dog/15.png", lambda b: b[:keep])
    with pytest.raises(DataError, match=r"expected an image in .*test/dog/15.png; got a file that"):
        load_dataset("folder", folder=tmp_path)


def test_image_folders_that_are_refused(tmp_path):
    x, _ = write_folder(tmp_path)
    write_image(tmp_path / "val" / "cow" / "00.png", x["train"][0].transpose(1, 2, 0))
    with pytest.raises(DataError, match=r"only classes that train has in .*val; got cow"):
        load_dataset("folder", folder=tmp_path)
    (tmp_path / "empty" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected images as .*train/<class>/<name>.png; got none"):
        load_dataset("folder", folder=tmp_path / "empty")
    for row in range(4):
        write_image(tmp_path / "one" / "train" / "cat" / f"{row}.png", pixels(5, 5, 3, seed=row))
    with pytest.raises(
        DataError, match="at least two classes in folder; got 4 rows, all of class 0"
    ):
        load_dataset("folder", folder=tmp_path / "one")


# ---- npz


@pytest.mark.parametrize(
    ("shape", "channels_last"), [((6, 5), False), ((6, 5, 3), True), ((3, 6, 5), False)]
)
def test_npz_round_trip(tmp_path, shape, channels_last):
    x, xt = pixels(30, *shape), pixels(12, *shape, seed=1)
    y, yt = classes(30, 3), classes(12, 3)
    np.savez(tmp_path / "some.npz", x_train=x, y_train=y, x_test=xt, y_test=yt)
    for place in (tmp_path, tmp_path / "some.npz"):
        data = load_dataset("npz", folder=place, validation=0.0)
        expect(data.train, x.transpose(0, 3, 1, 2) if channels_last else x, y)
        expect(data.test, xt.transpose(0, 3, 1, 2) if channels_last else xt, yt)
        assert (data.classes, data.size) == (3, (6, 5))
        assert data.channels == (3 if len(shape) == 3 else 1)


def test_npz_of_floats_stays_float(tmp_path):
    x = pixels(30, 4, 4) / 255
    np.savez(
        tmp_path / "some.npz", x_train=x, y_train=classes(30, 3), x_test=x, y_test=classes(30, 3)
    )
    inputs = images_of(load_dataset("npz", folder=tmp_path, validation=0.0).train)
    assert inputs.dtype == torch.float32
    np.testing.assert_allclose(inputs[:, 0].numpy(), x, rtol=1e-6)


def test_npz_with_class_names(tmp_path):
    names = np.array(["ant", "bee", "cow"])
    np.savez(tmp_path / "some.npz", x=pixels(30, 4, 4), y=classes(30, 2) * 2, class_names=names)
    data = load_dataset("npz", folder=tmp_path)
    assert data.class_names == ["ant", "bee", "cow"]
    assert data.classes == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": pixels(4, 4)}, "arrays x_train, y_train, or x, y, in .*; got a"),
        ({"x": pixels(4, 4, 4)}, "arrays x_train, y_train, or x, y, in .*; got x"),
        ({"x_train": pixels(4, 4, 4), "y_train": classes(4, 2), "x_test": pixels(4, 4, 4)},
         "both x_test and y_test in"),
        ({"x": pixels(4, 4, 4), "y": classes(3, 2)},
         "one label for each image in .*; got 4 images and 3"),
        ({"x": pixels(4, 4, 4), "y": np.zeros(4)},
         r"integer labels of shape \(rows,\) .* got float64"),
        ({"x": pixels(4, 4, 4), "y": np.zeros((4, 1), int)},
         r"integer labels .* got int64 \(4, 1\)"),
        ({"x": pixels(4, 4), "y": classes(4, 2)}, r"1 or 3 channels in .*; got shape \(4, 4\)"),
        ({"x": pixels(4, 4, 4, 4), "y": classes(4, 2)}, r"1 or 3 channels in .*\(4, 4, 4, 4\)"),
        ({"x": pixels(4, 3, 4, 3), "y": classes(4, 2)},
         "channels either first or last .* both ways"),
        ({"x": pixels(0, 4, 4), "y": classes(0, 2)},
         r"at least one image in .*; got shape \(0, 4, 4, 1\)"),
        ({"x": pixels(4, 4, 4) / 100, "y": classes(4, 2)},
         "pixels as uint8, or as float in .* float64 from"),
        ({"x": pixels(4, 4, 4) * np.nan, "y": classes(4, 2)},
         "pixels as uint8, .* float64 from nan"),
        ({"x": pixels(4, 4, 4).astype(int), "y": classes(4, 2)}, "pixels as uint8, .* int64 from"),
        ({"x": pixels(4, 4, 4), "y": classes(4, 2) + 1},
         "from 0 upwards without a gap in .*; got 1, 2"),
        ({"x": pixels(4, 4, 4), "y": classes(4, 2) * 2},
         "from 0 upwards without a gap in .*; got 0, 2"),
        ({"x": pixels(4, 4, 4), "y": np.array([0, 1, -1, 0])}, "without a gap in .*; got -1, 0, 1"),
        ({"x": pixels(4, 4, 4), "y": np.zeros(4, int)}, "at least two classes in npz; got 4 rows"),
        ({"x": pixels(4, 4, 4), "y": np.array([0, 1, -1, 0]), "class_names": np.array(["a", "b"])},
         "labels from 0 to 1 in the train part of npz; got labels from -1 to 1"),
    ],
)  # fmt: skip
def test_npz_that_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(DataError, match="^load_dataset: expected .*" + message):
        load_dataset("npz", folder=tmp_path)


def test_damaged_npz(tmp_path):
    path = tmp_path / "some.npz"
    sprung = tmp_path / "sprung"
    np.savez(path, x=np.array([Trap(sprung)], dtype=object), y=classes(1, 2))
    with pytest.raises(
        DataError, match=r"expected a whole file .*some.npz; got one .*allow_pickle"
    ):
        load_dataset("npz", folder=tmp_path)
    assert not sprung.exists()
    np.savez(path, x=pixels(40, 4, 4), y=classes(40, 2))
    for cut_to in (0, 100, 700):
        damaged = tmp_path / f"{cut_to}.npz"
        damaged.write_bytes(path.read_bytes()[:cut_to])
        with pytest.raises(DataError, match=rf"expected a whole file .*{cut_to}.npz; got one"):
            load_dataset("npz", folder=damaged)
    np.save(tmp_path / "array.npy", pixels(4, 4, 4))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(DataError, match=r"expected a whole file .*array.npz"):
        load_dataset("npz", folder=tmp_path / "array.npz")
    with pytest.raises(DataError, match=r"one .npz file with x_train and y_train in .*; got "):
        load_dataset("npz", folder=tmp_path)  # several lie there


# ---- the real files, where they are at hand


@pytest.mark.slow
def test_real_cifar_is_bit_exact():
    folder = shared_data()
    expected = {
        "cifar100 train": "4e457917601a66aed021f5fa37957b56c6319557c0a8ed5484de3c390af45430",
        "cifar100 test": "8532fd42ce092c665328a7201998ab7e8768dad37afff89be94e13106523a495",
        "cifar10 test": "5ea660756ad2c7b374df635d170d31d08fa9c5c2dc94c2b4e11ccf814604b2ac",
    }
    for name, rows, each in (("cifar10", 50_000, 5000), ("cifar100", 50_000, 500)):
        data = load_dataset(name, folder=folder / name, validation=0.0)
        assert (len(data.train), len(data.test)) == (rows, 10_000)
        assert data.train.targets.bincount().tolist() == [each] * (rows // each)
        for part in (data.train, data.test):
            held = images_of(part).permute(0, 2, 3, 1).contiguous().numpy()
            digest = hashlib.sha256(held.tobytes()).hexdigest()
            assert expected.get(part.name, digest) == digest
        if name == "cifar10":
            assert int((images_of(data.train) % 5).max()) == 0
            assert abs(float(images_of(data.train).float().mean()) - 120.707) < 0.2


def test_real_mnist_has_the_published_mean():
    data = load_dataset("mnist", folder=shared_data() / "mnist", validation=0.0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert float(images_of(data.train).double().mean() / 255) == pytest.approx(0.1306604762738429)
