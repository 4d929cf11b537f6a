"""The audit: each fault is found in a set that has it, and in no clean one."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from helpers.simulated_records import distance, drawn, law, power_of, records, with_top
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError
from limbeck.limits.auditing.audit import audit
from limbeck.records import TeacherRecord, write_records


def names(found):
    return {finding.name for finding in found.faults}


@pytest.mark.parametrize("privilege", ["hard_labels", "sampled_probabilities", "soft_labels"])
def test_clean_sets_have_no_faults(privilege):
    alarms = Counter()
    for seed in range(24):
        rows = law(seed, inputs=10, labels=8, concentration=(0.3, 1.0, 3.0)[seed % 3])
        found = audit(records(rows, (100, 400)[seed % 2], seed, privilege=privilege))
        alarms.update(names(found))
        assert found.privilege == privilege
        assert "No fault found." in str(found)
    assert not alarms


def test_clean_top_lists_have_no_faults():
    for seed in range(20):
        found = audit(with_top(law(seed), 500, seed, 5))
        assert not names(found)
        full = audit(with_top(law(seed, labels=6), 500, seed, 6))
        assert not names(full)


@pytest.mark.parametrize("privilege", ["sampled_probabilities", "soft_labels"])
@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.25])
def test_another_temperature_is_found_with_its_bias(privilege, temperature):
    rows = law(7, inputs=10, labels=6, concentration=2.0)
    found = audit(records(rows, 6000, 7, privilege=privilege, power=1 / temperature))
    finding = found["temperature"]
    low, high = finding.bias.settings["temperature_interval"]
    assert low <= temperature <= high
    assert high - low < 0.2
    assert finding.bias.settings["temperature"] == pytest.approx(temperature, rel=0.06)
    true = distance(rows, power_of(rows, 1 / temperature))
    assert finding.bias.value == pytest.approx(true, abs=0.02)
    assert not found.passed
    assert ("power 2" in finding.text) == (temperature == 0.5)


def test_the_interval_of_the_temperature_covers():
    hits = 0
    for seed in range(60):
        rows = law(seed, inputs=8, labels=6, concentration=1.0)
        found = audit(records(rows, 1001, seed, privilege="soft_labels", power=2.0))
        low, high = found["temperature"].bias.settings["temperature_interval"]
        hits += low <= 0.5 <= high
    assert hits >= 51  # 57 expected; three standard deviations are 5.1


def test_most_likely_labels_are_no_draws():
    rows = law(3, inputs=50, labels=6)
    made = [TeacherRecord(s, int(row.argmax()), row=np.log(row)) for s, row in enumerate(rows)]
    finding = audit(made)["temperature"]
    assert "always the most likely ones" in finding.text
    assert finding.bias.value == pytest.approx(float(1 - rows.max(1).mean()), abs=0.01)


def test_labels_of_somebody_else_are_no_draws_at_any_temperature():
    rows = law(4, inputs=200, labels=6, concentration=2.0)
    generator = np.random.default_rng(4)
    second = np.argsort(rows, 1)[:, -2]
    label = np.where(generator.random(200) < 0.6, second, rows.argmin(1))
    made = [TeacherRecord(s, int(a), row=np.log(rows[s])) for s, a in enumerate(label)]
    found = audit(made)
    assert "labels_not_drawn" in found
    assert "temperature" not in found
    assert 0.1 < found["labels_not_drawn"].bias.value <= 1


def test_repeats_that_were_taken_out_are_no_temperature():
    rows = law(5, inputs=30, labels=12, concentration=0.5)
    made = records(rows, 3000, 5, privilege="soft_labels")
    found = audit([TeacherRecord(r.input, r.label, row=r.row) for r in made])
    assert not names(found)
    assert "repeats were taken out" in found.not_testable[0]


def test_a_declared_temperature_is_judged_by_itself():
    rows = law(6, inputs=10, labels=6, concentration=2.0)
    raw = records(rows, 900, 6, privilege="soft_labels", power=2.0, temperature=0.5)
    clean = records(rows, 900, 7, privilege="soft_labels")
    found = audit(raw + clean)
    assert found["declared_temperature"].records == 900
    assert found["declared_temperature"].severity == "warning"
    assert found["temperature"].records == 900
    assert found["temperature"].bias.settings["temperature"] == pytest.approx(0.5, rel=0.1)
    processed = records(power_of(rows, 2.0), 2000, 6, privilege="soft_labels", temperature=0.5)
    assert names(audit(processed)) == {"declared_temperature"}
    greedy = [TeacherRecord(s, 1, temperature=0.0) for s in range(20)]
    assert audit(greedy)["declared_temperature"].severity == "serious"


def test_weights_that_are_the_probability_cost_the_naive_bias():
    rows = law(8, inputs=10, labels=6, concentration=1.0)
    for privilege in ("sampled_probabilities", "soft_labels"):
        made = [
            TeacherRecord(
                *(r.input, r.label, r.log_probability, r.row, (), r.count),
                weight=math.exp(r.log_probability),
            )
            for r in records(rows, 4000, 8, privilege=privilege)
        ]
        finding = audit(made)["probability_weighting"]
        share = np.bincount([r.input for r in made], [r.count for r in made], minlength=10) / 4000
        true = float(share @ (0.5 * np.abs(power_of(rows, 2.0) - rows).sum(1)))
        assert finding.bias.lower - 1e-9 <= true <= finding.bias.upper + 1e-9
        if privilege == "soft_labels":
            assert finding.bias.value == pytest.approx(true, abs=1e-9)
        assert finding.severity == "serious"
    shifted = [TeacherRecord(0, a % 3, -1.0 - a % 3, weight=1.0 + a % 7) for a in range(24)]
    assert "weights" in audit(shifted)


def test_importance_weights_of_a_tempered_proposal_are_right():
    rows = law(9, inputs=10, labels=6, concentration=2.0)
    proposal = power_of(rows, 1.25)
    made = [
        TeacherRecord(
            int(s), int(a), math.log(rows[s, a]), temperature=0.8, weight=rows[s, a] ** -0.25
        )
        for s, a in zip(*drawn(proposal, 500, 9), strict=True)
    ]
    assert not {"probability_weighting", "weights"} & set(names(audit(made)))


def test_the_cost_of_weighting_is_bounded_where_labels_are_missing():
    # One input, labels 1/2 and 1/4 seen: |pi|^2 lies in [5/16, 6/16].
    made = [TeacherRecord(0, 0, math.log(0.5)), TeacherRecord(0, 1, math.log(0.25))]
    bias = audit(made)["cost_of_probability_weighting"].bias
    low = 0.25 * (1 - 0.25 / 0.3125)
    high = 0.25 * (1 - 0.25 / 0.375) + 0.25
    assert (bias.lower, bias.upper) == (pytest.approx(low), pytest.approx(high))
    assert bias.status == "unresolved"


def test_repeated_pairs_and_repeated_sets():
    made = [TeacherRecord(s, 0, -0.5) for s in range(30)]
    assert "repeated_pairs" not in audit(made)
    found = audit([*made, made[3], made[4]])
    assert found["repeated_pairs"].bias.value == pytest.approx(2 / 32)
    assert found["repeated_pairs"].lines == (31, 32)
    assert found["repeated_pairs"].severity == "note"
    thrice = audit(made * 3)["repeated_set"]
    assert (thrice.severity, thrice.records, thrice.bias.value) == (
        "serious",
        60,
        pytest.approx(2 / 3),
    )
    counted = audit([TeacherRecord(0, 0, count=5), TeacherRecord(0, 1)])
    assert (counted.draws, counted.pairs, counted["repeated_pairs"].records) == (6, 2, 4)
    assert "repeated_set" not in audit(made[:19] * 2)


def test_mixtures_are_named():
    rows = law(10)
    made = records(rows, 50, 0, teacher="a") + records(rows, 20, 1, teacher="b")
    found = audit(made)
    assert found["mixed_teachers"].records == 20
    assert found["mixed_teachers"].lines[0] == 51
    mixed = audit(records(rows, 50, 0) + records(rows, 20, 1, privilege="hard_labels"))
    assert mixed["mixed_privileges"].records == 20
    assert mixed.privilege == "hard_labels"
    assert mixed.privileges == {"sampled_probabilities": 50, "hard_labels": 20}


def test_faulty_lines_and_placeholders(tmp_path):
    file = write_records(tmp_path / "r.jsonl", records(law(0), 50, 0))
    with file.open("a") as more:
        more.write('{"input": 1, "label": 0, "log_probability": -9999.0}\n{"input"\n')
    found = audit(file)
    assert found["faulty_lines"].records == 1
    assert found["faulty_lines"].lines == (52,)
    assert "not_json 1" in found["faulty_lines"].text
    assert found["faulty_lines"].severity == "serious"
    assert found["withheld_probabilities"].lines == (51,)
    few = write_records(tmp_path / "r.jsonl", records(law(0), 500, 0))
    with few.open("a") as more:
        more.write("{")
    assert audit(few)["faulty_lines"].severity == "warning"


def test_results_are_plain_and_saved(tmp_path):
    rows = law(11, labels=6)
    found = audit(records(rows, 500, 1, privilege="soft_labels", power=2.0))
    plain = json.loads(found.save(tmp_path).read_text())
    assert plain == json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (plain["records"], plain["labels"], plain["passed"]) == (500, 6, False)
    assert found.findings[0].severity == "serious"
    order = [("serious", "warning", "note").index(f.severity) for f in found.findings]
    assert order == sorted(order)
    with pytest.raises(KeyError):
        found["censored"]


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="audit: expected `confidence` in"):
        audit([TeacherRecord(0, 0)], confidence=1.0)
    with pytest.raises(DataError, match="audit: expected teacher records; got none"):
        audit([])
    with pytest.raises(DataError, match="no such file"):
        audit(tmp_path / "x.jsonl")


def test_inputs_of_three_kinds_in_one_set():
    made = [TeacherRecord(i, 0, -0.1) for i in (3, "3", (3,), (), "")]
    assert audit(made).inputs == 5


@st.composite
def fields_of_a_record(draw):
    """Return fields that a record may have, the extreme ones among them."""
    fields = {
        "input": draw(st.sampled_from([0, 1, "a", (1, 2), (1, 2, 1)])),
        "label": draw(st.integers(0, 2)),
        "count": draw(st.sampled_from([1, 1, 2, 50])),
        "temperature": draw(st.sampled_from([1.0, 1.0, 0.0, 0.5, 1e-300, 1e300])),
        "sequence": draw(st.sampled_from([None, "s", 1])),
        "position": draw(st.none() | st.integers(0, 3)),
        "teacher": draw(st.sampled_from([None, "b"])),
        "weight": draw(st.sampled_from([None, None, 0.0, 1.0, 1e-300, 1e300])),
    }
    kind = draw(st.integers(0, 3))
    if kind in (1, 3):
        fields["log_probability"] = draw(st.sampled_from([0.0, -0.5, -0.7, -1e-9, -800.0, -1e300]))
    if kind == 2:
        row = draw(
            st.sampled_from([(1, 0, 0), (0.5, 0.5, 0), (0.2, 0.3, 0.5), (1, 1e-300, 1e-320)])
        )
        with np.errstate(divide="ignore"):
            fields["row"] = np.log(np.array(row, dtype=float))
        fields["label"] = 0
        if draw(st.booleans()):
            fields["log_probability"] = draw(st.sampled_from([-0.1, -900.0]))
    if kind == 3:
        lists = [((0, 0.0),), ((0, -0.7), (1, -0.7)), ((2, -0.1), (1, -900.0), (0, -math.inf))]
        fields["top"] = draw(st.sampled_from(lists))
    return fields


@settings(max_examples=100, deadline=None)
@given(st.lists(fields_of_a_record(), min_size=1, max_size=8))
def test_no_set_crashes_the_audit(sets):
    found = audit([TeacherRecord(**fields) for fields in sets])
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)
    for finding in found.findings:
        if finding.bias is not None and finding.bias.unit == "total variation":
            assert 0 <= finding.bias.lower <= finding.bias.upper <= 1


def test_huge_counts_are_thinned():
    made = [TeacherRecord(0, a, math.log(0.5), count=2**40) for a in (0, 1)]
    found = audit(made)
    assert found.draws == 2**41
    assert found.passed


def test_few_draws_are_said_to_show_no_temperature():
    rows = law(12, inputs=3, labels=6, concentration=2.0)
    found = audit([TeacherRecord(s, int(r.argmin()), row=np.log(r)) for s, r in enumerate(rows)])
    assert not names(found)
    assert any("carry too little information" in text for text in found.not_testable)
