"""How much to distil, measured in a plain PyTorch loop: digits, a third of the labels wrong."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck as lb
from limbeck.weighting.controlling.adaptive import AdaptiveWeight
from limbeck.weighting.controlling.meter import WeightMeter


BATCH, RATE = 32, 0.5


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def digits() -> tuple[Tensor, Tensor]:
    pixels, labels = (torch.from_numpy(one) for one in load_digits(return_X_y=True))
    wrong = torch.rand(len(labels)) < 1 / 3
    return pixels.float() / 16, torch.where(wrong, torch.randint_like(labels, 10), labels)


def terms(student: Tensor, targets: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(student, targets), lb.kd_loss(student, teacher, temperature=1.0)


def main(steps: int = 1000, teacher_steps: int = 60) -> tuple[nn.Module, WeightMeter, float]:
    torch.manual_seed(0)
    x, y = digits()
    teacher, student = network(32), network(16)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
    for _ in range(teacher_steps):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE)
    weight = AdaptiveWeight("hbar", weight=0.5, every=1, warmup=steps // 5)
    meter = WeightMeter(weight, optimizer, steps=steps)
    said = teacher(x).detach()
    for step, rows in enumerate(torch.randint(len(x), (steps, BATCH))):
        logits = student(x[rows])
        if weight.due(step):
            parts = zip(logits.chunk(2), y[rows].chunk(2), said[rows].chunk(2), strict=True)
            meter.observe(step, [terms(*part) for part in parts], logits)
        task, distillation = terms(logits, y[rows], said[rows])
        optimizer.zero_grad()
        ((1 - weight.weight) * task + weight.weight * distillation).backward()
        optimizer.step()
    print(meter)
    return student, meter, F.cross_entropy(student(x), y).item()


if __name__ == "__main__":
    main()
