"""One of limbeck's losses in the Trainer of transformers: all that changes is compute_loss.

Run:    python examples/loss_hf_trainer.py    (needs the extra `examples`; nothing is downloaded)
Prints: cross-entropy [nats] on held-out rows: of the teacher, of a student that learns from
        32 labels alone, and of one that learns from the teacher's word on 512 rows, too.
"""

import argparse
import tempfile
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import limbeck as lb


class DistillingTrainer(Trainer):
    teacher: BertForSequenceClassification | None = None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels, answer = inputs.pop("labels"), model(**inputs)
        loss = lb.cross_entropy(answer.logits, labels)  # -1 is left out
        if self.teacher is not None and model.training:
            with torch.no_grad():
                said = self.teacher(**inputs).logits
            loss = loss + lb.kd_loss(answer.logits, said)
        return (loss, answer) if return_outputs else loss


def encoder(width: int) -> BertForSequenceClassification:
    sizes: Any = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=16, num_labels=4, **sizes))


def rows(count: int, labelled: int) -> Any:
    tokens = torch.randint(16, (count, 8))
    labels = (tokens[:, 0] // 4).where(torch.arange(count) < labelled, -1)
    return [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Use a loss in transformers' Trainer.")
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args(arguments).steps
    torch.manual_seed(0)
    data, few, test, teacher = rows(512, 512), rows(512, 32), rows(256, 256), encoder(32)
    options: Any = {"report_to": "none", "use_cpu": True, "max_steps": steps, "disable_tqdm": True}
    for name, model in (("teacher", teacher), ("alone", encoder(8)), ("KD", encoder(8))):
        settings = TrainingArguments(tempfile.mkdtemp(), learning_rate=5e-3, **options)
        seen = data if name == "teacher" else few
        trainer = DistillingTrainer(model, settings, train_dataset=seen, eval_dataset=test)
        trainer.teacher = teacher.eval() if name == "KD" else None
        trainer.train()
        print(f"{name}: {trainer.evaluate()['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
