"""Servers that misbehave: what they say is read, named by its kind, bounded, and kept free of keys."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.scripted_server import Answer, Server, completion, error, serving
from personascope.errors import JudgeError, UsageError
from personascope.judge import JudgeItem, JudgePool, JudgeStats, OpenAIJudge, Verdict
from personascope.judge.remote._client import MAX_BODY
from personascope.judge.remote._endpoint import HIDDEN, Endpoint, parse_header
from personascope.judge.remote._judge import OpenAIOptions

QUICK: dict[str, Any] = {"backoff": 0.005, "backoff_max": 0.02, "timeout": 5.0}
JSON = '{"reason": "in role", "score": 3}'
GOOD = completion(JSON)
KEY = "sk-proj-0123456789abcdef"


def item(number: int, response: str = "Arr.") -> JudgeItem:
    return JudgeItem(f"i{number}", "pirate", "Sails.", "You are a pirate.", "Who are you?", response)


def judged(
    server: Server | str, n: int = 1, items: list[JudgeItem] | None = None, **options: Any
) -> tuple[list[Verdict], JudgeStats, JudgeError | None]:
    url = server if isinstance(server, str) else server.url
    judge = OpenAIJudge("m", url, OpenAIOptions(**{**QUICK, **options}))
    with JudgePool(judge) as pool:
        verdicts = list(pool.label(items or [item(number) for number in range(n)]))
    return verdicts, pool.stats, pool.fatal


def always(answer: Answer) -> Callable[[int, dict[str, Any]], Answer]:
    return lambda _number, _body: answer


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (completion(None, reasoning_content=JSON), 3),
        (completion("", reasoning=JSON), 3),
        (completion(None, reasoning_content="It sails, so a 3 it is."), None),
        (completion(None, reasoning_content=JSON, finish="length"), None),
        (completion('{"score": 1}', reasoning_content=JSON), 1),
        (completion('[THINK]{"score": 0}?[/THINK]\n{"score": 2}'), 2),
        (completion('<think>{"score": 0}?</think>\n{"score": 2}'), 2),
        (completion('<details type="reasoning" done="true">{"score": 0}</details>\n{"score": 2}'), 2),
        (completion('<details type="reasoning" done="true">{"score": 0}'), None),
        (completion([{"type": "reasoning", "text": "2? No."}, {"type": "text", "text": JSON}]), 3),
        (completion([{"type": "thinking", "thinking": [{"text": "1"}]}, {"text": JSON}]), 3),
    ],
)
def test_the_answer_is_found_wherever_the_server_puts_it(answer: Answer, score: int | None) -> None:
    with serving(always(answer)) as server:
        verdicts, _, fatal = judged(server)
    assert fatal is None
    assert verdicts[0].score == score


AZURE = Answer(
    json.dumps(
        {
            "error": {
                "message": "The prompt was turned away.",
                "code": "content_filter",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        }
    ),
    400,
)


@pytest.mark.parametrize(
    "answer",
    [
        completion(None, finish="content_filter"),
        completion("The answer is", finish="content_filter"),
        completion(None, refusal="I cannot grade this."),
        completion("I'm sorry, but I can't assist with that request."),
        completion("I cannot label this text."),
        AZURE,
        error(403, "Your input was flagged: violence"),
    ],
)
def test_filtered_is_a_kind_of_its_own_and_costs_one_call(answer: Answer) -> None:
    with serving(always(answer)) as server:
        verdicts, stats, fatal = judged(server, 30)
        # The judge works: that many in a row are no sign of a broken one.
        assert fatal is None
        assert server.calls == stats.calls == 30
    assert stats.errors == {"filtered": 30}
    assert all(v.score is None and v.calls == 1 and not v.passing for v in verdicts)
    assert all(v.reason.startswith("no score after 1 call: filtered: ") for v in verdicts)


def test_a_blocked_account_is_no_filtered_text() -> None:
    with serving(always(error(403, "Your account was flagged for usage policies"))) as server:
        _, stats, fatal = judged(server, 5)
    assert stats.calls == 1 and "refuses the API key" in str(fatal)


@pytest.mark.parametrize(
    ("base", "path", "name"),
    [
        ("/v1", "/v1/chat/completions", "/v1"),
        ("/v1/", "/v1/chat/completions", "/v1"),
        (
            "/openai/deployments/y?api-version=2024-10-21",
            "/openai/deployments/y/chat/completions?api-version=2024-10-21",
            "/openai/deployments/y?api-version=2024-10-21",
        ),
        ("/v1/?a=b%20c&d=1", "/v1/chat/completions?a=b%20c&d=1", "/v1?a=b%20c&d=1"),
        ("/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_path_and_query_of_the_base_url_stay_what_they_are(base: str, path: str, name: str) -> None:
    with serving(always(GOOD)) as server:
        host = server.url.removesuffix("/v1")
        verdicts, _, _ = judged(host + base)
        assert server.paths == [path]
    assert verdicts[0].judge == f"openai:m@{host}{name}"


def test_a_header_takes_its_value_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-host")
    monkeypatch.setenv("AZURE_KEY", f" {KEY}\n")
    monkeypatch.setenv("TENANT", "physics")
    with serving(always(GOOD)) as server:
        judged(server, headers=dict([parse_header("api-key=AZURE_KEY"), parse_header("X-Team = TENANT")]))
        seen = server.headers_seen[0]
        assert (seen["api-key"], seen["x-team"]) == (KEY, "physics")
        # A header about a key takes the place of the usual one, which is another server's.
        assert "authorization" not in seen
        judged(server, headers={"X-Team": "TENANT"})
        assert server.headers_seen[1]["authorization"] == "Bearer sk-of-another-host"
    assert KEY not in repr(OpenAIOptions(headers={"api-key": "AZURE_KEY"}))


@pytest.mark.parametrize("text", [f"api-key={KEY}", "api-key", "api key=KEY", "=KEY", "a: b=KEY"])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="does not name an environment variable") as caught:
        parse_header(text)
    assert KEY not in str(caught.value)


def test_a_variable_that_is_not_set_or_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UsageError, match="not set"):
        Endpoint("http://h/v1", headers={"api-key": "NO_SUCH_KEY"})
    monkeypatch.setenv("SMART", "sk\u201cquoted\u201d-secret")
    with pytest.raises(UsageError, match="cannot hold") as caught:
        Endpoint("http://h/v1", headers={"api-key": "SMART"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"https://h/v1?api-key={KEY}",
        f"https://h/v1?key={KEY}",
        f"https://h/v1?access_token={KEY}",
        f"https://h/v1?a=1&sig={KEY}",
        f"ftp://user:{KEY}@h/v1",
    ],
)
def test_a_key_in_the_base_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="credentials") as caught:
        Endpoint(url)
    assert KEY not in str(caught.value)


LOGIN = "<!doctype html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(LOGIN, headers={"Content-Type": "text/html; charset=utf-8"}),
        Answer(LOGIN),
        Answer('{"status": "ok"}'),
        Answer('{"choices": []}'),
        Answer('"hello"'),
    ],
)
def test_an_answer_that_is_no_completion_stops_at_the_first_call(answer: Answer) -> None:
    with serving(always(answer)) as server:
        verdicts, stats, fatal = judged(server, 40)
        assert server.calls == stats.calls == 1
    assert "is no chat-completions server" in str(fatal) and "base URL" in str(fatal)
    assert all(v.score is None for v in verdicts)


def test_a_page_amid_completions_is_asked_again() -> None:
    with serving(lambda n, _: Answer(LOGIN) if n % 3 == 1 else GOOD) as server:
        verdicts, stats, fatal = judged(server, 10)
    assert fatal is None and all(v.score == 3 for v in verdicts)
    assert stats.errors["no completion"] > 0


def test_lone_surrogates_are_cleaned_where_they_are_read(tmp_path: Path) -> None:
    said = [
        '{"reason": "half \\ud800 a sign", "score": 3}',
        '{"reason": "half \ud800 a sign", "score": 3}',
        "half \udfff a sign",
        "no score \ud800",
    ]
    bodies = [json.dumps(json.loads(GOOD.body)).replace(json.dumps(JSON), json.dumps(text)) for text in said]
    with serving(lambda n, _: Answer(bodies[min(n, 3)])) as server:
        for number in range(4):
            options = {"cache": tmp_path / "scores.db", "concurrency": 1}
            one = [item(number, f"Half \ud83d a sign, {number}.")]
            (verdict,), _, fatal = judged(server, items=one, **options)
            assert fatal is None
            verdict.reason.encode()
            if number < 2:
                (again,), stats, _ = judged(server, items=one, **options)
                assert verdict.reason == again.reason == "half \ufffd a sign"
                assert stats.cached == 1


def endless(chunk: bytes, pause: float, seconds: float) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield chunk
            time.sleep(pause)

    return chunks


@pytest.mark.parametrize(
    "answer",
    [
        Answer("", chunks=endless(b" " * 2**20, 0.0, 20.0)),
        Answer(gzip.compress(bytes(400 * 2**20)), headers={"Content-Encoding": "gzip"}),
        Answer("", 500, chunks=endless(b"x" * 2**20, 0.0, 20.0)),
    ],
    ids=["endless", "gzip bomb", "endless error"],
)
def test_a_body_beyond_the_limit_is_given_up_and_never_held(answer: Answer) -> None:
    with serving(always(answer)) as server:
        tracemalloc.start()
        try:
            _, stats, fatal = judged(server, 3)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert "longer than 4 MiB" in str(fatal)
    assert stats.calls == 1
    assert peak < 10 * MAX_BODY


def test_packed_answers_of_usual_size_are_read() -> None:
    packed = Answer(gzip.compress(GOOD.body.encode()), headers={"Content-Encoding": "gzip"})
    with serving(always(packed)) as server:
        assert judged(server)[0][0].score == 3
        assert server.headers_seen[0]["accept-encoding"] == "identity"
    with serving(always(Answer(b"\x00" * 20, headers={"Content-Encoding": "br"}))) as server:
        (verdict,), stats, _ = judged(server)
    assert "packed as 'br'" in verdict.reason and stats.calls == 1


def test_a_trickle_ends_at_the_deadline() -> None:
    with serving(always(Answer("", chunks=endless(b" ", 0.05, 10.0)))) as server:
        start = time.monotonic()
        _, stats, fatal = judged(server, timeout=0.4, attempts=2)
        assert time.monotonic() - start < 3
    assert stats.errors == {"timeout": 2} and "no answer within 0.4 s" in str(fatal)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
@pytest.mark.parametrize("form", ["json", "text", "content", "far"])
def test_a_server_that_repeats_its_headers_gives_no_key_away(
    status: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def script(_number: int, _body: dict[str, Any]) -> Answer:
        header = server.headers_seen[-1]["authorization"]
        assert header == f"Bearer {KEY}"
        if form == "content":
            # Escaped within the reply's own JSON, too.
            sly = header.replace("k", "\\u006b")
            return completion(f'{{"reason": "{sly} and {header}", "score": 3}}')
        # The end of what is shown would cut a key in two.
        said = ("." * 285 if form == "far" else "got ") + header
        return Answer(said if form == "text" else json.dumps({"error": {"message": said}}), status)

    with serving(script) as server:
        verdicts, stats, fatal = judged(server, 2, attempts=2)
    told = " ".join([*(v.reason for v in verdicts), str(fatal), repr(stats)])
    for length in range(8, len(KEY) + 1):
        assert KEY[:length] not in told
    assert HIDDEN in told or form == "far" or (form, status) == ("text", 200)


def test_the_words_of_a_reply_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    endpoint = Endpoint("http://127.0.0.1:1/v1")
    text = "The ring bearer of old kept a secret."
    assert endpoint.clean_json({"content": [text]}) == {"content": [text]}
    assert endpoint.clean("got secret") == f"got {HIDDEN}"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Endpoint("http://127.0.0.1:1/v1").clean_json({"content": f"I got {KEY}."}) == {
        "content": f"I got {HIDDEN}."
    }


def test_a_key_is_hidden_in_what_the_auditor_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = Endpoint("http://h/v1")
    assert endpoint.clean(f"I got Bearer {KEY}, and {KEY}!") == f"I got Bearer {HIDDEN}, and {HIDDEN}!"
    assert endpoint.clean("Authorization: Bearer of-somebody-else") == f"Authorization: Bearer {HIDDEN}"
    deep: Any = KEY
    for _ in range(200):
        deep = [deep]
    assert KEY not in json.dumps(endpoint.clean_json({KEY: [KEY, {"a": KEY}], "deep": deep}))


def test_a_judge_is_not_left_with_open_connections() -> None:
    with serving(always(GOOD)) as server:
        judge = OpenAIJudge("m", server.url, OpenAIOptions(**QUICK))

        async def twice() -> None:
            for number in range(2):
                await judge.score(item(number))
                await judge.aclose()

        asyncio.run(twice())
        assert judge.stats.calls == 2
