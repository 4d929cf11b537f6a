"""Plans: disks, prices, further assumptions, what is refused, and what is printed."""

import json
import math

import numpy as np
import pytest

from limbeck import Plan, plan
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.bounds.arguments import round_down, round_up
from limbeck.limits.bounds.hard_labels import hard_labels_upper
from limbeck.limits.planning.needs import least_queries
from limbeck.limits.planning.prices import break_even
from limbeck.limits.planning.storage import bytes_per_query, readable_bytes


BASE = {"inputs": 10_000, "labels": 50, "error": 0.05}


def test_disks_and_break_even_prices_of_the_reference():
    made = plan(**BASE)
    assert [readable_bytes(one.disk) for one in made.privileges] == ["94 MB", "18 MB", "7.4 MB"]
    assert made.soft_labels.disk == 73_576 * 50 * 2
    assert made.hard_labels.disk == made.hard_labels.planning * 3
    ratios = made.break_even
    assert ratios["sampled_probabilities/hard_labels"] == pytest.approx(8.4795, abs=5e-5)
    assert ratios["soft_labels/hard_labels"] == pytest.approx(423.98, abs=5e-3)
    assert ratios["soft_labels/sampled_probabilities"] == pytest.approx(50)
    for error, one, many in ((0.05, 8.4795, 8.6526), (0.01, 42.398, 43.263)):
        for labels, expected in ((50, one), (10**9, many)):
            found = break_even(labels=labels, error=error)
            pair = ("sampled_probabilities", "hard_labels")
            assert found[pair] == pytest.approx(expected, abs=6e-4)
            made = plan(inputs=77, labels=labels, error=error)
            assert {tuple(k.split("/")): v for k, v in made.break_even.items()} == pytest.approx(
                found
            )


def test_bytes_of_a_token_in_the_reference():
    """Section 5.7: bytes a supervised token."""
    vocabulary = 128_256
    assert bytes_per_query("hard_labels", vocabulary) == 3
    assert bytes_per_query("sampled_probabilities", vocabulary) == 5
    assert bytes_per_query("hard_labels", vocabulary, draws=50, unique=12) == 36
    assert bytes_per_query("sampled_probabilities", vocabulary, draws=50, unique=12) == 60
    assert bytes_per_query("soft_labels", vocabulary, top=20) == 100
    sizes = [bytes_per_query("soft_labels", vocabulary, value_bytes=size) for size in (1, 2, 4)]
    assert sizes == [128_256, 256_512, 513_024]
    assert [readable_bytes(size * 10**9) for size in sizes] == ["128 TB", "257 TB", "513 TB"]
    assert bytes_per_query("hard_labels", 10, draws=50) == 10 * 3  # no more labels than there are
    assert bytes_per_query("hard_labels", 10, draws=4) == 4 * 3
    assert bytes_per_query("hard_labels", 2**25) == 4
    assert bytes_per_query("hard_labels", 2**17, draws=127, unique=1) == 3
    assert bytes_per_query("hard_labels", 2**17, draws=128, unique=1) == 4


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_the_cheapest_changes_at_the_break_even_price(factor):
    pairs = (
        ("sampled_probabilities", "hard_labels"),
        ("soft_labels", "sampled_probabilities"),
        ("soft_labels", "hard_labels"),
    )
    for better, poorer in pairs:
        ratio = plan(**BASE).break_even[f"{better}/{poorer}"]
        made = plan(**BASE, prices={poorer: 2.0, better: 2.0 * ratio * factor})
        assert made.cheapest == (better if factor < 1 else poorer)
        whole = getattr(made, poorer)
        assert whole.cost == 2.0 * whole.planning
    assert plan(**BASE).cheapest is None
    assert plan(**BASE).hard_labels.cost is None
    assert plan(**BASE, prices={"soft_labels": 0}).cheapest == "soft_labels"


def test_rounding():
    assert (round_up(10.0000000000001), round_up(10.1), round_up(0.01)) == (11, 11, 1)
    assert (round_down(9.99), round_down(-3.0)) == (9, 0)
    assert round_up(np.nextafter(10.0, 11)) == 10
    assert round_down(np.nextafter(10.0, 9)) == 10
    for n in (1, 2, 3, 17, 1000):
        assert least_queries(lambda k, n=n: float(k < n), 0.5) == n
    assert least_queries(lambda k: 1.0, 0.5, most=100) is None


