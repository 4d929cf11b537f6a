"""Features by layer name: run any module and keep what named layers said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.checks import LayerError, ModelError, nearest
from limbeck.types import Outputs


PENULTIMATE = "penultimate"
FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError)
Inputs = Tensor | dict[str, Tensor]

_ADVICE = "Check the model's input size, channels and device."


class Capture:
    """Run a module and collect the outputs of the layers asked for.

    A layer is a dotted name as ``get_submodule`` takes it, or ``penultimate``: the input of the
    last linear layer whose output is the logits. Make the Capture before ``torch.compile`` or any
    wrapper: hooks sit on the module itself. Close it, or use it as a context manager, to remove
    the hooks.

    Args:
        module: Any module; called with the inputs, or with ``**inputs`` where they are a dict.
        layers: Names of layers.
        example: Inputs of a batch; needed only where ``penultimate`` is among the layers, to find
            it by one forward pass in eval mode.
        name: What messages call the module.

    Raises:
        LayerError: If a layer does not exist (near names are listed), did not run, or gave
            something that is not a tensor.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str] = (),
        *,
        example: Inputs | None = None,
        name: str = "model",
    ) -> None:
        self.module, self.name = module, name
        self.layers = tuple(dict.fromkeys(layers))
        self._seen: dict[str, Tensor] = {}
        self._type = floating_type(module)
        self._handles: list[RemovableHandle] = []
        try:
            for layer in self.layers:
                self._watch(layer, example)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def forget_in(self, copied: nn.Module) -> None:
        """Remove this capture's hooks from a deep copy of the module, which took them along."""
        for part in copied.modules():
            for handle in self._handles:
                part._forward_hooks.pop(handle.id, None)
                part._forward_pre_hooks.pop(handle.id, None)
                part._forward_pre_hooks_with_kwargs.pop(handle.id, None)

    def __call__(self, inputs: Inputs, *, through: Any = None) -> Outputs:
        """Run the module, or ``through`` (a compiled or wrapped form of it), and return both parts.

        Floating inputs are converted to the module's own floating type.
        """
        self._seen.clear()
        logits = logits_of(
            call(self.module if through is None else through, in_type(inputs, self._type)),
            self.name,
        )
        self._check_all_ran()
        return Outputs(logits=logits, features=dict(self._seen))

    def _watch(self, layer: str, example: Inputs | None) -> None:
        if layer == PENULTIMATE:
            head = self.module.get_submodule(find_head(self.module, example, self.name))
            self._handles.append(
                head.register_forward_pre_hook(
                    lambda _, inputs, named: self._keep(layer, inputs or list(named.values())),
                    with_kwargs=True,
                )
            )
            return
        try:
            module = self.module.get_submodule(layer)
        except AttributeError:
            known = [path for path, _ in self.module.named_modules() if path]
            children = ", ".join(name for name, _ in self.module.named_children()) or "none"
            raise LayerError(
                f"{self.name}: expected the name of a layer of {type(self.module).__name__}; got "
                f"{layer!r}, whose path does not exist. Its children are {children}."
                f"{nearest(layer, known)}"
            ) from None
        self._handles.append(
            module.register_forward_hook(lambda _, __, output: self._keep(layer, output))
        )

    def _keep(self, layer: str, output: Any) -> None:
        output = getattr(output, "last_hidden_state", output)  # of a transformers encoder
        if isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise LayerError(
                f"{self.name}: expected layer {layer!r} to give a tensor; got "
                f"{type(output).__name__}. Name a layer inside of it."
            )
        # A copy, because a later layer may work in place, as ReLU(inplace=True) does.
        self._seen[layer] = output if layer == PENULTIMATE else output.clone()

    def _check_all_ran(self) -> None:
        silent = [layer for layer in self.layers if layer not in self._seen]
        if silent:
            raise LayerError(
                f"{self.name}: expected layers {', '.join(silent)} to run in the forward pass; "
                "they did not. Name layers that forward() calls."
            )


def call(module: Any, inputs: Inputs) -> Any:
    """Call a module with its inputs, unpacked where they are a dict."""
    return module(**inputs) if isinstance(inputs, dict) else module(inputs)


