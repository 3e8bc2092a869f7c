"""User options of a chat template: thinking on or off, values of its variables, the date."""

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
    """Options that a model's chat template is rendered with.

    Attributes:
        thinking: Whether the model thinks before its answer, if its template has a switch; None is off.
        arguments: Values of the template's variables, by name; they override what ``thinking`` sets.
        today: Date that the template writes, if it writes one; None for the day on which the format is made.
    """

    thinking: bool | None = None
    arguments: tuple[tuple[str, Value], ...] = ()
    today: date | None = None

    @property
    def record(self) -> dict[str, Any]:
        """Options that were set, as JSON values, without the date; empty for the defaults."""
        thinking = {} if self.thinking is None else {"thinking": "on" if self.thinking else "off"}
        return thinking | ({"arguments": dict(self.arguments)} if self.arguments else {})


def parse_argument(text: str) -> tuple[str, Value]:
    """Parse ``name=value``, whose value is true, false, a number, or else a string.

    Raises:
        UsageError: If the text is not of that form.
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
        template: Chat template.
        options: Options of the user.
        render: Function that renders a probe prompt with template values.
        model_name: Name of the model in errors.

    Raises:
        ChatError: If an option names a variable that the template does not have.
    """
    switches = tuple(sorted(name for name in _names(template) if _SWITCH.fullmatch(name)))
    on = options.thinking is True
    values: dict[str, Any] = dict.fromkeys(switches, on)
    if not on:
        # A budget of 0 that does not change the prompt does not switch thinking off.
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
    """Return a template's variables, or every word of its source if plain Jinja cannot parse it.

    The words are kept because stored digests depend on them. A name that is no variable has no effect.
    """
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template.source)
    except jinja2.TemplateSyntaxError:
        return frozenset(re.findall(r"\w+", template.source))
    return template.names
