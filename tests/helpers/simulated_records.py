"""Clean sets of teacher records, drawn from a law that the caller knows."""

import numpy as np

from limbeck.records import TeacherRecord


def law(seed, inputs=20, labels=15, concentration=0.5):
    """Return rows of a random law, [inputs, labels]."""
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.full(labels, concentration), inputs)


def drawn(rows, n, seed, *, power=1.0):
    """Return n inputs, uniform, and labels drawn from the rows to a power, divided by their sum."""
    generator = np.random.default_rng([seed, 1])
    sampled = rows**power / (rows**power).sum(1, keepdims=True)
    inputs = generator.integers(0, len(rows), n)
    below = generator.random(n)[:, None] > sampled[inputs].cumsum(1)
    return inputs, below.sum(1).clip(0, rows.shape[1] - 1)


def counted(inputs, labels):
    """Yield each pair once, with how often it was drawn."""
    pairs, counts = np.unique(np.stack([inputs, labels]), axis=1, return_counts=True)
    yield from zip(*pairs, counts.tolist(), strict=True)


def records(rows, n, seed, *, privilege="sampled_probabilities", power=1.0, **fields):
    """Return records of n draws that report ``rows`` and draw labels from the power of them.

    With more than 1000 draws equal ones are one record with its count.
    """
    logs = np.log(rows)
    made = []
    pairs = drawn(rows, n, seed, power=power)
    for s, a, count in counted(*pairs) if n > 1000 else zip(*pairs, [1] * n, strict=True):
        said = {"count": count}
        if privilege == "sampled_probabilities":
            said["log_probability"] = logs[s, a]
        elif privilege == "soft_labels":
            said["row"] = logs[s]
        made.append(TeacherRecord(int(s), int(a), **said, **fields))
    return made


def with_top(rows, n, seed, k, *, renormalised=False, censored=False):
    """Return records of n draws with the k largest probabilities, equal ones with a count."""
    made = []
    for s, a, count in counted(*drawn(rows, n, seed)):
        best = np.argsort(-rows[s])[:k]
        part = rows[s, best] / (rows[s, best].sum() if renormalised else 1.0)
        top = tuple(zip(best.tolist(), np.log(part).tolist(), strict=True))
        hidden = renormalised or (censored and a not in best)
        number = None if hidden else float(np.log(rows[s, a]))
        made.append(TeacherRecord(int(s), int(a), number, top=top, count=count))
    return made


def distance(one, other):
    """Return the mean total variation between rows."""
    return float(0.5 * np.abs(one - other).sum(1).mean())


def power_of(rows, exponent):
    """Return rows to a power, divided by their sums."""
    return rows**exponent / (rows**exponent).sum(1, keepdims=True)
