"""Intersection information against enumeration of all pairs of functions, and printed values."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck import broja_pid
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.information import intersection
from limbeck.information.intersection import intersection_information


GATES = Path(__file__).parents[3] / "shared" / "reference" / "pid_gates.json"
PRINTED = {  # with a function of the teacher, and of the student; every other gate of ours: 0, 0
    "RDN": (1, 1),
    "RDNXOR": (1, 1),
    "DUP": (0.5, 0.5),
    "GBAND": (1, 1),
    "EX2_S_EQ_U1": (0.721928, 0.721928),
    "IMP_RDN": (0, 0.989590),
    "PROB1": (0, 0.019973),
}
# Left out: not among the small gates that the reference enumerated.
NOT_ENUMERATED = {"RDNUNQXOR", "SYM10_0.3_0.5", "GENERIC_2x3x3", "GENERIC_3x3x3", "GENERIC_4x5x6"}


def partitions(items):
    """Yield all set partitions of a list, one item after the other."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for i, block in enumerate(rest):
            yield [*rest[:i], [items[0], *block], *rest[i + 1 :]]


def nats(joint):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = joint / joint.sum(1, keepdims=True) / joint.sum(0, keepdims=True) * joint.sum()
        return float(np.where(joint > 0, joint * np.log(ratio), 0.0).sum())


def enumerated(pmf, common="teacher"):
    """The best of all pairs of partitions, in bits."""
    if common == "student":
        pmf = pmf.transpose(0, 2, 1)
    best = 0.0
    of_student = list(partitions(list(range(pmf.shape[2]))))
    for blocks in partitions(list(range(pmf.shape[1]))):
        merged = np.stack([pmf[:, block].sum(1) for block in blocks], 1)
        value = nats(merged.sum(2))
        if value <= best:
            continue
        for cells in of_student:
            if sum(nats(merged[:, :, cell].sum(2)) for cell in cells) <= 1e-12:
                best = value
                break
    return best / math.log(2)


def shared_function(seed, teachers, students, labels=3):
    """A table where teacher and student share a function, and Y depends on more or on less."""
    source = np.random.default_rng(seed)
    kinds = source.integers(1, 4)
    t, s = (source.integers(0, kinds, size) for size in (teachers, students))
    weight = source.uniform(size=(teachers, students)) * (t[:, None] == s)
    given_kind = source.dirichlet(np.ones(labels), size=kinds)
    pmf = weight * given_kind[t].T[:, :, None]
    if seed % 3 == 1:  # one kind of the teacher's tells more: its function gets coarser
        alone = source.dirichlet(np.ones(labels), size=teachers)
        alone = np.where((t == 0)[:, None], alone, given_kind[t])
        pmf = weight * alone.T[:, :, None]
    if seed % 3 == 2:  # noise in a few pairs separates them
        pmf += (
            0.1
            * source.dirichlet(np.ones(pmf.size)).reshape(pmf.shape)
            * (source.uniform(size=pmf.shape) < 0.05)
        )
    return pmf / pmf.sum() if pmf.sum() > 0 else np.full(pmf.shape, 1 / pmf.size)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), teachers=st.integers(1, 5), students=st.integers(1, 5))
def test_equals_enumeration(seed, teachers, students):
    pmf = shared_function(seed, teachers, students)
    for common in ("teacher", "student"):
        found = intersection_information(pmf, common=common)
        assert found == pytest.approx(enumerated(pmf, common), abs=1e-11)
        assert found <= broja_pid(pmf).bounds["redundant"][1] + 1e-11


def test_the_structured_tables_are_not_all_zero_or_all_of_it():
    """Otherwise the comparison with the enumeration would show little."""
    kinds = set()
    for seed in range(30):
        pmf = shared_function(seed, 4, 4)
        found, most = intersection_information(pmf), nats(pmf.sum(2)) / math.log(2)
        kinds.add("none" if found < 1e-9 else "all" if found > most - 1e-9 else "some")
    assert kinds == {"none", "some", "all"}


@pytest.mark.parametrize("seed", [1, 2])
def test_equals_enumeration_of_six_symbols(seed):
    pmf = shared_function(seed, 6, 6)
    assert intersection_information(pmf) == pytest.approx(enumerated(pmf), abs=1e-11)


def balanced(shift):
    """Neither symbol of the student makes the teacher's bit irrelevant; both merged do."""
    first = np.array([[0.25 + shift, 0.25 - shift], [0.25 - shift, 0.25 + shift]])
    second = 0.5 - first
    shared = np.zeros((3, 3, 3))
    shared[:2, :2, 0], shared[:2, :2, 1], shared[2, 2, 2] = first, second, 1.0
    return shared / shared.sum()


def test_merging_symbols_of_the_student_helps():
    pmf = balanced(0.2)
    merged = np.stack([pmf[:, :, :2].sum(2), pmf[:, :, 2]], 2)
    assert nats(pmf[:, :2, 0]) > 0.1
    wanted = enumerated(pmf)
    assert wanted == pytest.approx(intersection_information(merged), abs=1e-12)
    assert wanted == pytest.approx(-(1 / 3) * math.log2(1 / 3) - (2 / 3) * math.log2(2 / 3))
    assert intersection_information(pmf) == pytest.approx(wanted, abs=1e-12)


