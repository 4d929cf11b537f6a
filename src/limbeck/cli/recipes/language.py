"""Recipes of language models."""

from __future__ import annotations


LANGUAGE = {
    "language": """\
# Distil a small GPT-2 into a smaller one, by characters of a text (or of a folder of texts).
# First:  limbeck train RECIPE teacher=null student.n_embd=128 out=runs/text-teacher
# Then:   limbeck distill RECIPE --seeds 3
seed: 0
out: runs/text
task: language_model                        # means over tokens; perplexity, bits per byte
data:
  module: "limbeck.zoo.tokens:load_tokens"
  options: {text: text.txt, tokenizer: characters, tokens: 128}   # or bytes, hf:FOLDER
teacher: {folder: runs/text-teacher}        # or {model: "hf:FOLDER"}, of the same tokenizer
student: {model: "hf-config:gpt2", n_embd: 64, n_layer: 2, n_head: 4, n_positions: 128}
loss: {name: token_kd, temperature: 1.0}    # or token_top_k, token_sampled
weight: 0.5                                 # share of the loss in [0, 1]; null: 1
training: {epochs: 4, batch_size: 32, optimizer: adamw, learning_rate: 0.002, schedule: cosine}
""",
}
"""Language models, as texts."""
