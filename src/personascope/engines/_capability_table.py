"""Table of what each engine can do, from which errors, ``doctor`` and the documentation are generated."""

from __future__ import annotations

from personascope.engines._capability import Capability, Support

YES, INSIDE, UNTRIED, NONE = (Support(level) for level in ("yes", "as inside", "untried", "-"))

_LOCAL = "take --engine transformers"


def _no(note: str, hint: str) -> Support:
    return Support("no", note, hint)


def _yes(note: str) -> Support:
    return Support("yes", note)


def _row(
    group: str,
    key: str,
    title: str,
    transformers: Support = YES,
    vllm: Support = YES,
    ray: Support = INSIDE,
    server: Support = YES,
) -> Capability:
    return Capability(
        key, title, group, {"transformers": transformers, "vllm": vllm, "ray": ray, "server": server}
    )


def _over_http(instead: str) -> Support:
    return _no("it has no route for it", instead)


_BETWEEN = _no(
    "nobody outside can be called between two tokens",
    "use the transformers engine, or a monitor whose action is a plan or stop and no function",
)
_FOLLOW = _no(
    "it keeps no conversation's keys and values for the caller",
    "call observe with the whole conversation, or load the transformers engine",
)
_STARTED = "start vLLM without it"
_PROMPT = _no("the response alone is read then", "observe the conversation with an engine of Python")
_AGAIN = _yes("in a second pass")
_CHATS = _yes("of a chat; a bare text has no parts")
_STAGES = _no("the stage that reads is not the one that acts", "use tensor parallelism")
_PART = "a worker holds a part of the tokens"

_READ, _ACT, _ASK = "What is read", "Plans", "Requests"
_SPREAD, _LOAD = "Speed and size", "Loading"

