"""Engines opened from the arguments of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from personascope.chat import ChatFormat, ChatOptions
from personascope.engines import load_engine
from personascope.errors import ChatError, UsageError
from personascope.evals._open_engine import open_engine
from tiny import save_tiny, tiny_tokenizer


def test_thinking_is_switched_as_it_is_asked_for(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path / "thinks")
    tiny_tokenizer("qwen3").save_pretrained(tmp_path / "thinks")
    digests: dict[object, str] = {}
    for asked in (None, "off", "on", False, True):
        engine = open_engine(str(tmp_path / "thinks"), {"dtype": "float32", "thinking": asked})
        assert isinstance(engine.chat, ChatFormat)
        assert engine.chat.template_options == {"enable_thinking": asked in ("on", True)}
        digests[asked] = engine.info.chat_digest
    assert digests["on"] == digests[True] != digests["off"] == digests[False] == digests[None]
    with pytest.raises(UsageError, match="thinking is 'maybe'"):
        open_engine(str(tmp_path / "thinks"), {"thinking": "maybe"})
    with pytest.raises(ChatError, match="plain transcript, which has no options"):
        open_engine(str(tmp_path / "thinks"), {"dtype": "float32", "thinking": "on"}, chat="transcript")
    save_tiny("llama", tmp_path / "plain")
    with pytest.raises(ChatError):
        open_engine(str(tmp_path / "plain"), {"dtype": "float32", "thinking": "on"})


def test_options_of_a_transcript_are_refused_before_workers_start(tmp_path: Path) -> None:
    thinks = ChatOptions(thinking=True)
    with pytest.raises(ChatError, match="plain transcript, which has no options"):
        load_engine(str(tmp_path / "nowhere"), transcript=True, chat_options=thinks, workers=2)
