"""Hold the address and credentials of a chat-completions server, and keep secrets out of other texts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import cast

import httpx

from personascope.errors import UsageError
from personascope.text import HIDDEN, hide_bearer, replace_surrogates

KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable of the API key, which is sent unless a header holds a key."""

_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:(?:api|access|auth|subscription|private)?[-_.]?key|token|secret|signature|sig|password|code)$",
    re.I,
)
_CREDENTIAL = re.compile(r"authorization|key|token|secret", re.I)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def split_address(rest: str) -> tuple[str, str]:
    """Return the model and the base URL of ``MODEL@BASE_URL``; a model's name may hold an @ itself."""
    model, address = re.split("@(?=https?://)", rest, maxsplit=1)
    return model, address


def parse_header(text: str) -> tuple[str, str]:
    """Parse ``NAME=VARIABLE``: a header, and the environment variable that holds its value.

    Raises:
        UsageError: If the text is not of that form. The message leaves out what follows the =, which may be a
            key.
    """
    name, _, variable = text.partition("=")
    if not _HEADER.fullmatch(name.strip()) or not _VARIABLE.fullmatch(variable.strip()):
        raise UsageError(
            f"the header {name.strip()!r} does not name an environment variable",
            hint="give NAME=VARIABLE, such as api-key=AZURE_API_KEY: a key itself would be stored",
        )
    return name.strip(), variable.strip()


class Endpoint:
    """Address of a server, with the headers of its calls.

    Attributes:
        name: Base URL as stored with results, without a closing slash.
        url: URL to post to: the base URL's path and ``/chat/completions``, with its query.
        host: Host of the address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        who: str = "judge",
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Check the address and read the environment.

        Args:
            base_url: Address up to and including ``/v1``, or that of a deployment with ``?api-version=...``.
            who: "judge" or "auditor", for errors.
            api_key: API key of the server; None for the environment's ``OPENAI_API_KEY``. ``Authorization``
                is not sent without a key, or if a header holds one.
            headers: Header name -> environment variable that holds its value.

        Raises:
            UsageError: If the address is not an HTTP address or holds a secret, a variable is not set, or a
                value has characters that a header cannot hold.
        """
        try:
            url = httpx.URL(base_url.strip().rstrip("/"))
        except httpx.InvalidURL as error:
            raise UsageError(f"the {who}'s base URL is no URL: {error}") from error
        secret = next((name for name in url.params if _SECRET_NAME.search(name)), None)
        if url.userinfo or secret is not None:
            raise UsageError(
                f"the {who}'s base URL for {url.host} has credentials in it"
                + (f": the parameter {secret}" if secret is not None else ""),
                hint=f"give the key in {KEY_VARIABLE}, or in a variable that --{who}-header names: the URL "
                "is stored with the results",
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(
                f"the {who}'s base URL {base_url!r} is no HTTP address", hint="give one like https://host/v1"
            )
        base, mark, query = str(url).partition("?")
        base = base.rstrip("/")
        self.name = f"{base}{mark}{query}"
        whole = base.endswith("/chat/completions")
        self.url = f"{base if whole else f'{base}/chat/completions'}{mark}{query}"
        self.host = url.host
        self._headers = {name: _value(name, variable, who) for name, variable in (headers or {}).items()}
        key = (api_key or os.environ.get(KEY_VARIABLE) or "").strip()
        if key and not any(_CREDENTIAL.search(name) for name in self._headers):
            _check_value(key, f"the {who}'s API key")
            self._headers["Authorization"] = f"Bearer {key}"
        # Longest first, because one secret may be the beginning of another.
        words = {word for value in (key, *self._headers.values()) for word in value.split()}
        self._secrets = sorted(
            (word for word in words if len(word) >= 6 and word.lower() != "bearer"), key=len, reverse=True
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every call, including secrets: never store or show them."""
        return self._headers

    def clean(self, text: str) -> str:
        """Return an error text of a server or a library that is safe to store, print or raise.

        API keys, other bearer tokens and lone surrogates are replaced, because some servers repeat the
        headers that they got. Clean a text before shortening it, because part of a key is not recognized.
        """
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return replace_surrogates(hide_bearer(text))

    def clean_text(self, text: str) -> str:
        """Return a text of a reply without keys and lone surrogates.

        Ordinary words stay: "ring bearer of old" holds no token, and a key that is a plain word ("secret",
        for a server that needs none) is not replaced.
        """
        for secret in self._secrets:
            if not secret.isalpha():
                text = text.replace(secret, HIDDEN)
        return replace_surrogates(text)

    def clean_json(self, value: object, depth: int = 0) -> object:
        """Return a decoded answer, its texts cleaned by `clean_text`; nesting beyond 50 levels is cut."""
        if isinstance(value, str):
            return self.clean_text(value)
        if isinstance(value, list):
            entries = cast("list[object]", value)
            return [self.clean_json(entry, depth + 1) for entry in entries] if depth < 50 else None
        if isinstance(value, dict):
            pairs = cast("dict[str, object]", value).items()
            return (
                {self.clean_text(key): self.clean_json(entry, depth + 1) for key, entry in pairs}
                if depth < 50
                else None
            )
        return value


def _value(name: str, variable: str, who: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(
            f"the {who}'s header {name} takes its value from an environment variable that is not set",
            hint=f"set it before the command, and name it as in --{who}-header {name}=VARIABLE",
        )
    _check_value(value, f"the value of the {who}'s header {name}")
    return value


def _check_value(value: str, what: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise UsageError(
            f"{what} has characters that a header cannot hold",
            hint="copy it again: a line break or a quotation mark of a text editor may have come along",
        )
