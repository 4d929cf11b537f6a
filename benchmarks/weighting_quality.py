"""Is the measured distillation weight as good as the best fixed one? (target: within 2 %, convex)

Convex: softmax regression on 2,000 rows of 10 numbers, two classes of a logistic model (seed 4),
batch 8, plain SGD at 0.4, then 0.1, then 0.025, 1,000 steps each, no weight decay. Teachers of the
student's own class lie 5e-4, 5e-3 and 5e-2 nats above the optimum of the training loss; the
training loss above its minimum is averaged over the last tenth of each phase. Digits: a small CNN
on one half of scikit-learn's training digits, 30 epochs of batch 32 with momentum and cosine, KD at
temperatures 1 and 4 from a larger CNN that was trained on the other half well, for two epochs only,
or on labels of which 30 % are drawn by lot; training loss and test error at the end.

Arms: six fixed weights, ``weight="auto"``, the same with ``confirm``, and Optuna's TPE sampler over
[0, 1], which gets ten trials of a tenth of the epochs and then the run: twice the compute of
``auto``, and 1.5 times that of ``confirm``. All begin with the same start and order of rows for one
seed; the best fixed weight is chosen in hindsight, by the mean over seeds.

    python benchmarks/weighting_quality.py [--seeds 5] [--workers 2] [--cases convex digits]

Runs are appended to --out and not made again; the result is results/weighting_quality.json.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import quality_convex
import quality_digits
from common import write
from resumable import carry_out

from limbeck.report.comparison import mean_estimate


CASES: dict[str, ModuleType] = {"convex": quality_convex, "digits": quality_digits}
FIXED = tuple(map("{:g}".format, (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)))
ARMS: dict[str, Any] = {name: float(name) for name in FIXED} | {
    "auto": "auto",
    "auto, confirmed": {"mode": "hbar", "confirm": True},
    "optuna": None,
}
TRIALS = 10

Run = tuple[str, str, int, int]  # case, arm, teacher, seed


def searched(case: ModuleType, teacher: int, seed: int) -> dict[str, Any]:
    """Return the run with the weight that Optuna finds by short ones."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def trial(one: optuna.Trial) -> float:
        weight = one.suggest_float("weight", 0.0, 1.0)
        return case.run(weight, teacher, seed, share=1 / TRIALS)["score"]

    study.optimize(trial, n_trials=TRIALS)
    weight = study.best_params["weight"]
    return case.run(weight, teacher, seed) | {"weight": weight}


def run(what: Run) -> dict[str, Any]:
    """Carry out one run."""
    name, arm, teacher, seed = what
    case = CASES[name]
    found = searched(case, teacher, seed) if arm == "optuna" else case.run(ARMS[arm], teacher, seed)
    return {"case": name, "arm": arm, "teacher": teacher, "seed": seed, **found}


def summarised(name: str, found: dict[Run, dict[str, Any]], seeds: range) -> list[dict[str, Any]]:
    """Return each arm's means with their ratios to the best fixed arm in hindsight and to none."""
    case, rows = CASES[name], []
    for teacher, title in enumerate(case.TEACHERS):
        for measure in case.MEASURES:
            values = {
                arm: np.array([found[name, arm, teacher, seed][measure] for seed in seeds])
                for arm in ARMS
            }
            best = min(FIXED, key=lambda arm: values[arm].mean())
            for arm, own in values.items():
                to_none = own - values["0"]
                ratio = (own / max(values[best].mean(), 1e-12)).tolist()
                rows.append(
                    {
                        "case": name,
                        "teacher": title,
                        "measure": measure,
                        "weight": arm,
                        "mean": mean_estimate(own.tolist(), unit="").to_dict(),
                        "best_fixed": best,
                        "ratio_to_best_fixed": mean_estimate(ratio, unit="").to_dict(),
                        "difference_to_none": mean_estimate(to_none.tolist(), unit="").to_dict(),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("runs/weighting_quality"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    seeds = range(o.seeds)
    plan = [
        (name, arm, teacher, seed)
        for name in o.cases
        for seed in seeds
        for teacher in range(len(CASES[name].TEACHERS))
        for arm in ARMS
    ]
    found = carry_out(
        plan,
        partial(run),
        lambda row: (row["case"], row["arm"], row["teacher"], row["seed"]),
        o.out / "runs.jsonl",
        o.workers,
    )
    rows = [row for name in o.cases for row in summarised(name, found, seeds)]
    for row in rows:
        ratio, apart = row["ratio_to_best_fixed"], row["difference_to_none"]
        print(
            f"{row['case']} {row['teacher']:20} {row['measure']:22} {row['weight']:16} "
            f"{row['mean']['value']:.3e}, {ratio['value']:.3f} [{ratio['lower']:.3f}, "
            f"{ratio['upper']:.3f}] of weight {row['best_fixed']}, to none {apart['value']:+.1e} "
            f"[{apart['lower']:+.1e}, {apart['upper']:+.1e}]"
        )
    write("weighting_quality", {"rows": rows, "runs": list(found.values())})


if __name__ == "__main__":
    main()
