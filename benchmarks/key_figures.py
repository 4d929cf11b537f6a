"""The key figures of each result file, with spread and n, in a line; for results_page.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pages import number, span


Result = Mapping[str, Any]
#: What makes the lines of a file, by its name without ``.json``.
LINES: dict[str, Callable[[Result], Iterable[str]]] = {}


def lines_of(name: str, result: Result) -> list[str]:
    """Return the key figures of a result file; what it holds, where none are known."""
    if name in LINES:
        return list(LINES[name](result))
    held = [key for key in result if key not in ("script", "hardware", "versions")]
    return [f"no single figure; it holds {', '.join(held)}"]


def _of(name: str) -> Callable[[Callable[[Result], Iterable[str]]], Any]:
    def kept(function: Callable[[Result], Iterable[str]]) -> Any:
        LINES[name] = function
        return function

    return kept


def _points(value: float, ends: Iterable[float]) -> str:
    return f"{value:+.1f} [{', '.join(f'{end:+.1f}' for end in ends)}] points"


def _gain(estimate: Mapping[str, Any]) -> str:
    return _points(estimate["value"], (estimate["lower"], estimate["upper"]))


def _times(ratio: Mapping[str, Any]) -> str:
    return f"{ratio['value']:.2f} [{', '.join(f'{end:.2f}' for end in ratio['interval'])}] times"


@_of("against_torchdistill")
def _(result: Result) -> Iterable[str]:
    for key, what in (("ratio", "as it is"), ("ratio_compiled", "with compile=True")):
        yield f"images a second, {what}: {_times(result[key])}, n = {result[key]['pairs']['n']}"


@_of("binary_small")
def _(result: Result) -> Iterable[str]:
    gain = result["gain_points"]
    yield f"ITRD over training alone: {_gain(gain)}, n = {gain['n']} seeds"


@_of("broja")
def _(result: Result) -> Iterable[str]:
    for symbols in (50, 100):
        found = {
            one["kind"]: one["times"]
            for one in result["speedups"]
            if one["labels"] == 10 and one["symbols"] == symbols
        }
        kinds = ", ".join(f"{kind} {times:.3g}" for kind, times in found.items())
        yield f"times the fastest right peer at 10 x {symbols} symbols: {kinds}"
    repeated = result["replicates"]
    yield f"{repeated['tables']} replicates in {repeated['seconds']:.1f} s"


@_of("demo_search")
def _(result: Result) -> Iterable[str]:
    best: dict[str, Mapping[str, Any]] = {}
    for cell in result["cells"]:
        if cell["mean"] > best.get(cell["student"], {"mean": 0.0})["mean"]:
            best[cell["student"]] = cell
    found = ", ".join(
        f"{name} {100 * cell['mean']:.1f} ± {100 * cell['standard_deviation']:.1f} %"
        for name, cell in best.items()
    )
    yield f"best validation accuracy: {found}; n = {result['cells'][0]['n']} seeds each"


@_of("forecast_held_out")
def _(result: Result) -> Iterable[str]:
    for name, share in result["shares"].items():
        if name.endswith("accuracy") and "pilot" not in name:
            yield (
                f"{name}: {share['inside']} of {share['cells']} gains inside the 90 % intervals "
                f"foretold, {share['inside_now']} inside today's, error {share['error']:.1f} "
                f"points; {share['outside_of_the_grid']} cells said to lie outside of the grid"
            )
    yield f"n = {result['seeds']} seeds a cell"


@_of("forecast_held_out_before")
def _(result: Result) -> Iterable[str]:
    yield f"{len(result['cells'])} cells' forecasts, made before their runs"


@_of("loss_cost")
def _(result: Result) -> Iterable[str]:
    itrd = result["losses"]["itrd"]
    yield f"ITRD at batch 64: {100 * itrd['share_of_step']:.2f} % of a step, n = " + str(
        itrd["seconds"]["n"]
    )
    beside = {
        name: one["against_torchdistill"]["value"]
        for name, one in result["losses"].items()
        if "against_torchdistill" in one
    }
    yield (
        f"beside torchdistill's, {len(beside)} losses: {min(beside.values()):.2f} to "
        f"{max(beside.values()):.2f} times"
    )


@_of("measure")
def _(result: Result) -> Iterable[str]:
    for name, case in result["cases"].items():
        yield (
            f"{name}, {case['rows']:,} rows: {case['seconds']['median']:.0f} s, "
            f"{case['peak_mb'] / 1000:.1f} GB, n = {case['seconds']['n']}"
        )


@_of("methods_small")
def _(result: Result) -> Iterable[str]:
    rows = [
        row
        for row in result["rows"]
        if row["teacher"] == "trained" and row["method"] != "no teacher"
    ]
    for end in (max, min):
        row = end(rows, key=lambda one: one["gain_points"])
        gain = _points(row["gain_points"], row["gain_interval"])
        yield f"{'most' if end is max else 'least'}: {row['method']} {gain}, n = {row['seeds']}"


@_of("pid_calibration")
def _(result: Result) -> Iterable[str]:
    for cell in result["cells"]:
        if cell["half"] == "reported" and cell["method"] == "hull":
            errors = [number(cell[atom]["rms"]) for atom in ("unique_teacher", "redundant")]
            yield (
                f"hull, {cell['rows']:,} rows, {cell['classes']} classes: error "
                f"{' / '.join(errors)} bits (distillable / distilled), coverage "
                f"{100 * cell['coverage_of_both']:.0f} %, n = {cell['trials']} trials"
            )


@_of("predicted_realised")
def _(result: Result) -> Iterable[str]:
    for name in ("convex, moments at the optimum; resolved", "convex, moments at a student"):
        one = result["weight"]["summary"][name]
        yield f"plateaus, {name}: {one['inside_measured_interval']} of {one['n']} inside"
    plan = result["plan"]["summary"]
    yield f"plans: {plan['measured_inside_predicted']} of {plan['n']} inside"


@_of("predictive_validity")
def _(result: Result) -> Iterable[str]:
    for method, tables in result["tables"].items():
        ways = tables["accuracy"]["forecasts"]
        whole = next(way for way in ways if way.startswith("the forecast:"))
        for title, way in (("forecast", whole), ("pilot", "pilot")):
            one = ways[way]
            yield (
                f"{method}, {title}: error {one['rmse']:.1f} points, 90 % intervals hold "
                f"{100 * one['coverage']:.0f} % of {result['cells']} cells, "
                f"width {one['width']:.1f}"
            )


@_of("pretrained")
def _(result: Result) -> Iterable[str]:
    for row in result["students"]:
        value, lower, upper, _ = row["bits"]["distillable"]
        yield f"{row['student']}: distillable {value:.3f} [{lower:.3f}, {upper:.3f}] bits"
    yield f"n = {result['n']:,} rows"


@_of("privilege")
def _(result: Result) -> Iterable[str]:
    for name, case in result["cases"].items():
        most = max(row["queries"] for row in case["measured"])
        found = [
            f"{row['privilege']} {number(row['total_variation']['value'])} "
            f"[{number(row['total_variation']['lower'])}, "
            f"{number(row['total_variation']['upper'])}]"
            for row in case["measured"]
            if row["queries"] == most
        ]
        n = case["measured"][0]["total_variation"]["n"]
        yield f"{name}, {most:,} queries: total variation {', '.join(found)}; n = {n} seeds"


@_of("reproduce_pid")
def _(result: Result) -> Iterable[str]:
    seeds = result["settings"]["seeds"]
    for method in ("baseline", "itrd"):
        rows = [
            row
            for row in result["summary"]
            if (row["teacher"], row["method"], row["way"]) == ("trained", method, "hull")
        ]
        for atom, word in (("unique_teacher", "distillable"), ("redundant", "distilled")):
            first, last = ([row[atom][end] for row in rows] for end in ("first", "last"))
            yield (
                f"{method}, {word}: {sum(first) / len(first):.2f} to {sum(last) / len(last):.2f} "
                f"bits (last of each seed {min(last):.2f} to {max(last):.2f}), "
                f"n = {len(seeds)} seeds"
            )


@_of("step_overhead")
def _(result: Result) -> Iterable[str]:
    for case in result["cases"]:
        ratio = case["ratio"]
        yield f"{case['pair']}, {case['loss']}: {_times(ratio)}, n = {ratio['pairs']['n']}"


@_of("store_speedup")
def _(result: Result) -> Iterable[str]:
    for pair, found in result["pairs"].items():
        over = found["stored_over_none"]
        yield (
            f"{pair}: stored over no teacher {_times(over)}, live over stored "
            f"{_times(found['live_over_stored'])}, n = {over['pairs']['n']}"
        )


@_of("store_views")
def _(result: Result) -> Iterable[str]:
    for views, side in result["sides"].items():
        if views.isdigit():
            value, *ends = side["against_live_points"]
            yield f"{views} stored views, against live: {value:+.2f} {span(ends)} points"
    yield f"n = {result['settings']['seeds']} seeds"


@_of("text_small")
def _(result: Result) -> Iterable[str]:
    for row in result["rows"]:
        if "gain_points" in row:
            gain = row["gain_points"]
            yield f"{row['data']}, {row['student']}: {_gain(gain)}, n = {gain['n']} seeds"


@_of("token_loss_memory")
def _(result: Result) -> Iterable[str]:
    for row in result["rows"]:
        yield (
            f"{row['loss']}: {row['of_memory']:.2f} of the memory in "
            f"{row['times_the_time']:.2f} times the time"
        )
    yield f"medians of {result['settings']['repeats']}"


@_of("transfer_small")
def _(result: Result) -> Iterable[str]:
    for row in result["rows"]:
        if "cifar10_probe_gain_points" in row:
            gain = row["cifar10_probe_gain_points"]
            yield f"{row['student']}, linear probe: {_gain(gain)}, n = {gain['n']} seeds"


@_of("weighting_cost")
def _(result: Result) -> Iterable[str]:
    share = result["controller_share"]
    ends = ", ".join(f"{100 * end:.1f}" for end in share["interval"])
    yield f"while training: {100 * share['value']:.1f} [{ends}] % of the time"
    yield (
        ", ".join(
            f"{name} {100 * one['share_of_an_epoch']:.1f} %"
            for name, one in result["moments"].items()
        )
        + " of an epoch for 512 rows, n = 1"
    )


@_of("weighting_quality")
def _(result: Result) -> Iterable[str]:
    for case in dict.fromkeys(row["case"] for row in result["rows"]):
        if case != "convex":
            continue
        for weight in ("auto", "optuna", "0"):
            found = [
                row["ratio_to_best_fixed"]
                for row in result["rows"]
                if row["case"] == case and row["weight"] == weight
            ]
            values = [one["value"] for one in found]
            yield (
                f"{case}, {weight if weight != '0' else 'none'}: {min(values):.2f} to "
                f"{max(values):.3g} times the best fixed weight's loss in {len(values)} cells, "
                f"n = {found[0]['n']} seeds"
            )
