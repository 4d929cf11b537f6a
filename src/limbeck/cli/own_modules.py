"""The user's own modules by name: what lies in the present folder is found, too."""

from __future__ import annotations

import sys
from pathlib import Path


#: What stands before the colon of a model that is no module of the user's.
_KINDS = ("zoo", "binary", "timm", "hf", "hf-config")


def search_here(wanted: bool = True) -> bool:
    """Let ``module:callable`` name a file of the present folder, and return ``wanted``.

    An installed program has its own folder on the path of imports, not that of its caller. The
    present folder comes last, so that no file in it hides an installed package.

    Args:
        wanted: Nothing is done where this is False.
    """
    here = str(Path.cwd())
    if wanted and here not in sys.path:
        sys.path.append(here)
    return wanted


def is_own(model: str | None) -> bool:
    """Say whether a model's name is ``module:callable``.

    Example:
        >>> is_own("mymodels:net"), is_own("zoo:resnet20"), is_own(None)
        (True, False, False)
    """
    return model is not None and model.partition(":")[0] not in _KINDS
