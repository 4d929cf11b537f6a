"""Every distribution with a known decomposition."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from limbeck import broja_pid


ATOMS = ("redundant", "unique_teacher", "unique_student", "synergistic")
H_QUARTER = 2.0 - 0.75 * math.log2(3.0)  # entropy of a coin that falls 1 : 3
GATES = Path(__file__).parents[3] / "shared" / "reference" / "pid_gates.json"


def table(outcomes):
    """Return counts from outcomes "tsy", one digit each."""
    counts = np.zeros((10, 10, 10), dtype=int)
    for t, s, y in outcomes.split():
        counts[int(y), int(t), int(s)] += 1
    return counts


def bits(n):
    return np.ndindex(*(2,) * n)


def rdnxor():
    counts = np.zeros((4, 4, 4), dtype=int)
    for a, b, r in bits(3):
        counts[2 * r + (a ^ b), 2 * r + a, 2 * r + b] += 1
    return counts


def rdnunqxor():
    counts = np.zeros((16, 8, 8), dtype=int)
    for a, b, r, u, v in bits(5):
        counts[8 * r + 4 * u + 2 * v + (a ^ b), 4 * r + 2 * u + a, 4 * r + 2 * v + b] += 1
    return counts


def noisy(first, second):
    """A fair bit through two independent channels that flip it."""
    t, s = (np.array([[1 - e, e], [e, 1 - e]]) for e in (first, second))
    return 0.5 * t[:, :, None] * s[:, None, :]


def entropy(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


CLOSED = {  # redundant, unique to the teacher, unique to the student, synergistic
    "RDN": (table("000 111"), (1, 0, 0, 0)),
    "UNQ_T": (table("000 010 101 111"), (0, 1, 0, 0)),
    "UNQ_S": (table("000 100 011 111"), (0, 0, 1, 0)),
    "COPY": (table("000 011 102 113"), (0, 1, 1, 0)),
    "XOR": (table("000 011 101 110"), (0, 0, 0, 1)),
    "AND": (table("000 010 100 111"), (H_QUARTER - 0.5, 0, 0, 0.5)),
    "OR": (table("000 011 101 111"), (H_QUARTER - 0.5, 0, 0, 0.5)),
    "SUM": (table("000 011 101 112"), (0.5, 0, 0, 1)),
    "XORAND": (table("000 012 102 111"), (0.5, 0, 0, 1)),
    "RDNXOR": (rdnxor(), (1, 0, 0, 1)),
    "RDNUNQXOR": (rdnunqxor(), (1, 1, 1, 1)),
    "PNT_UNQ": (table("011 101 022 202"), (0.5, 0, 0, 0.5)),
    "WB2": (table("000 011 111 102"), (0, 0.5, 1, 0)),
    "DUP": (table("000 001 111 112"), (0.5, 0, 0, 0)),
    "BSC": (
        noisy(0.1, 0.2),
        (
            1 - entropy(0.2),
            entropy(0.2) - entropy(0.1),
            0,
            entropy(0.26) - entropy(0.2),
        ),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    pmf, truth = CLOSED[name]
    found = broja_pid(pmf)
    assert found.status == "converged"
    assert found.gap <= 1e-6
    for atom, value in zip(ATOMS, truth, strict=True):
        low, high = found.bounds[atom]
        assert low - 1e-12 <= value <= high + 1e-12
        assert getattr(found, atom) == pytest.approx(value, abs=1e-6)


def test_copy_of_unequal_alphabets():
    pmf = np.zeros((15, 3, 5))
    for t in range(3):
        for s in range(5):
            pmf[5 * t + s, t, s] = 1 / 15
    found = broja_pid(pmf)
    assert found.unique_teacher == pytest.approx(math.log2(3), abs=1e-6)
    assert found.unique_student == pytest.approx(math.log2(5), abs=1e-6)
    assert found.redundant == pytest.approx(0.0, abs=1e-6)


GENERIC = {  # from two solvers that are not ours, printed to 12 digits; no closed form
    "2x3x3": (
        lambda y, t, s: ((y**2 + t * (y + 1) + 4 * t * s + y * t * s) % 5) ** 2,
        (0.155221406538, 0.139009254122, 0.111717636618, 0.123101108267),
    ),
    "3x3x3": (
        lambda y, t, s: (
            ((y**2 + 4 * t * (y + 1) + 5 * s * (y + 2) + 4 * t * s + 6 * y * t * s + 4) % 7) ** 2
        ),
        (0.147780967595, 0.226446564336, 0.226595353583, 0.186003773767),
    ),
    "4x5x6": (
        lambda y, t, s: (
            ((5 * y**2 + 3 * t * (y + 1) + 2 * s * (y + 2) + 5 * y * t * s + 5) % 7) ** 2
        ),
        (0.113240983276, 0.082672573983, 0.095090761318, 0.399822541588),
    ),
}


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("name", GENERIC)
def test_generic_optimum(name, tolerance):
    """All atoms positive: MMI, the independent coupling and the free bounds are all wrong here."""
    rule, truth = GENERIC[name]
    found = broja_pid(
        np.fromfunction(rule, tuple(map(int, name.split("x"))), dtype=int), tolerance=tolerance
    )
    assert found.status == "converged"
    assert found.gap <= tolerance
    for atom, value in zip(ATOMS, truth, strict=True):
        low, high = found.bounds[atom]
        assert low - 2e-12 <= value <= high + 2e-12
        assert getattr(found, atom) == pytest.approx(value, abs=tolerance)


def test_all_gates_of_the_reference():
    if not GATES.is_file():
        pytest.skip(f"no {GATES}; the gates above run without it")
    gates = json.loads(GATES.read_text("utf8"))
    assert len(gates) >= 30
    for name, gate in gates.items():
        pmf = np.array(gate["pmf"])
        found = broja_pid(pmf)
        assert found.status == "converged", name
        assert found.gap <= 1e-6, name
        for atom, value in gate["atoms"].items():
            assert getattr(found, atom) == pytest.approx(value, abs=1e-6), (name, atom)
        for field in ("mutual_teacher", "mutual_student", "mutual_joint"):
            assert getattr(found, field) == pytest.approx(gate[field], abs=1e-11), (name, field)
        low, high = found.certificate.verify(pmf)
        assert low - 2e-12 <= gate["union"] <= high + 2e-12, name