def logits_of(output: Any, name: str = "model") -> Tensor:
    """Return the logits in whatever a model returned: a tensor, a tuple, a dict or an object.

    Raises:
        ModelError: If there is no tensor that could be the logits.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(
        f"{name}: expected forward() to return a tensor of logits, a tuple that starts with it, or "
        f"an object with `logits`; got {type(output).__name__}. Wrap the model."
    )


def find_head(module: nn.Module, example: Inputs | None, name: str = "model") -> str:
    """Return the dotted name of the linear layer whose output is the logits.

    Raises:
        LayerError: If there is none, or no example inputs were given.
    """
    if example is None:
        raise LayerError(f"{name}: expected example inputs, to find the penultimate layer with.")
    seen: dict[str, Tensor] = {}
    linear = {path: part for path, part in module.named_modules() if isinstance(part, nn.Linear)}
    handles = [
        part.register_forward_hook(
            lambda _, __, output, path=path: seen.__setitem__(path, output)  # pyright: ignore[reportArgumentType]
        )
        for path, part in linear.items()
    ]
    try:
        logits = evaluated(module, example, name)
    finally:
        for handle in handles:
            handle.remove()
    heads = [path for path, output in seen.items() if _same_memory(output, logits)]
    if not heads:
        raise LayerError(
            f"{name}: expected a linear layer whose output is the model's output, to find the "
            f"penultimate layer; {type(module).__name__} has none among "
            f"{', '.join(linear) or 'none'}"
            ". Name the layer, as in layers={'student': 'encoder.pool', 'teacher': ...}."
        )
    return heads[-1]


def evaluated(module: nn.Module, inputs: Inputs, name: str = "model") -> Tensor:
    """Return the logits of one forward pass in eval mode, without gradient; modes are restored.

    Raises:
        ModelError: If the forward pass fails; the inputs are described.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            output = call(module, in_type(inputs, floating_type(module)))
    except FORWARD_ERRORS as problem:
        raise ModelError(failure_of(name, module, inputs, problem)) from None
    finally:
        for part, mode in modes.items():
            part.training = mode
    return logits_of(output, name)


def failure_of(name: str, module: Any, inputs: Inputs, problem: Exception) -> str:
    """Say in one line on which inputs a model's forward pass failed."""
    given = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    shapes = ", ".join(
        f"{key} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
        for key, value in given.items()
    )
    first = (str(problem) or type(problem).__name__).splitlines()[0]
    return (
        f"{name}: expected {type(module).__name__} to take a batch of {shapes}; its forward pass "
        f"failed: {first}. {_token_advice(module, given) or _ADVICE}"
    )


def _token_advice(module: Any, given: dict[str, Tensor]) -> str | None:
    """Say which token ids or lengths lie beyond a text model's configuration, if any do."""
    config, ids = getattr(module, "config", None), given.get("input_ids")
    size = getattr(config, "vocab_size", None)
    longest = getattr(config, "max_position_embeddings", None)
    if ids is None or not ids.numel() or ids.is_floating_point():
        return None
    try:
        highest = int(ids.max())
    except RuntimeError:  # an accelerator that failed at an index answers no more
        return None
    if isinstance(size, int) and highest >= size:
        return (
            f"Token id {highest}, vocabulary {size} (ids 0 to {size - 1}): encode the texts with "
            "this model's own tokenizer; teacher and student must read the same tokens."
        )
    if isinstance(longest, int) and ids.shape[-1] > longest:
        return (
            f"Rows of {ids.shape[-1]} tokens, max_position_embeddings {longest}: cut the texts to "
            f"at most {longest} tokens (`tokens` of limbeck.zoo.text.load_text)."
        )
    return None


def floating_type(module: nn.Module) -> torch.dtype | None:
    """Return the type of the module's first floating parameter, or None without one."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def in_type(inputs: Inputs, dtype: torch.dtype | None) -> Inputs:
    """Convert floating inputs to a type, or to none."""
    if dtype is None:
        return inputs
    if isinstance(inputs, dict):
        return {key: cast(Tensor, in_type(value, dtype)) for key, value in inputs.items()}
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def _same_memory(output: Any, logits: Tensor) -> bool:
    return (
        isinstance(output, Tensor)
        and output.numel() == logits.numel()
        and output.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()
    )
