"""Every case passes in a short run, and fails when what it tests is wrong."""

import dataclasses

import numpy as np
import pytest

from limbeck.checks import ArgumentError
from limbeck.lab_result import LabSettings
from limbeck.limits.lab import (
    cases,
    censored,
    certificates,
    constants,
    continuous,
    dimension,
    exponents,
    gradients_case,
    log_linear_case,
    meters_case,
    networks,
    noisy,
    planner,
    plateau,
    running,
    slopes,
    zipf,
)


QUICK = LabSettings(quick=True, seed=2)


def failures(result):
    return " ".join(check.name for check in result.failures)


@pytest.mark.parametrize("name", [*cases.CASES])
def test_a_short_run_passes(name):
    found = cases.run_case(name, QUICK)
    assert found.passed, found.failures
    assert found.settings["seed"] == 2
    assert found.case == name
    assert all(curve.log or name == "gradients" for curve in found.curves)


def test_an_unknown_case_is_refused():
    with pytest.raises(ArgumentError, match="Did you mean slopes"):
        cases.run_case("slope")


def wrong(monkeypatch, module, name, change):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: change(right(*a, **k)))


def learner(monkeypatch, name, change):
    right = running.LEARNERS[name]
    broken = {**running.LEARNERS, name: lambda law, counts: change(right(law, counts))}
    monkeypatch.setattr(running, "LEARNERS", broken)


def mixed(rows):
    """Mix a little of one label in: a student that never quite arrives."""
    return 0.99 * rows + 0.01 * np.eye(rows.shape[-1])[0]


def test_a_wrong_limit_of_the_naive_learner_fails(monkeypatch):
    wrong(monkeypatch, plateau, "naive_limit_risk", lambda risk: risk + 1e-6)
    assert "naive, closed form" in failures(plateau.plateau(QUICK))


def test_a_naive_learner_without_its_weights_fails(monkeypatch):
    monkeypatch.setattr(
        running, "LEARNERS", {**running.LEARNERS, "naive": running.LEARNERS["hard_labels"]}
    )
    assert "naive at n = " in failures(plateau.plateau(QUICK))


def test_wrong_expectations_fail_on_the_plateau(monkeypatch):
    wrong(monkeypatch, plateau, "hard_label_risk", lambda risk: 1.1 * risk)
    wrong(monkeypatch, plateau, "soft_label_risk", lambda risk: 1.5 * risk)
    said = failures(plateau.plateau(QUICK))
    assert "hard labels at n" in said
    assert "soft labels at n" in said


@pytest.mark.parametrize("name", ["hard_labels", "sampled_probabilities"])
def test_a_student_that_does_not_arrive_has_another_slope(monkeypatch, name):
    learner(monkeypatch, name, mixed)
    said = failures(slopes.slopes(QUICK))
    assert f"{name}, slope" in said
    assert "soft_labels, slope" not in said


def test_another_law_of_soft_labels_has_another_slope(monkeypatch):
    wrong(monkeypatch, slopes, "soft_label_runs", lambda risks: risks + 1e-4)
    assert "soft_labels, slope" in failures(slopes.slopes(QUICK))


def test_wrong_exponents_fail(monkeypatch):
    changed = {name: (a + 0.03, s - 0.03) for name, (a, s) in exponents.EXPONENTS.items()}
    monkeypatch.setattr(exponents, "EXPONENTS", changed)
    said = failures(exponents.exponents(QUICK))
    for name in changed:
        assert f"{name}: exponent of labels, exact" in said
        assert f"{name}: exponent of inputs, exact" in said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hard_label_risk", "hard labels"),
        ("hard_label_asymptote", "hard labels / sharp"),
        ("sampled_probability_instance_risk", "sampled probabilities"),
        ("soft_label_risk", "soft labels"),
    ],
)
def test_wrong_constants_fail(monkeypatch, name, told):
    wrong(monkeypatch, constants, name, lambda risk: 1.05 * risk)
    assert told in failures(constants.constants(QUICK))


