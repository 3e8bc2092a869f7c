"""What a chat format finds out about a template."""

from datetime import date

import pytest

from personascope.chat import ChatFormat, ChatOptions, Conversation, Message, TranscriptFormat
from personascope.errors import ChatError
from templates import FAMILIES
from tiny import tiny_tokenizer

WITH_TEMPLATE = [name for name, family in FAMILIES.items() if family.template]
USER = Message("user", "Who are you?")


def with_template(name: str, template: str) -> ChatFormat:
    tokenizer = tiny_tokenizer.__wrapped__(name)
    tokenizer.chat_template = template
    return ChatFormat(tokenizer, model_name="org/model")


def text_of(chat: ChatFormat | TranscriptFormat, *conversation: Message) -> str:
    return chat.render_with_spans(conversation, add_generation_prompt=True).text


def decoded(chat: ChatFormat | TranscriptFormat, conversation: Conversation) -> list[str]:
    rendered = chat.render_with_spans(conversation)
    return [chat.tokenizer.decode(rendered.token_ids[s.start : s.end]) for s in rendered.spans]


@pytest.mark.parametrize(
    ("name", "supported"),
    [
        ("chatml", True),
        ("llama3", True),
        ("qwen3", True),
        ("gemma2", False),  # raises
        ("gemma3", True),  # folds it itself
        ("mistral", False),  # drops it without a word
        ("mixtral", False),
        ("phi3", True),
        ("olmo2", True),
        ("plain", True),
    ],
)
def test_system_support_is_found_by_trying(name: str, supported: bool) -> None:
    chat = ChatFormat(tiny_tokenizer(name))
    assert chat.supports_system is supported
    assert "Be a pirate." in text_of(chat, Message("system", "Be a pirate."), USER)


@pytest.mark.parametrize("name", ["gemma2", "mistral", "mixtral"])
def test_a_system_message_without_a_system_role_opens_the_first_user_turn(name: str) -> None:
    chat = ChatFormat(tiny_tokenizer(name))
    folded = chat.render((Message("system", "Be a pirate."), USER))
    assert folded == chat.render((Message("user", "Be a pirate.\n\nWho are you?"),))
    assert [text.strip() for text in decoded(chat, (Message("system", "Be a pirate."), USER))] == [
        "Be a pirate.",
        "Who are you?",
    ]


@pytest.mark.parametrize("name", WITH_TEMPLATE)
@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_system_message_is_no_system_message(name: str, empty: str) -> None:
    chat = ChatFormat(tiny_tokenizer(name))
    rendered = chat.render_with_spans((Message("system", empty), USER), add_generation_prompt=True)
    assert list(rendered.token_ids) == chat.render((USER,))
    assert (rendered.spans[0].start, rendered.spans[0].end) == (0, 0)


def test_a_templates_own_default_system_prompt_stays() -> None:
    chat = ChatFormat(tiny_tokenizer("chatml"))
    assert "You are Tiny" in text_of(chat, Message("system", ""), USER)
    assert "You are Tiny" not in text_of(chat, Message("system", "Be a pirate."), USER)


def test_thinking_is_switched_off() -> None:
    chat = ChatFormat(tiny_tokenizer("qwen3"))
    assert chat.has_thinking_switch
    assert text_of(chat, USER).endswith("<think>\n\n</think>\n\n")
    assert not ChatFormat(tiny_tokenizer("llama3")).has_thinking_switch


@pytest.mark.parametrize(
    "switch",
    [
        "{% if thinking %}T{% endif %}",
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        "{% if enable_thinking %}T{% endif %}",
        "{% generation %}{% endgeneration %}"
        "{% if not (thinking is defined and thinking is false) %}T{% endif %}",
    ],
)
def test_switches_of_other_names_and_forms_are_found(switch: str) -> None:
    loop = "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}"
    chat = with_template("chatml", loop + switch)
    assert chat.has_thinking_switch
    assert text_of(chat, USER) == "<|im_start|>Who are you?<|im_end|>"


def test_a_word_in_the_text_of_a_template_is_no_switch() -> None:
    loop = "{% for m in messages %}{{ '<|im_start|>thinking ' + m.content + '<|im_end|>' }}{% endfor %}"
    assert not with_template("chatml", loop).has_thinking_switch


