"""Data sets by name, in three parts that share no row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limbeck.checks import ArgumentError, DataError, check_choice
from limbeck.data import Augment, Data
from limbeck.zoo.data.augment import CropFlip, Shift
from limbeck.zoo.data.cifar import read_cifar10, read_cifar100
from limbeck.zoo.data.digits import read_digits
from limbeck.zoo.data.image_folder import read_image_folder
from limbeck.zoo.data.mnist import read_mnist
from limbeck.zoo.data.names import DIGITS, FASHION
from limbeck.zoo.data.npz import read_npz
from limbeck.zoo.data.reading import listing
from limbeck.zoo.data.rows import Rows, Source, check_source
from limbeck.zoo.data.splits import cut, hide_labels, stratified


TEST_SHARE = 0.3
TEST_SEED = 0

Size = int | tuple[int, int]


@dataclass(frozen=True)
class DataSet:
    """A labelled image data set: fit on ``train``, choose on ``validation``, report ``test``.

    Args:
        name: What it was loaded by.
        train: Rows to fit on, augmented; its targets are -1 where labels were hidden.
        validation: Rows cut from the training part, not augmented, all labelled; or None.
        test: Rows that nothing is chosen by, not augmented, all labelled.
        classes: How many classes there are.
        class_names: Their names, in the order of the targets.
        channels: 1 for grey images, 3 for coloured ones.
        size: Height and width in pixels.
    """

    name: str
    train: Data
    validation: Data | None
    test: Data
    classes: int
    class_names: list[str]
    channels: int
    size: tuple[int, int]


@dataclass(frozen=True)
class _Known:
    """How a data set is read, augmented and, if it is not found, described."""

    read: Callable[[Path], Source | None]
    augment: Augment | None
    layout: str
    get: str
    folder: Path | None = None


_IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... (also .gz), or x_train.npy, ..."
_CIFAR_GET = "Get the binary version from https://www.cs.toronto.edu/~kriz/cifar.html."
_KNOWN = {
    "mnist": _Known(
        lambda folder: read_mnist(folder, DIGITS),
        Shift(2),
        _IDX,
        "Get the four files of MNIST, for instance through torchvision.",
    ),
    "fashion-mnist": _Known(
        lambda folder: read_mnist(folder, FASHION),
        CropFlip(2),
        _IDX,
        "On Debian and Ubuntu: apt-get install dataset-fashion-mnist. Elsewhere: "
        "https://github.com/zalandoresearch/fashion-mnist.",
        Path("/usr/share/datasets/fashion-mnist"),
    ),
    "cifar10": _Known(
        read_cifar10,
        CropFlip(4),
        "data_batch_1.bin, ..., test_batch.bin, or cifar-10-binary.tar.gz",
        _CIFAR_GET,
    ),
    "cifar100": _Known(
        read_cifar100,
        CropFlip(4),
        "train.bin, test.bin, or cifar-100-binary.tar.gz",
        _CIFAR_GET,
    ),
    "folder": _Known(
        lambda folder: read_image_folder(folder, None),
        CropFlip(4),
        "train/<class>/<name>.png or <class>/<name>.png",
        "Give each class a folder of its own with its images right in it; all of them under train/ "
        "where there is val/ or test/, too.",
    ),
    "npz": _Known(
        read_npz,
        None,
        "one .npz file with x_train and y_train",
        "Write it with numpy.savez.",
    ),
}


def load_dataset(
    name: str,
    *,
    folder: str | Path | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    augment: str | Augment = "default",
    labels: int | float | None = None,
    limit: int | None = None,
    size: Size | None = None,
) -> DataSet:
    """Load a data set from disk into uint8 tensors, split in train, validation and test.

    Where a data set has no test part of its own (digits; a folder or .npz without one), 30 % of
    its rows, stratified by class and always the same ones (seed 0), become the test part. The
    validation part is then cut from the training rows by ``split_seed``, stratified by class;
    a folder's own ``val`` is used instead where there is one. ``limit`` applies to the training
    rows that are left, ``labels`` after it.

    Args:
        name: "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder" or "npz".
        folder: Where its files lie. Digits need none. MNIST and Fashion-MNIST: IDX files or
            ``x_train.npy`` and so on, also .gz or .xz. CIFAR: the original archive, binary or
            python, packed or not, or contact sheets. "folder": ``train/<class>/*.png``, perhaps
            ``val`` and ``test``, or ``<class>/*.png`` alone. "npz": the file itself, or the folder
            it lies in.
        validation: Share of the training rows to validate on, in [0, 1); 0.0 for none.
        split_seed: Decides which rows are validated on, kept by ``limit`` and labelled.
        augment: For the training part: "default" (what is usual for this data set), "none",
            "crop-flip" (``CropFlip()``), "shift" (``Shift()``) or a function (inputs, index, view).
        labels: How many training rows (int) or which share of them (float) keep their labels; the
            others get -1. None keeps all.
        limit: How many training rows to keep, at least one a class. None keeps all.
        size: For "folder" only: height and width, or both in one number, to resize images to.

    Raises:
        ArgumentError: If an argument is outside of its range.
        DataError: If files are missing, damaged, unsafe to read or of another kind.

    Example:
        >>> digits = load_dataset("digits")
        >>> len(digits.train), len(digits.test), digits.size
        (1132, 539, (8, 8))
    """
    check_choice("load_dataset", "name", name, ("digits", *_KNOWN))
    if not 0 <= validation < 1:
        raise ArgumentError(f"load_dataset: expected `validation` in [0, 1); got {validation}.")
    if size is not None and name != "folder":
        raise ArgumentError(
            f"load_dataset: expected `size` for an image folder only; got {size} for {name}."
        )
    chosen_augment = _augmentation(augment, name)
    source = _digits(folder) if name == "digits" else _found(name, folder, size)
    check_source(source, name)

    train, held_out, test = _parts(source, validation, split_seed)
    if limit is not None:
        train = train.at(stratified(train.labels, limit, split_seed, "limit"))
    if labels is not None:
        train = Rows(train.images, hide_labels(train.labels, labels, split_seed))
    names = list(source.class_names)

    def data(rows: Rows, part: str, augment: Augment | None = None) -> Data:
        pair = (rows.images, rows.labels)
        return Data(pair, augment=augment, class_names=names, name=f"{name} {part}")

    _, channels, height, width = train.images.shape
    return DataSet(
        name=name,
        train=data(train, "train", chosen_augment),
        validation=None if held_out is None else data(held_out, "validation"),
        test=data(test, "test"),
        classes=len(names),
        class_names=names,
        channels=channels,
        size=(height, width),
    )


def _parts(source: Source, share: float, seed: int) -> tuple[Rows, Rows | None, Rows]:
    train, test = source.train, source.test
    if test is None:
        stay, left = cut(train.labels, TEST_SHARE, TEST_SEED, "test")
        train, test = train.at(stay), train.at(left)
    if share == 0.0:
        return train, None, test
    if source.validation is not None:
        return train, source.validation, test
    stay, left = cut(train.labels, share, seed, "validation")
    return train.at(stay), train.at(left), test


def _digits(folder: str | Path | None) -> Source:
    if folder is not None:
        raise ArgumentError(
            "load_dataset: expected no `folder` for digits, which ship inside scikit-learn; "
            f"got {folder}. Leave it out."
        )
    return read_digits()


def _found(name: str, folder: str | Path | None, size: Size | None) -> Source:
    known = _KNOWN[name]
    place = Path(folder) if folder is not None else known.folder
    if place is None:
        raise DataError(
            f"load_dataset: expected `folder` for {name}, with {known.layout}; got None. "
            f"{known.get}"
        )
    if not place.exists():
        raise DataError(
            f"load_dataset: expected {known.layout} in {place}; got no such folder. {known.get}"
        )
    if size is None:
        source = known.read(place)
    else:
        source = read_image_folder(place, (size, size) if isinstance(size, int) else size)
    if source is None:
        got = listing(place) if place.is_dir() else "one file that is none of these"
        raise DataError(f"load_dataset: expected {known.layout} in {place}; got {got}. {known.get}")
    return source


def _augmentation(augment: str | Augment, name: str) -> Augment | None:
    if not isinstance(augment, str):
        return augment
    default = Shift(1) if name == "digits" else _KNOWN[name].augment
    choices = {"default": default, "none": None, "crop-flip": CropFlip(), "shift": Shift()}
    check_choice("load_dataset", "augment", augment, choices)
    return choices[augment]
