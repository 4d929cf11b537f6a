"""How much to distil, measured in the Trainer of transformers: small BERTs made on the spot."""

import tempfile
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import limbeck as lb
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.meter import WeightMeter


class DistillingTrainer(Trainer):
    teacher, weight, meter = torch.nn.Module(), AdaptiveWeight("fixed", weight=0.0), None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels, at = inputs.pop("labels"), self.state
        answer = model(**inputs)
        with torch.no_grad():
            said = self.teacher(**inputs).logits
        if model.training and self.weight.due(at.global_step):
            self.meter = self.meter or WeightMeter(self.weight, self.optimizer, steps=at.max_steps)
            parts = zip(*(t.chunk(2) for t in (answer.logits, labels, said)), strict=True)
            self.meter.observe(at.global_step, [terms(*part) for part in parts], answer.logits)
        task, distillation = terms(answer.logits, labels, said)
        loss = (1 - self.weight.weight) * task + self.weight.weight * distillation
        return (loss, answer) if return_outputs else loss


def terms(z: Any, y: Any, q: Any) -> tuple[Any, Any]:
    return torch.nn.functional.cross_entropy(z, y), lb.kd_loss(z, q, temperature=1.0)


def bert(width: int) -> BertForSequenceClassification:  # the curvature needs attention not fused
    sizes: Any = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=64, num_labels=4, attn_implementation="eager", **sizes)
    return BertForSequenceClassification(config)


def main(steps: int = 300, teacher_steps: int = 100, **options: Any) -> DistillingTrainer:
    torch.manual_seed(0)
    tokens, n = torch.randint(64, (1024, 4)), torch.randint(12, (1024,))
    labels = torch.where(n < 4, n, tokens[:, 0] // 16)  # a third of them says nothing
    data: Any = [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]
    options |= {"report_to": "none", "use_cpu": True, "save_strategy": "no", "learning_rate": 5e-3}
    teacher, student = bert(32), bert(16)
    for model, count, mode in ((teacher, teacher_steps, "fixed"), (student, steps, "hbar")):
        settings = TrainingArguments(tempfile.mkdtemp(), max_steps=count, **options)
        trainer = DistillingTrainer(model, settings, train_dataset=data)
        trainer.weight = AdaptiveWeight(mode, weight=0.0, every=1, warmup=steps // 5)
        trainer.teacher = teacher.eval()
        trainer.train()
    print(trainer.meter)
    return trainer


if __name__ == "__main__":
    main()
