"""What fails at the hub, said by one translator whoever asks."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from huggingface_hub import errors as hub

from personascope.errors import InteropError, ModelError, PersonascopeError, SharingError
from personascope.hub import hub_errors


def refused(kind: type[hub.HfHubHTTPError], status: int, said: str = "told") -> Exception:
    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/x"))
    return kind(said, response=response)


class ConnectError(Exception):
    """An error of an HTTP library."""


class LostError(SharingError):
    """What a caller takes for a hub out of reach."""


CASES: list[tuple[Callable[[], Exception], str, str]] = [
    (
        lambda: hub.LocalEntryNotFoundError("offline"),
        "is not in the local cache and",
        "or give a folder",
    ),
    (lambda: hub.OfflineModeIsEnabled("offline"), "the hub cannot be reached", "HF_HUB_OFFLINE"),
    (lambda: refused(hub.GatedRepoError, 403), "org/name is gated", "accept its terms"),
    (
        lambda: refused(hub.RepositoryNotFoundError, 404),
        "there is no model org/name on",
        "make it first",
    ),
    (lambda: refused(hub.RevisionNotFoundError, 404), "org/name has no revision 'v2'", "make it first"),
    (lambda: refused(hub.HfHubHTTPError, 401), "the hub refuses it .401.", "hf auth login"),
    (
        lambda: refused(hub.HfHubHTTPError, 412),
        "at revision 'v2' cannot .* says 412: .told",
        "try again",
    ),
    (lambda: ConnectError("no route"), "cannot be fetched: .no route", "check the connection"),
    (lambda: OSError("broken\x1b[31m pipe"), r"broken\\x1b\[31m pipe", "try again"),
    (lambda: ValueError("token=hf_abcdefghijklmnopqrstuvwxyz012345"), "cannot be fetched", "try again"),
]


@pytest.mark.parametrize(("make", "message", "hint"), CASES)
@pytest.mark.parametrize("kind", [ModelError, InteropError, SharingError])
def test_each_failure_is_said_with_what_to_do(
    make: Callable[[], Exception], message: str, hint: str, kind: type[PersonascopeError]
) -> None:
    options = {"what": "model", "revision": "v2", "instead": "a folder", "missing": "make it first"}
    with pytest.raises(kind, match=message) as caught, hub_errors(kind, "org/name", **options):
        raise make()
    assert hint in caught.value.hint and "hf_abc" not in str(caught.value)
    assert type(caught.value) is kind and caught.value.__cause__ is not None


def test_a_hub_out_of_reach_can_be_told_apart() -> None:
    for error in (hub.LocalEntryNotFoundError("x"), ConnectError("x")):
        with (
            pytest.raises(LostError, match="org/name cannot be written"),
            hub_errors(SharingError, "org/name", what="data set", doing="written", unreachable=LostError),
        ):
            raise error
    with (
        pytest.raises(SharingError) as caught,
        hub_errors(SharingError, "org/name", what="data set", unreachable=LostError),
    ):
        raise refused(hub.HfHubHTTPError, 500)
    assert not isinstance(caught.value, LostError)


def test_what_the_caller_raises_passes() -> None:
    mine = ModelError("the repository has no config.json")
    with pytest.raises(ModelError) as caught, hub_errors(ModelError, "org/name", what="model"):
        raise mine
    assert caught.value is mine
