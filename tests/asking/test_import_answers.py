"""Answers of OpenAI's and vLLM's forms become records."""

import gzip
import json
import math

import pytest
from hypothesis import given, settings, strategies as st

import limbeck as lb
from limbeck.asking.importing import import_records
from limbeck.checks import ArgumentError, DataError


WORDS = {"a": 0, "b": 1, "c": 2, "d": 3}


def token(text, log, top=None, **more):
    made = {"token": text, "logprob": log, "bytes": list(text.encode()), **more}
    if top is not None:
        made["top_logprobs"] = [
            {"token": name, "logprob": number, "bytes": list(name.encode())} for name, number in top
        ]
    return made


def chat(*tokens, **more):
    text = "".join(one["token"] for one in tokens)
    choice = {"index": 0, "message": {"content": text}, "logprobs": {"content": list(tokens)}}
    return {"id": "x1", "model": "m", "choices": [choice], **more}


def flat(tokens, logs, tops=None, **more):
    logprobs = {"tokens": tokens, "token_logprobs": logs, "top_logprobs": tops}
    choice = {"index": 0, "text": "".join(tokens), "logprobs": logprobs}
    return {"id": "x2", "model": "m", "choices": [choice], **more}


MESSAGES = [{"role": "user", "content": "Hi"}]


def test_chat_form_field_by_field():
    answer = chat(
        token("b", -0.5, [("b", -0.5), ("a", -1.5)]),
        token("a", -3.0, [("c", -0.1), ("b", -2.5)]),
        system_fingerprint="fp1",
    )
    request = {"messages": MESSAGES, "temperature": 0.7, "logprobs": True, "top_logprobs": 2}
    read = import_records([{"request": request, "response": answer}], tokenizer=WORDS)
    first, second = read
    assert read.problems == []
    assert (first.label, first.log_probability, first.top) == (1, -0.5, ((1, -0.5), (0, -1.5)))
    assert (second.label, second.log_probability, second.top) == (0, -3.0, ((2, -0.1), (1, -2.5)))
    assert json.loads(first.input) == MESSAGES
    assert json.loads(second.input) == [*MESSAGES, {"role": "assistant", "content": "b"}]
    assert [(one.sequence, one.position, one.line) for one in read] == [("x1", 0, 1), ("x1", 1, 1)]
    assert {one.temperature for one in read} == {0.7}
    assert {one.teacher for one in read} == {"m, fp1"}
    assert first.privilege == second.privilege == "sampled_probabilities"


def test_completion_form_knows_the_drawn_token_beside_the_largest():
    tops = [{"b": -0.5, "a": -1.5}, {"c": -0.1, "b": -2.5, "a": -3.0}]
    answer = flat(["b", "a"], [-0.5, -3.0], tops, prompt="Hi")
    for known in ({}, {"logprobs": 2}):  # asked for two: told, or seen from the other list
        first, second = import_records([{**answer, "request": known}], tokenizer=WORDS)
        assert (first.input, second.input) == ("Hi", "Hib")
        assert first.top == ((1, -0.5), (0, -1.5))
        assert second.top == ((2, -0.1), (1, -2.5))
        assert second.log_probability == -3.0


def test_a_drawn_token_that_is_one_of_the_largest_stays():
    answer = flat(["a"], [-1.5], [{"b": -0.5, "a": -1.5}], prompt="Hi")
    (record,) = import_records([answer], tokenizer=WORDS)
    assert record.top == ((1, -0.5), (0, -1.5))


def test_vllm_puts_the_drawn_token_in_the_place_of_the_kth():
    inside = token("c", -1.5, [("c", -1.5), ("a", -0.5), ("b", -2.5)])
    outside = token("d", -4.0, [("d", -4.0), ("a", -0.5), ("c", -1.5)])
    request = {"messages": MESSAGES, "top_logprobs": 3}
    read = import_records([{"request": request, **chat(inside, outside)}], tokenizer=WORDS)
    largest = ((0, -0.5), (2, -1.5))
    assert [one.top for one in read] == [(*largest, (1, -2.5)), largest]
    assert [one.log_probability for one in read] == [-1.5, -4.0]
    assert [problem.kind for problem in read.problems] == ["drawn_in_list"]
    same = import_records([{"request": request, **chat(inside, outside)}], tokenizer=WORDS, top=2)
    assert [one.top for one in same] == [largest, largest]
    assert same.problems == []