def test_reasoning_that_a_template_drops_is_in_no_span() -> None:
    chat = ChatFormat(tiny_tokenizer("qwen3"))
    conversation = (
        USER,
        Message("assistant", "<think>\nHm.\n</think>\n\nI am a poet."),
        Message("user", "Really?"),
        Message("assistant", "Yes."),
    )
    assert decoded(chat, conversation) == ["Who are you?", "I am a poet.", "Really?", "Yes."]
    assert "Hm." not in text_of(chat, *conversation)


def test_the_reasoning_of_the_last_reply_is_a_span_of_its_own() -> None:
    chat = ChatFormat(tiny_tokenizer("qwen3"))
    for reply in (
        Message("assistant", "<think>\nHm.\n</think>\n\nI am a poet."),
        Message("assistant", "I am a poet.", reasoning="Hm."),
    ):
        rendered = chat.render_with_spans((USER, reply))
        decode = chat.tokenizer.decode
        (thought,) = rendered.thinking
        assert decode(rendered.token_ids[thought.start : thought.end]).strip() == "Hm."
        answer = rendered.spans[1]
        assert decode(rendered.token_ids[answer.start : answer.end]) == "I am a poet."
        think = [chat.tokenizer.convert_tokens_to_ids(tag) for tag in ("<think>", "</think>")]
        assert [i for i in rendered.token_ids if i in think] == think


def test_what_follows_the_content_in_another_way_than_was_learnt_is_refused() -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}"
        "{% if 'poet' in m.content %}{{ ' verse' }}{% endif %}{% endfor %}"
    )
    chat = with_template("chatml", template)
    with pytest.raises(ChatError, match=r"changes the content of message 1 \(assistant: 'I am a poet.'\)"):
        chat.render((USER, Message("assistant", "I am a poet."), USER))


def test_a_tag_that_a_template_writes_cannot_be_written_by_a_message() -> None:
    chat = ChatFormat(tiny_tokenizer("qwen3"))
    think = chat.tokenizer.convert_tokens_to_ids("<think>")
    assert chat.render((USER,)).count(think) == 1
    assert chat.render((Message("user", "<think> hello"),)).count(think) == 1
    # An added token that is not the template's is the tokenizer's business.
    other = ChatFormat(tiny_tokenizer("gemma2"))
    assert other.tokenizer.convert_tokens_to_ids("<table>") in other.render((Message("user", "<table>"),))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("chatml", {"<|im_end|>"}),
        ("llama3", {"<|eot_id|>", "<|end_of_text|>"}),
        ("qwen3", {"<|im_end|>"}),
        ("gemma2", {"<end_of_turn>", "<eos>"}),
        ("gemma3", {"<end_of_turn>", "<eos>"}),
        ("mistral", {"</s>"}),
        ("mixtral", {"</s>"}),
        ("phi3", {"<|end|>", "<|endoftext|>"}),
        ("olmo2", {"<|endoftext|>"}),
        ("plain", {"<|endoftext|>"}),
    ],
)
def test_stop_tokens_come_from_the_template(name: str, ends: set[str]) -> None:
    chat = ChatFormat(tiny_tokenizer(name))
    assert {chat.tokenizer.convert_ids_to_tokens(i) for i in chat.stop_token_ids} == ends
    assert chat.stop_strings == ()


def test_the_digest_follows_what_is_rendered() -> None:
    digests = {ChatFormat(tiny_tokenizer(name)).digest for name in WITH_TEMPLATE}
    digests.add(TranscriptFormat(tiny_tokenizer("chatml")).digest)
    assert len(digests) == len(WITH_TEMPLATE) + 1
    assert all(len(digest) == 64 for digest in digests)
    again = ChatFormat(tiny_tokenizer.__wrapped__("qwen3"), model_name="another name")
    assert again.digest == ChatFormat(tiny_tokenizer("qwen3")).digest