def test_a_cut_row_needs_more_or_is_not_enough():
    whole = plan(**BASE).soft_labels
    cut = plan(**BASE, top=5, tail_mass=0.025).soft_labels
    assert cut.planning == math.ceil(10_000 / (math.e * 0.025))
    assert cut.disk == cut.planning * 5 * (3 + 2)
    assert cut.impossible_below == whole.impossible_below
    assert "leaves out 0.025" in cut.assumption
    sure = plan(**BASE, top=5, tail_mass=0.025, confidence=0.95).soft_labels
    twice = plan(inputs=10_000, labels=50, error=0.025, confidence=0.95).soft_labels
    assert sure.sufficient == twice.sufficient
    for confidence in (None, 0.95):
        none = plan(**BASE, top=5, tail_mass=0.05, confidence=confidence)
        assert none.soft_labels.status == "not reachable"
        assert none.soft_labels.planning is none.soft_labels.sufficient is None
        assert none.soft_labels.disk is none.break_even["soft_labels/hard_labels"] is None
        assert "keep more labels" in str(none)


def test_a_response_shares_its_error_among_its_tokens():
    made, token = plan(**BASE, horizon=20), plan(inputs=10_000, labels=50, error=0.0025)
    for one, other in zip(made.privileges, token.privileges, strict=True):
        assert (one.planning, one.sufficient) == (other.planning, other.sufficient)
    assert made.error == 0.05
    assert "0.0025 a token" in str(made)
    assert any("Tokens of one response are dependent" in note for note in made.notes)


def test_draws_take_fewer_inputs_and_more_bytes():
    made = plan(**BASE, draws=10)
    one = plan(**BASE)
    assert made.hard_labels.planning < one.hard_labels.planning
    assert made.sampled_probabilities.planning == math.ceil(60_000 / (math.e * 0.05))
    assert made.soft_labels == one.soft_labels
    assert made.hard_labels.bytes_per_query == 30
    assert plan(**BASE, draws=10, unique=4).sampled_probabilities.bytes_per_query == 20


def a_law(seed=0):
    generator = np.random.default_rng(seed)
    rho = 1 / np.arange(1, 13)
    return rho / rho.sum(), generator.dirichlet(np.full(5, 0.5), 12)


def unseen(masses, n):
    return sum(p * (1 - p) ** n for p in np.ravel(masses))


def test_a_known_law_needs_the_least_number_that_does():
    rho, rows = a_law()
    made = plan(error=0.02, law=(rho, rows))
    spread = sum(
        math.sqrt(r) * sum(math.sqrt(p * (1 - p)) for p in row)
        for r, row in zip(rho, rows, strict=True)
    )
    assert made.hard_labels.planning == math.ceil(spread**2 / (2 * math.pi * 0.02**2))
    n = made.sampled_probabilities.sufficient
    pairs = rho[:, None] * rows
    assert unseen(pairs, n) <= 0.02 < unseen(pairs, n - 1)
    n = made.soft_labels.sufficient
    assert unseen(rho, n) <= 0.02 < unseen(rho, n - 1)
    n = made.soft_labels.planning
    away = np.abs(rows - 0.2).sum(axis=1) / 2
    after = [sum(r * (1 - r) ** k * d for r, d in zip(rho, away, strict=True)) for k in (n, n - 1)]
    assert after[0] <= 0.02 < after[1]
    alone = sum(math.sqrt(r * (1 - r)) for r in rho)
    assert made.hard_labels.sufficient == math.ceil(((spread + alone) / 0.04) ** 2)
    assert made.hard_labels.impossible_below is None
    assert made.soft_labels.bytes_per_query == 10
    # far less than the worst case over as many inputs and labels
    worst = plan(inputs=12, labels=5, error=0.02)
    assert made.hard_labels.planning < worst.hard_labels.planning
    cut = plan(error=0.02, law=(rho, rows), top=3, tail_mass=0.01).soft_labels
    assert cut.sufficient == plan(error=0.01, law=(rho, rows)).soft_labels.sufficient
    none = plan(error=0.02, law=(rho, rows), top=3, tail_mass=0.02).soft_labels
    assert none.status == "not reachable"


def test_a_known_law_is_enough_with_a_probability():
    rho, rows = a_law(1)
    generator, runs = np.random.default_rng(5), 400
    made = plan(error=0.05, law=(rho, rows), confidence=0.9)
    for kind, masses in (("sampled_probabilities", rho[:, None] * rows), ("soft_labels", rho)):
        n = getattr(made, kind).sufficient
        law = np.ravel(masses) / np.sum(masses)
        missing = (law * (generator.multinomial(n, law, size=runs) == 0)).sum(axis=1)
        assert (missing > 0.05).mean() <= 0.1
        assert n > getattr(plan(error=0.05, law=(rho, rows)), kind).sufficient
    # the least of three bounds: one input takes Markov's, many take the others
    certain = plan(error=0.05, law=(np.ones(1), np.array([[0.5, 0.5]])), confidence=0.9)
    assert certain.soft_labels.sufficient == 1
    assert (
        made.hard_labels.sufficient
        <= plan(inputs=12, labels=5, error=0.05, confidence=0.9).hard_labels.sufficient
    )


