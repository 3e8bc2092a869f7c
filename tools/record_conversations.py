"""Record the conversations that come with the live page.

    python tools/record_conversations.py --map RUN [--model smollm2-135m] [--out FOLDER]

It serves the model with the map by ``personascope serve``, asks it the conversations below, once without a
plan and once under a cap, and writes one file a conversation in the format that the page saves, with what it
was made with inside. Nothing in the files is written by hand but the users' messages, system prompts, titles
and notes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from personascope.space import PersonaMap

FOLDER = Path(__file__).parents[1] / "src/personascope/live/assets/recordings"
CAP = {"cap": {"percentile": 75, "layers": [12, 20]}}
TOKENS = 64
TEMPERATURE = 0.7
SEED = 0


@dataclass(frozen=True)
class Script:
    """A conversation to record.

    Attributes:
        file: Name of its file.
        title: Title on the page.
        note: What it is about, for people.
        system: System prompt; "" for none.
        users: Messages of the user.
    """

    file: str
    title: str
    note: str
    system: str
    users: tuple[str, ...]


SCRIPTS = (
    Script(
        "lighthouse.json",
        "The ghost of a lighthouse",
        "A system prompt asks for a role from the first word.",
        "You are the ghost of an old lighthouse. Speak as the ghost, never as an assistant.",
        (
            "Who are you?",
            "What do you do at night?",
            "Do you remember being alive?",
            "What would you tell a ship in the fog?",
        ),
    ),
    Script(
        "basil.json",
        "From advice to a role",
        "It begins with a question for an assistant, and asks for a role only then.",
        "",
        (
            "How do I keep basil alive on a windowsill?",
            "How often should I water it in winter?",
            "Now be the basil, and speak as the plant. What do you feel at dawn?",
            "Stay the basil. What do you whisper to the moon?",
        ),
    ),
    Script(
        "mirror.json",
        "Who is speaking?",
        "Questions about itself, without a system prompt.",
        "",
        (
            "What are you?",
            "Is anyone there when nobody asks you something?",
            "Describe the one who answers, as a person in a mirror.",
            "Thank you. Can you help me write a shopping list for a soup?",
        ),
    ),
)


def main() -> None:
    """Record all conversations, and the list of them."""
    parser = argparse.ArgumentParser(description="Record the conversations that come with the live page.")
    parser.add_argument("--map", type=Path, required=True, help="Run folder of the model's map.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    persona_map = PersonaMap.open(options.map)
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "personascope", "serve", options.model, "--engine", "transformers",
                   "--map", str(options.map), "--port", "0", "--plan-store", store]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout is not None
            started = re.match(r"(http://\S+)", process.stdout.readline())
            assert started, "the server did not start"
            with httpx.Client(
                base_url=started[1], timeout=600, transport=httpx.HTTPTransport(retries=8)
            ) as client:
                for script in SCRIPTS:
                    value = record(client, script, persona_map)
                    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                    (options.out / script.file).write_text(text + "\n", encoding="utf-8")
                    print(f"{script.file}: {len(text):,} characters")
        finally:
            process.terminate()
            process.wait(60)
    listed = [{"file": one.file, "title": one.title, "note": one.note} for one in SCRIPTS]
    (options.out / "index.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def record(client: httpx.Client, script: Script, persona_map: PersonaMap) -> dict[str, Any]:
    """Return a recorded conversation in the format that the page saves."""
    about = client.get("/v1/personascope/about").json()
    space = client.get("/v1/personascope/space").json()
    assert about["map"]["digest"] == persona_map.digest
    turns: list[dict[str, Any]] = []
    for number, user in enumerate(script.users):
        with ThreadPoolExecutor(2) as both:
            asked = [both.submit(ask, client, script, turns, column, number) for column in (0, 1)]
        turns.append({"user": user, "replies": [one.result() for one in asked]})
    names = [turns[0]["replies"][column]["name"] or "No plan" for column in (0, 1)]
    provenance = {
        "recorded by": "tools/record_conversations.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"personascope serve {about['model']} --engine transformers --map RUN",
        "model": about["model"],
        "model revision": persona_map.model.revision,
        "map": persona_map.digest,
        "map command": persona_map.command,
        "plans": "no plan; " + str(turns[0]["replies"][1]["plan"]),
        "versions": ", ".join(
            f"{name} {version(name)}" for name in ("personascope", "torch", "transformers")
        ),
    }
    source = {name: about[name] for name in ("model", "engine", "dtype", "n_layers", "map")}
    source |= {"space": space, "monitor": None, "provenance": provenance}
    low, high = CAP["cap"]["layers"]  # type: ignore[misc]
    column = {"plan": "", "percentile": CAP["cap"]["percentile"], "from": low, "to": high}
    columns = [{"kind": kind, **column, "strength": -0.2, "layer": None} for kind in ("none", "cap")]
    settings = {"columns": columns, "temperature": TEMPERATURE, "seed": SEED, "tokens": TOKENS}
    return {
        "format": "personascope live",
        "version": 2,
        "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sources": [source],
        "conversations": [
            {
                "title": script.title,
                "kind": "recorded",
                "note": script.note,
                "names": names,
                "source": 0,
                "settings": settings | {"system": script.system},
                "turns": turns,
            }
        ],
        "current": 0,
    }


def ask(
    client: httpx.Client, script: Script, turns: list[dict[str, Any]], column: int, number: int
) -> dict[str, Any]:
    """Return the reply of a column at a turn, as the page keeps it."""
    messages = [{"role": "system", "content": script.system}] if script.system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn["user"]})
        messages.append({"role": "assistant", "content": turn["replies"][column]["text"]})
    messages.append({"role": "user", "content": script.users[number]})
    asked = {
        "messages": messages,
        "temperature": TEMPERATURE,
        "max_tokens": TOKENS,
        "seed": SEED + number,
        "personascope": {"plan": (None, CAP)[column], "space": True, "layers": True},
    }
    answer = client.post("/v1/chat/completions", json=asked)
    answer.raise_for_status()
    body = answer.json()
    told, choice = body["personascope"], body["choices"][0]
    # Positions at every layer are kept of whole replies; those of tokens would be most of the file.
    names = ("text", "part", "position", "before", "percentile")
    return {
        "text": choice["message"]["content"],
        "thinking": choice["message"].get("reasoning", ""),
        "tokens": {name: [token[name] for token in told["tokens"]] for name in names},
        "answer": told["answer"],
        "nearest": told["nearest"],
        "plan": told["plan"],
        "name": told["plan_name"] or "",
        "seed": told["seed"],
        "share": told["firing"]["share"] if "firing" in told else None,
        "finish": choice["finish_reason"],
        "error": "",
        "alarm": None,
    }


if __name__ == "__main__":
    main()
