"""A conversation, token by token, with a model that a server serves."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from personascope.api._talk import Spoken, write_talk
from personascope.calibration import default_windows, parse_window
from personascope.chat import Conversation, Message
from personascope.errors import EngineError, UsageError

SECONDS = 600.0
"""Time after which a server that says nothing is given up."""


def is_server(text: str) -> bool:
    """Return whether a text is the address of a server."""
    return text.startswith(("http://", "https://"))


class ServerTalk:
    """A conversation that is kept; each reply comes in pieces, under the plan of the moment.

    Attributes:
        model: Name of the model.
        has_map: Whether the server tells positions.
        conversation: Messages so far.
        positions: Position of each reply's answer so far; NaN where the server told none.
        capped: Share of the plan's tokens on which a cap fired in the last reply; None without a cap.
    """

    def __init__(
        self,
        url: str,
        *,
        plan: str | None = None,
        api_key: str | None = None,
        system: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        seed: int | None = None,
    ) -> None:
        """Ask the server what it serves.

        Args:
            url: Address of the server, with or without ``/v1``.
            plan: Name or digest of the plan of the first replies; "none" for none; the server's default if
                not given.
            api_key: Key that the server asks for.
            system: System prompt.
            max_new_tokens: Maximum length of a reply.
            temperature: Sampling temperature.
            seed: Random seed of the first reply; drawn if not given.

        Raises:
            EngineError: If the server does not answer, or refuses.
            UsageError: If it is no server of personascope.
        """
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(SECONDS, connect=10.0))
        self._about = self._describe()
        self.model = str(self._about["model"])
        self.has_map = self._about["map"] is not None
        self._field: dict[str, Any] = {} if plan is None else {"plan": plan}
        self._plan = "the server's default" if plan is None else plan
        self._sampling = {"max_tokens": max_new_tokens, "temperature": temperature}
        self._seed = secrets.randbelow(1 << 31) if seed is None else seed
        self.conversation: Conversation = (Message("system", system),) if system else ()
        self.positions: list[float] = []
        self.capped: float | None = None

    def say(self, text: str) -> Iterator[Spoken]:
        """Say something, and yield the reply piece by piece; both are kept once the reply has ended.

        Raises:
            EngineError: If the server refuses, or the connection ends before the reply; nothing is kept then.
        """
        asked = (*self.conversation, Message("user", text))
        body: dict[str, Any] = {
            **self._sampling,
            "model": self.model,
            "messages": [_written(message) for message in asked],
            "seed": self._seed + len(self.positions),
            "stream": True,
        }
        if self._field or self.has_map:
            body["personascope"] = self._field or {"positions": True}
        answer, thinking = "", ""
        totals: dict[str, Any] = {}
        for chunk in self._chunks(body):
            told = chunk.get("personascope") or {}
            totals = told if "plan" in told else totals
            for piece in _pieces(chunk, told, told_one_by_one=self.has_map):
                if piece.part == "thinking":
                    thinking += piece.text
                else:
                    answer += piece.text
                yield piece
        position = (totals.get("answer") or {}).get("position")
        self.positions.append(math.nan if position is None else float(position))
        firing = totals.get("firing") or {}
        self.capped = firing.get("share") if firing.get("layers") else None
        self.conversation = (*asked, Message("assistant", answer, thinking))

    def plain(self) -> None:
        """Let the next replies run without a plan."""
        self._field, self._plan = {"plan": None}, "no plan"

    def steer(self, strength: float) -> None:
        """Steer the next replies along the axis, by a fraction of the layer's norm.

        Raises:
            UsageError: If the server cannot.
        """
        if not self._about["inline"]["steer"]:
            raise UsageError(
                "this server makes no steering plans", hint="it needs a map and norms: --map RUN"
            )
        self._field = {"plan": {"steer": strength}}
        self._plan = f"steering {strength:+g}"

    def cap(self, percentile: float, layers: str | None = None) -> None:
        """Cap the next replies: hold the projection at or above a percentile of role responses.

        Raises:
            UsageError: If the percentile is none, the band of layers does not fit, or the server cannot.
        """
        if not self._about["inline"]["cap"]:
            raise UsageError("this server makes no caps", hint="it needs a map: --map RUN")
        if not 0 <= percentile <= 100:
            raise UsageError(f"{percentile} is no percentile", hint="give a number from 0 to 100")
        n_layers = int(self._about["n_layers"])
        window = default_windows(n_layers)[-1] if layers is None else parse_window(layers, n_layers)
        self._field = {"plan": {"cap": {"percentile": percentile, "layers": [window.start, window.stop]}}}
        self._plan = f"cap {window} at axis percentile {percentile:g}"

    def use(self, name: str) -> None:
        """Let the next replies run under a plan of the server.

        Raises:
            UsageError: If it has no such plan.
        """
        names = [name for plan in self._about["plans"] for name in (*plan["names"], plan["digest"])]
        if not any(known == name or (len(name) >= 8 and known.startswith(name)) for known in names):
            raise UsageError(
                f"the server has no plan {name!r}", hint=f"it has {', '.join(names[:8]) or 'none'}"
            )
        self._field, self._plan = {"plan": name}, f"plan {name}"

    def explain(self) -> str:
        """Return what the next replies run under."""
        return self._plan

    def save(self, path: Path) -> Path:
        """Write the conversation as JSON, which ``personascope project`` reads.

        Raises:
            StoreError: If the file cannot be written.
        """
        return write_talk(path, self.conversation, self.positions)

    def _describe(self) -> dict[str, Any]:
        place = f"{self._url}/v1/personascope/about"
        try:
            answer = self._client.get(place)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._silent(error) from error
        if answer.status_code == 404:
            raise UsageError(
                f"{self._url} is no server of personascope", hint="start one: personascope serve"
            )
        if answer.status_code != 200:
            raise _refused(answer)
        try:
            value = answer.json()
        except ValueError:
            value = None
        if not isinstance(value, dict) or not {"model", "n_layers", "map", "plans", "inline"} <= set(value):
            raise UsageError(
                f"{self._url} is no server of personascope", hint="start one: personascope serve"
            )
        return value

    def _chunks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        place = f"{self._url}/v1/chat/completions"
        done = False
        try:
            with self._client.stream("POST", place, json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _refused(answer)
                for line in answer.iter_lines():
                    done = done or line == "data: [DONE]"
                    if not line.startswith("data: {"):
                        continue
                    value = json.loads(line[len("data: ") :])
                    if "error" in value:
                        raise EngineError(str(value["error"].get("message"))[:500])
                    yield value
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if not done:
            raise EngineError("the connection ended before the reply did", hint="say it again")

    def _other(self) -> UsageError:
        return UsageError(
            f"{self._url} is no server of personascope", hint="start one: personascope serve MODEL"
        )

    def _silent(self, error: Exception) -> EngineError:
        return EngineError(
            f"{self._url} does not answer: {error}"[:300], hint="start it: personascope serve MODEL"
        )


def _pieces(chunk: dict[str, Any], told: dict[str, Any], *, told_one_by_one: bool) -> Iterator[Spoken]:
    """Yield the pieces of a chunk: its tokens where the server tells them, or else its texts."""
    if told_one_by_one:
        for token in told.get("tokens", ()):
            if token["text"] and token["part"] != "mark":
                answer = token["part"] == "answer"
                yield Spoken(token["text"], token["part"], token["position"] if answer else None)
        return
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta") or {}
        for name, part in (("reasoning", "thinking"), ("content", "answer")):
            if delta.get(name):
                yield Spoken(delta[name], part, None)


def _written(message: Message) -> dict[str, str]:
    found = {"role": message.role, "content": message.content}
    return found | ({"reasoning": message.reasoning} if message.reasoning else {})


def _refused(answer: httpx.Response) -> EngineError:
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.text[:200]
    hint = "give its key by --api-key, or in VLLM_API_KEY" if answer.status_code == 401 else ""
    return EngineError(f"the server answered {answer.status_code}: {text}"[:500], hint=hint)
