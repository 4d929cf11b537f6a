"""Teacher records from files that other tools wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.asking.columns import Columns, columns_of, records_of_row
from limbeck.asking.envelopes import FORMS, Form, form_of, opened
from limbeck.asking.expanding import NOTES, How, records_of
from limbeck.asking.rows import Row, rows_of
from limbeck.asking.vocabulary import vocabulary_of
from limbeck.checks import ArgumentError, check_choice
from limbeck.record_lines import TOLERANCE
from limbeck.records import Problem, Records, TeacherRecord, collected, parsed
from limbeck.teacher_record import RecordError


Source = Path | str | Iterable[Mapping[str, Any]]


def import_records(
    source: Source,
    *,
    form: Form = "auto",
    tokenizer: object = None,
    requests: Source | None = None,
    columns: Columns | None = None,
    prompt: bool = False,
    temperature: float | None = None,
    teacher: str | None = None,
    labels: int | None = None,
    top: int | None = None,
    tolerance: float = TOLERANCE,
) -> Records:
    r"""Read what a teacher answered from a file that another tool wrote.

    A text of tokens :math:`a_1, \dots, a_n` after a prompt x becomes n records, each with input
    :math:`(x, a_1, \dots, a_{i-1})`, label :math:`a_i` and place i - 1 in its sequence. Where any
    token of an answer cannot be used, the answer is left out and reported with its line.

    Args:
        source: JSON lines (``.gz`` too), ``.parquet``, a folder of it, or dicts one by one.
        form: "chat" and "completion" are OpenAI's and vLLM's answers, alone or beside their
            requests; "batch" lines of a batch's output; "columns" a data set of token columns;
            "records" limbeck's own. "auto" looks at every line.
        tokenizer: Needed where tokens are strings without ids: a tokenizer of transformers or
            tiktoken, a mapping from strings to ids, a list, or the path of one.
        requests: The file of a batch's requests, for prompts by `custom_id`.
        columns: Names of columns.
        prompt: Whether tokens of the prompt that the server scored become records, although they
            were not drawn from the teacher.
        temperature: Of the sampler, at least 0; None takes the request's, else 1.
        teacher: Name of the teacher; None takes the answer's model and fingerprint.
        labels: How many tokens there are, where it is known; a list of them all is then a row.
        top: How many of the largest ones are kept at most; None keeps all.
        tolerance: How far sums may be from 1, in [0, 1).

    Returns:
        :class:`limbeck.records.Records`, whose ``problems`` name what was left out, by line.

    Raises:
        ArgumentError: If an option makes no sense.
        DataError: If there is no such file, or it cannot be read.

    Example:
        >>> answer = {"choices": [{"logprobs": {"tokens": ["b"], "token_logprobs": [-0.5]}}]}
        >>> found = import_records([{"prompt": "a", **answer}], tokenizer={"a": 0, "b": 1})
        >>> found.records[0].input, found.records[0].label, found.records[0].log_probability
        ('a', 1, -0.5)

    Source:
        Derived.
    """
    return collected(
        imported(
            source,
            form=form,
            requests=requests,
            columns=columns,
            how=how_from(tokenizer, prompt, temperature, teacher, labels, top, tolerance),
        )
    )


def how_from(
    tokenizer: object,
    prompt: bool = False,
    temperature: float | None = None,
    teacher: str | None = None,
    labels: int | None = None,
    top: int | None = None,
    tolerance: float = TOLERANCE,
) -> How:
    """Check what a caller says about answers, and load the tokenizer."""
    if temperature is not None and not 0 <= temperature < float("inf"):
        raise ArgumentError(
            f"import_records: expected `temperature` >= 0; got {temperature}. Leave it out to take "
            "the request's."
        )
    if labels is not None and labels < 1:
        raise ArgumentError(f"import_records: expected `labels` >= 1; got {labels}. Leave it out.")
    if top is not None and top < 0:
        raise ArgumentError(f"import_records: expected `top` >= 0; got {top}. Leave it out.")
    if not 0 <= tolerance < 1:
        raise ArgumentError(f"import_records: expected `tolerance` in [0, 1); got {tolerance}.")
    return How(vocabulary_of(tokenizer), prompt, temperature, teacher, labels, top, tolerance)


def imported(
    source: Source,
    *,
    how: How,
    form: Form = "auto",
    requests: Source | None = None,
    columns: Columns | None = None,
) -> Iterator[TeacherRecord | Problem]:
    """Yield records one by one, and problems between them."""
    check_choice("import_records", "form", form, FORMS)
    if columns is not None and form not in ("auto", "columns"):
        raise ArgumentError(
            f'import_records: expected form "columns" with `columns`; got {form!r}. Leave one out.'
        )
    if columns is not None:
        form = "columns"
    asked = None if requests is None else _requests(requests)
    return _imported(rows_of(source), form, asked, columns, how)


def _imported(
    rows: Iterator[Row],
    form: Form,
    requests: Mapping[str, Mapping[str, Any]] | None,
    columns: Columns | None,
    how: How,
) -> Iterator[TeacherRecord | Problem]:
    for line, row in rows:
        if isinstance(row, Problem):
            yield row
            continue
        found: Form = form_of(row) if form == "auto" else form
        if found == "records":
            yield from _own(line, row, how)
            continue
        notes: list[str] = []
        try:
            if found == "columns":
                named = columns or columns_of(row)
                yield from records_of_row(row, line, named, how, notes.append)
            else:
                _check_form(row, form)
                yield from records_of(opened(row, requests), line, how, notes.append)
        except RecordError as problem:
            yield Problem(line, problem.kind, str(problem))
        else:
            for note in dict.fromkeys(notes):
                yield Problem(line, note, NOTES[note], left_out=False)


def _own(line: int, row: Mapping[str, Any], how: How) -> Iterator[TeacherRecord | Problem]:
    for item in parsed([(line, row)], how.labels, how.tolerance):
        if isinstance(item, TeacherRecord):
            yield dataclasses.replace(item, line=line)
        else:
            yield item


def _check_form(row: Mapping[str, Any], form: Form) -> None:
    """Refuse a line of another form than the one that was asked for."""
    found = form_of(row)
    inside = form_of({key: row[key] for key in row if key != "custom_id"})
    if form != "auto" and form not in (found, inside):
        raise RecordError("other_form", f"expected the form {form!r}; got {found!r}.")


def _requests(source: Source) -> dict[str, Mapping[str, Any]]:
    """Return the bodies of a batch's requests by name."""
    made: dict[str, Mapping[str, Any]] = {}
    for _, row in rows_of(source):
        if isinstance(row, Mapping) and isinstance(row.get("custom_id"), str):
            body = row.get("body")
            made[row["custom_id"]] = body if isinstance(body, Mapping) else row
    if not made:
        raise ArgumentError(
            "import_records: expected `requests` to hold lines with `custom_id` and `body`; got "
            "none. Give the file that was sent to the batch API."
        )
    return made
