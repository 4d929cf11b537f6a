import json
import math
from types import MappingProxyType

import numpy as np
import pytest

from limbeck import Estimate
from limbeck.checks import ArgumentError


def estimate(value=0.5, lower=0.25, upper=0.75, status="resolved", **more):
    return Estimate(value, lower, upper, n=100, unit="bits", status=status, **more)


def test_printed_with_interval_and_unit():
    assert str(estimate()) == "0.500 [0.250, 0.750] bits"
    assert str(estimate(1.0, 1.0, 1.0, "exact")) == "1.000 [1.000, 1.000] bits"


def test_an_unresolved_value_is_not_printed():
    assert str(estimate(0.123, status="unresolved", lower=0.0)) == "unresolved [0.000, 0.750] bits"


@pytest.mark.parametrize(
    ("value", "lower", "upper"),
    [(0.2, 0.25, 0.75), (0.8, 0.25, 0.75), (math.nan, 0.0, 1.0), (0.5, math.nan, 1.0)],
)
def test_a_value_outside_of_its_interval_is_refused(value, lower, upper):
    with pytest.raises(ArgumentError, match="lower <= value <= upper; got"):
        estimate(value, lower, upper)


def test_unknown_status(without_shape_hook):
    with pytest.raises(ArgumentError, match=r"`status`.*got 'resolvd'. Did you mean resolved"):
        estimate(status="resolvd")


def test_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field 'value'"):
        estimate().value = 1.0


def test_dict_is_json_whatever_the_numbers_are(without_shape_hook):
    made = estimate(
        np.float32(0.5),
        np.float32(0.25),
        np.float64(0.75),
        settings=MappingProxyType({"level": 0.95}),
        raw=np.float32(-0.5),
    )
    assert json.loads(json.dumps(made.to_dict())) == {
        "value": 0.5,
        "lower": 0.25,
        "upper": 0.75,
        "n": 100,
        "unit": "bits",
        "status": "resolved",
        "settings": {"level": 0.95},
        "raw": -0.5,
    }
    assert estimate().to_dict()["raw"] is None
