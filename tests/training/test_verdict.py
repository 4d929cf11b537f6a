"""What to do, by the gap of the networks' own cross-entropies, and by bits where that is open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck import pid_from_posteriors
from limbeck.estimates import Estimate
from limbeck.training.own_scores import gap_of
from limbeck.training.verdict import reason_of, verdict_of


ROWS = 400
TARGETS = np.arange(ROWS) % 4
ALL = np.eye(4)[TARGETS] * 0.9 + 0.025
HALVES = np.repeat(np.eye(2)[TARGETS // 2], 2, axis=1) * 0.45 + 0.025
NOTHING = np.full((ROWS, 4), 0.25)


def gap(lower: float, upper: float) -> Estimate:
    return Estimate((lower + upper) / 2, lower, upper, n=9, unit="bits", status="resolved")


@pytest.fixture(scope="module")
def estimates():
    """Return what bits alone say: H(Y) is 2 bits, so that .04 is nothing."""
    pairs = {"distil": (ALL, HALVES), "done": (ALL, ALL), "nothing to distil": (NOTHING, HALVES)}
    found = {
        word: pid_from_posteriors(TARGETS, teacher, student)
        for word, (teacher, student) in pairs.items()
    }
    assert {word: one.verdict for word, one in found.items()} == {word: word for word in pairs}
    return found


@pytest.mark.parametrize("bits", ["distil", "done", "nothing to distil"])
@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.041, 0.3), "distil"),
        ((-0.3, -0.041), "do not distil"),
        ((0.03, 0.3), "cannot tell"),
        ((-0.3, -0.03), "cannot tell"),
        ((-0.3, 0.3), "cannot tell"),
    ],
)
def test_a_gap_decides_whatever_bits_say(estimates, bits, ends, said):
    assert verdict_of(estimates[bits], gap(*ends)) == said


def test_bits_decide_where_the_gap_is_nothing(estimates):
    nothing = gap(-0.039, 0.039)
    assert verdict_of(estimates["done"], nothing) == "done"
    assert verdict_of(estimates["nothing to distil"], nothing) == "nothing to distil"
    assert verdict_of(estimates["distil"], nothing) == "cannot tell"


def test_bits_decide_where_there_are_no_scores(estimates):
    assert verdict_of(estimates["distil"], None) == "distil"
    assert reason_of(estimates["distil"], None) == "the teacher knows what the student lacks"


@pytest.mark.parametrize(
    ("bits", "ends", "words"),
    [
        ("done", (0.1, 0.3), "the teacher's own scores are better"),
        ("done", (-0.3, -0.1), "the student's own scores are better"),
        ("done", (-0.3, 0.3), "open whose own scores are better"),
        ("done", (-0.01, 0.01), "as good, and it knows what the teacher knows"),
        ("nothing to distil", (-0.01, 0.01), "they share little"),
        ("distil", (-0.01, 0.01), "but the teacher knows bits that the student lacks"),
    ],
)
def test_every_verdict_has_its_reason(estimates, bits, ends, words):
    assert words in reason_of(estimates[bits], gap(*ends))


def test_the_interval_is_of_the_pairs():
    """Rows that are hard for both widen neither: the differences are 1, 2, 3 and 6."""
    teacher = torch.tensor([0.0, 50.0, 100.0, 7.0])
    found = gap_of(teacher + torch.tensor([1.0, 2.0, 3.0, 6.0]), teacher)
    spread = 1.96 * np.sqrt((4 + 1 + 0 + 9) / 4 / 4)
    assert found.value == pytest.approx(3.0)
    assert (found.lower, found.upper) == pytest.approx((3.0 - spread, 3.0 + spread))
    assert (found.n, found.unit) == (4, "bits")
