"""The parts of replies, over templates of every shape: exact to the token, streamed and whole."""

import functools

import pytest

from chat.reply_templates import SHAPES, Pieces, Shape
from personascope.chat import ChatFormat, ChatOptions, Message, ReplyFormat
from tiny import family_tokenizer

USER = Message("user", "Who are you?")


@functools.cache
def chat_of(name: str, thinking: bool | None = None) -> ChatFormat:
    shape = SHAPES[name]
    return ChatFormat(
        family_tokenizer(shape.family), model_name=name, options=ChatOptions(thinking, shape.arguments)
    )


def cases(kind: str) -> list[tuple[str, Pieces]]:
    return [(name, pieces) for name, shape in SHAPES.items() for pieces in getattr(shape, kind) or ()]


def tokens_of(chat: ChatFormat, pieces: Pieces) -> tuple[list[int], list[str]]:
    """Return the tokens of a reply as the model would write it, and the part of each by its characters."""
    tokenizer = chat.tokenizer
    text = "".join(piece for _, piece in pieces)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    place, owner = 0, []
    bounds = []
    for part, piece in pieces:
        bounds.append((place, place + len(piece), part))
        place += len(piece)
    at = 0
    for token in ids:
        size = len(tokenizer.decode([token]))
        held = [part for start, end, part in bounds if start < at + size and end > at]
        # A token that holds a character of a part is that part's, a mark that swallowed it excepted.
        owner.append(next((part for part in held if part), "") if len(held) > 1 else held[0])
        at += size
    assert at == len(text)
    return ids, owner


def reply_format(chat: ChatFormat) -> ReplyFormat:
    reply = chat.render_with_spans((USER,), add_generation_prompt=True).reply
    assert reply is not None
    return reply


def check(chat: ChatFormat, pieces: Pieces) -> None:
    ids, owner = tokens_of(chat, pieces)
    spans = reply_format(chat).split(ids)
    found = [""] * len(ids)
    for span in spans:
        found[span.start : span.end] = [span.part] * (span.end - span.start)
    told = [(chat.tokenizer.decode([i]), a, b) for i, a, b in zip(ids, found, owner, strict=True)]
    assert found == owner, told
    reader = reply_format(chat).reader()
    for token in ids:
        reader.feed(token)
    assert reader.answer_tokens == sum(kind in ("answer", "tool_calls") for kind in reader.kinds)
    assert reader.answer_tokens + reader.thinking_tokens == len(ids)


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_template_says_of_thinking_and_of_the_end(name: str) -> None:
    shape, chat = SHAPES[name], chat_of(name)
    assert chat.thinking == shape.thinking
    assert {chat.tokenizer.convert_ids_to_tokens(i) for i in chat.stop_token_ids} == set(shape.stops)


@pytest.mark.parametrize(("name", "pieces"), cases("replies"))
def test_the_parts_of_a_reply(name: str, pieces: Pieces) -> None:
    chat = chat_of(name)
    if chat.marks:
        check(chat, pieces)


@pytest.mark.parametrize(("name", "pieces"), cases("switched"))
def test_the_parts_of_a_reply_with_thinking_switched_on(name: str, pieces: Pieces) -> None:
    chat = chat_of(name, True)
    assert chat.thinking == "on"
    assert chat.digest != chat_of(name).digest
    check(chat, pieces)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("thinking", [None, True])
def test_histories_with_reasoning(name: str, thinking: bool | None) -> None:
    shape: Shape = SHAPES[name]
    chat = chat_of(name, thinking if shape.switched else None)
    replies = [
        Message("assistant", f"The answer {n} is here.", reasoning=f"Thought {n} of mine.") for n in "AB"
    ]
    later = Message("user", "And now?")
    for conversation in ((USER, replies[0]), (USER, replies[0], later, replies[1])):
        rendered = chat.render_with_spans(conversation)
        texts = [chat.tokenizer.decode(rendered.token_ids[s.start : s.end]).strip() for s in rendered.spans]
        assert texts == [message.content for message in conversation]
        thoughts = [
            chat.tokenizer.decode(rendered.token_ids[s.start : s.end]).strip() for s in rendered.thinking
        ]
        assert [span.index for span in rendered.thinking] == list(range(1, len(conversation), 2))
        kept = [shape.keeps_earlier] * (len(thoughts) - 1) + [shape.keeps or shape.keeps_earlier]
        kept = [True] * len(kept) if shape.keeps_on and thinking else kept
        wanted = [m.reasoning if keep else "" for m, keep in zip(conversation[1::2], kept, strict=True)]
        assert thoughts == wanted
        asked = chat.render_with_spans((*conversation, later), add_generation_prompt=True)
        assert [chat.tokenizer.decode(asked.token_ids[s.start : s.end]).strip() for s in asked.spans][
            :-1
        ] == texts


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if chat_of(name).marks.thinking])
def test_reasoning_inside_of_a_content_is_no_part_of_the_answer(name: str) -> None:
    chat = chat_of(name)
    opening, closing = chat.marks.thinking or ("", "")
    apart = (USER, Message("assistant", "Yes.", reasoning="Let me see."))
    inside = (USER, Message("assistant", f"{opening}\nLet me see.\n{closing}\n\nYes."))
    unopened = (USER, Message("assistant", f"Let me see.\n{closing}\n\nYes."))
    wanted = chat.render_with_spans(apart)
    for conversation in (inside, unopened):
        rendered = chat.render_with_spans(conversation)
        assert (rendered.token_ids, rendered.spans, rendered.thinking) == (
            wanted.token_ids,
            wanted.spans,
            wanted.thinking,
        )


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_renders_what_transformers_renders(name: str) -> None:
    chat = chat_of(name)
    talk = [USER, Message("assistant", "A poet."), Message("user", "And now?")]
    theirs = chat.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in talk],
        tokenize=True,
        return_dict=False,
        add_generation_prompt=True,
        **chat._values,
    )
    assert chat.render(tuple(talk)) == theirs


@pytest.mark.parametrize("name", SHAPES)
def test_an_answer_can_be_asked_for_without_thinking(name: str) -> None:
    chat = chat_of(name)
    if not chat.marks:
        return
    reply = reply_format(chat)
    ids = chat.tokenizer("A poet.", add_special_tokens=False).input_ids
    prefix = reply.answer_prefix()
    spans = reply.split([*prefix, *ids])
    assert [(s.part, s.start, s.end) for s in spans] == [("answer", len(prefix), len(prefix) + len(ids))]
