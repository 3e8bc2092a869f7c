"""The commands gathered, and what happens when one fails."""

from __future__ import annotations

import logging
import sys

import typer
from rich.logging import RichHandler
from rich.markup import escape

from personascope import __version__
from personascope.cli import (
    _calibrate,
    _corpus,
    _doctor,
    _drift,
    _evaluate,
    _evaluate_harm,
    _interop,
    _map,
    _monitor,
    _project,
    _serve,
    _show,
    _simulate,
    _steer,
)
from personascope.cli._console import err
from personascope.errors import PersonascopeError

app = typer.Typer(
    name="personascope",
    help="Map a language model's persona space, find its Assistant Axis, steer along it, cap it, prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_map.register(app)
_show.register(app)
_project.register(app)
_steer.register(app)
_simulate.register(app)
_monitor.register(app)
_drift.register(app)
_evaluate.register(app)
_evaluate_harm.register()
_calibrate.register(app)
_interop.register(app)
_serve.register(app)
_corpus.register(app)
_doctor.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"personascope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens underneath."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it."),
) -> None:
    del version
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False)],
        force=True,
    )


def main() -> None:
    """Run the command line; an expected failure prints its message and mend, without a traceback."""
    try:
        app()
    except PersonascopeError as error:
        err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True, highlight=False)
        if error.mend:
            err.print(f"  -> {escape(error.mend)}", soft_wrap=True, highlight=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("interrupted; what was committed is kept, the same command goes on from there")
        sys.exit(130)
