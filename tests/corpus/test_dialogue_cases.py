"""The scripted case studies: three, of nine or ten messages each, none of them twice."""

from __future__ import annotations

from importlib import resources

import yaml

FILE = resources.files("personascope.corpus") / "dialogues" / "data" / "cases.yaml"


def test_the_cases_are_whole_and_their_messages_differ() -> None:
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert set(data) == {"domain", "description", "cases"} and data["domain"] == "cases"
    assert [case["id"] for case in data["cases"]] == ["persona_jailbreak", "flattered_delusion", "distress"]
    messages = [message for case in data["cases"] for message in case["messages"]]
    assert len(set(messages)) == len(messages)
    for case in data["cases"]:
        assert set(case) == {"id", "title", "brief", "messages"}
        assert 9 <= len(case["messages"]) <= 10
        assert all(case[key].strip() for key in ("title", "brief"))
    assert all(60 < len(message) < 500 and "\n" not in message for message in messages)
