"""Draw docs/figures/hull_simplex.svg: what a teacher has to distil, as distances in the simplex.

Three classes. The student tells 0 from 1 better than the teacher and knows nothing of 2, which the
teacher sees. The student's posteriors span a line; the teacher's lie outside of what its mixtures
can say: how far, in bits, is a lower bound of what is distillable. The set that is best (dashed;
from the exact solver's dual variables) gives all of it. Both figures are computed here.

    python docs/figures/hull_simplex.py
"""

from pathlib import Path

import matplotlib as mpl


mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from limbeck import broja_pid
from limbeck.information.hull import project


TEACHER = np.array([[0.70, 0.25, 0.05], [0.25, 0.70, 0.05], [0.10, 0.10, 0.80]])  # [y, t]
STUDENT = np.array([[0.90, 0.10], [0.10, 0.90], [0.50, 0.50]])  # [y, s]
CORNERS = np.array([[0.5, np.sqrt(3) / 2], [0.0, 0.0], [1.0, 0.0]])


def distances(rows: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest point of the vertices' hull for each row, and how far it is [bits]."""
    weights = project(torch.tensor(rows), torch.tensor(vertices), steps=20_000).numpy()
    nearest = weights @ vertices
    return nearest, (rows * np.log2(rows / nearest)).sum(1)


def main() -> None:
    pmf = TEACHER[:, :, None] * STUDENT[:, None, :] / 3
    teacher, student = (pmf.sum(axis) for axis in (2, 1))  # pair tables
    p_t, p_s = (teacher / teacher.sum(0)).T, (student / student.sum(0)).T
    exact = broja_pid(pmf)
    assert exact.certificate is not None
    best = np.exp(exact.certificate.student_dual).T
    nearest, far = distances(p_t, p_s)
    bound = float(teacher.sum(0) @ far)
    value = float(
        teacher.sum(0) @ distances(p_t, best)[1] - student.sum(0) @ distances(p_s, best)[1]
    )

    figure, axis = plt.subplots(figsize=(6.4, 5.6))
    axis.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.6", lw=1)
    for corner, name in zip(CORNERS, ("class 0", "class 1", "class 2"), strict=True):
        outward = corner - CORNERS.mean(0)
        axis.text(*(corner + 0.09 * outward), name, ha="center", va="center")
    axis.plot(*(p_s @ CORNERS).T, "-", color="C0", lw=3, alpha=0.35)
    axis.plot(*(p_s @ CORNERS).T, "o", color="C0", label="student's posteriors and their mixtures")
    shape = best / best.sum(1, keepdims=True)
    axis.plot(*(shape @ CORNERS).T, "--", color="0.3", lw=1, label="the best set")
    axis.plot(*(p_t @ CORNERS).T, "s", color="C3", label="teacher's posteriors")
    for point, foot, bits in zip(p_t @ CORNERS, nearest @ CORNERS, far, strict=True):
        axis.annotate("", foot, point, arrowprops={"arrowstyle": "->", "color": "C3", "lw": 1.2})
        axis.text(*(0.5 * (point + foot) + [0.015, 0.02]), f"{bits:.2f} bits", color="C3")
    axis.set_title(
        f"outside of the student's mixtures: {bound:.3f} bits;\n"
        f"by the best set {value:.3f} bits, exactly distillable {exact.distillable:.3f} bits",
        pad=28,
    )
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, -0.28), frameon=False, ncols=1)
    axis.set_aspect("equal")
    axis.axis("off")
    out = Path(__file__).with_suffix(".svg")
    figure.savefig(out, bbox_inches="tight", metadata={"Date": None})
    print(f"{bound:.6f} {value:.6f} {exact.distillable:.6f}")


if __name__ == "__main__":
    main()
