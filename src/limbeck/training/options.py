"""Options of a training run: one definition for keyword arguments and recipes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from limbeck.checks import RecipeError, nearest
from limbeck.training.tracking import Name


class Options(BaseModel):
    """How a student is trained; the defaults are the CIFAR recipe of the distillation literature.

    Attributes:
        epochs: Passes over the data.
        batch_size: Rows of one optimiser step over all processes; None takes the DataLoader's, or
            64.
        optimizer: "sgd" or "adamw".
        learning_rate: Peak learning rate.
        momentum: Of SGD.
        nesterov: Of SGD.
        weight_decay: On all parameters, those of the loss included.
        schedule: "step" multiplies by ``decay`` after each of ``milestones``, "cosine" falls to 0,
            "constant" stays.
        milestones: Epochs counted from 1 after which the rate falls; a fraction below 1 is taken of
            ``epochs``.
        decay: Factor of the step schedule.
        warmup_epochs: Linear rise of the learning rate.
        loss_warmup_epochs: Linear rise of the distillation term's weight.
        clip: Largest norm of the gradient, or None.
        train_only: Names of the student's modules that are trained, such as ["classifier"]; all
            else rests: weights as they are, in eval mode, so that batch norm learns nothing. None
            trains all that its caller has not frozen.
        precision: "fp32", or "bf16" for autocast.
        compile: Compile the student and live teachers with torch.compile: minutes at the start,
            for shorter steps.
        channels_last: Memory format of image models and their inputs; None takes it where it is the
            faster one: for images on a CPU, and under bf16.
        accumulate: Micro-batches of one step; losses that compare samples see one micro-batch.
        average: Decay of an exponential moving average of the weights, which is then evaluated and
            saved; None for none.
        patience: Stop after this many epochs without a better validation metric; None never stops.
        views: Number of augmented views of a row; None makes a new one each epoch, or takes as many
            as a stored teacher has.
        view_order: "cycle" serves all rows of an epoch in one view and goes through the views in
            turn, "draw" takes for every row of an epoch one at random.
        device: "cpu", "cuda", ...; None takes the accelerator if there is one.
        teacher_device: Where a live teacher runs; None means with the student.
        teacher_precision: "fp32" or "bf16" for the live teacher's weights.
        evaluate_every: Epochs between two evaluations on validation data.
        checkpoint_seconds: Least time between two checkpoints; 0 makes one after each step.
        max_steps: Stop after this many optimiser steps; None for all.
        force: Go on although the preflight found an error.
        progress: Show a progress bar where the output is a terminal.
        track: Pass curves and results on to "tensorboard", "trackio", "wandb" or "mlflow", one or
            several; what is kept on disk lies in ``out/track``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(60, ge=1)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = Field(0.1, gt=0, le=1)
    warmup_epochs: float = Field(0.0, ge=0)
    loss_warmup_epochs: float = Field(0.0, ge=0)
    clip: float | None = Field(None, gt=0)
    train_only: tuple[str, ...] | None = Field(None, min_length=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    channels_last: bool | None = None
    accumulate: int = Field(1, ge=1)
    average: float | None = Field(None, gt=0, lt=1)
    patience: int | None = Field(None, ge=1)
    views: int | None = Field(None, ge=1)
    view_order: Literal["cycle", "draw"] = "cycle"
    device: str | None = None
    teacher_device: str | None = None
    teacher_precision: Literal["fp32", "bf16"] = "fp32"
    evaluate_every: int = Field(1, ge=1)
    checkpoint_seconds: float = Field(60.0, ge=0)
    max_steps: int | None = Field(None, ge=1)
    force: bool = False
    progress: bool = True
    track: tuple[Name, ...] = ()

    @field_validator("track", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Options:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("`nesterov` needs optimizer sgd with momentum above 0")
        if self.schedule == "step" and any(stone <= 0 for stone in self.milestones):
            raise ValueError("`milestones` are epochs (or fractions of `epochs`) above 0")
        return self


#: Options that change neither the weights nor the numbers, so a resumed run may choose them anew.
NEUTRAL = frozenset({"checkpoint_seconds", "progress", "force", "track"})


def options_of(where: str, **given: Any) -> Options:
    """Return checked options, or raise RecipeError naming the field and the nearest valid one."""
    try:
        return Options(**given)
    except ValidationError as problem:
        raise RecipeError(explained(where, problem, Options)) from None


def explained(where: str, problem: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line a field what was expected, what came and which field is nearest."""
    lines = []
    for error in problem.errors():
        place = ".".join(str(part) for part in error["loc"])
        got = repr(error["input"])
        if error["type"] == "extra_forbidden":
            known = _fields_at(model, error["loc"][:-1])
            lines.append(
                f"{where}: expected a known field; got "
                f"`{place}`.{nearest(str(error['loc'][-1]), known)}"
                f" Fields: {', '.join(sorted(known))}."
            )
        elif error["type"] == "missing":
            lines.append(f"{where}: expected the field `{place}`; it is missing. Add it.")
        else:
            spot = f"`{place}`: " if place else ""
            got = "" if error["type"] == "value_error" else f"; got {got[:80]}"
            message = error["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {spot}{message[:1].lower()}{message[1:]}{got}. Correct it.")
    return "\n".join(lines)


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        field = model.model_fields.get(str(part))
        inner = getattr(field, "annotation", None)
        kinds = [inner, *getattr(inner, "__args__", ())]
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)),
            model,
        )
    return list(model.model_fields)
