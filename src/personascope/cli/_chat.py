"""``personascope chat``: talk with a mapped model, or with one that a server serves; tokens are coloured."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from personascope import api
from personascope.cli._console import out, say, say_next
from personascope.cli._options import ANYWAY, DTYPE, MODEL, SEED, DtypeName, finite
from personascope.cli._run import open_run
from personascope.errors import PersonascopeError, UsageError

if TYPE_CHECKING:
    from personascope.api import ServerTalk, Talk

HELP = (
    "/steer STRENGTH, /cap PERCENTILE [LAYERS], /plain: how the next replies are made; "
    "/plan NAME: a plan of the server; /save FILE; /quit. "
    "Blue is the Assistant's end of the axis, orange the other."
)
_ROLE, _MIDDLE, _ASSISTANT = (224, 108, 60), (150, 150, 150), (70, 150, 220)


def chat(
    run: str = typer.Argument(
        ..., help="Run folder of the model's map, hub:owner/name, or address of a server."
    ),
    system: str = typer.Option("", help="System prompt."),
    plan: str | None = typer.Option(
        None, help="Plan of the first replies: its folder; of a server its name, or none."
    ),
    max_new_tokens: int = typer.Option(256, min=1, help="Length of a reply at most."),
    temperature: float = typer.Option(0.7, callback=finite, min=0.0, help="0 takes the most likely token."),
    model: str | None = MODEL,
    dtype: DtypeName = DTYPE,
    seed: int = SEED,
    api_key: str | None = typer.Option(None, help="Key of the server; VLLM_API_KEY does the same."),
    anyway: bool = ANYWAY,
) -> None:
    """Talk with a mapped model in the terminal, and see each token's place on the Assistant Axis.

    Lines that begin with a slash are commands: /steer, /cap, /plain, /save, /help, /quit.
    """
    talk: Talk | ServerTalk
    said: dict[str, Any] = {
        "system": system,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    if api.is_server(run):
        given = {"--model": model is not None, "--dtype": dtype != "auto", "--anyway": anyway}
        for name in (name for name, used in given.items() if used):
            raise UsageError(f"{name} is not for a server", hint="the server says what it serves")
        talk = api.ServerTalk(run, plan=plan, api_key=api_key or os.environ.get("VLLM_API_KEY"), **said)
        say(f"{talk.model}, plan: {talk.explain()}" + ("" if talk.has_map else "; it tells no positions"))
    else:
        if api_key is not None:
            raise UsageError("--api-key is for a server", hint="give its address in place of the run")
        acting = None if plan is None else api.open_plan(Path(plan))
        opened = open_run(Path(run), model=model, dtype=dtype)
        talk = api.Talk(opened, plan=acting, anyway=anyway, **said)
    say(HELP)
    saved: Path | None = None
    while True:
        try:
            line = input("you> ").strip()
        except EOFError:
            break
        if not line:
            continue
        try:
            if not line.startswith("/"):
                _reply(talk, line)
            elif (done := _obey(talk, line)) is False:
                break
            elif done is not None:
                saved = done
        except PersonascopeError as error:
            # A reply or a command that fails leaves the conversation as it was.
            say(f"{error.message}" + (f" -> {error.hint}" if error.hint else ""))
    if saved is not None and not api.is_server(run):
        say_next(("project", run, saved))


def _reply(talk: Talk | ServerTalk, text: str) -> None:
    from rich.text import Text

    for piece in talk.say(text):
        style = "dim italic" if piece.part == "thinking" else _style(piece.position)
        out.print(Text(piece.text, style=style), end="", soft_wrap=True)
    out.print()
    position = talk.positions[-1]
    capped = "" if talk.capped is None else f"caps fired on {talk.capped:.0%} of the tokens"
    nowhere = "the reply is empty" if getattr(talk, "has_map", True) else ""
    where = nowhere if math.isnan(position) else f"position {position:+.2f}"
    if where or capped:
        say(", ".join(filter(None, (where, capped))))


def _style(position: float | None) -> str:
    if position is None or math.isnan(position):
        return ""
    share = max(-1.0, min(1.0, 2 * position - 1))
    end = _ASSISTANT if share > 0 else _ROLE
    red, green, blue = (round(a + (b - a) * abs(share)) for a, b in zip(_MIDDLE, end, strict=True))
    return f"rgb({red},{green},{blue})"


def _obey(talk: Talk | ServerTalk, line: str) -> Path | Literal[False] | None:
    """Carry out a command; return False to end, and the file of a conversation that was saved."""
    try:
        name, *words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line!r}: {error}", hint="close the quotation mark") from error
    if name in ("/quit", "/exit"):
        return False
    if name == "/plain" and not words:
        talk.plain()
    elif name == "/steer" and len(words) == 1:
        talk.steer(_number(words[0]))
    elif name == "/cap" and len(words) in (1, 2):
        talk.cap(_number(words[0]), *words[1:])
    elif name == "/plan" and len(words) == 1:
        if not isinstance(talk, api.ServerTalk):
            raise UsageError("/plan is for a server", hint="give a folder by --plan, or /steer, /cap")
        talk.use(words[0])
    elif name == "/save" and len(words) == 1:
        path = talk.save(Path(words[0]))
        say(f"saved as {path}")
        return path
    elif name == "/help":
        say(HELP)
        return None
    else:
        raise UsageError(f"{line!r} is no command", hint=HELP)
    say(talk.explain())
    return None


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{word!r} is not a finite number", hint="such as /steer -0.2 or /cap 75")
    return value
