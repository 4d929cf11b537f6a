"""limbeck's token loss, audit and certificate with TRL's trainer: small GPT-2s made on the spot."""

import tempfile
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import limbeck as lb
from limbeck.next_tokens import next_tokens
from limbeck.types import Batch


class DistillingTrainer(SFTTrainer):
    def compute_loss(self, model: Any, inputs: Any, *_: Any, **given: Any) -> Any:
        labels, rows = inputs.pop("labels"), torch.arange(len(inputs["input_ids"]))
        counted = next_tokens(Batch(inputs, labels, rows, rows)) >= 0  # no prompt, padding, border
        with torch.no_grad():
            said = lazy(self.teacher, inputs)
        loss = lb.token_kd_loss(lazy(model, inputs), said, mask=counted)
        whole = given.get("num_items_in_batch")  # of all micro-batches of the step
        return loss if whole is None else loss * counted.sum() / whole


def lazy(model: Any, inputs: Any) -> lb.LazyLogits:  # logits in blocks; for one device
    return lb.LazyLogits(model.base_model(**inputs)[0], model.get_output_embeddings().weight)


def main(steps: int = 200, teacher_steps: int = 100, **options: Any) -> Any:
    torch.manual_seed(0)
    names = ["<pad>", "<eos>", *"abcdefgh"]
    words: Any = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
    turns = (torch.arange(12) + torch.randint(8, (1000, 1)) + torch.randint(2, (1000, 12))) % 8 + 2
    data = Dataset.from_dict(
        {"text": [" ".join(names[t] for t in r) for r in turns[200:].tolist()]}
    )
    sizes: Any = {"vocab_size": 10, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
    teacher, student = (GPT2LMHeadModel(GPT2Config(n_embd=n, **sizes)) for n in (32, 16))
    options |= {"report_to": "none", "use_cpu": True, "bf16": False, "learning_rate": 1e-2}
    runs = (SFTTrainer, teacher, teacher_steps), (DistillingTrainer, student, steps)
    for kind, model, count in runs:
        args = SFTConfig(tempfile.mkdtemp(), max_steps=count, save_strategy="no", **options)
        trainer: Any = kind(model, args=args, train_dataset=data, processing_class=words)
        trainer.teacher = teacher.eval()
        trainer.train()
    rows = teacher(turns[:200, :6]).logits[:, -1].detach().log_softmax(1)  # texts held out
    drawn = zip(turns[:200, :6].tolist(), rows, torch.multinomial(rows.exp(), 1)[:, 0], strict=True)
    answers = [{"input": s, "label": int(a), "log_probability": float(t[a])} for s, t, a in drawn]
    print(lb.audit(answers).passed, lb.certify(student, answers, device="cpu").total_variation)
    return trainer, answers


if __name__ == "__main__":
    main()
