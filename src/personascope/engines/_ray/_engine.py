"""The ``Engine`` contract on several engines, each in a Ray actor."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from personascope.chat import ChatFormat, ChatOptions, Conversation
from personascope.engines._capabilities import unsupported
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
)
from personascope.engines._texts import Texts
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan
from personascope.models import ModelFiles, open_files


class RayEngine(Texts[ModelFiles]):
    """The ``Engine`` contract on several workers, on this machine or on a cluster.

    A request's random draws depend on its seed and id, so it does not matter which worker runs it. The
    tokenizer and the chat format are loaded in this process, the weights only in the workers.
    """

    max_batch: int

    def __init__(
        self,
        name: str,
        *,
        engine: str = "transformers",
        workers: int = 2,
        address: str | None = None,
        gpus_per_worker: float | None = None,
        log_to_driver: bool = False,
        max_batch: int = 128,
        **options: Any,
    ) -> None:
        """Start the workers and load the model in each.

        Args:
            name: Model, as ``personascope.models.resolve`` takes it; every node must have access to it.
            engine: Engine inside the workers, "transformers" or "vllm".
            workers: Number of workers.
            address: Ray cluster: "auto" for the one that this machine belongs to, "host:port", or
                "ray://host:10001". None starts Ray on this machine, for as long as the engine is open.
            gpus_per_worker: GPUs per worker; by default the product of vLLM's ``tensor_parallel_size`` and
                ``pipeline_parallel_size`` (1 each by default) if there are GPUs, else 0.
            log_to_driver: Whether to show the workers' output.
            max_batch: Number of requests that one worker runs at once. It holds at most twice as many.
            options: Further arguments of `personascope.engines.load_engine`, for every worker.

        Raises:
            UsageError: If there is less than one worker.
            EngineError: If Ray is not installed or cannot be reached, or workers cannot be started.
            ModelError: If the model cannot be found or loaded.
        """
        if workers < 1:
            raise UsageError(f"{workers} workers were asked for", hint="give one or more")
        from personascope.engines._ray._pool import Pool

        options = {key: value for key, value in options.items() if value is not None}
        self.files = open_files(name, trust_remote_code=bool(options.get("trust_remote_code")))
        self.chat = self.files.chat
        asked = options.get("chat_options")
        if isinstance(self.chat, ChatFormat):
            # Workers render with this machine's date, also if they are started later.
            self.chat = self.chat.with_options(asked or ChatOptions(today=self.chat.today))
            if asked or self.chat.today:
                options["chat_options"] = replace(self.chat.options, today=self.chat.today)
        self.max_batch = max_batch
        self._transcript: bool | ChatOptions = False
        self._pool = Pool(
            name,
            {"engine": engine, "max_batch": max_batch, **options},
            workers=workers,
            address=address,
            gpus_per_worker=gpus_per_worker,
            log_to_driver=log_to_driver,
        )
        if self._pool.info.model_revision != self.files.revision:
            self.close()
            raise EngineError(
                f"{name} is {self.files.revision[:12]} here and {self._pool.info.model_revision[:12]} on "
                "the workers",
                hint="give all machines the same files",
            )

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model, and the engine inside the workers.

        The number of workers is left out, so that a run can be resumed with another number.
        """
        digest = self.chat.digest if self.chat else ""
        return replace(self._pool.info, chat_digest=digest, **self._chat_info())

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._pool.workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers, each on its node; workers that are still starting are left out."""
        return self._pool.pids

    def with_transcript(self) -> RayEngine:
        """Return an engine on the same workers that writes conversations as a plain transcript."""
        other = object.__new__(RayEngine)
        other.__dict__ |= self.__dict__
        other.chat = self._transcript_chat()
        other._transcript = True
        return other

    def with_chat(self, options: ChatOptions) -> RayEngine:
        """Return an engine on the same workers whose chat template is rendered with other options.

        Raises:
            ChatError: If the model has no chat template, or the template has no such variable.
        """
        other = object.__new__(RayEngine)
        other.__dict__ |= self.__dict__
        other.chat = self._chat_with(options)
        other._transcript = options
        return other

    def close(self) -> None:
        """Stop the workers, and Ray if it was started for them."""
        self._pool.close()

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded in completion order.

        Requests are read when workers have room for them. The requests of a worker that dies are run again.

        Raises:
            EngineError: If a request cannot be honoured, two have the same id, or workers keep dying.
            ChatError: If a conversation cannot be rendered.
        """
        return self._dispatch("run", requests)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-probabilities of given continuations, in completion order.

        Raises:
            EngineError: As in ``run``, and if a continuation is empty.
            ChatError: If a conversation cannot be rendered.
        """
        return self._dispatch("score", requests)

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of an existing conversation, on one of the workers.

        Raises:
            EngineError: If a layer does not exist, a probe has the wrong width, the plan cannot act on
                this model or conversation, or workers keep dying.
            ChatError: If the conversation cannot be rendered.
        """
        options = {"capture": capture, "probes": probes, "plan": plan, "tokens": tokens}
        return self._pool.call("observe", self._transcript, pickle.dumps((conversation, options), protocol=5))

    def follow(self, *, capture: Capture | None = None, probes: tuple[Probe, ...] = ()) -> NoReturn:
        """Raise: only the Transformers engine can follow a growing conversation.

        Raises:
            EngineError: Always.
        """
        del capture, probes
        raise unsupported("ray", "follow", "follow asks for")

    def _dispatch(self, method: str, requests: Iterable[Any]) -> Iterator[Any]:
        from personascope.engines._ray._dispatcher import Dispatcher

        return Dispatcher(
            self._pool, method, requests, transcript=self._transcript, max_batch=self.max_batch
        ).results()
