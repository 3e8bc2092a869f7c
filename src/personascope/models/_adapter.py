"""PEFT adapters, which are loaded as their base model with the adapter merged in."""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedModel

from personascope.errors import ModelError
from personascope.models._source import ModelSource, resolve

CONFIG = "adapter_config.json"


def adapter_base(source: ModelSource) -> ModelSource:
    """Find the base model of an adapter, by the name in the adapter's config.

    Raises:
        ModelError: If the config is damaged or names no base, or the base cannot be found.
    """
    file = source.paths[0] / CONFIG
    try:
        name = json.loads(file.read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} names no base model ({error})", hint="fetch the adapter again") from error
    try:
        return resolve(str(name), cache_dir=source.cache_dir)
    except ModelError as error:
        raise ModelError(
            f"the adapter {source.name} is of {name}: {error.message}", hint=error.hint
        ) from error


def tokenizer_place(source: ModelSource, base: str) -> str:
    """Return the place of the tokenizer: the adapter's folder if it holds one, else ``base``."""
    folder = source.paths[0]
    own = source.kind == "adapter" and (folder / "tokenizer_config.json").is_file()
    return str(folder) if own else base


def merged(model: PreTrainedModel, source: ModelSource) -> PreTrainedModel:
    """Put an adapter on its base model and merge it into the weights.

    Raises:
        ModelError: If peft is not installed, or the adapter's weights are not safetensors.
    """
    try:
        from peft import PeftModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModelError(
            f"{source.name} is an adapter, and peft is not installed", hint="pip install 'personascope[peft]'"
        ) from error
    folder = source.paths[0]
    if not any(path.suffix == ".safetensors" for path in folder.iterdir()):
        raise ModelError(
            f"the adapter {source.name} has no safetensors weights",
            hint="convert them to safetensors (others are never unpickled)",
        )
    both: Any = PeftModel.from_pretrained(model, str(folder))
    return both.merge_and_unload()
