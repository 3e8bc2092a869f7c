"""``personascope project``: where each turn of a conversation lies on the axis."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from personascope.chat import Conversation, Message
from personascope.cli._console import out
from personascope.cli._engine import open_engine
from personascope.engines import Capture
from personascope.errors import UsageError

ROLES = ("system", "user", "assistant")


class Form(StrEnum):
    """Forms of output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(project)


def project(
    map_folder: Path = typer.Argument(..., help="Run folder or map folder."),
    transcript: Path = typer.Argument(
        ...,
        help="JSON messages, or text with 'User:' and 'Assistant:' turns; - for standard input.",
    ),
    model: str = typer.Option(None, help="Model, if it lies elsewhere than when it was mapped."),
    layer: int = typer.Option(None, help="Layer; the map's middle layer if not given."),
    form: Form = typer.Option(Form.TABLE, "--format", help="Form of the output."),
    dtype: str = typer.Option("auto", help="auto, bfloat16, float32 or float16."),
) -> None:
    """Project every turn of a conversation on the Assistant Axis."""
    conversation = read_transcript(transcript)
    found, engine = open_engine(map_folder, model=model, dtype=dtype, layer=layer)
    at = found.middle_layer if layer is None else layer
    axis = found.unit_axis(at)
    rows: list[dict[str, Any]] = []
    for turn in engine.observe(conversation, capture=Capture((at,))):
        value = None if turn.pooled is None else float(turn.pooled[0] @ axis)
        rows.append(
            {
                "turn": turn.index,
                "role": turn.role,
                "tokens": turn.token_count,
                "projection": value,
                "position": None if value is None else float(found.to_units(value, at)),
                "text": conversation[turn.index].content,
            }
        )
    _write(rows, form, at)


def _write(rows: list[dict[str, Any]], form: Form, layer: int) -> None:
    if form is Form.JSON:
        json.dump({"layer": layer, "turns": rows}, sys.stdout, indent=1, ensure_ascii=False)
        sys.stdout.write("\n")
    elif form is Form.CSV:
        writer = csv.DictWriter(sys.stdout, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    else:
        table = Table(
            title=f"Projection at layer {layer}; position 0 is the mean role, 1 the default Assistant"
        )
        for name in ("turn", "role", "tokens", "projection", "position", "text"):
            table.add_column(name, justify="left" if name in ("role", "text") else "right")
        for row in rows:
            shown = ["-" if row[key] is None else f"{row[key]:+.3f}" for key in ("projection", "position")]
            text = row["text"].replace("\n", " ")
            table.add_row(
                str(row["turn"]), row["role"], str(row["tokens"]), *shown, text[:60].replace("[", "\\[")
            )
        out.print(table)


def read_transcript(path: Path) -> Conversation:
    """Read a conversation from JSON or from text with ``User:`` and ``Assistant:`` turns.

    Raises:
        UsageError: If the file cannot be read or holds no conversation.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", mend="name a JSON or text file, or -") from error
    try:
        data = json.loads(text)
    except ValueError:
        return _from_text(text, path)
    if isinstance(data, dict):
        data = data.get("conversation", data.get("messages"))
    if not isinstance(data, list) or not data:
        raise UsageError(
            f"{path} holds no list of messages", mend='give [{"role": "user", "content": "..."}, ...]'
        )
    for number, item in enumerate(data):
        if (
            not isinstance(item, dict)
            or item.get("role") not in ROLES
            or not isinstance(item.get("content"), str)
        ):
            raise UsageError(
                f"{path}: message {number} is {str(item)[:80]!r}",
                mend=f"a message has a role ({', '.join(ROLES)}) and a text as content",
            )
    return tuple(Message(item["role"], item["content"]) for item in data)


def _from_text(text: str, path: Path) -> Conversation:
    turns: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        if colon and head.strip().lower() in ROLES:
            turns.append((head.strip().lower(), [rest.strip()]))
        elif turns:
            turns[-1][1].append(line)
        elif line.strip():
            raise UsageError(
                f"{path} begins with {line[:60]!r}",
                mend="begin every turn with 'User:', 'Assistant:' or 'System:', or give JSON",
            )
    if not turns:
        raise UsageError(f"{path} is empty", mend="give at least one turn")
    return tuple(Message(role, "\n".join(lines).strip()) for role, lines in turns)  # pyright: ignore[reportArgumentType]
