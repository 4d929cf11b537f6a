"""Matrix-based Renyi entropy and mutual information of features."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float, Real
from scipy.special import logsumexp
from torch import Tensor

from limbeck.checks import ArgumentError, DataError, ShapeError, check_choice, check_positive


KERNELS = ("gaussian", "cosine", "linear")
SYMMETRY = 1e-6  # of the trace: how far a matrix may be from symmetric and positive


def gram_matrix(
    features: Real[np.ndarray, "n width"] | Real[Tensor, "n width"],
    *,
    kernel: Literal["gaussian", "cosine", "linear"] = "gaussian",
    bandwidth: float | None = None,
) -> Float[np.ndarray, "n n"]:
    r"""Return the similarities of samples as a matrix of trace one.

    .. math:: A = \frac{K}{\mathrm{tr} K}, \qquad
              K_{ij} = e^{-\|x_i - x_j\|^2 / 2 \sigma^2}, \quad
              \frac{\langle x_i, x_j \rangle}{\|x_i\| \|x_j\|} \quad\text{or}\quad
              \langle x_i, x_j \rangle

    Args:
        features: One row a sample; array or tensor, which is detached. Float64 is used throughout.
        kernel: "gaussian", "cosine" or "linear". Rows of zeros have no direction: for "cosine"
            they are alike among themselves and orthogonal to the others.
        bandwidth: :math:`\sigma` of "gaussian", above zero; None takes the median distance of the
            pairs of samples that differ.

    Returns:
        A, float64 [n, n]: symmetric, positive semi-definite, of trace one. Memory is of order n².

    Raises:
        ShapeError: If the features are not a matrix.
        DataError: If there are no samples, values are not finite, or all are zero for "linear".
        ArgumentError: If there is no such kernel, or ``bandwidth`` is not above zero or is given
            for another kernel.

    Example:
        Orthogonal samples are not alike at all.

        >>> gram_matrix(np.eye(2), kernel="cosine")
        array([[0.5, 0. ],
               [0. , 0.5]])

    Source:
        Sanchez Giraldo, Rao and Principe (2015), arXiv:1211.2459, for the Gram matrix; the median
        of distances is a common rule for its width.
    """
    check_choice("gram_matrix", "kernel", kernel, KERNELS)
    rows = _array(features)
    if rows.ndim != 2:
        raise ShapeError(
            f"gram_matrix: expected features [n, width]; got shape {rows.shape}. "
            "Pool or flatten them to one row a sample."
        )
    if not len(rows) or not np.isfinite(rows).all():
        raise DataError(
            f"gram_matrix: expected finite features of at least one sample; got {len(rows)} "
            f"samples, {np.count_nonzero(~np.isfinite(rows))} values not finite. Drop those "
            "samples or look for what made them."
        )
    if bandwidth is not None:
        if kernel != "gaussian":
            raise ArgumentError(
                f"gram_matrix: expected `bandwidth` with the kernel gaussian alone; got {kernel}. "
                "Leave it out."
            )
        check_positive("gram_matrix", bandwidth=bandwidth)
    if kernel == "gaussian":
        matrix = _gaussian(rows, bandwidth)
    else:
        matrix = _products(rows if kernel == "linear" else _directions(rows))
    trace = float(matrix.trace())
    if trace == 0:
        raise DataError(
            "gram_matrix: expected some feature that is not zero; got zeros only. "
            "Use the kernel 'gaussian' or 'cosine'."
        )
    return matrix / trace


def renyi_entropy(
    gram: Float[np.ndarray, "n n"] | Float[Tensor, "n n"], *, alpha: float = 2.0
) -> float:
    r"""Return the matrix-based Renyi entropy of samples from their Gram matrix.

    .. math:: S_\alpha(A) = \frac{1}{1 - \alpha} \log_2 \mathrm{tr}(A^\alpha)
              = \frac{1}{1 - \alpha} \log_2 \sum_i \lambda_i^\alpha, \qquad
              S_2(A) = -\log_2 \|A\|_F^2

    with :math:`\lambda` the eigenvalues of the matrix, divided by its trace; at alpha = 1 it is
    their Shannon (von Neumann) entropy, to which the formula tends.

    Args:
        gram: Symmetric positive semi-definite matrix over samples, such as :func:`gram_matrix`;
            array or tensor, which is detached. It is divided by its trace.
        alpha: Order, above zero. At 2 no eigenvalue is computed.

    Returns:
        The entropy [bits], in [0, log2 n]; zero where all samples are alike, log2 n where none is
        like another. It depends on the kernel and on n: compare only where both are the same.

    Raises:
        ShapeError: If the matrix is not square.
        DataError: If it is empty, not finite, not symmetric, of no positive trace, or (except at
            alpha = 2, where it is not looked at) not positive semi-definite.
        ArgumentError: If ``alpha`` is not above zero.

    Example:
        Eigenvalues 3/4 and 1/4: -log2(9/16 + 1/16) = 0.6781.

        >>> round(renyi_entropy(np.diag([3.0, 1.0])), 4)
        0.6781

    Note:
        Eigenvalues below n times the rounding of float64 count as zero: at a small alpha those of
        a singular matrix would add up to an entropy otherwise.

    Source:
        Sanchez Giraldo, Rao and Principe (2015), arXiv:1211.2459, definition 2; alpha = 2 as in
        Miles, Lopez Rodriguez and Mikolajczyk (2022), arXiv:2112.00459.
    """
    check_positive("renyi_entropy", alpha=alpha)
    return _entropy(_checked("renyi_entropy", gram), alpha, "renyi_entropy")


def renyi_mutual_information(
    first: Float[np.ndarray, "n n"] | Float[Tensor, "n n"],
    second: Float[np.ndarray, "n n"] | Float[Tensor, "n n"],
    *,
    alpha: float = 2.0,
) -> float:
    r"""Return the matrix-based Renyi mutual information of two features of the same samples.

    .. math:: I_\alpha(A; B) = S_\alpha(A) + S_\alpha(B)
              - S_\alpha\Bigl(\frac{A \circ B}{\mathrm{tr}(A \circ B)}\Bigr)

    with the product entry by entry. No density is estimated, and widths may differ.

    Args:
        first: Gram matrix of the one, as for :func:`renyi_entropy`.
        second: Gram matrix of the other, rows in the same order.
        alpha: Order, above zero. At 2 no eigenvalue is computed.

    Returns:
        The mutual information [bits]; zero where one of both tells no samples apart. With equal
        entries on each diagonal (kernels "gaussian" and "cosine") it is at most the smaller of
        both entropies. It is not Shannon's: its level depends on kernels and n, so compare it
        between students for the same samples and kernels.

    Raises:
        ShapeError: If the matrices are not square or differ in size.
        DataError: As for :func:`renyi_entropy`, or if no sample has weight in both.
        ArgumentError: If ``alpha`` is not above zero.

    Example:
        Four samples in two pairs: the features tell the pairs apart, 1 bit; the same for both.

        >>> pairs = np.kron(np.eye(2), np.ones((2, 2)))
        >>> renyi_mutual_information(pairs, pairs)
        1.0

    Source:
        Sanchez Giraldo, Rao and Principe (2015), arXiv:1211.2459, section on joint entropy.
    """
    name = "renyi_mutual_information"
    check_positive(name, alpha=alpha)
    one, other = _checked(name, first), _checked(name, second)
    if one.shape != other.shape:
        raise ShapeError(
            f"{name}: expected matrices over the same samples; got shapes {one.shape} and "
            f"{other.shape}. Make both from the same rows."
        )
    joint = one * other
    trace = float(joint.trace())
    if trace <= 0:
        raise DataError(
            f"{name}: expected samples with weight in both matrices; got a joint trace of "
            f"{trace:.1e}. Use the kernel 'gaussian' or 'cosine'."
        )
    of_one, of_other, of_both = (
        _entropy(matrix, alpha, name) for matrix in (one, other, joint / trace)
    )
    return of_one + of_other - of_both


def _array(values: np.ndarray | Tensor) -> Float[np.ndarray, "*shape"]:
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _products(rows: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n n"]:
    products = rows @ rows.T
    return 0.5 * (products + products.T)


def _directions(rows: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n more"]:
    """Return rows of norm one; those of zeros get a dimension of their own."""
    # Divided by the largest entry first: squares of tiny or huge rows are not representable.
    rows = rows / np.maximum(np.abs(rows).max(1, initial=0.0, keepdims=True), 1e-300)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = norms == 0
    return np.concatenate([rows / np.where(zero, 1.0, norms), zero], 1)


def _gaussian(rows: Float[np.ndarray, "n width"], bandwidth: float | None) -> np.ndarray:
    centred = rows - rows.mean(0)
    products = _products(centred)
    norms = products.diagonal()
    squares = np.maximum(norms[:, None] + norms - 2.0 * products, 0.0)
    # What is left of the norms by rounding is no distance.
    squares[squares <= 1e-14 * (norms[:, None] + norms)] = 0.0
    if bandwidth is None:
        apart = squares[np.triu_indices(len(rows), 1)]
        apart = apart[apart > 0]
        width = float(np.median(np.sqrt(apart))) if apart.size else 1.0
    else:
        width = bandwidth
    return np.exp(-0.5 * squares / width**2)


def _checked(
    where: str, gram: Float[np.ndarray, "n n"] | Float[Tensor, "n n"]
) -> Float[np.ndarray, "n n"]:
    """Return the matrix in float64, of trace one."""
    matrix = _array(gram)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"{where}: expected a square Gram matrix; got shape {matrix.shape}. "
            "Make one from features with gram_matrix."
        )
    trace = float(matrix.trace())
    if not np.isfinite(matrix).all() or trace <= 0:
        raise DataError(
            f"{where}: expected a finite matrix of positive trace; got a trace of {trace:.3g} for "
            f"{len(matrix)} samples. Make one from features with gram_matrix."
        )
    matrix = matrix / trace
    skew = float(np.abs(matrix - matrix.T).max())
    if skew > SYMMETRY:
        raise DataError(
            f"{where}: expected a symmetric matrix; got entries that differ from their mirror by "
            f"{skew:.1e} of the trace. Use a kernel that does not depend on the order."
        )
    return matrix


def _entropy(matrix: Float[np.ndarray, "n n"], alpha: float, where: str) -> float:
    """Return the Renyi entropy of a matrix of trace one [bits]."""
    if alpha == 2.0:
        return max(-math.log2(float(np.vdot(matrix, matrix))), 0.0)
    values = np.linalg.eigvalsh(matrix)
    if values[0] < -SYMMETRY:
        raise DataError(
            f"{where}: expected a positive semi-definite matrix; got an eigenvalue of "
            f"{values[0]:.1e} at trace one. Use a positive definite kernel."
        )
    values = values[values > len(values) * np.finfo(np.float64).eps]
    values = values / values.sum()
    logs = np.log(values)
    if alpha == 1.0:
        return max(-float((values * logs).sum()) / math.log(2.0), 0.0)
    # The sum of powers less one, without cancellation where alpha is close to 1.
    beyond = float((values * np.expm1((alpha - 1.0) * logs)).sum())
    total = math.log1p(beyond) if abs(beyond) < 0.5 else float(np.asarray(logsumexp(alpha * logs)))
    return max(total / (1.0 - alpha) / math.log(2.0), 0.0)
