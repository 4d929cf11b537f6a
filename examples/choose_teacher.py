"""Choose a teacher among three for a given student, before anything is distilled.

Run:    python examples/choose_teacher.py
Prints: the forecast of what distilling from each would bring (accuracy [points] and cross-entropy
        [bits], 90 % intervals), then the ranking by bits that the student lacks (95 %).
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import limbeck as lb


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def main(arguments: list[str] | None = None) -> tuple[lb.Forecast, lb.Measurement]:
    parser = argparse.ArgumentParser(description="Choose a teacher.")
    parser.add_argument("--epochs", type=int, default=20, help="of the distillation in question")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(one) for one in load_digits(return_X_y=True))
    rows = pixels.float() / 16
    data, held_out = (rows[500:], labels[500:].clone()), (rows[:500], labels[:500])
    teachers = {"small": network(16), "large": network(128), "large, few rows": network(128)}
    for name, model in teachers.items():  # networks that you have anyway
        seen = 40 if name == "large, few rows" else len(data[0])
        lb.distill(model, None, (data[0][:seen], data[1][:seen]), epochs=15)
    data[1][100:] = -1  # the student's rows are hardly labelled: that is where teachers help
    student = network(4)
    forecast = lb.forecast(
        teachers, student, data, validation=held_out, loss="kd", epochs=asked.epochs
    )
    print(forecast)
    lb.distill(student, None, data, epochs=asked.epochs)  # what it knows without a teacher
    measured = lb.measure(teachers, student, held_out)
    for place, entry in enumerate(measured.ranking(), 1):
        print(f"{place}. {entry.teacher}: {entry.estimate.distillable} distillable")
    return forecast, measured


if __name__ == "__main__":
    main()
