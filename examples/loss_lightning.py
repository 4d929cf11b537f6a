"""One of limbeck's loss modules in a LightningModule, which owns the loss's parameters, too.

Run:    python examples/loss_lightning.py    (needs the extra `examples`)
Prints: accuracy on held-out digits: of the teacher, and of a student with 60 labels and ITRD.
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import limbeck as lb
from limbeck.capture import Capture


class Distilled(lightning.LightningModule):
    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        self.student, self.teacher = student, teacher.requires_grad_(False)
        self.mine = Capture(student, ["penultimate"], example=torch.zeros(2, 64))
        self.theirs = Capture(teacher, ["penultimate"], example=torch.zeros(2, 64))
        self.loss = lb.losses.ITRD(student_width=8, teacher_width=64)  # with a projection

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        whole = lb.Batch(*batch, view=torch.zeros_like(batch[2]))  # inputs, targets, row numbers
        said, known = self.mine(whole.inputs), self.theirs(whole.inputs)  # logits and features
        task = lb.cross_entropy(said.logits, batch[1])  # over the rows that have a label
        return task + self.loss(said, known, whole)


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Use a loss module in Lightning.")
    parser.add_argument("--steps", type=int, default=600)
    steps = parser.parse_args(arguments).steps
    torch.manual_seed(0)
    pixels, labels = (torch.tensor(one) for one in load_digits(return_X_y=True))
    x, teacher, student = pixels.float() / 16, network(64), network(8)
    lb.distill(teacher, None, (x[500:], labels[500:]), epochs=10, device="cpu")
    number = torch.arange(1297)
    rows = TensorDataset(x[500:], labels[500:].where(number < 60, -1), number)  # -1: no label
    quiet = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=steps, enable_model_summary=False, **quiet)
    trainer.fit(Distilled(student, teacher), DataLoader(rows, 64, shuffle=True))
    right = [(net(x[:500]).argmax(1) == labels[:500]).double().mean() for net in (teacher, student)]
    print(f"teacher: {100 * right[0]:.1f} %, student: {100 * right[1]:.1f} %")


if __name__ == "__main__":
    main()
