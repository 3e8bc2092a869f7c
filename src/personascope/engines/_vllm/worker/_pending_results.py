"""Results of requests that have ended, until the front end fetches or drops them."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import numpy as np
from safetensors.numpy import save

from personascope.errors import EngineError

KEEP_RESULTS = 8192
"""Maximum number of results that wait; older ones are dropped, and fetching those is an error."""

Result = tuple[dict[str, Any], dict[str, np.ndarray]]
"""A worker's results of a request: JSON values, and arrays by name."""


class PendingResults:
    """Results that wait to be fetched, by key, oldest first.

    Attributes:
        dropped: Number of results that were not fetched in time.
    """

    def __init__(self) -> None:
        """Begin without results."""
        self.dropped = 0
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._unwanted: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of waiting results."""
        return len(self._results)

    def __contains__(self, key: str) -> bool:
        """Return whether there is a result for a key."""
        return key in self._results

    def wanted(self, key: str) -> bool:
        """Return whether to keep the result of a request that ends; False, once, after `forget_unborn`."""
        if key in self._unwanted:
            del self._unwanted[key]
            return False
        return True

    def keep(self, key: str, result: Result) -> None:
        """Keep a result, and drop the oldest if there are too many."""
        self._results[key] = result
        self._results.move_to_end(key)
        while len(self._results) > KEEP_RESULTS:
            self._results.popitem(last=False)
            self.dropped += 1

    def take(self, key: str) -> Result:
        """Return and remove a result.

        Raises:
            EngineError: If there is no such result.
        """
        if key not in self._results:
            raise EngineError(
                f"there are no results of request {key!r}",
                hint=f"fetch each once, before {KEEP_RESULTS} others have ended "
                f"({self.dropped} were dropped so far)",
            )
        return self._results.pop(key)

    def forget(self, key: str) -> None:
        """Remove the result of a key, if there is one."""
        self._results.pop(key, None)

    def forget_unborn(self, key: str) -> None:
        """Mark the result of a request that has not reached this worker yet as not wanted."""
        self._unwanted[key] = None
        while len(self._unwanted) > KEEP_RESULTS:
            self._unwanted.popitem(last=False)


def pack_results(results: dict[str, Result]) -> bytes:
    """Return results as safetensors, with JSON in the metadata."""
    metas: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for number, (key, (meta, found)) in enumerate(results.items()):
        metas[key] = {"place": number, **meta}
        arrays |= {f"{number}.{name}": np.ascontiguousarray(array) for name, array in found.items()}
    return save(arrays or {"empty": np.zeros(1, np.float32)}, {"results": json.dumps(metas)})