CAPABILITIES: tuple[Capability, ...] = (
    _row(_READ, "run", "generated responses"),
    _row(_READ, "pooled", "mean activations of a response"),
    _row(_READ, "projections", "the projection of every response token on probes"),
    _row(
        _READ,
        "before",
        "the projection of a token just before the plan's operation at the layer",
        *[_no("projections are read after a plan alone", "serve the model, whose replies have both")] * 3,
    ),
    _row(
        _READ,
        "before_graphs",
        "the same under CUDA graphs",
        NONE,
        NONE,
        NONE,
        _no("its kernel reads after the operations alone", "pass --enforce-eager"),
    ),
    _row(
        _READ,
        "activations",
        "the activations of every token",
        *[_no("means and projections alone leave an engine", "name directions as probes, or hook the model")]
        * 4,
    ),
    _row(
        _READ,
        "reply_parts",
        "a chosen part of a generated response (thinking, answer, tool calls)",
        vllm=_yes("as it passes; in a second pass where a mark is known only once it is whole"),
        server=_no("a response is read as a whole", "read it with an engine of Python"),
    ),
    _row(_READ, "prompt_tokens", "tokens of the prompt beside a response", vllm=_AGAIN, server=_PROMPT),
    _row(
        _READ,
        "observe",
        "means and projections of an existing conversation",
        server=_over_http("observe it with an engine of Python"),
    ),
    _row(
        _READ,
        "norms",
        "mean norms of an existing conversation's tokens",
        server=_over_http("observe it with an engine of Python"),
    ),
    _row(
        _READ,
        "score",
        "log-probabilities of a given continuation",
        server=_over_http("score it with an engine of Python"),
    ),
    _row(
        _READ,
        "logprobs",
        "log-probabilities of the drawn tokens",
        server=_yes("vLLM's own logprobs"),
    ),
    _row(
        _READ,
        "follow",
        "a conversation that grows turn by turn without being read again",
        vllm=_FOLLOW,
        ray=_FOLLOW,
        server=_over_http("follow it with the transformers engine"),
    ),
    _row(_ACT, "steer", "steering, ablation and activation caps, for each request its own"),
    _row(_ACT, "cap_counts", "counts of where caps fired and how far they moved"),
    _row(
        _ACT,
        "joint_caps",
        "caps of one layer that are not orthogonal",
        vllm=_yes("in the dynamic flavour"),
        server=_yes("in the dynamic flavour"),
    ),
    _row(
        _ACT,
        "joint_caps_graphs",
        "caps of one layer that are not orthogonal, under CUDA graphs",
        NONE,
        _no("its kernel solves no system", "make the directions orthogonal, or pass enforce_eager"),
        INSIDE,
        _no("its kernel solves no system", "make the directions orthogonal, or pass --enforce-eager"),
    ),
    _row(
        _ACT,
        "turn_plans",
        "a plan that acts from a turn on",
        server=_no(
            "the turns of a rendered prompt are not told apart over HTTP",
            "use a plan that acts on all, prompt or response, or personascope's own engine",
        ),
    ),
    _row(_ACT, "part_plans", "a plan bound to a part of the response", server=_CHATS),
    _row(
        _ACT,
        "gate",
        "a monitor's alarm that stops a response or switches a plan on inside it",
        ray=_no("a watch stays in the process that made it", "use --engine vllm or transformers"),
        server=_yes("the field's gate switches a plan on"),
    ),
    _row(_ACT, "gate_pipeline", "a gate under pipeline parallelism", NONE, _STAGES, INSIDE, NONE),
    _row(
        _ACT,
        "watch",
        "a watch of one's own on every token (a function that is called in between)",
        YES,
        *[_BETWEEN] * 3,
    ),
    _row(
        _ASK,
        "streaming",
        "text as it is drawn",
        *[_no("run yields whole responses", "use personascope serve, or a monitor's streamer")] * 3,
    ),
    _row(
        _ASK,
        "samples",
        "several samples of one request",
        *[_no("one request is one response", "send one request for each sample")] * 3,
    ),
    _row(_ASK, "stop", "stop texts"),
    _row(
        _ASK,
        "own_draws",
        "the same sampled tokens whatever the batch and the engine",
        vllm=_yes("on a CPU, or with sampler='personascope'"),
        server=_no("vLLM's sampler draws there", "sample greedily, or run the requests by an engine"),
    ),
    _row(
        _ASK,
        "vllm_sampler_cpu",
        "sampling by vLLM's own sampler on a CPU",
        NONE,
        _no("it takes no seed there", "leave the sampler of this engine at auto, or sample greedily"),
        INSIDE,
        YES,
    ),
    _row(
        _ASK,
        "transcript",
        "conversations as a plain transcript (base models)",
        server=_no("vLLM renders conversations", "send the rendered text to /v1/completions"),
    ),
    _row(
        _ASK,
        "beam_search",
        "beam search",
        *[_no("sampling has no such option", "sample, or decode greedily")] * 3,
        server=_no("vLLM drops there what a request asks of the plugin", "sample, or decode greedily"),
    ),
    _row(
        _ASK,
        "several_prompts",
        "several prompts in one request",
        *[_no("one request is one response", "send one request for each prompt")] * 3,
        server=_no("each response has results of its own", "send one request for each prompt"),
    ),
    _row(
        _ASK,
        "prompt_embeds",
        "a prompt of embeddings",
        *[_no("they are no tokens", "send text or tokens")] * 4,
    ),
    _row(
        _ASK,
        "echo",
        "echo of the prompt",
        *[_no("a completion is the response alone", "join the texts yourself")] * 3,
        server=_no("token ids would not be the response's", "join the texts yourself"),
    ),
    _row(
        _ASK,
        "hidden_reasoning_probes",
        "include_reasoning=false together with probes",
        NONE,
        NONE,
        NONE,
        _no("vLLM then hides how many tokens there were", "leave one of the two out"),
    ),
    _row(
        _SPREAD,
        "tensor_parallel",
        "tensor parallelism",
        _no("Transformers runs the blocks of one process", "take --engine vllm, or device_map='auto'"),
    ),
    _row(
        _SPREAD,
        "pipeline_parallel",
        "pipeline parallelism",
        _no("Transformers runs the blocks of one process", "take --engine vllm, or device_map='auto'"),
        server=_no(
            "projections are known only when a request has ended",
            "serve with tensor parallelism, or run the requests by VLLMEngine",
        ),
    ),
    _row(
        _SPREAD,
        "pipeline_v2",
        "pipeline parallelism under model runner V2",
        NONE,
        _no("its stages are not hooked", "set VLLM_USE_V2_MODEL_RUNNER=0"),
        INSIDE,
        NONE,
    ),
    _row(
        _SPREAD,
        "pipeline_eager_cpu",
        "pipeline parallelism in eager mode on a CPU",
        NONE,
        _no("vLLM has no buffers for it there", "pass enforce_eager=False"),
        INSIDE,
        NONE,
    ),
    _row(
        _SPREAD,
        "data_parallel",
        "data parallelism",
        *[_no("one engine holds one model", "take several workers (--workers)")] * 2,
        ray=_yes("a worker is a whole engine"),
        server=_no("results would lie in several engines", "start one server for each"),
    ),
    _row(
        _SPREAD,
        "prefix_cache",
        "keys and values of shared prefixes, kept apart by plan",
    ),
    _row(
        _SPREAD,
        "cuda_graphs",
        "CUDA graphs",
        _no("Transformers runs block by block", "take --engine vllm"),
        Support("untried", "static flavour, which has not run on a GPU yet"),
        INSIDE,
        Support("untried", "static flavour, which has not run on a GPU yet"),
    ),
    _row(
        _SPREAD,
        "dynamic_graphs",
        "CUDA graphs in the dynamic flavour",
        NONE,
        _no(
            "a graph that is replayed does not ask who has a plan",
            "leave the flavour out, or pass enforce_eager",
        ),
        INSIDE,
        _no(
            "a graph that is replayed does not ask who has a plan",
            "leave the flavour out, or --enforce-eager",
        ),
    ),
    _row(_SPREAD, "async_scheduling", "asynchronous scheduling", NONE, UNTRIED, INSIDE, UNTRIED),
    *(
        _row(_SPREAD, key, title, NONE, _no(why, _STARTED), INSIDE, _no(why, _STARTED))
        for key, title, why in (
            ("speculative_decoding", "speculative decoding", "drafts that are rejected would be counted"),
            ("sequence_parallel", "sequence parallelism", _PART),
            ("prefill_context_parallel", "prefill context parallelism", _PART),
            ("dual_batch_overlap", "dual batch overlap", "two halves of a step run at once"),
            ("fused_allreduce", "a fused all-reduce and norm", "the block's output is not yet reduced"),
        )
    ),
    _row(
        _LOAD,
        "device",
        "a device by name",
        vllm=_no("it takes the one that it was built for", f"set CUDA_VISIBLE_DEVICES, or {_LOCAL}"),
        server=_no("it takes the one that it was built for", "set CUDA_VISIBLE_DEVICES"),
    ),
    _row(
        _LOAD,
        "device_map",
        "a device_map",
        vllm=_no("it spreads a model by parallelism", f"set tensor_parallel_size, or {_LOCAL}"),
        server=_no("it spreads a model by parallelism", "pass --tensor-parallel-size"),
    ),
    _row(
        _LOAD,
        "attn_implementation",
        "an attn_implementation",
        vllm=_no("it has attention of its own", f"leave it out, or {_LOCAL}"),
        server=_no("it has attention of its own", "leave it out"),
    ),
    _row(
        _LOAD,
        "quantised",
        "quantised weights as they are",
        UNTRIED,
        _yes("compressed-tensors, 8 bits; others untried"),
        INSIDE,
        UNTRIED,
    ),
    _row(
        _LOAD,
        "adapters",
        "a LoRA adapter for a request",
        _no("a request names no adapter", "merge it into the weights"),
        _yes("under LLM.generate"),
        _no("a request names no adapter", "merge it into the weights"),
        UNTRIED,
    ),
    _row(
        _LOAD,
        "several_machines",
        "several machines",
        *[_no("it is one process on one machine", "take several workers (--address)")] * 2,
        ray=YES,
        server=UNTRIED,
    ),
)
"""Rows of the table. The message of an engine that lacks a capability is taken from its row."""
