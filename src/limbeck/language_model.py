"""The task of a causal language model: the next token, counted by tokens and not by rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.checks import ArgumentError, DataError, ShapeError, check_between
from limbeck.labels import cross_entropy, total_weight
from limbeck.next_tokens import next_tokens
from limbeck.ranks import share_of_batch
from limbeck.types import Batch, Outputs


BLOCK = 2**24  # logits at a time in metrics: 128 MB in float64


class LanguageModel:
    """The next token at every position; all numbers are means over tokens, not over rows.

    Targets are aligned with the token ids, as ``labels`` of transformers are, -1 or -100 where a
    token is not to be predicted; without targets every token is. Padding, borders between packed
    documents and the first token of a row are left out, see
    :func:`limbeck.next_tokens.follows`. That is what the loss does about borders; whether
    attention looks across them is the model's own affair (models of transformers that build their
    masks from ``position_ids`` do not, without an ``attention_mask`` and with ``use_cache`` off),
    and is tried out before a run.

    Args:
        label_smoothing: Share of the target spread evenly over the vocabulary, in [0, 1].
        token_bytes: Bytes of text of every token id, [vocabulary], where known: then bits per byte
            are among the metrics, which can be compared between tokenizers.
    """

    name: ClassVar[str] = "language_model"
    selection: ClassVar[tuple[str, Literal["max", "min"]]] = ("cross_entropy", "min")

    def __init__(
        self, *, label_smoothing: float = 0.0, token_bytes: Sequence[int] | Tensor | None = None
    ) -> None:
        check_between(self.name, 0.0, 1.0, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        self.token_bytes = None if token_bytes is None else torch.as_tensor(token_bytes)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the weighted mean cross-entropy over labelled tokens [nats]; 0 where none is."""
        logits, following, weights = self._rows(outputs, batch)
        # A model may leave NaN where it was told to look at nothing.
        rows = logits.flatten(0, 1).masked_fill((following < 0)[:, None], 0.0)
        mean = cross_entropy(rows, following, weights=weights, label_smoothing=self.label_smoothing)
        return share_of_batch(mean, total_weight(following, weights, like=mean.detach()))

    def counted(self, batch: Batch) -> Tensor:
        """Return how many tokens, by their rows' weights, the loss of this batch is a mean of."""
        following = next_tokens(batch)
        like = torch.zeros((), dtype=_wide(following), device=following.device)
        return total_weight(following.flatten(), _weights(batch, following.shape), like=like)

    def sums(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return what :meth:`of_sums` needs of a batch; sums of several batches may be added."""
        logits, following, _ = self._rows(outputs, batch)
        rows, vocabulary = logits.flatten(0, 1), logits.shape[-1]
        kind = _wide(logits)
        zero = torch.zeros((), dtype=kind, device=logits.device)
        found = {"nats": zero, "right": zero, "tokens": zero, "bytes": zero}
        table = self._byte_table(vocabulary, logits.device)
        size = max(1, BLOCK // vocabulary)
        for part, tokens in zip(rows.split(size), following.split(size), strict=True):
            kept = tokens >= 0
            z, y = part[kept].to(kind), tokens[kept]
            nats = z.logsumexp(dim=1) - z.gather(1, y[:, None])[:, 0]
            found["nats"] = found["nats"] + nats.sum()
            found["right"] = found["right"] + (z.argmax(dim=1) == y).sum()
            found["tokens"] = found["tokens"] + len(y)
            if table is not None:
                found["bytes"] = found["bytes"] + table[y].sum()
        return found

    def of_sums(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the metrics of all the batches whose :meth:`sums` were added.

        They are the cross-entropy a token [nats], the perplexity (its exponential), the share of
        tokens that were the most likely one, and bits per byte where bytes are known; none without
        a labelled token.
        """
        values = {name: float(value) for name, value in sums.items()}
        tokens = values["tokens"]
        if not tokens:
            return {}
        mean = values["nats"] / tokens
        found = {
            "cross_entropy": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "accuracy": values["right"] / tokens,
        }
        if values["bytes"]:
            found["bits_per_byte"] = values["nats"] / math.log(2) / values["bytes"]
        return found

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, float]:
        """Return the metrics of rows given with their inputs, which say where texts end."""
        return self.of_sums(self.sums(outputs, batch))

    def _rows(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits [batch, length, vocabulary], and by position the next token and weight."""
        logits = outputs.logits
        if logits is None:
            raise ArgumentError(f"{self.name}: expected a model with outputs; got features alone.")
        following = next_tokens(batch)
        if logits.ndim != 3 or logits.shape[:2] != following.shape:
            raise ShapeError(
                f"{self.name}: expected logits [batch, length, vocabulary] for token ids "
                f"{tuple(following.shape)}; got {tuple(logits.shape)}. Use a causal language "
                "model; a classifier or an encoder gives one row a text."
            )
        if following.device.type == "cpu" and following.numel():
            highest = int(following.max())
            if highest >= logits.shape[2]:
                raise DataError(
                    f"{self.name}: expected tokens below {logits.shape[2]}, the model's "
                    f"vocabulary; got {highest}. Encode the texts with the model's own tokenizer."
                )
        return logits, following.flatten(), _weights(batch, following.shape)

    def _byte_table(self, vocabulary: int, device: torch.device) -> Tensor | None:
        if self.token_bytes is None:
            return None
        table = torch.zeros(vocabulary, device=device)
        known = self.token_bytes[:vocabulary]
        table[: len(known)] = known.to(table)
        return table


def _wide(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64  # mps has no other


def _weights(batch: Batch, shape: torch.Size) -> Tensor | None:
    return None if batch.weights is None else batch.weights.repeat_interleave(shape[1])
