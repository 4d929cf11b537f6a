"""Plan how many labels to buy from a teacher, buy them, and certify the student they make.

Run:    python examples/plan_labels.py
Prints: the plan (queries by what an answer holds, and their price), whether the audit of the
        answers passed, and the student's distance from the teacher beside the one aimed at.
"""

import argparse

import numpy as np

import limbeck as lb


INPUTS, LABELS = 30, 6  # 30 kinds of question, 6 possible answers to each
PRICES = {"hard_labels": 1.0, "sampled_probabilities": 1.5, "soft_labels": 20.0}  # cents


def answers(law: np.ndarray, count: int, draw: np.random.Generator) -> list[lb.TeacherRecord]:
    """Ask the teacher: a label drawn from its law, and the log-probability that it reports."""
    inputs = draw.integers(INPUTS, size=count)
    labels = [int(draw.choice(LABELS, p=law[one])) for one in inputs]
    pairs = zip(inputs, labels, strict=True)
    return [lb.TeacherRecord(int(one), label, np.log(law[one, label])) for one, label in pairs]


def learned(records: list[lb.TeacherRecord]) -> np.ndarray:
    """Take what was reported of the labels seen, and share the rest among the others."""
    table = np.full((INPUTS, LABELS), np.nan)
    for record in records:
        table[record.input, record.label] = np.exp(record.log_probability)
    rest, unseen = 1 - np.nansum(table, axis=1), np.isnan(table)
    share = rest / np.maximum(unseen.sum(axis=1), 1)
    table = np.where(unseen, share[:, None], table)
    return table / table.sum(axis=1, keepdims=True)


def main(arguments: list[str] | None = None) -> lb.Certificate:
    parser = argparse.ArgumentParser(description="Plan a labelling budget.")
    parser.add_argument("--error", type=float, default=0.05, help="total variation aimed at")
    parser.add_argument("--held-out", type=int, default=4000, help="answers to certify with")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    plan = lb.plan(inputs=INPUTS, labels=LABELS, error=asked.error, prices=PRICES)
    print(plan)
    draw = np.random.default_rng(asked.seed)
    teacher = draw.dirichlet(np.full(LABELS, 0.5), size=INPUTS)
    bought = answers(teacher, plan.sampled_probabilities.planning, draw)
    print("audit passed:", lb.audit(bought).passed)
    table, held_out = learned(bought), answers(teacher, asked.held_out, draw)
    certificate = lb.certify(lambda inputs: table[inputs], held_out, np.arange(INPUTS))
    print(f"asked {len(bought)}; aimed at {asked.error}, got {certificate.total_variation}")
    return certificate


if __name__ == "__main__":
    main()
