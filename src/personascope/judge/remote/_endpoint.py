"""Where a chat-completions server is, and what tells it who asks: the secrets stay in here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import cast

import httpx

from personascope.errors import UsageError
from personascope.text import replace_surrogates

KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable of the key that is sent where no header names another."""

_SECRET_NAME = re.compile(
    r"(?:^|[-_.])(?:(?:api|access|auth|subscription|private)?[-_.]?key|token|secret|signature|sig|password|code)$",
    re.I,
)
_CREDENTIAL = re.compile(r"authorization|key|token|secret", re.I)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BEARER = re.compile(r"(bearer\s+)[^\s\"',;]+", re.I)
HIDDEN = "[hidden]"
"""What stands in a stored or printed text where a key was."""


def split_address(rest: str) -> tuple[str, str]:
    """Return the model and the base URL of ``MODEL@BASE_URL``; a model's name may hold an @ itself."""
    model, address = re.split("@(?=https?://)", rest, maxsplit=1)
    return model, address


def parse_header(text: str) -> tuple[str, str]:
    """Read ``NAME=VARIABLE``: a header, and the environment variable that holds its value.

    Raises:
        UsageError: If it is not of that form. What stands behind the = may be a key that somebody typed, so
            it is not shown.
    """
    name, _, variable = text.partition("=")
    if not _HEADER.fullmatch(name.strip()) or not _VARIABLE.fullmatch(variable.strip()):
        raise UsageError(
            f"the header {name.strip()!r} does not name an environment variable",
            hint="give NAME=VARIABLE, such as api-key=AZURE_API_KEY: a key itself would be stored",
        )
    return name.strip(), variable.strip()


class Endpoint:
    """A server's address with the headers of its calls.

    Attributes:
        name: Base URL as it is stored with results, without a closing slash.
        url: URL that is posted to: the base URL's path and ``/chat/completions``, its query kept.
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
            base_url: Address up to and including ``/v1``, or a deployment's, with ``?api-version=...``.
            who: "judge" or "auditor", for the errors.
            api_key: Key of the server; None for the environment's ``OPENAI_API_KEY``. Without either, or
                where a header is about a key, no ``Authorization`` is sent.
            headers: Name of a header -> environment variable that holds its value.

        Raises:
            UsageError: If the address is no HTTP address or has a secret in it, a variable is not set, or a
                header's value has characters that no header may have.
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
        # The longest first: one may be the beginning of another.
        words = {word for value in (key, *self._headers.values()) for word in value.split()}
        self._secrets = sorted(
            (word for word in words if len(word) >= 6 and word.lower() != "bearer"), key=len, reverse=True
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every call, secrets among them: never stored, never shown."""
        return self._headers

    def clean(self, text: str) -> str:
        """Return what a server or a library says of a failure as it may be stored, printed or raised.

        No key is left in it, no other bearer's either, and no lone surrogate: some servers repeat the headers
        that they got. Clean before a text is shortened: a part of a key is not recognised.
        """
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return replace_surrogates(_BEARER.sub(rf"\g<1>{HIDDEN}", text))

    def clean_text(self, text: str) -> str:
        """Return a text of a reply, which is labelled or becomes a message, without keys and surrogates.

        Its words stay as they are: "ring bearer of old" holds no token, and a key that is a plain word
        ("secret", for a server that wants none) is a word here.
        """
        for secret in self._secrets:
            if not secret.isalpha():
                text = text.replace(secret, HIDDEN)
        return replace_surrogates(text)

    def clean_json(self, value: object, depth: int = 0) -> object:
        """Return a decoded answer, its texts cleaned as a reply's; nesting beyond 50 levels is cut off."""
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
