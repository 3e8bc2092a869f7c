"""What the tests of the page share: asking by keyboard, opening a file, and what would be saved."""

from __future__ import annotations

import json

from helpers.chromium import Page

DONE = "!document.querySelector('#send').hidden"


def ask(page: Page, text: str, tokens: int = 12) -> None:
    page.run(
        f"(() => {{ const f = document.querySelector('#tokens'); f.value = {tokens}; "
        "f.dispatchEvent(new Event('change')); })()"
    )
    page.type("#message", text)
    page.key("Enter", 13, "\r")
    page.wait("document.querySelector('#message').value === ''")
    page.wait(DONE)


def give(page: Page, name: str, text: str) -> None:
    """Open a file on the page, as the file dialog would."""
    page.run(
        "(() => { const t = new DataTransfer(); t.items.add(new File(["
        f"{json.dumps(text)}], {json.dumps(name)}));"
        " const f = document.querySelector('#file'); f.files = t.files;"
        " f.dispatchEvent(new Event('change')); })()"
    )


def state_of(page: Page) -> str:
    """Return all that the page would save, but for the time."""
    return page.run(
        "import('/page/files.js').then((f) => { const s = f.saved(); delete s.saved; "
        "return JSON.stringify(s); })"
    )
