"""``limbeck collect``, also killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.language_server import KEY, MODEL, VOCABULARY, Behaviour, LanguageModel, Server

from limbeck.records import read_records


@pytest.fixture(scope="module")
def model():
    return LanguageModel()


@pytest.fixture
def server(model, monkeypatch):
    with Server(model, Behaviour()) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running


@pytest.fixture
def given(tmp_path):
    """Give the arguments of a small collection."""
    (tmp_path / "p.txt").write_text("the sea\na town\nx\n")
    (tmp_path / "v.json").write_text(json.dumps(VOCABULARY))
    return (
        *("collect", tmp_path / "p.txt", "--model", MODEL, "--out", tmp_path / "r.jsonl"),
        *("--tokenizer", tmp_path / "v.json", "--max-tokens", "3", "--retries", "0"),
    )


def test_records_a_table_and_json(limbeck, server, given, tmp_path):
    said, remarks = limbeck(*given, "--top-logprobs", "2", "--draws", "2", "--temperature", "0.5")
    assert "sampled_probabilities" in said
    assert "18" in said
    assert server.url in said
    assert KEY not in said + remarks
    read = read_records(tmp_path / "r.jsonl")
    assert len(read) == 18
    assert {record.temperature for record in read} == {0.5}
    assert {len(record.top) for record in read} == {2}
    again = limbeck.json(*given, "--top-logprobs", "2", "--draws", "2", "--temperature", "0.5")
    assert (again["asked"], again["kept"], again["complete"]) == (0, 6, True)
    assert again["privileges"] == {"sampled_probabilities": 18}
    assert len(server.requests) == 6


def test_options_reach_the_request(limbeck, server, given):
    limbeck(
        *given, "--form", "completion", "--top-logprobs", "-1", "--token-ids", "--seed", "1",
        "--extra", '{"top_p": 0.5}', "--concurrency", "1", "--rate", "60000", "--labels", "31",
        "--top", "1", "--timeout", "60", "--base-url", server.url,
    )  # fmt: skip
    body = server.requests[0]
    assert (body["prompt"], body["top_p"], body["return_token_ids"]) == ("the sea", 0.5, True)
    assert "logprobs" not in body
    assert len({one["seed"] for one in server.requests}) == 3


def test_what_failed_ends_with_1_and_is_said(limbeck, server, given):
    server.behaviour.faults = ["500"]
    said, remarks = limbeck(*given, "--concurrency", "1", code=1)
    assert "warning: prompt 1: passing: " in remarks
    assert "status 500" in remarks
    assert "without an answer" in said
    assert KEY not in said + remarks
    assert "[key]" in remarks
    limbeck(*given)
    assert len(server.requests) == 4


def test_an_endpoint_that_refuses_ends_with_2(limbeck, server, given, monkeypatch):
    server.behaviour.faults = ["401"] * 9
    said, remarks = limbeck(*given, code=2)
    assert "status 401" in remarks
    assert "the same command goes on" in remarks
    assert KEY not in said + remarks
    _, remarks = limbeck(*given, "--extra", "{", code=2)
    assert "--extra: expected JSON" in remarks
    _, remarks = limbeck(*given, "--extra", "3", code=2)
    assert "expected a JSON object" in remarks
    _, remarks = limbeck(*given, "--key-name", "OTHER_KEY", code=2)
    assert "environment variable OTHER_KEY" in remarks
    server.behaviour.faults = []
    monkeypatch.setenv("OTHER_KEY", "sk-another-one")
    limbeck(*given, "--key-name", "OTHER_KEY")
    assert "Bearer sk-another-one" in server.keys


def test_killed_and_resumed_has_each_record_once(server, given, tmp_path):
    prompts = [f"{a}{b}" for a in "abcd" for b in "efghij"]
    (tmp_path / "p.txt").write_text("\n".join(prompts))
    command = [sys.executable, "-m", "limbeck", *map(str, given), "--seed", "0"]
    out, answers = tmp_path / "r.jsonl", tmp_path / "r.jsonl.answers.jsonl"
    server.behaviour.latency = 0.05
    run = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    while not (answers.exists() and answers.read_bytes().count(b"\n") >= 5):
        assert run.poll() is None
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(0.2)  # answers under way come to nobody
    kept = answers.read_bytes().count(b"\n")
    assert 5 <= kept < len(prompts)
    assert not out.exists()
    sent = len(server.requests)
    server.behaviour.latency = 0.0
    done = subprocess.run([*command, "--json"], env=os.environ, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (found["kept"], found["asked"]) == (kept, len(prompts) - kept)
    assert len(server.requests) - sent == len(prompts) - kept
    read = read_records(out)
    assert read.problems == []
    places = [(record.sequence, record.position) for record in read]
    assert len(places) == len(set(places)) == 3 * len(prompts)
    firsts = [json.loads(record.input)[0]["content"] for record in read if not record.position]
    assert firsts == prompts
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in written + done.stdout.encode() + done.stderr.encode()
