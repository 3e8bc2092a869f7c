# ruff: noqa: E501 - a template is read best in its own lines
"""Chat templates of models that think or call tools, in the shapes that are met, written for the tests.

Every shape says what its replies look like: pieces of text with the part that each belongs to ("" for marks
and the white space beside them). The pieces are what a model writes after the generation prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

from templates import Family

Pieces = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Shape:
    """A template and what is true of it.

    Attributes:
        family: The template and its tokenizer.
        thinking: What `ChatFormat.thinking` says by default.
        stops: Tokens that end a reply.
        replies: Replies, as pieces of (part, text).
        arguments: Values of the template's variables under which the replies are written.
        switched: The same for thinking switched on; None where there is no switch.
        keeps: Whether the last reply's reasoning is written into a history.
        keeps_earlier: Whether an earlier reply's is.
        keeps_on: Whether both are where thinking is switched on, and else neither.
    """

    family: Family
    thinking: str
    stops: frozenset[str]
    replies: tuple[Pieces, ...]
    switched: tuple[Pieces, ...] | None = None
    keeps: bool = True
    keeps_earlier: bool = False
    keeps_on: bool = False
    arguments: tuple[tuple[str, object], ...] = ()


def _turns(begin: str, end: str, assistant: str, prompt: str, before: str = "", role: str = "m.role") -> str:
    """Return a template of turns; ``assistant`` is what stands for an assistant's message, without marks."""
    return (
        before
        + "{% for m in messages %}{% if m.role == 'assistant' %}"
        + assistant
        + "{% else %}{{ '"
        + begin.replace("ROLE", "' + " + role + " + '")
        + "' + m.content + '"
        + end
        + "' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + prompt
        + "{% endif %}"
    )


_IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_CALL_JSON = (
    '{% for c in m.tool_calls or [] %}{{ \'\n<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}"
)
# Earlier turns lose their reasoning, the last one gets a block even without any.
_LAST_BLOCK = (
    "{% set t = m.reasoning_content or '' %}{% set c = m.content or '' %}"
    "{% if not t and '</think>' in c %}{% set t = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if loop.last %}{{ '<think>\n' + t.strip('\n') + '\n</think>\n\n' + c.lstrip('\n') }}{% else %}{{ c }}{% endif %}"
    + _CALL_JSON
    + "{{ '<|im_end|>\n' }}"
)
_OFF = "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"

_HARMONY_TOKENS = (
    "<|return|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|call|>",
    "<|endoftext|>",
)
_HARMONY = """{{- '<|start|>system<|message|>You are a tiny model.\\nCurrent date: ' + strftime_now('%Y-%m-%d') }}
{{- '\\nReasoning: ' + (reasoning_effort if reasoning_effort is defined else 'medium') + '<|end|>' }}
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {%- if m.tool_calls %}
            {%- if m.thinking %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}
            {{- '<|start|>assistant to=functions.' + m.tool_calls[0].function.name }}
            {{- '<|channel|>commentary json<|message|>' + (m.tool_calls[0].function.arguments | tojson) + '<|call|>' }}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if m.thinking %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}
        {%- else %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}
        {%- endif %}
    {%- else %}
        {{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"""

_QWEN_THOUGHT: Pieces = (
    ("", "<think>\n"),
    ("thinking", "Let me see."),
    ("", "\n</think>\n\n"),
    ("answer", "I am a poet."),
)
_PLAIN: Pieces = (("answer", "I am a poet."),)
_OPENED: Pieces = (("thinking", "Let me see."), ("", "\n</think>\n\n"), ("answer", "I am a poet."))
_CUT: Pieces = (("thinking", "Let me see. What is"),)
_CALLED: Pieces = (
    ("answer", "I look."),
    ("", "\n<tool_call>\n"),
    ("tool_calls", '{"name": "f", "arguments": {}}'),
    ("", "\n</tool_call>"),
)


