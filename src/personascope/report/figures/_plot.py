"""Figures as values: shown by a notebook, and saved as SVG, PDF, PNG or HTML with their provenance inside."""

from __future__ import annotations

import html
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from personascope.errors import UsageError
from personascope.report.figures._style import PROVENANCE, SUFFIXES
from personascope.store import write_bytes
from personascope.text import replace_surrogates, shorten

PAGE = ".html"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plot:
    """A figure that is drawn when it is shown or saved; no display is needed.

    Attributes:
        title: Title of the figure.
        draw: Function that writes the figure to a path, as PNG, SVG or PDF by its suffix.
        provenance: What the figure was made from, such as the model, the map and the layer.
        page: Function that writes the figure as an interactive HTML page; None for a page with the SVG in it.
    """

    title: str
    draw: Callable[[Path], object]
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    page: Callable[[Path], object] | None = None

    def save(self, path: Path | str) -> Path:
        """Write the figure as SVG, PDF, PNG or HTML by the suffix; return the path.

        The provenance is written into the file: as the description (SVG, PNG), the subject (PDF), or below
        the figure (HTML).

        Raises:
            UsageError: If the suffix is none of these.
            StoreError: If the file cannot be written.
        """
        path = Path(path)
        kind = path.suffix.lower()
        if kind not in (*SUFFIXES, PAGE):
            raise UsageError(
                f"a figure cannot be written as {path.name!r}",
                hint=f"end the name in {', '.join((*SUFFIXES, PAGE))}",
            )
        if kind == PAGE and self.page is not None:
            self.page(path)
        elif kind == PAGE:
            write_bytes(path, self._page().encode())
        else:
            self._draw(path)
        return path

    def _draw(self, path: Path) -> None:
        said = json.dumps(dict(self.provenance), ensure_ascii=True) if self.provenance else ""
        token = PROVENANCE.set(said)
        try:
            self.draw(path)
        finally:
            PROVENANCE.reset(token)

    def _bytes(self, suffix: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"figure{suffix}"
            self._draw(path)
            return path.read_bytes()

    def _page(self) -> str:
        svg = self._bytes(".svg").decode()
        lines = "\n".join(f"{name}: {value}" for name, value in self.provenance.items())
        title, about = (html.escape(replace_surrogates(text)) for text in (self.title, lines))
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
            f"<body>{svg[svg.index('<svg') :]}\n<pre>{about}</pre></body></html>\n"
        )

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG, for a notebook."""
        return self._bytes(".png")

    def __repr__(self) -> str:
        """Return the title, and how to save the figure."""
        return f"Plot({shorten(self.title, 100)}; .save('figure.svg'), .pdf, .png or .html)"
