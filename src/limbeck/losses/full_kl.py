"""Plain KL divergence of class distributions: soft labels as they are."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limbeck.losses.kd import kd_loss


def full_kl_loss(
    student_logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    r"""Match the student's class distribution to the whole of the teacher's.

    .. math:: \mathrm{KL}(t \,\|\, p) = \sum_a t(a) \log \frac{t(a)}{p(a)}

    It is :func:`~limbeck.losses.kd_loss` at temperature 1 (``loss={"name": "kd", "temperature":
    1.0}``): what the losses on sampled labels estimate.

    Args:
        student_logits: The student's logits; gradients flow into these.
        teacher_logits: The teacher's logits, or its log-probabilities; detached here.

    Returns:
        The batch mean [nats], at least zero; zero when the two distributions agree.

    Raises:
        ShapeError: If the two logits differ in shape.

    Example:
        3/4 and 1/4 against 1/2 and 1/2: 0.75 ln 1.5 + 0.25 ln 0.5.

        >>> import torch
        >>> full_kl_loss(torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]).log())
        tensor(0.1308)

    Source:
        Zhao and Zhu (2024), arXiv:2310.07838, equation 5.2.
    """
    return kd_loss(student_logits, teacher_logits, temperature=1.0)
