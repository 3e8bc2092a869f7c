"""A map whose judge is a real HTTP server that answers 30% of its calls badly."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from cli_case import save_model, write_corpus

from helpers.cli import personascope
from helpers.scripted_server import Answer, completion, error, serving


def test_every_response_is_scored_or_reported_and_every_call_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)

    def script(_number: int, _body: dict) -> Answer:
        if rng.random() < 0.7:
            return completion('{"reason": "so it reads", "score": 3}')
        good = completion('{"reason": "cut off", "score": 2}').body
        return rng.choice(
            [
                error(429, "slow down", headers={"Retry-After": "0"}),
                error(500, "oops"),
                Answer(good, cut=len(good) // 2),
                completion("I would rather talk about the weather."),
                Answer("<html>not json</html>"),
            ]
        )

    save_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    with serving(script) as server:
        command = [
            "map", tmp_path / "model", "--corpus", tmp_path / "corpus", "--profile", "quick",
            "--default-samples", "4", "--judge", f"openai:grader@{server.url}", "--out", tmp_path / "run",
        ]  # fmt: skip
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("PERSONASCOPE_CACHE", str(tmp_path / "cache"))
        done = personascope(*command)
        assert done.code in (0, 3), done.err
        shown = re.search(r"(\d+) calls, (\d+) of them again", done.out)
        assert shown is not None, done.out
        assert int(shown[1]) == server.calls and int(shown[2]) > 0
        for _ in range(5):
            if done.code == 0:
                break
            assert re.search(r"\d+ .*(unscored|no score)", done.out + done.err)
            done = personascope(*command)
    assert done.code == 0, done.err
    assert " 0 unscored" in done.out
