"""Distil a language model from a service's answers: the records that `limbeck collect` writes.

Run:    python examples/language_model_records.py answers.jsonl    (of collect --token-ids)
Prints: whether the audit passed; total variation between student and service on a held-out
        fifth of the answers, before and after (95 % intervals; lower is better).
"""

import argparse

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GPT2Config, GPT2LMHeadModel

import limbeck as lb


class Recorded:  # a teacher: what was said of the texts, by their row numbers
    def __init__(self, texts: list[list[lb.TeacherRecord]]):
        ids, labels, numbers = [], [], []
        for said in texts:  # position i is where token i + 1 was drawn
            silent = [-1] * (len(said[0].input) - 1)  # the prompt
            ids.append(torch.tensor([*said[-1].input, said[-1].label]))
            labels.append(torch.tensor([*silent, *(one.label for one in said), -1]))
            numbers.append(torch.tensor([*silent, *(one.log_probability for one in said), 0.0]))
        tokens = pad_sequence(ids, batch_first=True, padding_value=-1)
        self.inputs = {"input_ids": tokens.clamp_min(0), "attention_mask": (tokens >= 0).long()}
        self.labels = pad_sequence(labels, batch_first=True, padding_value=-1)[:, :, None]
        self.numbers = pad_sequence(numbers, batch_first=True)[:, :, None]

    def __call__(self, batch: lb.Batch) -> lb.Outputs:
        labels, numbers = self.labels[batch.index], self.numbers[batch.index]
        return lb.Outputs(None, answers=lb.Answers(labels, numbers, (labels >= 0).long()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil a language model from records.")
    parser.add_argument("records", help="JSON lines with token ids as inputs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="runs/language_model_records")
    asked = parser.parse_args(arguments)
    print("audit passed:", lb.audit(asked.records).passed)
    texts: dict[object, list[lb.TeacherRecord]] = {}
    for one in sorted(lb.read_records(asked.records), key=lambda one: one.position or 0):
        texts.setdefault(one.sequence, []).append(one)
    said = list(texts.values())
    size = 1 + max(token for text in said for token in (*text[-1].input, text[-1].label))
    shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    student = GPT2LMHeadModel(GPT2Config(vocab_size=size, **shape))
    held_out = [one for text in said[::5] for one in text]
    teacher = Recorded([text for row, text in enumerate(said) if row % 5])
    print("before:", lb.certify(student, held_out).total_variation)
    options = {"optimizer": "adamw", "learning_rate": 5e-3, "device": "cpu", "epochs": asked.epochs}
    options |= {"loss": {"name": "token_sampled", "loss": "k3"}, "weight": 1.0, "out": asked.out}
    lb.distill(student, teacher, teacher.inputs, task="language_model", overwrite=True, **options)
    print("after:", lb.certify(student, held_out).total_variation)


if __name__ == "__main__":
    main()
