"""What fails at the Hugging Face hub, as one error that says what to do: for models, releases and sharing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from personascope.errors import PersonascopeError
from personascope.text import hide_secrets, shorten

_LOGIN = "`hf auth login`"
_LOST = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError")
"""Names of the errors of a lost connection: versions of huggingface_hub take different HTTP libraries, whose
errors have no class in common."""


@contextmanager
def hub_errors(
    kind: type[PersonascopeError],
    name: str,
    *,
    what: str,
    doing: str = "fetched",
    revision: str | None = None,
    unreachable: type[PersonascopeError] | None = None,
    instead: str = "",
    missing: str = "",
) -> Generator[None]:
    """Convert what fails at the hub within the block to an error of the caller's room.

    Args:
        kind: Class of the error.
        name: Repository, ``owner/name``.
        what: What the repository is: "model" or "data set".
        doing: What is being done with it, such as "fetched" or "written".
        revision: Branch, tag or commit that is asked for; None for the usual one.
        unreachable: Class of the error if the hub cannot be reached; ``kind`` if not given.
        instead: What can be given in place of it offline, for the hint.
        missing: What else to do if there is no such repository or revision, for the hint.

    Raises:
        PersonascopeError: Of the given class, if anything fails. One that is raised in the block passes.
    """
    from huggingface_hub import errors as hub

    at = f"{name} at revision {revision!r}" if revision else name
    lost = unreachable or kind
    more = f"; {missing}" if missing else ""
    try:
        yield
    except PersonascopeError:
        raise
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled) as error:
        told = "is not in the local cache and" if doing == "fetched" else f"cannot be {doing}:"
        hint = "go online once, and unset HF_HUB_OFFLINE" + (f"; or give {instead}" if instead else "")
        raise lost(f"{at} {told} the hub cannot be reached", hint=hint) from error
    except hub.GatedRepoError as error:
        raise kind(
            f"{name} is gated, and you are not let in",
            hint=f"accept its terms on its page at huggingface.co, then {_LOGIN}",
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise kind(
            f"there is no {what} {name} on the hub, or it is private and you may not see it",
            hint=f"check the spelling, or {_LOGIN} for a private one{more}",
        ) from error
    except hub.RevisionNotFoundError as error:
        raise kind(
            f"{name} has no revision {revision!r}", hint=f"name a branch, a tag or a commit{more}"
        ) from error
    except hub.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            told, hint = f"the hub refuses it ({status})", f"{_LOGIN} with a token that may do so"
        else:
            told = f"the hub says {status}: {_brief(error)}"
            hint = "try again: it is busy, or what is there was changed meanwhile"
        raise kind(f"{at} cannot be {doing}: {told}", hint=hint) from error
    except Exception as error:
        told = f"{at} cannot be {doing}: {_brief(error)}"
        if type(error).__name__ in _LOST:
            raise lost(told, hint="check the connection, and try again") from error
        raise kind(told, hint="try again when online; nothing is left half-written") from error


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Shortened, it is quoted as Python does, without control characters.
    return shorten(hide_secrets(text), 200)
