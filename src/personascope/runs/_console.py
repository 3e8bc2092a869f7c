"""The console for all output: it shows control characters escaped, and never sends them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

from personascope.text import escape_controls


class SafeConsole(Console):
    r"""A Rich console that escapes control characters in printed text.

    Printed text may come from models, judges or servers. An escape sequence in it could move the cursor, set
    the title or change colours, so ``\x1b`` is written out. Text with malformed markup is printed verbatim.
    Rich's own styles, tables and bars work as usual.
    """

    def __init__(self, **options: Any) -> None:
        """Pass the options to Rich's console, with emoji codes off by default."""
        options.setdefault("emoji", False)
        super().__init__(**options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string with control characters escaped, so that its width is that of the shown text."""
        shown = escape_controls(text)
        try:
            return super().render_str(shown, **options)
        except MarkupError:
            options["markup"] = False
            return super().render_str(shown, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield segments, escaping text that bypassed ``render_str``, such as log messages."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(escape_controls(segment.text), segment.style)
