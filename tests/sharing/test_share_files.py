"""Sharing in folders and archives: equal contents, a card that says what it is, and refusals."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from release_case import make, write

import personascope as ps
from helpers.cli import personascope, personascope_process
from helpers.hub import TOKEN, Hub
from personascope import api
from personascope.errors import SharingError, UsageError
from personascope.interop import Released
from personascope.interventions import Plan
from personascope.space import PersonaMap


@pytest.mark.parametrize("to", ["shared", "shared.zip", "shared.tar", "shared.tar.gz"])
@pytest.mark.parametrize("thing", ["run", "floors", "watch.json"])
def test_there_and_back(to: str, thing: str, run: Path, plan: Path, monitor: Path, tmp_path: Path) -> None:
    path = {"run": run, "floors": plan, "watch.json": monitor}[thing]
    done = personascope("push", path, tmp_path / to)
    assert done.code == 0, done.err
    back = personascope("pull", tmp_path / to, "--out", tmp_path / "back")
    assert back.code == 0, back.err
    contents = done.out.split("contents ")[1].split()[0]
    assert contents in back.out
    if thing == "run":
        files = ("map/map.json", "map/map.safetensors")
        assert PersonaMap.open(tmp_path / "back").digest == PersonaMap.open(run).digest
    elif thing == "floors":
        files = ("plan.json", "plan.safetensors")
        assert Plan.load(tmp_path / "back").digest == Plan.load(plan).digest
    else:
        files = ("monitor.json",)
        assert ps.Monitor.load(tmp_path / "back").record() == ps.Monitor.load(monitor).record()
    for name in files:
        source = path if thing == "watch.json" else path / name
        assert (tmp_path / "back" / name).read_bytes() == source.read_bytes()


def test_equal_contents_are_equal_archives(run: Path, tmp_path: Path) -> None:
    for form in ("zip", "tar", "tar.gz"):
        for name in ("a", "b"):
            api.push(run, tmp_path / f"{name}.{form}")
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
    assert (
        api.pull(tmp_path / "a.tar", tmp_path / "one").digest
        == api.pull(tmp_path / "b.zip", tmp_path / "two").digest
    )


def test_a_map_folder_alone_is_a_run_that_holds_it(run: Path, tmp_path: Path) -> None:
    (run / "map").rename(tmp_path / "alone")
    api.push(tmp_path / "alone", tmp_path / "shared")
    assert ps.open(tmp_path / "shared").arrays.digest == PersonaMap.open(tmp_path / "alone").digest


def test_an_imported_release(tmp_path: Path) -> None:
    api.import_release(write(tmp_path / "release", make()), tmp_path / "ours")
    api.push(tmp_path / "ours", tmp_path / "shared.zip")
    found = api.pull(tmp_path / "shared.zip", tmp_path / "back")
    assert found.kind == "release"
    assert Released.load(found.folder).source == Released.load(tmp_path / "ours").source


def test_what_goes_along_with_a_run(run: Path, plan: Path, monitor: Path) -> None:
    (run / "calibration").mkdir()
    plan.rename(run / "calibration" / "plan")
    monitor.rename(run / "monitor.json")
    for name in (
        "norms.json",
        "report.html",
        "manifest.json",
        "notes.txt",
        "evals/x/results.json",
        "units/00000/unit.json",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}")
    alone = api.contents_of(run)
    assert set(alone.files) == {
        "map/map.json", "map/map.safetensors", "norms.json", "monitor.json",
        "calibration/plan/plan.json", "calibration/plan/plan.safetensors",
    }  # fmt: skip
    texts = api.contents_of(run, with_texts=True)
    assert set(texts.files) - set(alone.files) == {"manifest.json", "units/00000/unit.json"} and texts.texts


def test_responses_go_only_where_they_are_asked_for(run: Path, tmp_path: Path) -> None:
    done = personascope("push", run, tmp_path / "x", "--with-texts")
    assert done.code == 2 and "has no responses" in done.err
    (run / "units" / "00000").mkdir(parents=True)
    (run / "units" / "00000" / "rollouts.parquet").write_bytes(b"PAR1 I am the wind PAR1")
    api.push(run, tmp_path / "without.tar")
    api.push(run, tmp_path / "with.tar", with_texts=True)
    assert b"I am the wind" not in (tmp_path / "without.tar").read_bytes()
    assert b"I am the wind" in (tmp_path / "with.tar").read_bytes()
    assert "No response of the model" in card(tmp_path / "without.tar")
    assert "Responses of the model are among" in card(tmp_path / "with.tar")


def card(archive: Path) -> str:
    with tarfile.open(archive) as file:
        found = file.extractfile("README.md")
        assert found is not None
        return found.read().decode()


def test_the_card_of_a_map_holds_its_own_figures(run: Path, tmp_path: Path) -> None:
    api.push(run, tmp_path / "shared", licence="llama3.1")
    text = (tmp_path / "shared" / "README.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "llama3.1",
        "pretty_name": "Persona map of some/model",
        "base_model": "some/model",
        "tags": ["personascope", "persona-map", "interpretability"],
        "viewer": False,
    }
    found = PersonaMap.open(run)
    stats, at = found.stats, found.middle_layer
    low, high = stats.cos_axis_pc1_interval[at]
    assert f"| cosine of the axis with PC1 | {stats.cos_axis_pc1[at]:.2f} | - |" in body
    assert f"| {stats.cos_axis_pc1_corrected[at]:.2f} | {low:.2f} to {high:.2f} |" in body
    best = int(np.argmax(stats.projections[at]))
    low, high = found.to_units(stats.projection_interval[best], at)
    place = found.to_units(stats.projections[at, best], at)
    assert f"| 1 | `{found.roles[best]}` | {place:+.2f} | {low:.2f} to {high:.2f} |" in body
    for said in (
        found.verdict().headline,
        "`map some/model`",
        "`abc`",
        "4 of 24",
        found.digest,
        "`llama3.1`",
        "ps.open(",
    ):
        assert said in body


def test_a_card_says_what_is_not_known(plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text("utf-8")
    assert "license" not in text.split("---")[1] and "licence of `some/model` is not known" in text
    assert "hold the projection on the direction at or above -1.5" in text and "must not be loaded" in text
    api.push(plan, tmp_path / "own", licence="my-terms")
    assert "license: other\nlicense_name: my-terms" in (tmp_path / "own" / "README.md").read_text("utf-8")


def test_a_key_is_never_shared(
    run: Path, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Plan.load(plan)
    Plan(saved.ops, saved.model, f"floors {TOKEN}").save(tmp_path / "named")
    with pytest.raises(SharingError, match=r"plan\.json holds what looks like a key") as error:
        api.push(tmp_path / "named", tmp_path / "shared.zip")
    assert TOKEN not in str(error.value) and not (tmp_path / "shared.zip").exists()
    monkeypatch.setenv("OPENAI_API_KEY", "some/model-of-1")
    (run / "norms.json").write_text('{"command": "judge some/model-of-1"}')
    with pytest.raises(SharingError, match=r"norms\.json holds"):
        api.push(run, tmp_path / "shared.zip")
    # A placeholder of a server that needs no key is none.
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    (run / "norms.json").write_text('{"command": "EMPTY"}')
    api.push(run, tmp_path / "shared.zip")


def test_paths_of_home_are_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    (run / "norms.json").write_text(f'{{"source": "{tmp_path}/ada/chats.json"}}')
    done = personascope("push", run, tmp_path / "shared")
    assert done.code == 0 and "norms.json names paths below" in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere", "x.zip"), "holds no map, plan, monitor"),
        (("run", "hub:lab"), "no address on the hub"),
        (("run", "hub:lab/../x"), "no address on the hub"),
        (("run", "hub:lab/x:folder"), "a data set holds one thing"),
        (("run", "hub:lab/x@v1", "--revision", "v2"), "two branches"),
        (("run", "x.zip", "--private"), "--private is for the hub"),
        (("run", "x.zip", "--create"), "--create is for the hub"),
        (("run", "x.zip", "--licence", "a b"), "no name of a licence"),
        (("run", "there.zip"), "is there already"),
        (("run", "run"), "is there already"),
    ],
)
def test_wrong_pushes_are_told_before_anything_is_written(
    args: tuple[str, ...], said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.zip").write_bytes(b"")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = personascope("push", *args)
    assert done.code == 2 and said in done.err, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before and run.is_dir()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere",), "there is no nowhere"),
        (("run", "--out", "x"), "holds no personascope.json"),
        (("notes.txt", "--out", "x"), "no archive"),
        (("run", "--revision", "v1", "--out", "x"), "--revision is for the hub"),
        (("hub:lab/x@v1", "--revision", "v2", "--out", "x"), "two revisions"),
        (("run", "--out", "run"), "is there already"),
    ],
)
def test_wrong_pulls(
    args: tuple[str, ...], said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    done = personascope("pull", *args)
    assert done.code in (1, 2) and said in done.err and run.is_dir(), done.err
    assert not (tmp_path / "x").exists()


def tar_with(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()


def contents(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as file:
        return [(entry, file.extractfile(entry).read()) for entry in file.getmembers()]  # type: ignore[union-attr]


def link(name: str, to: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


EVIL = {
    "above": tarfile.TarInfo("../evil.json"),
    "deep above": tarfile.TarInfo("map/../../evil.json"),
    "absolute": tarfile.TarInfo("/tmp/evil.json"),
    "windows": tarfile.TarInfo("C:\\evil.json"),
    "a link": link("map/traits", "/etc", tarfile.SYMTYPE),
    "a hard link": link("x.json", "/etc/passwd", tarfile.LNKTYPE),
    "a device": link("x.json", "", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("evil", EVIL)
def test_an_archive_that_leaves_its_place_is_refused_whole(evil: str, plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "good.tar")
    (tmp_path / "bad.tar").write_bytes(tar_with(*contents(tmp_path / "good.tar"), (EVIL[evil], b"")))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SharingError, match=r"leaves the archive|link or a device"):
        api.pull(tmp_path / "bad.tar", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_only_what_the_manifest_names_is_unpacked(plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "good.tar")
    extra = (tarfile.TarInfo("evil.pkl"), b"\x80\x04.")
    (tmp_path / "more.tar").write_bytes(tar_with(*contents(tmp_path / "good.tar"), extra))
    api.pull(tmp_path / "more.tar", tmp_path / "back")
    assert {path.name for path in (tmp_path / "back").iterdir()} == {
        "personascope.json", "plan.json", "plan.safetensors"
    }  # fmt: skip


@pytest.mark.parametrize("how", ["cut", "a bit", "a packed bit", "a bomb", "twice", "no manifest", "missing"])
@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_damaged_archive(how: str, form: str, plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "good.tar")
    files = {entry.name: data for entry, data in contents(tmp_path / "good.tar")}
    names = list(files)
    if how == "a bomb":
        files["plan.safetensors"] = bytes(2**24)
    elif how == "a bit":
        files["plan.json"] = files["plan.json"][:-9] + b"?" + files["plan.json"][-8:]
    elif how == "twice":
        names.append("plan.json")
    elif how in ("no manifest", "missing"):
        names.remove("personascope.json" if how == "no manifest" else "plan.json")
    held = tmp_path / f"bad.{form}"
    if form == "zip":
        with (
            zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive,
            pytest.warns(UserWarning) if how == "twice" else zipped(),
        ):
            for name in names:
                archive.writestr(name, files[name])
    else:
        with tarfile.open(held, "w:gz") as archive:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(files[name])
                archive.addfile(entry, io.BytesIO(files[name]))
    if how == "a packed bit":
        # In the middle of packed data, which the unpacker itself stumbles over.
        data = bytearray(held.read_bytes())
        data[200:260] = bytes(60)
        held.write_bytes(bytes(data))
    if how == "cut":
        held.write_bytes(held.read_bytes()[:-200])
    with pytest.raises(SharingError):
        api.pull(held, tmp_path / "back")
    assert not (tmp_path / "back").exists() and not list(tmp_path.glob("*.tmp-*"))


class zipped:  # noqa: N801
    """No warning is expected."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_a_link_in_a_folder_is_not_followed(plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "shared")
    (tmp_path / "shared" / "plan.json").unlink()
    (tmp_path / "shared" / "plan.json").symlink_to(plan / "plan.json")
    with pytest.raises(SharingError, match="is no file"):
        api.pull(tmp_path / "shared", tmp_path / "back")