def test_a_parametric_student_by_the_rules():
    made = plan(labels=11, error=0.1, parameters=628)
    assert [one.planning for one in made.privileges] == [9995, 1256, 63]
    assert all(one.sufficient is one.impossible_below is None for one in made.privileges)
    assert all("not proved" in one.assumption for one in made.privileges)
    floor = plan(labels=11, error=0.1, parameters=628, floor=0.05, effective_labels=5)
    assert floor.hard_labels.planning == math.ceil(628 / (2 * math.pi * 0.05**2))
    assert floor.soft_labels.planning == 157
    none = plan(labels=11, error=0.1, parameters=628, floor=0.113)
    assert {one.status for one in none.privileges} == {"not reachable"}
    assert "larger student" in str(none)


def test_a_lipschitz_teacher_has_the_rates_of_its_dimension():
    """(A/n)^(1/(D+2)), (A/n)^(1/(D+1)) and n^(-1/D)."""
    for dimension in (1, 2, 3):
        options = {"labels": 20, "lipschitz": 5.0, "dimension": dimension}
        near, far = (plan(**options, error=error) for error in (0.001, 0.002))
        for kind, power in (
            ("hard_labels", dimension + 2),
            ("sampled_probabilities", dimension + 1),
            ("soft_labels", dimension),
        ):
            ratio = getattr(near, kind).planning / getattr(far, kind).planning
            assert math.log2(ratio) == pytest.approx(power, abs=0.02)
        assert near.hard_labels.sufficient > near.hard_labels.planning
    none = plan(labels=20, error=0.1, lipschitz=5.0, dimension=2, confidence=0.5)
    assert none.hard_labels.sufficient is None


def test_a_lipschitz_plan_uses_the_best_number_of_cells():
    made = plan(labels=7, error=0.07, lipschitz=3.0, dimension=2)
    cells = range(43, 2000)
    hard = min(m**2 * 6 / (2 * math.pi * (0.07 - 3 / m) ** 2) for m in cells)
    sampled = min(m**2 * 7 / (math.e * (0.07 - 3 / m)) for m in cells)
    kept = min(m**2 / (math.e * (0.07 - 3 / m)) for m in cells)
    assert made.hard_labels.planning == math.ceil(hard)
    assert made.sampled_probabilities.planning == math.ceil(sampled)
    assert made.soft_labels.sufficient == math.ceil(kept)
    enough = min(
        (hard_labels_upper(queries=1, inputs=m**2, labels=7) / (0.07 - 3 / m)) ** 2 for m in cells
    )
    assert enough <= made.hard_labels.sufficient <= 1.01 * enough


def test_enough_for_a_lipschitz_teacher_is_enough():
    """A teacher of two labels on a line, whose rows change as fast as they may."""
    generator, error = np.random.default_rng(6), 0.15

    def rows(x):
        p = 0.5 + 0.5 * np.sin(8 * x)  # total variation changes by at most 4 a unit
        return np.stack([p, 1 - p], axis=-1)

    made = plan(labels=2, error=error, lipschitz=4.0, dimension=1)
    grid = (np.arange(20_000) + 0.5) / 20_000
    found = {"hard_labels": [], "soft_labels": [], "nearest": []}
    for _ in range(10):
        n = made.hard_labels.sufficient
        x = generator.random(n)
        labels = generator.random(n) >= rows(x)[:, 0]
        cells = round(4 * 3 / error)  # the best whole number: L (1 + 2/D) / error
        place = np.minimum((x * cells).astype(int), cells - 1)
        first = np.bincount(place, ~labels, cells) / np.maximum(np.bincount(place, None, cells), 1)
        at = np.minimum((grid * cells).astype(int), cells - 1)
        found["hard_labels"].append(np.abs(first[at] - rows(grid)[:, 0]).mean())
        for kind, n in (("soft_labels", made.soft_labels.sufficient), ("nearest", None)):
            x = np.sort(generator.random(n or made.soft_labels.planning))
            right = np.clip(np.searchsorted(x, grid), 1, max(len(x) - 1, 1)) if len(x) > 1 else 0
            left = right - 1 if len(x) > 1 else 0
            near = np.where(np.abs(x[left] - grid) <= np.abs(x[right] - grid), left, right)
            found[kind].append(np.abs(rows(x[near])[:, 0] - rows(grid)[:, 0]).mean())
    assert np.mean(found["hard_labels"]) <= error
    assert np.mean(found["soft_labels"]) <= error
    # to plan with: the steepest everywhere, which a sine is not; ends of the line are far
    assert 0.2 * error <= np.mean(found["nearest"]) <= 1.6 * error


