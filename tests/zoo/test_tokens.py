"""Texts as blocks of token ids: every token predicted once, borders, parts, tokenizers."""

import gzip
import json
import lzma

import pytest
import torch
from hypothesis import given, settings, strategies as st

from limbeck.checks import ArgumentError, DataError
from limbeck.next_tokens import follows, next_tokens
from limbeck.vocabulary import Vocabulary
from limbeck.zoo.documents import cut_documents, read_documents
from limbeck.zoo.tokenizers import tokenizer_of
from limbeck.zoo.tokens import load_tokens


def batch_of(data):
    rows = torch.arange(len(data))
    return next(data.batches([(rows, torch.zeros_like(rows))]))


def predicted(data):
    """Return context and token of every prediction, as texts of bytes within one document."""
    batch = batch_of(data)
    ids, following, runs = batch.inputs["input_ids"], next_tokens(batch), follows(batch)
    found = []
    for row, wanted, on in zip(ids.tolist(), following.tolist(), runs.tolist(), strict=True):
        start = 0
        for t in range(len(row)):
            if wanted[t] >= 0:
                found.append((tuple(row[start : t + 1]), wanted[t]))
            if not on[t]:
                start = t + 1
    return found


texts = st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=9)


@settings(deadline=None, max_examples=60)
@given(texts, st.integers(2, 7), st.booleans())
def test_every_token_but_the_first_is_predicted_once(tmp_path_factory, documents, length, packing):
    path = tmp_path_factory.mktemp("text") / "t.jsonl"
    path.write_text("\n".join(json.dumps({"text": one}) for one in documents))
    ends = [256] if len(documents) > 1 else []
    expected = [[*one.encode(), *ends] for one in documents]
    options = {"validation": 0.0, "test": 0.0, "packing": packing, "tokens": length}
    if sum(map(len, expected)) < 2:
        with pytest.raises(DataError, match="at least two tokens"):
            load_tokens(path, "bytes", **options)
        return
    found = load_tokens(path, "bytes", **options)
    assert (found.validation, found.test) == (None, None)
    tokens = sorted(token for _, token in predicted(found.train))
    assert tokens == sorted(token for one in expected for token in one[1:])
    for context, token in predicted(found.train):
        assert any(
            tuple(one[i - len(context) : i]) == context and one[i] == token
            for one in expected
            for i in range(len(context), len(one))
        )


def test_rows_by_hand(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abcdefgh")
    found = load_tokens(path, "bytes", tokens=4, validation=0.0, test=0.0).train
    a = ord("a")
    batch = batch_of(found)
    assert (batch.inputs["input_ids"] - a).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [4, 5, 6, 7]]
    assert (batch.targets - a).tolist() == [[-1 - a, 1, 2, 3], [-1 - a, 4, 5, 6],
                                            [-1 - a, -1 - a, -1 - a, 7]]  # fmt: skip
    assert set(batch.inputs) == {"input_ids"}


def test_packed_rows_by_hand(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("ab|c|defg")
    options = {"separator": "|", "validation": 0.0, "test": 0.0, "tokens": 6}
    found = batch_of(load_tokens(path, "characters", **options).train)
    # Characters a to g are 0 to 6, the end is 7: ab7 c7 defg7.
    assert found.inputs["input_ids"].tolist() == [[0, 1, 7, 2, 7, 3], [7, 3, 4, 5, 6, 7]]
    assert found.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]
    assert next_tokens(found).tolist() == [[1, 7, -1, 7, -1, -1], [-1, 4, 5, 6, 7, -1]]
    found = batch_of(load_tokens(path, "characters", packing=False, **options).train)
    assert found.inputs["input_ids"].tolist() == [
        [0, 1, 7, 0, 0],
        [2, 7, 0, 0, 0],
        [3, 4, 5, 6, 7],
    ]
    assert found.inputs["attention_mask"].tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1],
    ]
    assert next_tokens(found).tolist() == [
        [1, 7, -1, -1, -1],
        [7, -1, -1, -1, -1],
        [4, 5, 6, 7, -1],
    ]


def test_files_of_all_kinds_are_one_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo")
    with lzma.open(tmp_path / "b.txt.xz", "wt") as file:
        file.write("three")
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"text": "four", "other": 1}\n\n{"text": " "}\n{"text": "fi\\nve"}')
    (tmp_path / "notes.md").write_text("left out")
    assert read_documents(tmp_path) == ["one\n\ntwo", "three", "four", "fi\nve"]
    assert read_documents(tmp_path, "\n\n") == ["one", "two", "three", "four", "fi\nve"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"x", "expected a text .txt or .jsonl.*got `.csv`"),
        ("t.txt", b"a\nb\xff", "line 2: expected UTF-8; got byte 0xff"),
        ("t.jsonl", b'{"text": "a"}\n{"tex": 1}', "line 2: expected an object with `text`"),
        ("t.jsonl", b'{"text": "a"}\n{"text": 1}', "line 2: expected an object with `text`"),
        ("t.jsonl", b'{"text": "a"\n', "line 1: expected JSON"),
        ("t.txt.xz", b"abc", "cannot be read"),
        ("t.txt", b" \n ", "expected some text; got none"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_tokens(tmp_path / name)
    with pytest.raises(DataError, match="there is no such file"):
        load_tokens(tmp_path / "other.txt")


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"expected files \.txt or \.jsonl"):
        load_tokens(tmp_path)


