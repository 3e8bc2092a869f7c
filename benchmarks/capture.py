"""What pooling all layers during generation costs, and what it saves against a second pass.

Three ways, in turn: generation alone; generation with all layers pooled in the same pass; and
generation followed by a teacher-forced forward pass with hooks that keep every layer of every
token, pooled afterwards (batches of 16 sorted by length, no LM head, as the common two-pass
pipelines do at their best).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from paired import interleave, ratio, table, write_page

from personascope.corpus import load_corpus
from personascope.engines import Completion, Request, Sampling, load_engine
from personascope.mapping import PROFILES, build_design

ROLLOUTS = 160
TOKENS = 48
REPEATS = 5


def main() -> None:
    engine = load_engine("smollm2-135m")
    # Generation and pooling alone are timed here.
    profile = replace(PROFILES["standard"], role_information=False)
    design = build_design(load_corpus(), profile, 0, "SmolLM2")
    sampling = Sampling(max_new_tokens=TOKENS)
    rollouts = [
        rollout for unit in range(design.n_units) for rollout in design.unit(unit)[:: design.n_units * 2]
    ]
    with_capture = [replace(design.request(rollout), sampling=sampling) for rollout in rollouts[:ROLLOUTS]]
    plain = [replace(request, capture=None) for request in with_capture]
    prompts = {request.id: engine.chat.render(request.prompt) for request in plain}  # pyright: ignore
    kept: dict[str, dict[str, np.ndarray]] = {}

    def generate(requests: list[Request]) -> list[Completion]:
        done = list(engine.run(requests))
        assert len(done) == len(requests)
        return done

    def pooled() -> None:
        kept["one pass"] = {c.id: c.pooled for c in generate(with_capture) if c.pooled is not None}

    def two_passes() -> None:
        kept["two passes"] = second_pass(engine, prompts, generate(plain))

    seconds = interleave(
        {
            "generation alone": lambda: generate(plain),
            "generation with all layers pooled": pooled,
            "generation, then a second pass": two_passes,
        },
        REPEATS,
    )
    one, two = kept["one pass"], kept["two passes"]
    assert one.keys() == two.keys()
    worst = max(float(np.abs(one[k] - two[k]).max() / np.abs(two[k]).max()) for k in one)
    tokens = sum(completion.token_count for completion in generate(plain))
    gain = ratio(seconds, "generation, then a second pass", "generation with all layers pooled")
    write_page(
        __file__,
        "Capture in the same pass",
        f"{len(plain)} rollouts of the standard design, {tokens} response tokens ({TOKENS} at most each), "
        f"SmolLM2-135M-Instruct in {engine.info.dtype}, {engine.info.n_layers} layers pooled; "
        f"{REPEATS} interleaved repeats.\n\n"
        + table(seconds, "generation alone")
        + f"\n\nGeneration with capture is {gain[0]:.2f} times as fast as generation and a second pass "
        f"({gain[1]:.2f} to {gain[2]:.2f}, pair by pair). The means of both ways differ by {worst:.1e} "
        "of a response's largest value at most.",
    )


@torch.inference_mode()
def second_pass(engine, prompts: dict[str, list[int]], done: list[Completion]) -> dict[str, np.ndarray]:
    """Pool the responses in a forward pass of their own, batches sorted by length."""
    stack = engine.loaded.stack
    held: dict[int, torch.Tensor] = {}

    def keep(layer: int):
        def hook(_module, _inputs, output) -> None:
            held[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [block.register_forward_hook(keep(layer)) for layer, block in enumerate(stack.blocks)]
    means: dict[str, np.ndarray] = {}
    try:
        full = sorted((c for c in done if c.token_ids), key=lambda c: len(prompts[c.id]) + len(c.token_ids))
        for start in range(0, len(full), 16):
            part = full[start : start + 16]
            ids = [[*prompts[c.id], *c.token_ids] for c in part]
            width = max(map(len, ids))
            # Padding stands on the right, where causal attention does not look.
            padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
            stack.backbone(input_ids=padded, use_cache=False)
            layers = torch.stack([held[layer] for layer in range(stack.n_layers)])
            for row, completion in enumerate(part):
                begin = len(prompts[completion.id])
                span = layers[:, row, begin : begin + len(completion.token_ids)]
                means[completion.id] = span.float().mean(1).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return means


if __name__ == "__main__":
    main()
