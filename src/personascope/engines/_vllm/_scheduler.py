"""The scheduler classes that vLLM is started with (``--scheduler-cls``).

They refuse a request whose plan cannot be applied before it runs, keep the prefix caches of plans apart,
and send projections out with the tokens. There are two classes because vLLM switches asynchronous
scheduling off for a scheduler that is not a subclass of its asynchronous one.
"""

# pyright: reportMissingImports=false
# pyright: reportUntypedBaseClass=false
# vLLM is not installed where types are checked.
from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import Request

from personascope.engines._capabilities import unsupported
from personascope.engines._vllm._admission import AdmissionCheck
from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.engines._vllm.request._reply_spec import check_tail
from personascope.engines._vllm.request._spec import FIELD, Spec, parse_spec
from personascope.errors import EngineError, PersonascopeError
from personascope.interventions import reply_parts

OVER = f"{FIELD}_over"
"""Attribute of a runner's output: the keys of responses that are over."""

if TYPE_CHECKING:
    _Base = Scheduler
else:
    _Base = object


class _Mixin(_Base):
    """Additions to both schedulers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admission = AdmissionCheck.of(self.vllm_config)
        self._store = PlanStore(self._admission.config.store)
        self._refused: list[tuple[Request, str, str | None]] = []
        self._keys: dict[str, str] = {}
        self._live: dict[str, Spec] = {}
        self._held: dict[str, list[Any]] = {}
        self.personascope_preemptions = 0

    def add_request(self, request: Request) -> None:
        try:
            spec = self._accept(request)
        except PersonascopeError as error:
            # The request never enters a queue; its refusal goes out with the next step's outputs.
            self._refused.append((request, str(error), self._keys.pop(request.request_id, None)))
            return
        if spec is not None:
            self._live[spec.key] = spec
        super().add_request(request)

    def _accept(self, request: Request) -> Spec | None:
        params = request.sampling_params
        spec = parse_spec(None if params is None else params.extra_args)
        if spec is None:
            return None
        spec = spec.of_sample(request.request_id)
        # A refusal carries the key, so that the front end can find its request.
        self._keys[request.request_id] = spec.key
        if spec.key in self._live:
            raise EngineError(
                f"a request with the key {spec.key!r} is under way",
                hint="give every request its own key, and name the number of samples if there are several",
            )
        plan = self._admission.check(spec, self._store)
        if self._admission.limits is not None:
            self._admission.limits.check_room(spec, self._live.values())
        check_tail(spec.reply, request.prompt_token_ids)
        if plan is None and spec.gate is None:
            return spec
        if request.prompt_embeds is not None:
            raise unsupported("vllm", "prompt_embeds", "the request asks for")
        # Keys and values computed under a plan must never serve a request without it.
        ops = () if plan is None else plan.ops
        salt = spec.salt(
            request.num_prompt_tokens,
            everywhere=plan is not None and all(op.tokens == "all" for op in ops),
            by_part=plan is not None and bool(reply_parts(plan)),
        )
        request.cache_salt = f"{request.cache_salt}/{salt}" if request.cache_salt else salt
        request.block_hashes = []
        request.update_block_hashes()
        return spec

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self.personascope_preemptions += 1
        return super()._preempt_request(request, *args, **kwargs)

    def has_requests(self) -> bool:
        return bool(self._refused) or super().has_requests()

    def get_num_unfinished_requests(self) -> int:
        return len(self._refused) + super().get_num_unfinished_requests()

    def update_from_output(
        self, scheduler_output: Any, model_runner_output: Any
    ) -> dict[int, EngineCoreOutputs]:
        self._end(getattr(model_runner_output, OVER, ()))
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for request, message, key in self._refused:
            outputs.setdefault(request.client_index, EngineCoreOutputs()).outputs.append(
                EngineCoreOutput(
                    request_id=request.request_id,
                    new_token_ids=[],
                    finish_reason=FinishReason.ERROR,
                    stop_reason=message,
                    kv_transfer_params=None if key is None else {FIELD: {"key": key, "refused": message}},
                )
            )
        self._refused.clear()
        if self._keys:
            self._send(outputs, getattr(model_runner_output, FIELD, None) or {})
        return outputs

    def _end(self, keys: Collection[str]) -> None:
        """Let the step's token be the last of responses that the workers say are over."""
        if not keys:
            return
        for name, key in self._keys.items():
            request = self.requests.get(name)
            if key in keys and request is not None:
                request.max_tokens = min(request.max_tokens, request.num_output_tokens + 1)

    def _send(self, outputs: dict[int, EngineCoreOutputs], found: dict[str, list[Any]]) -> None:
        """Attach projections to the outputs; those of a request without output yet are held back."""
        for key, parts in found.items():
            self._held.setdefault(key, []).extend(parts)
        if self._held:
            for batch in outputs.values():
                for output in batch.outputs:
                    key = self._keys.get(output.request_id, "")
                    parts = self._held.pop(key, None)
                    if parts is not None:
                        sent = {FIELD: {"key": key, "parts": parts}}
                        output.kv_transfer_params = {**(output.kv_transfer_params or {}), **sent}
        gone = [name for name in self._keys if name not in self.requests]
        for name in gone:
            key = self._keys.pop(name)
            self._live.pop(key, None)
            self._held.pop(key, None)


class PersonascopeScheduler(_Mixin, Scheduler):
    """Scheduler for synchronous scheduling."""


class PersonascopeAsyncScheduler(_Mixin, AsyncScheduler):
    """Scheduler for asynchronous scheduling."""
