"""The command line on models that think: options, what is said, and what is projected afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat.reply_templates import SHAPES
from helpers.cli import personascope
from helpers.scripted import save_family, script_replies
from personascope.engines import Request
from tiny import family_tokenizer

WORDS = (
    *("keeper", "lighthouse", "letter", "sea", "evening", "pirate"),
    *("poet", "planner", "harbour", "dawn", "accountant", "model"),
)
SMALL = [
    *("--profile", "quick", "--roles", 5, "--prompts", 2, "--questions", 4, "--default-samples", 4),
    *(
        "--max-new-tokens",
        24,
        "--judge",
        "none",
        "--vectors",
        "rubric",
        "--no-role-information",
        "--keep",
        "all",
    ),
    *("--engine", "transformers", "--dtype", "float32", "--device", "cpu"),
]


def script(patch: pytest.MonkeyPatch, name: str) -> None:
    tokenizer = family_tokenizer(SHAPES[name].family)

    def reply(request: Request) -> list[int]:
        place = sum(request.id.encode())
        thought, answer = WORDS[place % 12], f"{WORDS[place // 3 % 12]} {WORDS[place // 7 % 12]}"
        opened = "" if name == "r1_distill" else "<think>\n"
        text = f"{opened}{thought}\n</think>\n\n{answer}{SHAPES[name].family.eos}"
        return tokenizer(text, add_special_tokens=False).input_ids

    script_replies(patch, reply)


def test_thinking_is_switched_on_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_family(SHAPES["qwen3"].family, tmp_path / "model")
    script(monkeypatch, "qwen3")
    made = personascope("map", model, "--out", tmp_path / "run", "--thinking", "on", *SMALL)
    assert made.code == 0, made.err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["identity"]["model"]["chat_options"] == {"thinking": "on"}
    assert json.loads((tmp_path / "run" / "map" / "map.json").read_text())["model"]["chat_options"] == {
        "thinking": "on"
    }
    # Another format of the chat is another run.
    off = personascope("map", model, "--out", tmp_path / "run", *SMALL)
    assert off.code == 1
    assert "holds another run" in off.err
    # What follows renders as the map did, and reads the part that it is asked for.
    talk = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "<think>\nkeeper, sea\n</think>\n\npoet"},
    ]
    (tmp_path / "talk.json").write_text(json.dumps(talk))
    found = {}
    for part in ("answer", "thinking", "response"):
        ran = personascope(
            "project", tmp_path / "run", tmp_path / "talk.json", "--part", part, "--format", "json"
        )
        assert ran.code == 0, ran.err
        entry = json.loads(ran.out)
        assert entry["repairs"] == "the reasoning of 1 message kept apart"
        found[part] = entry["turns"][-1]
    assert found["answer"]["text"] == "poet"
    assert found["answer"]["tokens"] + found["thinking"]["tokens"] < found["response"]["tokens"]
    refused = personascope("project", tmp_path / "run", tmp_path / "talk.json", "--part", "thoughts")
    assert refused.code == 2
    assert "no selection of tokens 'thoughts'" in refused.err


def test_a_model_without_a_switch_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_family(SHAPES["r1_distill"].family, tmp_path / "model")
    script(monkeypatch, "r1_distill")
    made = personascope("map", model, "--out", tmp_path / "run", "--thinking", "off", *SMALL)
    assert made.code == 0, made.err
    assert made.err.count("thinks before it answers") == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("qwen3", ["--template-arg", "enable_thinkin=true"], "did you mean 'enable_thinking'?"),
        ("qwen3", ["--template-arg", "true"], "is not name=value"),
        ("llama32", ["--thinking", "on"], "does not think before its answer"),
    ],
)
def test_options_that_the_template_does_not_know(
    name: str, options: list[str], said: str, tmp_path: Path
) -> None:
    model = save_family(SHAPES[name].family, tmp_path / "model")
    ran = personascope("map", model, "--out", tmp_path / "run", *options, *SMALL)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert not (tmp_path / "run").exists()
