"""What is a log-probability worth, and does the planner foresee it? Images and text, real models.

No claim is made beforehand. A teacher is asked n queries and gives its answer as text alone (a
label drawn from its row, once a query: ``hard_labels``), with the label's log-probability
(``sampled_probabilities``) or as the full row (``soft_labels``); a student with random weights is
trained on that and nothing else, no true label, no augmentation, for the same number of optimiser
steps whatever the budget and the privilege, and is never stopped early, so that small budgets are
learned by heart. Nothing was tuned but the text students' rate, batch and number of steps, by full
rows of another seed. What counts is the mean total variation between the student's and the
teacher's rows on inputs that nobody was trained on.

Images: a query is an image. The teacher is a small_cnn of 24 to 96 channels trained on 20,000
images of Fashion-MNIST, asked at temperature 1 about some of 20,000 others; students are of 8 to 32
channels: 800 steps of 50 images; ``sampled_labels``, ``control_variate`` and ``kd`` at temperature
1; 2,000 test images. Text: a query is a token. The teacher is a GPT-2 of three layers of 96 on the
characters of TinyShakespeare, trained on its first 60 %, asked at every position of windows of 64
characters of the next 30 %; students have two layers of 64: 512 steps of 8 windows;
``token_sampled_loss`` and ``token_kd_loss``; 128 windows of the last 10 %. A budget's queries are
drawn anew for each seed and budget, and are the same for the three privileges.

The planner sees the three smallest budgets only: its curve (``limbeck.plan(pilot=...)``) is held
against what was measured at the two larger ones. "inside" says whether the measured mean lies in
the profile interval of the curve, which leaves out the noise of that mean itself. "worth" is how
many texts do what one log-probability does at the third budget, beside the planner's break-even.

    python benchmarks/privilege.py --text FILE [--cases images text] [--seeds 0 1 2] [--workers 2]

FILE is TinyShakespeare (.txt or .txt.xz), needed for the text. Fashion-MNIST is looked for where
Debian's dataset-fashion-mnist puts it, or in --image-folder; --images takes another set, such as
cifar100 with the folder of its files. --quick is a trial of a minute on tiny models, which leaves
results/ alone. Runs are appended to --out and not made again; the result is results/privilege.json
with the figure privilege.svg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import common
import privilege_images
import torch
from privilege_curves import PILOTS, Errors, summarised
from privilege_figure import Panel, figure
from resumable import carry_out

from limbeck.teacher_record import PRIVILEGES


CASES = ("images", "text")
Run = tuple[str, str, int, int]  # case, privilege, queries, seed


def module(case: str) -> Any:
    """Return a case's module; that of the text needs transformers."""
    if case == "images":
        return privilege_images
    import privilege_text

    return privilege_text


def run(what: Run, o: argparse.Namespace) -> dict[str, Any]:
    """Train and measure one student."""
    torch.set_num_threads(1)
    case, privilege, budget, seed = what
    found = module(case).run(privilege, budget, seed, o)
    return {"case": case, "privilege": privilege, "queries": budget, "seed": seed, **found}


def check_settings(o: argparse.Namespace) -> None:
    """Refuse a folder that holds runs of other settings, and keep those of this run there."""
    for case in o.cases:
        settings = json.loads(json.dumps(module(case).settings(o)))
        path = o.out / f"{case}-settings.json"
        if path.exists() and json.loads(path.read_text("utf8")) != settings:
            raise SystemExit(f"{path} has other settings. Choose another --out.")
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf8")


def errors_of(found: Mapping[Run, dict[str, Any]], case: str, seeds: list[int]) -> Errors:
    """Return a case's total variations by privilege and budget, one a seed."""
    pairs = dict.fromkeys((p, n) for name, p, n, _ in found if name == case)
    return {
        (p, n): [found[case, p, n, seed]["total_variation"] for seed in seeds] for p, n in pairs
    }


def told(case: str, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Print what came out."""
    known = ", ".join(f"{key} {value:.3g}" for key, value in facts.items() if key != "settings")
    print(f"{case}: {known}")
    for row in summary["measured"]:
        one = row["total_variation"]
        print(
            f"  {row['privilege']:22} {row['queries']:6,}: {one['value']:.4f} "
            f"[{one['lower']:.4f}, {one['upper']:.4f}]"
        )
    for privilege, fitted in summary["predictions"].items():
        for at in fitted["at"]:
            low, high = at["interval"]
            print(
                f"  {privilege:22} at {at['queries']:,} foreseen {at['foreseen']:.4f} "
                f"[{low:.4f}, {high:.4f}], measured {at['measured']:.4f}: "
                f"{'inside' if at['inside'] else 'OUTSIDE'}"
            )
    for one in summary["worth"]:
        names = ("ratio", "at_least", "at_most", "planner_by_pilot", "worst_case")
        known = ", ".join(f"{key} {one[key]:.3g}" for key in names if one[key] is not None)
        spread = one["ratio_over_seeds"]
        spread = "" if spread is None else f" [{spread['lower']:.3g}, {spread['upper']:.3g}]"
        print(f"  {one['better']} / {one['poorer']} at error {one['error']:.4f}: {known}{spread}")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--images", choices=privilege_images.DATA)
    parser.add_argument("--image-folder", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    o = parser.parse_args()
    o.cases, o.seeds = list(dict.fromkeys(o.cases)), list(dict.fromkeys(o.seeds))
    if len(o.seeds) < 2:
        parser.error("expected at least 2 --seeds: a fit of three budgets needs repeats")
    if "text" in o.cases and (o.text is None or not o.text.is_file()):
        parser.error(f"expected --text with a file for the text; got {o.text}. Or --cases images")
    if o.out is None:
        o.out = Path("runs/privilege_quick" if o.quick else "runs/privilege")
    return o


def main() -> None:
    o = options()
    o.out.mkdir(parents=True, exist_ok=True)
    check_settings(o)
    torch.set_num_threads(1)
    facts = {case: module(case).prepare(o) for case in o.cases}
    budgets = {case: module(case).sizes_of(o).budgets for case in o.cases}
    plan = [
        (case, privilege, budget, seed)
        for case in o.cases
        for seed in o.seeds
        for budget in budgets[case]
        for privilege in PRIVILEGES
    ]
    found = carry_out(
        plan,
        partial(run, o=o),
        lambda row: (row["case"], row["privilege"], row["queries"], row["seed"]),
        o.out / "runs.jsonl",
        o.workers,
    )
    result: dict[str, Any] = {"pilot_budgets": PILOTS, "seeds": o.seeds, "cases": {}}
    panels = []
    for case in o.cases:
        errors = errors_of(found, case, o.seeds)
        summary = summarised(errors, budgets[case], facts[case]["labels"])
        result["cases"][case] = {"query": module(case).QUERY, "facts": facts[case], **summary}
        panels.append(Panel(module(case).TITLE, module(case).QUERY, budgets[case], errors))
        told(case, facts[case], summary)
    if not o.quick:
        packages = ["matplotlib", *(["transformers"] if "text" in o.cases else [])]
        common.write("privilege", result | {"runs": list(found.values())}, packages)
    folder = o.out if o.quick else common.RESULTS
    (folder / "privilege.svg").write_text(figure(panels), encoding="utf8")


if __name__ == "__main__":
    main()
