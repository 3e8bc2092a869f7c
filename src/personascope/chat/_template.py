"""A chat template as a function from messages to text, with limits on its time and output.

A template is untrusted code that comes with a model. It runs in Jinja's sandbox, in the environment that
Transformers gives it (white-space rules, ``tojson``, ``raise_exception``, ``strftime_now``, loop controls
and generation tags). Every loop iteration, macro call and text that it makes is counted, so that a template
that writes or runs without end stops with an error. The date that it writes is given by the caller.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from personascope.errors import ChatError

SOURCE_LIMIT = 1 << 20
"""Maximum length of a template, in characters."""

LENGTH_LIMIT = 1 << 25
"""Maximum number of characters that a rendering may make, plus `PER_CHARACTER` for each of the messages'."""

PER_CHARACTER = 64
"""Additional characters allowed per character of the messages, which templates search, split and join."""

STEP_LIMIT = 400_000
"""Maximum number of loop iterations, macro calls, function calls and filter calls."""

SECONDS_LIMIT = 10.0
"""Maximum duration of one rendering, in seconds."""

_WIDE = 10_000
_WIDE_NUMBER = re.compile(r"\d{5,}|\*")
# Names of operations whose result may be longer than their input.
_EXPANDING = frozenset(
    {"batch", "center", "expandtabs", "format", "format_map", "indent", "join", "ljust", "replace"}
    | {"rjust", "slice", "tojson", "translate", "wordwrap", "zfill"}
)
_MAX_BITS = 1 << 12


class TemplateLimitError(jinja2.TemplateError):
    """Error of a template that exceeds a limit."""


@dataclass(slots=True)
class _Budget:
    length: int
    steps: int = STEP_LIMIT
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS_LIMIT)

    def step(self, written: int = 0) -> None:
        self.steps -= 1
        self.spend(written)
        if self.steps < 0:
            raise TemplateLimitError(f"it takes more than {STEP_LIMIT:,} steps")
        if not self.steps % 64 and time.monotonic() > self.deadline:
            raise TemplateLimitError(f"it takes more than {SECONDS_LIMIT:g} seconds")

    def spend(self, length: int) -> None:
        self.length -= length
        if self.length < 0:
            raise TemplateLimitError("it writes far more text than the messages hold")


_BUDGET: ContextVar[_Budget] = ContextVar("budget of a rendering")


