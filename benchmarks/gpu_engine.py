"""The third section of `gpu_transformers.py`: the Transformers engine on the device.

Its tokens and means against those of the CPU, of ``generate`` and of the model's own hidden states; a map
from end to end; a hybrid model; and what pooling and caps cost beside ``generate``.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from paired import interleave, interval, ratio
from proof import Row, check, cost, tell
from random_model import differences, make_model, mixed_requests, plain

from personascope.engines import Capture, Request, Sampling, TransformersEngine, load_engine
from personascope.interventions import Cap, Plan

GOALS = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Greatest relative gap of a mean to the model's own hidden states in the same dtype."""

REPEATS = 7
"""Interleaved runs of every way whose time is measured: a 95% interval of a median needs six."""


def _engine(folder: Path, dtype: str, device: str, max_batch: int = 32) -> TransformersEngine:
    made = load_engine(str(folder), dtype=dtype, device=device, max_batch=max_batch)
    assert isinstance(made, TransformersEngine)
    return made


def section(*, small: bool, seconds: float) -> None:
    """Print the rows of all parts.

    Args:
        small: Leave out what a CPU is too slow for.
        seconds: When to stop, in seconds from now.
    """
    deadline = time.monotonic() + seconds
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # By default a GPU takes 19 bits for the convolutions of a hybrid model.
    torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "llama"
        make_model(folder, small=True)
        parts: dict[str, Callable[[], None]] = {
            "parity with the CPU": lambda: _parity(folder, device),
            **{
                f"the model's hidden states, {dtype}": lambda dtype=dtype: _states(folder, dtype, device)
                for dtype in GOALS
            },
            "a hybrid model": lambda: _hybrid(Path(scratch) / "hybrid", device),
            "a map": lambda: _map(folder, Path(scratch), device),
        }
        if not small:
            parts["costs"] = lambda: _costs(Path(scratch) / "larger", device)
        for name, part in parts.items():
            if time.monotonic() > deadline:
                tell(Row(name, "no time was left", verdict="skipped"))
            else:
                part()
    if small:
        tell(Row("costs", "measured on a GPU alone", verdict="skipped"))


def _parity(folder: Path, device: str) -> None:
    reference = _engine(folder, "float32", "cpu")
    # On a CPU at least the batches are other ones.
    engine = _engine(folder, "float32", device, max_batch=32 if device == "cuda" else 5)
    wanted = mixed_requests(reference.info.n_layers, reference.info.d_model, reference.encode)
    want = {c.id: c for c in reference.run(wanted)}
    got = {c.id: c for c in engine.run(wanted)}
    untouched = {c.id: c for c in engine.run([plain(request) for request in wanted])}
    found = differences(got, want, untouched)
    check(
        f"32 mixed requests, float32, {device} against cpu",
        ", ".join(f"{name} {value:.3g}" for name, value in found.items()),
        "tokens at least 0.95, means at most 1e-4, no firing that differs, some request changed",
        found["same tokens"] >= 0.95
        and found["means, greatest relative gap"] <= 1e-4
        and found["requests whose firing differs"] == 0
        and found["planned requests that a plan changed"] > 0,
    )


def _states(folder: Path, dtype: str, device: str) -> None:
    """Hold means to the model's own hidden states, and in float32 tokens to ``generate``."""
    share, gap = _against_model(_engine(folder, dtype, device))
    # Rounding decides between tokens that are nearly as likely.
    exact = dtype == "float32"
    check(
        f"Llama, {dtype}",
        f"tokens as generate's {share:.2f}, means against hidden states {gap:.1e}",
        f"means at most {GOALS[dtype]:g}" + (", tokens 1" if exact else ""),
        gap <= GOALS[dtype] and (share == 1 or not exact),
    )


@torch.inference_mode()
def _against_model(engine: TransformersEngine) -> tuple[float, float]:
    """Return the share of responses that ``generate`` gives too, and the greatest relative gap of a mean."""
    model: Any = engine.loaded.model
    device = engine.loaded.device
    texts = (
        "Who keeps the light?",
        "The harbour at dawn: ",
        "a",
        "Tell me of the river and the hill beyond it.",
    )
    requests = [
        Request(str(n), engine.encode(text), Sampling(temperature=0, max_new_tokens=12), capture=Capture())
        for n, text in enumerate(texts)
    ]
    same, gaps = 0, [0.0]
    for completion in engine.run(requests):
        prompt = list(requests[int(completion.id)].prompt)
        ids = torch.tensor([prompt], device=device)
        free = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, pad_token_id=256
        )[0, len(prompt) :].tolist()
        same += tuple(token for token in free if token != 256) == completion.token_ids
        if completion.pooled is None:
            continue
        whole = torch.tensor([[*prompt, *completion.token_ids]], device=device)
        states = model(whole, output_hidden_states=True, use_cache=False).hidden_states
        # Behind the last block a norm stands before the last of the states.
        for layer, state in enumerate(states[1:-1]):
            mean = state[0, len(prompt) :].double().mean(0).cpu().numpy()
            gaps.append(float(np.linalg.norm(completion.pooled[layer] - mean) / np.linalg.norm(mean)))
    return same / len(requests), max(gaps)


