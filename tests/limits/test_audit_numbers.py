"""Findings about numbers: several values for a pair, sums above 1, rounding."""

import math

import numpy as np
import pytest
from helpers.simulated_records import law, records

from limbeck.limits.auditing.audit import audit
from limbeck.limits.auditing.numbers import grid_of
from limbeck.records import TeacherRecord


def noisy(rows, sd, seed, *, times=5):
    generator = np.random.default_rng(seed)
    made = []
    for s, row in enumerate(rows):
        for a, p in enumerate(row):
            values = np.log(p) + sd * generator.normal(size=times) - sd**2 / 2
            made += [TeacherRecord(s, a, min(float(x), 0.0)) for x in values]
    return made


@pytest.mark.parametrize(("sd", "severity"), [(1e-3, "note"), (0.01, "warning"), (0.1, "serious")])
def test_noise_of_the_teacher_has_its_floor(sd, severity):
    # Section 4 I of the reference: the floor is 0.399 sd, half the mean of |normal noise|.
    rows = law(0, inputs=20, labels=10, concentration=1.0)
    finding = audit(noisy(rows, sd, 1))["varying_probabilities"]
    assert finding.severity == severity
    assert finding.bias.lower <= 0.5 * math.sqrt(2 / math.pi) * sd <= finding.bias.upper
    assert finding.bias.n == 20 * 10 * 4
    assert finding.records == 1000


def test_one_pair_with_two_values_is_seen_and_float_noise_is_not():
    made = [TeacherRecord(s, 0, -0.5) for s in range(40)] * 2
    made[7] = TeacherRecord(7, 0, -0.6)
    found = audit(made)
    assert found["varying_probabilities"].lines == (8, 48)
    # Squares 2 * 0.05^2 over 40 pairs with one degree of freedom each.
    expected = math.sqrt(2 / math.pi) / 2 * math.sqrt(0.005 / 40)
    assert found["varying_probabilities"].bias.value == pytest.approx(expected)
    made[7] = TeacherRecord(7, 0, -0.5 - 2e-7)
    assert "varying_probabilities" not in audit(made)


def test_values_of_two_teachers_or_temperatures_are_no_noise():
    made = [TeacherRecord(s, 0, -0.5, teacher="a") for s in range(30)]
    made += [TeacherRecord(s, 0, -0.9, teacher="b") for s in range(30)]
    made += [TeacherRecord(s, 0, -0.7, temperature=0.5, teacher="b") for s in range(30)]
    found = audit(made)
    assert "varying_probabilities" not in found
    assert {"mixed_teachers", "declared_temperature"} <= {f.name for f in found.faults}


def test_rows_of_one_input_that_differ():
    one, two = np.log([0.5, 0.3, 0.2]), np.log([0.4, 0.4, 0.2])
    made = [TeacherRecord(0, 2, row=one), TeacherRecord(0, 2, row=two)]
    finding = audit(made)["varying_rows"]
    assert finding.bias.value == pytest.approx(0.1)
    assert finding.lines == (2,)
    assert "varying_rows" not in audit(
        [TeacherRecord(0, 2, row=one), TeacherRecord(0, 2, row=one + 0)]
    )


def test_sums_above_one_are_impossible():
    made = [TeacherRecord(0, a, math.log(0.4)) for a in (0, 1, 2)]
    made += [TeacherRecord(1, a, math.log(0.5)) for a in (0, 1)]
    finding = audit(made)["impossible_sums"]
    assert finding.bias.value == pytest.approx(0.2)
    assert (finding.records, finding.lines, finding.severity) == (3, (1, 2, 3), "serious")
    assert "up to 1.2" in finding.text
    # A pair that comes again counts once; rounding is let pass.
    assert "impossible_sums" not in audit([TeacherRecord(0, 0, math.log(0.8))] * 2)
    assert "impossible_sums" not in audit([TeacherRecord(0, a, math.log(0.502)) for a in (0, 1)])
    assert "impossible_sums" in audit(
        [TeacherRecord(0, a, math.log(0.502)) for a in (0, 1)], tolerance=1e-3
    )


@pytest.mark.parametrize(
    ("rounded", "name", "step", "logarithms"),
    [
        (lambda x: np.round(x, 2), "log-probabilities with 2 decimals", 0.01, True),
        (lambda x: np.log(np.round(np.exp(x), 3)), "probabilities with 3 decimals", 1e-3, False),
        (lambda x: np.round(x * 256) / 256, "log-probabilities in steps of 1/256", 1 / 256, True),
        (lambda x: x.astype(np.float16).astype(float), "log-probabilities in fp16", 2**-8, True),
        (lambda x: bfloat16(x), "log-probabilities in bf16", 2**-5, True),
    ],
)
def test_grids_are_recognised(rounded, name, step, logarithms):
    logs = -np.random.default_rng(0).uniform(0.01, 6.0, 500)
    grid = grid_of(rounded(logs))
    assert (grid.name, grid.step, grid.logarithms) == (name, pytest.approx(step), logarithms)


def bfloat16(x):
    import torch

    return torch.tensor(x).to(torch.bfloat16).double().numpy()


def test_float32_and_float64_are_no_grid():
    logs = -np.random.default_rng(1).uniform(0.01, 6.0, 500)
    assert grid_of(logs) is None
    assert grid_of(logs.astype(np.float32).astype(float)) is None
    assert "rounded_numbers" not in audit(records(law(1), 500, 1))


def test_the_cost_of_rounding_is_bounded():
    rows = law(2, inputs=20, labels=10, concentration=1.0)
    coarse = np.round(np.log(rows), 1)
    made = [TeacherRecord(s, a, float(x)) for s, r in enumerate(coarse) for a, x in enumerate(r)]
    made = [r for r in made if r.log_probability < 0]
    finding = audit(made, tolerance=0.5)["rounded_numbers"]
    assert finding.bias.value == pytest.approx(0.0249948, abs=1e-7)  # reference, section 9.6
    assert finding.severity == "warning"
    again = np.exp(coarse) / np.exp(coarse).sum(1, keepdims=True)
    assert 0.5 * np.abs(again - rows).sum(1).max() <= finding.bias.value
    fine = [
        TeacherRecord(r.input, r.label, round(r.log_probability, 3)) for r in records(rows, 300, 2)
    ]
    assert audit(fine)["rounded_numbers"].severity == "note"


def test_few_numbers_show_no_grid():
    found = audit([TeacherRecord(s, s % 3, -0.5 - s % 3) for s in range(50)])
    assert "rounded_numbers" not in found
    assert any(text.startswith("rounding: needs 12") for text in found.not_testable)
