"""From samples to a decomposition with confidence intervals."""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
from torch import Tensor

from limbeck.checks import ArgumentError, check_choice
from limbeck.information import samples
from limbeck.information.estimating import Given, by_cells, by_clusters, by_gaussian, by_hull
from limbeck.information.pid_estimate import PIDEstimate
from limbeck.information.probes import Probe, floored


METHODS = ("hull", "cells", "kmeans", "gaussian")

Array = np.ndarray | Tensor


def estimate_pid(
    targets: Array,
    teacher_features: Array,
    student_features: Array,
    *,
    method: str = "hull",
    n_symbols: int | None = None,
    seed: int = 0,
    teacher_posteriors: Array | None = None,
    student_posteriors: Array | None = None,
    fitted: MutableMapping[tuple[str, str], Probe] | None = None,
) -> PIDEstimate:
    r"""Estimate what teacher and student representations know about the targets, and share.

    .. math:: I_\cup = H(Y) + \max_B E\,[\log b_S(y) + \log p_T(y) - \log b_T(y)], \qquad
              B = \mathrm{conv}(b_1, \dots, b_k)

    for the default ``method="hull"``, where :math:`b_T` and :math:`b_S` are the points of B nearest
    to the posteriors of a row. Posteriors come from probes that are cross-fitted, the hull from
    other rows than those it is evaluated on; nothing is made into symbols. What the probes lack
    is extrapolated from a quarter of the rows.

    Args:
        targets: Class numbers [n]; for ``method="gaussian"`` also floats [n] or [n, d].
        teacher_features: The teacher's representation [n, d_t], finite.
        student_features: The student's [n, d_s].
        method: ``"hull"``; ``"cells"``, the probes' posteriors clustered to symbols and solved
            exactly; ``"kmeans"``, principal components clustered without labels, as Dissanayake et
            al. do; ``"gaussian"``, on the assumption that all is jointly Gaussian.
        n_symbols: Of ``cells`` (default: 2 a class, at most 50) and ``kmeans`` (default: 1 a class,
            at most 50).
        seed: Of folds, starts and permutations; equal seeds give equal results.
        teacher_posteriors: The teacher's own output probabilities [n, classes], where the features
            are those that they are made of: they join the probes. Of rows that it was not trained
            on.
        student_posteriors: The student's.
        fitted: A dict that probes are kept in by side and content: with the same one, a later call
            does not fit again what it was given before, such as the teacher of many students.

    Returns:
        The atoms with 95 % intervals [bits]. Zero distillable means that the student can say
        whatever the teacher can.

    Raises:
        ShapeError: If the numbers of rows differ, or features are not matrices.
        DataError: If values are not finite, targets are not class numbers, or rows or classes are
            too few.
        ArgumentError: If an option is unknown or has no meaning for the method.

    Note:
        At most 200,000 rows are used, chosen by the seed. Features beyond 512 columns are reduced
        to principal components. Time and memory grow with rows times classes:
        ``benchmarks/measure.py`` has both for 10, 100 and 1,000 classes.

    Example:
        The teacher sees the class, the student only which half it is in.

        >>> random = np.random.default_rng(0)
        >>> classes = random.integers(4, size=2000)
        >>> teacher = np.eye(4)[classes] + 0.1 * random.normal(size=(2000, 4))
        >>> student = np.eye(2)[classes // 2] + 0.1 * random.normal(size=(2000, 2))
        >>> found = estimate_pid(classes, teacher, student)
        >>> [round(found.distillable.value, 1), round(found.distilled.value, 1), found.verdict]
        [1.0, 1.0, 'distil']

    Source:
        Bertschinger, Rauh, Olbrich, Jost and Ay (2014), arXiv:1311.2852, for the decomposition;
        Dissanayake et al. (2025), arXiv:2411.07483, for its meaning in distillation. The hull form
        of its dual is limbeck's.
    """
    where = "estimate_pid"
    check_choice(where, "method", method, METHODS)
    if n_symbols is not None and (method not in ("cells", "kmeans") or n_symbols < 2):
        raise ArgumentError(
            f"{where}: expected `n_symbols` >= 2 with method 'cells' or 'kmeans'; got {n_symbols} "
            f"with {method!r}. Leave it out."
        )
    teacher = samples.features(where, "teacher_features", teacher_features)
    student = samples.features(where, "student_features", student_features)
    samples.same_rows(where, targets=targets, teacher_features=teacher, student_features=student)
    if method == "gaussian":
        return by_gaussian(samples.array(targets), teacher, student, seed)
    labels, classes = samples.labels(where, targets)
    own = {
        "teacher": samples.posteriors(
            where, "teacher_posteriors", teacher_posteriors, classes, len(labels)
        ),
        "student": samples.posteriors(
            where, "student_posteriors", student_posteriors, classes, len(labels)
        ),
    }
    rows = samples.chosen_rows(len(labels), seed)
    given = Given(
        labels[rows],
        classes,
        teacher[rows],
        student[rows],
        {side: None if p is None else p[rows] for side, p in own.items()},
        len(labels),
        seed,
        samples.device_of(teacher_features),
        {} if fitted is None else fitted,
    )
    if method == "hull":
        return by_hull(given)
    return by_cells(given, n_symbols) if method == "cells" else by_clusters(given, n_symbols)


def pid_from_posteriors(
    targets: Array,
    teacher_posteriors: Array,
    student_posteriors: Array,
    *,
    method: str = "hull",
    seed: int = 0,
) -> PIDEstimate:
    """Estimate the decomposition from class probabilities alone, such as an API gives.

    They are recalibrated by cross-fitting: being overconfident costs a network nothing here.

    Args:
        targets: Class numbers [n].
        teacher_posteriors: Probabilities [n, classes] that sum to one, of rows that the teacher
            was not trained on.
        student_posteriors: The student's, of the same rows.
        method: ``"hull"`` or ``"cells"``; see :func:`estimate_pid`.
        seed: Equal seeds give equal results.

    Returns:
        The atoms with 95 % intervals [bits].

    Raises:
        ShapeError: If the numbers of rows or classes differ.
        DataError: If a row is no distribution, or rows or classes are too few.
        ArgumentError: If ``method`` is unknown.

    Example:
        A teacher that is right and sure, a student that always says the same.

        >>> classes = np.arange(2000) % 2
        >>> found = pid_from_posteriors(classes, np.eye(2)[classes], np.full((2000, 2), 0.5))
        >>> round(found.distillable.value, 2), round(found.distilled.value, 2)
        (1.0, 0.0)
    """
    where = "pid_from_posteriors"
    check_choice(where, "method", method, ("hull", "cells"))
    samples.same_rows(
        where,
        targets=targets,
        teacher_posteriors=teacher_posteriors,
        student_posteriors=student_posteriors,
    )
    labels, classes = samples.labels(
        where, targets, known=samples.columns(where, teacher_posteriors)
    )
    found = [
        samples.posteriors(where, name, given, classes, len(labels))
        for name, given in (
            ("teacher_posteriors", teacher_posteriors),
            ("student_posteriors", student_posteriors),
        )
    ]
    rows = samples.chosen_rows(len(labels), seed)
    teacher, student = (floored(p[rows]) for p in found if p is not None)
    said, answered = (p - p.mean(1, keepdims=True) for p in (np.log(teacher), np.log(student)))
    given = Given(
        labels[rows],
        classes,
        said,
        answered,
        {"teacher": teacher, "student": student},
        len(labels),
        seed,
        samples.device_of(teacher_posteriors),
    )
    if method == "hull":
        return by_hull(given)
    return by_cells(given, None)
