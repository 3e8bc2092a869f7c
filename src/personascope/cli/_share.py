"""``personascope push`` and ``personascope pull``: things to share, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import out, say
from personascope.cli._options import finite

if TYPE_CHECKING:
    from personascope.api import Pulled

_GB = 2**30


def push(
    thing: Path = typer.Argument(
        ..., help="Run, map or plan folder, file of a monitor, or folder of an imported release."
    ),
    to: str = typer.Argument(..., help="hub:owner/name, a new .zip, .tar or .tar.gz, or a new folder."),
    revision: str | None = typer.Option(None, help="Branch on the hub; the main one if not given."),
    private: bool = typer.Option(False, "--private", help="Make the data set private; refuse a public one."),
    create: bool = typer.Option(
        False, "--create", help="Make the data set, or its branch, if it is missing."
    ),
    with_texts: bool = typer.Option(
        False, "--with-texts", help="Share the model's responses too, and what percentiles are read from."
    ),
    licence: str | None = typer.Option(
        None,
        "--licence",
        "--license",
        help="Licence of the model; read from its card on the hub if not given.",
    ),
) -> None:
    """Share a map, plan or monitor, with a card made from it; on the hub, as a file, or as a folder."""
    done = api.push(
        thing,
        to,
        revision=revision,
        private=private,
        create=create,
        with_texts=with_texts,
        licence=licence,
        tell=say,
    )
    size = sum(done.files.values())
    _line(f"shared a {done.kind}: {len(done.files)} files, {size:,} bytes, contents {done.digest[:16]}")
    _line(f"licence of the model: {done.licence or 'not known (--licence)'}")
    _line(done.place if not done.url else f"{done.place}\n{done.url}")
    _line(f"next: personascope pull {done.place} --out FOLDER")


def pull(
    source: str = typer.Argument(
        ..., help="hub:owner/name[:folder][@revision], an archive, or a shared folder."
    ),
    out_folder: Path | None = typer.Option(None, "--out", help="New folder; runs/NAME if not given."),
    revision: str | None = typer.Option(None, help="Branch, tag or commit on the hub."),
    max_gb: float = typer.Option(
        8.0, min=0.0, callback=finite, help="Fetch at most this much; more is refused before it is fetched."
    ),
) -> None:
    """Fetch a map, plan or monitor that was shared, and check every file; it is written into a new folder."""
    found = api.pull(source, out_folder, revision=revision, max_bytes=int(max_gb * _GB), tell=say)
    whose = f" of {found.model}" if found.model else ""
    _line(f"a {found.kind}{whose}, licence of the model: {found.licence or 'not known'}")
    if found.digest:
        _line(f"contents {found.digest[:16]}, every file as its SHA-256 says")
    _line(f"{found.folder}" + (f" from commit {found.commit}" if found.commit else ""))
    _line(f"next: {_next(found)}")


def _next(found: Pulled) -> str:
    return {
        "run": f"personascope show {found.folder}",
        "release": f"personascope show {found.folder}",
        "plan": f"personascope plan explain {found.folder}",
        "monitor": f"personascope simulate RUN --monitor {found.folder}",
    }[found.kind]


def _line(text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)
