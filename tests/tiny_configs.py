"""A tiny model of every causal-LM class that Transformers has, with random weights.

    causal_classes()            {model type: class name}, as Transformers' own mapping has them
    tiny_config("qwen3_5")      a config of that type, shrunk by the names of its fields
    tiny_of("qwen3_5")          a seeded float32 model of that config

Shrinking is by name: whatever is a width, a count of layers, heads or experts, or a vocabulary has the same
name in most families. What does not fit is in ``OVERRIDES``, one line a family.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

WIDTH = 64
VOCAB = 512

SMALL: dict[str, Any] = {
    # Widths.
    **dict.fromkeys(
        [
            "hidden_size",
            "n_embd",
            "d_model",
            "embedding_size",
            "input_embedding_size",
            "output_embedding_size",
        ],
        WIDTH,
    ),
    **dict.fromkeys(
        ["word_embed_proj_dim", "emb_dim", "embedding_dim", "lru_width", "attention_hidden_size"], WIDTH
    ),
    **dict.fromkeys(
        ["intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size"], 96
    ),
    **dict.fromkeys(
        ["dim_ff", "dff", "d_inner", "feed_forward_size", "intermediate_size_mlp", "n_inner"], 96
    ),
    **dict.fromkeys(["dense_intermediate_size"], 96),
    **dict.fromkeys(
        ["moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"], 32
    ),
    **dict.fromkeys(["moe_shared_expert_intermediate_size", "shared_intermediate_size"], 32),
    # Layers, heads and their widths.
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"], 4),
    **dict.fromkeys(["encoder_layers", "num_encoder_layers", "num_decoder_layers", "num_blocks", "depth"], 4),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "num_encoder_attention_heads"], 4),
    **dict.fromkeys(["num_decoder_attention_heads", "attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"], 2),
    **dict.fromkeys(["swa_num_attention_heads"], 4),
    **dict.fromkeys(["head_dim", "dim_head", "d_head", "attention_head_size", "swa_head_dim"], 16),
    **dict.fromkeys(["kv_channels", "query_pre_attn_scalar", "linear_head_dim"], 16),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim"], 16),
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_num_heads": 4,
    "global_head_dim": 16,
    "num_global_key_value_heads": 2,
    "rotary_dim": 8,
    # Latent attention and indexers.
    **dict.fromkeys(
        ["kv_lora_rank", "q_lora_rank", "o_lora_rank", "laurel_rank", "hc_lowrank", "adapter_rank"], 16
    ),
    **dict.fromkeys(["qk_rope_head_dim", "qk_nope_head_dim"], 8),
    "v_head_dim": 16,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 64,
    # Experts.
    **dict.fromkeys(["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token"], 2),
    **dict.fromkeys(["n_group", "topk_group", "num_expert_group", "zero_expert_num"], 1),
    "first_k_dense_replace": 1,
    # Recurrences.
    **dict.fromkeys(["mamba_d_state", "state_size", "ssm_state_size"], 8),
    **dict.fromkeys(["mamba_n_heads", "n_mamba_heads", "mamba_num_heads"], 4),
    **dict.fromkeys(["mamba_d_head", "mamba_head_dim", "mamba_headdim"], 32),
    **dict.fromkeys(["mamba_n_groups", "mamba_ngroups", "n_groups"], 1),
    **dict.fromkeys(["mamba_dt_rank", "time_step_rank"], 4),
    **dict.fromkeys(["mamba_chunk_size", "chunk_size"], 8),
    # Windows short enough to matter.
    **dict.fromkeys(["sliding_window", "window_size", "attention_window_size", "sliding_window_size"], 16),
    "attention_chunk_size": 16,
    # Vocabularies and positions.
    **dict.fromkeys(["vocab_size", "vocab_size_per_layer_input", "pronunciation_vocab_size"], VOCAB),
    **dict.fromkeys(["shape_vocab_size"], VOCAB),
    **dict.fromkeys(
        ["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"], 2048
    ),
    **dict.fromkeys(["max_target_positions"], 2048),
    "hidden_size_per_layer_input": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
    "cls_token_id": 1,
    "image_size": 28,
    "patch_size": 14,
}

HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
ROPE = {"rope_theta": 10000.0, "rope_type": "default"}

OVERRIDES: dict[str, dict[str, Any]] = {
    "youtu": {"num_key_value_heads": 4},
    "minicpm3": {"num_key_value_heads": 4},
    "glm4_moe_lite": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
    "deepseek_v2": {"num_key_value_heads": 4},
    "axk1": {"num_key_value_heads": 4},
    "axk2": {"head_dim": 8, "num_key_value_heads": 4},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_d_head": 32},
    "bloom": {"hidden_size": WIDTH},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            "sliding_attention": ROPE | {"mrope_section": [4, 2, 2]},
            "full_attention": ROPE | {"mrope_section": [4, 2, 2]},
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": WIDTH, "ffn_hidden_size": 96, "moe_top_k": 2},
    },
    "deepseek_v32": {"head_dim": 8, "num_key_value_heads": 4},
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma3n": {"vision_config": None, "audio_config": None},
    "gemma3n_text": {
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
    },
    "gemma4_text": {
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
    },
    "glm_moe_dsa": {"head_dim": 8, "num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": HYBRID},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4, "use_mamba_kernels": False},
    "kimi_linear": {"layer_types": HYBRID},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"head_dim": 32},
    "nemotron_h": {"layers_block_type": ["linear_attention", "full_attention", "moe", "linear_attention"]},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 32,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "recurrent", "attention"], "num_hidden_layers": 6},
    "reformer": {
        "axial_pos_embds_dim": [32, 32],
        "axial_pos_shape": [32, 64],
        "attn_layers": ["local", "lsh"] * 2,
    },
    "xlstm": {"num_heads": 2, "qk_dim_factor": 1.0, "v_dim_factor": 1.0, "head_dim": None},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"],
    },
    "zamba2": {"layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
    # Three kinds of position share the frequencies, of which there are half as many as head widths.
    **{
        f"{name}_text": {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}}
        for name in ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "glm4v", "glm4v_moe", "glm_ocr")
    },
}
"""What a family needs besides: {model type: {field: value}}."""


def causal_classes() -> dict[str, str]:
    """Return {model type: name of its causal-LM class}, each class once."""
    return _classes(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def image_text_classes() -> dict[str, str]:
    """Return the same of the classes that put images before a text decoder."""
    causal = causal_classes()
    wrappers = _classes(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    return {t: c for t, c in wrappers.items() if c not in causal.values() and t not in causal}


def _classes(mapping: Mapping[str, str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for model_type, name in mapping.items():
        own = getattr(getattr(transformers, name), "config_class", None)
        # Of several types with one class, its own: the others wrap that one's config.
        if name not in types or getattr(own, "model_type", None) == model_type:
            types[name] = model_type
    return {model_type: name for name, model_type in types.items()}


def tiny_config(model_type: str) -> PreTrainedConfig:
    """Return a small config of a model type."""
    return _shrunk(CONFIG_MAPPING[model_type], model_type)


def _shrunk(cls: type[PreTrainedConfig], model_type: str) -> PreTrainedConfig:
    known = inspect.signature(cls.__init__).parameters
    fields = {key: value for key, value in SMALL.items() if key in known}
    parts = [key for key in cls.sub_configs or {} if key in known]
    if parts and model_type != "dbrx":
        default = cls()
        for key in parts:
            part = getattr(default, key, None)
            if isinstance(part, PreTrainedConfig):
                fields[key] = _shrunk(type(part), part.model_type)
    return cls(**fields | OVERRIDES.get(model_type, {}))


def tiny_of(model_type: str, *, decoder: bool = True) -> PreTrainedModel:
    """Return a seeded model of a type in float32, its weights large enough for every part to matter."""
    cls: Any = getattr(transformers, (image_text_classes() | causal_classes())[model_type])
    config = tiny_config(model_type)
    if not isinstance(config, cls.config_class):
        config = config.get_text_config(decoder=True)
    config.is_decoder = decoder
    with torch.random.fork_rng():
        torch.manual_seed(sum(model_type.encode()))
        model = cls._from_config(config, dtype=torch.float32)
        for key, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            if parameter.ndim >= 2 and key.endswith(("weight", "_proj")):
                parameter.data.mul_(6.0)
            elif parameter.ndim == 1 and key.endswith("weight"):
                # Norm weights of exactly one would hide a test that compares before and after a norm.
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()
