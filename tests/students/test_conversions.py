"""Conversions by name, and what a converted model says of how it was built."""

import numpy as np
import pytest
from torch import nn

from limbeck.checks import ArgumentError, LayerError, ModelError
from limbeck.students import (
    CONVERSIONS,
    BinaryConv2d,
    binary,
    check_conversion,
    conversion,
    converted,
)
from limbeck.zoo.networks import small_cnn


@pytest.fixture
def scaled(monkeypatch):
    """Give a conversion that puts a constant factor behind a model; forgotten after the test."""
    monkeypatch.setattr("limbeck.students.conversions.CONVERSIONS", dict(CONVERSIONS))

    @conversion
    def scaled(model: nn.Module, *, factor: object = 2.0) -> nn.Module:
        """Return the model with a linear layer behind it."""
        behind = nn.Linear(3, 3, bias=False)
        if not isinstance(factor, float):
            raise TypeError("a factor is a float")
        nn.init.constant_(behind.weight, factor)
        return nn.Sequential(model, behind)

    return scaled


def cnn() -> nn.Module:
    return small_cnn(width=4, depth=3, num_classes=3)


def kinds(model: nn.Module) -> list[bool]:
    return [isinstance(m, BinaryConv2d) for m in model.modules() if isinstance(m, nn.Conv2d)]


def test_by_name_is_the_function():
    model = cnn()
    assert CONVERSIONS["binary"] is binary
    assert kinds(converted(model, "binary")) == [False, True, True]
    kept = converted(model, {"name": "binary", "keep": ["stage3"], "threshold": 0.25})
    assert kinds(kept) == [False, True, False]
    assert kept.stage2.conv.threshold.flatten().tolist() == 4 * [0.25]
    assert kinds(model) == 3 * [False]
    assert "convert" not in model.limbeck_source


def test_the_source_grows_by_each_conversion(scaled):
    model = cnn()
    first = {"name": "binary", "keep": ["stage2", "stage3.relu"], "threshold": 1}
    made = scaled(binary(model, keep={"stage3.relu", "stage2"}, threshold=1), factor=0.5)
    assert made.limbeck_source == {
        **model.limbeck_source,
        "convert": [first, {"name": "scaled", "factor": 0.5}],
    }
    assert made[0].limbeck_source["convert"] == [first]  # not the same list


def test_arrays_and_numbers_of_numpy_are_written_plainly(scaled):
    @conversion
    def noting(model: nn.Module, *, numbers: object, one: object) -> nn.Module:
        return binary(model)

    made = noting(cnn(), numbers=np.array([0.5, 2.0]), one=np.float32(0.25))
    written = {"name": "noting", "numbers": [0.5, 2.0], "one": 0.25}
    assert made.limbeck_source["convert"] == [written]


def test_without_a_source_or_with_options_unfit_for_json(scaled):
    assert not hasattr(
        binary(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))), "limbeck_source"
    )

    @conversion
    def unfit(model: nn.Module, *, rule: object) -> nn.Module:
        return binary(model)

    made = unfit(cnn(), rule=object())
    assert not hasattr(made, "limbeck_source")  # not the inner conversion's, which is not all


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        ("binry", r"student\.convert: expected `name` .* got 'binry'\. Did you mean binary"),
        ({"name": "Binary"}, "Did you mean binary"),
        ({"keep": []}, r"expected a conversion, binary.*got \{'keep': \[\]\}"),
        ({"name": ["binary"]}, "expected a conversion, binary"),
        (7, "expected a conversion, binary.*got 7"),
        (None, "expected a conversion, binary.*got None"),
        (
            {"name": "binary", "kep": []},
            r"student\.convert binary: expected `option` .*threshold; got 'kep'\. Did .* keep",
        ),
        ({"name": "binary", "model": 3}, "one of keep, threshold; got 'model'"),
    ],
)
def test_unknown_conversions_and_options(convert, message):
    with pytest.raises(ArgumentError, match=message):
        check_conversion("student.convert", convert)
    with pytest.raises(ArgumentError, match=message):
        converted(cnn(), convert, where="student.convert")


def test_refusals_of_the_conversion_itself(scaled):
    with pytest.raises(LayerError, match=r"binary: expected in `keep`.*Did you mean stage1"):
        converted(cnn(), {"name": "binary", "keep": ["stag1"]})
    text = r"teacher\.convert: Network could not be made scaled with factor=3: a factor is a float"
    with pytest.raises(ModelError, match=text):
        converted(cnn(), {"name": "scaled", "factor": 3}, where="teacher.convert")


def test_check_gives_name_and_options_and_leaves_the_mapping():
    given = {"name": "binary", "keep": ["stage1"]}
    assert check_conversion("convert", given) == ("binary", {"keep": ["stage1"]})
    assert given == {"name": "binary", "keep": ["stage1"]}
    assert check_conversion("convert", "binary") == ("binary", {})


def test_defaults_are_written_out():
    """A folder saved today must come back the same, should a default ever change."""
    made = binary(small_cnn(width=2, depth=2))
    assert made.limbeck_source["convert"] == [{"name": "binary", "keep": None, "threshold": 0.5}]
