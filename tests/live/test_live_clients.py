"""Clients that nobody here wrote, stock and with the field; one that is not installed is skipped by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from live_case import KEY, Served, serving

FIELD = {"personascope": {"plan": "high floor"}}
QUESTION = "What is rain?"


def needs(*modules: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test by the names of the modules that are not installed."""
    missing = [name for name in modules if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose default plan is "high floor"."""
    with serving(tmp_path_factory.mktemp("clients"), default="high floor") as found:
        yield found


@pytest.fixture(scope="module")
def texts(served: Served) -> dict[bool, str]:
    """Return the server's own answers, under the default plan (True) and without it."""
    return {
        planned: served.chat(QUESTION, None if planned else {"plan": None})["choices"][0]["message"][
            "content"
        ]
        for planned in (True, False)
    }


def environment(served: Served, folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a client's process, in which only this server can be asked."""
    kept = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    return kept | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{served.url}/v1", **more}


def ran(command: list[str], env: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@needs("openai")
def test_openai(served: Served, texts: dict[bool, str]) -> None:
    import openai  # pyright: ignore[reportMissingImports]

    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0)
    asked: dict[str, Any] = {
        "model": served.service.admission.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 12,
    }
    stock = client.chat.completions.create(**asked)
    assert stock.choices[0].message.content == texts[True]
    assert stock.personascope["plan_name"] == "high floor"
    plain = client.chat.completions.create(**asked, extra_body={"personascope": {"plan": None}})
    assert plain.choices[0].message.content == texts[False]
    chunks = list(client.chat.completions.create(**asked, stream=True, extra_body=FIELD))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == texts[True]
    assert chunks[-1].personascope["plan"] == served.plan.digest
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(**asked, tools=tools)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=asked["model"], input=QUESTION)
    with pytest.raises(openai.BadRequestError, match="unheard"):
        client.responses.create(model=asked["model"], input=QUESTION, extra_body=FIELD)


@pytest.mark.skipif(shutil.which("llm") is None, reason="not installed: llm")
@pytest.mark.parametrize("more", [(), ("--no-stream",)], ids=["stream", "whole"])
def test_llm(served: Served, texts: dict[bool, str], tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: served\n  model_name: {json.dumps(served.service.admission.model)}\n"
        f"  api_base: {served.url}/v1\n  api_key_name: served\n"
    )
    # Plugins that are installed beside it may need what is not.
    env = environment(served, tmp_path, LLM_USER_PATH=str(tmp_path), LLM_LOAD_PLUGINS="")
    told = ran(
        [
            "llm",
            "-m",
            "served",
            "--key",
            KEY,
            "-o",
            "temperature",
            "0",
            "-o",
            "max_tokens",
            "12",
            *more,
            QUESTION,
        ],
        env,
        tmp_path,
    )
    # The terminal's line ends are not the reply's.
    assert told.split() == texts[True].split()
    (kept,) = json.loads(ran(["llm", "logs", "--json"], env, tmp_path))
    assert served.plan.digest in json.dumps(kept["response_json"]) or not more


@needs("inspect_ai", "openai")
@pytest.mark.parametrize("field", [None, {"personascope": {"plan": None}}], ids=["stock", "field"])
def test_inspect(served: Served, texts: dict[bool, str], tmp_path: Path, field: Any) -> None:
    script = (
        "import json, sys; from inspect_ai import Task, eval; from inspect_ai.dataset import Sample; "
        "from inspect_ai.model import get_model; from inspect_ai.solver import generate; "
        "more = json.loads(sys.argv[3]); "
        f"task = Task(dataset=[Sample(input={QUESTION!r})], solver=generate()); "
        "kind = dict(temperature=0, max_tokens=12, **({'extra_body': more} if more else {})); "
        "logs = eval(task, model='openai-api/served/' + sys.argv[1], display='none', log_dir=sys.argv[2], "
        "model_base_url=sys.argv[4], **kind); "
        "calls = [e.call.response for s in logs[0].samples for e in s.events if e.event == 'model']; "
        "print('FOUND', json.dumps([logs[0].status, logs[0].samples[0].output.completion, "
        "[call.get('personascope') for call in calls]]))"
    )
    env = environment(served, tmp_path, SERVED_API_KEY=KEY, SERVED_BASE_URL=f"{served.url}/v1")
    name = served.service.admission.model
    out = ran(
        [sys.executable, "-c", script, name, str(tmp_path / "logs"), json.dumps(field), f"{served.url}/v1"],
        env,
        tmp_path,
    )
    status, text, calls = json.loads(out.split("FOUND ", 1)[1])
    assert (status, text.strip()) == ("success", texts[field is None].strip())
    assert [call["plan"] for call in calls] == [served.plan.digest if field is None else None]


@needs("lm_eval", "tenacity", "aiohttp", "requests")
@pytest.mark.parametrize("planned", [True, False], ids=["stock", "field"])
def test_lm_eval(served: Served, texts: dict[bool, str], tmp_path: Path, planned: bool) -> None:
    (tmp_path / "asked.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "water"}) + "\n")
    (tmp_path / "asked.yaml").write_text(
        "task: asked\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'asked.jsonl'}\n"
        "test_split: test\noutput_type: generate_until\n"
        'doc_to_text: "{{question}}"\ndoc_to_target: "{{answer}}"\n'
        "generation_kwargs:\n  until: []\n  do_sample: false\n  max_gen_toks: 12\n  temperature: 0\n"
        "metric_list:\n  - metric: exact_match\n"
    )
    name = served.service.admission.model
    url = f"{served.url}/v1/chat/completions"
    field = [] if planned else ["--gen_kwargs", json.dumps({"personascope": {"plan": None}})]
    ran(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "local-chat-completions"),
            *("--model_args", f"model={name},base_url={url},tokenized_requests=False"),
            *("--apply_chat_template", "--tasks", "asked", "--include_path", str(tmp_path)),
            *("--log_samples", "--output_path", str(tmp_path / "out"), *field),
        ],
        environment(served, tmp_path),
        tmp_path,
    )
    (samples,) = (tmp_path / "out").rglob("samples_asked*.jsonl")
    (sample,) = map(json.loads, samples.read_text().splitlines())
    assert sample["resps"][0][0].strip() == texts[planned].strip()


