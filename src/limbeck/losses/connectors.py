"""What losses on features share: layers of both sides, equal sizes, seeded connectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.checks import ArgumentError, ShapeError
from limbeck.losses.features import feature_of, pooled
from limbeck.losses.numerics import at_least_float32, without_autocast
from limbeck.randomness import generator
from limbeck.types import Batch, Outputs


Names = str | Sequence[str]
Layer = Names | Mapping[str, Names]
SIDES = ("student", "teacher")
STAGES = ("layer1", "layer2", "layer3")
Module = TypeVar("Module", bound=nn.Module)


class Pair(NamedTuple):
    """Features of one layer of the student and of the one of the teacher that it is matched to.

    Attributes:
        where: The loss and both layers, for messages.
        student: [batch, channels, *positions]; positions are two axes for maps, one for tokens,
            none for vectors.
        teacher: The same of the teacher, detached.
        mask: Which tokens count, [batch, tokens]; None where all positions do.
    """

    where: str
    student: Tensor
    teacher: Tensor
    mask: Tensor | None


def layer_names(where: str, layer: Layer, *, one: bool = False) -> dict[str, tuple[str, ...]]:
    """Return the layer names of "student" and "teacher" from what a user may write.

    Args:
        where: Name of the loss, for messages.
        layer: A name, or several, for both sides; or a mapping of the two sides to these.
        one: Whether the loss takes one layer of each side only.

    Returns:
        As many names for the student as for the teacher, at least one.

    Raises:
        ArgumentError: If a side is missing, or the numbers of names are not as said.

    Example:
        >>> layer_names("AT", {"student": "stage3", "teacher": ["layer3"]})
        {'student': ('stage3',), 'teacher': ('layer3',)}
    """
    given = layer if isinstance(layer, Mapping) else dict.fromkeys(SIDES, layer)
    if set(given) != set(SIDES):
        raise ArgumentError(
            f"{where}: expected `layer` to be a name or a dict with the keys student and teacher; "
            f"got the keys {', '.join(map(str, given)) or 'none'}."
        )
    names = {
        side: (found,) if isinstance(found := given[side], str) else tuple(found) for side in SIDES
    }
    counts = [len(names[side]) for side in SIDES]
    if 0 in counts or counts[0] != counts[1] or (one and counts[0] > 1):
        wanted = "one layer of each side" if one else "as many layers of the student as of the "
        raise ArgumentError(
            f"{where}: expected {wanted if one else wanted + 'teacher, at least one'}; got "
            f"student {', '.join(names['student']) or 'none'}, teacher "
            f"{', '.join(names['teacher']) or 'none'}. They are matched in this order."
        )
    return names


def pairs_of(
    where: str,
    layers: Mapping[str, tuple[str, ...]],
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
) -> list[Pair]:
    """Return the features that are matched, channels first, in float32 at least.

    Args:
        where: Name of the loss, for messages.
        layers: As :func:`layer_names` gives them.
        student: The student's outputs.
        teacher: The teacher's outputs; its features are detached here.
        batch: The rows they were computed from, with the attention mask of token states.

    Raises:
        LayerError: If a layer is not among the features.
        ShapeError: If one side has maps and the other vectors or tokens, or the tokens differ.
    """
    found = []
    for mine, theirs in zip(layers["student"], layers["teacher"], strict=True):
        one = feature_of(where, "student", student, mine)
        two = feature_of(where, "teacher", teacher, theirs).detach()
        both = f"student {mine!r} {tuple(one.shape)}, teacher {theirs!r} {tuple(two.shape)}"
        tokens = one.ndim == 3
        mask = _attention(batch) if tokens else None
        if one.ndim != two.ndim or one.ndim not in (2, 3, 4) or len(one) != len(two):
            raise ShapeError(
                f"{where}: expected vectors, token states or maps of the same rows on both sides; "
                f"got {both}. Choose layers of one kind with `layer=`."
            )
        if tokens and (
            one.shape[1] != two.shape[1] or (mask is not None and mask.shape != one.shape[:2])
        ):
            hidden = "" if mask is None else f", attention mask {tuple(mask.shape)}"
            raise ShapeError(
                f"{where}: expected as many tokens on both sides; got {both}{hidden}. "
                "Use models with one tokeniser, or a pooled layer."
            )
        one, two = at_least_float32(one, two)
        if tokens:
            one, two = one.transpose(1, 2), two.transpose(1, 2)
        if mask is not None:
            # Not a multiplication: some models leave NaN at padded positions.
            one, two = (z.masked_fill(~mask[:, None], 0.0) for z in (one, two))
        found.append(Pair(f"{where}: {both}", one, two, mask))
    return found


def pooled_pairs(
    where: str,
    layers: Mapping[str, tuple[str, ...]],
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
) -> list[tuple[Tensor, Tensor]]:
    """Return the features that are matched as one vector a sample, the teacher's detached.

    Args:
        where: Name of the loss, for messages.
        layers: As :func:`layer_names` gives them.
        student: The student's outputs.
        teacher: The teacher's outputs.
        batch: The rows they were computed from, with the attention mask of token states.

    Raises:
        LayerError: If a layer is not among the features.
        ShapeError: If features have another number of axes than two, three or four.
    """
    return [
        (
            pooled(feature_of(where, "student", student, mine), batch),
            pooled(feature_of(where, "teacher", teacher, theirs).detach(), batch),
        )
        for mine, theirs in zip(layers["student"], layers["teacher"], strict=True)
    ]


def _attention(batch: Batch) -> Tensor | None:
    mask = batch.inputs.get("attention_mask") if isinstance(batch.inputs, dict) else None
    return None if mask is None else mask != 0


def same_size(
    student: Float[Tensor, "batch student_channels *positions"],
    teacher: Float[Tensor, "batch teacher_channels *other_positions"],
) -> tuple[Tensor, Tensor]:
    """Average-pool the larger map adaptively to the smaller, each axis for itself.

    Args:
        student: Maps; vectors and tokens of one number are returned as they are.
        teacher: Maps, of any number of channels.

    Returns:
        Both with the same positions, in float32 at least where something was averaged.

    Raises:
        ShapeError: If they are not maps and differ in their positions.

    Example:
        >>> one, two = same_size(torch.ones(1, 2, 4, 4), torch.tensor([[[[1.0, 3.0]]]]))
        >>> one.shape, two
        (torch.Size([1, 2, 1, 2]), tensor([[[[1., 3.]]]]))
    """
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    if student.ndim != 4 or teacher.ndim != 4:
        raise ShapeError(
            "same_size: expected maps [batch, channels, height, width] where sizes differ; got "
            f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            "Choose layers of one kind."
        )
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    one, two = (
        maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size)
        for maps in at_least_float32(student, teacher)
    )
    return one, two


def mean_of_samples(
    values: Float[Tensor, "batch channels *positions"],
    mask: Bool[Tensor, "batch positions"] | None = None,
) -> Float[Tensor, ""]:
    """Average every sample over its channels and the positions that count, then over samples.

    Args:
        values: One number for each entry.
        mask: Which positions count; a sample without any counts zero.

    Returns:
        The mean; zero for a batch without rows.
    """
    rows = max(len(values), 1)
    if mask is None:
        return values.sum() / max(values.numel(), 1)
    kept = mask.to(values.dtype)
    of_sample = (values.flatten(2) * kept[:, None]).sum(dim=(1, 2))
    entries = kept.sum(dim=1).clamp_min(1.0) * values.shape[1]
    return (of_sample / entries).sum() / rows


def check_same_channels(where: str, student: Tensor, teacher: Tensor) -> None:
    """Raise ShapeError unless both have the same rows and channels, and positions alike."""
    if student.shape[:2] != teacher.shape[:2] or student.ndim != teacher.ndim or student.ndim < 2:
        raise ShapeError(
            f"{where}: expected features [batch, channels, ...] with as many rows and channels; "
            f"got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}. "
            "Bring the student's features to the teacher's channels."
        )


def pointwise(
    inputs: int, outputs: int, like: Tensor, *key: int | str, bias: bool = True
) -> nn.Module:
    """Return a linear map of the channels, the same at every position, with seeded weights.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        like: Features [batch, channels, *positions], whose device and float type (float32 at
            least) the parameters get.
        key: What the random numbers are for: the seed, then names or numbers.
        bias: Whether there is an offset.
    """
    if like.ndim <= 2:
        return seeded(nn.Linear, inputs, outputs, like=like, key=key, bias=bias)
    kind = nn.Conv1d if like.ndim == 3 else nn.Conv2d
    return seeded(kind, inputs, outputs, 1, like=like, key=key, bias=bias)


def regressor(pair: Pair, *key: int | str) -> nn.Module:
    """Return a connector from the student's features to the shape of the teacher's.

    A linear map for vectors and tokens. For maps a convolution without offset: 3x3 with stride 2
    where the student's map is twice as large, 4x4 transposed with stride 2 where it is half as
    large, a kernel that trims what is too much where it is less than twice as large, and 1x1 else,
    after which the larger map is left to :func:`same_size`.

    Args:
        pair: Features of a first batch.
        key: What the random numbers are for: the seed, then names or numbers.
    """
    mine, theirs = pair.student, pair.teacher
    inputs, outputs = mine.shape[1], theirs.shape[1]
    if mine.ndim < 4:
        return pointwise(inputs, outputs, mine, *key)
    sizes = list(zip(mine.shape[2:], theirs.shape[2:], strict=True))
    kind, kernel, stride, padding = nn.Conv2d, 1, 1, 0
    if all(own == 2 * other for own, other in sizes):
        kernel, stride, padding = 3, 2, 1
    elif all(2 * own == other for own, other in sizes):
        kind, kernel, stride, padding = nn.ConvTranspose2d, 4, 2, 1
    elif all(other <= own < 2 * other for own, other in sizes):
        kernel = tuple(1 + own - other for own, other in sizes)
    return seeded(kind, inputs, outputs, kernel, stride, padding, like=mine, key=key, bias=False)


def seeded(
    kind: type[Module],
    *sizes: int | tuple[int, ...],
    like: Tensor,
    key: tuple[int | str, ...],
    bias: bool = True,
) -> Module:
    """Return a linear or convolutional layer with PyTorch's default distribution of weights.

    Args:
        kind: ``nn.Linear`` or a convolution.
        sizes: What it takes by position.
        like: A tensor of the device and float type (float32 at least) that the parameters get.
        key: What the random numbers are for; the global generator is left alone.
        bias: Whether there is an offset.
    """
    (like,) = at_least_float32(like.detach())
    layer = kind(*sizes, bias=bias, device="meta", dtype=like.dtype).to_empty(device=like.device)
    source, parameters = generator(*key), list(layer.parameters())
    bound = 1.0 / math.sqrt(max(parameters[0][0].numel(), 1))
    with torch.no_grad():
        for parameter in parameters:
            drawn = torch.rand(parameter.shape, generator=source, dtype=torch.float64)
            parameter.copy_(bound * (2.0 * drawn - 1.0))
    return layer


def connected(connector: nn.Module, features: Tensor) -> Tensor:
    """Apply a connector in its own float type, whatever autocast says."""
    kinds = [parameter.dtype for parameter in connector.parameters()]
    with without_autocast(features):
        return connector(features.to(kinds[0]) if kinds else features)


def prepared(where: str, made: Sequence[nn.Module] | nn.ModuleList, pairs: list[Pair]) -> None:
    """Raise ArgumentError unless there is a connector for every pair of layers."""
    if len(made) != len(pairs):
        raise ArgumentError(
            f"{where}: expected connectors for {len(pairs)} layers; got a loss that is not "
            "prepared. Call `prepare(student, teacher, batch)` before the optimiser is made."
        )


def check_channels(pairs: list[Pair], known: Sequence[tuple[int, int]]) -> Iterator[Pair]:
    """Yield the pairs; raise ShapeError where channels are not those of the first batch."""
    for pair, (mine, theirs) in zip(pairs, known, strict=True):
        if (pair.student.shape[1], pair.teacher.shape[1]) != (mine, theirs):
            raise ShapeError(
                f"{pair.where}: expected {mine} and {theirs} channels, as in the batch that the "
                "loss was prepared with. Make a new loss for other layers."
            )
        yield pair
