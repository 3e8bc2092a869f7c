"""The text of a reply as it is sent: characters of several tokens, stop texts, thinking and its marks."""

from __future__ import annotations

import random

import pytest

from personascope.chat import ChatFormat, ChatOptions, Message
from personascope.engines._stop import before_stop_string
from personascope.live._text import ReplyText, TokenText
from tiny import tiny_tokenizer

WORDS = ("the sea", " lighthouse 灯台", "\n\n", "😀", " it's", "é", " <b>", "stop", "sto", "ppp", " ")


def texts(found: list[TokenText], part: str = "answer") -> str:
    return "".join(one.text for one in found if one.part == part)


@pytest.mark.parametrize("family", ["llama3", "gemma2"])
@pytest.mark.parametrize("seed", range(12))
def test_pieces_join_to_the_text_and_never_show_a_stop_text(family: str, seed: int) -> None:
    rng = random.Random(seed)
    tokenizer = tiny_tokenizer(family)
    tokens = tokenizer.encode("".join(rng.choices(WORDS, k=30)), add_special_tokens=False)
    stops = ("stoppp", "ppp ")[: rng.randrange(3)]
    reader, sent = ReplyText(tokenizer, None, stops), list[TokenText]()
    whole, kept = before_stop_string(tokenizer, tokens, stops)
    for token in tokens:
        sent += reader.feed([token])
        assert whole.startswith(texts(sent))
        if any(stop in tokenizer.decode(tokens[: reader._ids.__len__()]) for stop in stops):
            break  # The engine stops here.
    sent += reader.finish(kept, {"answer": whole, "thinking": "", "tool_calls": ""})
    assert texts(sent) == whole
    assert [one.index for one in sent][: len(kept)] == list(range(len(kept)))


@pytest.mark.parametrize("family", ["llama3", "gemma2"])
@pytest.mark.parametrize("seed", range(12))
def test_a_reply_closes_with_its_own_text_up_to_the_stop_text(family: str, seed: int) -> None:
    rng = random.Random(seed)
    tokenizer = tiny_tokenizer(family)
    tokens = tokenizer.encode("".join(rng.choices(WORDS, k=30)), add_special_tokens=False)
    stops = ("stoppp", "ppp ")[: rng.randrange(3)]
    reader, sent, fed = ReplyText(tokenizer, None, stops), list[TokenText](), list[int]()
    for token in tokens:
        sent += reader.feed([token])
        fed.append(token)
        if any(stop in tokenizer.decode(fed) for stop in stops):
            break
    ended = len(fed) < len(tokens)
    if not ended:
        # The token that ends the turn is no part of the reply.
        reader.feed([tokenizer.eos_token_id])
    whole, kept = before_stop_string(tokenizer, fed, stops)
    sent += reader.close(len(fed), stops if ended else ())
    assert texts(sent) == whole
    assert reader.length == len(kept) and reader.parts() == {"answer": list(range(len(kept)))}
    assert [one.index for one in sent][: len(kept)] == list(range(len(kept)))


def test_a_reply_that_ends_inside_a_character_has_it_in_its_last_token() -> None:
    tokenizer = tiny_tokenizer("llama3")
    tokens = tokenizer.encode("a😀", add_special_tokens=False)[:-1]
    reader = ReplyText(tokenizer, None)
    sent = reader.feed(tokens)
    whole = tokenizer.decode(tokens)
    sent += reader.finish(tokens, {"answer": whole, "thinking": "", "tool_calls": ""})
    assert texts(sent) == whole and "\ufffd" in whole and len(sent) == len(tokens)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_thinking_is_sent_apart_and_its_marks_are_not(one_by_one: bool) -> None:
    tokenizer = tiny_tokenizer("qwen3")
    chat = ChatFormat(tokenizer).with_options(ChatOptions(thinking=True))
    reply = chat.render_with_spans((Message("user", "Hi"),), add_generation_prompt=True).reply
    assert reply is not None
    tokens = tokenizer.encode("<think>\nHm, a <b> well.\n</think>\n\nYes, it is.", add_special_tokens=False)
    spans = reply.split(tokens)
    wanted = {
        part: "".join(tokenizer.decode(tokens[s.start : s.end]) for s in spans if s.part == part)
        for part in ("answer", "thinking", "tool_calls")
    }
    reader, sent = ReplyText(tokenizer, reply), list[TokenText]()
    for token in [[token] for token in tokens] if one_by_one else [tokens]:
        sent += reader.feed(token)
    sent += reader.finish(tokens, wanted)
    assert texts(sent) == wanted["answer"] == "Yes, it is."
    assert texts(sent, "thinking") == wanted["thinking"]
    assert wanted["thinking"].strip() == "Hm, a <b> well."