@pytest.mark.parametrize("number", [-9999.0, -99999.0, None])
def test_a_number_that_is_withheld_is_censored(number):
    answer = chat(
        token("a", -0.1, [("a", -0.1), ("b", -3.0)]), token("d", number, [("a", -0.1), ("b", -3.0)])
    )
    read = import_records([{"messages": MESSAGES, **answer}], tokenizer=WORDS)
    assert [one.censored for one in read] == [False, True]
    assert read.records[1].privilege == "hard_labels"
    assert [one.kind for one in read.problems] == ["sentinel"] * (number is not None)
    assert lb.audit(read)["censored"].records == 1


def test_a_withheld_number_of_the_list_ends_it():
    answer = chat(token("a", -0.1, [("a", -0.1), ("b", -9999.0), ("c", -math.inf)]))
    (record,) = import_records([{"messages": MESSAGES, **answer}], tokenizer=WORDS)
    assert record.top == ((0, -0.1),)


def test_token_ids_need_no_vocabulary():
    answer = chat(
        token("token_id:7", -0.5, [("token_id:7", -0.5), ("token_id:9", -1.0)]),
        token("token_id:9", -0.7, [("token_id:9", -0.7), ("token_id:7", -0.9)]),
        prompt_token_ids=[5, 6],
    )
    read = import_records([answer])
    assert [one.input for one in read] == [(5, 6), (5, 6, 7)]
    assert [one.label for one in read] == [7, 9]
    assert read.records[1].top == ((9, -0.7), (7, -0.9))


def test_ids_beside_the_tokens_are_used_and_names_of_the_list_are_not_needed():
    answer = chat(token("?", -0.5, [("?", -0.5)]), prompt_token_ids=[5])
    answer["choices"][0]["token_ids"] = [11]
    read = import_records([answer])
    assert (read.records[0].label, read.records[0].top) == (11, ())
    assert [problem.kind for problem in read.problems] == ["cut_top"]
    answer["choices"][0]["token_ids"] = [11, 12]
    assert import_records([answer]).left_out == {"length_mismatch": 1}


def test_token_ids_alone_are_hard_labels():
    answer = {"choices": [{"text": "??", "token_ids": [3, 4], "prompt_token_ids": [1]}]}
    read = import_records([answer])
    assert [(one.input, one.label, one.privilege) for one in read] == [
        ((1,), 3, "hard_labels"),
        ((1, 3), 4, "hard_labels"),
    ]


def test_ids_of_the_drawn_tokens_but_not_of_the_prompt_make_one_context_only():
    choice = {"text": "ab", "token_ids": [3, 4]}
    assert import_records([{"prompt": "p", "choices": [choice]}]).left_out == {"missing_prompt": 1}
    choice["token_ids"] = [3]
    (record,) = import_records([{"prompt": "p", "choices": [choice]}])
    assert (record.input, record.label) == ("p", 3)


def scored(place):
    return {
        "4": {"logprob": -3.0 - place, "rank": 9, "decoded_token": "x"},
        "8": {"logprob": -0.5, "rank": 1, "decoded_token": "y"},
        "9": {"logprob": -1.5, "rank": 2, "decoded_token": "z"},
    }


