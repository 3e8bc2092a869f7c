"""What is read of a request in units of the server's map."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from personascope.engines._capabilities import unsupported
from personascope.engines._http._map_reader import READS, MapReader, Reading
from personascope.engines._vllm._admission import AdmissionCheck
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.request._spec import FIELD
from personascope.engines._vllm.server._inflight import MapRead
from personascope.engines._vllm.server._replies import ReplyFormats
from personascope.errors import EngineError


class MapReads:
    """Checks and readings of requests, on the reader of a map.

    Attributes:
        reader: Reader of the map; None for a server that was not given one.
    """

    def __init__(self, reader: MapReader | None, replies: ReplyFormats, admission: AdmissionCheck) -> None:
        """Set what readings rest on."""
        self.reader = reader
        self._replies, self._admission = replies, admission

    def reading(self, asked: Mapping[str, Any] | None, request: Any) -> Reading | None:
        """Return what a request asks to be read; None for nothing.

        Args:
            asked: Value of the field; None for a request without it.
            request: vLLM's request.

        Raises:
            EngineError: If the field asks for what there is not, or a reply's parts are not known.
        """
        wanted = [name for name in READS if _flag(asked or {}, name)]
        if self.reader is None:
            if wanted:
                title = f"{wanted[0]} {'need' if wanted[0] == 'positions' else 'needs'}"
                raise EngineError(f"{title} the map of the model", hint="start the server with --map")
            return None
        found = self.reader.reading(asked)
        if not found.probes:
            return None
        try:
            if getattr(request, "include_reasoning", True) is False:
                title = f"the request has the field {FIELD} and asks for"
                raise unsupported("server", "hidden_reasoning_probes", title)
            self._replies.of(request)
        except EngineError:
            if wanted:
                raise
            # Nobody could say to which part of the reply a token belongs.
            return None
        return found

    def read(
        self, request: Any, reading: Reading | None, probes: ProbeSet | None, *, moved: bool
    ) -> MapRead | None:
        """Return a reading with the request's own probes behind it; None for no reading.

        Args:
            request: vLLM's request.
            reading: What is read.
            probes: Probes of the request, or None.
            moved: Whether a plan may act on it.

        Raises:
            EngineError: If a probe of the request has the name of one of the map's.
        """
        if reading is None or self.reader is None:
            return None
        own = [] if probes is None else probes.probes()
        names = {probe.name for probe in reading.probes}
        for probe in own:
            if probe.name in names:
                raise EngineError(
                    f"a probe is called {probe.name!r}", hint="rename it: positions are read under it"
                )
        both = ProbeSet.of([*reading.probes, *own])
        spec, tokenizer = self._replies.of(request), self._replies.tokenizer()
        begin = partial(
            self.reader.begin,
            reading,
            tokenizer,
            None if spec is None else spec.format(tokenizer),
            [request.stop] if isinstance(request.stop, str) else list(request.stop or ()),
            width=len(both.names),
            moved=moved,
        )
        before = moved and self.knows_before
        return MapRead(both, len(reading.probes), reading.mean_layer, reading.tokens, before, begin)

    @property
    def knows_before(self) -> bool:
        """Whether projections before the plan can be read, which the kernel of CUDA graphs cannot do."""
        return self._admission.limits is None

    def described(self) -> dict[str, bool]:
        """Return what can be read of replies, as JSON values."""
        layers = False
        if self.reader is not None and (widest := self.reader.widest()):
            try:
                self._admission.check_probes(ProbeSet.of(widest))
                layers = True
            except EngineError:
                # The tables of CUDA graphs hold a few probes, and some layers may not be instrumented.
                layers = False
        # vLLM does not pass the last token of a reply through the model.
        return {"before": self.knows_before, "layers": layers, "last_token": False}


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    flag = asked.get(name)
    if flag is not None and not isinstance(flag, bool):
        raise EngineError(f"{name} is {flag!r}"[:100], hint="give true or false")
    return bool(flag)
