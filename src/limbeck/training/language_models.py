"""Language models and text classifiers of transformers: from a folder, or new ones."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.checks import ModelError, check_choice, nearest


CAUSAL = ("ForCausalLM", "LMHeadModel", "LMHead")
HEADS = ("causal", "classification")
PREFIX = "hf-config"
CLASSIFIER = "ForSequenceClassification"
_NAMES = ("id2label", "label2id")  # of classes
NOT_OF_A_NEW_ONE = frozenset({"transformers_version", "architectures", "dtype", "_name_or_path"})


def from_folder(transformers: Any, folder: str, head: str | None, **kwargs: Any) -> nn.Module:
    """Read a model that transformers saved, from disk only.

    Args:
        transformers: The package.
        folder: Holds config.json and weights.
        head: "causal" or "classification"; None takes what config.json names, a causal language
            model where it is one and no ``num_labels`` is given, else a sequence classifier.
        kwargs: Passed to transformers.
    """
    if head is not None:
        check_choice(f"hf:{folder}", "head", head, HEADS)
    if head is None:
        causal = "num_labels" not in kwargs and is_causal(Path(folder))
    else:
        causal = head == "causal"
    kind = "AutoModelForCausalLM" if causal else "AutoModelForSequenceClassification"
    model = getattr(transformers, kind).from_pretrained(
        folder, local_files_only=True, **{"trust_remote_code": False, **kwargs}
    )
    return _without_cache(model) if causal else model


def from_config(transformers: Any, name: str, **options: Any) -> nn.Module:
    """Build a causal language model, or a sequence classifier, with initial weights.

    Args:
        transformers: The package.
        name: A model type of transformers, such as "gpt2", "llama" or "qwen2", or a folder with
            config.json, whose settings hold where no option says otherwise.
        options: Settings of its configuration, such as ``vocab_size``. ``num_labels`` makes it a
            sequence classifier, as ``head: classification`` does; ``head: causal`` does not.

    Raises:
        ModelError: If the type or a setting is unknown.
        ArgumentError: If there is no such head.
    """
    head = options.pop("head", None)
    if head is not None:
        check_choice(f"{PREFIX}:{name}", "head", head, HEADS)
    causal = "num_labels" not in options if head is None else head == "causal"
    if (Path(name) / "config.json").is_file():
        settings = _settings_in(Path(name) / "config.json")
        settings = {key: value for key, value in settings.items() if key not in NOT_OF_A_NEW_ONE}
        kind, given = settings.get("model_type", name), {**settings, **options}
    else:
        kind, given = name, dict(options)
    known = transformers.CONFIG_MAPPING
    if kind not in known:
        raise ModelError(
            f"{PREFIX}:{name}: expected a folder with config.json or a model type of transformers, "
            f"such as gpt2, llama or qwen2; got {kind!r}.{nearest(kind, known)}"
        )
    config_class = known[kind]
    accepted = {*config_class().to_dict(), *config_class.attribute_map, "num_labels"}
    for option in options:
        if option not in accepted:  # transformers would keep it and change nothing
            raise ModelError(
                f"{PREFIX}:{name}: expected a setting of {config_class.__name__}; got `{option}`."
                f"{nearest(option, accepted)}"
            )
    kept = {key: value for key, value in given.items() if key in accepted}
    if "num_labels" in options:  # names of a folder's classes would overrule their number
        kept = {key: value for key, value in kept.items() if key not in _NAMES or key in options}
    kind = "AutoModelForCausalLM" if causal else "AutoModelForSequenceClassification"
    try:
        config = config_class(**_fitting_ids(config_class, kept))
        model = getattr(transformers, kind).from_config(config, trust_remote_code=False)
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as problem:
        first = (str(problem) or type(problem).__name__).splitlines()[0]
        raise ModelError(f"{PREFIX}:{name}: could not be built: {first}.") from None
    return _without_cache(model) if causal else model


def described(model: nn.Module, *, classifiers: bool = False) -> dict[str, Any] | None:
    """Return a ``limbeck_source`` that needs no folder; None where it is no language model.

    With ``classifiers`` a sequence classifier has one as well.

    Weights lie beside it, so what a folder of transformers would be read for is its configuration.
    """
    config = getattr(model, "config", None)
    causal = type(model).__name__.endswith(CAUSAL)
    classifier = classifiers and type(model).__name__.endswith(CLASSIFIER)
    if not (causal or classifier) or config is None or not hasattr(config, "to_diff_dict"):
        return None
    settings: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    kind = settings.pop("model_type")
    accepted = type(config)().to_dict()
    kept = accepted.keys() - NOT_OF_A_NEW_ONE
    kwargs = {key: value for key, value in settings.items() if key in kept}
    if classifier:
        kwargs["num_labels"] = config.num_labels
    return {"builder": f"{PREFIX}:{kind}", "kwargs": kwargs}


def is_causal(folder: Path) -> bool:
    """Say whether config.json in a folder names a causal language model."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf8"))
        return any(str(name).endswith(CAUSAL) for name in settings.get("architectures") or ())
    except (OSError, ValueError, AttributeError):
        return False  # transformers says what is wrong with it


def package() -> Any:
    """Return transformers.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ModuleNotFoundError as problem:
        raise ModelError(
            f"transformers: cannot be imported ({problem}); pip install 'limbeck[text]'."
        ) from None


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as problem:
        raise ModelError(
            f"{path}: expected the configuration of a model; it cannot be read ({problem})."
        ) from None
    if not isinstance(found, dict):
        raise ModelError(
            f"{path}: expected the configuration of a model, an object; got {type(found).__name__}."
        )
    return found


def _without_cache(model: Any) -> nn.Module:
    # With a cache transformers does not look for the borders of packed documents.
    model.config.use_cache = False
    return model


def _fitting_ids(config_class: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without default ids of special tokens that a small vocabulary lacks."""
    size = settings.get("vocab_size")
    if size is None:
        return settings
    defaults = config_class().to_dict()
    names = [name for name in defaults if name.endswith("_token_id") and name not in settings]
    outside = {name: None for name in names if isinstance(defaults[name], int)
               and defaults[name] >= size}  # fmt: skip
    return {**settings, **outside}