def test_few_documents_are_cut_by_place():
    parts = cut_documents(["abcdefgh", "ij"], 0.2, 0.1, seed=0)
    assert parts == (["abcdefg"], ["h", "i"], ["j"])
    assert cut_documents(["abcd"], 0.0, 0.0, seed=0) == (["abcd"], [], [])
    one = cut_documents(["".join(map(chr, range(100)))], 0.1, 0.2, seed=0)
    assert [len(part[0]) for part in one] == [70, 10, 20]


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.2), (0.0, 0.5), (0.01, 0.0)])
def test_many_documents_are_drawn_whole(validation, test):
    documents = [f"document {i}" for i in range(30)]
    train, middle, last = cut_documents(documents, validation, test, seed=1)
    assert sorted(train + middle + last) == sorted(documents)
    wanted = [max(1, round(30 * share)) if share else 0 for share in (validation, test)]
    assert [len(middle), len(last)] == wanted
    assert cut_documents(documents, validation, test, seed=1) == (train, middle, last)
    others = [cut_documents(documents, validation, test, seed=seed) for seed in range(2, 6)]
    assert any(other != (train, middle, last) for other in others)


def test_a_folder_of_parts(tmp_path):
    for part, text in (("train", "abcdefghij" * 10), ("test", "klm")):
        (tmp_path / f"{part}.txt").write_text(text)
    found = load_tokens(tmp_path, "characters", tokens=5)
    assert found.vocabulary.size == 13
    assert len(batch_of(found.test)) == 1
    assert int((found.test.targets >= 0).sum()) == 2
    assert int((found.validation.targets >= 0).sum()) == 9  # a tenth of 100, but for its first
    (tmp_path / "validation.txt").write_text("aaaa")
    found = load_tokens(tmp_path, "characters", tokens=5, limit=3, split_seed=1)
    assert int((found.validation.targets >= 0).sum()) == 3
    assert len(found.train) == 3
    rows = load_tokens(tmp_path, "characters", tokens=5).train
    whole = [tuple(row) for row in batch_of(rows).inputs["input_ids"].tolist()]
    assert all(tuple(row) in whole for row in batch_of(found.train).inputs["input_ids"].tolist())


def test_characters_and_bytes():
    text = "aé😀a"
    letters = tokenizer_of("characters", [text], several=False)
    assert letters.encode(text) == [0, 1, 2, 0]
    assert letters.token_bytes == (1, 2, 4)
    assert letters.end is None
    several = tokenizer_of("characters", [text], several=True)
    assert (several.end, several.vocabulary.size, several.token_bytes[-1]) == (3, 4, 0)
    raw = tokenizer_of("bytes", [text], several=True)
    assert raw.encode(text) == list(text.encode())
    assert (raw.end, raw.vocabulary.size, sum(raw.token_bytes)) == (256, 257, 256)


def test_vocabularies_are_told_apart():
    one = tokenizer_of("characters", ["abc"], several=False).vocabulary
    assert not one.differs_from(tokenizer_of("characters", ["cab"], several=False).vocabulary)
    assert one.differs_from(tokenizer_of("characters", ["abd"], several=False).vocabulary)
    assert one.differs_from(Vocabulary.of("characters", "abcd"))
    assert not one.differs_from(Vocabulary.of_dict(one.as_dict()))
    assert str(one).startswith("characters of 3 tokens (")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 1}, "`tokens` >= 2"),
        ({"tokens": 0}, "`tokens` > 0"),
        ({"validation": 0.5, "test": 0.5}, "something to train on; got 0.5 and 0.5"),
        ({"validation": -0.1}, r"`validation` and `test` in \[0, 1\)"),
        ({"tokenizer": "words"}, "bytes, characters or hf:FOLDER; got 'words'"),
        ({"tokenizer": "hf:nowhere"}, "expected a folder with a tokenizer"),
        ({"limit": 0}, "`limit`"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers' own
def test_arguments_are_checked(tmp_path, options, message):
    if str(options.get("tokenizer")).startswith("hf"):
        pytest.importorskip("transformers", reason="needs the extra `text`")
    (tmp_path / "t.txt").write_text("abcdefghij" * 5)
    with pytest.raises(ArgumentError, match=message):
        load_tokens(tmp_path / "t.txt", **options)


def test_tiny_shakespeare(shared_data):
    """The known counts of the text: 1,115,394 characters, 65 of them distinct."""
    found = load_tokens(shared_data / "text" / "tinyshakespeare.txt.xz", tokens=256)
    assert found.vocabulary.size == 65
    counts = [
        int((part.targets >= 0).sum()) for part in (found.train, found.validation, found.test)
    ]
    assert sum(counts) == 1_115_394 - 3
    assert counts[1] == pytest.approx(111_539, abs=2)
    assert found.token_bytes == (1,) * 65
