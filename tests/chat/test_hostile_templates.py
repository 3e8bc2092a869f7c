"""Templates that take more than they may: stopped with an error, in bounded time and memory."""

import resource
import time

import pytest

from personascope.chat import ChatFormat, Message
from personascope.errors import ChatError
from tiny import tiny_tokenizer

_DOUBLED = "{% set ns = namespace(x='x') %}{% for i in range(60) %}BODY{% endfor %}{{ ns.x }}"
HOSTILE = [
    '{{ "x" * 2000000000 }}',
    "{% set x = [1] * 2000000000 %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(200) }}",
    _DOUBLED.replace("BODY", "{% set ns.x = ns.x ~ ns.x %}"),
    _DOUBLED.replace("BODY", "{% set ns.x = ns.x + ns.x %}"),
    _DOUBLED.replace("BODY", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}" + "a" * 99 + "{% endfor %}{% endfor %}",
    "{% filter upper %}{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}"
    "{% endfilter %}",
    '{{ "%2000000000d" % 1 }}',
    '{{ "%2000000000d" | format(1) }}',
    '{{ "{:2000000000}".format(1) }}',
    '{{ "{:{}}".format(1, 2000000000) }}',
    '{{ "x".center(2000000000) }}',
    '{{ "x" | center(2000000000) }}',
    '{{ ("a" * 100000).replace("", "b" * 100000) }}',
    '{{ ("a" * 100000) | replace("a", "b" * 100000) }}',
    '{{ ("b" * 100000).join("a" * 100000) }}',
    '{{ range(100000) | map("string") | join("x" * 100000) }}',
    '{{ ("a\n" * 1000000) | indent(9999) }}',
    "{{ 10 ** (10 ** 10) }}",
    "{% if " + "(" * 5000 + "1" + ")" * 5000 + " %}{% endif %}",
    "x" * (2 << 20),
]


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_a_template_without_end_is_stopped(template: str) -> None:
    tokenizer = tiny_tokenizer.__wrapped__("chatml")
    tokenizer.chat_template = template
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ChatError, match=r"was stopped|has 2,097,152 characters") as caught:
        ChatFormat(tokenizer, model_name="org/evil")
    assert "org/evil" in caught.value.message
    assert len(caught.value.message) < 1000
    assert time.process_time() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_a_long_conversation_is_within_the_bounds() -> None:
    chat = ChatFormat(tiny_tokenizer("qwen3"))
    talk = [Message(("user", "assistant")[i % 2], "A sentence of some length. " * 400) for i in range(201)]
    assert len(chat.render_with_spans(tuple(talk)).spans) == 201
