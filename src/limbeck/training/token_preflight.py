"""What is looked at before a language model is trained: vocabularies, causality, borders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.capture import Capture
from limbeck.checks import DataError, LimbeckError
from limbeck.data import Data
from limbeck.language_model import LanguageModel
from limbeck.next_tokens import follows, token_ids
from limbeck.training.language_models import package
from limbeck.training.preflight import Finding
from limbeck.training.step import Step
from limbeck.training.summing import summed_metrics
from limbeck.training.teachers import LiveTeacher
from limbeck.types import Batch, Outputs, Task, Teacher
from limbeck.vocabulary import Vocabulary, tokenizer_files


ROUNDING = 4  # units in the last place of the largest score
ROWS = 64  # on which a teacher's cross-entropy is looked at
INSTEAD = (
    "A loss on the next token's distribution compares id with id. Take a teacher and a student of "
    "one family and tokenizer; or let the teacher write texts and train the student on them with "
    "teacher=null, which needs text alone (sequence-level distillation, arXiv:1606.07947)."
)


def check_reads(task: Task, batch: Batch, models: dict[str, Any]) -> None:
    """Raise DataError where token ids or lengths are beyond what a model has, before it runs.

    Args:
        task: Other tasks than that of a language model are passed over.
        batch: A first batch.
        models: Modules by the name that messages call them; others are passed over.
    """
    if not isinstance(task, LanguageModel):
        return
    ids = token_ids(batch)
    if ids.numel() and int(ids.min()) < 0:
        raise DataError(
            f"data: expected token ids from 0; got {int(ids.min())}. -100 leaves a token out of "
            "the targets; in the inputs pad with an id of the vocabulary, and a mask."
        )
    for who, model in models.items():
        embeddings = getattr(model, "get_input_embeddings", None)
        if not isinstance(model, nn.Module) or embeddings is None:
            continue
        size = getattr(embeddings(), "num_embeddings", None)
        if size is not None and ids.numel() and int(ids.max()) >= size:
            raise DataError(
                f"{who}: expected token ids below {size}, its vocabulary; got {int(ids.max())}. "
                "Encode the texts with its own tokenizer, or give it a `vocab_size` to fit."
            )
        longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        if isinstance(longest, int) and 0 < longest < ids.shape[1]:
            raise DataError(
                f"{who}: expected at most {longest} tokens a row, its context; got {ids.shape[1]}. "
                "Cut the texts into shorter blocks (`tokens`)."
            )


def check_language_models(
    step: Step, teachers: Sequence[Teacher], batch: Batch, said: Outputs, held_out: Data
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """Look at what would make a language model learn nothing, or something else.

    Args:
        step: Student, task and losses; other tasks than that of a language model are passed over.
        teachers: One for each loss.
        batch: A first batch.
        said: What the student said about it.
        held_out: Rows on which the teachers' cross-entropy is looked at.

    Returns:
        What was seen, and the metrics of live teachers by name.
    """
    task, seen = step.task, {}
    if not isinstance(task, LanguageModel):
        return [], seen
    findings = _of_a_model("student", step.student, batch)
    for place, (teacher, loss) in enumerate(zip(teachers, step.losses, strict=True)):
        who = f"teacher {place}" if place else "teacher"
        module = teacher.module if isinstance(teacher, LiveTeacher) else None
        if module is not None:
            findings += _of_a_model(who, module, batch)
        theirs = teacher(batch).logits
        if theirs is None or said.logits is None:
            continue
        faults: list[Finding] = []
        if getattr(loss, "needs_logits", False):
            faults = _unlike(said.logits, theirs, who, loss)
            faults = faults or _other_tokens(step.student, module, who)
        findings += faults
        if module is not None and not faults and theirs.ndim == 3:
            rows = held_out.subset(torch.arange(min(ROWS, len(held_out))))
            metrics = summed_metrics(module, rows, task, device=_device(module))
            seen[who.replace("teacher", "slice")] = metrics
            findings += _quality(who, metrics, theirs.shape[-1])
    return findings, seen


def vocabulary_of(model: nn.Module | None) -> Vocabulary | None:
    """Return what a model's token ids stand for, where it or its folder says so."""
    known = getattr(model, "limbeck_vocabulary", None)
    if isinstance(known, Vocabulary):
        return known
    folder = Path(str(getattr(getattr(model, "config", None), "name_or_path", "") or "."))
    if model is None or folder == Path() or not tokenizer_files(folder):
        return None
    try:
        tokenizer = package().AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, LimbeckError):
        return None  # not known
    return Vocabulary.of_tokenizer(tokenizer)


