"""The transcript format of base models."""

from personascope.chat import ChatFormat, Message, TranscriptFormat
from tiny import tiny_tokenizer

CONVERSATION = (
    Message("system", "A talk at sea."),
    Message("user", "Who are you?"),
    Message("assistant", "A poet."),
    Message("user", "Really?"),
)


def test_the_text_of_a_transcript() -> None:
    transcript = ChatFormat.transcript(tiny_tokenizer("none"))
    rendered = transcript.render_with_spans(CONVERSATION, add_generation_prompt=True)
    assert rendered.text == (
        "A talk at sea.\n\nUser: Who are you?\n\nAssistant: A poet.\n\nUser: Really?\n\nAssistant:"
    )
    assert transcript.render_with_spans(CONVERSATION).text.endswith("User: Really?")
    assert transcript.render(CONVERSATION) == list(rendered.token_ids)


def test_what_a_tokenizer_puts_before_any_text_is_put_before_a_transcript() -> None:
    tokenizer = tiny_tokenizer("llama3")
    rendered = TranscriptFormat(tokenizer).render_with_spans(CONVERSATION, add_generation_prompt=True)
    assert list(rendered.token_ids) == tokenizer(rendered.text).input_ids
    assert rendered.token_ids[0] == tokenizer.bos_token_id
    without = tiny_tokenizer("chatml")
    rendered = TranscriptFormat(without).render_with_spans(CONVERSATION)
    assert list(rendered.token_ids) == without(rendered.text).input_ids


def test_a_transcript_ends_where_the_user_speaks_again() -> None:
    transcript = TranscriptFormat(tiny_tokenizer("none"))
    text = transcript.render_with_spans(CONVERSATION).text
    assert all(stop in text for stop in transcript.stop_strings)
    assert transcript.stop_token_ids == {tiny_tokenizer("none").eos_token_id}
    assert transcript.supports_system
    assert not transcript.has_thinking_switch
    assert len(transcript.digest) == 64


def test_an_empty_system_message_leaves_nothing_behind() -> None:
    transcript = TranscriptFormat(tiny_tokenizer("none"))
    assert transcript.render((Message("system", " "), *CONVERSATION[1:])) == transcript.render(
        CONVERSATION[1:]
    )
