"""``limbeck import``."""

import json

import pytest

from limbeck.records import read_records


@pytest.fixture
def answers(tmp_path):
    logprobs = {"tokens": ["b", "a"], "token_logprobs": [-0.5, -9999.0],
                "top_logprobs": [{"b": -0.5, "a": -1.0}, {"b": -0.1, "c": -4.0}]}  # fmt: skip
    line = {"prompt": "x", "model": "m", "choices": [{"text": "ba", "logprobs": logprobs}]}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(line) + "\nbroken\n")
    (tmp_path / "v.json").write_text(json.dumps({"a": 0, "b": 1, "c": 2}))
    return path


def test_records_and_what_was_left_out(limbeck, answers, tmp_path):
    call = ("import", answers, "--out", tmp_path / "r.jsonl.gz", "--tokenizer", tmp_path / "v.json")
    said, remarks = limbeck(*call)
    assert "sampled_probabilities" in said
    assert "lines left out" in said
    assert "warning: line 2: not_json" in remarks
    assert "sentinel" in remarks
    first, second = read_records(tmp_path / "r.jsonl.gz")
    assert (first.input, first.label, first.top) == ("x", 1, ((1, -0.5), (0, -1.0)))
    assert second.censored
    _, remarks = limbeck(*call, code=2)
    assert "--overwrite" in remarks
    found = limbeck.json(
        *call, "--overwrite", "--top", "1", "--temperature", "0.5", "--teacher-name", "t",
        "--labels", "3", "--form", "completion",
    )  # fmt: skip
    assert (found["records"], found["censored"], found["lines left out"]) == (2, 1, 1)
    assert [one["kind"] for one in found["problems"]] == ["not_json", "sentinel"]
    first, _ = read_records(tmp_path / "r.jsonl.gz")
    assert (first.top, first.temperature, first.teacher) == (((1, -0.5),), 0.5, "t")


def test_columns_by_name(limbeck, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"ids": [5, 6, 7], "logs": [0.0, -0.5, -0.25]}) + "\n")
    call = ("import", path, "--out", tmp_path / "r.jsonl", "--overwrite")
    limbeck(*call, "--columns", "input=ids,log_probability=logs,aligned=same")
    assert [one.log_probability for one in read_records(tmp_path / "r.jsonl")] == [-0.5, -0.25]
    _, remarks = limbeck(*call, "--columns", "inputs=ids", code=2)
    assert "Did you mean input" in remarks
    _, remarks = limbeck(*call, "--columns", "ids", code=2)
    assert "KEY=COLUMN" in remarks
    _, remarks = limbeck(*call, code=2)
    assert "unknown_columns" in remarks


def test_requests_and_prompt(limbeck, tmp_path):
    content = [{"token": "token_id:4", "logprob": -0.5}]
    body = {
        "choices": [{"message": {}, "logprobs": {"content": content}}],
        "prompt_token_ids": [1, 2],
        "prompt_logprobs": [None, {"2": {"logprob": -1.0}}],
    }
    line = {"custom_id": "q", "response": {"status_code": 200, "body": body}}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    request = {"custom_id": "q", "body": {"temperature": 0.25}}
    (tmp_path / "q.jsonl").write_text(json.dumps(request))
    call = ("import", tmp_path / "a.jsonl", "--out", tmp_path / "r.jsonl")
    limbeck(*call, "--requests", tmp_path / "q.jsonl", "--prompt")
    read = read_records(tmp_path / "r.jsonl")
    assert [(one.input, one.label, one.temperature) for one in read] == [
        ((1,), 2, 0.25),
        ((1, 2), 4, 0.25),
    ]
