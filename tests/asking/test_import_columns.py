"""Data sets with columns of token ids and log-probabilities."""

import builtins
import json

import numpy as np
import pytest
import torch
from helpers.language_server import ids_of

from limbeck.asking.columns import Columns
from limbeck.asking.importing import import_records
from limbeck.checks import ArgumentError, DataError


TEXT = ids_of("the sea.")


@pytest.fixture(scope="module")
def laws(model):
    """Return the model's law after each beginning of the text: the oracle."""
    return np.array([model.law(TEXT[:place]) for place in range(1, len(TEXT) + 1)])


def expected(laws, k):
    for place in range(1, len(TEXT)):
        law = laws[place - 1]
        order = np.argsort(-law)[:k]
        yield TEXT[:place], TEXT[place], tuple((int(one), float(law[one])) for one in order)


def listed(laws, k):
    order = np.argsort(-laws, axis=1)[:, :k]
    return order, np.take_along_axis(laws, order, axis=1)


@pytest.mark.parametrize("kind", ["lists", "arrays", "tensors", "shorter"])
def test_lists_of_the_next_token(laws, kind):
    ids, logs = listed(laws, 4)
    if kind == "shorter":  # DistillKit has no law after the last token
        ids, logs = ids[:-1], logs[:-1]
    row = {"input_ids": list(TEXT), "i": ids.tolist(), "v": logs.tolist()}
    if kind == "arrays":
        row = {"input_ids": np.array(TEXT), "i": ids, "v": logs}
    if kind == "tensors":
        row = {name: torch.tensor(np.array(value)) for name, value in row.items()}
    read = import_records([row], columns=Columns(top_labels="i", top_log_probabilities="v"))
    assert read.problems == []
    found = [(one.input, one.label, one.top) for one in read]
    assert found == list(expected(laws, 4))
    assert [one.position for one in read] == list(range(1, len(TEXT)))
    assert {one.sequence for one in read} == {"line 1"}


def test_values_beside_their_token_say_the_same(laws):
    own = [None, *(float(laws[place - 1][TEXT[place]]) for place in range(1, len(TEXT)))]
    ids, logs = listed(laws, 4)
    row = {
        "t": list(TEXT),
        "own": [0.0, *own[1:]],
        "i": [[], *ids[:-1].tolist()],
        "v": [[], *logs[:-1].tolist()],
    }
    columns = Columns("t", None, "own", "i", "v", aligned="same")
    read = import_records([row], columns=columns)
    assert [(one.input, one.label, one.top) for one in read] == list(expected(laws, 4))
    assert [one.log_probability for one in read] == own[1:]
    shorter = {**row, "own": own[1:]}  # values that begin with the second token
    assert import_records([shorter], columns=columns).left_out == {"length_mismatch": 1}


def test_whole_rows(laws):
    row = {"input_ids": list(TEXT), "all": laws.tolist()}
    read = import_records([row], columns=Columns(row="all"))
    assert {one.privilege for one in read} == {"soft_labels"}
    assert [one.log_probability for one in read] == [
        float(laws[place - 1][TEXT[place]]) for place in range(1, len(TEXT))
    ]


def test_labels_that_do_not_count_are_passed_over(laws):
    labels = [-100, -100, *TEXT[2:]]
    read = import_records(
        [{"input_ids": list(TEXT), "labels": labels}], columns=Columns(label="labels")
    )
    assert [(one.input, one.label) for one in read] == [
        (TEXT[:place], TEXT[place]) for place in range(2, len(TEXT))
    ]


def test_labels_that_were_drawn_for_the_next_place(laws):
    drawn = [3, 1, 4, 1, 5, 9, 2, 6]
    logs = [float(law[one]) for law, one in zip(laws, drawn, strict=True)]
    columns = Columns(label="d", log_probability="l", labels_aligned="next")
    read = import_records([{"input_ids": list(TEXT), "d": drawn, "l": logs}], columns=columns)
    assert [(one.input, one.label, one.log_probability) for one in read] == [
        (TEXT[: place + 1], drawn[place], logs[place]) for place in range(len(TEXT))
    ]