@pytest.mark.parametrize("holder", ["answer", "choice"])
def test_scores_of_the_prompt_are_taken_where_they_are_asked_for(holder):
    answer = chat(token("token_id:8", -0.2))
    place = answer if holder == "answer" else answer["choices"][0]
    place |= {"prompt_token_ids": [5, 4, 4], "prompt_logprobs": [None, scored(0), scored(1)]}
    plain = import_records([answer])
    assert [one.label for one in plain] == [8]
    assert [(p.kind, p.left_out) for p in plain.problems] == [("prompt_scores", False)]
    read = import_records([answer], prompt=True)
    assert read.problems == []
    found = [(one.input, one.label, one.log_probability, one.position) for one in read.records[:2]]
    assert found == [((5,), 4, -3.0, 1), ((5, 4), 4, -4.0, 2)]
    assert read.records[0].top == ((8, -0.5), (9, -1.5))  # rank 9 is none of the largest
    assert [one.sequence for one in read] == ["x1/prompt", "x1/prompt", "x1"]
    assert read.records[2].input == (5, 4, 4)


def test_an_echoed_prompt_is_no_draw():
    answer = flat(["a", "b", "c"], [None, -1.0, -2.0], [None, {"b": -1.0}, {"c": -2.0}])
    (record,) = import_records([{"prompt": "ab", **answer}], tokenizer=WORDS)
    assert (record.input, record.label, record.log_probability) == ("ab", 2, -2.0)
    both = import_records([{"prompt": "ab", **answer}], tokenizer=WORDS, prompt=True)
    assert [(one.input, one.label) for one in both] == [("a", 1), ("ab", 2)]
    (given,) = import_records([{"prompt": [0, 1], **answer}], tokenizer=WORDS)
    assert (given.input, given.label) == ((0, 1), 2)
    lost = import_records([{"prompt": "ax", **answer}], tokenizer=WORDS)
    assert lost.left_out == {"echoed_prompt": 1}


def batch(name, answer, **more):
    return {"id": "r", "custom_id": name, "response": {"status_code": 200, "body": answer}, **more}


def test_a_batch_with_its_requests(tmp_path):
    requests = tmp_path / "requests.jsonl"
    body = {"messages": MESSAGES, "temperature": 0.5}
    requests.write_text(json.dumps({"custom_id": "q1", "url": "/v1", "body": body}) + "\n")
    lines = [
        batch("q1", chat(token("b", -0.5))),
        batch("q2", chat(token("b", -0.5))),
        {"custom_id": "q1", "response": None, "error": {"message": "too long"}},
        {"custom_id": "q1", "response": {"status_code": 500, "body": {"error": "x"}}},
        {"custom_id": "q1", "response": {"status_code": 429, "body": chat(token("b", -0.5))}},
    ]
    read = import_records(lines, tokenizer=WORDS, requests=requests)
    (record,) = read
    assert (record.sequence, record.temperature, json.loads(record.input)) == ("q1", 0.5, MESSAGES)
    assert [(p.line, p.kind) for p in read.problems] == [
        (2, "missing_prompt"),
        (3, "failed_request"),
        (4, "failed_request"),
        (5, "failed_request"),
    ]
    alone = import_records(lines[:1], tokenizer=WORDS)
    assert alone.left_out == {"missing_prompt": 1}
    with pytest.raises(ArgumentError, match="custom_id"):
        import_records(lines, tokenizer=WORDS, requests=[{"prompt": "x"}])


def test_bytes_settle_what_strings_cannot():
    class Halves:
        """Like an encoding of tiktoken: é is two tokens of one byte."""

        n_vocab = 4

        def decode_single_token_bytes(self, number):
            return {0: b"a", 1: b"\xc3", 3: b"\xa9"}[number]  # 2 is no token: KeyError

        def encode_ordinary(self, text):
            return [0 for _ in text]

    half = {"token": "\ufffd", "logprob": -0.5}
    answer = chat({**half, "bytes": [0xC3]}, {**half, "bytes": [0xA9]})
    read = import_records([{"prompt": "aa", **answer}], tokenizer=Halves())
    assert [(one.input, one.label) for one in read] == [((0, 0), 1), ((0, 0, 1), 3)]
    # vLLM gives the bytes of the replacement sign: two tokens look like that
    answer = chat({**half, "bytes": [0xEF, 0xBF, 0xBD]})
    read = import_records([{"prompt": "aa", **answer}], tokenizer=Halves())
    assert read.left_out == {"ambiguous_token": 1}
    mapping = {"a": 0, "\u00e9": 1}
    read = import_records([{"prompt": "p", **chat(token("é", -1.0), token("a", -1.0))}],
                          tokenizer=mapping)  # fmt: skip
    assert [one.input for one in read] == ["p", "p\u00e9"]


