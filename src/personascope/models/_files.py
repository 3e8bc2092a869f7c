"""A model's files without its weights, for engines that load the weights themselves."""

from __future__ import annotations

from dataclasses import dataclass

import transformers
from transformers import PreTrainedTokenizerBase

from personascope.chat import ChatFormat, TranscriptFormat
from personascope.errors import ModelError
from personascope.models._load import end_tokens, located
from personascope.models._quiet import quiet_transformers
from personascope.models._read import loading, read_tokenizer
from personascope.models._source import ModelSource, resolve


@dataclass(frozen=True, slots=True, eq=False)
class ModelFiles:
    """Place, tokenizer and shape of a model; fields are named as in `LoadedModel`.

    Attributes:
        place: Folder or hub id.
        tokenizer: Tokenizer of the model.
        chat: Chat format, or None if the model has no chat template.
        source: Source of the files.
        model_id: Name that the model was requested by.
        revision: Git commit, SHA-256 of the GGUF file, or fingerprint of the folder.
        n_layers: Number of decoder blocks.
        d_model: Width of the residual stream.
        eos_token_ids: Tokens that end a response.
        max_length: Maximum number of positions, or None if the config does not say.
    """

    place: str
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat | TranscriptFormat | None
    source: ModelSource
    model_id: str
    revision: str
    n_layers: int
    d_model: int
    eos_token_ids: frozenset[int]
    max_length: int | None


def open_files(source: ModelSource | str, *, trust_remote_code: bool = False) -> ModelFiles:
    """Find a model's files, convert a GGUF file if needed, and read everything but the weights.

    Raises:
        ModelError: If the model cannot be found or read, or is an adapter.
        ChatError: If its chat template cannot be used.
    """
    if isinstance(source, str):
        source = resolve(source)
    source, place, common = located(source, trust_remote_code=trust_remote_code)
    if source.kind == "adapter":
        raise ModelError(
            f"{source.name} is an adapter, which this engine cannot put on its model",
            hint="take --engine transformers, or merge the adapter into its base and save that",
        )
    with loading(source.name, trust_remote_code), quiet_transformers():
        config = transformers.AutoConfig.from_pretrained(place, **common)
        tokenizer = read_tokenizer(place, common)
        try:
            generation = transformers.GenerationConfig.from_pretrained(
                place, **{k: v for k, v in common.items() if k != "trust_remote_code"}
            )
        except OSError:
            generation = None  # The file is optional, and only adds end tokens.
    chat = ChatFormat(tokenizer, model_name=source.name) if tokenizer.chat_template else None
    text = config.get_text_config(decoder=True)
    return ModelFiles(
        place=place,
        tokenizer=tokenizer,
        chat=chat,
        source=source,
        model_id=source.name,
        revision=source.revision or "",
        n_layers=int(text.num_hidden_layers),
        d_model=int(text.hidden_size),
        eos_token_ids=end_tokens(generation, config, tokenizer, chat),
        max_length=getattr(text, "max_position_embeddings", None),
    )