def test_one_label_a_row():
    rows = [
        {"x": [1, 2], "y": 3, "p": -0.5, "i": [3, 1], "v": [-0.5, -1.5]},
        {"x": [1], "y": 0, "p": -9999.0, "i": [1, 2, -1], "v": [-1.5, -0.5, -np.inf]},
    ]
    read = import_records(rows, columns=Columns("x", "y", "p", "i", "v"))
    assert [(one.input, one.label, one.log_probability) for one in read] == [
        ((1, 2), 3, -0.5),
        ((1,), 0, None),
    ]
    assert read.records[1].top == ((2, -0.5), (1, -1.5))  # sorted, and without the padding
    assert read.records[1].censored
    assert read.records[0].sequence is None
    assert [problem.kind for problem in read.problems] == ["sentinel"]


def test_distillkit_names_are_known_and_packed_columns_refused():
    row = {"input_ids": [1, 2], "sparse_ids": [[2], [3]], "sparse_values": [[-0.5], [-0.1]]}
    (record,) = import_records([row])
    assert (record.input, record.label, record.top) == ((1,), 2, ((2, -0.5),))
    packed = {"input_ids": [1, 2], "compressed_logprobs": [[1]], "bytepacked_indices": [[2]]}
    read = import_records([packed])
    assert read.left_out == {"packed_columns": 1}
    assert "decompress_to_sparse" in read.problems[0].text
    read = import_records([packed], columns=Columns(row="logits"))
    assert read.left_out == {"packed_columns": 1}


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        ({"input_ids": [1, 2], "v": [0.7, 2.5]}, "above_one", "log-softmax"),
        ({"input_ids": [1, 2], "v": [[-1.0], [-1.0]]}, "wrong_type", "a number"),
        ({"input_ids": [1, 2], "v": [-1.0, -1.0, -1.0]}, "length_mismatch", "2 entries"),
        ({"input_ids": [1, 2], "v": -1.0}, "wrong_type", "a list"),
        ({"input_ids": [1, -2], "v": [-1.0, -1.0]}, "input_ids_out_of_range", ">="),
        ({"input_ids": "ab", "v": [-1.0, -1.0]}, "wrong_type", "a list"),
        ({"input_ids": [1, 2], "vv": [-1.0]}, "missing_key", "Did you mean vv"),
        ({"input_ids": [1, 2], "v": [float("nan"), -1.0]}, "not_finite", "nan"),
    ],
)
def test_faults_are_named(row, kind, words):
    good = {"input_ids": [1, 2], "v": [-1.0, -2.0]}
    read = import_records([row, good], columns=Columns(log_probability="v"))
    assert [(p.line, p.kind) for p in read.problems] == [(1, kind)]
    assert words in read.problems[0].text or kind.endswith("range")
    assert [(one.line, one.log_probability) for one in read] == [(2, -1.0)]


@pytest.mark.usefixtures("without_shape_hook")
def test_columns_have_to_be_named():
    read = import_records([{"input_ids": [1, 2], "logprobs": [-1.0, -1.0]}])
    assert read.left_out == {"unknown_columns": 1}
    assert "'logprobs'" in read.problems[0].text
    with pytest.raises(ArgumentError, match="together"):
        Columns(top_labels="i")
    with pytest.raises(ArgumentError, match="aligned"):
        Columns(aligned="before")
    with pytest.raises(ArgumentError, match="`columns`"):
        import_records([], columns=Columns(), form="chat")


def test_json_lines_of_columns(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"input_ids": [1, 2], "v": [-1.0]}) + "\n{\n")
    read = import_records(path, columns=Columns(log_probability="v"), temperature=2.0, teacher="t")
    assert [(one.log_probability, one.temperature, one.teacher) for one in read] == [(-1.0, 2, "t")]
    assert read.left_out == {"not_json": 1}


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"input_ids": [[1, 2], [3, 4]], "v": [[-1.0, -2.0], [-3.0, None]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    columns = Columns(log_probability="v")
    for source in (tmp_path / "a.parquet", tmp_path):
        read = import_records(source, columns=columns)
        assert [(one.input, one.label, one.log_probability) for one in read] == [
            ((1,), 2, -1.0),
            ((3,), 4, -3.0),
        ]
        assert [one.line for one in read] == [1, 2]
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="expected a parquet file"):
        import_records(tmp_path / "b.parquet", columns=columns)


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **named):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *arguments, **named)

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match="pip install pyarrow"):
        import_records(tmp_path / "a.parquet", columns=Columns())
    with pytest.raises(DataError, match=r"folder of \.parquet files"):
        import_records(tmp_path / "..", columns=Columns())


def test_labels_of_the_next_place_need_a_column_of_their_own():
    """Without one a token would be the label of the context that ends with it."""
    with pytest.raises(ArgumentError, match='expected `label` with labels_aligned="next"'):
        Columns(labels_aligned="next")
