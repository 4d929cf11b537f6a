"""Next-token distributions of a network that reads token ids, prefixes of one text in one pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.capture import FORWARD_ERRORS, failure_of, logits_of
from limbeck.checks import DataError, ModelError


Tokens = tuple[int, ...]
LOGITS = 2**28  # of one forward pass at most, unless a single text has more
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of probabilities, where a network is causal
COARSE = 2e-2  # the same in 16 bits


class TokenStudent:
    """A network that is asked for the distribution after a list of token ids.

    Where it scores every position and later tokens change nothing (which is tried out, not
    believed), inputs that begin another one are read off its pass.

    Args:
        network: Called with ``input_ids`` and ``attention_mask`` where its forward has such
            arguments, else with one tensor [rows, tokens] of texts of one length.
        name: For messages.
        device: Where it runs.
        batch_size: Texts at a time.
    """

    def __init__(
        self, network: nn.Module, name: str, device: torch.device, batch_size: int
    ) -> None:
        self.network, self.name, self.device = network, name, device
        self.batch_size = batch_size
        accepted = inspect.signature(network.forward).parameters
        self.by_name = "input_ids" in accepted
        self.masked = self.by_name and "attention_mask" in accepted

    @staticmethod
    def refusal(network: nn.Module, tokens: Tokens) -> str | None:
        """Say why a list of token ids cannot be given to a network; None where it can."""
        if not tokens:
            return "with an empty list of tokens"
        embeddings = getattr(network, "get_input_embeddings", None)
        size = getattr(embeddings() if embeddings else None, "num_embeddings", None)
        if size is not None and max(tokens) >= size:
            return "with a token id outside of the student's vocabulary"
        longest = getattr(getattr(network, "config", None), "max_position_embeddings", None)
        if longest is not None and len(tokens) > longest:
            return "with more tokens than the student's context holds"
        return None

    def rows(self, inputs: Sequence[Tokens]) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield positions among the inputs and their scores [rows, labels], in any order.

        Raises:
            ModelError: If the network fails on them, or gives no scores.
            DataError: If an input is empty.
        """
        if not all(inputs):
            raise DataError("certify: expected at least one token an input; got an empty list.")
        order = sorted(range(len(inputs)), key=inputs.__getitem__)
        longest = max(inputs, key=len)
        probe = self._scores([longest])
        alone = {place: [place] for place in order}
        chains = self._chains(inputs, order) if self._is_causal(longest, probe) else alone
        size = probe[0].numel()
        for batch in self._batches(inputs, sorted(chains, key=lambda i: len(inputs[i])), size):
            logits = self._scores([inputs[place] for place in batch])
            if logits.ndim == 2:
                yield np.array(batch), logits
                continue
            for row, place in enumerate(batch):  # one text at a time: its rows may be many
                asked = chains[place]
                after = torch.tensor([len(inputs[one]) - 1 for one in asked], device=logits.device)
                yield np.array(asked), logits[row, after]

    def _chains(self, inputs: Sequence[Tokens], order: list[int]) -> dict[int, list[int]]:
        """Return the inputs that begin each of those that begin no other, itself among them.

        In alphabetical order whatever begins others stands right before one of these.
        """
        found: dict[int, list[int]] = {}
        last = -1
        for place in reversed(order):
            own = inputs[place]
            if last >= 0 and inputs[last][: len(own)] == own:
                found[last].append(place)
            else:
                found[place], last = [place], place
        return found

    def _is_causal(self, longest: Tokens, probe: Tensor) -> bool:
        if probe.ndim == 2 or len(longest) < 2:
            return False
        half = len(longest) // 2
        part = self._scores([longest[:half]])[0, -1].double().softmax(0)
        whole = probe[0, half - 1].double().softmax(0)
        return bool((part - whole).abs().max() <= CLOSE.get(probe.dtype, COARSE))

    def _batches(
        self, inputs: Sequence[Tokens], places: list[int], size: int
    ) -> Iterator[list[int]]:
        batch: list[int] = []
        most = max(1, min(self.batch_size, LOGITS // size))
        for place in places:
            fits = self.masked or not batch or len(inputs[batch[0]]) == len(inputs[place])
            if batch and (len(batch) == most or not fits):
                yield batch
                batch = []
            batch.append(place)
        yield batch

    @torch.inference_mode()
    def _scores(self, texts: Sequence[Tokens]) -> Tensor:
        width = max(map(len, texts))
        ids = torch.zeros(len(texts), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):  # padded on the right: earlier positions see no padding
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        ids, given = ids.to(self.device), {}
        if self.by_name:
            given["input_ids"] = ids
        if self.masked:
            given["attention_mask"] = mask.to(self.device)
        try:
            said: Any = self.network(**given) if given else self.network(ids)
        except FORWARD_ERRORS as problem:
            raise ModelError(failure_of(self.name, self.network, given or ids, problem)) from None
        logits = logits_of(said, self.name)
        good = logits.shape[0] == len(texts) and (
            logits.ndim == 2 or (logits.ndim == 3 and logits.shape[1] == width)
        )
        if not good:
            raise ModelError(
                f"{self.name}: expected scores [rows, tokens, labels] or [rows, labels] for token "
                f"ids ({len(texts)}, {width}); got {tuple(logits.shape)}. Wrap the model."
            )
        return logits
