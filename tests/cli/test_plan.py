"""``plan``: what is asked for reaches the planner, is printed, and refused where it is wrong."""

import json

import numpy as np
import pytest

from limbeck import plan


BASE = ("plan", "--inputs", 10_000, "--labels", 50, "--error", 0.05)


def test_a_plan_is_printed(limbeck):
    said, errors = limbeck(
        *BASE, "--confidence", 0.95, "--price", "hard_labels=1", "--price",
        "sampled_probabilities=2",
    )  # fmt: skip
    for text in (
        "enough with probability 0.95",
        "31,194,369",
        "4,571,543",
        "287,405",
        "94 MB",
        "7.4 MB",
        "break-even: soft_labels below 424 times the price of hard_labels",
        "cheapest at these prices: sampled_probabilities",
        "rests on (all): tabular worst case",
    ):
        assert text in said, text
    assert errors == ""


OPTIONS = [
    (("--draws", 10, "--unique", 4), {"draws": 10, "unique": 4}),
    (("--top", 5, "--tail-mass", 0.02), {"top": 5, "tail_mass": 0.02}),
    (("--horizon", 20), {"horizon": 20}),
    (
        ("--parameters", 600, "--floor", 0.01, "--effective-labels", 9),
        {"parameters": 600, "floor": 0.01, "effective_labels": 9},
    ),
    (("--lipschitz", 2, "--dimension", 3), {"lipschitz": 2.0, "dimension": 3}),
    (("--value-bytes", 4), {"value_bytes": 4}),
    (("--record-bytes", "hard_labels=9"), {"record_bytes": {"hard_labels": 9.0}}),
    (("--price", "soft_labels=0.5"), {"prices": {"soft_labels": 0.5}}),
]


@pytest.mark.parametrize(("arguments", "options"), OPTIONS, ids=lambda value: str(value)[:30])
def test_options_reach_the_planner(limbeck, arguments, options):
    made = plan(inputs=10_000, labels=50, error=0.05, **options)
    assert limbeck.json(*BASE, *arguments) == json.loads(json.dumps(made.to_dict()))


def test_pilots_and_laws_are_read(limbeck, tmp_path):
    errors = tmp_path / "errors.csv"
    sizes = [500, 1000, 2000, 4000]
    lines = [f"hard_labels,{n},{0.02 + 3 * n**-0.5}" for n in sizes]
    errors.write_text("privilege,queries,error\n" + "\n".join(lines))
    found = limbeck.json("plan", "--error", 0.05, "--pilot", errors, "--exponent", 0.5)
    assert found["hard_labels"]["planning"] == pytest.approx(10_000, rel=1e-3)
    assert found["soft_labels"]["status"] == "not measured"
    said, _ = limbeck("plan", "--error", 0.01, "--pilot", errors, "--language-model")
    assert "not reachable" in said
    assert "only the pilot's own measurements" in said
    records = tmp_path / "records.jsonl"
    line = '{"input": %d, "label": %d, "probability": 0.5}'
    records.write_text("\n".join(line % (i % 7, i % 2) for i in range(200)) + "\nhalf a li")
    said, _ = limbeck("plan", "--error", 0.1, "--pilot", records)
    assert "1 faulty records are left out" in said
    assert "tail of 200 pilot records, 7 different inputs" in said
    law = tmp_path / "law.npz"
    np.savez(law, input_law=np.full(4, 0.25), rows=np.full((4, 2), 0.5))
    found = limbeck.json("plan", "--error", 0.1, "--law", law)
    assert found["hard_labels"]["planning"] == 64  # 4 / (2 pi 0.01) = 63.66


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--inputs", 5), "Missing option '--error'"),
        (("--error", 0.1, "--inputs", 5), "expected `labels`; got none"),
        (("--error", 2, "--inputs", 5, "--labels", 2), "`error` between 0 and 1"),
        (("--error", 0.1, "--language-model"), "expected `pilot` for a language model"),
        ((*BASE[1:], "--price", "hard_labels"), "PRIVILEGE=NUMBER, each once; got 'hard_labels'"),
        ((*BASE[1:], "--price", "hard_labels=x"), "got 'hard_labels=x'"),
        (
            (*BASE[1:], "--price", "hard_labels=1", "--price", "hard_labels=2"),
            "each once; got 'hard_labels=2'",
        ),
        ((*BASE[1:], "--price", "hard=1"), "Did you mean hard_labels"),
        ((*BASE[1:], "--confidence", 0.5), "`confidence` >= 0.9"),
        (("--error", 0.1, "--law", "none.npz"), "--law: expected an .npz file"),
        (("--error", 0.1, "--pilot", "none.csv"), "FileNotFoundError"),
        (("--error", 0.1, "--pilot", "none.jsonl"), "none.jsonl"),
        (("--error", 0.1, "--pilot", "none.csv", "--exponent", "x"), "`exponent` to be"),
    ],
)
def test_what_is_wrong_is_said(limbeck, arguments, message):
    _, said = limbeck("plan", *arguments, code=2)
    assert message in " ".join(said.split())


def test_a_law_without_its_arrays_is_refused(limbeck, tmp_path):
    law = tmp_path / "law.npz"
    np.savez(law, rho=np.ones(1))
    _, said = limbeck("plan", "--error", 0.1, "--law", law, code=2)
    assert "which has none (KeyError)" in " ".join(said.split())
    law.write_text("no archive")
    _, said = limbeck("plan", "--error", 0.1, "--law", law, code=2)
    assert "Save it by numpy.savez" in " ".join(said.split())
