"""Distil on two processes that share every batch: the student is that of one process.

Run:    python examples/two_processes.py --out runs/one
        OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 examples/two_processes.py --out runs/two
Prints: the student's accuracy on held-out digits and a sum of its weights, equal in both.
"""

import argparse
import os

import torch
from sklearn.datasets import load_digits
from torch import nn

import limbeck as lb


def network(width: int) -> nn.Module:  # float64, so that the two can be compared to 1e-9
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)).double()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil on several processes.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="runs/two_processes")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)  # the same first weights everywhere
    pixels, labels = (torch.from_numpy(one) for one in load_digits(return_X_y=True))
    pixels = pixels / 16
    data, test = (pixels[500:], labels[500:]), (pixels[:500], labels[:500])
    options = {"epochs": asked.epochs, "batch_size": 50, "device": "cpu", "overwrite": True}
    teacher, student = network(64), network(8)
    lb.distill(teacher, None, data, out=f"{asked.out}/teacher", **options)
    result = lb.distill(
        student, teacher, data, test=test, loss="itrd", out=f"{asked.out}/student", **options
    )  # ITRD compares the samples of a batch: they are gathered from both processes
    if int(os.environ.get("RANK", "0")) == 0:
        found = result.record.results["last"]["test"]["accuracy"]
        total = sum(part.sum().item() for part in student.parameters())
        print(f"{100 * found:.1f} %, sum of weights {total:.9f}")


if __name__ == "__main__":
    main()
