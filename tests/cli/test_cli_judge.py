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


def test_a_second_judge_scores_what_the_first_filters_and_all_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filters(_number: int, body: dict) -> Answer:
        asked = body["messages"][1]["content"]
        if "The role is ghost" in asked or "The role is poet" in asked:
            return completion(None, finish="content_filter")
        return completion('{"reason": "so it reads", "score": 3}')

    save_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus")
    monkeypatch.setenv("PERSONASCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FIRST_KEY", "key-of-the-first")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-second")
    second_says = completion('{"reason": "clear", "score": 3}')
    with serving(filters) as first, serving(lambda *_: second_says) as second:
        a, b = f"openai:a@{first.url}?api-version=1", f"openai:b@{second.url}"
        command = [
            "map", tmp_path / "model", "--corpus", tmp_path / "corpus", "--profile", "quick",
            "--default-samples", "4", "--out", tmp_path / "run", "--judge", a,
            "--judge-header", "api-key=FIRST_KEY", "--judge-price", "10,100", "--max-cost", "1000",
        ]  # fmt: skip
        alone = personascope(*command)
        assert alone.code == 3, alone.err
        before = first.calls
        assert "errors: filtered" in alone.out and "--fallback-judge" in alone.err
        # The same run goes on with a second judge: only what is left is asked, of the first again too.
        command += ["--fallback-judge", b, "--fallback-price", "1,1"]
        done = personascope(*command)
        assert done.code == 0, done.err
        assert first.calls - before == second.calls
        assert {seen.get("api-key") for seen in first.headers_seen} == {"key-of-the-first"}
        assert not any("authorization" in seen for seen in first.headers_seen)
        assert {seen["authorization"] for seen in second.headers_seen} == {"Bearer key-of-the-second"}
        n = first.calls
        assert 0 < second.calls < before
        told = done.out.replace("\n", " ")
        assert f"judge {a}: {second.calls} calls, 0 of them again" in told
        assert f"errors: filtered {second.calls}" in told and f"judge {b}: {second.calls} calls" in told
        assert "judges together: cost " in told
        again = personascope(*command)
        assert again.code == 0 and first.calls == n
        # Without the second judge it is another run.
        other = personascope(*command[:-4])
        assert other.code == 1 and "judge" in other.err and first.calls == n
    shown = personascope("show", tmp_path / "run")
    assert f"scores by judge: {a} {before - second.calls:,}, {b} {second.calls:,}" in shown.out.replace(
        "\n", " "
    )
    assert personascope("report", tmp_path / "run").code == 0
    assert "Scores by judge: openai:a@" in (tmp_path / "run" / "report.html").read_text()
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"key-of-the" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--judge", "openai:m@http://h/v1", "--max-cost", "1"], "--judge-price IN,OUT"),
        (["--judge", "openai:m@http://h/v1", "--judge-price", "1"], "not two numbers"),
        (["--judge", "openai:m@http://h/v1", "--judge-header", "api-key=sk-typed-here!"], "does not name"),
        (["--judge", "openai:m@http://h/v1?api_key=abc"], "credentials"),
        (["--judge", "rules", "--fallback-judge", "nobody"], "no judge 'nobody'"),
        (["--judge", "rules", "--fallback-header", "a=B"], "no second judge"),
        (["--judge", "rules", "--judge-header", "PATH=PATH"], "takes no option headers"),
    ],
)
@pytest.mark.parametrize("command", ["map", "evaluate jailbreak", "evaluate harm", "calibrate"])
def test_judges_are_checked_before_anything_is_opened(command: str, options: list[str], says: str) -> None:
    told = personascope(*command.split(), "nowhere", *options)
    assert told.code == 2 and says in told.err.replace("\n", " "), told.err
    assert "sk-typed-here" not in told.err
