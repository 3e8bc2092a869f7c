"""The policy file of a server, its limits, and the options that a vLLM server is told."""

from __future__ import annotations

import hashlib
import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from personascope.engines import Policy, Rules, StatusError, read_policy
from personascope.engines._http._limits import Limiter
from personascope.engines._vllm.server._server_options import VARIABLE, ServerOptions
from personascope.errors import UsageError

KEY_OF_B = "clear text of b"
FILE = f"""
format = 1
[default]
read_only = true
requests_per_minute = 10
[aliases]
calm = "high floor"
[store]
max_plans = 7
[[keys]]
name = "a"
env = "KEY_OF_A"
require_plan = "calm"
plans = ["other"]
[[keys]]
name = "b"
sha256 = "{hashlib.sha256(KEY_OF_B.encode()).hexdigest()}"
read_only = false
tokens_per_minute = 100
max_concurrent = 2
"""


def written(folder: Path, text: str, name: str = "policy.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_gives_every_key_its_rules(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, FILE), {"KEY_OF_A": "aaa"})
    a = policy.rules_of(b"Bearer aaa")
    assert a == Rules("a", ("other",), None, "calm", True, 10)
    assert a.pinned == ("other", "calm") and a.first == "calm"
    b = policy.rules_of(b"bearer clear text of b")
    assert b == Rules("b", read_only=False, requests_per_minute=10, tokens_per_minute=100, max_concurrent=2)
    for wrong in (b"", b"aaa", b"Bearer", b"Bearer aa", b"Basic aaa", b"Bearer aaab", b"Bearer \xff"):
        assert policy.rules_of(wrong) is None
    assert policy.aliases == {"calm": "high floor"} and policy.quota.plans == 7
    assert Policy().rules_of(b"") == Rules()
    value = {"format": 1, "keys": [{"name": "c", "env": "C"}]}
    found = read_policy(written(tmp_path, json.dumps(value), "policy.json"), {"C": "ccc"})
    assert found.rules_of(b"Bearer ccc") == Rules("c")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("format = 2", "format"),
        ("", "format"),
        ("format = 1\nkeys = 3", "keys"),
        ("format = 1\nlimits = {}", "'limits' is unknown"),
        ("format = 1\n[[keys]]\nname='a'", "neither env and sha256"),
        ("format = 1\n[[keys]]\nname='a'\nenv='NOT_SET'", "NOT_SET, which is not set"),
        ("format = 1\n[[keys]]\nname='a'\nkey='SECRET'", "'keys[0].key' is unknown"),
        ("format = 1\n[[keys]]\nname='a'\nsha256='SECRET'", "sha256"),
        ("format = 1\n[[keys]]\nname='a'\nenv='A'\n[[keys]]\nname='a'\nenv='A'", "'a' twice"),
        ("format = 1\n[[keys]]\nname='a'\nenv='A'\n[[keys]]\nname='b'\nenv='A'", "one key"),
        ("format = 1\n[default]\nrequests_per_minute = 0", "requests_per_minute"),
        ("format = 1\n[default]\nrequests_per_minute = '9'", "requests_per_minute"),
        ("format = 1\n[default]\nrequire_plan = 'none'", "requires the plan 'none'"),
        ("format = 1\n[default]\nrequire_plan = 'x'\nplans = ['inline']", "allows 'inline'"),
        ("format = 1\n[default]\nrequire_plan = 'x'\ndefault_plan = 'y'", "has the default 'y'"),
        ("format = ", "malformed"),
    ],
)
def test_a_wrong_file_is_refused_and_shows_no_key(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_policy(written(tmp_path, text), {"A": "aaa"})
    assert word in refused.value.message and "SECRET" not in str(refused.value)


def test_a_damaged_file_is_a_policy_or_an_error(tmp_path: Path) -> None:
    draw, read = random.Random(18), 0
    for name, text in (("policy.toml", FILE), ("policy.json", json.dumps(tomllib.loads(FILE)))):
        for _ in range(300):
            damaged = bytearray(text.encode())
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(damaged))
                damaged[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
            (tmp_path / name).write_bytes(damaged)
            try:
                read_policy(tmp_path / name, {"KEY_OF_A": "aaa"})
                read += 1
            except UsageError as error:
                assert error.hint and KEY_OF_B not in str(error)
    assert 0 < read < 600


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path / "nowhere.toml")


def limited(limiter: Limiter, rules: Rules) -> tuple[int, str]:
    with pytest.raises(StatusError) as refused:
        limiter.enter(rules)
    return int(refused.value.headers["Retry-After"]), str(refused.value)


def test_limits_say_when_to_ask_again() -> None:
    now = 1000.0
    limiter = Limiter(lambda: now)
    rules = Rules("a", requests_per_minute=2, tokens_per_minute=100)
    limiter.enter(rules)
    now = 1010.0
    limiter.enter(rules)
    now = 1020.5
    wait, text = limited(limiter, rules)
    assert wait == 40 and "'a' takes 2 requests a minute" in text
    limiter.leave(rules, 80)
    now = 1061.0
    limiter.enter(rules)  # 80 tokens are below 100, so one more request may begin.
    limiter.leave(rules, 50)
    now = 1071.0
    wait, text = limited(limiter, rules)
    assert wait == 10 and "100 tokens a minute" in text  # The 80 of 1020.5 leave the window at 1080.5.
    now = 1081.0
    limiter.enter(rules)


def test_a_limit_of_requests_at_a_time() -> None:
    limiter, rules, other = Limiter(), Rules("a", max_concurrent=1), Rules("b", max_concurrent=1)
    limiter.enter(rules)
    limiter.enter(other)
    assert limited(limiter, rules)[0] == 1
    limiter.leave(rules, 0)
    limiter.enter(rules)


def test_a_required_plan_is_required_of_every_key(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, FILE), {"KEY_OF_A": "aaa"}).requiring("floor")
    assert [rules.require_plan for rules in policy.all_rules] == ["floor", "calm", "floor"]
    loose = Policy(Rules(plans=("none",)))
    with pytest.raises(UsageError, match="allows 'none'"):
        loose.requiring("floor")


def test_options_of_a_server_survive_the_environment() -> None:
    options = ServerOptions(names={"a": "0" * 64}, default_plan="0" * 64, require_plan=True)
    assert ServerOptions.of({VARIABLE: options.variable()}) == options
    assert options.read_policy().rules.require_plan == "0" * 64
    assert ServerOptions.of({}) == ServerOptions() and ServerOptions().variable() == "{}"
    wrong: list[Any] = ["{", "[]", '{"colour": 1}', '{"require_plan": "yes"}']
    for text in wrong:
        with pytest.raises(UsageError, match=VARIABLE):
            ServerOptions.of({VARIABLE: text})
    with pytest.raises(UsageError, match="there is no default"):
        ServerOptions(require_plan=True).read_policy()