def test_a_plan_says_what_it_rests_on_and_goes_into_json():
    made = plan(**BASE, confidence=0.95, prices={"hard_labels": 1, "soft_labels": 300})
    text = str(made)
    for part in (
        "teacher queries for error 0.05 (total variation); enough with probability 0.95",
        "impossible below",
        "31,194,369",
        "94 MB",
        "break-even: sampled_probabilities below 8.48 times the price of hard_labels",
        "cheapest at these prices: soft_labels",
        "rests on (all): tabular worst case",
        "independent draws",
        "impossible below 901,303 for hard_labels too",
    ):
        assert part in text, part
    assert isinstance(made, Plan)
    held = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert held["hard_labels"]["sufficient"] == made.hard_labels.sufficient
    assert held["settings"]["inputs"] == 10_000
    assert held["cheapest"] == "soft_labels"
    assert held["confidence"] == 0.95
    assert "the even row is within" in str(plan(inputs=9, labels=2, error=0.6))
    assert "enough in the mean" in str(plan(**BASE))


def test_sizes_of_records_can_be_given():
    made = plan(**BASE, record_bytes={"hard_labels": 10}, value_bytes=4)
    assert made.hard_labels.disk == made.hard_labels.planning * 10
    assert made.sampled_probabilities.bytes_per_query == 7
    assert made.soft_labels.bytes_per_query == 200


def with_base(**options):
    return {**BASE, **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (with_base(error=0.0), "`error` between 0 and 1"),
        (with_base(error=1), "`error` between 0 and 1"),
        (with_base(error=math.nan), "`error` between 0 and 1"),
        (with_base(inputs=0), "`inputs` >= 1; got 0"),
        (with_base(labels=1), "`labels` >= 2; got 1"),
        (with_base(confidence=0.8), "`confidence` >= 0.9"),
        (with_base(confidence=1.0), "`confidence` between 0 and 1"),
        (with_base(confidence=95), "`confidence` between 0 and 1"),
        (with_base(prices={"hard": 1}), "Did you mean hard_labels"),
        (with_base(prices={"hard_labels": -1}), "a price >= 0 for hard_labels; got -1"),
        (with_base(prices={"hard_labels": math.nan}), "a price >= 0"),
        (with_base(draws=0), "`draws` >= 1; got 0"),
        (with_base(unique=4), "expected `draws` beside `unique`"),
        (with_base(draws=3, unique=4), "`unique` in"),
        (with_base(top=5), "expected `tail_mass` beside `top`"),
        (with_base(tail_mass=0.1), "expected `top` beside `tail_mass`"),
        (with_base(top=51, tail_mass=0.0), "`top` in"),
        (with_base(top=5, tail_mass=1.0), "`tail_mass` in"),
        (with_base(horizon=0), "`horizon` >= 1"),
        (with_base(floor=0.1), "expected `parameters` beside `floor`"),
        (with_base(parameters=5, floor=-0.1), "`floor` in"),
        (with_base(parameters=5, effective_labels=1), "effective_labels"),
        (with_base(lipschitz=1.0), "expected `dimension` beside `lipschitz`"),
        (with_base(dimension=2), "expected `lipschitz` beside `dimension`"),
        (with_base(lipschitz=1.0, dimension=40), "fewer cells than 10"),
        (with_base(lipschitz=0.0, dimension=1), "`lipschitz` > 0"),
        (with_base(parameters=5, lipschitz=1.0, dimension=2), "got parameters and lipschitz"),
        (with_base(parameters=5, draws=2), "`draws` without `parameters`"),
        (with_base(exponent="free"), "expected `pilot` beside `exponent`"),
        (with_base(language_model=True), "expected `pilot` for a language model"),
        (with_base(value_bytes=3), "`value_bytes` to be 1, 2, 4 or 8"),
        (with_base(record_bytes={"hard_labels": -1}), "bytes >= 0"),
        ({"error": 0.1, "labels": 5}, "expected `inputs`; got none"),
        ({"error": 0.1, "inputs": 5}, "expected `labels`; got none"),
        ({"error": 0.1, "parameters": 5}, "expected `labels` beside `parameters`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(options, message):
    with pytest.raises(ArgumentError, match=r"^\w+: expected") as caught:
        plan(**options)
    assert message in str(caught.value)


def test_a_law_that_is_none_is_refused():
    with pytest.raises(DataError, match="sum to 1"):
        plan(error=0.1, law=(np.array([0.5, 0.6]), np.full((2, 2), 0.5)))
    with pytest.raises(ShapeError, match="one row an input"):
        plan(error=0.1, law=(np.array([0.5, 0.5]), np.full((3, 2), 0.5)))
