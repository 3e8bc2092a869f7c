"""The command reference, read from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from tools.docsite._page import FENCE, Page, cell, plain_words

from personascope.cli._app import COMMANDS, load_command

WORDS = {
    "int": "integer",
    "float": "number",
    "str": "text",
    "Path": "path",
    "directory": "path",
}
"""Words for the types of options."""

EXIT_CODES = """## Exit codes

| code | meaning |
|---|---|
| 0 | all is done |
| 1 | it failed; the message says why, and a hint what to do |
| 2 | wrong usage: an argument, or something that does not fit together |
| 3 | partly done: some responses have no score yet. The same command goes on |
| 130 | interrupted. What was committed is kept; the same command goes on |
"""


def command_pages(written: Sequence[Page]) -> list[Page]:
    """Return a page for each command, and one that lists them.

    Args:
        written: Pages of docs, from whose command lines the examples are taken.
    """
    examples = _examples(written)
    pages = [_command_page(name, load_command(name), examples) for name in COMMANDS]
    lines = [
        "# Commands",
        "",
        "Every command has `--help`, which says the same as its page. The pages are made from the program.",
        "",
    ]
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
        lines += [f"## {panel}", "", "| command | what it does |", "|---|---|"]
        lines += [
            f"| [`{name}`]({name}.md) | {cell(entry.help)} |"
            for name, entry in COMMANDS.items()
            if entry.panel == panel
        ]
        lines.append("")
    return [Page("commands/index.md", "\n".join([*lines, EXIT_CODES])), *pages]


def _examples(written: Sequence[Page]) -> dict[str, list[tuple[str, Page]]]:
    found: dict[str, list[tuple[str, Page]]] = {}
    for page in written:
        if not page.source.startswith("docs/"):
            continue
        blocks = [fence.group() for fence in FENCE.finditer(page.text)]
        blocks += re.findall(r"^    personascope .+$", page.text, flags=re.M)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            line = " ".join(re.split(r"\s+#\s", line.strip())[0].split())
            if line.startswith("personascope ") and len(line.split()) > 2:
                found.setdefault(line.split()[1], []).append((line, page))
    return found


def _command_page(name: str, command: Any, examples: dict[str, list[tuple[str, Page]]]) -> Page:
    lines = [f"# personascope {name}", ""]
    for title, one in _tree(name, command):
        if title != name:
            lines += [f"## personascope {title}", ""]
        lines += [*_prose(one.help or COMMANDS[name].help), "", *_usage(title, one)]
    taken = list(dict.fromkeys(line for line, _ in examples.get(name, ())))
    if taken:
        lines += ["## Examples", "", "```", *taken[:8], "```", ""]
        pages = {page.path: page.title for _, page in examples[name]}
        lines += ["From " + ", ".join(f"[{title}](../{path})" for path, title in pages.items()) + ".", ""]
    return Page(f"commands/{name}.md", "\n".join(lines))


def _tree(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub, one in getattr(command, "commands", {}).items():
        yield from _tree(f"{name} {sub}", one)


def _prose(text: str) -> list[str]:
    # Click marks paragraphs that it must not wrap with \b.
    parts = re.split(r"\n\s*\n", text.replace("\b", "").strip())
    return [line for part in parts for line in (plain_words(" ".join(part.split())), "")]


def _usage(title: str, command: Any) -> list[str]:
    if getattr(command, "commands", None):
        return ["```", f"personascope {title} COMMAND ...", "```", ""]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    named = [_metavar(one) if one.required else f"[{_metavar(one)}]" for one in arguments]
    lines = [
        "```",
        " ".join(["personascope", title, *named, "[OPTIONS]" if options else ""]).strip(),
        "```",
        "",
    ]
    if arguments:
        lines += ["| argument | what it is |", "|---|---|"]
        lines += [f"| `{_metavar(one)}` | {_help(one)} |" for one in arguments]
        lines.append("")
    if options:
        lines += ["| option | value | default | what for |", "|---|---|---|---|"]
        lines += [_option(one) for one in options if "--help" not in one.opts]
        lines.append("")
    return lines


def _metavar(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name or "").upper()
    return f"{name} ..." if parameter.nargs == -1 else name


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return f"| {names} | {cell(_kind(option))} | {cell(_default(option))} | {_help(option)} |"


def _help(parameter: Any) -> str:
    return cell(plain_words(getattr(parameter, "help", "") or ""))


def _kind(option: Any) -> str:
    if option.is_flag or option.is_bool_flag:
        return ""
    names, low, high = _type(option)
    if high is not None and high > 10**9:
        high = None
    if low is not None and high is not None:
        return f"{names}, {low:g} to {high:g}"
    if low is not None or high is not None:
        return f"{names}, at least {low:g}" if low is not None else f"{names}, at most {high:g}"
    return f"{names}, may be repeated" if option.multiple else names


def _type(option: Any) -> tuple[str, float | None, float | None]:
    """Return an option's kind in words, and its range.

    Newer Typers keep the annotation beside the option, older ones a type of Click.
    """
    kind = getattr(option, "type_descriptor", None)
    if kind is None:
        kind = option.type
        if hasattr(kind, "choices"):
            return " or ".join(f"`{one}`" for one in kind.choices), None, None
        name = kind.name.removesuffix(" range")
        return WORDS.get(name, name), getattr(kind, "min", None), getattr(kind, "max", None)
    found = kind.annotation
    if get_origin(found) is Literal:
        return " or ".join(f"`{one}`" for one in get_args(found)), None, None
    inner = get_args(found)[0] if get_origin(found) is list else found
    name = getattr(inner, "__name__", str(inner))
    return WORDS.get(name, name), option.min, option.max


def _default(option: Any) -> str:
    value = option.default
    if callable(value) or value is None or value in ("", (), []):
        return "required" if option.required else ""
    if option.is_flag or option.is_bool_flag:
        return ("on" if value else "") if option.secondary_opts else ""
    if isinstance(value, list | tuple):
        return "`" + " ".join(map(str, value)) + "`"
    return "" if str(value).startswith("Sentinel") else f"`{value}`"