def _opened(
    begin: str,
    end: str,
    opening: str,
    closing: str,
    specials: tuple[str, ...],
    *,
    plain: tuple[str, ...] = (),
    assistant: str = "",
    eos: str = "",
    before: str = "",
    keeps: bool = False,
    keeps_earlier: bool = False,
) -> Shape:
    """Return a shape whose generation prompt opens the reasoning, with no switch."""
    header = begin.replace("ROLE", "assistant")
    assistant = assistant or (
        "{% set c = m.content %}{% if '"
        + closing
        + "' in c %}{% set c = c.split('"
        + closing
        + "')[-1].lstrip('\n') %}{% endif %}{{ '"
        + header
        + "' + c + '"
        + end
        + "' }}"
    )
    template = _turns(begin, end, assistant, "{{ '" + header + opening + "\n' }}", before)
    pieces = (
        (("thinking", "Let me see."), ("", f"\n{closing}\n\n"), ("answer", "I am a poet.")),
        (("thinking", "Let me see. What is"),),
        (("thinking", "No."), ("", f"{closing}"), ("answer", "Yes.")),
    )
    eos = eos or specials[-1]
    ends = {eos} | ({end.strip()} if end.strip() in specials else set())
    return Shape(
        Family(template, specials, None, eos, plain_added=plain),
        "always",
        frozenset(ends),
        pieces,
        keeps=keeps,
        keeps_earlier=keeps_earlier,
    )


