"""Engines opened from the arguments of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from personascope.chat import ChatFormat
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
    save_tiny("llama", tmp_path / "plain")
    with pytest.raises(ChatError):
        open_engine(str(tmp_path / "plain"), {"dtype": "float32", "thinking": "on"})
