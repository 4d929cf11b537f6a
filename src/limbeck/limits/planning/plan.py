"""How many teacher queries of which kind an error needs, what they cost and where they fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from limbeck.checks import ArgumentError
from limbeck.limits.bounds.arguments import Number
from limbeck.limits.planning.draws import draws_needs
from limbeck.limits.planning.law import law_needs
from limbeck.limits.planning.lipschitz import lipschitz_needs
from limbeck.limits.planning.needs import Need, Needs, at_most
from limbeck.limits.planning.options import WHERE, Options
from limbeck.limits.planning.parametric import parametric_needs
from limbeck.limits.planning.pilot import Exponent, curve_needs, law_pilot_needs
from limbeck.limits.planning.pilot_errors import as_errors, read_errors
from limbeck.limits.planning.pilot_records import fit_law
from limbeck.limits.planning.prices import PAIRS, check_prices
from limbeck.limits.planning.result import Plan, PrivilegePlan
from limbeck.limits.planning.storage import bytes_per_query, check_record_bytes
from limbeck.limits.planning.worst_case import worst_case_needs
from limbeck.limits.tables.laws import checked_pair
from limbeck.records import Records, as_records
from limbeck.teacher_record import PRIVILEGES, Privilege, TeacherRecord


Law = tuple[Float[np.ndarray, " S"], Float[np.ndarray, "rows A"]]
Pilot = Path | str | Records | Mapping[str, Any] | Iterable[TeacherRecord | Mapping[str, Any]]
SCOPE = "the teacher is taken for the truth, and queries for independent draws of its inputs."


def plan(
    *,
    error: Number,
    inputs: int | None = None,
    labels: int | None = None,
    confidence: Number | None = None,
    prices: Mapping[str, Number] | None = None,
    draws: int | None = None,
    unique: Number | None = None,
    top: int | None = None,
    tail_mass: Number | None = None,
    horizon: int | None = None,
    parameters: int | None = None,
    floor: Number | None = None,
    effective_labels: Number | None = None,
    lipschitz: Number | None = None,
    dimension: int | None = None,
    law: Law | None = None,
    pilot: Pilot | None = None,
    exponent: Exponent | str | None = None,
    language_model: bool = False,
    value_bytes: int = 2,
    record_bytes: Mapping[str, Number] | None = None,
) -> Plan:
    r"""Plan how many teacher queries of each kind bring a student within an error of its teacher.

    .. math:: n_{hard} = \frac{S (A - 1)}{2 \pi \varepsilon^2}, \qquad
              n_{sampled} = \frac{S A}{e \varepsilon}, \qquad n_{soft} = \frac{S}{e \varepsilon}

    to plan with in the tabular worst case, beside what is proved to be enough and proved to be too
    few. ``parameters``, ``lipschitz`` with ``dimension``, ``law`` or ``pilot`` replace the worst
    case by something nearer to the task at hand; one of them at most.

    Args:
        error: epsilon: total variation between student and teacher, mean over inputs, in (0, 1).
        inputs: S, how many different inputs there are.
        labels: A, how many labels, at least 2.
        confidence: None: enough in the mean; else with this probability: in [0.9, 1) for the worst
            case and a law; a pilot's intervals have it.
        prices: Of a query by privilege, in any unit, at least 0; those the teacher offers.
        draws: N, labels drawn at each visited input, for whoever holds the weights; then a query is
            a visited input.
        unique: Mean number of different labels among the draws, for the disk.
        top: k, labels kept of a soft row.
        tail_mass: Mean probability outside of those, in [0, 1): it stands in the data.
        horizon: Tokens of a response: the error is of whole responses then, and a query is a token.
        parameters: Free parameters of a student that can equal its teacher, up to ``floor``.
        floor: Error of the best student of the class, measured with full rows.
        effective_labels: A_eff of a pilot with rows or sampled probabilities, for ``parameters``.
        lipschitz: Largest total variation between rows per distance of their inputs, in a unit
            cube of ``dimension`` dimensions.
        dimension: Of the embedding.
        law: (input law [S], teacher's rows [S, A]), where they are known.
        pilot: Errors measured at 3 or 4 sizes, as {privilege: (sizes, errors)} or a .csv file, or
            teacher records, as a .jsonl file or a list. The only way for language models.
        exponent: Of the fit of measured errors: "theory" (the default), "free" or a number.
        language_model: Inputs are texts: refuses everything but a pilot.
        value_bytes: Of a stored log-probability: 2 for fp16.
        record_bytes: Bytes a query's answer takes on disk, by privilege, in place of limbeck's.

    Returns:
        The plan, printable; queries are whole numbers, disks are in bytes.

    Raises:
        ArgumentError: If an option is out of range, lacks another, or excludes another.
        DataError: If a law is none, or a pilot cannot be used.

    Example:
        At 50 labels a row is worth 50 log-probabilities, and one of them 8.48 texts.

        >>> made = plan(inputs=10_000, labels=50, error=0.05)
        >>> made.soft_labels.planning, made.soft_labels.impossible_below
        (73576, 36783)
        >>> round(made.break_even["sampled_probabilities/hard_labels"], 4)
        8.4795

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, with derived constants; the modules ``plan_*`` have
        one way of planning each.
    """
    options = Options(
        inputs, labels, error, confidence, draws, unique, top, tail_mass, horizon, parameters,
        floor, effective_labels, lipschitz, dimension, law, pilot, exponent, language_model,
        value_bytes, record_bytes,
    )  # fmt: skip
    options.check()
    known = check_prices(WHERE, prices)
    if law is not None:
        labels = np.asarray(law[1]).shape[-1] if labels is None else labels
    bytes_of = {one: _bytes(one, options, labels) for one in PRIVILEGES}
    needs = _needs(options)
    plans: dict[Privilege, PrivilegePlan] = {
        one: PrivilegePlan.of(one, needs[one], known.get(one), bytes_of[one]) for one in PRIVILEGES
    }
    return Plan(
        **plans,
        error=float(error),
        confidence=None if confidence is None else float(confidence),
        break_even={f"{b}/{p}": _ratio(needs[p], needs[b]) for b, p in PAIRS},
        cheapest=_cheapest(plans),
        settings=options.to_dict(),
        notes=tuple(_notes(options, plans)),
    )


def _needs(options: Options) -> Needs:
    if options.basis == "pilot":
        return _pilot_needs(options)
    needs = _needs_at(options, options.goal)
    tail = options.tail_mass
    if tail and options.basis != "worst_case":
        needs["soft_labels"] = _cut(options, tail)
    return needs


def _needs_at(options: Options, goal: float) -> Needs:
    confidence = options.confidence
    if options.basis == "law":
        input_law, rows = checked_pair(WHERE, *options.law)
        return law_needs(input_law=input_law, rows=rows, error=goal, confidence=confidence)
    labels = options.labels or 2
    if options.basis == "parameters":
        return parametric_needs(
            parameters=options.parameters or 1,
            labels=labels,
            error=goal,
            floor=options.floor or 0.0,
            effective_labels=options.effective_labels,
        )
    if options.basis == "lipschitz":
        needs = lipschitz_needs(
            lipschitz=options.lipschitz or 0.0,
            dimension=options.dimension or 1,
            labels=labels,
            error=goal,
        )
        if confidence is None:
            return needs
        note = "nothing is proved to be enough with a probability here, only in the mean."
        return {
            one: replace(need, sufficient=None, notes=(*need.notes, note))
            for one, need in needs.items()
        }
    sizes = {"inputs": options.inputs or 1, "labels": labels, "error": goal}
    needs = worst_case_needs(**sizes, confidence=confidence, tail_mass=options.tail_mass or 0.0)
    if options.draws is not None:
        needs |= draws_needs(**sizes, draws=options.draws, confidence=confidence)
        if not options.tail_mass:  # draws can be made of a whole row
            needs["soft_labels"] = at_most(needs["soft_labels"], needs["sampled_probabilities"])
    return needs


def _cut(options: Options, tail: Number) -> Need:
    """Return what soft labels need when the rows' tails are a part of the error."""
    left_out = f"; rows cut to their head, which leaves out {tail:g} on average"
    if tail < options.goal:
        need = _needs_at(options, options.goal - tail)["soft_labels"]
        return replace(need, assumption=need.assumption + left_out)
    need = _needs_at(options, options.goal)["soft_labels"]
    note = (
        f"the mass outside of the kept labels, {tail:g}, is no less than the error: keep more "
        "labels, or sample from the tail."
    )
    return Need(None, need.assumption + left_out, need.basis, status="not reachable", notes=(note,))


def _pilot_needs(options: Options) -> Needs:
    pilot, goal = options.pilot, options.goal
    if options.tail_mass is not None:
        raise ArgumentError(
            f"{WHERE}: expected `tail_mass` without `pilot`; got both. Measured errors hold the "
            "tail; with records, take the tail off the error."
        )
    exponent = options.exponent or "theory"
    if isinstance(pilot, str | Path) and str(pilot).lower().endswith(".csv"):
        measured = read_errors(pilot)
    elif isinstance(pilot, Mapping):
        measured = as_errors(WHERE, pilot)
    else:
        if options.exponent is not None:
            raise ArgumentError(
                f"{WHERE}: expected `exponent` with measured errors; got teacher records, whose "
                "tails have their own. Leave it out."
            )
        records = as_records(pilot, labels=options.labels).needed(WHERE)
        level = 0.95 if options.confidence is None else options.confidence
        law = fit_law(records.records, confidence=level)
        needs = law_pilot_needs(law, error=goal, inputs=options.inputs)
        if not records.left_out:
            return needs
        note = f"{sum(records.left_out.values()):,} faulty records are left out."
        return {one: replace(need, notes=(*need.notes, note)) for one, need in needs.items()}
    return curve_needs(measured, error=goal, confidence=options.confidence, exponent=exponent)


def _bytes(privilege: Privilege, options: Options, labels: int | None) -> float | None:
    own = check_record_bytes(WHERE, options.record_bytes)
    if privilege in own:
        return own[privilege]
    if labels is None:
        if privilege == "soft_labels" and options.top is None:
            return None
        labels = 2**17  # labels of up to 17 bits take limbeck's usual 3 bytes
    return bytes_per_query(
        privilege,
        labels,
        draws=None if privilege == "soft_labels" else options.draws,
        unique=None if privilege == "soft_labels" else options.unique,
        top=options.top,
        value_bytes=options.value_bytes,
    )


def _ratio(poorer: Need, better: Need) -> float | None:
    if poorer.planning is None or better.planning is None or not better.planning:
        return None
    return poorer.planning / better.planning


def _cheapest(plans: Mapping[Privilege, PrivilegePlan]) -> Privilege | None:
    costs: dict[Privilege, float] = {
        one: made.cost for one, made in plans.items() if made.cost is not None
    }
    return min(costs, key=lambda one: costs[one]) if costs else None


def _notes(options: Options, plans: Mapping[Privilege, PrivilegePlan]) -> list[str]:
    found = [SCOPE]
    hard = plans["hard_labels"].impossible_below
    richer = max(plans[one].impossible_below or 0 for one in PRIVILEGES[1:])
    if hard is not None and hard < richer and options.draws is None:
        found.append(
            f"a label alone says less than one with its probability: impossible below {richer:,} "
            "for hard_labels too."
        )
    labels = options.labels
    if labels is not None and options.goal >= 1 - 1 / labels:
        found.append("the even row is within this error of every teacher: no query is needed.")
    if options.horizon is not None:
        found.append(
            f"a query is a token: {options.horizon:,} of them make a response, whose error is at "
            "most the sum of theirs. Tokens of one response are dependent, which this leaves out."
        )
    if options.language_model:
        found.append("a language model: only the pilot's own measurements are used.")
    return found
