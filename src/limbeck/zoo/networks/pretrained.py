"""Weights that others trained, under the names of this zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .normalise import STATISTICS


_RENAMED = (
    (re.compile(r"^module\."), ""),
    (re.compile(r"^conv1\."), "stem.conv."),
    (re.compile(r"^bn1\."), "stem.norm."),
    (re.compile(r"^linear\."), "classifier."),
)


def akamaster_state_dict(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename akamaster's CIFAR-10 ResNet weights to the names of this zoo.

    The weights fit ``resnet20`` to ``resnet56`` with ``num_classes=10`` and ``shortcut="pad"``;
    the normalisation that they were trained with (ImageNet's statistics) is added.

    Args:
        raw: State dict as published, with or without its prefix ``module.``; left as it is.

    Returns:
        A state dict for ``load_state_dict(..., strict=True)``; its tensors are those of ``raw``.

    Source:
        github.com/akamaster/pytorch_resnet_cifar10 (BSD-2-Clause).
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in raw.items():
        for pattern, replacement in _RENAMED:
            key = pattern.sub(replacement, key)
        renamed[key] = tensor
    mean, std = STATISTICS["imagenet"]
    renamed["normalise.mean"] = torch.tensor(mean).view(-1, 1, 1)
    renamed["normalise.std"] = torch.tensor(std).view(-1, 1, 1)
    return renamed