class ChatTemplate:
    """Compiled template of a tokenizer, as a function from messages and options to text.

    Attributes:
        source: Source of the template.
        names: Names of the variables that the template reads from outside.
        writes_date: Whether the template uses today's date.
        today: Date that the template gets.
    """

    def __init__(self, source: str, constants: Mapping[str, Any], *, today: date, name: str) -> None:
        """Compile a template.

        Args:
            source: Source of the template.
            constants: Variables of every rendering: the special tokens.
            today: Date that the template gets.
            name: Name of the model in errors.

        Raises:
            ChatError: If the source is no valid template, or exceeds a limit.
        """
        self.source = source
        self.today = today
        self._constants = dict(constants)
        self._name = name
        if len(source) > SOURCE_LIMIT:
            raise ChatError(
                f"the chat template of {name} has {len(source):,} characters",
                hint=f"a template of up to {SOURCE_LIMIT:,} is read; check the tokenizer's files",
            )
        self._environment = _environment(today)
        with self._guarded("refuses every conversation", _Budget(LENGTH_LIMIT)):
            tree = self._environment.parse(source)
            self.names = frozenset(jinja2.meta.find_undeclared_variables(tree))
            self.writes_date = any(node.name == "strftime_now" for node in tree.find_all(nodes.Name))
            self._compiled = self._environment.from_string(_counted(tree))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Any] | None = None,
    ) -> str:
        """Render messages to text.

        Raises:
            ChatError: If the template refuses them, or exceeds a limit.
        """
        size = sum(len(value) for message in messages for value in message.values() if isinstance(value, str))
        roles = ", ".join(str(message["role"]) for message in messages)
        values = {**self._constants, **options}
        with self._guarded(
            f"refuses a conversation of {roles}", _Budget(LENGTH_LIMIT + PER_CHARACTER * size)
        ):
            return self._compiled.render(
                messages=[dict(message) for message in messages],
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **values,
            )

    @contextmanager
    def _guarded(self, what: str, budget: _Budget) -> Generator[None]:
        token = _BUDGET.set(budget)
        try:
            yield
        except TemplateLimitError as error:
            raise ChatError(
                f"the chat template of {self._name} was stopped: {error}",
                hint="do not trust this model's files; pass token ids, or set a template of your own",
            ) from error
        except (RecursionError, MemoryError) as error:
            raise ChatError(
                f"the chat template of {self._name} was stopped: it calls itself without end or fills the "
                f"memory ({type(error).__name__})",
                hint="do not trust this model's files; pass token ids, or set a template of your own",
            ) from error
        except Exception as error:  # a template is code, and may fail as any code does
            raise ChatError(
                f"the chat template of {self._name} {what}: {error}"[:500],
                hint="let user and assistant messages alternate, starting with the user",
            ) from error
        finally:
            _BUDGET.reset(token)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which charges every operation that makes text to the budget."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for sized, count in ((left, right), (right, left)):
                if isinstance(sized, str | list | tuple) and isinstance(count, int):
                    _BUDGET.get().spend(len(sized) * max(0, count))
        elif operator == "%" and isinstance(left, str) and _WIDE_NUMBER.search(left):
            raise TemplateLimitError("it formats a text of great width")
        elif operator == "**" and isinstance(left, int) and left.bit_length() * max(0, right) > _MAX_BITS:
            raise TemplateLimitError("it computes a number of great length")
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise TemplateLimitError("it computes a number of great length")
        return _spent(value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        # Parameters are named as in Jinja: a template may pass any keyword, also "self" and "context".
        _BUDGET.get().step()
        name = getattr(__obj, "__name__", "")
        if name in _EXPANDING:
            # The sandbox replaces str.format by a function of its own.
            owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", "")
            _before(name, owner, (*args, *kwargs.values()))
        return _spent(super().call(__context, __obj, *args, **kwargs))

    def joined(self, *parts: Any) -> str:
        """Concatenate texts, as ``~`` does."""
        return "".join(map(str, parts))

    def count(self, written: int) -> str:
        """Count a loop iteration or macro call that writes ``written`` characters of the template."""
        _BUDGET.get().step(written)
        return ""


def _spent(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _BUDGET.get().spend(len(value))
    return value


def _before(name: str, owner: Any, arguments: Sequence[Any]) -> None:
    """Charge what an expanding operation may make to the budget, before it runs."""
    budget = _BUDGET.get()
    numbers = [abs(value) for value in arguments if isinstance(value, int)]
    texts = [len(value) for value in arguments if isinstance(value, str)]
    if any(number > _WIDE for number in numbers):
        raise TemplateLimitError("it pads a text to a great width")
    if name in ("format", "format_map") and _WIDE_NUMBER.search(str(owner)):
        raise TemplateLimitError("it formats a text of great width")
    if name == "translate":
        raise TemplateLimitError("it replaces characters by a table, which no chat template needs")
    if name == "join":
        # The separator is the owner of str.join, but an argument of the filter.
        parts = list(arguments[0]) if isinstance(owner, str) and arguments else owner
        separator = len(owner) if isinstance(owner, str) else max(texts, default=0)
        if isinstance(parts, list | tuple | str):
            sizes = sum(len(part) if isinstance(part, str) else 16 for part in parts)
            budget.spend(sizes + len(parts) * separator)
    elif name == "replace" and isinstance(owner, str) and len(arguments) > 1:
        budget.spend(len(owner) + owner.count(str(arguments[0])) * len(str(arguments[1])))
    elif isinstance(owner, str):
        budget.spend(len(owner) + (owner.count("\n") + owner.count("\t") + 1) * max(numbers, default=0))
    elif isinstance(owner, list | tuple):
        budget.spend(len(owner) + max(numbers, default=0))


def _filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that charges its result to the budget."""
    # Some filters are given the context, or the environment, before the value.
    skip = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _BUDGET.get().step()
        if name in _EXPANDING and len(args) > skip:
            value, *rest = args[skip:]
            if name == "join" and not isinstance(value, str | list | tuple):
                value = list(value)
                args = (*args[:skip], value, *rest)
            _before(name, value, (*rest, *kwargs.values()))
        return _spent(function(*args, **kwargs))

    return counted


class _Generation(jinja2.ext.Extension):
    """Tags ``{% generation %} ... {% endgeneration %}`` of training text, which have no effect here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _environment(today: date) -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.filters = {name: _filter(name, made) for name, made in environment.filters.items()}
    names: dict[str, Any] = environment.globals
    del names["lipsum"]
    names["raise_exception"] = _raise
    names["strftime_now"] = today.strftime
    environment.finalize = _spent
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _counted(tree: nodes.Template) -> nodes.Template:
    """Return a template's tree in which loop iterations and macro calls are counted, and ``~`` is a call."""
    for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock))):
        written = sum(len(data.data) for part in node.body for data in _data(part))
        call = nodes.Call(
            nodes.EnvironmentAttribute("count"), [nodes.Const(written)], [], None, None, lineno=node.lineno
        )
        node.body.insert(0, nodes.ExprStmt(call, lineno=node.lineno))
    return _Joiner().visit(tree)


def _data(node: nodes.Node) -> Iterator[nodes.TemplateData]:
    if isinstance(node, nodes.TemplateData):
        yield node
    yield from node.find_all(nodes.TemplateData)


class _Joiner(NodeTransformer):
    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Call(
            nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None, lineno=node.lineno
        )
