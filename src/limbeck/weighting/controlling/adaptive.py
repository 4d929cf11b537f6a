"""The distillation weight of a training run: fixed, scheduled or measured as it trains."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.checks import (
    ArgumentError,
    CheckpointError,
    check_between,
    check_choice,
    check_positive,
)
from limbeck.weighting.controlling.controllers import HbarController, LossPairController
from limbeck.weighting.controlling.schedules import Schedule


MEASURED = {"hbar": HbarController, "losspair": LossPairController}
LARGEST = {"hbar": 1.0, "losspair": 0.95}


class AdaptiveWeight:
    r"""A distillation weight that a training loop asks for, in one of four modes.

    * ``"hbar"``, ``"losspair"``: measured every few steps by the controller of that name, then kept
      from moving where it must not: until ``warmup`` steps it is the start weight; a measurement
      moves it by ``slew`` at most; and it is frozen where the interval is wider than
      ``freeze_width``. The weight is a scalar tensor, and no step waits for the device.
    * ``"fixed"``: the number ``weight``, a Python float: bit for bit the loss without this class.
    * a schedule: the float that it returns for the step of the last :meth:`advance`.

    A frozen weight is the one before, but its odds fall with the learning rate, as those of A /
    (A + Delta) do, and where it lies outside of the interval it goes to the nearer end: the best
    weight falls with every cut of the learning rate, and one that stays would end as a bias.

    .. math:: \frac{\lambda_t}{1 - \lambda_t} = \frac{\lambda_{t - 1}}{1 - \lambda_{t - 1}}
              \min\left(\frac{\gamma_t f_t}{\gamma_{t - 1} f_{t - 1}}, 1\right)

    with f the share of the noise that is left where epochs take each row once, else 1.

    Each step: ``advance(step, learning_rate)``, then ``weight`` for the loss, and where
    ``due(step)`` also ``observe(step, ...)``.

    Args:
        mode: "hbar", "losspair", "fixed" or a schedule, such as
            :class:`limbeck.weighting.controlling.schedules.Linear`.
        weight: The number of ``"fixed"``; of the measured modes the start weight, None for 0; in
            [0, maximum]. A schedule brings its own.
        every: Steps between two measurements, at least 1.
        warmup: Steps with the start weight, at least 0. Measurements run from the first step on.
        slew: Largest change of the weight a measurement, above 0; None for no limit. With 0.1 and a
            measurement every 20 steps a full swing takes 200 steps.
        freeze_width: Widest 95 % interval that may set the weight, above 0; None for any. Small
            batches measured seldom give wide ones: measure them more often.
        maximum: Largest weight, in (0, 1]; None for 1, and 0.95 for ``"losspair"``.
        fast_decay: Of the averages of the noise, **per step**: the controller, which averages over
            measurements, gets its power ``every``. The window is 1 / (1 - decay) = 100 steps for
            every ``every``; with the default of 20 that is worth 10 measurements.
        slow_decay: Of the averages of the bias and the losses, per step too: 1000 steps, worth 100
            measurements of the default.
        remember: Measurements that :meth:`history` holds, at least 1; earlier ones are dropped.

    Raises:
        ArgumentError: If an argument is outside of its range or does not fit the mode.

    Example:
        >>> weight = AdaptiveWeight("fixed", weight=0.7)
        >>> weight.weight, weight.due(0)
        (0.7, False)
        >>> from limbeck.weighting.controlling.schedules import Linear
        >>> falling = AdaptiveWeight(Linear(0.8, 0.4, steps=100))
        >>> falling.advance(50, learning_rate=0.1)
        >>> round(falling.weight, 9)
        0.6

    Source:
        Derived (see the controllers); the setting is that of Safaryan, Peste and Alistarh (2023),
        arXiv:2305.17581.
    """

    def __init__(
        self,
        mode: str | Schedule,
        *,
        weight: float | None = None,
        every: int = 20,
        warmup: int = 200,
        slew: float | None = 0.1,
        freeze_width: float | None = 0.3,
        maximum: float | None = None,
        fast_decay: float = 0.99,
        slow_decay: float = 0.999,
        remember: int = 4096,
    ) -> None:
        name = "AdaptiveWeight"
        self.mode, self._schedule = ("schedule", mode) if callable(mode) else (mode, None)
        if self._schedule is None:
            check_choice(name, "mode", mode, ("hbar", "losspair", "fixed"))
        check_positive(name, every=every, remember=remember)
        check_between(name, 0.0, math.inf, warmup=warmup)
        limits = {"slew": slew, "freeze_width": freeze_width}
        check_positive(name, **{n: x for n, x in limits.items() if x is not None})
        self.maximum = LARGEST.get(self.mode, 1.0) if maximum is None else maximum
        self.every, self.warmup, self.slew, self.freeze_width = every, warmup, slew, freeze_width
        self._begin = start = self._start(weight)
        # A schedule is asked for step 0 by the first advance; before, nothing is distilled.
        self._weight: float | Tensor = start
        self._controller: Any = None
        if self.mode in MEASURED:
            self._weight = torch.tensor(start)
            self._controller = MEASURED[self.mode](
                fast_decay=fast_decay**every, slow_decay=slow_decay**every, maximum=self.maximum
            )
        self._rate: Tensor | None = None
        self._names: list[str] = []
        self._steps: deque[int] = deque(maxlen=remember)
        self._rows: deque[Tensor] = deque(maxlen=remember)

    @property
    def weight(self) -> float | Tensor:
        """The weight of the present step: a scalar tensor where measured, else a float.

        Up to the first measurement the tensor lies on the CPU; it multiplies a loss on any device.
        """
        return self._weight

    @property
    def controller(self) -> HbarController | LossPairController | None:
        """What measures; None in the other modes."""
        return self._controller

    def due(self, step: int) -> bool:
        """Return whether to call :meth:`observe` in this step; never where nothing is measured."""
        return self._controller is not None and step % self.every == 0

    def advance(self, step: int, learning_rate: float) -> None:
        """Tell a schedule the step, from 0 on, and its learning rate; other modes ignore it.

        Raises:
            ArgumentError: If the schedule leaves [0, maximum].
        """
        if self._schedule is None:
            return
        weight = float(self._schedule(step, learning_rate))
        if not 0 <= weight <= self.maximum:
            raise ArgumentError(
                f"AdaptiveWeight: expected a schedule within [0, {self.maximum}]; got {weight} at "
                f"step {step}. Cut it there."
            )
        self._weight = weight

    def observe(self, step: int, **measured: Any) -> None:
        """Hand a measurement to the controller, and move the weight as far as it may.

        Args:
            step: The step it was taken in, from 0 on.
            **measured: As the controller's own ``observe`` takes it, by keyword; the ``weight`` in
                use, which "losspair" needs, is filled in here.

        Raises:
            ArgumentError: In a mode that measures nothing, and as the controller does.
            ShapeError: As the controller does.
        """
        if self._controller is None:
            raise ArgumentError(
                f'AdaptiveWeight: expected mode "hbar" or "losspair"; got {self.mode}. Ask '
                "due(step) first."
            )
        # The start weight is filled in as a number: to copy it to the device would wait.
        used = self._weight if self._names else self._begin
        if self.mode == "losspair":
            measured = {"weight": used, **measured}
        self._controller.observe(**measured)
        target, (lower, upper) = self._controller.weight(), self._controller.interval()
        before = used.to(target) if isinstance(used, Tensor) else target.new_full((), used)
        row = self._controller.ingredients()
        # Without a rate nothing that is finite was measured yet, and nothing is known.
        rate, known = _noise_rate(row), row["learning_rate"] > 0
        last = rate if self._rate is None else self._rate.to(rate)
        if step >= self.warmup:
            moved = self._moved(before, target, (lower, upper), (rate, last))
            self._weight = torch.where(known, moved, before)
        else:
            self._weight = before
        self._rate = torch.where(known, rate, last)
        row |= {"measured": target, "lower": lower, "upper": upper, "weight": self._weight}
        self._record(step, row)

    def mean_difference(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Return the slow averages of h of both halves; None before the first measurement."""
        return self._controller.mean_difference() if self.mode == "hbar" else None

    def history(self) -> list[dict[str, float | int]]:
        """Return the latest measurements, oldest first; this waits for the device.

        Returns:
            For each the ``step``, what the controller's ``ingredients`` name, the weight as
            ``measured`` with the ends ``lower`` and ``upper`` of its 95 % interval, and the
            ``weight`` in use after it.
        """
        rows = torch.stack([*self._rows]).tolist() if self._rows else []
        return [
            {"step": step, **dict(zip(self._names, row, strict=True))}
            for step, row in zip(self._steps, rows, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the tensors and numbers that make up the state, history included."""
        weight = self._weight
        return {
            "mode": self.mode,
            "weight": weight.clone() if isinstance(weight, Tensor) else weight,
            "controller": None if self._controller is None else self._controller.state_dict(),
            "rate": None if self._rate is None else self._rate.clone(),
            "names": list(self._names),
            "steps": list(self._steps),
            "rows": torch.stack([*self._rows]) if self._rows else torch.zeros(0),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of :meth:`state_dict`, of an object made with the same arguments.

        Raises:
            CheckpointError: If the state is of another mode.
        """
        if state["mode"] != self.mode:
            raise CheckpointError(
                f"AdaptiveWeight: expected a state of mode {self.mode}; got {state['mode']}. Use "
                "the weight that the run began with."
            )
        weight = state["weight"]
        self._weight = weight.clone() if isinstance(weight, Tensor) else weight
        if self._controller is not None:
            self._controller.load_state_dict(state["controller"])
        self._rate = None if state["rate"] is None else state["rate"].clone()
        self._names = list(state["names"])
        self._steps = deque(state["steps"], maxlen=self._steps.maxlen)
        self._rows = deque(state["rows"].clone(), maxlen=self._rows.maxlen)

    def _start(self, weight: float | None) -> float:
        name = "AdaptiveWeight"
        if not 0 < self.maximum <= 1:
            raise ArgumentError(
                f"{name}: expected `maximum` in (0, 1]; got {self.maximum}. 1 leaves the weight "
                "free."
            )
        if weight is None:
            if self.mode == "fixed":
                raise ArgumentError(
                    f'{name}: expected `weight` for mode "fixed"; got None. Say which.'
                )
            return 0.0
        if self._schedule is not None:
            raise ArgumentError(
                f"{name}: expected no `weight` beside a schedule; got {weight}. Put it into the "
                "schedule."
            )
        check_between(name, 0.0, self.maximum, weight=weight)
        return weight

    def _moved(
        self,
        before: Tensor,
        target: Tensor,
        ends: tuple[Tensor, Tensor],
        rates: tuple[Tensor, Tensor],
    ) -> Tensor:
        # The law moves the best weight with the rate at once: no slew for that.
        before = _held(before, *rates)
        if self.freeze_width is not None:
            lower, upper = ends
            sharp = upper - lower <= self.freeze_width
            target = torch.where(sharp, target, before.clamp(lower, upper))
        change = target - before
        if self.slew is not None:
            change = change.clamp(-self.slew, self.slew)
        return before + change

    def _record(self, step: int, row: dict[str, Tensor]) -> None:
        self._names = list(row)
        self._steps.append(step)
        new = torch.stack(list(row.values()))
        if self._rows and self._rows[-1].device != new.device:  # those of a state that was loaded
            earlier = torch.stack([*self._rows]).to(new.device)
            self._rows = deque(earlier, maxlen=self._rows.maxlen)
        self._rows.append(new)


def _held(before: Tensor, rate: Tensor, last: Tensor) -> Tensor:
    """Return the weight before with its odds, A / Delta, in step with a falling rate."""
    odds, against = before * torch.minimum(rate, last), (1 - before) * last
    held = torch.where(odds > 0, odds / (odds + against), torch.zeros_like(before))
    return torch.where(last > 0, held, before)


def _noise_rate(row: Mapping[str, Tensor]) -> Tensor:
    """Return what the noise at the plateau is proportional to."""
    rate = row["learning_rate"]
    return rate * row["noise_left"] if "noise_left" in row else rate