def test_a_biased_certificate_fails(monkeypatch):
    right = certificates.draw

    def biased(*arguments):
        found = right(*arguments)
        return dataclasses.replace(
            found,
            risk=found.missing + 1e-9,
            good_turing=1.05 * found.good_turing,
            sharper=1.05 * found.sharper,
        )

    monkeypatch.setattr(certificates, "draw", biased)
    said = failures(certificates.certificates(QUICK))
    assert "n = 500: Good-Turing" in said
    assert "n = 500: sharper Good-Turing" in said
    assert "largest risk less missing mass" in said
    assert "random laws" in said


@pytest.mark.parametrize("name", ["good_turing_error", "sharper_error"])
def test_errors_that_are_not_those_of_the_runs_fail(monkeypatch, name):
    right = certificates.draw

    def flattered(*arguments):
        found = right(*arguments)
        return dataclasses.replace(found, **{name: getattr(found, name) / 4})

    monkeypatch.setattr(certificates, "draw", flattered)
    said = failures(certificates.certificates(QUICK))
    which = "sharper Good-Turing" if name == "sharper_error" else "Good-Turing"
    assert f"spread of {which} / told" in said


def test_wrong_missing_masses_fail(monkeypatch):
    monkeypatch.setattr(zipf, "SIZE", 20_000)
    said = failures(zipf.zipf(QUICK))
    assert "n = 1000: expected" in said
    assert "slope" in said
    wrong(monkeypatch, zipf, "missing_mass_after", lambda mass: 1.5 * mass)
    said = failures(zipf.zipf(QUICK))
    assert all(f"{times} times the sample: extrapolated" in said for times in ("1.5", "2", "3"))
    wrong(monkeypatch, zipf, "good_toulmin", lambda mass: 1.01 * mass)
    assert "2 times the sample: expectation" in failures(zipf.zipf(QUICK))


def test_students_that_look_at_the_wrong_numbers_do_not_recover(monkeypatch):
    right = log_linear_case.fit_log_linear

    def swapped(features, drawn, rows, *, loss):
        other = {"k3": "cross_entropy", "squared_error": "cross_entropy"}.get(loss, loss)
        return right(features, drawn, rows, loss=other)

    monkeypatch.setattr(log_linear_case, "QUICK", ((6, 24, 100, 400), 3))
    monkeypatch.setattr(log_linear_case, "fit_log_linear", swapped)
    said = failures(log_linear_case.log_linear(QUICK))
    assert "k3: median error at n = 24" in said
    assert "squared_error: median error at n = 24" in said
    assert "kl_divergence" not in said


def test_gradients_with_another_mean_fail(monkeypatch):
    right = gradients_case.ratio_gradient
    monkeypatch.setattr(
        gradients_case,
        "ratio_gradient",
        lambda p, t, c, weight=1.0: right(p, t, c, weight=weight) + 0.1 * (p - t),
    )
    said = failures(gradients_case.gradients(QUICK))
    assert "bias of k3" in said
    assert "bias of counts" not in said


def test_another_floor_of_noise_fails(monkeypatch):
    monkeypatch.setattr(noisy, "FLOOR", 1.2 * noisy.FLOOR)
    assert "standard deviation 0.01" in failures(noisy.noisy(QUICK))


def test_wrong_gains_and_heads_fail(monkeypatch):
    wrong(monkeypatch, censored, "censored_gain", lambda gain: 1.1 * gain)
    monkeypatch.setitem(censored.STUDENTS, "renormalised", censored.STUDENTS["uniform tail"])
    said = failures(censored.censored(QUICK))
    assert "hard labels / head and tail" in said
    assert "renormalised: bias" in said


def test_cells_that_never_get_finer_fail(monkeypatch):
    monkeypatch.setattr(continuous, "BINS", (5,))
    monkeypatch.setattr(continuous, "QUICK", ((500, 2_000, 8_000), 3))
    said = failures(continuous.continuous(QUICK))
    assert "hard_labels: slope" in said
    assert "sampled_probabilities: slope" in said
    assert "soft_labels" not in said