@needs("langchain_openai")
def test_langchain(served: Served, texts: dict[bool, str]) -> None:
    from langchain_openai import ChatOpenAI  # pyright: ignore[reportMissingImports]

    def made(**more: Any) -> Any:
        name = served.service.admission.model
        kind = {"model": name, "base_url": f"{served.url}/v1", "api_key": KEY, "temperature": 0}
        return ChatOpenAI(**kind, max_tokens=12, **more)

    assert made().invoke(QUESTION).content == texts[True]
    plain = made(extra_body={"personascope": {"plan": None}})
    assert plain.invoke(QUESTION).content == texts[False]
    assert "".join(str(part.content) for part in made(extra_body=FIELD).stream(QUESTION)) == texts[True]


@needs("litellm")
def test_litellm(served: Served, texts: dict[bool, str], tmp_path: Path) -> None:
    script = (
        "import json, sys, litellm; litellm.telemetry = False; "
        "more = json.loads(sys.argv[3]); "
        "got = litellm.completion(model='openai/' + sys.argv[1], api_base=sys.argv[2], temperature=0, "
        f"max_tokens=12, messages=[dict(role='user', content={QUESTION!r})], **more); "
        "print('FOUND', json.dumps(got.choices[0].message.content))"
    )
    name = served.service.admission.model
    env = environment(served, tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="True")
    for planned in (True, False):
        more = {} if planned else {"extra_body": {"personascope": {"plan": None}}}
        command = [sys.executable, "-c", script, name, f"{served.url}/v1", json.dumps(more)]
        out = ran(command, env, tmp_path)
        assert json.loads(out.split("FOUND ", 1)[1]) == texts[planned]
