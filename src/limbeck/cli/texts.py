"""Text models in recipes: one vocabulary for data and models, and a task to go with it."""

from __future__ import annotations

import torch
from torch import nn

from limbeck.checks import RecipeError
from limbeck.cli.material import Material
from limbeck.language_model import LanguageModel
from limbeck.training.language_models import PREFIX
from limbeck.training.token_preflight import vocabulary_of
from limbeck.types import Task


def defaults_of(name: str, material: Material | None) -> dict[str, int]:
    """Return what a new text model takes from the data where a recipe does not say it.

    Of tokens that is the vocabulary; of rows with a class each, the number of classes.
    """
    if material is None or not name.startswith(f"{PREFIX}:"):
        return {}
    if material.vocabulary is not None:
        return {"vocab_size": material.vocabulary.size}
    return {} if material.classes is None else {"num_labels": material.classes}


def fit_model(model: nn.Module, where: str, material: Material | None) -> nn.Module:
    """Return a model that reads the data's tokens, and tell a student what its ids stand for.

    Raises:
        RecipeError: If it was trained on other tokens, or has fewer.
    """
    if material is None or material.vocabulary is None:
        return model
    data, known = material.vocabulary, vocabulary_of(model)
    if known is not None and known.differs_from(data):
        raise RecipeError(
            f"recipe: expected `{where}` to read the tokens of {material.name}, {data}; it reads "
            f"{known}. Encode the text with the tokenizer of `{where}` (`data.options.tokenizer`), "
            "or take a model that was trained on these tokens."
        )
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    size = getattr(embeddings, "num_embeddings", data.size)
    if size < data.size:
        raise RecipeError(
            f"recipe: expected `{where}` to have the {data.size} tokens of {material.name}; it has "
            f"{size}. Encode the text with its own tokenizer, or set its `vocab_size`."
        )
    if where == "student":
        model.limbeck_vocabulary = data  # type: ignore[assignment]
    return model


def fit_task(task: Task, material: Material) -> Task:
    """Return a task that suits the data: bits per byte are known where bytes are.

    Raises:
        RecipeError: If the data are tokens and the task is another one.
    """
    if material.vocabulary is None:
        return task
    if not isinstance(task, LanguageModel):
        raise RecipeError(
            f"recipe: expected `task: language_model` for the tokens of {material.name}; got "
            f"{getattr(task, 'name', type(task).__name__)}. Correct it."
        )
    if task.token_bytes is None and material.token_bytes is not None:
        task.token_bytes = torch.tensor(material.token_bytes)
    return task
