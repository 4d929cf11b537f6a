"""Queries that a target error needs for a student with p free parameters: a measured rule."""

from __future__ import annotations

import math

from limbeck.checks import check_between, check_positive
from limbeck.limits.bounds.arguments import Number, check_domain, check_error
from limbeck.limits.planning.needs import Need, Needs
from limbeck.teacher_record import PRIVILEGES, Privilege


def parametric_needs(
    *,
    parameters: int,
    labels: int,
    error: Number,
    floor: Number = 0.0,
    effective_labels: Number | None = None,
) -> Needs:
    r"""Return what each privilege needs for an error when the student has p free parameters.

    .. math:: n_1 = \frac{p}{2 \pi (\varepsilon - \varepsilon_0)^2}, \qquad n_2 = 2 p, \qquad
              n_3 = \frac{p}{A_{eff} - 1}

    Hard labels average their noise away; numbers pin the parameters down: as soon as there are as
    many of them as parameters, a student that can equal its teacher does so, up to its optimiser.

    Args:
        parameters: p, free parameters of the student: those a softmax or a symmetry ignores do not
            count.
        labels: A, at least 2.
        error: epsilon, in (0, 1).
        floor: epsilon_0, the error of the best student of the class, measured with full rows; 0
            for a student that can equal its teacher.
        effective_labels: A_eff, from a pilot with soft labels, above 1; A where it is not known.

    Returns:
        A need a privilege, to plan with only: nothing here is proved. "not reachable" where the
        floor is no less than the error.

    Raises:
        ArgumentError: If a number is outside of its range.

    Example:
        628 / (2 pi 0.01) is some 10,000.

        >>> needs = parametric_needs(parameters=628, labels=11, error=0.1)
        >>> [round(need.planning) for need in needs.values()]
        [9995, 1256, 63]

    Source:
        Observed on seven log-linear models and networks, where the first was within 0.7 to 1.07;
        the second is the upper end of p to 2p; the error scale is the optimiser's, not epsilon.
    """
    where = "parametric_needs"
    check_domain(where, inputs=1, labels=labels)
    check_error(where, error)
    check_positive(where, parameters=parameters)
    check_between(where, 0.0, 1.0, floor=floor)
    width = labels if effective_labels is None else effective_labels
    check_positive(where, effective_labels_less_one=width - 1)
    assumption = (
        f"parametric rule, observed and not proved: {parameters:,} free parameters, "
        + (f"floor {floor:g}" if floor else "a student that can equal its teacher")
        + (f", {width:g} effective labels" if effective_labels is not None else "")
    )
    if floor >= error:
        note = (
            f"the best student of the class is {floor:g} away, no less than the error: take a "
            "larger student."
        )
        need = Need(None, assumption, "parametric rule", status="not reachable", notes=(note,))
        return dict.fromkeys(PRIVILEGES, need)
    planned: dict[Privilege, float] = {
        "hard_labels": parameters / (2 * math.pi * (error - floor) ** 2),
        "sampled_probabilities": 2.0 * parameters,
        "soft_labels": parameters / (width - 1),
    }
    return {
        privilege: Need(queries, assumption, "parametric rule")
        for privilege, queries in planned.items()
    }
