"""Keep credentials out of texts that are stored, printed or shared."""

from __future__ import annotations

import re
from collections.abc import Collection

HIDDEN = "[hidden]"
"""Replacement for a credential."""

_BEARER = re.compile(r"(bearer\s+)[^\s\"',;]+", re.I)
_TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{20,})"
)
_IN_URL = re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)")


def hide_bearer(text: str) -> str:
    """Replace the tokens of Authorization headers ("Bearer ...")."""
    return _BEARER.sub(rf"\g<1>{HIDDEN}", text)


def hide_secrets(text: str, secrets: Collection[str] = ()) -> str:
    """Replace credentials: those given, bearer tokens, tokens of known services, and passwords in URLs.

    Args:
        text: Text that is to be printed or shared.
        secrets: Credentials that are known.
    """
    return hide_bearer(_hide(text, secrets))


def finds_secret(text: str, secrets: Collection[str] = ()) -> bool:
    """Return whether a text holds a credential that can be told for certain.

    "Bearer" before a word is none: it may be an ordinary sentence.
    """
    return _hide(text, secrets) != text


def _hide(text: str, secrets: Collection[str]) -> str:
    # Longest first, because one secret may be the beginning of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _IN_URL.sub(HIDDEN, _TOKENS.sub(HIDDEN, text))
