"""probe(): what a server really gives, against servers whose behaviour is known."""

import json
import math

import numpy as np
import pytest
from helpers.language_server import KEY, LETTERS, MODEL

from limbeck.asking.answers import Said, Step
from limbeck.asking.endpoint import EndpointError
from limbeck.asking.probe_result import ProbeResult
from limbeck.asking.probe_tests import Laws, drawn_p, grid_of, processing_of, spread_of
from limbeck.asking.probing import probe
from limbeck.checks import ArgumentError


def look(server, **options):
    given = {"prompt": "write one", "base_url": server.url, "api_key": KEY, "retries": 0}
    return probe(MODEL, **{**given, **options})


@pytest.mark.parametrize("form", ["chat", "completion"])
@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        ({}, {"top_cap": 20, "cap_reason": "refused", "temperature": "before"}),
        (
            {"cap": 5, "processed": True},
            {"top_cap": 5, "temperature": "after", "outside": "numbers"},
        ),
        ({"cap": 7, "over_cap": "shorten"}, {"top_cap": 7, "cap_reason": "shorter"}),
        (
            {"cap": 3, "outside": "sentinel"},
            {"top_cap": 3, "outside": "withheld", "privilege": "sampled_probabilities"},
        ),
        ({"cap": 3, "outside": "absent"}, {"outside": "withheld", "censored": True}),
        (
            {"cap": 1000},
            {"top_cap": len(LETTERS), "cap_reason": "all labels", "privilege": "soft_labels"},
        ),
        ({"logprobs": False}, {"log_probabilities": False, "privilege": "hard_labels"}),
        ({"cap": 0}, {"top_cap": 0, "log_probabilities": True, "draws_p": None}),
        (
            {"vllm": True},
            {"top_cap": 20, "token_ids": True, "prompt_scores": "prompt_logprobs"},
        ),
        ({"cached": True}, {"draws_differ": False}),
    ],
)
def test_what_the_server_does_is_what_is_found(serve, form, kinds, found):
    told = look(serve(**kinds), form=form)
    for name, value in found.items():
        assert getattr(told, name) == value, (name, told)
    plain = {"deterministic": True, "draws_differ": True, "grid": None, "above_one": False,
             "token_ids": False, "prompt_scores": None}  # fmt: skip
    for name in plain.keys() - found.keys():
        assert getattr(told, name) == plain[name], name
    if told.log_probabilities:
        assert told.spread == 0.0
        assert told.draws_p is None or "cached" in kinds or told.draws_p > 1e-4
    if told.log_probabilities and told.top_cap > 1:
        after = told.temperature == "after"
        assert told.slopes == pytest.approx({"0.5": 2.0, "2": 0.5} if after else {"0.5": 1, "2": 1})
    assert KEY not in str(told) + json.dumps(told.to_dict())


def test_noise_and_rounding_show(serve):
    told = look(serve(noise=0.001))
    assert told.deterministic
    assert 0 < told.spread < 0.02
    told = look(serve(grid=0.0625))
    assert told.grid == 0.0625
    assert any("0.0625" in remark for remark in told.remarks())


def test_draws_from_another_law_show(serve):
    told = look(serve(wrong_temperature=4.0), draws=64)
    assert told.draws_p < 0.001
    assert any("don't follow" in remark for remark in told.remarks())


def test_echo_scores_the_prompt(serve):
    assert look(serve(echo=True), form="completion").prompt_scores == "echo"
    assert look(serve(echo=True), form="chat").prompt_scores is None


def test_the_search_may_end_before_the_cap(serve):
    told = look(serve(), largest=4)
    assert (told.top_cap, told.cap_reason) == (4, "not reached")


def test_a_peaked_law_is_no_whole_row(serve, monkeypatch):
    """A short list of nearly all the mass is taken for a cut one once other tokens are drawn."""
    server = serve(cap=6, over_cap="shorten")
    monkeypatch.setattr("limbeck.asking.probing.ALL", 0.2)
    told = look(server)
    assert (told.top_cap, told.cap_reason) == (6, "shorter")
    assert told.outside_tokens > 0


