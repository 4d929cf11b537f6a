"""What a ResNet-56 knows about CIFAR-10 that ResNets of 20, 32 and 44 layers lack.

No claim is made beforehand. Networks are akamaster's, trained apart on the same training images and
never distilled; rows are the 10,000 test images, penultimate layer and logits' own probabilities.

    python benchmarks/pretrained.py --data FOLDER --weights FOLDER

with CIFAR-10 as ``limbeck.zoo.data.load_dataset`` takes it, and cifar10_resnet20.pt to
cifar10_resnet56.pt as published (github.com/akamaster/pytorch_resnet_cifar10).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from common import write
from torch import nn

from limbeck import measure
from limbeck.zoo.data import load_dataset
from limbeck.zoo.networks import akamaster_state_dict, network


TEACHER, STUDENTS = "resnet56", ("resnet20", "resnet32", "resnet44")


def published(name: str, folder: Path) -> nn.Module:
    model = network(name, num_classes=10, shortcut="pad", normalisation="imagenet")
    raw = torch.load(folder / f"cifar10_{name}.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(akamaster_state_dict(raw.get("state_dict", raw)))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    options = parser.parse_args()
    test = load_dataset("cifar10", folder=options.data, validation=0.0).test
    start = time.monotonic()
    found = measure(
        published(TEACHER, options.weights),
        {name: published(name, options.weights) for name in STUDENTS},
        test,
        layers="penultimate",
        device="cpu",
    )
    rows = []
    for entry in found.trajectory():
        e = entry.estimate
        atoms = {
            name: [atom.value, atom.lower, atom.upper, atom.status]
            for name, atom in (
                ("distillable", e.distillable),
                ("distilled", e.distilled),
                ("student_alone", e.unique_student),
                ("synergistic", e.synergistic),
                ("mutual_teacher", e.mutual_teacher),
                ("mutual_student", e.mutual_student),
            )
        }
        rows.append({"student": entry.student, "bits": atoms, "rivals": dict(e.rivals)})
        print(entry.student, "distillable", e.distillable, "distilled", e.distilled, flush=True)
    accuracy = {
        side: {name: one.value for name, one in found.accuracy[side].items()}
        for side in found.accuracy
    }
    write(
        "pretrained",
        {
            "data": "CIFAR-10, test",
            "n": len(test),
            "teacher": TEACHER,
            "accuracy": accuracy,
            "students": rows,
            "seconds": time.monotonic() - start,
        },
        packages=("scikit-learn",),
    )


if __name__ == "__main__":
    main()
