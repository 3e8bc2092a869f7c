"""What a user may say of a chat template: thinking on or off, values for its variables, the date."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import jinja2

from personascope.chat._template import ChatTemplate
from personascope.errors import ChatError, UsageError

Value = bool | int | float | str
Thinking = Literal["none", "off", "on", "always"]
"""Whether a model thinks before its answer: never, switched off, switched on, or without a switch."""

_SWITCH = re.compile(r"(enable_|use_)?(thinking|reasoning)")
_BUDGET = re.compile(r"(thinking|reasoning)_budget|max_(thinking|reasoning)_tokens")
_RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception"}
)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How a model's chat template is rendered.

    Attributes:
        thinking: Whether the model thinks before its answer, where its template has a switch; None is off.
        arguments: Values of the template's variables, by name; they come before what ``thinking`` sets.
        today: The date that the template writes, if it writes one; None is the day when the format is made.
    """

    thinking: bool | None = None
    arguments: tuple[tuple[str, Value], ...] = ()
    today: date | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What was asked for, as JSON values, without the date; empty for the defaults."""
        thinking = {} if self.thinking is None else {"thinking": "on" if self.thinking else "off"}
        return thinking | ({"arguments": dict(self.arguments)} if self.arguments else {})


def parse_argument(text: str) -> tuple[str, Value]:
    """Return the name and the value of ``name=value``: true, false, a number, or else a text.

    Raises:
        UsageError: If it is not of that form.
    """
    name, found, value = text.partition("=")
    if not found or not name.strip().isidentifier():
        raise UsageError(f"{text!r} is not name=value", hint="for example reasoning_effort=low")
    named: dict[str, Value] = {"true": True, "false": False}
    value = value.strip()
    if value.lower() in named:
        return name.strip(), named[value.lower()]
    for kind in (int, float):
        try:
            return name.strip(), kind(value)
        except ValueError:
            continue
    return name.strip(), value


def template_options(
    template: ChatTemplate, options: ChatOptions, render: Callable[[Mapping[str, Any]], str], model_name: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values that a template is rendered with, and the names of its switches for thinking.

    Args:
        template: The template.
        options: What the user said.
        render: Renders a prompt with values.
        model_name: Named in errors.

    Raises:
        ChatError: If the template has no such variable.
    """
    switches = tuple(sorted(name for name in _names(template) if _SWITCH.fullmatch(name)))
    on = options.thinking is True
    values: dict[str, Any] = dict.fromkeys(switches, on)
    if not on:
        # A budget that changes nothing is none.
        budgets = sorted(name for name in template.names if _BUDGET.fullmatch(name))
        plain = render(values) if budgets else ""
        budgets = [name for name in budgets if render({**values, name: 0}) != plain]
        values |= dict.fromkeys(budgets, 0)
        switches += tuple(budgets)
    else:
        switches += tuple(sorted(name for name in template.names if _BUDGET.fullmatch(name)))
    for name, value in options.arguments:
        if name not in template.names or name in _RESERVED:
            known = sorted(template.names - _RESERVED)
            near = difflib.get_close_matches(name, known, 1)
            raise ChatError(
                f"the chat template of {model_name} has no variable {name!r}",
                hint=(f"did you mean {near[0]!r}? " if near else "")
                + (f"it reads {', '.join(known)}" if known else "it reads none"),
            )
        values[name] = value
    return values, switches


def _names(template: ChatTemplate) -> frozenset[str]:
    """Return the variables of a template, and every word of one that Jinja alone cannot read.

    The words belong to digests that were stored; a name that is no variable is ignored when rendering.
    """
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template.source)
    except jinja2.TemplateSyntaxError:
        return frozenset(re.findall(r"\w+", template.source))
    return template.names
