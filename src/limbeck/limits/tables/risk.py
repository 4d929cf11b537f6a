"""The risk of a student whose teacher is known: total variation averaged over inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from limbeck.checks import DataError, ShapeError
from limbeck.limits.tables.dense import total_variation
from limbeck.limits.tables.laws import Rows, checked_law, checked_rows


CELLS = 1 << 22  # of a row matrix that is held at once


def risk_of(
    student: ArrayLike | Rows,
    input_law: ArrayLike,
    teacher: ArrayLike | Rows,
    *,
    inputs: ArrayLike | None = None,
) -> float:
    r"""Return how far a student is from its teacher, on average over inputs.

    .. math:: R(\hat\pi) = \sum_s \rho(s) \, \mathrm{TV}(\hat\pi(\cdot | s), \pi^*(\cdot | s))

    Student and teacher may be matrices or callables that answer with rows, which are asked for a
    few inputs at a time: then no whole matrix is ever held.

    Args:
        student: Rows [inputs, labels], or a callable from indices to rows, such as a
            :class:`limbeck.limits.tables.table.Table`.
        input_law: rho, a probability for each input; 0 leaves an input out.
        teacher: Rows or a callable, as ``student``.
        inputs: The indices that ``input_law`` speaks of; None for 0, 1, 2, ...

    Returns:
        In [0, 1]: 0 for a perfect student.

    Raises:
        ShapeError: If lengths or widths differ.
        DataError: If laws do not sum to 1 or indices are no integers >= 0.

    Example:
        0.8 * 0 + 0.2 * 0.25.

        >>> rows = [[0.5, 0.5], [0.75, 0.25]]
        >>> round(risk_of([[0.5, 0.5], [0.5, 0.5]], [0.8, 0.2], rows), 12)
        0.05

    Source:
        Zhao and Zhu (2023), arXiv:2310.07838, equation 2.1.
    """
    rho = checked_law("risk_of", "input_law", input_law)
    at = np.arange(len(rho)) if inputs is None else np.asarray(inputs)
    if at.shape != rho.shape:
        raise ShapeError(
            f"risk_of: expected one index for each of {len(rho)} probabilities; got shape "
            f"{at.shape}. Cut them alike."
        )
    if not np.issubdtype(at.dtype, np.integer) or at.min() < 0:
        raise DataError(
            f"risk_of: expected `inputs` as integers >= 0; got {at.dtype} with smallest "
            f"{at.min()}. Number the inputs."
        )
    of_student, of_teacher = _answers("student", student), _answers("teacher", teacher)
    kept = np.flatnonzero(rho)
    width = of_teacher(at[kept[:1]]).shape[1]
    step, total = max(1, CELLS // width), 0.0
    for start in range(0, len(kept), step):
        part = kept[start : start + step]
        said, right = of_student(at[part]), of_teacher(at[part])
        if said.shape != right.shape or len(said) != len(part):
            raise ShapeError(
                f"risk_of: expected one row an input from student and teacher alike; got "
                f"{said.shape} and {right.shape} for {len(part)} inputs. Give both all labels."
            )
        total += float(rho[part] @ total_variation(said, right))
    return total


def _answers(name: str, given: ArrayLike | Rows) -> Callable[[np.ndarray], np.ndarray]:
    if callable(given):
        ask: Rows = given
        return lambda inputs: checked_rows("risk_of", name, ask(inputs))
    rows = checked_rows("risk_of", name, given)

    def look_up(inputs: np.ndarray) -> np.ndarray:
        if len(inputs) and inputs.max() >= len(rows):
            raise ShapeError(
                f"risk_of: expected `{name}` to have a row for input {inputs.max()}; got "
                f"{len(rows)} rows. Give one row an input."
            )
        return rows[inputs]

    return look_up