SHAPES: dict[str, Shape] = {
    # A switch; the last reply is re-written with a block of reasoning.
    "qwen3": Shape(
        Family(
            _turns("<|im_start|>ROLE\n", "<|im_end|>\n", _LAST_BLOCK, _OFF),
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>", "<tool_call>", "</tool_call>"),
        ),
        "off",
        frozenset({"<|im_end|>"}),
        (_PLAIN, _CALLED),
        switched=(_QWEN_THOUGHT, (("", "<think>\n"), *_CUT), (*_QWEN_THOUGHT[:3], *_CALLED)),
    ),
    # The same without tokens of their own: tags are text, of several tokens.
    "qwen3_text_tags": Shape(
        Family(_turns("<|im_start|>ROLE\n", "<|im_end|>\n", _LAST_BLOCK, _OFF), _IM, None, "<|im_end|>"),
        "off",
        frozenset({"<|im_end|>"}),
        (_PLAIN, _CALLED),
        switched=(_QWEN_THOUGHT, (("", "<think>\n"), *_CUT)),
    ),
    "qwen3_thinking": Shape(
        Family(
            _turns(
                "<|im_start|>ROLE\n", "<|im_end|>\n", _LAST_BLOCK, "{{ '<|im_start|>assistant\n<think>\n' }}"
            ),
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>"),
        ),
        "always",
        frozenset({"<|im_end|>"}),
        (_OPENED, _CUT, (*_OPENED[:2], *_CALLED)),
    ),
    # Only the end of the content after the last closing tag is kept.
    "r1_distill": _opened(
        "<|ROLE|>",
        "<|end_of_sentence|>",
        "<think>",
        "</think>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end_of_sentence|>"),
        plain=("<think>", "</think>"),
    ),
    "qwq": _opened(
        "<|im_start|>ROLE\n",
        "<|im_end|>\n",
        "<think>",
        "</think>",
        ("<|im_start|>", "<|endoftext|>", "<|im_end|>"),
    ),
    "olmo_think": _opened(
        "<|im_start|>ROLE\n",
        "<|im_end|>\n",
        "<think>",
        "</think>",
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        assistant="{{ '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}",
        keeps_earlier=True,
    ),
    "step": _opened(
        "<|im_start|>ROLE\n",
        "<|im_end|>\n",
        "<think>",
        "</think>",
        ("<|im_start|>", "<|im_end|>"),
        plain=("<think>", "</think>"),
        assistant="{{ '<|im_start|>assistant\n' }}{% if m.reasoning_content and loop.last %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n' }}"
        "{% endif %}{{ m.content + '<|im_end|>\n' }}",
        keeps=True,
    ),
    "minimax": _opened(
        "]~b]ROLE\n",
        "[e~[\n",
        "<think>",
        "</think>",
        ("]~b]", "[e~["),
        assistant="{{ ']~b]assistant\n' }}{% if m.reasoning_content and loop.last %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}"
        "{% endif %}{{ m.content + '[e~[\n' }}",
        keeps=True,
    ),
    "exaone_deep": _opened(
        "[|ROLE|]",
        "[|endofturn|]\n",
        "<thought>",
        "</thought>",
        ("[|user|]", "[|assistant|]", "[|system|]", "[|endofturn|]"),
        plain=("<thought>", "</thought>"),
    ),
    # Channels.
    "harmony": Shape(
        Family(_HARMONY, _HARMONY_TOKENS, None, "<|return|>"),
        "always",
        frozenset({"<|return|>"}),
        (
            (
                ("", "<|channel|>analysis<|message|>"),
                ("thinking", "Let me see."),
                ("", "<|end|><|start|>assistant<|channel|>final<|message|>"),
                ("answer", "I am a poet."),
            ),
            (("", "<|channel|>final<|message|>"), ("answer", "I am a poet.")),
            (("", "<|channel|>analysis<|message|>"), ("thinking", "Let me see. What is")),
            (
                ("", "<|channel|>analysis<|message|>"),
                ("thinking", "I look."),
                (
                    "",
                    "<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>",
                ),
                ("tool_calls", "{}"),
            ),
            (
                ("", "<|channel|>analysis<|message|>"),
                ("thinking", "Once."),
                ("", "<|end|><|start|>assistant<|channel|>analysis<|message|>"),
                ("thinking", "Twice."),
                ("", "<|end|><|start|>assistant<|channel|>final<|message|>"),
                ("answer", "Yes."),
            ),
        ),
    ),
    "harmony_without_a_field": Shape(
        Family(_HARMONY.replace("m.thinking", "m.nothing"), _HARMONY_TOKENS, None, "<|return|>"),
        "always",
        frozenset({"<|return|>"}),
        (
            (
                ("", "<|channel|>analysis<|message|>"),
                ("thinking", "Let me see."),
                ("", "<|end|><|start|>assistant<|channel|>final<|message|>"),
                ("answer", "I am a poet."),
            ),
            (("", "<|channel|>final<|message|>"), ("answer", "I am a poet.")),
        ),
        keeps=False,
    ),
    # A budget in the place of a switch.
    "seed": Shape(
        Family(
            "{% if thinking_budget is defined and thinking_budget == 0 %}{{ '<seed:bos>system\nDo not think.<seed:eos>' }}{% endif %}"
            + _turns(
                "<seed:bos>ROLE\n",
                "<seed:eos>",
                "{{ '<seed:bos>assistant\n' }}{% if m.reasoning_content %}{{ '<seed:think>' + m.reasoning_content + '</seed:think>' }}"
                "{% endif %}{{ m.content + '<seed:eos>' }}",
                "{{ '<seed:bos>assistant\n' }}{% if thinking_budget is defined and thinking_budget == 0 %}"
                "{{ '<seed:think></seed:think>' }}{% endif %}",
            ),
            ("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>"),
            None,
            "<seed:eos>",
        ),
        "off",
        frozenset({"<seed:eos>"}),
        (_PLAIN,),
        switched=(
            (
                ("", "<seed:think>"),
                ("thinking", "Let me see."),
                ("", "</seed:think>"),
                ("answer", "I am a poet."),
            ),
        ),
        keeps_earlier=True,
    ),
    # The mark that ends reasoning stands before every answer.
    "deepseek": Shape(
        Family(
            "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
            + _turns(
                "<|ROLE|>",
                "",
                "{% set c = m.content or '' %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}"
                "{{ '<|assistant|></think>' + c }}{% for k in m.tool_calls or [] %}{{ '<|calls_begin|><|call_begin|>' + k.function.name + '<|sep|>' }}"
                "{{ k.function.arguments | tojson }}{{ '<|call_end|>' }}{% endfor %}{% if m.tool_calls %}{{ '<|calls_end|>' }}{% endif %}"
                "{{ '<|eos|>' }}",
                "{{ '<|assistant|>' }}{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}",
            ),
            (
                "<|user|>",
                "<|assistant|>",
                "<|system|>",
                "<|eos|>",
                "<|calls_begin|>",
                "<|call_begin|>",
                "<|sep|>",
                "<|call_end|>",
                "<|calls_end|>",
            ),
            None,
            "<|eos|>",
            plain_added=("<think>", "</think>"),
        ),
        "off",
        frozenset({"<|eos|>"}),
        (
            _PLAIN,
            (("answer", "I look."), ("", "<|calls_begin|>"), ("tool_calls", "f"), ("", "<|calls_end|>")),
        ),
        switched=((("thinking", "Let me see."), ("", "</think>"), ("answer", "I am a poet.")), _CUT),
        keeps=False,
    ),
    "glm": Shape(
        Family(
            _turns(
                "<|ROLE|>\n",
                "",
                "{{ '<|assistant|>\n' }}{% if m.reasoning_content and loop.last %}{{ '<think>' + m.reasoning_content + '</think>\n' }}"
                "{% else %}{{ '<think></think>\n' }}{% endif %}{{ (m.content or '').strip() }}{% for k in m.tool_calls or [] %}"
                "{{ '\n<tool_call>' + k.function.name + '\n' }}{% for n, v in k.function.arguments.items() %}"
                "{{ '<arg_key>' + n + '</arg_key>\n<arg_value>' + v + '</arg_value>\n' }}{% endfor %}{{ '</tool_call>' }}{% endfor %}",
                "{{ '<|assistant|>' }}{% if enable_thinking is defined and not enable_thinking %}{{ '\n<think></think>' }}{% endif %}",
                "{{ '<gmask>' }}",
            ),
            ("<gmask>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"),
            None,
            "<|endoftext|>",
            plain_added=(
                "<think>",
                "</think>",
                "<tool_call>",
                "</tool_call>",
                "<arg_key>",
                "</arg_key>",
                "<arg_value>",
                "</arg_value>",
            ),
        ),
        "off",
        frozenset({"<|endoftext|>", "<|user|>"}),
        (
            (("answer", "\nI am a poet."),),
            (
                ("answer", "I look."),
                ("", "\n<tool_call>"),
                ("tool_calls", "f\n<arg_key>a</arg_key>\n<arg_value>b</arg_value>"),
                ("", "\n</tool_call>"),
            ),
        ),
        switched=(
            (("", "\n<think>"), ("thinking", "Let me see."), ("", "</think>\n"), ("answer", "I am a poet.")),
        ),
    ),
    "nemotron": Shape(
        Family(
            _turns(
                "<|im_start|>ROLE\n",
                "<|im_end|>\n",
                "{{ '<|im_start|>assistant\n<think>' }}{% if m.reasoning_content and loop.last %}{{ '\n' + m.reasoning_content + '\n' }}{% endif %}"
                "{{ '</think>' + m.content + '<|im_end|>\n' }}",
                "{{ '<|im_start|>assistant\n<think>' }}{% if enable_thinking is defined and not enable_thinking %}{{ '</think>' }}"
                "{% else %}{{ '\n' }}{% endif %}",
            ),
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>"),
        ),
        "off",
        frozenset({"<|im_end|>"}),
        (_PLAIN,),
        switched=(_OPENED, _CUT),
    ),
    "ministral": Shape(
        Family(
            "{{ '<s>' }}{% if messages[0].role != 'system' %}{{ '[SYSTEM_PROMPT]Think first: [THINK]your thoughts[/THINK]your answer.[/SYSTEM_PROMPT]' }}{% endif %}"
            "{% for m in messages %}{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}"
            "{% elif m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content or '' }}"
            "{% if m.tool_calls %}{{ '[TOOL_CALLS]' + m.tool_calls[0].function.name + '[ARGS]' + (m.tool_calls[0].function.arguments | tojson) }}{% endif %}"
            "{{ '</s>' }}{% endif %}{% endfor %}",
            (
                "<s>",
                "</s>",
                "[INST]",
                "[/INST]",
                "[SYSTEM_PROMPT]",
                "[/SYSTEM_PROMPT]",
                "[THINK]",
                "[/THINK]",
                "[TOOL_CALLS]",
                "[ARGS]",
            ),
            None,
            "</s>",
        ),
        "always",
        frozenset({"</s>"}),
        (
            (("", "[THINK]"), ("thinking", "Let me see."), ("", "[/THINK]"), ("answer", "I am a poet.")),
            _PLAIN,
            (("answer", "I look."), ("", "[TOOL_CALLS]"), ("tool_calls", "f")),
        ),
        keeps_earlier=True,
    ),
    "smollm": Shape(
        Family(
            "{{ '<|im_start|>system\nToday: ' + strftime_now('%d %B %Y') + '\n' }}"
            "{% if enable_thinking is defined and not enable_thinking %}{{ '/no_think' }}{% else %}{{ '/think' }}{% endif %}{{ '<|im_end|>\n' }}"
            "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}{% endgeneration %}"
            "{% elif m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
            "{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}",
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>"),
        ),
        "off",
        frozenset({"<|im_end|>"}),
        (_PLAIN,),
        switched=(_QWEN_THOUGHT,),
        keeps_earlier=True,
    ),
    # Tags that are text, and a tag around the answer too.
    "granite": Shape(
        Family(
            "{{ '<|role|>system<|end_role|>Today is ' + strftime_now('%B %d, %Y') + '.' }}{% if thinking %}"
            "{{ ' Write your thoughts between <think></think> and the answer between <response></response>.' }}{% endif %}{{ '<|eot|>\n' }}"
            + _turns(
                "<|role|>ROLE<|end_role|>",
                "<|eot|>\n",
                "{{ '<|role|>assistant<|end_role|>' + m.content + '<|eot|>\n' }}",
                "{{ '<|role|>assistant<|end_role|>' }}",
            ),
            ("<|role|>", "<|end_role|>", "<|eot|>"),
            None,
            "<|eot|>",
        ),
        "off",
        frozenset({"<|eot|>"}),
        (_PLAIN,),
        switched=(
            (
                ("", "<think>"),
                ("thinking", "Let me see."),
                ("", "</think>\n<response>"),
                ("answer", "I am a poet."),
                ("", "</response>"),
            ),
        ),
        keeps_earlier=True,
    ),
    "kimi": Shape(
        Family(
            _turns(
                "<|im_ROLE|>ROLE<|im_middle|>",
                "<|im_end|>",
                "{{ '<|im_assistant|>assistant<|im_middle|><think>' + (m.reasoning_content or '') + '</think>' + (m.content or '') }}"
                "{% if m.tool_calls %}{{ '<|section_begin|>' }}{% for k in m.tool_calls %}{{ '<|call_begin|>' + k.function.name + '<|args|>' }}"
                "{{ k.function.arguments | tojson }}{{ '<|call_end|>' }}{% endfor %}{{ '<|section_end|>' }}{% endif %}{{ '<|im_end|>' }}",
                "{{ '<|im_assistant|>assistant<|im_middle|>' }}",
            ),
            (
                "<|im_user|>",
                "<|im_assistant|>",
                "<|im_system|>",
                "<|im_middle|>",
                "<|im_end|>",
                "<|section_begin|>",
                "<|call_begin|>",
                "<|args|>",
                "<|call_end|>",
                "<|section_end|>",
            ),
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>"),
        ),
        "always",
        frozenset({"<|im_end|>"}),
        (
            (("", "<think>"), ("thinking", "Let me see."), ("", "</think>"), ("answer", "I am a poet.")),
            (
                ("", "<think>"),
                ("thinking", "I look."),
                ("", "</think><|section_begin|>"),
                ("tool_calls", "<|call_begin|>f<|args|>{}<|call_end|>"),
                ("", "<|section_end|>"),
            ),
        ),
        keeps_earlier=True,
    ),
    "hunyuan": Shape(
        Family(
            _turns(
                "<|ROLE|>",
                "",
                "{% set c = m.content %}{% if '<answer>' in c %}{% set c = c.split('<answer>')[-1].split('</answer>')[0].strip() %}{% endif %}"
                "{% if '</think>' in c %}{% set c = c.split('</think>')[-1].strip() %}{% endif %}{{ '<|assistant|>' + c + '<|eos|>' }}",
                "{{ '<|assistant|>' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}",
            ),
            ("<|user|>", "<|assistant|>", "<|system|>", "<|eos|>"),
            None,
            "<|eos|>",
        ),
        "off",
        frozenset({"<|eos|>"}),
        (_PLAIN,),
        switched=(
            (
                ("", "<think>\n"),
                ("thinking", "Let me see."),
                ("", "\n</think>\n<answer>\n"),
                ("answer", "I am a poet."),
                ("", "\n</answer>"),
            ),
        ),
        keeps=False,
    ),
    "ernie": Shape(
        Family(
            _turns(
                "<|im_start|>ROLE\n",
                "<|im_end|>\n",
                "{{ '<|im_start|>assistant\n' }}{% if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content.strip('\n') + '\n</think>\n\n' }}{% endif %}"
                "{{ '<response>\n' + m.content.strip('\n') + '\n</response>\n<|im_end|>\n' }}",
                "{{ '<|im_start|>assistant\n<think>\n' }}",
            ),
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<think>", "</think>", "<response>", "</response>"),
        ),
        "always",
        frozenset({"<|im_end|>"}),
        (
            (
                ("thinking", "Let me see."),
                ("", "\n</think>\n\n<response>\n"),
                ("answer", "I am a poet."),
                ("", "\n</response>\n"),
            ),
            _CUT,
        ),
        keeps_earlier=True,
    ),
    "cohere": Shape(
        Family(
            _turns(
                "<|START|><|ROLE|>",
                "<|END|>",
                "{{ '<|START|><|assistant|>' }}{% if m.thinking %}{{ '<|START_THINKING|>' + m.thinking + '<|END_THINKING|>' }}{% endif %}"
                "{{ '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|><|END|>' }}",
                "{{ '<|START|><|assistant|>' }}{% if reasoning is defined and not reasoning %}{{ '<|START_THINKING|><|END_THINKING|>' }}{% endif %}",
            ),
            (
                "<|START|>",
                "<|END|>",
                "<|user|>",
                "<|assistant|>",
                "<|system|>",
                "<|START_THINKING|>",
                "<|END_THINKING|>",
                "<|START_RESPONSE|>",
                "<|END_RESPONSE|>",
            ),
            None,
            "<|END|>",
        ),
        "off",
        frozenset({"<|END|>"}),
        ((("", "<|START_RESPONSE|>"), ("answer", "I am a poet.")),),
        switched=(
            (
                ("", "<|START_THINKING|>"),
                ("thinking", "Let me see."),
                ("", "<|END_THINKING|><|START_RESPONSE|>"),
                ("answer", "I am a poet."),
            ),
        ),
        keeps_earlier=True,
    ),
    # Marks that are no words for thinking, but stand around what the template takes as reasoning.
    "gemma4": Shape(
        Family(
            _turns(
                "<|turn>ROLE\n",
                "<turn|>\n",
                "{{ '<|turn>model\n' }}{% if m.reasoning and loop.last %}{{ '<|channel>thought\n' + m.reasoning + '\n<channel|>' }}{% endif %}"
                "{{ m.content + '<turn|>\n' }}",
                "{{ '<|turn>model\n' }}{% if not enable_thinking %}{{ '<|channel>thought\n<channel|>' }}{% endif %}",
            ),
            ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<eos>"),
            None,
            "<eos>",
        ),
        "off",
        frozenset({"<turn|>", "<eos>"}),
        (_PLAIN,),
        switched=(
            (
                ("", "<|channel>thought\n"),
                ("thinking", "Let me see."),
                ("", "\n<channel|>"),
                ("answer", "I am a poet."),
            ),
        ),
    ),
    # No field for reasoning: the empty block that switches thinking off shows its marks.
    "gemma4_without_a_field": Shape(
        Family(
            "{% macro answer(text) %}{% set ns = namespace(kept='') %}{% for part in text.split('<channel|>') %}"
            "{% set ns.kept = ns.kept + part.split('<|channel>')[0] %}{% endfor %}{{ ns.kept | trim }}{% endmacro %}"
            "{% if enable_thinking %}{{ '<|turn>system\n<|think|><turn|>\n' }}{% endif %}"
            + _turns(
                "<|turn>ROLE\n",
                "<turn|>\n",
                "{{ '<|turn>model\n' + answer(m.content) + '<turn|>\n' }}",
                "{{ '<|turn>model\n' }}{% if not enable_thinking %}{{ '<|channel>thought\n<channel|>' }}{% endif %}",
            ),
            ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<eos>"),
            None,
            "<eos>",
        ),
        "off",
        frozenset({"<turn|>", "<eos>"}),
        (_PLAIN,),
        switched=(
            (
                ("", "<|channel>thought\n"),
                ("thinking", "Let me see."),
                ("", "\n<channel|>"),
                ("answer", "I am a poet."),
            ),
        ),
        keeps=False,
    ),
    # Always opened, and switched off by words of the user alone.
    "nemotron_words": _opened(
        "<|ROLE|>\n",
        "\n<|eot|>\n",
        "<think>",
        "</think>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|eot|>"),
        plain=("<think>", "</think>"),
    ),
    # Words in the place of an opening tag, written by the generation prompt, and a mark with spaces.
    "apriel": Shape(
        Family(
            "{{ '<|begin_system|>\nThink, then answer after [BEGIN FINAL RESPONSE].\n' }}"
            "{% for m in messages %}{% if m.role == 'assistant' %}{{ '\n<|begin_assistant|>\n' }}"
            "{% if m.reasoning_content and loop.last %}{{ m.reasoning_content + '\n[BEGIN FINAL RESPONSE]\n' }}{% endif %}"
            "{% if not loop.last and '[BEGIN FINAL RESPONSE]' in m.content %}"
            "{{ m.content.split('[BEGIN FINAL RESPONSE]')[-1] | trim }}{% else %}{{ m.content }}{% endif %}{{ '\n<|end|>\n' }}"
            "{% else %}{{ '<|begin_' + m.role + '|>\n' + m.content }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '\n<|begin_assistant|>\nHere are my reasoning steps:\n' }}{% endif %}",
            ("<|begin_system|>", "<|begin_user|>", "<|begin_assistant|>", "<|end|>"),
            None,
            "<|end|>",
        ),
        "always",
        frozenset({"<|end|>"}),
        (
            (
                ("thinking", "Let me see."),
                ("", "\n[BEGIN FINAL RESPONSE]\n"),
                ("answer", "I am a poet."),
            ),
            (("thinking", "Let me see. What is"),),
        ),
    ),
    # Elements that open and close by the same tokens; reasoning shows only while the model thinks.
    "kimi_elements": Shape(
        Family(
            "{% if thinking is undefined %}{% set thinking = true %}{% endif %}"
            "{% macro open(tag) %}{{ '<|open|>' + tag + '<|sep|>' }}{% endmacro %}"
            "{% macro close(tag) %}{{ '<|close|>' + tag + '<|sep|>' }}{% endmacro %}"
            "{% for m in messages %}{{ open('message role=' + m.role) }}{% if m.role == 'assistant' %}"
            "{% if thinking %}{{ open('think') + (m.reasoning_content or '') + close('think') }}{% endif %}"
            "{{ open('response') + m.content + close('response') }}{% else %}{{ m.content }}{% endif %}"
            "{{ close('message') + '<|end_of_msg|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ open('message role=assistant') + open('think' if thinking else 'response') }}{% endif %}",
            ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"),
            None,
            "<|end_of_msg|>",
        ),
        "off",
        frozenset({"<|end_of_msg|>"}),
        ((("answer", "I am a poet."), ("", "<|close|>response<|sep|><|close|>message<|sep|>")),),
        switched=(
            (
                ("thinking", "Let me see."),
                ("", "<|close|>think<|sep|><|open|>response<|sep|>"),
                ("answer", "I am a poet."),
                ("", "<|close|>response<|sep|><|open|>tools<|sep|>"),
                ("tool_calls", "f"),
                ("", "<|close|>tools<|sep|><|close|>message<|sep|>"),
            ),
            (("thinking", "Let me see. What is"),),
        ),
        keeps=False,
        keeps_on=True,
    ),
    "apertus": Shape(
        Family(
            _turns(
                "<|ROLE_start|>",
                "<|ROLE_end|>".replace("ROLE", "user"),
                "{{ '<|assistant_start|>' }}{% if m.reasoning %}{{ '<|inner_prefix|>' + m.reasoning + '<|inner_suffix|>' }}{% endif %}"
                "{{ m.content + '<|assistant_end|>' }}",
                "{{ '<|assistant_start|>' }}",
            ),
            (
                "<|user_start|>",
                "<|user_end|>",
                "<|assistant_start|>",
                "<|assistant_end|>",
                "<|system_start|>",
                "<|inner_prefix|>",
                "<|inner_suffix|>",
            ),
            None,
            "<|assistant_end|>",
        ),
        "always",
        frozenset({"<|assistant_end|>"}),
        (
            (
                ("", "<|inner_prefix|>"),
                ("thinking", "Let me see."),
                ("", "<|inner_suffix|>"),
                ("answer", "I am a poet."),
            ),
            _PLAIN,
        ),
        keeps_earlier=True,
    ),
    "phi_reasoning": Shape(
        Family(
            "{{ '<|im_start|>system<|im_sep|>Think in <think> tags, as in <think> thoughts </think> answer.<|im_end|>' }}"
            + _turns(
                "<|im_start|>ROLE<|im_sep|>",
                "<|im_end|>",
                "{{ '<|im_start|>assistant<|im_sep|>' + m.content + '<|im_end|>' }}",
                "{{ '<|im_start|>assistant<|im_sep|>' }}",
            ),
            ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
            None,
            "<|im_end|>",
        ),
        "always",
        frozenset({"<|im_end|>"}),
        (_QWEN_THOUGHT, _PLAIN),
        keeps_earlier=True,
    ),
    # Tools without thinking, dates without thinking, and neither.
    "qwen25": Shape(
        Family(
            _turns(
                "<|im_start|>ROLE\n",
                "<|im_end|>\n",
                "{{ '<|im_start|>assistant\n' + (m.content or '') }}" + _CALL_JSON + "{{ '<|im_end|>\n' }}",
                "{{ '<|im_start|>assistant\n' }}",
            ),
            _IM,
            None,
            "<|im_end|>",
            plain_added=("<tool_call>", "</tool_call>"),
        ),
        "none",
        frozenset({"<|im_end|>"}),
        (_PLAIN, _CALLED, (("answer", "I <think> so."),)),
        keeps=False,
    ),
    "llama32": Shape(
        Family(
            "{{ '<|header|>system<|end_header|>\n\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n<|eot|>' }}"
            + _turns(
                "<|header|>ROLE<|end_header|>\n\n",
                "<|eot|>",
                "{{ '<|header|>assistant<|end_header|>\n\n' + m.content + '<|eot|>' }}",
                "{{ '<|header|>assistant<|end_header|>\n\n' }}",
            ),
            ("<|header|>", "<|end_header|>", "<|eot|>", "<|eos|>"),
            None,
            "<|eos|>",
        ),
        "none",
        frozenset({"<|eot|>", "<|eos|>"}),
        (_PLAIN,),
        keeps=False,
    ),
    "mistral_small": Shape(
        Family(
            "{{ '<s>' }}{% if messages[0].role != 'system' %}{{ '[SYSTEM_PROMPT]Today is ' + strftime_now('%Y-%m-%d') + '.[/SYSTEM_PROMPT]' }}{% endif %}"
            "{% for m in messages %}{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}"
            "{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + '</s>' }}{% endif %}{% endfor %}",
            ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
            None,
            "</s>",
        ),
        "none",
        frozenset({"</s>"}),
        (_PLAIN,),
        keeps=False,
    ),
}
