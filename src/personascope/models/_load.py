"""Load a model with its tokenizer, layer stack and chat format."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from personascope.chat import ChatFormat, TranscriptFormat
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.models._adapter import adapter_base, merged, tokenizer_place
from personascope.models._convert import convert_gguf
from personascope.models._identity import model_identity
from personascope.models._quiet import quiet_transformers
from personascope.models._read import check_device, check_weights, loading, read_model, read_tokenizer
from personascope.models._source import ModelSource, resolve
from personascope.models._stack import LayerStack, layer_stack
from personascope.models._steered import Steered, steered

log = logging.getLogger(__name__)

DtypeName = Literal["bfloat16", "float32", "float16"]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model that is ready to run.

    Attributes:
        model: Model in eval mode, with gradients of its parameters switched off.
        tokenizer: Tokenizer of the model.
        stack: Decoder blocks, backbone and head.
        chat: Chat format, or None if the model has no chat template (a base model; pass token ids, or
            take ``ChatFormat.transcript(tokenizer)``).
        source: Source of the files.
        model_id: Name that the model was requested by.
        revision: Git commit, SHA-256 of the GGUF file, or fingerprint of the folder.
        dtype: Name of the dtype of the weights.
        n_layers: Number of decoder blocks.
        d_model: Width of the residual stream.
        eos_token_ids: Tokens that end a response, according to the generation config, the config, the
            tokenizer and the chat format.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stack: LayerStack
    chat: ChatFormat | TranscriptFormat | None
    source: ModelSource
    model_id: str
    revision: str
    dtype: str
    n_layers: int
    d_model: int
    eos_token_ids: frozenset[int]

    @property
    def device(self) -> torch.device:
        """Device of the input embedding, on which token ids must be."""
        return next(self.model.get_input_embeddings().parameters()).device

    def steered(self, plan: Plan) -> AbstractContextManager[Steered]:
        """Apply a plan to every forward pass of the model within a ``with`` block.

        See `personascope.models.steered`, which does the same for any Transformers model.
        """
        return steered(self, plan)


def load(
    source: ModelSource | str,
    *,
    dtype: DtypeName = "bfloat16",
    device: str | torch.device | None = None,
    device_map: str | dict[str, Any] | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    reconvert: bool = False,
) -> LoadedModel:
    """Load a model and its tokenizer, and find its layer stack and chat format.

    Args:
        source: Source that `resolve` returned, or a name for `resolve`.
        dtype: Dtype of the weights.
        device: Device of the model; by default the first GPU if there is one, else the CPU.
        device_map: Accelerate's map that spreads the model over devices ("auto", or a mapping), instead of
            ``device``.
        attn_implementation: Attention implementation ("eager", "sdpa", ...); None for Transformers' choice.
        trust_remote_code: Whether to run code that comes with the model.
        reconvert: Whether to convert a GGUF file anew instead of using the cache.

    Raises:
        UsageError: If there is no such dtype or device, or both a device and a device map are given.
        ModelError: If the model cannot be found or read, its layer stack is not found, or its weights lack
            tensors of the model, hold tensors that it has no place for, or are not finite.
        ChatError: If its chat template cannot be used.
    """
    if dtype not in get_args(DtypeName):
        raise UsageError(f"unknown dtype {dtype!r}", hint=f"use one of {', '.join(get_args(DtypeName))}")
    if device is not None and device_map is not None:
        raise UsageError("device and device_map were both given", hint="give one of them")
    if isinstance(source, str):
        source = resolve(source)
    source, place, common = located(source, trust_remote_code=trust_remote_code, reconvert=reconvert)
    if device is None and device_map is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device is not None:
        check_device(device)
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "device_map": device_map}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    with loading(source.name, trust_remote_code), quiet_transformers():
        model = read_model(place, common, options)
        if source.kind == "adapter":
            model = merged(model, source)
        tokenizer = read_tokenizer(tokenizer_place(source, place), common)
        if device is not None:
            model.to(device)  # type: ignore[reportArgumentType]
    check_weights(source.name, model)
    return assemble(model, tokenizer, source=source)


def in_memory(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Return a model of Transformers that is already in memory as a `LoadedModel`.

    It is put in eval mode and the gradients of its parameters are switched off, in place.

    Raises:
        ModelError: If no layer stack is found in the model, or the folder that it came from cannot be read.
        ChatError: If the tokenizer's chat template cannot be used.
    """
    identity = model_identity(model)
    source = ModelSource(identity.id, "folder", (Path(identity.id),), identity.revision or None)
    return assemble(model, tokenizer, source=source)


def assemble(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, source: ModelSource
) -> LoadedModel:
    """Build a `LoadedModel` from a model and a tokenizer that are already in memory.

    The model is put in eval mode and the gradients of its parameters are switched off, in place.

    Raises:
        ModelError: If no layer stack is found in the model.
        ChatError: If the tokenizer's chat template cannot be used.
    """
    model.eval()
    model.requires_grad_(False)
    stack = layer_stack(model)
    chat = ChatFormat(tokenizer, model_name=source.name) if tokenizer.chat_template else None
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        stack=stack,
        chat=chat,
        source=source,
        model_id=source.name,
        revision=source.revision or "",
        dtype=_dtype_name(stack, model),
        n_layers=stack.n_layers,
        d_model=stack.d_model,
        eos_token_ids=end_tokens(model.generation_config, model.config, tokenizer, chat),
    )


def _dtype_name(stack: LayerStack, model: PreTrainedModel) -> str:
    """Return the dtype that the blocks compute in; for quantised weights, that of the unquantised ones."""
    kinds = (weight.dtype for weight in stack.blocks[0].parameters())
    wide = (kind for kind in kinds if kind.is_floating_point and kind.itemsize > 1)
    return str(next(wide, model.dtype)).removeprefix("torch.")


def end_tokens(
    generation_config: Any,
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatFormat | TranscriptFormat | None,
) -> frozenset[int]:
    """Return the tokens that end a response, collected from configs, tokenizer and chat format."""
    ends = [
        getattr(generation_config, "eos_token_id", None),
        getattr(config.get_text_config(decoder=True), "eos_token_id", None),
        getattr(config, "eos_token_id", None),
        tokenizer.eos_token_id,
        list(chat.stop_token_ids) if chat else None,
    ]
    return frozenset(
        int(i) for end in ends if end is not None for i in (end if isinstance(end, list) else [end])
    )


def located(
    source: ModelSource, *, trust_remote_code: bool = False, reconvert: bool = False
) -> tuple[ModelSource, str, dict[str, Any]]:
    """Return where and how Transformers reads a model's files, after converting a GGUF file if needed.

    Returns:
        The source with its revision, a folder or hub id, and arguments for ``from_pretrained``. An adapter
        gives the folder or hub id of its base model.

    Raises:
        ModelError: If a GGUF file cannot be converted.
    """
    if source.kind == "adapter":
        base, place, common = located(
            adapter_base(source), trust_remote_code=trust_remote_code, reconvert=reconvert
        )
        return replace(source, revision=f"{source.revision}+{base.revision}"), place, common
    folder = source.paths[0]
    if source.kind == "gguf":
        folder, revision = convert_gguf(source.paths, cache_dir=source.cache_dir, reconvert=reconvert)
        source = replace(source, revision=revision)
    # A hub id is passed to Transformers as it is, because only the config has been fetched so far.
    place = source.name if source.kind == "hub" else str(folder)
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if source.kind == "hub":
        common |= {"revision": source.revision, "cache_dir": source.cache_dir}
    return source, place, common
