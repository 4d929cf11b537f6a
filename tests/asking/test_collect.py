"""collect(): a real small model is asked over HTTP, and its answers become exact records."""

import errno
import json
import logging
import os
import pickle
import stat
import threading
import traceback

import numpy as np
import pytest
from helpers.language_server import KEY, LETTERS, MODEL, VOCABULARY, ids_of, text_of

import limbeck as lb
from limbeck.asking import answers_file
from limbeck.asking.answers_file import AnswersFile
from limbeck.asking.collecting import collect
from limbeck.asking.endpoint import Endpoint, EndpointError
from limbeck.asking.in_flight import CollectStopped
from limbeck.asking.keys import Key
from limbeck.asking.pacing import Pace
from limbeck.asking.prompts import Parameters, questions
from limbeck.checks import ArgumentError, DataError, StorageError


PROMPTS = ["the sea", "a town", "one. two", "x"]


def ask(server, folder, prompts=PROMPTS, **options):
    given = {"model": MODEL, "base_url": server.url, "api_key": KEY, "tokenizer": VOCABULARY,
             "max_tokens": 4, "retries": 0, "concurrency": 2}  # fmt: skip
    return collect(prompts, folder / "r.jsonl", **{**given, **options})


def ids_behind(record):
    """Return the token ids of a record's input, however it is written."""
    if isinstance(record.input, tuple):
        return record.input
    if record.input.startswith("["):
        return ids_of("".join(one["content"] for one in json.loads(record.input)))
    return ids_of(record.input)


