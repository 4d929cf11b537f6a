"""Distil a binary student: weights and activations of 1 bit between its first and last layer.

Run:    python examples/binary_student.py
Prints: accuracy on held-out digits and size of the teacher, of a binary student trained alone and
        of one that was distilled with ITRD.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import limbeck as lb
from limbeck.students import binary, export, size_table


def network(width: int) -> nn.Module:
    def block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.Hardtanh()]

    parts = [*block(1, width), *block(width, width), *block(width, 2 * width, stride=2)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil a binary student.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", default="runs/binary_student")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(one) for one in load_digits(return_X_y=True))
    images = pixels.float().view(-1, 1, 8, 8) / 16
    sets = {"data": (images[500:], labels[500:]), "test": (images[:500], labels[:500])}
    teacher = network(32)
    students = {"alone": binary(network(8)), "distilled": binary(network(8))}
    for name, model in {"teacher": teacher, **students}.items():
        guide = teacher if name == "distilled" else None
        options = {"loss": "itrd", "epochs": asked.epochs, "overwrite": True}
        result = lb.distill(model, guide, **sets, **options, out=f"{asked.out}/{name}")
        found = result.record.results["last"]["test"]["accuracy"]
        size = sum(layer.packed_bytes for layer in size_table(model))
        print(f"{name}: {100 * found:.1f} %, {size:,} bytes")
    made = export(students["distilled"], images[:64], f"{asked.out}/export")  # .pt2, and packed
    print(f"{made.program}: logits up to {made.parity.max_difference:.1g} apart")


if __name__ == "__main__":
    main()
