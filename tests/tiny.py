"""Tiny random-weight models and tokenizers of many families, shared by all tests.

    tiny_tokenizer("qwen3")            a fast tokenizer with that family's chat template
    tiny_models()                      {name: factory of a fresh seeded model}, 4 to 6 blocks, d 32 to 64
    load_tiny("llama")                 a LoadedModel, as `personascope.models.load` would return it
    save_tiny("llama", folder)         the same on disk, to be found by `resolve`

Every call makes the same weights. Tokenizers are cached: do not change one in place.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from templates import FAMILIES, Family

if TYPE_CHECKING:
    from personascope.models import LoadedModel

SENTENCES = [
    "The keeper of the lighthouse writes a letter to the sea every evening.",
    "You are a helpful assistant. Answer the question as yourself, please.",
    "What is your name, and where do you come from? I am a language model.",
    "system\nuser\nassistant\nmodel\n\nUser: hello there\n\nAssistant: hello\n\n\n",
    "Numbers like 3, 14 and 159 are read out by the old accountant; it's fine.",
    "A pirate, a poet and a planner walked into the harbour at dawn.",
] * 4
BASE_VOCAB = 400


def _byte_level(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCAB,
        special_tokens=[family.specials[0]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.normalizer = normalizers.NFC()
    # Trims the offsets of " word", as Llama 3's does.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def _sentencepiece_like(family: Family) -> Tokenizer:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=BASE_VOCAB - 256, show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    learnt = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", *family.specials, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt["vocab"]]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if family.spm == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


@functools.cache
def tiny_tokenizer(template: str = "chatml") -> PreTrainedTokenizerFast:
    """Build the tokenizer of a family of `templates.FAMILIES` ("none" has no chat template)."""
    return family_tokenizer(FAMILIES[template], adds_bos=template not in ("chatml", "phi3"))


def family_tokenizer(family: Family, *, adds_bos: bool = True) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a family; with ``adds_bos`` it puts the family's bos before a text."""
    backend = _sentencepiece_like(family) if family.spm else _byte_level(family)
    # Phi 3 like families have turn tokens that swallow the white space after them.
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, rstrip=family.rstrip and token.startswith("<|"))
            for token in family.specials
        ]
    )
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain_added])
    if family.bos and adds_bos:
        bos_id = backend.token_to_id(family.bos)
        with_bos = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A {family.bos} $B",
            special_tokens=[(family.bos, bos_id)],
        )
        backend.post_processor = (
            processors.Sequence([backend.post_processor, with_bos]) if backend.post_processor else with_bos
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.eos,
        unk_token="<unk>" if family.spm else None,
    )
    tokenizer.chat_template = family.template
    return tokenizer


TEMPLATE_OF = {
    "llama": "llama3",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "mistral": "mistral",
    "gpt_neox": "plain",
    "gpt2": "none",
    "phi3": "phi3",
    "olmo2": "olmo2",
    "mixtral": "mixtral",
    "cohere": "chatml",
    "granite": "chatml",
    "gemma3_vision": "gemma3",
}


def _vocab(name: str) -> int:
    size = len(tiny_tokenizer(TEMPLATE_OF[name]))
    return size + (-size) % 8


def _common(name: str, **extra: object) -> dict[str, object]:
    tokenizer = tiny_tokenizer(TEMPLATE_OF[name])
    return {
        "vocab_size": _vocab(name),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 1024,
        "initializer_range": 0.15,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **extra,
    }


def _build(name: str, config: transformers.PreTrainedConfig, cls: type | None = None) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(sum(name.encode()))
        if cls is None:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            model = cls._from_config(config, dtype=torch.float32)
        # Norm weights of exactly one would hide a test that compares before and after a norm.
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1 and key.endswith("weight"):
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def tiny_models() -> dict[str, Callable[[], PreTrainedModel]]:
    """Map each family's name to a factory of a fresh model (float32, seeded, eval)."""
    t = transformers

    def gemma3_vision() -> PreTrainedModel:
        text = t.Gemma3TextConfig(**_common("gemma3_vision", sliding_window=32, query_pre_attn_scalar=12))
        vision = t.SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        )
        config = t.Gemma3Config(
            text_config=text,
            vision_config=vision,
            mm_tokens_per_image=4,
            eos_token_id=tiny_tokenizer("gemma3").eos_token_id,
        )
        return _build("gemma3_vision", config, t.Gemma3ForConditionalGeneration)

    return {
        "llama": lambda: _build("llama", t.LlamaConfig(**_common("llama", num_hidden_layers=5))),
        "qwen3": lambda: _build("qwen3", t.Qwen3Config(**_common("qwen3", tie_word_embeddings=True))),
        "gemma2": lambda: _build(
            "gemma2",
            t.Gemma2Config(
                **_common("gemma2", num_hidden_layers=6, sliding_window=32, query_pre_attn_scalar=12),
                final_logit_softcapping=5.0,
            ),
        ),
        "gemma3": lambda: _build(
            "gemma3",
            t.Gemma3TextConfig(
                **_common("gemma3", num_hidden_layers=6, sliding_window=32, query_pre_attn_scalar=12)
            ),
        ),
        "mistral": lambda: _build("mistral", t.MistralConfig(**_common("mistral", sliding_window=None))),
        "gpt_neox": lambda: _build(
            "gpt_neox", t.GPTNeoXConfig(**_common("gpt_neox", num_attention_heads=4), rotary_pct=0.5)
        ),
        "gpt2": lambda: _build(
            "gpt2",
            t.GPT2Config(
                vocab_size=_vocab("gpt2"),
                n_embd=32,
                n_layer=4,
                n_head=4,
                n_positions=1024,
                initializer_range=0.15,
                bos_token_id=tiny_tokenizer("none").bos_token_id,
                eos_token_id=tiny_tokenizer("none").eos_token_id,
            ),
        ),
        "phi3": lambda: _build("phi3", t.Phi3Config(**_common("phi3"))),
        "olmo2": lambda: _build("olmo2", t.Olmo2Config(**_common("olmo2"))),
        "mixtral": lambda: _build(
            "mixtral", t.MixtralConfig(**_common("mixtral"), num_local_experts=4, num_experts_per_tok=2)
        ),
        "cohere": lambda: _build("cohere", t.CohereConfig(**_common("cohere"), logit_scale=0.25)),
        "granite": lambda: _build(
            "granite",
            t.GraniteConfig(
                **_common("granite"), logits_scaling=4.0, residual_multiplier=0.5, embedding_multiplier=3.0
            ),
        ),
        "gemma3_vision": gemma3_vision,
    }


def load_tiny(name: str = "llama", *, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Return a tiny model as a LoadedModel."""
    from personascope.models._load import assemble
    from personascope.models._source import ModelSource

    model = tiny_models()[name]()
    # Only the weights, as from_pretrained does: rotary frequencies stay in 32 bits.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return assemble(
        model,
        tiny_tokenizer(TEMPLATE_OF[name]),
        source=ModelSource(f"tiny/{name}", "folder", (Path("tiny"),), revision=f"tiny-{name}"),
    )


def save_tiny(name: str, folder: Path) -> Path:
    """Save a tiny model and its tokenizer into a folder."""
    tiny_models()[name]().save_pretrained(folder)
    tiny_tokenizer(TEMPLATE_OF[name]).save_pretrained(folder)
    return folder
