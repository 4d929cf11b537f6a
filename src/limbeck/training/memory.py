"""Out of memory ends in advice, not in a traceback; and how much a run took."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator

import torch

from limbeck.checks import LimbeckError
from limbeck.training.options import Options


class OutOfMemoryError(LimbeckError, MemoryError):
    """The device or the machine has not enough memory for these settings."""


@contextlib.contextmanager
def memory_advice(options: Options, device: torch.device) -> Generator[None]:
    """Turn an out-of-memory error inside the block into OutOfMemoryError with what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as problem:
        if not _is_out_of_memory(problem):
            raise
        batch = options.batch_size or 64
        raise OutOfMemoryError(
            f"distill: expected the run to fit into the memory of {device}; it does not with "
            f"batch_size {batch}, accumulate {options.accumulate}, {options.precision}.\n"
            f"  1. accumulate={options.accumulate * 2}: half the rows at a time, the same step "
            "(losses that compare samples then see half as many)\n"
            f"  2. batch_size={max(batch // 2, 1)} and "
            f"learning_rate={options.learning_rate / 2:g}\n"
            '  3. precision="bf16", teacher_precision="bf16"\n'
            '  4. teacher_device="cpu", or store the teacher\'s outputs once\n'
            "What was saved before is whole; a smaller run can start at once."
        ) from None


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that this process has held since its start [MiB].

    Args:
        device: Where a run was trained.

    Returns:
        ``resident``, where the system tells; ``device`` if it is a CUDA device: what tensors took
        of it.
    """
    found: dict[str, float] = {}
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["resident"] = most / (2**20 if sys.platform == "darwin" else 2**10)
    if device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated(device) / 2**20
    return found


def _is_out_of_memory(problem: BaseException) -> bool:
    if isinstance(problem, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(problem)
    return "out of memory" in text or "can't allocate memory" in text
