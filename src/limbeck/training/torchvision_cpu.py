"""Import torchvision beside a torch that its compiled operators were not built for.

PyPI's torchvision is built for CUDA. Beside a CPU build of torch its operators do not load, which
it forgives; but when it is imported it describes two of them to torch's compiler, and that fails
where nobody declared them. Networks of timm use neither.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def define_missing_operators() -> None:
    """Declare the two operators, without giving them a kernel, if torchvision's own do not load.

    Call it before the first import of torchvision. Nothing happens where torchvision is not
    installed, or its operators are there; calling the declared ones is an error of torch.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or _known("nms"):
        return
    for library in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
        return
    for name, schema in _SCHEMAS.items():
        torch.library.define(f"torchvision::{name}", schema)


def _known(operator: str) -> bool:
    return hasattr(torch.ops.torchvision, operator)
