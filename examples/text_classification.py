"""Distil a small text classifier from a larger one, both of transformers, on your own tokens.

Run:    python examples/text_classification.py    (needs the extra `text`; nothing is downloaded)
Prints: accuracy on held-out sentences: of the teacher, the student alone, the distilled student.
"""

import argparse
import random
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

import limbeck as lb


SUBJECTS = ["the film", "the cast", "the music", "the ending", "this story", "its humour"]
VERDICTS = {"is great": 1, "is moving": 1, "delights": 1, "is dull": 0, "bores": 0, "fails": 0}
DOUBTS = {"": 0, "they say": 0, "nobody says": 1, "it is false that": 1}  # 1 turns the meaning
WORDS = sorted({word for part in (*SUBJECTS, *VERDICTS, *DOUBTS) for word in part.split()})


def sentences(count: int, seed: int) -> list[tuple[str, int]]:
    draw = random.Random(seed)
    kinds = (tuple(DOUBTS), SUBJECTS, tuple(VERDICTS))
    parts = ([draw.choice(kind) for kind in kinds] for _ in range(count))
    return [(f"{a} {b} {c}", VERDICTS[c] ^ DOUBTS[a]) for a, b, c in parts]


def tokenised(rows: list[tuple[str, int]], length: int = 10) -> dict[str, torch.Tensor]:
    ids = [[WORDS.index(word) + 1 for word in text.split()] for text, _ in rows]
    ids = torch.tensor([one + [0] * (length - len(one)) for one in ids])  # 0 is padding
    labels = torch.tensor([label for _, label in rows])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def encoder(width: int) -> BertForSequenceClassification:  # from_pretrained(...) works as well
    sizes: Any = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=len(WORDS) + 1, **sizes))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil a text classifier.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="runs/text_classification")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)
    options: Any = {"epochs": asked.epochs, "optimizer": "adamw", "learning_rate": 5e-3}
    options |= {"data": tokenised(sentences(600, 0)), "test": tokenised(sentences(400, 1))}
    teacher = encoder(64)
    for name in ("teacher", "alone", "distilled"):
        model, guide = encoder(8), teacher if name == "distilled" else None
        model, place = teacher if name == "teacher" else model, f"{asked.out}/{name}"
        result = lb.distill(model, guide, loss="kd", out=place, overwrite=True, **options)
        print(f"{name}: {100 * result.record.results['last']['test']['accuracy']:.1f} %")


if __name__ == "__main__":
    main()