def test_a_finer_function_may_need_other_cells_than_its_blocks():
    """Each block of the teacher is feasible by some function of the student, not all by one."""
    pmf, found = None, 0
    for seed in range(150):
        source = np.random.default_rng(seed)
        pmf = source.integers(0, 3, size=(2, 3, 4))
        if not pmf.any():
            continue
        table = pmf / pmf.sum()
        wanted = enumerated(table)
        assert intersection_information(pmf) == pytest.approx(wanted, abs=1e-11)
        found += wanted > 1e-9
    assert found >= 10


@pytest.mark.parametrize("name", [*PRINTED, None])
def test_gates_of_the_reference(name):
    if not GATES.is_file():
        pytest.skip(f"no {GATES}; the tests above run without it")
    gates = json.loads(GATES.read_text("utf8"))
    names = [name] if name else set(gates) - set(PRINTED) - NOT_ENUMERATED
    for each in names:
        pmf, wanted = np.array(gates[each]["pmf"]), PRINTED.get(each, (0, 0))
        for common, value in zip(("teacher", "student"), wanted, strict=True):
            found = intersection_information(pmf, common=common)
            assert found == pytest.approx(value, abs=6e-7), (each, common)
            assert found <= gates[each]["atoms"]["redundant"] + 1e-11


@pytest.mark.parametrize("structure", ["identity", "kinds", "noise", "independent", "no targets"])
def test_ten_symbols_take_seconds(structure):
    source = np.random.default_rng(0)
    symbols = np.arange(10)
    kinds = (symbols[:, None] % 4 == symbols % 4) * source.uniform(size=(10, 10))
    pmf, wanted = {
        "identity": (np.einsum("ij,jk->ijk", np.eye(10), np.eye(10)), math.log2(10)),
        "kinds": (kinds * np.eye(4)[:, symbols % 4, None], None),
        "noise": (source.uniform(size=(10, 10, 10)), 0.0),
        "independent": (source.uniform(size=(10, 10, 1)) * np.ones(10), 0.0),
        "no targets": (np.ones((3, 1, 1)) * source.uniform(size=(10, 10)), 0.0),
    }[structure]
    pmf = pmf / pmf.sum()
    if wanted is None:
        shares = np.array([pmf[kind].sum() for kind in range(4)])
        wanted = -float((shares * np.log2(shares)).sum())
    found = intersection_information(pmf)
    assert found == pytest.approx(wanted, abs=1e-11)
    assert found <= broja_pid(pmf).bounds["redundant"][1] + 1e-11


def test_further_chunks_are_looked_at(monkeypatch):
    pmf = shared_function(2, 5, 5)
    wanted = enumerated(pmf)
    # The best is neither the first partition nor the last, which is trivial.
    assert 0.01 < wanted < nats(pmf.sum(2)) / math.log(2) - 0.01
    monkeypatch.setattr(intersection, "CHUNK", 1)
    assert intersection_information(pmf) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_sum_of_small_parts_is_not_small(seed):
    """Every cell and block alone stays below the limit, all together are above it."""
    wobble = 1.0 + 3e-6 * np.random.default_rng(seed).normal(size=(6, 5, 2))
    pmf = wobble / wobble.sum()
    wanted = enumerated(pmf)
    assert wanted < nats(pmf.sum(2)) / math.log(2) - 1e-13
    assert intersection_information(pmf) == pytest.approx(wanted, abs=1e-14)


def test_symbols_without_mass_do_not_count():
    pmf = np.zeros((3, 14, 12), dtype=int)
    pmf[0, 3, 2] = pmf[2, 7, 9] = 1
    assert intersection_information(pmf) == pytest.approx(1.0)


def test_set_partitions_are_those_of_bell():
    for symbols, number in enumerate((1, 2, 5, 15, 52, 203), start=1):
        found = intersection._partitions(symbols)
        assert len({tuple(sorted(row)) for row in found}) == len(found) == number
        assert (found.sum(1) == 2**symbols - 1).all()
        assert (np.bitwise_or.reduce(found, axis=1) == 2**symbols - 1).all()


@pytest.mark.parametrize(
    ("pmf", "options", "error", "message"),
    [
        (np.ones((2, 2)) / 4, {}, ShapeError, r"table indexed \[y, t, s\]; got shape \(2, 2\)"),
        (np.ones((2, 2, 2)), {}, DataError, "sum to 1; got 8"),
        (np.ones((1, 11, 2), dtype=int), {}, DataError, "at most 10 .* got 11 of the teacher"),
        (np.ones((1, 2, 12), dtype=int), {}, DataError, "at most 10 .* got 12 of the student"),
        (np.ones((1, 2, 2), dtype=int), {"common": "targets"}, ArgumentError, "`common` to be"),
    ],
)
def test_bad_input(pmf, options, error, message, without_shape_hook):
    with pytest.raises(error, match=f"^intersection_information: expected .*{message}"):
        intersection_information(pmf, **options)
