"""Students that end in their teacher's own classifier (SimKD)."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from limbeck.capture import Capture, evaluated, find_head, floating_type
from limbeck.checks import ArgumentError, LayerError, ModelError, ShapeError
from limbeck.randomness import derive_seed


CLOSE = 0.05  # share of the largest logit by which narrow floats may miss a linear map


class ReusedHead(nn.Module):
    """A student's map, led to the teacher's channels, under the teacher's frozen classifier.

    :func:`reusing_head` makes it.

    Attributes:
        student: The student's network; what it says behind its map is not used.
        projector: From the student's channels to the teacher's. Its output is what the loss
            ``simkd``, or any other loss on features, compares with the teacher's map.
        head: The teacher's classifier, which is never trained.
        layer: Name of the layer of ``student`` that gives the map.
        size: Height and width of the teacher's map; a larger one of the student is averaged to it.

    Args:
        student: As the attribute; taken as it is.
        layer: As the attribute.
        projector: As the attribute.
        head: As the attribute; frozen here.
        size: As the attribute.
    """

    def __init__(
        self,
        student: nn.Module,
        layer: str,
        projector: nn.Module,
        head: nn.Linear,
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.student, self.projector = student, projector
        self.head = head.requires_grad_(False)
        self.layer, self.size = layer, size
        self._maps: list[Tensor] = []
        # A method, not a function: a copy's hook then fills the copy. The handle keeps the hook's
        # number taken where the whole is read from a pickle.
        self._handle = student.get_submodule(layer).register_forward_hook(self._keep)

    def forward(self, *inputs: Any, **named: Any) -> Float[Tensor, "batch classes"]:
        """Return the teacher's classifier's logits of the projected map, averaged over positions.

        Raises:
            LayerError: If the student's layer did not run, or gave something that is not a tensor.
        """
        self.student(*inputs, **named)
        if not self._maps:
            raise LayerError(
                f"ReusedHead: expected layer {self.layer!r} of the student to run; it did not, or "
                "it was replaced since. Make the student anew with reusing_head."
            )
        maps = self._maps.pop()
        size = min(maps.shape[2], self.size[0]), min(maps.shape[3], self.size[1])
        if maps.shape[2:] != size:
            maps = F.adaptive_avg_pool2d(maps, size)
        return self.head(self.projector(maps).mean(dim=(2, 3)))

    def _keep(self, _: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise LayerError(
                f"ReusedHead: expected layer {self.layer!r} to give a tensor; got "
                f"{type(output).__name__}. Name a layer inside of it."
            )
        # A copy, because a later layer may work in place, as ReLU(inplace=True) does.
        self._maps[:] = [output.clone()]


def reusing_head(
    student: nn.Module,
    teacher: nn.Module,
    *,
    example: Float[Tensor, "batch channels height width"],
    layer: str = "layer3",
    teacher_layer: str | None = None,
    factor: int = 2,
    seed: int = 0,
) -> ReusedHead:
    r"""Return a copy of a student that is classified by its teacher's own classifier.

    .. math:: z = W^T\,\mathrm{mean}_p\, P(\mathrm{pool}\, f^S)_p + b^T

    with the student's last map f^S, averaged to the size of the teacher's where it is larger, the
    projector P, and the teacher's weights W and offsets b, which rest. P is a 1x1, a 3x3 and a 1x1
    convolution, each followed by batch norm and a ReLU; the last ReLU is left out where the
    teacher's map has negative entries. Where the projected map is the teacher's, the logits are.

    Train it by the loss ``simkd`` with its published weights, which takes the layers ``projector``
    of the student and ``teacher_layer`` of the teacher; every other loss on features and
    :func:`limbeck.measure` take ``projector`` as well. The projector stays in use, so it counts
    among the student's parameters and its time.

    Args:
        student: A network on images; it is not changed. Its own classifier, a linear layer whose
            output is the logits, is left out of the copy.
        teacher: A network whose logits are one linear layer of its map, averaged over the
            positions; it is not changed, and its classifier is copied.
        example: A few inputs that both take, to see shapes and the teacher's classifier by.
        layer: Dotted name of the student's last map.
        teacher_layer: Dotted name of the map that the teacher averages; None is ``layer``.
        factor: The teacher's channels over those inside the projector, from 1 to the number of
            channels; 2, 4 and 8 in the paper.
        seed: Of the projector's first weights; the global generator is left alone.

    Returns:
        The student, from inputs to logits, on the device and in the float type of ``student``.

    Raises:
        ModelError: If the teacher's logits are no linear layer of the averaged map, or a forward
            pass fails.
        LayerError: If a layer is unknown, or parameters of the student lie behind its map, so that
            they would never learn.
        ShapeError: If a layer gives no map.
        ArgumentError: If ``factor`` is out of its range.

    Note:
        A recipe cannot name such a student, because a recipe builds the student without the
        teacher. For the same reason a saved one is read back by ``load(folder,
        model=reusing_head(student, teacher, ...))``: the folder holds all weights, the classifier's
        too, so that any teacher of this architecture will do.

    Example:
        >>> chain = nn.Conv2d(1, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        >>> teacher, example = nn.Sequential(*chain), torch.ones(1, 1, 2, 2)
        >>> student = reusing_head(teacher, teacher, example=example, layer="0")
        >>> student(example).shape, torch.equal(student.head.weight, teacher[3].weight)
        (torch.Size([1, 3]), True)

    Source:
        Chen, Mei, Zhang, Wang, Feng and Chen (2022), arXiv:2203.14001; the order of pooling, batch
        norms and ReLUs as in DefangChen/SimKD, which has the last ReLU always.
    """
    maps, head = _classifier(teacher, layer if teacher_layer is None else teacher_layer, example)
    channels = maps.shape[1]
    if isinstance(factor, bool) or not isinstance(factor, int) or not 1 <= factor <= channels:
        raise ArgumentError(
            f"reusing_head: expected `factor` to be an integer from 1 to {channels}, the channels "
            f"of the teacher's map; got {factor!r}."
        )
    copied = copy.deepcopy(student)
    example = example.to(_device(copied))
    inputs = _map_of("student", copied, layer, example).shape[1]
    with contextlib.suppress(LayerError):  # it ends otherwise: whether that matters is seen below
        copied.set_submodule(find_head(copied, example, "student"), nn.Identity())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "reused_head"))
        made = _projector(inputs, channels // factor, channels, relu=bool((maps >= 0).all()))
    size = maps.shape[2], maps.shape[3]
    place = {"device": _device(copied), "dtype": floating_type(copied)}
    whole = ReusedHead(copied, layer, made.to(**place), head.to(**place), size)
    _check_nothing_behind(whole, example)
    return whole.train(student.training)


def _projector(inputs: int, width: int, outputs: int, *, relu: bool) -> nn.Sequential:
    parts: list[nn.Module] = []
    for come, go, kernel in ((inputs, width, 1), (width, width, 3), (width, outputs, 1)):
        step = nn.Conv2d(come, go, kernel, padding=kernel // 2, bias=False)
        parts += [step, nn.BatchNorm2d(go), nn.ReLU()]
    return nn.Sequential(*(parts if relu else parts[:-1]))


def _classifier(teacher: nn.Module, layer: str, example: Tensor) -> tuple[Tensor, nn.Linear]:
    """Return the teacher's map and a copy of the linear layer that reads its average."""
    example = example.to(_device(teacher))
    said = evaluated(teacher, example, "teacher")
    maps = _map_of("teacher", teacher, layer, example)
    try:
        found = cast(nn.Linear, teacher.get_submodule(find_head(teacher, example, "teacher")))
    except LayerError:
        raise _unfit(teacher, layer, "no linear layer whose output is the logits") from None
    if found.in_features != maps.shape[1]:
        what = f"one of {found.in_features} inputs behind a map of {maps.shape[1]} channels"
        raise _unfit(teacher, layer, what)
    bias = found.bias is not None  # pyright: ignore[reportUnnecessaryComparison]
    place = {"device": found.weight.device, "dtype": found.weight.dtype}
    made = skip_init(nn.Linear, found.in_features, found.out_features, bias=bias, **place)
    head = cast(nn.Linear, made)
    with torch.no_grad():
        for mine, theirs in zip(head.parameters(), found.parameters(), strict=True):
            mine.copy_(theirs)
        again = head(maps.mean(dim=(2, 3)))
    if not (again - said).abs().max() <= CLOSE * said.abs().max():
        raise _unfit(teacher, layer, "other logits than this gives")
    return maps, head


def _unfit(teacher: nn.Module, layer: str, what: str) -> ModelError:
    return ModelError(
        f"reusing_head: expected a teacher whose logits are a linear layer of its map {layer!r}, "
        f"averaged over the positions; got {type(teacher).__name__} with {what}. Name the map "
        "before global average pooling with `teacher_layer`; if the teacher ends otherwise, take "
        "the loss fitnet or itrd with a student that has a classifier of its own."
    )


def _map_of(name: str, model: nn.Module, layer: str, example: Tensor) -> Tensor:
    with Capture(model, (layer,), name=name) as capture:
        maps = capture(example, through=lambda x: evaluated(model, x, name)).features[layer]
    if maps.ndim != 4:
        raise ShapeError(
            f"reusing_head: expected {name} {layer!r} to give maps [batch, channels, height, "
            f"width]; got {tuple(maps.shape)}. Name the layer before global average pooling."
        )
    return maps


def _check_nothing_behind(whole: ReusedHead, example: Tensor) -> None:
    probe = copy.deepcopy(whole).eval()  # in eval mode: batch norms stay as they are
    named = [(name, p) for name, p in probe.student.named_parameters() if p.requires_grad]
    if not named:
        return
    with torch.enable_grad():
        value = probe(example.to(floating_type(probe) or example.dtype)).sum()
    found = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
    unused = [
        name
        for (name, _), gradient in zip(named, found, strict=True)
        if gradient is None  # pyright: ignore[reportUnnecessaryComparison]
    ]
    if unused:
        raise LayerError(
            f"reusing_head: expected the student's layer {whole.layer!r} to be its last map; got "
            f"{len(unused)} tensors of parameters that it does not depend on, {unused[0]!r} first. "
            "Name a later layer; if they are of a classifier, freeze them with "
            "requires_grad_(False)."
        )


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