def test_a_tokenizer_of_transformers_encodes_prompts_too():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = {"\u0120": 0, "h": 1, "i": 2, "\u00c3": 3, "\u00a9": 4, "[U]": 5, "\u0120h": 6}
    inner = Tokenizer(models.BPE(letters, [("\u0120", "h")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["[U]"])
    tokenizer.chat_template = "[U]{% for m in messages %}{{ m.content }}{% endfor %}"
    answer = chat(token(" h", -0.5), {"token": "\ufffd", "logprob": -1.0, "bytes": [0xC3]})
    read = import_records([{"prompt": "hi", **answer}], tokenizer=tokenizer)
    assert [(one.input, one.label) for one in read] == [((1, 2), 6), ((1, 2, 6), 3)]
    messages = [{"role": "user", "content": "i h"}]
    read = import_records([{"messages": messages, **answer}], tokenizer=tokenizer)
    assert read.records[0].input == (5, 2, 6)
    text_only = {"choices": [{"text": " hi"}], "prompt": "h"}
    read = import_records([text_only], tokenizer=tokenizer)
    assert [(one.input, one.label) for one in read] == [((1,), 6), ((1, 6), 2)]
    assert [problem.kind for problem in read.problems] == ["retokenized"]
    # A token that opens every text stands before the prompt, and not before the answer.
    inner.post_processor = processors.TemplateProcessing("[U] $A", special_tokens=[("[U]", 5)])
    opening = PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=["[U]"])
    read = import_records([text_only], tokenizer=opening)
    assert [(one.input, one.label) for one in read] == [((5, 1), 6), ((5, 1, 6), 2)]


def test_sentencepiece_spelling_is_understood():
    from limbeck.asking.vocabulary import _pieces

    known = {"\u2581the": 0, "<0x0A>": 1, "the": 2}
    assert dict(_pieces(known)) == {b" the": 0, b"\n": 1, b"the": 2}


def test_whole_answers_may_be_labels():
    texts = {"yes": 1, "no": 0}
    lines = [
        {"messages": MESSAGES, "choices": [{"message": {"content": " yes\n"}}]},
        {"messages": MESSAGES, "choices": [{"message": {"content": "perhaps"}}]},
        {"messages": MESSAGES, "choices": [{"message": {"content": None}}]},
    ]
    read = import_records(lines, tokenizer=texts)
    assert [(one.label, one.privilege) for one in read] == [(1, "hard_labels")]
    assert read.left_out == {"unknown_token": 1, "missing_key": 1}


def test_strings_without_a_vocabulary_are_refused_by_name():
    lines = [
        {"prompt": "x", **flat(["a"], [-1.0])},
        {"prompt": "x", "choices": [{"text": "a"}]},
        {**flat(["a"], [-1.0])},
    ]
    read = import_records(lines)
    assert [(p.line, p.kind) for p in read.problems] == [
        (1, "needs_vocabulary"),
        (2, "needs_vocabulary"),
        (3, "missing_prompt"),
    ]
    assert "--tokenizer" in read.problems[0].text
    with pytest.raises(DataError, match="needs_vocabulary"):
        read.needed("here")
    unknown = import_records(lines[:1], tokenizer={"q": 0})
    assert unknown.left_out == {"unknown_token": 1}


def test_an_answer_with_one_bad_token_is_left_out_whole():
    answer = chat(token("a", -0.5), token("zzz", -0.5), token("b", -0.5))
    read = import_records([{"prompt": "x", **answer}], tokenizer=WORDS)
    assert (len(read), read.left_out) == (0, {"unknown_token": 1})


def test_tokens_of_a_refusal_were_drawn_too():
    answer = chat()
    answer["choices"][0]["logprobs"] = {"content": None, "refusal": [token("b", -0.5)]}
    (record,) = import_records([{"prompt": "x", **answer}], tokenizer=WORDS)
    assert (record.label, record.log_probability) == (1, -0.5)


def test_a_gap_in_the_prompts_scores_is_a_fault():
    answer = chat(token("token_id:8", -0.2), prompt_token_ids=[5, 4, 4])
    read = import_records([{**answer, "prompt_logprobs": [None, None, scored(1)]}], prompt=True)
    assert read.left_out == {"wrong_type": 1}


def test_text_is_put_together_from_bytes():
    halves = [{"token": "\ufffd", "id": 7, "logprob": -1.0, "bytes": [one]} for one in (0xC3, 0xA9)]
    read = import_records([{"prompt": "p", **chat(*halves, token("a", -1.0, id=1))}])
    assert [one.input for one in read] == ["p", "p\ufffd", "p\u00e9"]


def test_an_answer_without_tokens_is_noted():
    lines = [{"prompt": "x", **chat()}, {"prompt": "x", "choices": []}]
    read = import_records(lines, tokenizer=WORDS)
    assert [(p.line, p.kind, p.lines, p.left_out) for p in read.problems] == [
        (1, "no_tokens", 2, False)
    ]


def test_several_choices_are_sequences_of_their_own():
    answer = chat(token("a", -0.5))
    answer["choices"].append({**answer["choices"][0], "index": 1})
    read = import_records([{"prompt": "x", **answer}], tokenizer=WORDS)
    assert [(one.sequence, one.position) for one in read] == [("x1/0", 0), ("x1/1", 0)]


def test_a_list_of_all_labels_is_a_row():
    logs = {"a": math.log(0.5), "b": math.log(0.25), "c": math.log(0.25)}
    answer = flat(["b"], [logs["b"]], [logs], prompt="x", logprobs=3)
    (whole,) = import_records([answer], tokenizer=WORDS, labels=3)
    assert whole.privilege == "soft_labels"
    assert whole.row.tolist() == list(logs.values())
    assert whole.top == ()
    (part,) = import_records([answer], tokenizer=WORDS, labels=4)
    assert part.privilege == "sampled_probabilities"
    out = import_records([answer], tokenizer=WORDS, labels=1)
    assert out.left_out == {"label_out_of_range": 1}


def test_what_the_caller_says_comes_first_and_filters_are_noted():
    line = {"prompt": "x", "temperature": 0.3, "top_p": 0.9, **flat(["a"], [-1.0])}
    read = import_records([line], tokenizer=WORDS, temperature=2.0, teacher="mine")
    assert (read.records[0].temperature, read.records[0].teacher) == (2.0, "mine")
    assert [problem.kind for problem in read.problems] == ["filtered"]
    for plain in ({"top_p": 1.0}, {"top_k": -1}, {"min_p": 0}):
        assert import_records([{**line, "top_p": 1, **plain}], tokenizer=WORDS).problems == []
    for key, value in (("top_k", 40), ("min_p", 0.1)):
        read = import_records([{**line, "top_p": 1, key: value}], tokenizer=WORDS)
        assert [problem.kind for problem in read.problems] == ["filtered"]


def test_files_are_read_line_by_line(tmp_path):
    good = json.dumps({"prompt": "x", **flat(["a"], [-1.0])})
    text = f"\ufeff{good}\n\nnot json\n[1]\n{good}\n{good[:40]}"
    for name, opener in (("a.jsonl", open), ("a.jsonl.gz", gzip.open)):
        with opener(tmp_path / name, "wb") as stream:
            stream.write(text.encode())
        read = import_records(tmp_path / name, tokenizer=WORDS)
        assert [one.line for one in read] == [1, 5]
        assert [(p.line, p.kind) for p in read.problems] == [
            (3, "not_json"),
            (4, "not_object"),
            (6, "not_json"),
        ]
    with pytest.raises(DataError, match="no such file"):
        import_records(tmp_path / "none.jsonl")


def test_own_records_pass_with_their_lines():
    lines = [{"input": 3, "label": 1, "probability": 0.5}, {"input": 3, "label": -1}]
    read = import_records(lines)
    assert [(one.input, one.line) for one in read] == [(3, 1)]
    assert [(p.line, p.kind) for p in read.problems] == [(2, "label_out_of_range")]


def test_a_form_that_was_asked_for_is_insisted_on():
    line = {"prompt": "x", **flat(["a"], [-1.0])}
    assert len(import_records([line], tokenizer=WORDS, form="completion")) == 1
    assert import_records([line], tokenizer=WORDS, form="chat").left_out == {"other_form": 1}
    inside = batch("q", {**flat(["a"], [-1.0])}, body={"prompt": "x"})
    for form in ("batch", "completion"):
        assert len(import_records([inside], tokenizer=WORDS, form=form)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "chats"}, "Did you mean chat"),
        ({"temperature": -1}, "`temperature` >= 0"),
        ({"labels": 0}, "`labels` >= 1"),
        ({"top": -1}, "`top` >= 0"),
        ({"tolerance": 1}, r"`tolerance` in \[0, 1\)"),
        ({"tokenizer": 3}, "`tokenizer` to be a mapping"),
        ({"tokenizer": {"a": "b"}}, "whole numbers"),
        ({"tokenizer": {"a": True}}, "whole numbers"),
    ],
)
@pytest.mark.usefixtures("without_shape_hook")
def test_options_are_checked_before_anything_is_read(options, message):
    with pytest.raises(ArgumentError, match=message):
        import_records([], **options)


