"""Bodies of requests: what is understood, what is refused, and the request for the engine."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from personascope.chat import Conversation, Message
from personascope.engines import Sampling
from personascope.errors import UsageError

MAX_STOPS = 16
MAX_SEED = 2**63 - 1

HARMLESS = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "request_id",
        "priority",
    )
)
"""Fields that say who asks or where it is kept, and change no reply."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "return_token_ids": (True, False),
    "include_reasoning": (True,),
}
"""Fields that are not supported, with the values that ask for nothing."""


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class TextPart(BaseModel):
    """Part of a message's content."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """Message of a chat request."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _check_reasoning(self) -> Self:
        if (self.reasoning or self.reasoning_content) and self.role != "assistant":
            raise ValueError(f"reasoning of a message of {self.role}; only the assistant reasons")
        return self

    def message(self) -> Message:
        """Return the message in the engine's form."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, self.reasoning or self.reasoning_content or "")


class _Asked(BaseModel):
    """Fields that chat and text requests have in common."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=MAX_SEED)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    vllm_xargs: dict[str, Any] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts."""
        found = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(text for text in found if text)

    @property
    def usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def seed_or_new(self) -> int:
        """Return the seed of the request; a new one if it has none."""
        return secrets.randbelow(1 << 53) if self.seed is None else self.seed

    def sampling(self, longest: int) -> Sampling:
        """Return the sampling parameters, with OpenAI's defaults.

        Args:
            longest: Maximum length of a reply without ``max_tokens``.
        """
        most = self.most_tokens
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_new_tokens=min(longest, most or longest),
            stop=self.stops,
        )

    @property
    def most_tokens(self) -> int | None:
        """Requested maximum length of the reply."""
        return self.max_tokens


class ChatBody(_Asked):
    """Body of a chat request."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None

    @property
    def most_tokens(self) -> int | None:
        """Requested maximum length of the reply."""
        return self.max_completion_tokens or self.max_tokens

    def conversation(self) -> Conversation:
        """Return the messages in the engine's form."""
        return tuple(message.message() for message in self.messages)


class TextBody(_Asked):
    """Body of a text request; ``max_tokens`` is 16 by default, as OpenAI has it."""

    prompt: str | list[int] | list[str]

    @property
    def most_tokens(self) -> int | None:
        """Requested maximum length of the reply."""
        return 16 if self.max_tokens is None else self.max_tokens


def read_body(kind: type[ChatBody] | type[TextBody], value: Any) -> ChatBody | TextBody:
    """Read the JSON value of a body.

    Raises:
        UsageError: If a field is malformed, unknown, or asks for what is not supported.
    """
    if not isinstance(value, dict):
        raise UsageError("the body is not a JSON object", hint="send what the OpenAI API documents")
    # A client that writes null means the default.
    given = {name: item for name, item in value.items() if item is not None}
    try:
        body = kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise UsageError(f"{place}: {first['msg']}", hint="see docs/live.md for what is supported") from error
    for name, item in (body.model_extra or {}).items():
        if name in HARMLESS or name == "personascope":
            continue
        if name not in NEUTRAL:
            raise UsageError(
                f"the request has a field {name[:60]!r}, which this server does not know",
                hint="leave it out: it would change nothing",
            )
        if not any(type(item) is type(known) and item == known for known in NEUTRAL[name]) and not (
            isinstance(item, float) and math.isfinite(item) and item in NEUTRAL[name]
        ):
            raise UsageError(
                f"{name} is {repr(item)[:60]}, which this server cannot do",
                hint="leave it out, or serve the model by vLLM",
            )
    return body
