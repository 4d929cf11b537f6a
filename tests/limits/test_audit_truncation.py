"""Findings about laws that were cut: renormalised, censored, two laws in one record."""

import math

import numpy as np
import pytest
from helpers.simulated_records import drawn, law, records, with_top

from limbeck.limits.auditing.audit import audit
from limbeck.records import TeacherRecord


def cut_rows(rows, k):
    kept = np.where(rows >= np.sort(rows, 1)[:, [-k]], rows, 0)
    return kept / kept.sum(1, keepdims=True)


def lost(rows, k):
    return 1 - np.sort(rows, 1)[:, -k:].sum(1)


def test_renormalised_lists_lose_what_is_drawn_outside():
    rows = law(0, inputs=20, labels=30, concentration=0.7)
    made = with_top(rows, 4000, 0, 5, renormalised=True)
    finding = audit(made)["renormalised_top_k"]
    share = np.bincount([r.input for r in made], [r.count for r in made], minlength=20) / 4000
    assert finding.bias.lower <= float(share @ lost(rows, 5)) <= finding.bias.upper
    assert finding.bias.settings["kind"] == "Clopper-Pearson"
    assert (finding.severity, finding.records) == ("serious", len(made))


def test_renormalised_rows_beside_raw_numbers_lose_exactly_that():
    rows = law(1, inputs=20, labels=12, concentration=0.7)
    cut = cut_rows(rows, 4)
    made = []
    for s, a in zip(*drawn(rows, 2000, 1), strict=True):
        if cut[s, a]:
            with np.errstate(divide="ignore"):
                made.append(TeacherRecord(int(s), int(a), math.log(rows[s, a]), np.log(cut[s])))
    finding = audit(made)["renormalised_top_k"]
    share = np.bincount([r.input for r in made], minlength=20) / len(made)
    assert finding.bias.value == pytest.approx(float(share @ lost(rows, 4)), abs=1e-9)
    assert finding.bias.status == "exact"
    assert "4 of 12 labels" in finding.text


def test_draws_that_a_cut_row_rules_out_are_counted():
    rows = law(2, inputs=20, labels=12, concentration=0.7)
    cut = cut_rows(rows, 4)
    made = [
        {"input": int(s), "label": int(a), "probabilities": cut[s].tolist()}
        for s, a in zip(*drawn(rows, 3000, 2), strict=True)
    ]
    found = audit(made)
    share = np.bincount([line["input"] for line in made], minlength=20) / 3000
    bias = found["renormalised_top_k"].bias
    assert bias.lower <= float(share @ lost(rows, 4)) <= bias.upper
    assert bias.n == 3000
    assert "drawn_outside" in found["faulty_lines"].text


def test_without_a_draw_outside_the_loss_is_only_bounded():
    # Kept 0.7 and 0.3 of 4 labels: two others of at most 0.3 a_K, so 1 - a_K <= 0.6 / 1.6.
    first, second = [0.7, 0.3, 0, 0], [0, 0, 0.7, 0.3]
    made = [
        {"input": s, "label": 2 * s, "probabilities": row} for s, row in enumerate((first, second))
    ]
    finding = audit(made)["renormalised_top_k"]
    assert finding.bias.lower == 0
    assert finding.bias.upper == pytest.approx(0.375)
    assert finding.bias.status == "unresolved"


def test_labels_that_are_never_used_are_no_cut():
    rows = np.hstack([law(3, labels=5), np.zeros((20, 3))])
    made = [
        {"input": int(s), "label": int(a), "probabilities": rows[s].tolist()}
        for s, a in zip(*drawn(rows, 300, 3), strict=True)
    ]
    assert not audit(made).faults


def test_underflow_is_no_cut():
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(30, 40)) * 8
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = rows.astype(np.float16).astype(np.float64)
    rows /= rows.sum(1, keepdims=True)
    made = [
        {"input": s, "label": int(r.argmax()), "probabilities": r.tolist()}
        for s, r in enumerate(rows)
    ]
    assert "renormalised_top_k" not in audit(made)


def test_two_laws_are_as_far_apart_as_they_are():
    rows = law(5, inputs=10, labels=6, concentration=1.0)
    other = law(6, inputs=10, labels=6, concentration=1.0)
    made = [
        TeacherRecord(int(s), int(a), math.log(rows[s, a]), np.log(other[s]))
        for s, a in zip(*drawn(rows, 5000, 5), strict=True)
    ]
    bias = audit(made)["two_laws"].bias
    share = np.bincount([r.input for r in made], minlength=10) / 5000
    assert bias.lower <= float(share @ (0.5 * np.abs(rows - other).sum(1))) <= bias.upper


def test_censored_draws_cost_what_the_tail_cannot_tell():
    # The set-up of the reference, section 4 J: risk 0.0551 and gain 1.538 at n = 20,000.
    row = np.arange(1, 501) ** -1.6
    row /= row.sum()
    made = with_top(np.tile(row, (20, 1)), 20_000, 6, 20, censored=True)
    found = audit(made, labels=500)
    finding = found["censored"]
    tail = 1 - row[:20].sum()
    hidden = sum(r.count for r in made if r.label >= 20)
    assert finding.records == sum(r.label >= 20 for r in made)
    assert hidden / 20_000 == pytest.approx(tail, abs=0.01)
    assert f"{100 * hidden / 20_000:.3g} %" in finding.text
    assert finding.bias.lower <= 0.0551 <= finding.bias.upper
    assert finding.bias.lower > 0.02
    assert finding.bias.upper <= tail + 1e-12
    assert names_of(found) == {"censored"}


def test_the_gain_of_a_head_that_is_known():
    # Head 1/2, tail 1/4 and 1/4, each drawn as often as it should be.
    top = ((0, math.log(0.5)),)
    made = [TeacherRecord(0, 0, math.log(0.5), top=top, count=200)]
    made += [TeacherRecord(0, a, top=top, count=100) for a in (1, 2)]
    finding = audit(made, labels=3)["censored"]
    gain = (0.5 + 2 * math.sqrt(3 / 16)) / (2 * math.sqrt(1 / 8))
    assert f"{gain:.3g} times less" in finding.text
    # 1/2 * 1/2 * sqrt(2 / (pi 200)) * 2 * 1/2: seen and uniform tails are the same here.
    cost = 0.25 * math.sqrt(2 / (200 * math.pi))
    assert finding.bias.lower == pytest.approx(cost)
    assert finding.bias.upper == pytest.approx(cost * math.sqrt(2))


def test_a_clean_set_of_sampled_probabilities_is_not_censored():
    assert not names_of(audit(records(law(8), 300, 8)))


def names_of(found):
    return {finding.name for finding in found.faults}