def _hybrid(folder: Path, device: str) -> None:
    what = "Qwen3-Next (linear and full attention), float32"
    kind: Any = getattr(transformers, "Qwen3NextConfig", None)
    if kind is None:
        tell(Row(what, f"Transformers {transformers.__version__} has none", verdict="skipped"))
        return
    config = kind(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        max_position_embeddings=1024,
        eos_token_id=256,
    )
    make_model(folder, small=True, config=config)
    try:
        share, gap = _against_model(_engine(folder, "float32", device))
    # Whatever stops it is what the row is there to say.
    except Exception as error:
        tell(Row(what, f"{type(error).__name__}: {str(error).splitlines()[0]}", verdict="unsupported"))
        return
    check(
        what,
        f"tokens as generate's {share:.2f}, means against hidden states {gap:.1e}",
        "means at most 1e-4, tokens 1",
        gap <= 1e-4 and share == 1,
    )


def _map(folder: Path, scratch: Path, device: str) -> None:
    what = f"a map from end to end, float32, {device} against cpu"
    try:
        from personascope.corpus import load_corpus
        from personascope.mapping import run_map
        from personascope.space import PersonaMap
    except ModuleNotFoundError as error:
        tell(Row(what, f"{error.name} is not installed", verdict="skipped"))
        return
    axes: list[np.ndarray] = []
    rollouts = 0
    for place, batch in (("cpu", 32), (device, 24)):
        out = scratch / f"map-{place}-{batch}"
        result = run_map(
            _engine(folder, "float32", place, max_batch=batch),
            load_corpus(),
            "quick",
            out=out,
            judge=None,
            progress=False,
            n_boot=20,
            roles=6,
            prompts=1,
            questions=3,
            default_samples=1,
            max_new_tokens=8,
            role_information=False,
        )
        rollouts = result.collected.rollouts
        axes.append(np.asarray(PersonaMap.open(out / "map").axis, np.float64))
    norm = np.linalg.norm
    cosines = (axes[0] * axes[1]).sum(-1) / (norm(axes[0], axis=-1) * norm(axes[1], axis=-1))
    check(
        what,
        f"{rollouts} rollouts; least cosine of the two axes at a layer {cosines.min():.6f}",
        "at least 0.99",
        bool(cosines.min() >= 0.99),
    )


def _costs(folder: Path, device: str) -> None:
    """Measure whole runs of 64 prompts, in turn."""
    make_model(folder, small=False)
    engine = _engine(folder, "bfloat16", device, max_batch=64)
    n_layers, d_model = engine.info.n_layers, engine.info.d_model
    new = 32
    text = "The keeper of the light counts the ships that pass, and writes each into a book. "
    prompts = [engine.encode(text * 2)[n : n + 48 + n % 16] for n in range(64)]
    sampling = Sampling(temperature=0, max_new_tokens=new, min_new_tokens=new)
    direction = np.random.default_rng(0).standard_normal(d_model).astype(np.float32)
    middle = n_layers // 2
    plan = Plan(tuple(Cap(layer, direction, floor=0.3) for layer in range(middle, min(n_layers, middle + 8))))

    def ran(**asked: Any) -> Callable[[], None]:
        requests = [Request(f"r{n}", prompt, sampling, **asked) for n, prompt in enumerate(prompts)]
        return lambda: deque(engine.run(requests), maxlen=0).clear()

    generate, bare = "generate, padded on the left", "the engine, plain"
    ways: dict[str, Callable[[], object]] = {
        generate: lambda: _generate(engine, prompts, new),
        bare: ran(),
        "all layers pooled": ran(capture=Capture()),
        "caps at 8 layers": ran(plan=plan),
    }
    taken = interleave(ways, REPEATS)
    base = float(np.median(taken[generate]))
    what = f"64 prompts of 48 to 63 tokens, {new} new ones each, {n_layers} layers of {d_model}, bfloat16"
    tell(Row(what, f"{generate}: {base:.2f} s, {64 * new / base:.0f} tokens a second"))
    for way, to in ((bare, generate), ("all layers pooled", bare), ("caps at 8 layers", bare)):
        cost(f"{way}, against {to}", ratio(taken, way, to)[0], *interval(taken, way, to), None)


@torch.inference_mode()
def _generate(engine: TransformersEngine, prompts: Sequence[tuple[int, ...]], new: int) -> list[list[int]]:
    longest = max(map(len, prompts))
    padded = torch.tensor([[256] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    device = engine.loaded.device
    model: Any = engine.loaded.model
    return model.generate(
        padded.to(device),
        attention_mask=mask.to(device),
        do_sample=False,
        max_new_tokens=new,
        min_new_tokens=new,
        pad_token_id=256,
    ).tolist()