def _unlike(mine: Tensor, theirs: Tensor, who: str, loss: nn.Module) -> list[Finding]:
    if mine.ndim != 3 or theirs.ndim != 3:
        shapes = f"the student {tuple(mine.shape)}, the {who} {tuple(theirs.shape)}"
        text = "Use causal language models: a classifier or an encoder gives one row a text."
        return [
            Finding(
                "error", f"{who}: expected logits [batch, length, vocabulary]; {shapes}. {text}"
            )
        ]
    sizes = mine.shape[-1], theirs.shape[-1]
    wanted = getattr(loss, "vocabulary", None)
    if sizes[0] == sizes[1] or (wanted is not None and wanted <= min(sizes)):
        return []
    return [
        Finding(
            "error",
            f"{who}: expected the student's vocabulary of {sizes[0]} tokens; got {sizes[1]}. "
            f"{INSTEAD} (Where the tokenizer is one and the larger size is padding, say so with "
            "the loss's `vocabulary`: the tokenizer's size.)",
        )
    ]


def _other_tokens(student: nn.Module, module: nn.Module | None, who: str) -> list[Finding]:
    mine, theirs = vocabulary_of(student), vocabulary_of(module)
    if mine is None or theirs is None or not mine.differs_from(theirs):
        return []
    return [
        Finding(
            "error",
            f"{who}: expected the tokens of the student, {mine}; got {theirs}: an id stands for "
            f"another token. {INSTEAD}",
        )
    ]


def _of_a_model(who: str, model: nn.Module, batch: Batch) -> list[Finding]:
    """Try out on a few rows whether later tokens, or those of other documents, change anything."""
    rows = _with_borders(batch, 2)
    ids, runs = token_ids(rows), follows(rows)
    capture = Capture(model)
    device = _device(model)
    modes = {part: part.training for part in model.modules()}
    model.eval()

    changed = (ids + 1) % (ids.max() + 1)

    def scores(of: Tensor) -> Tensor:
        logits = capture(_with_ids(rows, of, device)).logits
        assert logits is not None
        return logits.to(ids.device)

    findings = []
    try:
        with torch.inference_mode():
            before = scores(ids)
            if before.ndim != 3 or ids.shape[1] < 2:
                return []
            place = torch.arange(ids.shape[1], device=ids.device)
            half = ids.shape[1] // 2
            late = scores(torch.where(place >= half, changed, ids))
            if _moved(before, late, place < half):
                text = (
                    f"{who}: expected a causal language model; in {type(model).__name__} later "
                    "tokens change what is said of earlier ones, as in an encoder. It sees the "
                    "token that it is to predict. Use a decoder (is_decoder=True where the "
                    "architecture has both)."
                )
                return [Finding("error", text)]
            starts = _starts(runs)
            if bool((starts > 0).any()):
                other = torch.where(place < starts, changed, ids)
                after = (place >= starts) & (starts > 0)
                if _moved(before, scores(other), after):
                    text = (
                        f"{who}: the attention of {type(model).__name__} crosses the borders of "
                        "packed documents; only the loss respects them. Models of transformers "
                        "that build masks from `position_ids` do not cross them with "
                        "model.config.use_cache = False and no `attention_mask`."
                    )
                    findings.append(Finding("warning", text))
    finally:
        for part, mode in modes.items():
            part.training = mode
    return findings


def _starts(runs: Tensor) -> Tensor:
    """Return where each row's last document begins, 0 where there is one alone, [rows, 1]."""
    place = torch.arange(1, runs.shape[1], device=runs.device)
    borders = torch.where(runs[:, :-1], 0, place)
    return borders.amax(dim=1, keepdim=True)


def _moved(before: Tensor, after: Tensor, still: Tensor) -> bool:
    """Say whether scores moved, beyond rounding, where what was changed cannot be seen.

    A network that is new hardly heeds other positions, so that any move counts.
    """
    rounding = ROUNDING * torch.finfo(before.dtype).eps * before.float().abs().nan_to_num().max()
    each = (before.float() - after.float()).abs().nan_to_num().amax(dim=2)
    return bool(each.where(still.expand(each.shape), 0.0).max() > rounding)


def _quality(who: str, metrics: dict[str, float], vocabulary: int) -> list[Finding]:
    mean = metrics.get("cross_entropy")
    if mean is None:
        return [Finding("warning", f"{who}: no labelled tokens to look at its cross-entropy on.")]
    said = f"{who}: {mean:.3f} nats a token (perplexity {metrics['perplexity']:.1f})"
    if mean >= math.log(vocabulary):
        return [
            Finding(
                "error",
                f"{said}, where guessing evenly gives {math.log(vocabulary):.3f}. Check its "
                "weights, and whether the texts were encoded with its own tokenizer.",
            )
        ]
    return [Finding("fact", f"{said} on {ROWS} rows at most.")]


def _with_borders(batch: Batch, count: int) -> Batch:
    """Return so many rows, of those with several documents where there are some."""
    rows, inputs = _starts(follows(batch))[:, 0].argsort(descending=True)[:count], batch.inputs
    cut = {k: v[rows] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[rows]
    return Batch(cut, None, batch.index[rows], batch.view[rows])


def _with_ids(batch: Batch, ids: Tensor, device: torch.device) -> Any:
    if not isinstance(batch.inputs, dict):
        return ids.to(device)
    return {k: (ids if k == "input_ids" else v).to(device) for k, v in batch.inputs.items()}


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
