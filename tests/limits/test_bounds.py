"""Bounds against the reference's table, against each other, and against simulated teachers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError
from limbeck.limits.bounds.hard_labels import (
    hard_labels_lower,
    hard_labels_lower_from,
    hard_labels_probable,
    hard_labels_probable_paper,
    hard_labels_sharp,
    hard_labels_upper,
    hard_labels_upper_paper,
)
from limbeck.limits.bounds.instance import near_dirac_upper
from limbeck.limits.bounds.sampled_probabilities import (
    sampled_probabilities_lower,
    sampled_probabilities_lower_from,
    sampled_probabilities_probable,
    sampled_probabilities_upper,
)
from limbeck.limits.bounds.soft_labels import (
    soft_labels_lower,
    soft_labels_probable,
    soft_labels_upper,
)


QUICK = settings(max_examples=150, deadline=None, derandomize=True)
SIZES = [(20, 21, 42_000, 0.1), (100, 26, 10_000, 0.05), (10_000, 50, 1_000_000, 0.05)]
TABLE = {  # section 9.4 of the reference
    hard_labels_lower: ("0.0037908166", "0.019329448", "0.026805121"),
    hard_labels_upper_paper: ("0.071821789", "0.35495098", "0.45355339"),
    near_dirac_upper: ("0.070921477", "0.36498155", "0.50444419"),
    hard_labels_upper: ("0.059429628", "0.29974937", "0.39999750"),
    hard_labels_sharp: ("0.038932780", "0.19947114", "0.27925960"),
    hard_labels_probable_paper: ("0.099084426", "0.48203590", "0.60190832"),
    hard_labels_probable: ("0.083961890", "0.42001753", "0.54298601"),
    sampled_probabilities_lower: ("0.00087588258", "0.022990166", "0.045065186"),
    sampled_probabilities_upper: ("0.0036787944", "0.095648655", "0.18393972"),
    sampled_probabilities_probable: ("0.0078150839", "0.16138145", "0.22857713"),
    soft_labels_lower: ("8.3208845e-5", "0.0018208212", "0.0018392114"),
    soft_labels_upper: ("0.00017518069", "0.0036787944", "0.0036787944"),
    soft_labels_probable: ("0.00094717404", "0.013431641", "0.0053431641"),
}


def call(bound, inputs, labels, queries, delta):
    options = {"queries": queries, "inputs": inputs}
    if "soft" not in bound.__name__:
        options["labels"] = labels
    if "probable" in bound.__name__:
        options["confidence"] = 1 - delta
    return bound(**options)


def shown(text):
    """Return a number and half a unit of its last digit."""
    mantissa, _, power = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    return float(text), 0.51 * 10.0 ** (int(power or 0) - digits)


@pytest.mark.parametrize("bound", TABLE, ids=lambda bound: bound.__name__)
def test_the_table_of_the_reference(bound):
    for sizes, text in zip(SIZES, TABLE[bound], strict=True):
        expected, half = shown(text)
        assert abs(call(bound, *sizes) - expected) <= half


@QUICK
@given(st.integers(1, 10**7), st.integers(2, 10**5), st.floats(1, 1e15), st.floats(1e-9, 0.1))
def test_relations_that_hold_on_every_input(inputs, labels, queries, delta):
    value = {bound.__name__: call(bound, inputs, labels, queries, delta) for bound in TABLE}
    slack = 1 + 1e-9
    assert value["hard_labels_sharp"] <= value["hard_labels_upper"] * slack
    assert value["hard_labels_upper"] <= value["hard_labels_upper_paper"] * slack
    assert value["hard_labels_probable"] <= value["hard_labels_probable_paper"] * slack
    assert value["sampled_probabilities_lower"] <= value["sampled_probabilities_upper"] * slack
    assert value["soft_labels_lower"] <= value["soft_labels_upper"] * slack
    for kind in ("upper", "probable"):  # a richer answer is never worse
        rich, poor = value[f"soft_labels_{kind}"], value[f"sampled_probabilities_{kind}"]
        assert rich <= poor * slack
    assert value["hard_labels_lower"] <= value["hard_labels_upper"] * slack
    lowest = hard_labels_lower_from(inputs=inputs, labels=labels)
    if queries >= lowest:
        assert value["hard_labels_lower"] <= value["hard_labels_sharp"] * slack
    for bound in TABLE:  # more queries never hurt
        assert call(bound, inputs, labels, 2 * queries, delta) <= value[bound.__name__] * slack


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 7, 8, 50])
def test_the_lower_bound_of_hard_labels_holds_from_where_it_is_claimed(labels):
    """Assouad's lemma with Bretagnolle-Huber, by the pairs' divergence as a plain sum."""
    inputs = 60
    first = hard_labels_lower_from(inputs=inputs, labels=labels)
    tilted = labels - labels % 2
    for factor in (1.0, 1.05, 2, 10, 1000):
        n = first * factor
        tilt = 0.25 * math.sqrt(inputs * tilted / n)
        high, low = (1 + tilt) / tilted, (1 - tilt) / tilted
        divergence = n / inputs * (high * math.log(high / low) + low * math.log(low / high))
        pairs, separation = inputs * tilted / 2, 2 * tilt / (inputs * tilted)
        proved = pairs * separation / 2 * math.exp(-divergence) / 2
        assert hard_labels_lower(queries=max(n, 1), inputs=inputs, labels=labels) <= proved + 1e-9
        if factor == 1:  # and no further: the proof's room is used up
            assert hard_labels_lower(queries=n, inputs=inputs, labels=labels) == pytest.approx(
                proved, rel=1e-9
            )
    assert first < inputs * labels / 4  # the paper's own range
    assert hard_labels_lower(queries=1, inputs=100, labels=labels) == hard_labels_lower(
        queries=hard_labels_lower_from(inputs=100, labels=labels), inputs=100, labels=labels
    )


@pytest.mark.parametrize("labels", [3, 4, 5, 6, 8, 9, 20])
def test_the_lower_bound_of_sampled_probabilities_holds_for_even_and_odd_labels(labels):
    """What the best student loses at unseen pairs of labels, and at one triple for even A."""
    inputs = 5
    first = sampled_probabilities_lower_from(inputs=inputs, labels=labels)
    for n in (max(math.ceil(first), 1), 2 * math.ceil(first) + 2, 1000):
        mass = inputs / (n + 1)
        unseen, both = (1 - 1 / (n + 1)) ** n, (1 - 2 / (n + 1)) ** n
        triples = 1 - labels % 2
        pairs = (labels - 1 - 3 * triples) // 2
        assert mass * (pairs + 2 * triples) <= 1 + 1e-12  # there is such a row
        # one label of a pair has the mass: half of it is lost while neither was seen. Two labels
        # of the triple have it: half of one is lost while one is unseen, and while both are.
        lost = pairs * unseen * mass / 2
        lost += triples * (2 * (unseen - both) * mass / 2 + both * mass / 2)
        bound = sampled_probabilities_lower(queries=n, inputs=inputs, labels=labels)
        assert bound <= lost + 1e-12


def test_the_ranges_of_the_lower_bounds():
    assert sampled_probabilities_lower_from(inputs=10, labels=4) == 19.0
    assert sampled_probabilities_lower_from(inputs=10, labels=2) == 9.0
    assert sampled_probabilities_lower(queries=5, inputs=1, labels=2) == 0.0
    assert soft_labels_lower(queries=5, inputs=1) == 0.0
    # two labels: a look gives the row, so the bound may not be above that of rows
    for inputs in (2, 3, 10):
        two = sampled_probabilities_lower(queries=50, inputs=inputs, labels=2)
        assert two <= soft_labels_lower(queries=50, inputs=inputs) * (1 + 1e-12)
    below = [sampled_probabilities_lower(queries=n, inputs=10, labels=11) for n in (1, 49, 50)]
    assert below[0] == below[1] > below[2]
    assert soft_labels_lower(queries=1, inputs=100) == soft_labels_lower(queries=99, inputs=100)


def random_laws(count, generator):
    """Yield input laws and rows of any flatness."""
    for _ in range(count):
        inputs, labels = generator.integers(2, 30), generator.integers(2, 30)
        rho = generator.dirichlet(np.full(inputs, generator.choice([0.1, 1, 10])))
        rows = generator.dirichlet(np.full(labels, generator.choice([0.05, 0.5, 5])), inputs)
        yield rho, rows / rows.sum(axis=1, keepdims=True)


def simulated(rho, rows, n, runs, generator):
    """Return the risks of counting, of the residual rule and of kept rows, each [runs]."""
    law = (rho[:, None] * rows).reshape(-1)
    counts = generator.multinomial(n, law / law.sum(), size=runs).reshape(runs, *rows.shape)
    visits = counts.sum(axis=2)
    even = np.full(rows.shape, 1 / rows.shape[1])
    seen = (visits > 0)[:, :, None]
    counted = np.where(seen, counts / np.maximum(visits, 1)[:, :, None], even)
    drawn = counts > 0
    residual = np.where(drawn, 0.0, rows).sum(axis=2, keepdims=True)
    blanks = np.maximum((~drawn).sum(axis=2, keepdims=True), 1)
    sampled = np.where(seen, np.where(drawn, rows, residual / blanks), even)
    kept = np.where(seen, rows, even)
    return [
        (rho * np.abs(student - rows).sum(axis=2) / 2).sum(axis=1)
        for student in (counted, sampled, kept)
    ]


def test_simulated_teachers_keep_to_the_bounds():
    """100 random laws, 40 runs each: the mean below its bound, the share above at most delta."""
    generator, delta, above = np.random.default_rng(20231007), 0.1, np.zeros(3)
    for rho, rows in random_laws(100, generator):
        inputs, labels = rows.shape
        n = int(inputs * labels * generator.choice([0.5, 2, 10])) + 1
        risks = simulated(rho, rows, n, 40, generator)
        means = (
            hard_labels_upper(queries=n, inputs=inputs, labels=labels),
            sampled_probabilities_upper(queries=n, inputs=inputs, labels=labels),
            soft_labels_upper(queries=n, inputs=inputs),
        )
        likely = (
            hard_labels_probable(queries=n, inputs=inputs, labels=labels, confidence=1 - delta),
            sampled_probabilities_probable(
                queries=n, inputs=inputs, labels=labels, confidence=1 - delta
            ),
            soft_labels_probable(queries=n, inputs=inputs, confidence=1 - delta),
        )
        for k in range(3):
            error = risks[k].std(ddof=1) / math.sqrt(40)
            assert risks[k].mean() <= means[k] + 4 * error
            above[k] += (risks[k] > likely[k]).mean() / 100
    assert (above <= delta).all()


def test_a_tail_of_cut_rows_adds_to_the_error():
    """Rows whose tail is left out and whose head is scaled up are exactly the tail away."""
    generator = np.random.default_rng(3)
    rows = generator.dirichlet(np.full(9, 0.4), 7)
    order = np.argsort(-rows, axis=1)
    head = np.zeros_like(rows)
    np.put_along_axis(head, order[:, :3], np.take_along_axis(rows, order[:, :3], 1), 1)
    tail = 1 - head.sum(axis=1)
    assert np.abs(head / head.sum(1, keepdims=True) - rows).sum(1) / 2 == pytest.approx(tail)
    whole = soft_labels_upper(queries=50, inputs=7)
    cut = soft_labels_upper(queries=50, inputs=7, tail_mass=float(tail.mean()))
    assert cut - whole == pytest.approx(tail.mean())
    cut = soft_labels_probable(queries=50, inputs=7, tail_mass=0.25)
    assert cut - soft_labels_probable(queries=50, inputs=7) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("bound", "options", "message"),
    [
        (hard_labels_upper, {"queries": 1, "inputs": 0, "labels": 2}, "`inputs` >= 1; got 0"),
        (hard_labels_upper, {"queries": 1, "inputs": 2, "labels": 1}, "`labels` >= 2; got 1"),
        (hard_labels_upper, {"queries": 0, "inputs": 2, "labels": 2}, "`queries` >= 1; got 0"),
        (hard_labels_upper, {"queries": math.inf, "inputs": 2, "labels": 2}, "`queries` >= 1"),
        (soft_labels_upper, {"queries": 9, "inputs": 2, "tail_mass": 1.5}, "`tail_mass` in"),
        (
            hard_labels_probable,
            {"queries": 9, "inputs": 2, "labels": 2, "confidence": 1.0},
            "`confidence` between 0 and 1; got 1.0",
        ),
        (
            soft_labels_probable,
            {"queries": 9, "inputs": 2, "confidence": 0.8},
            "`confidence` >= 0.9, where the bound on missing mass is proved; got 0.8",
        ),
        (
            sampled_probabilities_probable,
            {"queries": 9, "inputs": 2, "labels": 2, "confidence": 0.5},
            "sampled_probabilities_probable: expected `confidence` >= 0.9",
        ),
    ],
)
def test_what_is_wrong_is_said(bound, options, message):
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(")):
        bound(**options)
    assert soft_labels_probable(queries=9, inputs=2, confidence=0.9) > 0
