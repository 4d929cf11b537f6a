"""Is the measured distillation weight as good as the best fixed one? (target: within 2 %, convex)

Softmax regression on 2,000 rows of 10 numbers, two classes of a logistic model (seed 4), batch 8,
plain SGD at 0.4, then 0.1, then 0.025, no weight decay. Teachers of the student's own class lie
5e-4, 5e-3 and 5e-2 nats above the optimum of the training loss. Trained by ``limbeck.distill`` with
six fixed weights, with ``weight="auto"`` as it is, measured in every step, and with ``confirm``;
the same rows in the same order and the same start for all with one seed. Compared is the training
loss above its minimum, averaged over the last tenth of each phase (seen from inside, before every
step), paired by seed.

    python benchmarks/weighting_quality.py [--seeds 5] [--steps 1000] [--workers 2]

Runs are appended to --out and not made again; the result is results/weighting_quality.json.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write
from resumable import carry_out
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck.data import Data
from limbeck.randomness import generator
from limbeck.report.comparison import mean_estimate


ROWS, WIDTH, BATCH, RATE = 2000, 10, 8, 0.4
EXCESS = (5e-4, 5e-3, 5e-2)
FIXED = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
ARMS: dict[str, Any] = {f"{weight:g}": weight for weight in FIXED} | {
    "auto": "auto",
    "auto, every step": {"mode": "hbar", "every": 1},
    "auto, confirmed": {"mode": "hbar", "every": 1, "confirm": True},
}

Run = tuple[str, int, int]  # arm, teacher, seed


class Problem:
    """Rows, the optimum of the training loss, and teachers at a distance from it."""

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(4)
        scale = torch.linspace(0.7, 1.3, WIDTH, dtype=torch.float64)
        self.x = torch.randn(ROWS, WIDTH, generator=source, dtype=torch.float64) * scale
        truth = torch.randn(WIDTH, generator=source, dtype=torch.float64)
        p = torch.sigmoid(self.x @ (1.2 * truth / truth.norm()))
        self.y = (torch.rand(ROWS, generator=source) < p).long()
        self.best = torch.zeros(2, WIDTH, dtype=torch.float64, requires_grad=True)
        solver = torch.optim.LBFGS(
            [self.best],
            max_iter=500,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = self.loss(self.best)
            loss.backward()
            return loss

        solver.step(closure)
        self.best = self.best.detach()
        self.least = self.loss(self.best).item()
        away = torch.randn(2, WIDTH, generator=source, dtype=torch.float64)
        self.teachers = [self.best + self._size(away, excess) * away for excess in EXCESS]

    def loss(self, weight: Tensor) -> Tensor:
        """Return the training loss [nats]."""
        return F.cross_entropy(self.x @ weight.T, self.y)

    def _size(self, away: Tensor, excess: float) -> float:
        low, high = 0.0, 10.0
        for _ in range(80):
            middle = (low + high) / 2
            above = self.loss(self.best + middle * away).item() - self.least
            low, high = (middle, high) if above < excess else (low, middle)
        return low


@lru_cache(maxsize=1)
def problem() -> Problem:
    return Problem()


def network(weight: Tensor) -> nn.Module:
    model = nn.Linear(WIDTH, 2, bias=False).double()
    model.weight.data = weight.clone()
    return model


def term(student: Any, teacher: Any, batch: Any) -> Tensor:  # noqa: ARG001
    return limbeck.kd_loss(student.logits, teacher.logits, temperature=1.0)


def run(what: Run, steps: int) -> dict[str, Any]:
    """Train one student and return its mean excess loss at the end of each phase."""
    torch.set_num_threads(1)
    arm, which, seed = what
    given = problem()
    start = given.best + 0.1 * torch.randn(
        2, WIDTH, generator=generator(seed, "start"), dtype=torch.float64
    )
    student, seen = network(start), []

    def look(inputs: Tensor, index: Tensor, view: Tensor) -> Tensor:  # noqa: ARG001
        with torch.no_grad():
            seen.append(given.loss(student.weight).item() - given.least)
        return inputs

    epochs = 3 * steps * BATCH // ROWS
    result = limbeck.distill(
        student,
        network(given.teachers[which]),
        Data((given.x, given.y), augment=look),
        loss=term,
        weight=ARMS[arm],
        seed=seed,
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="step",
        milestones=(epochs // 3, 2 * epochs // 3),
        decay=0.25,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        validation=(given.x, given.y),
        evaluate_every=epochs,
        device="cpu",
        progress=False,
        force=True,
    )
    phases = np.array(seen[-(epochs * ROWS // BATCH) :]).reshape(3, -1)
    last = phases[:, -phases.shape[1] // 10 :].mean(1)
    return {
        "arm": arm,
        "teacher": which,
        "seed": seed,
        "excess": last.tolist(),
        "weight": result.record.curves.get("distillation weight", [None])[-1],
        "race": result.record.settings.get("weight_race", {}).get("winner"),
    }


def summarised(found: dict[Run, dict[str, Any]], seeds: range) -> list[dict[str, Any]]:
    """Return each arm's mean excess by phase, and its ratio to the best fixed arm in hindsight."""
    rows = []
    for which, excess in enumerate(EXCESS):
        means = {
            arm: np.array([found[arm, which, seed]["excess"] for seed in seeds]) for arm in ARMS
        }
        for phase in range(3):
            fixed = {arm: means[arm][:, phase].mean() for arm in map("{:g}".format, FIXED)}
            best = min(fixed, key=lambda arm: fixed[arm])
            for arm in ARMS:
                own = means[arm][:, phase]
                ratios = own / means[best][:, phase].mean()
                rows.append(
                    {
                        "teacher_excess": excess,
                        "learning_rate": RATE * 0.25**phase,
                        "weight": arm,
                        "excess": float(own.mean()),
                        "best_fixed": best,
                        "ratio_to_best_fixed": mean_estimate(ratios.tolist(), unit="").to_dict(),
                        "ratio_to_none": float(own.mean() / fixed["0"]),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000, help="in each of the three phases")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/weighting_quality"))
    o = parser.parse_args()
    out = o.out / str(o.steps)
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(o.seeds)
    plan = [(arm, which, seed) for seed in seeds for which in range(3) for arm in ARMS]
    found = carry_out(
        plan,
        partial(run, steps=o.steps),
        lambda row: (row["arm"], row["teacher"], row["seed"]),
        out / "runs.jsonl",
        o.workers,
    )
    rows = summarised(found, seeds)
    for row in rows:
        print(
            f"{row['teacher_excess']:.0e} {row['learning_rate']:<6g} {row['weight']:18} "
            f"{row['ratio_to_none']:.3f} of none, {row['ratio_to_best_fixed']['value']:.3f} of the "
            f"best fixed ({row['best_fixed']})"
        )
    write("weighting_quality", {"steps": o.steps, "rows": rows, "runs": list(found.values())})


if __name__ == "__main__":
    main()