def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path) -> None:
    size = (run / "map" / "map.safetensors").stat().st_size
    done = personascope_process("push", str(run), str(tmp_path / "x.tar"), limit_file_size=size // 2)
    assert done.code == 1 and "could not be written" in done.err, done.err
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("folder", ["", "model-a"])
def test_released_vectors_by_the_same_door(folder: str, server: Hub, tmp_path: Path) -> None:
    written = write(tmp_path / "release", make())
    root = f"{folder}/" if folder else ""
    files = {f"{root}{p.relative_to(written).as_posix()}": p.read_bytes() for p in written.rglob("*.pt")}
    server.make("authors/vectors", {**files, "extra/evil.bin": b"\x80\x04."})
    address = "hub:authors/vectors" + (f":{folder}" if folder else "")
    pmap = ps.open(address)
    assert pmap.arrays.lacking and len(pmap.arrays.roles) == 4
    assert "extra/evil.bin" not in server.fetched
    server.fetched.clear()
    assert ps.open(address).folder == pmap.folder and not server.fetched
    found = api.pull(address, tmp_path / "back")
    assert found.kind == "release" and Released.load(found.folder).n_layers == 6
    done = personascope("show", address)
    assert done.code == 0 and "ghost" in done.out
    with pytest.raises(SharingError, match="at most 10 are fetched"):
        api.pull(address, tmp_path / "none", max_bytes=10)
    if folder:
        with pytest.raises(SharingError, match="folders with one: :model-a"):
            ps.open("hub:authors/vectors")


def test_released_files_with_code_in_them_are_refused(server: Hub, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    server.make("authors/vectors", {"assistant_axis.pt": pickle.dumps(Evil())})
    with pytest.raises(ps_errors()):
        ps.open("hub:authors/vectors")
    assert not (tmp_path / "ran").exists() and not list((tmp_path / "cache").rglob("*.tmp-*"))


def ps_errors() -> type[Exception]:
    from personascope.errors import InteropError

    return InteropError


def test_a_manifest_is_readable(plan: Path, tmp_path: Path) -> None:
    api.push(plan, tmp_path / "shared", licence="mit")
    held = json.loads((tmp_path / "shared" / "personascope.json").read_text("utf-8"))
    assert held["kind"] == "plan" and held["model"] == {"id": "some/model", "revision": "abc"}
    assert (
        held["licence"] == "mit"
        and held["texts"] is False
        and set(held["files"]) == {"plan.json", "plan.safetensors"}
    )


def test_an_open_of_something_else_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no address"):
        ps.open("hub:not an address")
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(Exception, match="is a file, and a map is a folder"):
        ps.open(tmp_path / "x.zip")
