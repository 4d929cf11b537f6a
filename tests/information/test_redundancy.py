"""Comparison measures against their printed values, loops of their definition, and their order."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import broja_pid
from limbeck.checks import DataError, ShapeError
from limbeck.information.redundancy import redundancy_do, redundancy_imin, redundancy_mmi


MEASURES = (redundancy_do, redundancy_imin, redundancy_mmi)
GATES = Path(__file__).parents[3] / "shared" / "reference" / "pid_gates.json"
QUICK = settings(max_examples=30, deadline=None, derandomize=True)
PRINTED = {  # Red_do and I_min where they are not both 0 or both 1
    "COPY": (0, 1),
    "COPY_CORRELATED": (0.188722, 1),
    "AND": (0.081704, 0.311278),
    "OR": (0.081704, 0.311278),
    "SUM": (0.188722, 0.5),
    "XORAND": (0.188722, 0.5),
    "RDNUNQXOR": (1, 2),
    "REDUCED_OR": (0.073761, 0.311278),
    "DIFF": (0.122556, 0.207519),
    "NOT_TWO": (0.000556, 0.019973),
    "PNT_UNQ": (0.25, 0.5),
    "IMP_RDN": (0.98959, 0.98959),
    "W": (0.04411, 0.251629),
    "RND": (0.045566, 0.188722),
    "WB1": (0.251629, 0.584963),
    "WB2": (0, 0.5),
    "PROB1": (0.003396, 0.019973),
    "GBAND": (1.081704, 1.311278),
    "DUP": (0.188722, 0.5),
    "BSC_0.1_0.2": (0.173254, 0.278072),
    "TWO_DICE": (0.206776, 0.689439),
    "SYM10_0.3_0.5": (0.366231, 0.736966),
    "EX2_S_EQ_U1": (0.721928, 0.721928),
    "GENERIC_2x3x3": (0.089925, 0.212556),
    "GENERIC_3x3x3": (0.071053, 0.241131),
    "GENERIC_4x5x6": (0.010936, 0.173335),
    "RDN": (1, 1),
    "RDNXOR": (1, 1),
}  # every other gate: 0, 0


def drawn(*shape, seed=0, concentration=1.0):
    source = np.random.default_rng(seed)
    return source.dirichlet(np.full(math.prod(shape), concentration)).reshape(shape)


@st.composite
def tables(draw):
    """Small tables, half of them with many zero cells."""
    shape = [draw(st.integers(1, 4)) for _ in range(3)]
    concentration = draw(st.sampled_from([1.0, 0.1]))
    return drawn(*shape, seed=draw(st.integers(0, 2**31)), concentration=concentration)


def information(joint):
    """I(rows; columns) in bits as the plain sum of its definition."""
    rows, columns = joint.sum(1), joint.sum(0)
    return sum(
        joint[at] * math.log2(joint[at] / (rows[at[0]] * columns[at[1]]))
        for at in np.ndindex(*joint.shape)
        if joint[at] > 0
    )


def looped_imin(pmf):
    total = 0.0
    for y, p in enumerate(pmf.sum((1, 2))):
        if p == 0:
            continue
        specific = []
        for pair in (pmf.sum(2), pmf.sum(1)):
            symbols = [x for x in range(pair.shape[1]) if pair[y, x] > 0]
            specific.append(
                sum(pair[y, x] / p * math.log2(pair[y, x] / pair[:, x].sum() / p) for x in symbols)
            )
        total += p * min(specific)
    return total


def looped_do(pmf):
    q = np.zeros(pmf.shape[1:])
    for y, t, s in np.ndindex(*pmf.shape):
        p = pmf[y].sum()
        if p > 0:
            q[t, s] += pmf[y, t].sum() * pmf[y, :, s].sum() / p
    return information(q)


@QUICK
@given(pmf=tables())
def test_equal_loops_of_the_definition(pmf):
    assert redundancy_do(pmf) == pytest.approx(looped_do(pmf), abs=1e-12)
    assert redundancy_imin(pmf) == pytest.approx(looped_imin(pmf), abs=1e-12)
    smaller = min(information(pmf.sum(2)), information(pmf.sum(1)))
    assert redundancy_mmi(pmf) == pytest.approx(smaller, abs=1e-12)


@QUICK
@given(pmf=tables())
def test_order(pmf):
    lowest, least, highest = (measure(pmf) for measure in MEASURES)
    low, high = broja_pid(pmf, tolerance=1e-9).bounds["redundant"]
    assert 0 <= lowest <= high + 1e-12
    assert low <= highest + 1e-12
    assert 0 <= least <= highest + 1e-12
    for measure in MEASURES:
        assert measure(pmf.transpose(0, 2, 1)) == pytest.approx(measure(pmf), abs=1e-12)


def test_symbols_without_mass_and_counts_change_nothing():
    counts = np.random.default_rng(0).integers(0, 5, size=(2, 3, 2))
    padded = np.pad(counts, 1)
    for measure in MEASURES:
        wanted = measure(counts / counts.sum())
        assert measure(counts) == pytest.approx(wanted, abs=1e-14)
        assert measure(padded) == pytest.approx(wanted, abs=1e-14)


def test_and_by_hand():
    """Y = T and S: q has cells 5/12, 3/12... of T and S given each label independent."""
    gate = np.zeros((2, 2, 2), dtype=int)
    gate[0, 0, 0] = gate[0, 0, 1] = gate[0, 1, 0] = gate[1, 1, 1] = 1
    # given Y = 0, T and S are 1 with 1/3 each; given Y = 1 both are 1
    q = np.array([[4 / 12, 2 / 12], [2 / 12, 1 / 12 + 3 / 12]])
    assert redundancy_do(gate) == pytest.approx(information(q), abs=1e-12)
    assert redundancy_do(gate) == pytest.approx(PRINTED["AND"][0], abs=5e-7)
    assert redundancy_imin(gate) == pytest.approx(PRINTED["AND"][1], abs=5e-7)


def test_all_gates_of_the_reference():
    if not GATES.is_file():
        pytest.skip(f"no {GATES}; the tests above run without it")
    gates = json.loads(GATES.read_text("utf8"))
    assert set(PRINTED) < set(gates)
    for name, gate in gates.items():
        pmf = np.array(gate["pmf"])
        through_targets, least = PRINTED.get(name, (0, 0))
        assert redundancy_do(pmf) == pytest.approx(through_targets, abs=6e-7), name
        assert redundancy_imin(pmf) == pytest.approx(least, abs=6e-7), name
        smaller = min(gate["mutual_teacher"], gate["mutual_student"])
        assert redundancy_mmi(pmf) == pytest.approx(smaller, abs=1e-11), name


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_tables(measure, without_shape_hook):
    with pytest.raises(ShapeError, match=rf"^{measure.__name__}: expected a table indexed \[y, t"):
        measure(np.ones((2, 2)) / 4)
    with pytest.raises(DataError, match=rf"^{measure.__name__}: expected probabilities that sum"):
        measure(np.ones((2, 2, 2)))