@pytest.mark.parametrize("form", ["chat", "completion"])
@pytest.mark.parametrize("vllm", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_the_models_own(serve, model, tmp_path, form, vllm, temperature):
    server = serve(vllm=vllm, processed=True)
    options = {"token_ids": True, "tokenizer": None} if vllm else {}
    done = ask(server, tmp_path, form=form, temperature=temperature, top_logprobs=5, **options)
    read = lb.read_records(done.records)
    assert read.problems == []
    assert len(read) == 4 * len(PROMPTS) == done.privileges["sampled_probabilities"]
    for record in read:
        law = model.law(ids_behind(record), temperature)
        assert record.log_probability == pytest.approx(law[record.label], abs=1e-12)
        largest = np.argsort(-law)[: len(record.top)]
        assert [label for label, _ in record.top] == largest.tolist()
        assert [log for _, log in record.top] == pytest.approx(law[largest].tolist(), abs=1e-12)
        assert len(record.top) == 5 or (vllm and form == "chat" and len(record.top) == 4)
        assert isinstance(record.input, tuple) == vllm
        assert (record.temperature, record.teacher) == (temperature, MODEL)
    by_sequence = {}
    for record in read:
        by_sequence.setdefault(record.sequence, []).append(record)
    assert len(by_sequence) == len(PROMPTS)
    for place, records in enumerate(by_sequence.values()):  # in the order of the prompts
        assert [record.position for record in records] == [0, 1, 2, 3]
        drawn = [record.label for record in records]
        for record in records:
            beginning = (*ids_of(PROMPTS[place]), *drawn[: record.position])
            assert ids_behind(record) == beginning


def test_audit_and_certify_accept_what_was_collected(serve, model, tmp_path):
    server = serve(vllm=True)
    done = ask(server, tmp_path, draws=8, token_ids=True, tokenizer=None, top_logprobs=5, top=4)
    assert lb.audit(done.records).passed

    def teacher(inputs):
        return np.exp([model.law(one) for one in inputs])

    found = lb.certify(teacher, done.records)
    assert found.total_variation.value == pytest.approx(0.0, abs=1e-9)
    even = lb.certify(lambda inputs: np.full((len(inputs), len(LETTERS)), 1 / 31), done.records)
    assert even.total_variation.value > 0.3


def test_whole_rows_are_soft_labels(serve, model, tmp_path):
    server = serve(cap=len(LETTERS))
    done = ask(server, tmp_path, top_logprobs=len(LETTERS), labels=len(LETTERS), form="completion")
    read = lb.read_records(done.records)
    assert done.privileges == {"soft_labels": 16}
    for record in read:
        assert record.row == pytest.approx(model.law(ids_behind(record)), abs=1e-12)


@pytest.mark.parametrize("outside", ["sentinel", "absent"])
def test_censored_answers(serve, model, tmp_path, outside):
    server = serve(cap=2, outside=outside)
    done = ask(server, tmp_path, top_logprobs=2, draws=6, seed=1)
    read = lb.read_records(done.records)
    censored = [record for record in read if record.censored]
    assert 0 < len(censored) == done.privileges["censored"] < len(read)
    for record in censored:
        law = model.law(ids_behind(record))
        assert record.label not in np.argsort(-law)[:2]


def test_text_alone_is_hard_labels(serve, tmp_path):
    server = serve(logprobs=False)
    done = ask(server, tmp_path, top_logprobs=None, max_tokens=1)
    assert done.privileges == {"hard_labels": 4}
    assert all("logprobs" not in body for body in server.requests)


def test_without_a_tokenizer_the_answers_are_kept_for_later(serve, tmp_path):
    server = serve()
    done = ask(server, tmp_path, tokenizer=None)
    assert {p.kind for p in done.problems} == {"needs_vocabulary"}
    assert [p.line for p in done.problems] == [1, 2, 3, 4]
    assert done.records.read_bytes() == b""
    again = ask(server, tmp_path)
    assert (again.asked, again.kept, len(server.requests)) == (0, 4, 4)
    assert again.privileges == {"sampled_probabilities": 16}


def test_questions_are_sent_as_asked(serve, tmp_path):
    server = serve()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the sea"}]
    ask(server, tmp_path, [messages], extra={"top_p": 1.0, "max_completion_tokens": 2}, seed=3,
        temperature=0.5, top_logprobs=3)  # fmt: skip
    (body,) = server.requests
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body == {"model": MODEL, "messages": messages, "temperature": 0.5, "logprobs": True,
                    "top_logprobs": 3, "top_p": 1.0, "max_completion_tokens": 2}  # fmt: skip
    assert server.keys == {f"Bearer {KEY}"}
    ids = tmp_path / "ids"
    ids.mkdir()
    ask(server, ids, [list(ids_of("sea")), "sea"], form="completion", top_logprobs=None)
    assert sorted(map(str, (one["prompt"] for one in server.requests[1:]))) == ["[18, 4, 0]", "sea"]


def test_keys_are_the_same_in_every_run_and_differ_between_draws():
    parameters = Parameters(MODEL, seed=5)
    first = list(questions(["a", "b", "a"], parameters, 2))
    assert len({one.key for one in first}) == len({one.body["seed"] for one in first}) == 6
    assert [(one.number, one.draw) for one in first] == [
        *((1, 0), (1, 1), (2, 0), (2, 1), (3, 2), (3, 3))
    ]
    other = {one.key for one in questions(["b", "a"], parameters, 2)}
    assert other == {one.key for one in first if one.number < 3}
    for changed in (
        {"max_tokens": 17},
        {"temperature": 0.5},
        {"top_logprobs": 1},
        {"seed": 6},
        {"seed": None},
        {"form": "completion"},
        {"token_ids": True},
        {"extra": {"top_p": 0.5}},
    ):
        given = {"model": MODEL, "seed": 5, **changed}
        assert not {one.key for one in questions(["a"], Parameters(**given), 1)} & other
    assert not {one.key for one in questions(["a"], Parameters("other", seed=5), 1)} & other


def test_any_cut_of_the_answers_is_mended_by_the_same_call(serve, tmp_path):
    server = serve()
    whole = ask(server, tmp_path, PROMPTS[:3], seed=0, concurrency=1)
    records, answers = whole.records.read_bytes(), whole.answers.read_bytes()
    ends = np.cumsum([len(line) for line in answers.splitlines(keepends=True)])
    cuts = sorted({0, 1, *(end + step for end in ends for step in (-1, 0, 7))} - {ends[-1] + 7})
    for cut in map(int, cuts):
        whole.records.unlink()
        whole.answers.write_bytes((answers + b'{"key"')[:cut])
        before = len(server.requests)
        again = ask(server, tmp_path, PROMPTS[:3], seed=0, concurrency=1)
        survived = int((ends <= cut).sum())
        assert (again.kept, again.asked) == (survived, 3 - survived)
        assert len(server.requests) - before == 3 - survived
        assert again.records.read_bytes() == records
        assert len(again.answers.read_bytes().splitlines()) == 3


def test_half_a_line_at_the_end_is_dropped(tmp_path):
    path = tmp_path / "a.jsonl"
    whole = b'{"key": "k", "response": {}}\n'
    path.write_bytes(whole + b"no json\n" + b'{"key": "l", "response": {}}')
    with AnswersFile(path) as answers:
        assert ("k" in answers, "l" in answers) == (True, False)
        answers.add("m", '{"key": "m", "response": {"x": 1}}')
        assert answers.read("m")["response"] == {"x": 1}
    assert path.read_bytes() == whole + b'no json\n{"key": "m", "response": {"x": 1}}\n'


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    with AnswersFile(tmp_path / "a.jsonl") as answers:
        answers.add("k", '{"key": "k"}')

        def full(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(answers_file.os, "fsync", full)
        with pytest.raises(StorageError, match="Free some space"):
            answers.add("l", '{"key": "l"}')
        monkeypatch.undo()
        assert "l" not in answers
        answers.add("m", '{"key": "m"}')
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"key": "k"}\n{"key": "m"}\n'


def test_every_answer_is_on_disk_before_it_counts(tmp_path, monkeypatch):
    sizes = []
    original = os.fsync

    def noted(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        original(descriptor)

    with AnswersFile(tmp_path / "a.jsonl") as answers:
        monkeypatch.setattr(answers_file.os, "fsync", noted)
        answers.add("k", "1234")
        answers.add("l", "12")
    assert sizes == [5, 8]


def test_two_collections_cannot_share_a_file(serve, tmp_path):
    server = serve()
    with (
        AnswersFile(tmp_path / "r.jsonl.answers.jsonl"),
        pytest.raises(StorageError, match="another process collects"),
    ):
        ask(server, tmp_path)
    assert server.requests == []
    (tmp_path / "r.jsonl.answers.jsonl").unlink()
    (tmp_path / "r.jsonl").write_text("mine")
    with pytest.raises(ArgumentError, match="Name another file"):
        ask(server, tmp_path)
    assert (tmp_path / "r.jsonl").read_text() == "mine"


@pytest.mark.parametrize("fault", ["429", "500", "503", "hang up"])
def test_the_client_tries_again(serve, tmp_path, fault):
    server = serve(faults=[fault, fault])
    done = ask(server, tmp_path, retries=3, concurrency=1)
    assert done.complete
    assert len(server.requests) == len(PROMPTS) + 2
    assert len(lb.read_records(done.records)) == 16


def test_what_failed_is_named_and_asked_again_next_time(serve, tmp_path):
    server = serve(faults=["500", "hang up", "no json"])
    prompts = ["a", "b", "c", "d", "refuse me"]
    done = ask(server, tmp_path, prompts, concurrency=1)
    assert not done.complete
    assert (done.asked, done.kept) == (1, 0)
    assert [(p.line, p.kind) for p in done.problems] == [
        (1, "passing"),
        (2, "passing"),
        (3, "refused"),
        (5, "refused"),
    ]
    assert "status 500" in done.problems[0].text
    assert "This prompt is refused" in done.problems[3].text
    again = ask(server, tmp_path, prompts, concurrency=1)
    assert (again.asked, again.kept) == (3, 1)
    assert len(server.requests) == 9
    assert len(lb.read_records(again.records)) == 16


@pytest.mark.parametrize(("fault", "asked"), [("401", 2), ("403", 2), ("404", 2), ("500", 6)])
def test_an_endpoint_that_refuses_everybody_or_is_gone_ends_it(serve, tmp_path, fault, asked):
    server = serve()
    ask(server, tmp_path, ["first"])
    server.behaviour.faults = [fault] * 20
    with pytest.raises(
        EndpointError, match=r"1 of 11 answers are kept; the same command"
    ) as caught:
        ask(server, tmp_path, ["first", *map(str, "abcdefghij")], concurrency=1)
    assert caught.value.status == int(fault)
    assert len(server.requests) == asked
    server.behaviour.faults = []
    assert ask(server, tmp_path, ["first", *map(str, "abcdefghij")]).kept == 1


def test_only_failures_in_a_row_end_it(serve, tmp_path):
    server = serve()
    known = {}

    def every_other(path, body):
        known[len(known)] = body
        return (500, {"error": "no"}) if len(known) % 2 else original(path, body)

    original, server.answer = server.answer, every_other
    done = ask(server, tmp_path, [*"abcdefghijklmn"], concurrency=1)
    assert (done.asked, len(done.problems)) == (7, 7)


def test_nobody_there(tmp_path, serve):
    server = serve()
    port = server.http.server_address[1]
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(EndpointError, match=f"127.0.0.1:{port}/v1: expected an answer; got none"):
        ask(server, tmp_path, list("abcdefgh"))


def test_no_more_than_the_bound_are_under_way(serve, tmp_path, monkeypatch):
    server = serve(latency=0.01)
    now, most, lock = [0], [0], threading.Lock()
    original = server.answer

    def counted(*arguments):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        try:
            return original(*arguments)
        finally:
            with lock:
                now[0] -= 1

    sent = []
    ask_one = Endpoint.ask

    def asked(self, *arguments):
        with lock:
            sent.append(1)
            assert len(sent) <= 3
        try:
            return ask_one(self, *arguments)
        finally:
            with lock:
                sent.pop()

    monkeypatch.setattr(Endpoint, "ask", asked)
    server.answer = counted
    done = ask(server, tmp_path, [*"abcdefghijkl"], concurrency=3)
    assert done.complete
    assert most[0] <= 3


def test_every_request_waits_for_its_turn(serve, tmp_path, monkeypatch):
    turns = []
    monkeypatch.setattr(Pace, "wait", lambda self: turns.append(self._between))
    server = serve(faults=["429", "500"])
    ask(server, tmp_path, rate=30.0, retries=2)
    assert turns == [2.0] * 6 == [2.0] * len(server.requests)


def test_turns_are_evenly_spaced():
    clock, slept = [10.0], []
    pace = Pace(120.0, clock=lambda: clock[0], sleep=slept.append)
    pace.wait()
    pace.wait()
    clock[0] = 10.7
    pace.wait()
    clock[0] = 20.0
    pace.wait()
    assert slept == pytest.approx([0.5, 0.3])
    Pace(None, clock=lambda: 0.0, sleep=slept.append).wait()
    assert len(slept) == 2
    with pytest.raises(ArgumentError, match="`rate` > 0"):
        Pace(0.0)


def test_ctrl_c_keeps_what_was_under_way(serve, tmp_path):
    server = serve()

    def pressed(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(CollectStopped, match=r"of 8 answers are kept") as caught:
        ask(server, tmp_path, [*"abcdefgh"], progress=pressed)
    assert caught.value.signal == 2
    kept = len((tmp_path / "r.jsonl.answers.jsonl").read_bytes().splitlines())
    assert kept == len(server.requests) <= 4
    done = ask(server, tmp_path, [*"abcdefgh"])
    assert (done.kept, done.asked, len(server.requests)) == (kept, 8 - kept, 8)


def test_ctrl_c_while_an_answer_is_written_loses_none(serve, tmp_path, monkeypatch):
    server, original, pressed = serve(), os.fsync, []

    def interrupted(descriptor):
        if not pressed and stat.S_ISREG(os.fstat(descriptor).st_mode):
            pressed.append(descriptor)
            raise KeyboardInterrupt
        original(descriptor)

    monkeypatch.setattr(answers_file.os, "fsync", interrupted)
    with pytest.raises(CollectStopped, match=r"of 8 answers are kept") as caught:
        ask(server, tmp_path, [*"abcdefgh"])
    kept = len((tmp_path / "r.jsonl.answers.jsonl").read_bytes().splitlines())
    assert str(caught.value).startswith(f"collect: stopped. {kept} of 8")
    assert kept == len(server.requests)
    assert ask(server, tmp_path, [*"abcdefgh"]).kept == kept


def test_ctrl_c_behind_an_answer_leaves_the_places_of_others_right(tmp_path):
    """It may fall between any two lines of ``add``."""

    class Interrupted(dict):
        def __setitem__(self, key, value):
            raise KeyboardInterrupt

    with AnswersFile(tmp_path / "a.jsonl") as answers:
        known = answers._places
        answers._places = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            answers.add("k", '{"key": "k", "response": {"x": 1}}')
        answers._places = known
        answers.add("l", '{"key": "l", "response": {"x": 22}}')
        assert answers.read("l")["response"] == {"x": 22}
    with AnswersFile(tmp_path / "a.jsonl") as answers:
        assert answers.read("k")["response"] == {"x": 1}


def test_placeholders_of_local_servers_are_words(serve, tmp_path):
    """Ollama's pages say to send "ollama": prompts and answers may name it."""
    done = ask(serve(), tmp_path, ["the ollama eats"], api_key="ollama")
    line = json.loads(done.answers.read_text())
    assert line["request"]["messages"][0]["content"] == "the ollama eats"
    assert Key("hunter2!").hidden_in("hunter2! and more") == "[key] and more"


def test_a_prompt_that_no_request_can_hold_is_named_alone(serve, tmp_path):
    server = serve()
    done = ask(server, tmp_path, ["a \ud800 b", "c"])
    assert [(one.line, one.kind) for one in done.problems] == [(1, "refused")]
    assert "expected a request that JSON in UTF-8 can hold" in done.problems[0].text
    assert (done.asked, len(server.requests)) == (1, 1)


def test_progress_counts_what_was_there(serve, tmp_path):
    server = serve()
    ask(server, tmp_path, ["a"])
    seen = []
    ask(server, tmp_path, ["a", "b", "c"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_the_key_is_nowhere(serve, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.setenv("OPENAI_LOG", "debug")
    caplog.set_level(logging.DEBUG)
    server = serve(shows_key=True, faults=["400"])
    done = ask(server, tmp_path, concurrency=1)
    assert server.keys == {f"Bearer {KEY}"}
    assert "[key]" in done.problems[0].text
    assert b"authorised with [key]" in done.answers.read_bytes()
    server.behaviour.faults = ["401"]
    with pytest.raises(EndpointError) as caught:
        ask(server, tmp_path, ["more"])
    shown = "".join(traceback.format_exception(caught.value))
    endpoint = Endpoint(server.url.replace("//", f"//me:{KEY}@"), KEY)
    with endpoint:
        assert endpoint.address == server.url  # without the user
        shown += f"{endpoint!r} {endpoint.address} {vars(endpoint)} {Key(KEY)!r}"
        with pytest.raises(TypeError, match="An API key is never written"):
            pickle.dumps(endpoint._key)
        with pytest.raises(TypeError, match="must have __dict__"):
            vars(endpoint._key)
    for name, options in (("x", {"api_key": f"{KEY} é"}), ("y", {"api_key": f"{KEY}\nx"}),
                          ("z", {"api_key": f"{KEY}é"})):  # fmt: skip
        with pytest.raises(ArgumentError, match="isn't shown") as refused:
            ask(server, tmp_path / name, **options)
        shown += "".join(traceback.format_exception(refused.value))
    server.behaviour.faults = ["401"]
    with pytest.raises(EndpointError):  # wrapped, it shows in no list of arguments either
        ask(server, tmp_path, ["most"], api_key=Key(KEY))
    assert server.keys == {f"Bearer {KEY}"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said = capfd.readouterr()
    for place in (shown, said.out, said.err, caplog.text, written.decode(), repr(done)):
        assert KEY not in place
        assert KEY[3:] not in place
    assert "Building HTTP request" in caplog.text  # the client did log


def test_where_endpoint_and_key_come_from(serve, tmp_path, monkeypatch):
    server = serve()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment ")
    assert ask(server, tmp_path, base_url=None, api_key=None).address == server.url
    assert server.keys == {"Bearer sk-from-environment"}
    monkeypatch.delenv("OPENAI_API_KEY")
    assert ask(server, tmp_path, ["b"], base_url=None, api_key=None).complete  # wants no key
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(ArgumentError, match="OPENAI_API_KEY"):
        ask(server, tmp_path, ["c"], base_url=None, api_key=None)
    for address in ("localhost:1", "ftp://x", "http://", "http://[1"):
        with pytest.raises(ArgumentError, match="http://HOST/v1"):
            ask(server, tmp_path, ["c"], base_url=address)


def test_prompts_from_files(serve, tmp_path):
    server = serve()
    text = tmp_path / "p.txt"
    text.write_text("\ufeffthe sea\r\n\n  a\n", encoding="utf8", newline="")
    ask(server, tmp_path, text, concurrency=1)
    assert [body["messages"][0]["content"] for body in server.requests] == ["the sea", "  a"]
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"prompt": [1, 2]}\n{"prompt": "b"}\n')
    ask(server, tmp_path, lines, concurrency=1, form="completion")
    assert [body["prompt"] for body in server.requests[2:]] == [[1, 2], "b"]


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        ('{"prompt": "a"}\n{"prompt', "chat", "line 2: not_json"),
        ('{"prompt": "a"}\n{"text": "a"}', "chat", '"prompt" or "messages" in line 2; got text'),
        ('{"prompt": ""}', "chat", "expected a prompt"),
        ('{"prompt": [1]}', "chat", "got token ids in line 1"),
        (
            '{"messages": [{"role": "user", "content": "a"}]}',
            "completion",
            "got messages in line 1",
        ),
        ('{"messages": [{"content": "a"}]}', "chat", "messages with a role"),
        ("", "chat", "expected prompts; got none"),
    ],
)
def test_faulty_prompts_cost_nothing(serve, tmp_path, content, form, message):
    server = serve()
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        ask(server, tmp_path, path, form=form)
    with pytest.raises(DataError, match="expected a file of prompts"):
        ask(server, tmp_path, tmp_path / "none.txt")
    assert server.requests == []
    assert not (tmp_path / "r.jsonl.answers.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "chats"}, "Did you mean chat"),
        ({"model": ""}, "`model`"),
        ({"max_tokens": 0}, "`max_tokens` >= 1"),
        ({"temperature": -0.5}, "`temperature` >= 0"),
        ({"top_logprobs": -1}, "`top_logprobs` >= 0"),
        ({"draws": 0}, "`draws` >= 1"),
        ({"concurrency": 0}, "`concurrency` >= 1"),
        ({"rate": 0.0}, "`rate` > 0"),
        ({"timeout": 0.0}, "`timeout` > 0"),
        ({"retries": -1}, "`retries` >= 0"),
        ({"extra": {"n": 2}}, "without n"),
        ({"labels": 0}, "`labels` >= 1"),
    ],
)
@pytest.mark.usefixtures("without_shape_hook")
def test_options_are_checked_before_anything_is_asked(serve, tmp_path, options, message):
    server = serve()
    with pytest.raises(ArgumentError, match=message):
        ask(server, tmp_path, **options)
    assert server.requests == []


def test_without_the_client_it_says_what_to_install(serve, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ArgumentError, match=r"limbeck\[api\]"):
        ask(serve(), tmp_path)


def test_letters_are_one_token_each():
    assert text_of(ids_of(LETTERS)) == LETTERS
