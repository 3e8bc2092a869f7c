"""Read a model's weights and tokenizer with Transformers, with errors where it would only warn."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from personascope.errors import ModelError, PersonascopeError, UsageError
from personascope.models._stack import is_finite


def check_device(device: str | torch.device) -> None:
    """Check that this build of torch and this machine have a device.

    Raises:
        UsageError: If they do not; the message gives torch's reason.
    """
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises AssertionError, RuntimeError and others, by device
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"the device {str(device)!r} cannot be used: {reason}",
            hint=f"take --device cpu, or install a build of torch for it (this one is {torch.__version__})",
        ) from error


@contextmanager
def loading(name: str, trusted: bool) -> Generator[None]:
    """Convert exceptions of the libraries in a ``with`` block into a `ModelError` that names the model.

    A damaged file can raise almost any exception, deep in a parser. Running out of memory is passed on.
    """
    try:
        yield
    except (PersonascopeError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise load_error(name, error, trusted) from error


def read_model(place: str, common: dict[str, Any], options: dict[str, Any]) -> PreTrainedModel:
    """Load a causal language model, or an image-text-to-text model.

    Raises:
        ModelError: If the weights lack tensors of the model, hold some that its modules have no place for,
            or are quantised by a method that cannot be loaded.
    """
    config = transformers.AutoConfig.from_pretrained(place, **common)
    auto: Any = transformers.AutoModelForCausalLM
    remote = common["trust_remote_code"] and hasattr(config, "auto_map")
    if not remote and type(config) not in auto._model_mapping:
        auto = transformers.AutoModelForImageTextToText
    method = _quantisation(config)
    try:
        # Weights in a format other than safetensors would be unpickled.
        model, info = auto.from_pretrained(
            place, config=config, use_safetensors=True, output_loading_info=True, **common, **options
        )
    except Exception as error:
        if method is None:
            raise
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{place} has weights quantised by {method}, which cannot be loaded here: {reason}",
            hint="install what the message names, or use the model's unquantised weights",
        ) from error
    # Transformers initialises missing tensors at random and only warns.
    check_cover(place, [*info["missing_keys"], *info["mismatched_keys"]])
    if method is None:
        check_placed(place, model, info["unexpected_keys"])
    return model


def check_cover(place: str, absent: Iterable[Any]) -> None:
    """Check that the weights lack no tensors of the model.

    Raises:
        ModelError: If they do; the message names the first of ``absent``.
    """
    names = sorted(map(str, {*absent}))
    if names:
        raise ModelError(
            f"the weights in {place} lack {len(names)} tensors of the model, among them {names[0]}",
            hint="fetch the model again; its files are incomplete or of another model than its config.json",
        )


def check_placed(place: str, model: nn.Module, unexpected: Iterable[str]) -> None:
    """Check that the weights hold no unexpected tensors of modules that the model has.

    Weights of whole modules that the model lacks (a head for drafts, a vision tower) are allowed.

    Raises:
        ModelError: If they do; the message names the first.
    """
    modules = {name for name, _ in model.named_modules()}
    strange = sorted(key for key in unexpected if "." in key and key.rpartition(".")[0] in modules)
    if strange:
        raise ModelError(
            f"the weights in {place} hold {len(strange)} tensors that the model has no place for, among them "
            f"{strange[0]}",
            hint="its config.json is of another model, or this Transformers is too old for it",
        )


def read_tokenizer(place: str, common: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Load a tokenizer; for a Mistral model that ships two, the one with a chat template.

    If mistral-common is installed, Transformers prefers a model's ``tekken.json``, whose tokenizer has no
    chat template and no offsets, so that an instruct model would look like a base model.

    Raises:
        ModelError: If the model has only a ``tekken.json``.
    """
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place, **common)
    if not type(tokenizer).__name__.startswith("MistralCommon"):
        return tokenizer
    backend: Any = getattr(transformers, "TokenizersBackend", transformers.PreTrainedTokenizerFast)
    try:
        return backend.from_pretrained(place, **common)
    except Exception as error:  # without its files the backend fails in many ways
        raise ModelError(
            f"{place} has its tokenizer as tekken.json alone, which has no chat template",
            hint="put tokenizer.json and chat_template.jinja of a converted release beside it",
        ) from error


def check_weights(name: str, model: nn.Module) -> None:
    """Check that no weight holds NaN or infinity.

    Raises:
        ModelError: If one does; the message names the first such tensor.
    """
    for key, weight in model.named_parameters():
        if not is_finite(weight):
            raise ModelError(
                f"{name}: the weight {key} holds NaN or infinity in {weight.dtype}",
                hint="fetch the model again, or load it with --dtype bfloat16 if it was given as float16",
            )


def load_error(name: str, error: Exception, trusted: bool) -> ModelError:
    """Return the `ModelError` that explains why a model cannot be loaded."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, OSError) and "safetensors" in text:
        return ModelError(
            f"{name} has no whole set of safetensors weights: {text}",
            hint="fetch it again, or convert its weights to safetensors (others are never unpickled)",
        )
    if "trust_remote_code" in str(error) and not trusted:
        return ModelError(
            f"{name} brings its own code, which was not run",
            hint="read that code, then load with trust_remote_code=True",
        )
    return ModelError(
        f"{name} cannot be loaded: {type(error).__name__}: {text}",
        hint="check that its files are whole, and that this Transformers knows its architecture",
    )


def _quantisation(config: Any) -> str | None:
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    method = given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", None)
    return str(getattr(method, "value", method) or "an unnamed method")
