"""Fits of learning curves: known exponents, coverage, refusals, and needs read off them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats

from limbeck import plan
from limbeck.checks import ArgumentError, DataError, ShapeError
from limbeck.limits.planning.pilot_curve import fit_curve
from limbeck.limits.planning.pilot_errors import read_errors
from limbeck.limits.planning.pilot_profile import profile_size


QUICK = settings(max_examples=8, deadline=None, derandomize=True)
SIZES = np.array([500.0, 1000, 2000, 4000])


@QUICK
@given(st.floats(0.3, 1.5), st.floats(0.0, 0.1), st.floats(0.05, 0.4))
def test_known_exponents_floors_and_scales_are_recovered(exponent, floor, first):
    scale = first * SIZES[0] ** exponent
    fit = fit_curve(SIZES, floor + scale * SIZES**-exponent)
    assert fit.exponent.value == pytest.approx(exponent, abs=2e-3)
    assert fit.floor.value == pytest.approx(floor, abs=1e-3)
    assert fit.exponent.lower <= exponent + 1e-6
    assert fit.exponent.upper >= exponent - 1e-6
    assert fit.error_at(1500) == pytest.approx(floor + scale * 1500**-exponent, rel=1e-4)


def counting_risks(n, runs, generator, inputs=8, labels=9):
    """Return risks of counting hard labels at even rows, by simulation."""
    cells = generator.multinomial(n, np.full(inputs * labels, 1 / (inputs * labels)), size=runs)
    counts = cells.reshape(runs, inputs, labels)
    rows = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    return np.abs(rows - 1 / labels).sum(axis=2).mean(axis=1) / 2


def test_the_students_of_the_theory_have_its_exponents():
    generator = np.random.default_rng(0)
    sizes = np.repeat(SIZES, 20)
    errors = np.concatenate([counting_risks(int(n), 20, generator) for n in SIZES])
    fit = fit_curve(sizes, errors)
    assert fit.exponent.lower <= 0.5 <= fit.exponent.upper
    assert fit.exponent.value == pytest.approx(0.5, abs=0.1)
    fixed = fit_curve(sizes, errors, exponent=0.5)
    sharp = math.sqrt(8 * 8 / (2 * math.pi))
    assert fixed.scale == pytest.approx(sharp, rel=0.05)
    found = fixed.needed(0.01)
    assert found.status == "resolved"
    assert found.queries.lower <= (sharp / 0.01) ** 2 <= found.queries.upper
    # soft labels with rho = 1/(n + 1) on all but one input: the worst case at every size
    rho = 1 / (sizes + 1)
    missing = rho * generator.binomial(400 * 100, (1 - rho) ** sizes) / 100  # means of 100 runs
    fit = fit_curve(sizes, missing, exponent=1)
    assert fit.scale == pytest.approx(400 / math.e, rel=0.02)
    assert fit_curve(sizes, missing).exponent.value == pytest.approx(1, abs=0.1)


def test_the_interval_is_a_profile():
    """The same misfit, minimised by scipy under the constraint that n reaches the target."""
    generator, target = np.random.default_rng(1), 0.09
    sizes = np.repeat(SIZES, 3)
    errors = (0.03 + 3 * sizes**-0.5) * (1 + 0.02 * generator.standard_normal(12))
    fit = fit_curve(sizes, errors, exponent=0.5)
    curve_at = np.array([fit.error_at(n) for n in SIZES])
    assert fit.groups.weights == pytest.approx(curve_at**-2.0, rel=1e-4)  # relative errors
    weights = np.repeat(fit.groups.weights, 3)

    def misfit(queries):
        def loss(floor):
            scale = (target - floor) * math.sqrt(queries)
            return (weights * (errors - floor - scale * sizes**-0.5) ** 2).sum()

        return optimize.minimize_scalar(loss, bounds=(0, target), options={"xatol": 1e-12}).fun

    best = optimize.minimize_scalar(
        lambda t: misfit(math.exp(t)), bounds=(6, 14), options={"xatol": 1e-9}
    )
    found = fit.needed(target).queries
    assert math.log(found.value) == pytest.approx(best.x, abs=1e-4)
    limit = best.fun * (1 + stats.f.ppf(0.95, 1, 10) / 10)
    for end in (found.lower, found.upper):
        assert misfit(end) == pytest.approx(limit, rel=1e-4)
    assert found.settings == {"interval": "profile", "confidence": 0.95}
    # a target below the floor: curves fall, so no floor is above it
    target = 0.02
    for queries in (1e3, 1e6, 1e9):
        found = profile_size(fit.groups, target, np.array([queries]), np.array([0.5]))
        assert found[0] == pytest.approx(misfit(queries), rel=1e-6)


CASES = [  # floor, scale, exponent, target, noise
    (0.05, 3.0, 0.5, 0.07, 0.05),
    (0.0, 3.0, 0.5, 0.03, 0.03),
    (0.02, 100.0, 1.0, 0.03, 0.05),
]


@pytest.mark.parametrize(("floor", "scale", "exponent", "target", "noise"), CASES)
def test_intervals_cover_the_truth(floor, scale, exponent, target, noise):
    """95 % of 100 pilots; fewer than 89 would come with probability 0.004."""
    generator, runs = np.random.default_rng(2), 100
    truth = (scale / (target - floor)) ** (1 / exponent)
    sizes = np.repeat(SIZES, 4)
    covered = floors = 0
    for _ in range(runs):
        errors = floor + scale * sizes**-exponent
        errors *= 1 + noise * generator.standard_normal(len(sizes))
        fit = fit_curve(sizes, errors, exponent=exponent)
        found = fit.needed(target)
        inside = found.queries.lower <= truth <= found.queries.upper
        covered += inside and found.status != "not reachable"
        floors += fit.floor.lower <= floor <= fit.floor.upper
    assert covered / runs >= 0.89
    assert floors / runs >= 0.89


def curve(floor, noise=0.01, seed=3):
    generator, sizes = np.random.default_rng(seed), np.repeat(SIZES, 5)
    errors = (floor + 3 * sizes**-0.5) * (1 + noise * generator.standard_normal(20))
    return sizes, errors


def test_no_number_is_made_up_where_the_measurements_give_none():
    fit = fit_curve(*curve(0.05), exponent=0.5)
    far = fit.needed(0.01)
    assert far.status == "not reachable"
    assert f"[{fit.floor.lower:.4g}, {fit.floor.upper:.4g}], is above the error" in far.reason
    at = fit.needed(fit.floor.value)
    assert (at.status, at.queries.upper) == ("unresolved", math.inf)
    assert at.queries.lower > 4000
    near = fit.needed(fit.floor.value + 1e-4)
    assert near.status == "unresolved"
    assert fit.needed(0.08).status == "resolved"
    # a steep curve far below its pilots: within a hundred times the largest, or not at all
    sizes = np.repeat(SIZES, 3)
    steep = fit_curve(sizes, 30 / sizes, exponent=1)
    assert steep.needed(30 / 390_000).status == "resolved"
    assert steep.needed(30 / 410_000).status == "unresolved"
    made = plan(error=0.01, pilot={"hard_labels": curve(0.05)})
    assert made.hard_labels.planning is made.hard_labels.cost is None
    assert made.hard_labels.status == "not reachable"
    assert made.sampled_probabilities.status == "not measured"
    assert all(ratio is None for ratio in made.break_even.values())
    assert made.to_dict()["hard_labels"]["interval"] is None
    made = plan(error=float(fit.floor.value), pilot={"hard_labels": curve(0.05)})
    assert made.to_dict()["hard_labels"]["interval"][1] is None
    assert "unresolved [" in str(made)


def test_an_exponent_that_does_not_fit_is_not_used():
    generator, sizes = np.random.default_rng(4), np.repeat(SIZES, 6)
    errors = 3 * sizes**-0.25 * (1 + 0.003 * generator.standard_normal(24)) / 3
    wrong = fit_curve(sizes, errors, exponent=1.0)
    assert wrong.misfit < 0.01
    assert wrong.needed(0.12).status == "unresolved"
    assert "does not fit" in wrong.needed(0.12).reason
    made = plan(error=0.12, pilot={"soft_labels": (sizes, errors)})
    assert any("exclude the theory's exponent 1" in note for note in made.soft_labels.notes)
    assert "(fitted)" in made.soft_labels.assumption
    ends = made.soft_labels.interval
    assert ends[0] <= 0.12**-4 <= ends[1]
    right = fit_curve(sizes, errors)
    assert right.misfit > 0.01


def test_plans_by_measured_errors():
    sizes = np.repeat(SIZES, 5)
    pilots = {"hard_labels": curve(0.02), "soft_labels": (sizes, 20 / sizes)}
    made = plan(error=0.05, pilot=pilots, prices={"hard_labels": 1, "soft_labels": 5}, labels=10)
    assert made.hard_labels.interval[0] <= (3 / 0.03) ** 2 <= made.hard_labels.interval[1]
    assert made.soft_labels.planning == pytest.approx(400, abs=1)
    assert made.soft_labels.disk == made.soft_labels.planning * 20
    assert made.cheapest == "soft_labels"
    assert made.hard_labels.sufficient is None
    assert "the exponent 0.5 is taken from theory; alone" in str(made)
    assert str(made).startswith("teacher queries for error 0.05 (total variation)\n")
    free = plan(error=0.05, pilot=pilots, exponent="free")
    assert free.hard_labels.interval[1] > made.hard_labels.interval[1]
    same = plan(error=0.05, pilot=pilots, exponent=0.5).hard_labels
    assert same.planning == made.hard_labels.planning
    wide, narrow = (
        plan(error=0.05, pilot=pilots, confidence=level).hard_labels.interval
        for level in (0.99, 0.5)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    three = plan(error=0.05, pilot={"soft_labels": (SIZES[:3], 20 / SIZES[:3])})
    assert any("too few measurements to check it" in note for note in three.soft_labels.notes)


def test_errors_are_read_from_a_file(tmp_path):
    path = tmp_path / "errors.csv"
    sizes, errors = curve(0.02)
    lines = [f"hard_labels,{n:.0f},{r!r},seed" for n, r in zip(sizes, errors.tolist(), strict=True)]
    path.write_text("# measured\nprivilege, queries,error,remark\n" + "\n".join(lines) + "\n")
    found = read_errors(path)
    assert list(found) == ["hard_labels"]
    assert np.array_equal(found["hard_labels"][0], sizes)
    assert np.array_equal(found["hard_labels"][1], errors)
    assert (
        plan(error=0.05, pilot=path).hard_labels
        == plan(error=0.05, pilot={"hard_labels": (sizes, errors)}).hard_labels
    )
    made = plan(error=0.05, pilot=str(path), language_model=True)
    assert made.settings == {"pilot": "errors.csv", "language_model": True, "value_bytes": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("queries,error\n1,0.1\n", "Add privilege"),
        ("privilege,queries,error\n", "got none"),
        ("privilege,queries,error\nhard,10,0.1\n", "measurement 1; got hard, 10, 0.1"),
        ("privilege,queries,error\nhard_labels,10,1.5\n", "got hard_labels, 10, 1.5"),
        ("privilege,queries,error\nhard_labels,0,0.5\n", "queries >= 1"),
        ("privilege,queries,error\nhard_labels,10,nan\n", "got hard_labels, 10, nan"),
        ("privilege,queries,error\nhard_labels,10\n", "measurement 1"),
        ("privilege,queries,error\nhard_labels,10,0.5\n", "at least 3 sizes and 3 measurements"),
    ],
)
def test_a_faulty_file_is_refused(tmp_path, text, message):
    path = tmp_path / "errors.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        plan(error=0.1, pilot=path)
    assert message in str(caught.value)
    with pytest.raises(DataError, match="FileNotFoundError"):
        read_errors(tmp_path / "none.csv")


def test_what_is_wrong_is_said():
    with pytest.raises(ShapeError, match="one error a size"):
        fit_curve(SIZES, SIZES[:2] / 1e5)
    with pytest.raises(DataError, match=r"errors in \[0, 1\]"):
        fit_curve(SIZES, SIZES)
    with pytest.raises(DataError, match="sizes >= 1"):
        fit_curve(SIZES * 0, SIZES / 1e5)
    with pytest.raises(DataError, match="3 sizes and 4 measurements for 3 parameters"):
        fit_curve(SIZES[:3], SIZES[:3] / 1e5)
    with pytest.raises(DataError, match="above 0 at each size"):
        fit_curve(SIZES, SIZES * 0)
    with pytest.raises(ArgumentError, match="`exponent` in"):
        fit_curve(SIZES, SIZES / 1e5, exponent=3.0)
    with pytest.raises(ArgumentError, match="`confidence` between"):
        fit_curve(SIZES, SIZES / 1e5, confidence=1.0)
    with pytest.raises(ArgumentError, match="`exponent` to be"):
        plan(error=0.1, pilot={"hard_labels": curve(0.0)}, exponent="half")
    with pytest.raises(ArgumentError, match="Did you mean hard_labels"):
        plan(error=0.1, pilot={"hard": curve(0.0)})
    with pytest.raises(DataError, match=r"\(sizes, errors\) for hard_labels"):
        plan(error=0.1, pilot={"hard_labels": 3})
    with pytest.raises(DataError, match="expected measured errors; got none"):
        plan(error=0.1, pilot={})
    with pytest.raises(ArgumentError, match="Measured errors hold the tail"):
        plan(error=0.1, pilot={"hard_labels": curve(0.0)}, labels=9, top=2, tail_mass=0.1)


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_far_sizes_do_not_hide_that_a_free_exponent_is_known(noise):
    """0.02 + 10 n^-0.9 is 0.03 at n = 1000^(1/0.9); no size of 1e15 fits these numbers."""
    source = np.random.default_rng(0)
    sizes = np.repeat([250.0, 500.0, 1000.0, 2000.0], 3)
    errors = (0.02 + 10 * sizes**-0.9) * (1 + noise * source.standard_normal(12))
    needed = fit_curve(sizes, errors).needed(0.03)
    assert needed.status == "resolved"
    assert needed.queries.lower <= 1000 ** (1 / 0.9) <= needed.queries.upper
    assert needed.queries.upper < 1.2 * needed.queries.lower
