"""Push and pull over a stand-in of the hub: what comes back is what went, and nothing is half-written."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import personascope as ps
from helpers.cli import personascope
from helpers.hub import TOKEN, Hub, hub
from personascope import api
from personascope.errors import PersonascopeError, SharingError, StoreError, UsageError
from personascope.interventions import Plan
from personascope.space import PersonaMap
from personascope.store import sealed

NAME = "lab/a-map"
HUB = f"hub:{NAME}"


def hashes(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pushed(thing: Path, **options: object) -> api.Pushed:
    return api.push(thing, HUB, **{"create": True, "licence": "apache-2.0", **options})  # type: ignore[arg-type]


def test_a_map_comes_back_as_it_went(server: Hub, run: Path, tmp_path: Path) -> None:
    done = personascope("push", run, HUB, "--create", "--licence", "apache-2.0")
    assert done.code == 0, done.err
    repo = server.repos[NAME]
    # One commit after the one that makes the data set.
    assert len(repo.commits) == 2 and not repo.private
    assert set(repo.head) == {
        ".gitattributes", "README.md", "personascope.json", "map/map.json", "map/map.safetensors"
    }  # fmt: skip
    back = personascope("pull", HUB, "--out", tmp_path / "back")
    assert back.code == 0, back.err
    sent, found = hashes(run), hashes(tmp_path / "back")
    assert {name: found[name] for name in sent} == sent
    assert set(found) - set(sent) == {"personascope.json"}
    contents = done.out.split("contents ")[1].split()[0]
    assert contents in back.out and repo.branches["main"] in back.out
    assert PersonaMap.open(tmp_path / "back").digest == PersonaMap.open(run).digest
    assert not [path for path in tmp_path.iterdir() if ".tmp-" in path.name]


def test_the_token_goes_to_the_hub_and_nowhere_else(server: Hub, run: Path, tmp_path: Path) -> None:
    done = personascope("push", run, HUB, "--create", "--licence", "mit")
    back = personascope("pull", HUB, "--out", tmp_path / "back")
    server.write = 403
    refused = personascope("push", run, HUB, "--licence", "mit")
    assert server.tokens == {TOKEN} and refused.code == 1
    assert TOKEN not in "".join((done.out, done.err, back.out, back.err, refused.out, refused.err))
    assert TOKEN.encode() not in b"".join(server.repos[NAME].head.values())
    assert not [
        path
        for path in (tmp_path / "back").rglob("*")
        if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]


def test_open_fetches_once_for_each_commit(server: Hub, run: Path) -> None:
    pushed(run)
    pmap = ps.open(HUB)
    assert pmap.arrays.digest == PersonaMap.open(run).digest
    assert sorted(server.fetched) == ["map/map.json", "map/map.safetensors", "personascope.json"]
    server.fetched.clear()
    again = ps.open(HUB)
    assert again.folder == pmap.folder and not server.fetched
    pinned = server.repos[NAME].branches["main"]
    server.calls.clear()
    assert ps.open(f"{HUB}@{pinned}").folder == pmap.folder and not server.calls
    # The owner takes the map down: what is pinned and here stays.
    del server.repos[NAME]
    assert ps.open(f"{HUB}@{pinned}").folder == pmap.folder
    with pytest.raises(SharingError, match="there is no data set"):
        ps.open(HUB)


@pytest.mark.usefixtures("server")
def test_without_the_hub_the_last_copy_is_taken_and_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(run)
    said: list[str] = []
    folder = api.MappedModel.open(HUB).layout.folder
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert api.MappedModel.open(HUB, tell=said.append).layout.folder == folder
    assert "cannot be reached" in said[0]
    with pytest.raises(SharingError, match="cannot be read"):
        api.MappedModel.open("hub:lab/never-seen")


@pytest.mark.usefixtures("server")
def test_commands_take_an_address_wherever_they_take_a_folder(run: Path, plan: Path, tmp_path: Path) -> None:
    pushed(run)
    shown = personascope("show", HUB)
    assert shown.code == 0 and shown.out == personascope("show", run).out
    api.push(plan, "hub:lab/floors", create=True, licence="mit")
    explained = personascope("plan", "explain", "hub:lab/floors")
    assert explained.code == 0 and explained.out == personascope("plan", "explain", plan).out
    assert api.load_plans(["hub:lab/floors"])["floors"].digest == Plan.load(plan).digest
    done = personascope(
        "export", "hub:lab/floors", "--to", "capping", "--out", tmp_path / "c.pt", "--experiment", "x"
    )
    assert done.code == 0, done.err
    compared = personascope("compare", f"{HUB}:1", f"{run}:2")
    assert "ant" in compared.out + compared.err or "roles" in compared.err
    for wrong, of in (("hub:lab/floors", "is a plan, not a map"), ("hub:lab", "no address")):
        done = personascope("show", wrong)
        assert done.code == 2 and of in done.err
    # A map alone has no responses for a percentile; the hint says what it has.
    done = personascope(
        "plan", "cap", HUB, "--layers", "1:3", "--axis-percentile", "75", "--anyway", "--out", tmp_path / "x"
    )
    assert done.code == 1 and "without the responses" in done.err and "position" in done.err
    done = personascope("plan", "explain", HUB)
    assert done.code == 2 and "is a map, not a plan" in done.err


def test_what_was_and_is_no_more_is_removed_in_the_same_commit(server: Hub, run: Path) -> None:
    (run / "norms.json").write_text("{}")
    pushed(run)
    repo = server.repos[NAME]
    # A file that the owner put there by hand stays; it is not fetched.
    repo.change("pictures/space.png", b"\x89PNG")
    (run / "norms.json").unlink()
    pushed(run)
    assert "norms.json" not in repo.head and "pictures/space.png" in repo.head
    api.pull(HUB, run.parent / "back")
    assert not (run.parent / "back" / "pictures").exists()
    # A manifest that somebody broke is mended by the next push.
    repo.change("personascope.json", b"{}")
    said: list[str] = []
    pushed(run, tell=said.append)
    assert "nothing is removed" in said[0] and api.pull(HUB, run.parent / "mended").kind == "run"


def test_a_push_follows_what_it_has_seen(server: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed(run)
    from personascope.sharing import _push

    real = _push._earlier_files

    def meanwhile(*args: object) -> set[str]:
        found = real(*args)  # type: ignore[arg-type]
        server.repos[NAME].change("README.md", b"---\n---\nanother hand")
        return found

    monkeypatch.setattr(_push, "_earlier_files", meanwhile)
    (run / "norms.json").write_text("{}")
    with pytest.raises(SharingError, match="412"):
        pushed(run)
    assert server.repos[NAME].head["README.md"].endswith(b"another hand")


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("lab/nothing", 200, "no data set lab/nothing"),
        (NAME, 401, "refuses it"),
        (NAME, 403, "refuses it (403)"),
    ],
)
def test_the_hub_refuses(server: Hub, run: Path, name: str, status: int, said: str) -> None:
    server.make(NAME)
    server.write = status
    done = personascope("push", run, f"hub:{name}", "--licence", "mit")
    assert done.code == 1 and said in done.err and "Traceback" not in done.err
    assert set(server.repos) == {NAME} and len(server.repos[NAME].commits) == 1


def test_revisions(server: Hub, run: Path, tmp_path: Path) -> None:
    pushed(run)
    done = personascope("pull", f"{HUB}@v9", "--out", tmp_path / "back")
    assert done.code == 1 and "has no revision 'v9'" in done.err and not (tmp_path / "back").exists()
    done = personascope("push", run, HUB, "--revision", "v9", "--licence", "mit")
    assert done.code == 1 and "has no revision 'v9'" in done.err
    (run / "norms.json").write_text("{}")
    made = pushed(run, revision="v9")
    repo = server.repos[NAME]
    assert repo.branches["v9"] != repo.branches["main"] and made.place.endswith(repo.branches["v9"])
    assert (api.pull(HUB, tmp_path / "new", revision="v9").folder / "norms.json").exists()
    assert not (api.pull(HUB, tmp_path / "old").folder / "norms.json").exists()


def test_private(server: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pushed(run, private=True)
    assert server.repos[NAME].private
    server.make("lab/open")
    with pytest.raises(SharingError, match="is public"):
        api.push(run, "hub:lab/open", private=True, licence="mit")
    assert len(server.repos["lab/open"].commits) == 1
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SharingError, match="or it is private"):
        api.pull(HUB, tmp_path / "back")


def test_a_data_set_of_others_is_left_alone(server: Hub, run: Path) -> None:
    server.make(NAME, {"train.parquet": b"PAR1"})
    with pytest.raises(SharingError, match=r"holds train\.parquet and was not made by personascope"):
        pushed(run)
    assert len(server.repos[NAME].commits) == 1


def test_the_licence_is_looked_up_or_asked_for(server: Hub, run: Path) -> None:
    server.make(NAME)
    with pytest.raises(UsageError, match="licence of some/model is not known") as error:
        api.push(run, HUB)
    assert "--licence" in error.value.hint and len(server.repos[NAME].commits) == 1
    server.models["some/model"] = "gemma"
    assert api.push(run, HUB).licence == "gemma"
    card = server.repos[NAME].head["README.md"].decode()
    assert yaml.safe_load(card.split("---")[1])["license"] == "gemma" and "`gemma`" in card
    assert api.pull(HUB, run.parent / "back").licence == "gemma"
    with pytest.raises(UsageError, match="no name of a licence"):
        api.push(run, HUB, licence="my licence\n")


def damage(name: str, data: bytes) -> bytes:
    """Return a file with one bit turned, of the same size."""
    assert len(data) > 10, name
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def remade(head: dict[str, bytes], change: dict[str, object]) -> bytes:
    """Return the manifest with changed files, sealed anew as its owner would."""
    record = json.loads(head["personascope.json"])
    record["files"] |= change
    return json.dumps(sealed({key: value for key, value in record.items() if key != "checksum"})).encode()


def of(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


FAULTS = {
    "a bit of the tensors": lambda head: {"map/map.safetensors": damage("t", head["map/map.safetensors"])},
    "a bit of the record": lambda head: {"map/map.json": damage("m", head["map/map.json"])},
    "a file that is gone": lambda _: {"map/map.json": None},
    "another size": lambda head: {"map/map.json": head["map/map.json"] + b" "},
    "a manifest that was changed": lambda head: {
        "personascope.json": head["personascope.json"].replace(b'"run"', b'"plan"')
    },
    "a manifest that is cut": lambda head: {"personascope.json": head["personascope.json"][:99]},
    "a manifest of the future": lambda head: {
        "personascope.json": head["personascope.json"].replace(b'"format": 1', b'"format": 2')
    },
    "no manifest": lambda _: {"personascope.json": None},
    "a pickle in the manifest": lambda head: {
        "x.pt": b"\x80\x04.", "personascope.json": remade(head, {"x.pt": of(b"\x80\x04.")})
    },
    "code in the manifest": lambda head: {
        "setup.py": b"1/0", "personascope.json": remade(head, {"setup.py": of(b"1/0")})
    },
    "a path out of the folder": lambda head: {
        "personascope.json": remade(head, {"../../evil.json": of(b"{}")})
    },
    "a plan that says it is a map": lambda head: {
        "map/map.json": b"{}", "personascope.json": remade(head, {"map/map.json": of(b"{}")})
    },
    "too much": lambda head: {
        "personascope.json": remade(head, {"big.json": {"size": 2**50, "sha256": "0" * 64}})
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_is_refused_and_nothing_is_left(
    fault: str, server: Hub, run: Path, tmp_path: Path
) -> None:
    pushed(run)
    repo = server.repos[NAME]
    for name, data in FAULTS[fault](repo.head).items():
        repo.change(name, data)
    server.fetched.clear()
    done = personascope("pull", HUB, "--out", tmp_path / "back" / "run")
    assert done.code == 1 and "error: " in done.err and ".tmp-" not in done.err, done.err
    assert not (tmp_path / "back" / "run").exists() and not list((tmp_path / "back").iterdir())
    if fault not in ("a bit of the tensors", "a bit of the record", "a plan that says it is a map"):
        # Told from the listing or the manifest, before a file is fetched.
        assert set(server.fetched) <= {"personascope.json"}
    with pytest.raises((SharingError, StoreError)):
        ps.open(HUB)
    assert not list((tmp_path / "cache").rglob("*.tmp-*"))


def test_an_extra_pickle_is_named_and_not_fetched(server: Hub, run: Path, tmp_path: Path) -> None:
    pushed(run)
    server.repos[NAME].change("map/extra.pkl", b"\x80\x04.")
    done = personascope("pull", HUB, "--out", tmp_path / "back")
    assert done.code == 0 and "map/extra.pkl (a pickle can run any code)" in done.err
    assert "map/extra.pkl" not in server.fetched and not list(tmp_path.rglob("*.pkl"))


def test_a_download_that_is_cut_leaves_nothing(server: Hub, run: Path, tmp_path: Path) -> None:
    pushed(run)
    server.cut = "map/map.safetensors"
    with pytest.raises(SharingError):
        api.pull(HUB, tmp_path / "back")
    assert not (tmp_path / "back").exists() and not list(tmp_path.glob("*.tmp-*"))
    server.cut = ""
    assert api.pull(HUB, tmp_path / "back").kind == "run"


def test_a_bound_on_the_size(server: Hub, run: Path, tmp_path: Path) -> None:
    pushed(run)
    server.fetched.clear()
    done = personascope("pull", HUB, "--out", tmp_path / "back", "--max-gb", "0.000001")
    assert done.code == 1 and "--max-gb" in done.err and set(server.fetched) == {"personascope.json"}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_upload_leaves_the_data_set_as_it_was(run: Path, tmp_path: Path, kill: int) -> None:
    with hub() as server:
        server.make(NAME)
        env = {
            **os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "PERSONASCOPE_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        command = [sys.executable, "-m", "personascope"]
        push = [*command, "push", str(run), HUB, "--licence", "mit"]
        server.stall.set()
        with subprocess.Popen(push, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert server.stalled.wait(120)
            process.send_signal(kill)
            server.go.set()
            process.communicate(timeout=120)
        assert process.returncode != 0
        assert len(server.repos[NAME].commits) == 1 and set(server.repos[NAME].head) == {".gitattributes"}
        server.stall.clear()
        done = subprocess.run(push, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        pull = [*command, "pull", HUB, "--out", str(tmp_path / "back")]
        back = subprocess.run(pull, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert back.returncode == 0, back.stderr
    found = hashes(tmp_path / "back")
    assert {name: found[name] for name in hashes(run)} == hashes(run)


def test_errors_are_of_ours_alone() -> None:
    assert issubclass(SharingError, PersonascopeError) and SharingError.exit_code == 1
