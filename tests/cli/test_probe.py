"""``limbeck probe``."""

import pytest
from helpers.language_server import KEY, MODEL, Behaviour, LanguageModel, Server


@pytest.fixture(scope="module")
def server():
    with Server(LanguageModel(), Behaviour(cap=3, outside="sentinel")) as running:
        yield running


@pytest.fixture
def given(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return ("probe", "--model", MODEL, "--draws", "8", "--ask", "write one", "--retries", "0")


def test_a_table_and_what_follows(limbeck, given, server):
    said, remarks = limbeck(*given)
    assert "3 (refused)" in said
    assert "sampled_probabilities, censored" in said
    assert "Drawn tokens outside of the 3 largest have no number" in said
    assert server.url in said
    assert KEY not in said + remarks


def test_json_and_options(limbeck, given, server):
    before = len(server.requests)
    found = limbeck.json(
        *given, "--form", "completion", "--largest", "2", "--extra", '{"top_p": 1.0}',
        "--rate", "600000", "--timeout", "30", "--base-url", server.url,
    )  # fmt: skip
    assert (found["form"], found["top_cap"], found["cap_reason"]) == (
        "completion",
        2,
        "not reached",
    )
    assert found["privilege"] == "sampled_probabilities"
    assert found["requests"] == len(server.requests) - before
    assert all(body["top_p"] == 1.0 for body in server.requests[before:])
    assert {body["prompt"] for body in server.requests[before:]} == {"write one"}


@pytest.mark.usefixtures("without_shape_hook")
def test_errors_end_with_2(limbeck, given):
    _, remarks = limbeck("probe", "--model", "none", code=2)
    assert "status 404" in remarks
    _, remarks = limbeck(*given, "--draws", "1", code=2)
    assert "`draws` >= 2" in remarks
    _, remarks = limbeck(*given, "--form", "text", code=2)
    assert "--form" in remarks
