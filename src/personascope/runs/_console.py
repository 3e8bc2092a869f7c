"""The console that everything printed goes through: it shows control characters and never sends them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.errors import MarkupError
from rich.segment import Segment
from rich.text import Text

from personascope.text import escape_controls


class SafeConsole(Console):
    r"""A Rich console on which names, responses, judges' reasons and servers' words cannot act.

    Whatever is printed may hold a text that somebody else wrote. An escape sequence in it would move the
    cursor, set the title or colour what follows; here ``\x1b`` is written out. A text that is no well-formed
    markup is printed as it stands. Styles, tables and bars are Rich's own and work as ever.
    """

    def __init__(self, **options: Any) -> None:
        """Take the options of Rich's console; ``:name:`` is not made an emoji unless asked."""
        options.setdefault("emoji", False)
        super().__init__(**options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text without control characters, so that widths are those of what is shown."""
        shown = escape_controls(text)
        try:
            return super().render_str(shown, **options)
        except MarkupError:
            options["markup"] = False
            return super().render_str(shown, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield segments; those of text that came another way, such as log messages, are escaped here."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(escape_controls(segment.text), segment.style)
