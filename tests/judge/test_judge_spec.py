from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import personascope.models
import tiny
from personascope.errors import UsageError
from personascope.judge import OpenAIJudge, RulesJudge, check_judge, parse_judge
from personascope.judge.local._judge import LocalJudge


def test_rules_and_none() -> None:
    assert isinstance(parse_judge("rules"), RulesJudge)
    assert parse_judge("none") is None
    assert isinstance(parse_judge(" rules ", cache=None), RulesJudge)


def test_openai(tmp_path: Path) -> None:
    judge = parse_judge(
        "openai:org/model:free@https://host.example:8/v1/", cache=tmp_path / "c.db", concurrency=2
    )
    assert isinstance(judge, OpenAIJudge)
    assert judge.name == "openai:org/model:free@https://host.example:8/v1"
    again = parse_judge(judge.name)
    assert again is not None
    assert again.name == judge.name
    at = parse_judge("openai:m@v2@http://localhost/v1")
    assert at is not None
    assert at.name == "openai:m@v2@http://localhost/v1"


def test_local(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return tiny.load_tiny("llama")

    monkeypatch.setattr(personascope.models, "load", load)
    judge = parse_judge("local:org/some-model", dtype="float32", batch_size=3)
    assert isinstance(judge, LocalJudge)
    assert asked == [("org/some-model", {"dtype": "float32"})]
    check_judge("local:org/some-model")
    assert len(asked) == 1  # a check loads nothing
    # A CPU without bfloat16 arithmetic is several times faster in float32.
    for able, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        parse_judge("local:org/some-model", device="cpu")
        assert asked[-1] == ("org/some-model", {"dtype": dtype, "device": "cpu"})


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "rule",
        "rules:",
        "rules:x",
        "none:",
        "openai",
        "openai:m",
        "openai:m@host",
        "openai:@http://h",
        "local:",
        "x:y",
    ],
)
def test_bad_spec_is_named_with_the_valid_forms(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_judge(spec)
    assert repr(spec) in str(caught.value)
    for form in ("rules", "openai:MODEL@BASE_URL", "local:MODEL", "none"):
        assert form in caught.value.hint


def test_options_must_belong_to_the_judge() -> None:
    with pytest.raises(UsageError, match="takes no option max_cost"):
        parse_judge("rules", max_cost=1.0)
    with pytest.raises(UsageError, match="takes no option batch_size") as caught:
        parse_judge("openai:m@http://h/v1", batch_size=1)
    assert "concurrency" in caught.value.hint


def test_credentials_in_the_url_are_refused() -> None:
    with pytest.raises(UsageError, match="credentials") as caught:
        parse_judge("openai:m@https://user:secret@host/v1")
    assert "secret" not in str(caught.value)
