"""From a model's outputs to the matrices that losses compare."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from limbeck.checks import ArgumentError, LayerError, ShapeError, nearest
from limbeck.losses.answers import refused
from limbeck.losses.numerics import at_least_float32
from limbeck.types import Batch, Outputs


def pooled(features: Float[Tensor, "batch ..."], batch: Batch) -> Float[Tensor, "batch width"]:
    """Average features over space or tokens, so that one vector a sample is left.

    Maps [batch, channels, height, width] are averaged over both spatial axes; token states
    [batch, tokens, width] over the tokens, of which only those with a true entry in
    ``batch.inputs["attention_mask"]`` count where there is one (a sample without any such token
    gives zeros); vectors [batch, width] are returned as they are.

    Args:
        features: Output of a layer.
        batch: The rows that the features were computed from.

    Returns:
        One vector a sample, in float32 at least where something was averaged.

    Raises:
        ShapeError: If the features have another number of axes, or the mask another number of
            tokens.

    Example:
        >>> import torch
        >>> rows = torch.arange(2)
        >>> words = {"attention_mask": torch.tensor([[1, 1], [1, 0]])}
        >>> states = torch.tensor([[[1.0], [3.0]], [[5.0], [99.0]]])
        >>> pooled(states, Batch(words, None, rows, rows))
        tensor([[2.],
                [5.]])
    """
    if features.ndim == 2:
        return features
    (wide,) = at_least_float32(features)
    if features.ndim == 4:
        return wide.mean(dim=(2, 3))
    if features.ndim != 3:
        raise ShapeError(
            "pooled: expected features [batch, width], [batch, tokens, width] or [batch, channels, "
            f"height, width]; got {tuple(features.shape)}. Choose a layer with such an output."
        )
    mask = batch.inputs.get("attention_mask") if isinstance(batch.inputs, dict) else None
    if mask is None:
        return wide.mean(dim=1)
    if mask.shape != features.shape[:2]:
        raise ShapeError(
            f"pooled: expected one token state for each entry of the attention mask "
            f"{tuple(mask.shape)}; got features {tuple(features.shape)}. "
            "Choose a layer that keeps the tokens, or one that is already pooled."
        )
    kept = mask.to(wide.dtype)[:, :, None]
    # A multiplication would keep the NaN that some models leave at padded positions.
    return wide.masked_fill(kept == 0, 0.0).sum(dim=1) / kept.sum(dim=1).clamp_min(1.0)


def feature_of(where: str, side: str, outputs: Outputs, layer: str) -> Tensor:
    """Return the output of ``layer``, or raise LayerError that names those present."""
    if layer not in outputs.features:
        present = ", ".join(outputs.features) or "none"
        raise LayerError(
            f"{where}: expected layer {layer!r} among the {side}'s features; got {present}."
            f"{nearest(layer, outputs.features)} Ask for it with `layer=`, or capture it."
        )
    return outputs.features[layer]


def logits_of(where: str, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    """Return the logits of both, or raise ArgumentError that names who has none.

    Where the teacher gave answers instead, the losses that can learn from them are named.
    """
    if teacher.logits is None and teacher.answers is not None:
        raise refused(where, "the teacher's logits, whole rows of class scores", teacher.answers)
    missing = [
        name for name, said in (("student", student), ("teacher", teacher)) if said.logits is None
    ]
    if student.logits is None or teacher.logits is None:
        raise ArgumentError(
            f"{where}: expected logits from student and teacher; got none from "
            f"{' and '.join(missing)}. Keep the logits, or choose a loss on features."
        )
    return student.logits, teacher.logits


def logits_of_student(where: str, student: Outputs) -> Tensor:
    """Return the student's logits, or raise ArgumentError."""
    if student.logits is None:
        raise ArgumentError(
            f"{where}: expected logits from the student; got none. Keep the logits, or choose a "
            "loss on features."
        )
    return student.logits
