"""The command line as a function from arguments to exit code.

A command's module is imported only when that command is run, completed, or asked for help. Until then a
command is a name and one sentence.
"""

from __future__ import annotations

import errno
import gc
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from personascope import __version__
from personascope.cli._json import ask_for_json, collecting, write
from personascope.errors import PersonascopeError, UsageError


class Entry(NamedTuple):
    """Table entry of a command whose module is not imported yet.

    Attributes:
        target: Module of this package and the function or Typer group in it, as "module:name".
        panel: Heading under which the help lists the command.
        help: First sentence of the command's help.
    """

    target: str
    panel: str
    help: str


_MAP, _ACT, _MEASURE, _WATCH, _FILES = (
    "Map a model", "Act on it", "Measure what that does", "Watch conversations", "Files and installation"
)  # fmt: skip

COMMANDS = {
    "map": Entry("_map:map_model", _MAP, "Role-play the corpus with a model and write its persona map."),
    "show": Entry("_show:show", _MAP, "Print a map: its verdict, its figures by layer, and its roles."),
    "report": Entry("_show:report", _MAP, "Write the map as one self-contained HTML page."),
    "compare": Entry("_compare:compare", _MAP, "Compare maps pair by pair, over the roles that they share."),
    "traits": Entry(
        "_traits:run_traits", _MAP, "Ask both poles of traits, and rank them by their cosine to the axis."
    ),
    "project": Entry("_project:project", _MAP, "Project every turn of conversations on the Assistant Axis."),
    "steer": Entry(
        "_steer:steer", _ACT, "Answer one question at several strengths along the Assistant Axis."
    ),
    "chat": Entry(
        "_chat:chat", _ACT, "Talk with a mapped model in the terminal, and see each token's place."
    ),
    "plan": Entry("_steer:plan_app", _ACT, "Make a plan, or say what one does."),
    "norms": Entry(
        "_steer:norms", _ACT, "Measure the unit of strengths: the mean norm of the residual stream."
    ),
    "calibrate": Entry(
        "_calibrate:calibrate_model",
        _ACT,
        "Sweep caps (or, with --steer, layers and strengths) and recommend one.",
    ),
    "serve": Entry("_serve:serve", _ACT, "Serve a model, with its page; every request may name a plan."),
    "evaluate": Entry("_evaluate:app", _MEASURE, "Measure what a plan does, with its controls."),
    "simulate": Entry("_simulate:simulate_talks", _WATCH, "Let an auditor talk with the model."),
    "replay": Entry("_simulate:replay_talks", _WATCH, "Say the same messages again under another plan."),
    "drift": Entry(
        "_drift:drift", _WATCH, "Analyse conversations: where each domain goes, and which messages do it."
    ),
    "monitor": Entry(
        "_monitor:monitor", _WATCH, "Calibrate a drift monitor on Assistant-like conversations."
    ),
    "import": Entry("_interop:import_", _FILES, "Read the authors' files, safely."),
    "export": Entry("_interop:export", _FILES, "Write a map or a plan in a form that other programs read."),
    "push": Entry("_share:push", _FILES, "Share a map, plan or monitor, with a card made from it."),
    "pull": Entry("_share:pull", _FILES, "Fetch a map, plan or monitor that was shared."),
    "corpus": Entry("_corpus:corpus_app", _FILES, "Check a corpus, or look at one."),
    "doctor": Entry(
        "_doctor:doctor",
        _FILES,
        "Check the installation, or with --model whether a model runs as it should; exit code 1 if not.",
    ),
}


_NO_TABLE = ("serve", "export", "report", "chat")
"""Commands that print no results, only where a file or a server is."""


class LazyGroup(TyperGroup):
    """A command group that imports a command only when it is resolved."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the table's order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a placeholder for the help: a command's name and sentence, without its options."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        return entry and TyperCommand(cmd_name, help=entry.help, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve the command that the arguments begin with, and import its module."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import a command of the table and return it as a Click command."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    found = getattr(importlib.import_module(f"personascope.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    _take_json(command)
    return command


def _take_json(command: Any) -> None:
    """Give a command, or each command of a group, the option ``--json``, unless it has its own."""
    for one in getattr(command, "commands", {}).values():
        _take_json(one)
    if hasattr(command, "commands") or command.name in _NO_TABLE:
        return
    if any("--json" in parameter.opts for parameter in command.params):
        return
    command.params.append(_json_option())


def _json_option() -> Any:
    """Return the option as Typer makes it, whichever version of Click is underneath."""

    def command(
        as_json: bool = typer.Option(
            False,
            "--json",
            callback=_asked,
            expose_value=False,
            help="Print the results as one JSON object.",
        ),
    ) -> None:
        del as_json

    single = typer.Typer(add_completion=False)
    single.command()(command)
    return next(one for one in typer.main.get_command(single).params if "--json" in one.opts)


def _asked(value: bool) -> None:
    if value:
        ask_for_json()


app = typer.Typer(
    cls=LazyGroup,
    name="personascope",
    help="Map a language model's persona space, find its Assistant Axis, steer along it, cap it, prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"personascope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens underneath."),
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    del version
    from rich.logging import RichHandler

    from personascope.cli._console import err

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False)],
        force=True,
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    A `PersonascopeError` is printed with its hint, without a traceback.

    Args:
        argv: Arguments after the program's name; those of the process if not given.

    Returns:
        0 if all is done, 1 if failed, 2 for wrong usage, 3 if partly done, 130 if interrupted.
    """
    from personascope.cli._console import recorded_command, this_command

    arguments = list(sys.argv[1:] if argv is None else argv)
    with recorded_command(arguments), collecting() as collected:
        code = _run(arguments)
        # An error is on stderr, and a command that printed nothing has no results.
        if collected.wanted and (collected.values or collected.tables or collected.lines):
            write(collected, this_command(), code)
    return code


def _run(arguments: list[str]) -> int:
    """Run a command, print its error if it has one, and return the exit code."""
    from personascope.cli._console import print_error

    try:
        app(arguments, prog_name="personascope")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except PersonascopeError as error:
        print_error(error)
        return error.exit_code
    except OSError as error:
        # An argument that is too long for a file name fails wherever it is first used as a path.
        if error.errno != errno.ENAMETOOLONG:
            raise
        named = UsageError(
            f"{str(error.filename)[:60]}... is too long for the name of a file",
            hint="give the path of a file",
        )
        print_error(named)
        return named.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    return 0


def _interrupted() -> int:
    from personascope.cli._console import err

    err.print("interrupted; what was committed is kept, the same command goes on from there")
    return 130


def main() -> None:
    """Run the command line as a program."""
    code = run()
    # Freeze the garbage collector: collecting at exit takes seconds, and the process frees its memory anyway.
    gc.freeze()
    sys.exit(code)
