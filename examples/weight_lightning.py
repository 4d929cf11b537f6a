"""How much to distil, measured in a LightningModule, with its state in the checkpoints."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import limbeck as lb
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.meter import WeightMeter


class Distilled(lightning.LightningModule):
    def __init__(self, student: nn.Module, teacher: nn.Module, weight: AdaptiveWeight, steps: int):
        super().__init__()
        self.student, self.teacher, self.weight = student, teacher.requires_grad_(False), weight
        self.optimizer = torch.optim.SGD(student.parameters(), lr=0.3, momentum=0.5)
        self.meter = WeightMeter(weight, self.optimizer, steps=steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        logits, said = self.student(x), self.teacher(x)
        if self.weight.due(self.global_step):
            parts = zip(*(t.chunk(2) for t in (logits, y, said)), strict=True)
            self.meter.observe(self.global_step, [terms(*part) for part in parts], logits)
        task, term = terms(logits, y, said)
        return (1 - self.weight.weight) * task + self.weight.weight * term

    def on_save_checkpoint(self, checkpoint: dict[str, dict]) -> None:
        checkpoint["weight"] = self.meter.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, dict]) -> None:
        self.meter.load_state_dict(checkpoint["weight"])


def terms(z: Tensor, y: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.cross_entropy(z, y), lb.kd_loss(z, q, temperature=1.0)


def main(
    teacher: nn.Module, steps: int = 400, path: str | None = None, **options: bool
) -> Distilled:
    torch.manual_seed(0)
    x, y = (torch.tensor(one) for one in load_digits(return_X_y=True))
    rows = DataLoader(TensorDataset(x.float() / 16, y), 32, shuffle=True, drop_last=True)
    weight = AdaptiveWeight("hbar", weight=0.5, every=2, warmup=steps // 5)
    module = Distilled(nn.Linear(64, 10), teacher, weight, steps)
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", logger=False, **options)
    trainer.fit(module, rows, ckpt_path=path)
    print(module.meter)
    return module


if __name__ == "__main__":
    main(nn.Linear(64, 10))  # a teacher that knows nothing: the weight falls
