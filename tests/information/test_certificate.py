"""The certificate proves bounds whatever its arrays are, and is tight only for its own table."""

import dataclasses

import numpy as np
import pytest

from limbeck import broja_pid
from limbeck.checks import ShapeError
from limbeck.information.certificate import tightened


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(np.prod(shape))).reshape(shape)


def test_spoilt_arrays_only_widen_the_bounds():
    pmf = drawn(3, 4, 5)
    found = broja_pid(pmf, tolerance=1e-9)
    low, high = found.union_bounds
    source = np.random.default_rng(1)
    for name in ("coupling", "teacher_dual", "student_dual"):
        array = getattr(found.certificate, name)
        for size in (1e-3, 0.3, 3.0):
            spoilt = array * (1 + size * source.uniform(size=array.shape))
            if name != "coupling":
                spoilt = array + size * source.normal(size=array.shape)
            changed = dataclasses.replace(found.certificate, **{name: spoilt})
            lower, upper = changed.verify(pmf)
            assert lower <= high + 1e-12
            assert upper >= low - 1e-12
            assert upper - lower > high - low


def test_another_table_gets_valid_bounds():
    pmf, other = drawn(3, 4, 5), drawn(3, 4, 5, seed=1)
    lower, upper = broja_pid(pmf).certificate.verify(other)
    truth = broja_pid(other)
    assert lower <= truth.union_bounds[0]
    assert upper >= truth.union_bounds[1]
    assert upper - lower > 1e-3


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5, 4)])
def test_either_side_may_be_eliminated(shape):
    pmf = drawn(*shape)
    found = broja_pid(pmf)
    assert found.iterations > 0
    assert found.unique_teacher > 1e-3
    assert found.unique_student > 1e-3
    assert found.certificate.verify(pmf) == pytest.approx(found.union_bounds, abs=1e-12)
    assert found.gap <= 1e-6


def test_no_dual_can_be_raised_alone():
    source = np.random.default_rng(0)
    teacher, student = tightened(source.normal(size=(3, 5)), source.normal(size=(3, 4)))
    sums = np.exp(teacher[:, :, None] + student[:, None, :]).sum(0)
    assert sums.max(0) == pytest.approx(np.ones(4), abs=1e-12)
    assert sums.max(1) == pytest.approx(np.ones(5), abs=1e-12)


def test_shape_is_checked(without_shape_hook):
    with pytest.raises(ShapeError, match=r"shape \(2, 3, 2\); got \(2, 2, 3\)"):
        broja_pid(drawn(2, 3, 2)).certificate.verify(drawn(2, 2, 3))
