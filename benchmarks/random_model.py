"""A random Llama with a tokenizer of single bytes, and mixed requests that hold one engine to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from personascope.engines import Capture, Completion, Probe, Request, Sampling
from personascope.interventions import Cap, Plan, Steer

END = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


def make_tokenizer(folder: Path) -> None:
    """Save a tokenizer of 256 bytes and one token that ends a turn, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)} | {END: 256}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def make_model(folder: Path, *, small: bool, config: Any = None) -> None:
    """Save a random model in float32 and its tokenizer.

    Args:
        folder: Where it goes.
        small: Make a toy instead of some 250 million parameters.
        config: Of another model than Llama; ``small`` is then not heard.
    """
    make_tokenizer(folder)
    config = config or transformers.LlamaConfig(
        vocab_size=1024 if small else 32000,
        hidden_size=128 if small else 1024,
        intermediate_size=256 if small else 2816,
        num_hidden_layers=16,
        num_attention_heads=4 if small else 16,
        num_key_value_heads=2 if small else 4,
        max_position_embeddings=4096,
        eos_token_id=256,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)


def mixed_requests(
    n_layers: int, d_model: int, encode: Callable[[str], tuple[int, ...]], count: int = 32
) -> list[Request]:
    """Return greedy requests, of which some are plain, capped or steered, pooled, and projected."""
    v = np.random.default_rng(0).standard_normal((3, d_model)).astype(np.float32)
    middle = n_layers // 2
    plans = [
        None,
        Plan(tuple(Cap(layer, v[0], floor=0.3) for layer in range(middle, n_layers))),
        Plan((Steer(middle, v[1], strength=2.0),)),
        Plan((Steer(middle, v[1], strength=-2.0, tokens="response"), Cap(middle + 1, v[2], ceiling=-0.1))),
    ]
    probes = tuple(Probe(f"p{at}", at, v[0]) for at in (0, middle, n_layers - 1))
    return [
        Request(
            f"r{n}",
            encode(f"Question number {n}: what is there beyond the hill and the river?")[: 8 + n],
            Sampling(temperature=0, max_new_tokens=16 + n % 7),
            plan=plans[n % 4],
            capture=Capture() if n % 3 else None,
            probes=probes if n % 2 else (),
        )
        for n in range(count)
    ]


def plain(request: Request) -> Request:
    """Return a request without its plan, pooling and probes."""
    return replace(request, plan=None, capture=None, probes=())


def differences(
    got: Mapping[str, Completion], want: Mapping[str, Completion], untouched: Mapping[str, Completion]
) -> dict[str, float]:
    """Return what differs most between two engines' completions of the same requests.

    Args:
        got: Of the engine that is held to the other, by id.
        want: Of the other.
        untouched: Of the plain requests on the first engine.
    """
    same = [k for k in want if got[k].token_ids == want[k].token_ids]
    norm = np.linalg.norm
    pairs = [(got[k].pooled, want[k].pooled) for k in same]
    gaps = [
        float((norm(a - b, axis=-1) / norm(b, axis=-1)).max())
        for a, b in pairs
        if a is not None and b is not None
    ]
    fired = sum(_capped(got[k]) != _capped(want[k]) for k in same)
    moved = sum(untouched[k].token_ids != got[k].token_ids for k in want if got[k].plan_digest is not None)
    return {
        "same tokens": len(same) / len(want),
        "means, greatest relative gap": max(gaps, default=float("nan")),
        "requests whose firing differs": fired,
        "planned requests that a plan changed": moved,
    }


def _capped(completion: Completion) -> int | None:
    return None if completion.cap_stats is None else completion.cap_stats.capped_tokens
