"""Distil your own network on your own folder of images, one sub-folder a class.

Run:    python examples/image_folder.py PHOTOS    (PHOTOS/cats/1.jpg, PHOTOS/dogs/2.jpg, ...)
Prints: accuracy on a held-out fifth: of the teacher, the student alone, the distilled student.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import limbeck as lb


class Folder(torch.utils.data.Dataset):  # limbeck takes any data set of (input, target)
    def __init__(self, root: Path, side: int):
        self.side, self.classes = side, sorted(p.name for p in root.iterdir() if p.is_dir())
        named = enumerate(self.classes)
        self.files = [(p, y) for y, name in named for p in sorted((root / name).iterdir())]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        image = Image.open(self.files[row][0]).convert("RGB").resize((self.side, self.side))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), self.files[row][1]


def network(width: int, classes: int) -> nn.Module:  # any module that returns class scores
    parts = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(width, 2 * width, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(8 * width, classes))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Distil on a folder of images.")
    parser.add_argument("folder", type=Path, help="one sub-folder of images a class")
    parser.add_argument("--side", type=int, default=32, help="images are made so large [pixels]")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="runs/image_folder")
    asked, _ = parser.parse_args(arguments), torch.manual_seed(0)
    images = Folder(asked.folder, asked.side)
    data, test = lb.Data(images, class_names=images.classes), np.arange(len(images)) % 5 == 0
    options = {"epochs": asked.epochs, "optimizer": "adamw", "learning_rate": 3e-3}
    options |= {"data": data.subset(~test), "test": data.subset(test), "overwrite": True}
    teacher = network(32, len(images.classes))
    for name in ("teacher", "alone", "distilled"):
        model = teacher if name == "teacher" else network(6, len(images.classes))
        guide, out = teacher if name == "distilled" else None, f"{asked.out}/{name}"
        result = lb.distill(model, guide, loss="kd", out=out, **options)
        found = result.record.results["last"]["test"]["accuracy"]
        print(f"{name}: {100 * found:.1f} % of {int(test.sum())} images, saved in {out}")


if __name__ == "__main__":
    main()
