"""From tokens as a server names them to labels, and lists of the largest ones that are true."""

from __future__ import annotations

import math
from collections.abc import Callable

from limbeck.asking.answers import Said, Step
from limbeck.asking.vocabulary import Vocabulary
from limbeck.teacher_record import RecordError


Note = Callable[[str], object]
Top = tuple[tuple[int, float], ...]


def label_of(token: Said, vocabulary: Vocabulary | None) -> int:
    """Return a token's id.

    Raises:
        RecordError: If the server gave a string only and the vocabulary doesn't settle it.
    """
    if token.id is not None:
        return token.id
    if vocabulary is None:
        raise RecordError(
            "needs_vocabulary",
            f"expected token ids; got the string {token.text!r:.40}. Give `tokenizer` "
            "(--tokenizer): the model's tokenizer, or a mapping from strings to ids.",
        )
    return vocabulary.id_of(token.text, token.raw)


def top_of(
    step: Step, asked: int | None, vocabulary: Vocabulary | None, keep: int | None, note: Note
) -> Top:
    """Return the largest (label, log-probability) of a position, the largest first.

    Servers put the drawn token into the list although it is none of the largest, as a k+1-th
    entry (completions) or in the place of the k-th (vLLM's chat): there it is taken out, and
    stays known as the label's own number. The list ends before the first entry without a number,
    or with a name that is no single token's.

    Args:
        step: The position.
        asked: How many were asked for, where it is known.
        vocabulary: Names of tokens.
        keep: How many are wanted at most.
        note: Called with "cut_top" where the list had to end early, and "drawn_in_list" where the
            drawn token stood in the place of another one.
    """
    ordered = _ordered(step)
    if is_added(step, asked):
        ordered.pop()
        if asked is not None and len(ordered) < min(asked, asked if keep is None else keep):
            note("drawn_in_list")
    sizes = [size for size in (asked, keep) if size is not None]
    ordered = ordered[: min(sizes)] if sizes else ordered
    made: dict[int, float] = {}
    for one in ordered:
        try:
            label = label_of(one, vocabulary)
        except RecordError:
            note("cut_top")
            break
        made.setdefault(label, one.log or 0.0)
    return tuple(made.items())


def is_added(step: Step, asked: int | None) -> bool:
    """Return whether the last of a list stands in it only because it was drawn."""
    ordered = _ordered(step)
    if not ordered:
        return False
    last = ordered[-1]
    if last.rank is not None:
        return last.rank > len(ordered)
    if not same(last, step.token):
        return False
    if asked is not None and len(ordered) > asked:
        return True
    return _numbers(step) != ordered  # vLLM's chat puts the drawn token first


def _numbers(step: Step) -> list[Said]:
    return [one for one in step.top if one.log is not None and one.log > -math.inf]


def _ordered(step: Step) -> list[Said]:
    return sorted(_numbers(step), key=lambda one: -(one.log or 0.0))


def same(one: Said, other: Said) -> bool:
    """Return whether two names are of one token."""
    if one.id is not None and other.id is not None:
        return one.id == other.id
    return (one.text, one.raw) == (other.text, other.raw) or (
        one.text is not None and one.text == other.text
    )