def test_requests_are_counted(serve):
    server = serve()
    assert look(server).requests == len(server.requests)


def test_an_endpoint_that_does_not_answer(serve):
    with pytest.raises(EndpointError, match="does not exist"):
        probe("other", base_url=serve().url, api_key=KEY)
    with pytest.raises(EndpointError, match="This prompt is refused"):
        look(serve(), prompt="refuse me")
    for options in ({"draws": 1}, {"largest": 0}):
        with pytest.raises(ArgumentError, match="`draws` >= 2 and `largest` >= 1"):
            look(serve(), **options)


def step(name, log, law):
    return Step(Said(name, log=log), tuple(Said(one, log=log) for one, log in law.items()))


def test_the_test_of_draws_against_a_sum_by_hand():
    law = {"a": math.log(0.5), "b": math.log(0.25)}
    steps = [step("a", None, law)] * 24 + [step("b", None, law)] * 8 + [step("z", None, law)] * 8
    # expected 20, 10, 10: chi-square = 16/20 + 4/10 + 4/10 = 1.6 with 2 degrees of freedom
    assert drawn_p(steps) == pytest.approx(math.exp(-1.6 / 2))
    assert drawn_p(steps[:4]) is None
    assert drawn_p([]) is None


def test_slopes_by_hand():
    def at(temperature, power):
        logs = {"a": -1.0 * power, "b": -3.0 * power}
        return {temperature: [step("a", logs["a"], logs)]}

    after = Laws({**at(1.0, 1), **at(0.5, 2), **at(2.0, 0.5)})
    assert processing_of(after) == ({"0.5": pytest.approx(2.0), "2": pytest.approx(0.5)}, "after")
    before = Laws({**at(1.0, 1), **at(0.5, 1), **at(2.0, 1)})
    assert processing_of(before)[1] == "before"
    mixed = Laws({**at(1.0, 1), **at(0.5, 2), **at(2.0, 1)})
    assert processing_of(mixed)[1] == "unclear"
    one = Laws({t: [step("a", log, {})] for t, log in ((1.0, -1.0), (0.5, -0.4), (2.0, -1.6))})
    assert processing_of(one) == ({}, "after")
    assert processing_of(Laws()) == ({}, "unclear")


def test_grids_and_spreads_by_hand():
    exact = [step("a", -0.25 * (1 + number), {}) for number in range(9)]
    assert grid_of(Laws({1.0: exact})) == 0.25
    assert grid_of(Laws({1.0: exact[:5]})) is None
    assert grid_of(Laws({1.0: [*exact, step("a", -0.3001234567, {})]})) is None
    first = [step("a", -1.0, {}), step("b", -2.0, {})]
    second = [step("a", -1.5, {}), step("c", -9.0, {})]
    assert spread_of([first, second]) == 0.5
    assert spread_of([[], []]) is None


def test_the_table_says_what_follows():
    told = ProbeResult("http://h/v1", "m", "chat", True, 20, outside="withheld", outside_tokens=3,
                       temperature="before", above_one=True)  # fmt: skip
    text = str(told)
    for words in (
        *("sampled_probabilities, censored", "20 (refused)", "withheld (3)", "not tested"),
        *("hard_labels", "draw at temperature 1", "sum to more than 1", "tokenizer"),
    ):
        assert words in text
    assert told.to_dict()["privilege"] == "sampled_probabilities"
    assert np.isfinite(len(told.rows()))
    unseen = ProbeResult("h", "m", "chat", True, 20)
    assert unseen.censored is None
    assert ProbeResult("h", "m", "chat", False).censored is False


def test_a_limit_of_requests_is_no_refusal(serve):
    """It says nothing about what was asked, so that a cap read off it would be wrong."""
    server = serve(faults=["", "", "429"])
    with pytest.raises(EndpointError, match="status 429"):
        look(server, retries=0)
    assert look(serve(faults=["", "", "500"]), retries=0).top_cap == 0