def test_portions_and_slopes():
    assert running.portions(10, running.CELLS // 4) == [4, 4, 2]
    assert running.portions(3, 10 * running.CELLS) == [1, 1, 1]
    assert running.slope([1, 10, 100], [5, 0.5, 0.05]) == pytest.approx(-1)
    assert running.log_spaced(4, 400, 3) == [4, 40, 400]
    runs = [np.array([1.0, 1.2]), np.array([0.1, 0.12])]
    # Each mean has a relative standard error of 1/11; two points, one decade apart.
    error = (2 * (1 / 11) ** 2) ** 0.5 / np.log(10)
    assert running.error_of_slope([1, 10], runs) == pytest.approx(error)
    assert running.error_of_mean(np.array([1.0])) == np.inf


def test_risks_of_soft_labels_need_no_labels():
    law = running.FiniteLaw("x", np.array([0.5, 0.5]), np.array([[1.0, 0.0], [0.25, 0.75]]))
    random = np.random.default_rng(0)
    found = running.soft_label_runs(law, 1, 4000, random)
    assert set(np.round(found, 12)) == {0.125, 0.25}
    other = running.simulate(law, 1, 4000, random, ("soft_labels",))["soft_labels"]
    assert set(np.round(other, 12)) == {0.125, 0.25}


def test_plans_with_other_constants_fail(monkeypatch):
    """A third of the queries is not enough, and eight times the impossible is no bound."""
    right = planner.plan

    def fewer(**options):
        made = right(**options)
        changed = {
            one.privilege: dataclasses.replace(
                one,
                sufficient=one.sufficient // (3 if made.confidence is None else 8),
                impossible_below=8 * one.impossible_below,
            )
            for one in made.privileges
        }
        return dataclasses.replace(made, **changed)

    monkeypatch.setattr(planner, "plan", fewer)
    said = failures(planner.planner(QUICK))
    for text in ("mean risk at", "runs above the error", "too few", "impossible below"):
        assert text in said


def test_meters_that_forget_a_part_fail(monkeypatch):
    right = meters_case.sampled_terms

    def shifted(student, teacher):
        found = right(student, teacher)
        return found._replace(
            total_variation=found.total_variation * 0.97, k1=found.k1 + 0.01, k3=found.k3 * 1.1
        )

    monkeypatch.setattr(meters_case, "sampled_terms", shifted)
    said = failures(meters_case.meters(QUICK))
    assert "total variation: mean" in said
    assert "KL by k1: mean" in said
    assert "KL by k3: mean" in said
    assert "coverage" not in said  # the intervals are wider than that


def test_intervals_that_are_too_narrow_fail(monkeypatch):
    ends = meters_case.betting_ends

    def narrow(*arguments):
        low, high = ends(*arguments)
        middle = (low + high) / 2
        return middle + (low - middle) / 3, middle + (high - middle) / 3

    monkeypatch.setattr(meters_case, "betting_ends", narrow)
    assert "betting: coverage" in failures(meters_case.meters(QUICK))


def test_residuals_that_leave_labels_out_fail(monkeypatch):
    wrong(monkeypatch, meters_case, "sampled_rows", lambda rows: np.roll(rows, 1, axis=-1))
    assert "largest risk less residual mass" in failures(meters_case.meters(QUICK))


def test_another_rule_for_parameters_fails(monkeypatch):
    monkeypatch.setattr(dimension, "DIMENSIONS", {"quick": (6, 12)})
    wrong(monkeypatch, dimension, "transfer_error", lambda error: 1.5 * error)
    monkeypatch.setattr(
        dimension,
        "fit_tanh_network",
        lambda x, drawn, rows, *, width, random, loss: dimension.TanhNetwork.random(
            x.shape[1], width, rows.shape[1], random, scale=0.5
        ),
    )
    said = failures(dimension.dimension(QUICK))
    assert "log-linear" in said
    assert "tanh networks" in said


def test_networks_that_look_at_the_wrong_numbers_fail(monkeypatch):
    right = networks.fit_tanh_network

    def swapped(*arguments, loss, **options):
        other = {"k3": "naive_cross_entropy", "naive_cross_entropy": "k3"}.get(loss, loss)
        return right(*arguments, loss=other, **options)

    monkeypatch.setattr(networks, "QUICK", networks.Sizes(24, 6, 50, (500, 2_000), 1, 150, 200))
    monkeypatch.setattr(networks, "fit_tanh_network", swapped)
    said = failures(networks.networks(QUICK))
    assert "sampled numbers / hard labels" in said
    assert "the worst other / naive" in said
    assert "k3 at 500" in said
    assert "what the optimiser leaves" in said  # after so few steps
