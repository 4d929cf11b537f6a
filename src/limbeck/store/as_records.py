"""Teacher records of a store's rows: what certify, audit and plan take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from limbeck.checks import StoreError
from limbeck.store.draws import drawn_labels, uniform_numbers
from limbeck.teacher_record import TeacherRecord


if TYPE_CHECKING:
    from limbeck.store.reader import TeacherStore


BLOCK = 4096  # rows at a time


def records_of(store: TeacherStore, seed: int = 0) -> Iterator[TeacherRecord]:
    """Yield a record for each drawn label of each row, or for each row where rows are whole.

    Of whole rows a label is drawn by ``seed``, as a record has one. The input is the row's index in
    the data.

    Args:
        store: A store of data without augmentation.
        seed: Of the labels that are drawn from whole rows.

    Raises:
        StoreError: If the rows are augmented, are of tokens, or tell of no drawn label.
    """
    _check(store)
    keep = store.keep
    teacher = store.manifest.plan.fingerprints.teacher.digest[:16]
    for start in range(0, store.rows, BLOCK):
        index = torch.arange(start, min(start + BLOCK, store.rows))
        for view in range(store.views):
            columns = store.read(index, view)
            if keep.what == "logits":
                rows = torch.log_softmax(columns["logits"].double(), dim=1)
                numbers = uniform_numbers(seed, index, torch.zeros_like(index), 1)
                labels = drawn_labels(rows, numbers)[:, 0].tolist()
                for row, label, law in zip(index.tolist(), labels, rows.numpy(), strict=True):
                    yield TeacherRecord(row, label, row=law, teacher=teacher)
                continue
            said = columns.get("log_probabilities")
            counts = columns.get("counts")
            temperature = 0.0 if keep.greedy else keep.temperature
            for place, row in enumerate(index.tolist()):
                for draw, label in enumerate(columns["labels"][place].tolist()):
                    if label >= 0:
                        yield TeacherRecord(
                            row,
                            label,
                            None if said is None else min(float(said[place, draw]), 0.0),
                            count=1 if counts is None else int(counts[place, draw]),
                            temperature=temperature,
                            teacher=teacher,
                        )


def _check(store: TeacherStore) -> None:
    where = store.folder
    if store.manifest.plan.fingerprints.transform is not None:
        raise StoreError(
            f"{where}: expected a store of rows as they are; these are augmented, and a record's "
            "input is a row of the data. Write one with Data without `augment`."
        )
    if store.kind in ("top_k", "features"):
        raise StoreError(
            f"{where}: expected a store that tells of drawn labels or whole rows; it keeps "
            f"{store.kind}. Write one that keeps logits, sampled_counts or sampled_probability."
        )
    column = store.columns["logits" if store.kind == "logits" else "labels"]
    if len(column.shape) != 1:
        raise StoreError(
            f"{where}: expected one distribution a row; each has {list(column.shape)}. Records of "
            "tokens come from the texts themselves: limbeck collect."
        )
