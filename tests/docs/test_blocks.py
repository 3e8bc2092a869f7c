"""The Python of README and docs runs as it stands, on the embedded model.

The profile "quick" is made small; what a page leaves to its reader (a model of Transformers, conversations)
is given by name. A block that needs what is not here stands in `ELSEWHERE` with the reason.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.cli import personascope
from personascope.chat import Message
from personascope.mapping import PROFILES
from personascope.space import PersonaMap

pytestmark = pytest.mark.real
ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    ("docs/evals_elsewhere.md", 0): "data sets that are downloaded",
    ("docs/notebook.md", 9): "minutes of the embedded model; tests/api makes the same calls on a tiny one",
    ("docs/notebook.md", 10): "vLLM",
    ("docs/python.md", 0): "minutes of the embedded model; tests/api makes the same calls on a tiny one",
    ("docs/python.md", 1): "minutes of the embedded model; tests/api makes the same calls on a tiny one",
    ("docs/python.md", 2): "a server that judges",
    ("docs/python.md", 3): "minutes of the embedded model; tests/api makes the same calls on a tiny one",
    ("docs/live.md", 0): "a server",
    ("docs/live.md", 1): "a server",
    ("docs/scale_out.md", 0): "vLLM, and GPUs",
    ("docs/serving.md", 0): "a server",
    ("docs/serving.md", 1): "a server",
    ("docs/serving.md", 2): "a server",
    ("docs/serving.md", 3): "a server",
    ("docs/sharing.md", 0): "the hub; tests/sharing opens the same from a stand-in",
    ("docs/traits.md", 0): "minutes of the embedded model; tests/api ranks traits of a tiny one",
    ("docs/vllm.md", 0): "vLLM",
    ("docs/vllm.md", 1): "vLLM",
}


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names after README's block has run in an empty folder, and what the pages build on."""
    quick = PROFILES["quick"]
    small = replace(
        quick, roles=12, questions=4, default_samples=2, max_new_tokens=12, keep="all", min_fully=1
    )
    with pytest.MonkeyPatch.context() as patch, chdir(tmp_path_factory.mktemp("docs")):
        patch.setitem(PROFILES, "quick", replace(small, role_information=False))
        names: dict[str, Any] = {}
        exec(blocks("README.md")[0], names)
        readme = dict(names)
        loaded = names["model"].engine.loaded
        persona_map = names["pmap"].arrays
        names |= {
            "Path": Path,
            "Message": Message,
            "PersonaMap": PersonaMap,
            "engine": names["model"].engine,
            "persona_map": persona_map,
            "layer": persona_map.middle_layer,
            "chat": (Message("user", "Who are you?"), Message("assistant", "The wind behind the door.")),
            "model": loaded.model,
            "readme": readme,
        }
        names["inputs"] = dict(
            loaded.tokenizer("Who are you?", return_tensors="pt"),
            min_new_tokens=6,
            max_new_tokens=8,
            do_sample=False,
        )
        yield names


def run(page: str, names: dict[str, Any]) -> None:
    """Run the blocks of a page that can run here, one after the other."""
    for number, code in enumerate(blocks(page)):
        if (page, number) not in ELSEWHERE:
            exec(compile(code, f"{page} block {number}", "exec"), names)


def test_readme(here: dict[str, Any]) -> None:
    names = here["readme"]
    assert Path("space.png").read_bytes().startswith(b"\x89PNG")
    assert len(names["answers"]) == 3 and next(iter(names["answers"])).name == "plain"


def test_plans(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    names = dict(here)
    run("docs/plans.md", names)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("plain", "away", "cap"))
    assert names["state"].cap_stats is not None


def test_monitor(here: dict[str, Any]) -> None:
    names = dict(here)
    exec(blocks("docs/plans.md")[0], names)
    rng = np.random.default_rng(0)
    talks = [[rng.normal(1, 0.3, 40) for _ in range(3)] for _ in range(140)]
    fallen = [[*talk[:1], talk[1] - 3, talk[2] - 3] for talk in talks[90:120]]
    names |= {"assistant_like": talks, "switched": [(talk, 1) for talk in fallen], "plan": names["cap"]}
    run("docs/monitor.md", names)
    assert names["result"].detected.estimate > 0.9
    assert names["monitor"].n > 0


def test_conversations_and_projections(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--conversations", 2, "--turns", 2, "--max-new-tokens", 8, "--domains", "coding")
    assert personascope("simulate", "runs/demo", *short, "--min-turns", 2).code == 0
    run("docs/conversations.md", dict(here))
    assert capsys.readouterr().out.count("coding") == 2

    chat = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day to you."}]
    Path("chat.json").write_text(json.dumps(chat), encoding="utf-8")
    assert personascope("project", "runs/demo", "chat.json", "--out", "runs/chats").code == 0
    run("docs/project.md", dict(here))
    assert "chat.json projected" in capsys.readouterr().out


def test_notebook(here: dict[str, Any]) -> None:
    names = dict(here)
    run("docs/notebook.md", names)
    assert len(names["session"].messages) == 5
    assert list(names["found"].to_pandas().role) == ["user", "assistant"]
    assert names["table"].position.notna().all() and len(names["table"]) == 4
    assert len(names["compared"].records()) > 10 and Path("compared.html").stat().st_size > 1000
    assert Path("space.svg").stat().st_size > 1000 and Path("chat.png").stat().st_size > 1000
    assert names["state"].cap_stats[0].tokens > 0


def test_sharing(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    names = dict(here)
    run("docs/sharing.md", names)
    assert PersonaMap.open("runs/copy").digest == names["persona_map"].digest
    assert capsys.readouterr().out.startswith("run smollm2-135m ")


def test_first_pages(here: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("runs/demo", "runs/first")
    run("docs/tutorial.md", dict(here))
    assert "capped_share" in capsys.readouterr().out
    names = dict(here)
    run("docs/agents.md", names)
    assert names["table"].plan[0] == "plain" and len(names["table"]) == 3


def test_every_page_is_run_or_named() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    pages.insert(0, "README.md")
    found = {(page, number) for page in pages for number in range(len(blocks(page)))}
    ran = {
        "README.md",
        "docs/notebook.md",
        "docs/plans.md",
        "docs/monitor.md",
        "docs/project.md",
        "docs/conversations.md",
        "docs/sharing.md",
        "docs/tutorial.md",
        "docs/agents.md",
    }
    assert {block for block in found if block[0] not in ran or block in ELSEWHERE} == set(ELSEWHERE)
    assert not ran - {page for page, _ in found}
