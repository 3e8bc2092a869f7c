"""A loaded model: chat, generate, observe, and answer under several plans side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from personascope import engines, models
from personascope.api.notebook._chats import Chat, as_conversation
from personascope.api.notebook._open import as_map
from personascope.api.notebook._plans import map_of
from personascope.api.notebook._replies import ChatSession, Reply
from personascope.api.notebook._side_by_side import SideBySide, answer_under
from personascope.api.notebook._status import say
from personascope.chat import ChatOptions, Conversation
from personascope.directions import axis_probe
from personascope.engines import Capture, Completion, EngineInfo, Request, Sampling, TurnActivations
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan
from personascope.text import escape_controls, html_card

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from personascope.api.notebook._persona_map import PersonaMap
    from personascope.engines import LocalEngine
    from personascope.models import LoadedModel, Steered


class Model:
    """A model in an engine; create it with `load`.

    It keeps no conversation: `conversation` returns a chat session that does.

    Attributes:
        name: Name by which the model was loaded.
        engine: Engine that runs it, with the whole contract of `personascope.engines.Engine`.
        pmap: Map that was last made or used with the model, in whose units replies are placed; None before.
    """

    def __init__(self, name: str, engine: LocalEngine, *, in_memory: bool = False) -> None:
        """Wrap a loaded engine; use `load` instead."""
        self.name = name
        self.engine = engine
        self.in_memory = in_memory
        self.pmap: PersonaMap | None = None

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model, its dtype, context and chat options."""
        return self.engine.info

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Tokenizer of the model.

        Raises:
            EngineError: If the engine's workers hold it.
        """
        found = getattr(getattr(self.engine, "files", None), "tokenizer", None)
        if found is None:
            raise EngineError(f"the engine of {self.name} holds no tokenizer", hint="load with workers=1")
        return found

    @property
    def hf_model(self) -> PreTrainedModel:
        """The model of Transformers, for code of your own.

        Raises:
            EngineError: If the model runs on another engine.
        """
        return self._loaded().model

    def _loaded(self) -> LoadedModel:
        if not isinstance(self.engine, engines.TransformersEngine):
            raise EngineError(
                f"{self.name} runs on {self.info.engine}, which holds no model of Transformers",
                hint='load it with engine="transformers", or give the plan to .chat() or .generate()',
            )
        return self.engine.loaded

    def chat(
        self,
        chat: Chat,
        *,
        system: str = "",
        plan: Plan | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> Reply:
        """Reply to a user's message, or to a conversation; nothing is kept.

        Args:
            chat: Text of the user, list of messages, reply or chat session.
            system: System prompt.
            plan: Plan under which the model replies.
            max_new_tokens: Maximum length of the answer, in tokens.
            temperature: Sampling temperature; 0 takes the most likely token.
            top_p: Nucleus mass in (0, 1].
            seed: Random seed.

        Raises:
            UsageError: If the conversation is malformed.
            ChatError: If the model has no chat template, or it refuses the conversation.
            EngineError: If the request does not fit the model.
        """
        conversation = as_conversation(chat, system=system)
        sampling = Sampling(temperature, top_p, max_new_tokens)
        return self._reply(conversation, plan, sampling, seed)

    def conversation(
        self,
        *,
        system: str = "",
        plan: Plan | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> ChatSession:
        """Begin a chat session, which keeps what is said; the arguments are those of `chat`."""
        sampling = Sampling(temperature, top_p, max_new_tokens)
        begun = as_conversation([{"role": "system", "content": system}]) if system else ()

        def answer(conversation: Conversation) -> Reply:
            return self._reply(conversation, plan, sampling, seed)

        return ChatSession(self.name, answer, begun)

    # A text is a sequence of texts too, so the first overload overlaps the second.
    @overload
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        text: str,
        *,
        plan: Plan | None = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        top_p: float = ...,
        seed: int = ...,
    ) -> Reply: ...

    @overload
    def generate(
        self,
        text: Sequence[str],
        *,
        plan: Plan | None = ...,
        max_new_tokens: int = ...,
        temperature: float = ...,
        top_p: float = ...,
        seed: int = ...,
    ) -> list[Reply]: ...

    def generate(
        self,
        text: str | Sequence[str],
        *,
        plan: Plan | None = None,
        max_new_tokens: int = 64,
        temperature: float = 0.7,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> Reply | list[Reply]:
        """Continue a text as it stands, without the chat template; a list of texts runs in one batch.

        Args:
            text: Text, or texts.
            plan: Plan under which the model writes.
            max_new_tokens: Maximum number of new tokens.
            temperature: Sampling temperature; 0 takes the most likely token.
            top_p: Nucleus mass in (0, 1].
            seed: Random seed.

        Raises:
            UsageError: If a text is empty or no text.
            EngineError: If a request does not fit the model.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts or not all(isinstance(one, str) and one for one in texts):
            raise UsageError("there is no text to continue", hint="give a text, or a list of texts")
        sampling = Sampling(temperature, top_p, max_new_tokens)
        prompts = [self.engine.encode(one, special=True) for one in texts]
        requests = [
            Request(f"text {index}", prompt, sampling, plan=plan, probes=self._probes(), seed=seed)
            for index, prompt in enumerate(prompts)
        ]
        done = {one.id: one for one in self.engine.run(requests)}
        replies = [self._made((), done[request.id], plan) for request in requests]
        return replies[0] if isinstance(text, str) else replies

    def observe(
        self,
        chat: Chat,
        *,
        layers: Sequence[int] | None = None,
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Return the mean residual stream of every turn of a conversation, float32 [layers, d].

        Args:
            chat: Conversation, as in `chat`.
            layers: Layers to return, 0-based; all if not given.
            plan: Plan under which the model reads.
            tokens: Tokens of each turn that are read: "answer", "thinking", "response", "prompt" or "turn:N".

        Raises:
            UsageError: If the conversation is malformed.
            EngineError: If the request does not fit the model.
        """
        chosen = Capture(None if layers is None else tuple(layers))
        more: dict[str, Any] = {} if tokens == "answer" else {"tokens": tokens}
        return self.engine.observe(as_conversation(chat), capture=chosen, plan=plan, **more)

    def side_by_side(
        self,
        chat: Chat,
        plans: Sequence[Plan | None],
        *,
        pmap: PersonaMap | Path | str | None = None,
        layer: int | None = None,
        system: str = "",
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> SideBySide:
        """Answer a question under several plans in one batch, with the same seed, and compare the answers.

        Args:
            chat: Question or conversation, as in `chat`.
            plans: Plans; None for no plan.
            pmap: Map in whose units answers are placed; that of the plans, or the model's own, if not given.
            layer: Layer at which positions are read; the map's middle layer if not given.
            system: System prompt.
            max_new_tokens: Maximum length of an answer, in tokens.
            temperature: Sampling temperature; 0 takes the most likely token, so that plans alone differ.
            top_p: Nucleus mass in (0, 1].
            seed: Random seed.

        Raises:
            UsageError: If the conversation or a plan is malformed, or the map has no such layer.
            StoreError: If the map is of another model.
            EngineError: If a request does not fit the model, or a plan is of another one.
        """
        conversation = as_conversation(chat, system=system)
        known = as_map(pmap) if pmap is not None else map_of(plans) or self.pmap
        # Checks that the map is of this model, and renders with its chat options.
        mapped = None if known is None else known.mapped(self)
        answers = answer_under(
            self.engine if mapped is None else mapped.engine,
            conversation,
            plans,
            sampling=Sampling(temperature, top_p, max_new_tokens),
            seed=seed,
            persona_map=None if mapped is None else mapped.persona_map,
            layer=layer,
        )
        where = None if known is None else (known.middle_layer if layer is None else layer)
        name = "" if known is None else str(known.folder)
        return SideBySide(conversation[-1].content, answers, where, seed, name)

    def _probes(self) -> tuple[engines.Probe, ...]:
        if self.pmap is None:
            return ()
        return (axis_probe(self.pmap.arrays, self.pmap.middle_layer).probe,)

    def _reply(self, conversation: Conversation, plan: Plan | None, sampling: Sampling, seed: int) -> Reply:
        request = Request("chat", conversation, sampling, plan=plan, probes=self._probes(), seed=seed)
        (done,) = self.engine.run([request])
        return self._made(conversation, done, plan)

    def _made(self, prompt: Conversation, done: Completion, plan: Plan | None) -> Reply:
        position = math.nan
        for probe in self._probes():
            values = done.projections[probe.name]
            if self.pmap is not None and len(values):
                position = float(self.pmap.arrays.to_units(float(values.mean(dtype=float)), probe.layer))
        return Reply(prompt, done, position, "" if plan is None else plan.name or plan.digest[:12])

    def __repr__(self) -> str:
        """Return the name, engine, shape and dtype on one line."""
        info = self.info
        shape = f"{info.n_layers} layers of {info.d_model}, {info.dtype}"
        return escape_controls(f"Model({self.name} on {info.engine}: {shape})")

    def _repr_html_(self) -> str:
        """Return a card for a notebook."""
        info = self.info
        options = ", ".join(f"{name}={value}" for name, value in info.chat_options.items())
        return html_card(
            f"Model {self.name}",
            {
                "engine": info.engine,
                "revision": info.model_revision,
                "layers": f"{info.n_layers} of width {info.d_model}",
                "dtype": info.dtype,
                "context": info.context or "unknown",
                "chat options": options or "the template's defaults",
                "map": "none yet" if self.pmap is None else self.pmap.folder,
            },
        )


def load(
    model: str | Path | PreTrainedModel | LocalEngine,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    engine: str = "auto",
    dtype: str = "auto",
    device: str | None = None,
    thinking: Literal["on", "off"] | bool | None = None,
    template_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """Load a model: its weights, its chat template, and an engine that can read and edit its activations.

    Args:
        model: Hub id, local folder (of a model or a PEFT adapter), GGUF file, name of an embedded model
            ("smollm2-135m", "gemma-3-270m"); or a model of Transformers with its tokenizer, or an engine.
        tokenizer: Tokenizer of a model of Transformers.
        engine: "auto" (vLLM if it is installed), "transformers" or "vllm".
        dtype: Dtype of the weights; "auto" is bfloat16 where the hardware computes in it.
        device: Device, such as "cuda:1"; the first GPU if there is one.
        thinking: Whether the model thinks before it answers; None for its template's default.
        template_args: Values of the chat template's variables.
        options: Further options of `personascope.engines.load_engine`, such as ``max_batch`` or ``workers``.

    Raises:
        ModelError: If there is no such model, or it cannot be read.
        UsageError: If an option does not fit.
        ChatError: If the chat template has no such variable, or cannot switch thinking.
        EngineError: If the engine is not installed or cannot be started.
    """
    on = thinking if isinstance(thinking, bool) or thinking is None else thinking == "on"
    if isinstance(thinking, str) and thinking not in ("on", "off"):
        raise UsageError(f"thinking is {thinking!r}", hint='give "on", "off" or None')
    chosen = (
        None if on is None and not template_args else ChatOptions(on, tuple((template_args or {}).items()))
    )
    if isinstance(model, str | Path):
        name = str(model)
        say(f"loading {name} ...")
        made = engines.load_engine(
            name, engine=engine, dtype=dtype, device=device, chat_options=chosen, **options
        )
        return Model(name, made)
    if isinstance(model, engines.LocalEngine):
        return Model(
            model.info.model_id, model if chosen is None else model.with_chat(chosen), in_memory=True
        )
    made = _of_transformers(model, tokenizer, options)
    return Model(made.info.model_id, made if chosen is None else made.with_chat(chosen), in_memory=True)


def _of_transformers(
    model: Any, tokenizer: PreTrainedTokenizerBase | None, options: Mapping[str, Any]
) -> engines.TransformersEngine:
    if not hasattr(model, "config"):
        raise UsageError(
            f"{type(model).__name__} is no model", hint="give a name, a folder, or a model of Transformers"
        )
    if tokenizer is None:
        raise UsageError("a model of Transformers needs its tokenizer", hint="ps.load(model, tokenizer=...)")
    return engines.TransformersEngine(models.in_memory(model, tokenizer), **options)


def steered(model: Model | PreTrainedModel | LoadedModel, plan: Plan) -> AbstractContextManager[Steered]:
    """Apply a plan to every forward pass of a model within a ``with`` block.

    Args:
        model: Causal model of Transformers, or one that `load` loaded on the Transformers engine. Its hooks
            are removed after the block.
        plan: Plan to apply. Operations from a turn on, or on a part of the response, need an engine.

    Returns:
        Context that yields the plan's state, with the cap statistics of the newest call.

    Raises:
        InterventionError: If the plan does not fit the model, or names a turn or a part of a response.
        EngineError: If the model runs on another engine.
        ModelError: If the model's layer stack cannot be found.
    """
    return models.steered(model._loaded() if isinstance(model, Model) else model, plan)  # pyright: ignore[reportPrivateUsage]
