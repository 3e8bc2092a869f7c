"""An lm-evaluation-harness model that wraps one of our engines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import CacheHook, TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window, simple_parse_args_string
from tqdm import tqdm

from personascope.chat import Message
from personascope.engines import Engine, Request, ScoreRequest
from personascope.errors import EngineError, EvaluationError, UsageError
from personascope.evals._open_engine import check_plan
from personascope.evals.harness._open import Context, Firing, open_from_args
from personascope.evals.harness._options import sampling_of
from personascope.interventions import Plan
from personascope.runs import RequestNames, check_applied

_FINGERPRINT = "personascope"
_ROLES = ("system", "user", "assistant")
Encoded = tuple[Any, list[int], list[int]]
"""Request arguments (for the harness's cache), context tokens, and continuation tokens."""


class PersonascopeLM(TemplateLM):
    """Run the harness's requests on an engine, all under the same plan or none.

    All requests of a kind go to the engine in one call. Tokenization follows the harness's own Transformers
    model: a context and its continuation are encoded together and split, white space between them belongs to
    the continuation, and overlong contexts are truncated on the left. A result that was not computed under
    the plan raises an error.

    Args:
        engine: Engine of the model; the caller keeps ownership.
        plan: Intervention to apply, or None.
        tokenizer: Tokenizer of the model; by default the engine's.
        chat: Chat format of the model; by default the engine's.
        max_length: Maximum context length in tokens; by default that of the model's configuration.
        max_gen_toks: Maximum response length for tasks that name none.
        seed: Random seed of sampled responses.

    Raises:
        UsageError: If the tokenizer or length is not given and cannot be found.
        InterventionError: If the plan is of another model.
    """

    def __init__(
        self,
        engine: Engine,
        plan: Plan | None = None,
        *,
        tokenizer: Any = None,
        chat: Any = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        seed: int = 0,
    ) -> None:
        """Check and store the settings; nothing runs yet."""
        super().__init__()
        context = Context.of(engine, tokenizer=tokenizer, chat=chat, max_length=max_length)
        if plan is not None:
            check_plan(plan, engine)
        self.engine, self.plan = engine, plan
        self.tokenizer = context.tokenizer
        self._context = context
        self._max_gen_toks = max_gen_toks
        self._seed = seed
        self._names = RequestNames()
        self._firing = Firing()

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> PersonascopeLM:
        """Load the model and plan that ``--model_args`` names.

        Args:
            arg_dict: ``model`` (as in `personascope.models.resolve`) and optionally ``plan`` (a folder),
                ``engine``, ``dtype``, ``device``, ``device_map``, ``attn_implementation``,
                ``trust_remote_code``, ``max_batch``, ``chat`` (auto or transcript), ``max_length``,
                ``max_gen_toks``, ``seed``.
            additional_config: The harness's own ``batch_size``, ``max_batch_size`` and ``device``.

        Raises:
            UsageError: If an argument is unknown, or no model is named.
        """
        engine, plan, rest = open_from_args(dict(arg_dict), dict(additional_config or {}))
        return cls(engine, plan, **rest)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> PersonascopeLM:
        """Load model and plan from a string "model=...,plan=..."; see ``create_from_arg_obj``."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token."""
        return self._context.eot_token_id

    @property
    def prefix_token_id(self) -> int:
        """Id of the token put before a text without context: bos, or else the end-of-text token."""
        return self._context.prefix_token_id

    @property
    def max_length(self) -> int:
        """Maximum context length, in tokens."""
        return self._context.max_length

    @property
    def max_gen_toks(self) -> int:
        """Maximum response length for tasks that name none, in tokens."""
        return self._max_gen_toks

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer and chat template, under which the harness caches prompts."""
        info = self.engine.info
        name = f"{info.model_id}-{info.model_revision[:12]}-{info.chat_digest[:8]}"
        return name.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Return the metadata that the harness stores with its results: model, plan, and cap counts."""
        info, plan = self.engine.info, self.plan
        return {
            "model_id": info.model_id,
            "model_revision": info.model_revision,
            "model_dtype": info.dtype,
            "engine": info.engine,
            "plan": None if plan is None else plan.explain(),
            "plan_digest": None if plan is None else plan.digest,
            **self._firing.summary(),
        }

    @property
    def firing(self) -> Firing:
        """Counts of tokens on which the plan acted and its caps fired, over all requests so far."""
        return self._firing

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Attach the harness's response cache, unless its answers come from another model or plan.

        Raises:
            UsageError: If the cache holds answers of another model, plan or seed, which its keys do not
                distinguish.
        """
        answers = cache_hook.dbdict
        if answers is not None:
            mine = self._fingerprint()
            theirs = answers.get(_FINGERPRINT)
            if theirs != mine and (theirs is not None or len(answers)):
                raise UsageError(
                    f"the response cache holds answers of {theirs or 'an unknown model'}, this is {mine}",
                    hint="give each model and plan a --use_cache path of its own",
                )
            answers[_FINGERPRINT] = mine
        super().set_cache_hook(cache_hook)

    def _fingerprint(self) -> str:
        info = self.engine.info
        plan = "no plan" if self.plan is None else f"plan {self.plan.digest}"
        return f"{info.model_id} {info.model_revision} {info.dtype} {plan} seed {self._seed}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation as text with the model's own chat template.

        Thinking is off. If the template has no system role, the system text goes before the first user
        message, as everywhere in personascope.

        Args:
            chat_history: Messages with the roles system, user and assistant.
            add_generation_prompt: Whether to add the generation prompt; False if the last message begins the
                reply.

        Raises:
            UsageError: If the model has no chat format, or a message has another role or is not text.
            ChatError: If the template refuses the conversation.
        """
        chat = self._context.chat
        if chat is None:
            raise UsageError(
                f"{self.engine.info.model_id} has no chat template",
                hint="leave --apply_chat_template out, or say chat=transcript in --model_args",
            )
        messages: list[Message] = []
        for turn in chat_history:
            role, content = turn["role"], turn["content"]
            if role not in _ROLES or not isinstance(content, str):
                raise UsageError(
                    f"a message of {role!r} with {type(content).__name__} content cannot be rendered",
                    hint=f"use text messages of {', '.join(_ROLES)}",
                )
            messages.append(Message(role, content))  # pyright: ignore[reportArgumentType]
        begun = "" if add_generation_prompt else messages.pop().content
        return chat.render_with_spans(tuple(messages), add_generation_prompt=True).text + begun

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the name of the chat template for the harness's records.

        Raises:
            UsageError: If a template other than the model's own is named.
        """
        if isinstance(chat_template, str):
            raise UsageError(
                f"the chat template {chat_template!r} was named, and only the model's own is applied",
                hint="say --apply_chat_template without a name",
            )
        return super().chat_template(chat_template)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Tokenize a text; bos is added if the tokenizer adds it, and never twice."""
        special = add_special_tokens
        if special is None:
            special = not string.startswith(self._context.prefix_text)
        return list(self.engine.encode(string, special=special))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return each continuation's log-probability given its context, and whether it is the greedy one."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or _quiet())

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each text; long texts use windows that predict every token once."""
        windows: list[Encoded] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            (text,) = request.args
            pairs = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for before, tokens in map(make_disjoint_window, pairs):
                windows.append((None, before, tokens))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(
            owners, self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm), strict=True
        ):
            totals[owner] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return a response to each context, up to the first stop string."""
        asked: dict[str, tuple[int, Any]] = {}
        batch: list[Request] = []
        for place, request in enumerate(requests):
            text, options = request.args[0], request.args[1]
            sampling = sampling_of(options, max_gen_toks=self._max_gen_toks)
            room = self.max_length - sampling.max_new_tokens
            if room < 1:
                raise UsageError(
                    f"{request.task_name} asks for {sampling.max_new_tokens} new tokens, and "
                    f"{self.engine.info.model_id} reads {self.max_length} in all",
                    hint="lower them with --gen_kwargs max_gen_toks=...",
                )
            prompt = tuple(self.tok_encode(text))[-room:] or (self.prefix_token_id,)
            name = self._names.name(prompt)
            asked[name] = (place, request)
            batch.append(Request(name, prompt, sampling=sampling, plan=self.plan, seed=self._seed))
        texts: list[str | None] = [None] * len(requests)
        for done in self._watch(self.engine.run(batch), len(batch), "generate", disable_tqdm):
            check_applied(done.id, self.plan, done.plan_digest)
            place, request = asked[done.id]
            self._firing.add(done.cap_stats)
            texts[place] = done.text
            self.cache_hook.add_partial("generate_until", request.args, done.text)
        return _whole(texts)

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        batch: list[ScoreRequest] = []
        for place, (asked, before, tokens) in enumerate(requests):
            if not tokens or len(tokens) > self.max_length:
                raise EvaluationError(
                    f"a continuation of {len(tokens)} tokens cannot be scored (the model reads "
                    f"{self.max_length}): {asked!r:.200}",
                    hint="look at the task's answers; raise max_length if the model reads more",
                )
            kept = (*before, *tokens)[-(self.max_length + 1) :]
            prompt = kept[: -len(tokens)]
            if not prompt:
                raise EvaluationError(f"a continuation without a token before it: {asked!r:.200}")
            batch.append(ScoreRequest(str(place), prompt, tuple(tokens), plan=self.plan))
        results: list[tuple[float, bool] | None] = [None] * len(batch)
        for scored in self._watch(self.engine.score(batch), len(batch), "score", disable_tqdm):
            check_applied(scored.id, self.plan, scored.plan_digest)
            self._firing.add(scored.cap_stats)
            place = int(scored.id)
            # Sum in float64: a float32 sum over a long text loses digits.
            result = (float(scored.logprobs.sum(dtype="float64")), scored.greedy)
            results[place] = result
            if requests[place][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[place][0], result)
        return _whole(results)

    def _watch(self, results: Iterable[Any], total: int, what: str, disable: bool) -> Iterable[Any]:
        return tqdm(results, total=total, desc=f"personascope {what}", disable=disable or _quiet())


def _whole(results: list[Any]) -> list[Any]:
    missing = sum(result is None for result in results)
    if missing:
        raise EngineError(f"the engine left {missing} of {len(results)} requests without an answer")
    return results


def _quiet() -> bool:
    return not sys.stderr.isatty()