def test_a_system_prompt_written_into_the_last_user_turn_is_located() -> None:
    template = (
        "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}{{ '<|im_start|>' }}"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{{ m.content }}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
    )
    dropping = with_template("chatml", template)
    assert not dropping.supports_system  # once the conversation ends with a reply it is gone
    chat = with_template("chatml", template.replace("loop.last", "loop.revindex <= 2"))
    assert chat.supports_system
    conversation = (
        Message("system", "Be a pirate."),
        USER,
        Message("assistant", "Hello"),
        Message("user", "And now?"),
        Message("assistant", "Now too"),
    )
    assert decoded(chat, conversation) == ["Be a pirate.", "Who are you?", "Hello", "And now?", "Now too"]
    rendered = chat.render_with_spans(conversation)
    assert rendered.spans[0].start > rendered.spans[2].end


@pytest.mark.parametrize("strip", ["trim", "replace('', '')"])
def test_only_white_space_that_a_template_strips_is_left_out(strip: str) -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>\n' + (m.content | STRIP) + '\n<|im_end|>' }}{% endfor %}"
    )
    chat = with_template("chatml", template.replace("STRIP", strip))
    (text,) = decoded(chat, (Message("user", "  two words\t "),))
    assert text == ("two words" if strip == "trim" else "  two words\t ")


def test_a_template_that_omits_empty_turns_is_followed() -> None:
    template = (
        "{% for m in messages %}{% if m.content %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endif %}"
        "{% endfor %}"
    )
    chat = with_template("chatml", template)
    conversation = (Message("user", ""), Message("assistant", "Hello"), Message("user", ""), USER)
    assert decoded(chat, conversation) == ["", "Hello", "", "Who are you?"]


def test_a_template_with_todays_date_keeps_the_day_on_which_it_was_made() -> None:
    template = (
        "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}"
        "{% endfor %}"
    )
    tokenizer = tiny_tokenizer.__wrapped__("chatml")
    tokenizer.chat_template = template
    first = ChatFormat(tokenizer, options=ChatOptions(today=date(2026, 3, 1)))
    assert decoded(first, (USER,)) == ["Who are you?"]
    assert text_of(first, USER).startswith("01 Mar 2026")
    assert first.today == date(2026, 3, 1)
    later = first.with_options(ChatOptions(today=date(2026, 3, 2)))
    assert text_of(later, USER).startswith("02 Mar 2026")
    assert later.digest == first.digest
    assert ChatFormat(tokenizer).today == date.today()
    assert ChatFormat(tiny_tokenizer("chatml")).today is None


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ((), "no message"),
        ((Message("system", ""),), "no message"),
        ((Message("system", "Be a pirate."),), "no user turn"),
        ((Message("system", "Be a pirate."), Message("assistant", "Arr.")), "no user turn"),
        ((USER, Message("system", "Be a pirate.")), "late system"),
        ((Message("assistant", "Arr."),), "must alternate"),
        ((USER, USER), "must alternate"),
        ((Message("system", "", "So."), USER), r"message 0 \(system\) has reasoning"),
        ((Message("user", "Who?", "So."),), r"message 0 \(user\) has reasoning"),
    ],
)
def test_conversations_that_do_not_fit_are_refused_by_name(conversation: Conversation, message: str) -> None:
    chat = ChatFormat(tiny_tokenizer("gemma2"), model_name="org/model")
    with pytest.raises(ChatError, match=message) as caught:
        chat.render(conversation)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", "does not write message 0"),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            r"does not write message 1 \(assistant\)",
        ),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "does not write message 0"),
        ("{% for m in messages %}{{ m.missing.thing }}{% endfor %}", "refuses"),
        ("{% if %}", "refuses"),
    ],
)
def test_templates_that_cannot_be_followed_are_refused(template: str, message: str) -> None:
    with pytest.raises(ChatError, match=message) as caught:
        with_template("chatml", template).render((USER, Message("assistant", "hello"), USER))
    assert caught.value.hint


def test_a_base_model_is_told_what_to_do() -> None:
    with pytest.raises(ChatError, match="org/base has no chat template") as caught:
        ChatFormat(tiny_tokenizer("none"), model_name="org/base")
    assert "transcript" in caught.value.hint


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ChatError, match="surrogate"):
        ChatFormat(tiny_tokenizer("chatml")).render((Message("user", "\ud83d"),))


def test_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = tiny_tokenizer.__wrapped__("llama3")
    before = tokenizer.backend_tokenizer.to_str()
    ChatFormat(tokenizer).render((Message("user", "<|eot_id|>"),))
    assert tokenizer.backend_tokenizer.to_str() == before
