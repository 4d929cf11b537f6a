"""limbeck's losses in a plain PyTorch loop: functions of tensors, one on logits, one on features.

Run:    python examples/loss_plain_loop.py
Prints: accuracy on held-out digits: of the teacher, of a student that learns from 60 labels
        alone, and of one that learns from the teacher's word on all rows, too.
"""

import argparse
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import limbeck as lb


def network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def train(student: nn.Sequential, teacher: Any, x: Tensor, y: Tensor, steps: int) -> None:
    projection = nn.Linear(8, 64)  # ITRD compares features of two widths through it
    optimizer = torch.optim.Adam([*student.parameters(), *projection.parameters()], lr=0.01)
    for rows in torch.randint(len(x), (steps, 32)):
        features = student[:2](x[rows])
        logits = student[2](features)
        loss = lb.cross_entropy(logits, y[rows])  # over the rows that have a label
        if teacher is not None:
            with torch.no_grad():
                known = teacher[:2](x[rows])
                said = teacher[2](known)
            loss = loss + lb.kd_loss(logits, said, temperature=4.0)
            loss = loss + 0.1 * lb.itrd_loss(features, known, embedded=projection(features))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Use limbeck's losses in a loop of your own.")
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(arguments).steps
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(one) for one in load_digits(return_X_y=True))
    x, teacher = pixels.float() / 16, network(64)
    for name, model in (("teacher", teacher), ("alone", network(8)), ("distilled", network(8))):
        few = labels.where(torch.arange(len(x)) < 560, -1) if name != "teacher" else labels
        train(model, teacher if name == "distilled" else None, x[500:], few[500:], steps)
        found = (model(x[:500]).argmax(1) == labels[:500]).double().mean()
        print(f"{name}: {100 * found:.1f} %")


if __name__ == "__main__":
    main()
