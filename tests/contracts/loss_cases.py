"""What the contract tests run every loss on, and what a rank of two does with it.

In a module of its own, so that spawned processes can import it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck.losses import CRD, ITRD, LOSSES, VID, WeightedSum
from limbeck.types import Batch, Outputs


ROWS, CLASSES = 8, 4
LENGTH = 5  # tokens of a row, for the losses of language models
WIDTHS = {"student": 3, "teacher": 5}  # unlike, so that projections have work to do
SPLIT = 5  # rows of the first of two ranks


def all_terms() -> WeightedSum:
    """Return a sum of every loss of a classifier; CC would make it depend on the order."""
    losses = {name: make() for name, make in LOSSES.items()}
    return WeightedSum(
        {
            name: (0.5 + place, loss)
            for place, (name, loss) in enumerate(losses.items())
            if not hasattr(loss, "auxiliary_loss") and name != "cc" and not by_token(loss)
        }
    )


def by_token(loss: nn.Module) -> bool:
    """Say whether a loss is for language models, with logits at every token."""
    return getattr(loss, "tasks", None) == frozenset({"language_model"})


CASES: dict[str, Callable[[], nn.Module]] = {**LOSSES, "weighted_sum": all_terms}


class Twice(CRD):
    """Returns the loss of a second pass, which depends on what the first one remembered."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        super().forward(student, teacher, batch)
        return super().forward(student, teacher, batch)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "itrd_paper_code": lambda: ITRD(paper_code=True),
    "itrd_local": lambda: ITRD(across_ranks=False),
    "crd_queue": lambda: Twice(queue=6),
    "crd_bank": lambda: Twice(bank=ROWS, negatives=5),
    "vid_paper_code": lambda: VID(paper_code=True),
}


class Model(nn.Module):
    """One linear map from inputs to logits and to each feature: a vector, or maps elsewhere."""

    def __init__(self, side: str, layers: tuple[str, ...], kind: torch.dtype) -> None:
        super().__init__()
        self.shapes = {}
        for layer in layers:
            width = WIDTHS["teacher" if layer == "projector" else side]  # it ends in the teacher's
            self.shapes[layer] = (width,) if layer == "penultimate" else (width, 4, 4)
        sizes = [CLASSES] + [torch.Size(shape).numel() for shape in self.shapes.values()]
        seed = torch.Generator().manual_seed(sum(map(ord, side)))
        drawn = [torch.randn(6, size, generator=seed, dtype=torch.float64) for size in sizes]
        self.weights = nn.ParameterList([weight.to(kind) for weight in drawn])

    def forward(self, inputs: Tensor | dict[str, Tensor]) -> Outputs:
        if isinstance(inputs, dict):
            inputs = inputs["states"]
        logits, *features = [inputs @ weight for weight in self.weights]
        return Outputs(
            logits,
            {
                layer: values.reshape(len(values), *shape)
                for values, (layer, shape) in zip(features, self.shapes.items(), strict=True)
            },
        )


def batch_of(
    kind: torch.dtype = torch.float32, rows: int = ROWS, seed: int = 0, *, tokens: bool = False
) -> Batch:
    """Return random inputs, of which row 3 has no label and row 6 is dead: all zeros."""
    source = torch.Generator().manual_seed(seed)
    if tokens:
        return _tokens(kind, rows, source)
    inputs = torch.randn(rows, 6, generator=source, dtype=torch.float64).to(kind)
    inputs[6:7] = 0.0
    targets = torch.arange(rows) % CLASSES
    targets[3:4] = -1
    return Batch(inputs, targets, torch.arange(rows), torch.zeros(rows, dtype=torch.int64))


def _tokens(kind: torch.dtype, rows: int, source: torch.Generator) -> Batch:
    """Return states of texts of unlike lengths, in packed rows."""
    states = torch.randn(rows, LENGTH, 6, generator=source, dtype=torch.float64).to(kind)
    states[6:7] = 0.0
    ids = torch.randint(CLASSES, (rows, LENGTH), generator=source)
    places, mask = torch.arange(LENGTH).repeat(rows, 1), torch.ones_like(ids)
    places[1::2, 2:] -= 2
    mask[2:4, 3:] = 0
    inputs = {"states": states, "input_ids": ids, "position_ids": places, "attention_mask": mask}
    targets = ids.masked_fill(torch.arange(rows)[:, None] == 3, -1)
    return Batch(inputs, targets, torch.arange(rows), torch.zeros(rows, dtype=torch.int64))


def picked(batch: Batch, rows: Tensor) -> Batch:
    """Return some rows of a batch, in the order given."""
    inputs = batch.inputs
    chosen = {k: v[rows] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[rows]
    assert batch.targets is not None
    return Batch(chosen, batch.targets[rows], batch.index[rows], batch.view[rows])


def models(loss: nn.Module, kind: torch.dtype) -> tuple[Model, Model]:
    """Return a student and a teacher that have the layers that the loss asks for."""
    return (
        Model("student", loss.layers["student"], kind),
        Model("teacher", loss.layers["teacher"], kind),
    )


def prepared(name: str, kind: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Return a loss that is ready for use on outputs of this float type."""
    loss = (CASES | VARIANTS)[name]()
    batch = batch_of(kind, seed=seed, tokens=by_token(loss))
    if hasattr(loss, "prepare"):
        student, teacher = models(loss, kind)
        loss.prepare(student(batch.inputs), teacher(batch.inputs), batch)
    return loss.double() if kind == torch.float64 else loss


def value_and_gradients(name: str, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return one backward pass over some rows of the batch, in float64."""
    loss = prepared(name, torch.float64)
    student, teacher = models(loss, torch.float64)
    batch = picked(batch_of(torch.float64, tokens=by_token(loss)), rows)
    with torch.no_grad():
        target = teacher(batch.inputs)
    value = loss(student(batch.inputs), target, batch)
    value.backward()
    named = [*student.named_parameters(prefix="student"), *loss.named_parameters(prefix="loss")]
    found = {key: torch.zeros_like(one) if one.grad is None else one.grad for key, one in named}
    return value.detach(), found


def run_rank(rank: int, folder: str) -> None:
    """Run every loss on this rank's rows and save the averages over two ranks."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        jobs = {name: (name, SPLIT) for name in (*CASES, *VARIANTS)}
        jobs |= {f"{name}, empty": (name, ROWS) for name in ("itrd", "kd", "match")}
        results = {}
        for key, (name, split) in jobs.items():
            rows = torch.arange(ROWS).split([split, ROWS - split])[rank]
            value, gradients = value_and_gradients(name, rows)
            for tensor in (value, *gradients.values()):
                dist.all_reduce(tensor)
                tensor /= 2
            results[key] = value, gradients
        if rank == 0:
            torch.save(results, Path(folder) / "results.pt")
    finally:
        dist.destroy_process_group()