@pytest.mark.usefixtures("without_shape_hook")
def test_sources_that_are_none():
    for source in (3, {"choices": []}):
        with pytest.raises(DataError, match="expected a path, or dicts"):
            import_records(source)
    assert import_records([]).left_out == {"empty": 1}
    assert import_records([3]).left_out == {"not_object": 1}


def test_tokenizers_from_files(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps(WORDS))
    line = {"prompt": "x", **flat(["c"], [-1.0])}
    assert import_records([line], tokenizer=tmp_path / "v.json").records[0].label == 2
    assert import_records([line], tokenizer=list(WORDS)).records[0].label == 2
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(DataError, match="JSON file that maps"):
        import_records([line], tokenizer=str(tmp_path / "v.json"))
    with pytest.raises(DataError, match="transformers can load"):
        import_records([line], tokenizer=tmp_path)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value, path, new):
    if not path:
        return new
    made = dict(value) if isinstance(value, dict) else list(value)
    made[path[0]] = changed(value[path[0]], path[1:], new)
    return made


WHOLE = [
    {"key": "k", "request": {"messages": MESSAGES, "top_logprobs": 2, "temperature": 1.0},
     "response": chat(token("a", -0.5, [("a", -0.5)]), token("b", -3.0, [("a", -0.1)]))},
    batch("q", flat(["a", "b"], [None, -1.0], [None, {"b": -1.0}]), body={"prompt": "a"}),
    {**chat(token("token_id:1", -1.0)), "prompt_token_ids": [1, 4],
     "prompt_logprobs": [None, scored(0)]},
    {"input": [1, 2], "label": 3, "top": [[3, -0.5]]},
    {"input_ids": [1, 2], "sparse_ids": [[1], [2]], "sparse_values": [[-0.5], [-0.5]]},
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_line_crashes_the_reader(data):
    line = data.draw(st.sampled_from(WHOLE))
    path = data.draw(st.sampled_from(list(places(line))[1:]))
    read = import_records([changed(line, path, data.draw(ODD)), WHOLE[3]], tokenizer=WORDS)
    assert read.records[-1].input == (1, 2)
    assert all(problem.line == 1 for problem in read.problems)
    assert len(read) > 1 or read.problems
