"""Share a run, plan, monitor or release, and fetch one that was shared."""

from __future__ import annotations

from pathlib import Path

from personascope import interop, sharing
from personascope.api._inputs import Tell, quiet
from personascope.api._layout import MONITOR_REPORT, RunLayout
from personascope.dynamics.monitor import MONITOR_JSON, Monitor
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.sharing import MAX_BYTES, Contents, Kind, Pulled, Pushed
from personascope.space import MAP, PersonaMap
from personascope.store import read_json

_UNITS, _SUMS = "units", "roles"
_RUN_RECORDS = ("manifest.json", "checksums.json", "rounds.json")
_PLAN = ("plan.json", "plan.safetensors")


def push(
    thing: Path | str,
    to: Path | str,
    *,
    revision: str | None = None,
    private: bool = False,
    create: bool = False,
    with_texts: bool = False,
    licence: str | None = None,
    tell: Tell = quiet,
) -> Pushed:
    """Share a run, a map, a plan, a monitor or an imported release, with a card made from it.

    Of a run go its map, its traits, norms and monitor, and the plan that a sweep recommends. Responses stay:
    they are a model's words in roles that it was asked to play, some of them harmful, under prompts that may
    not be yours to share.

    Args:
        thing: Run folder, map folder, plan folder, monitor file, or folder of an imported release.
        to: ``hub:owner/name``, which is a data set; a new archive (.zip, .tar, .tar.gz); or a new folder.
        revision: Branch on the hub; the main one if not given.
        private: Whether a data set that is made is private; one that is public is refused then.
        create: Whether to make the data set, or its branch, where it is missing.
        with_texts: Whether the responses of the mapping run go too, with the activations that floors at a
            percentile are read from.
        licence: Licence of the model, such as "apache-2.0"; looked up on the hub if not given.
        tell: Callback for status messages.

    Raises:
        UsageError: If there is nothing to share, the target is malformed or there already, or the licence is
            not known and it goes to the hub.
        SharingError: If a file holds a credential, or the hub refuses something.
        StoreError: If a file is damaged.
    """
    contents = contents_of(thing, with_texts=with_texts)
    return sharing.send(
        contents, to, revision=revision, private=private, create=create, licence=licence, tell=tell
    )


def pull(
    source: Path | str,
    out: Path | str | None = None,
    *,
    revision: str | None = None,
    max_bytes: int = MAX_BYTES,
    tell: Tell = quiet,
) -> Pulled:
    """Fetch what was shared into a new folder, and check it before it is in place.

    Args:
        source: ``hub:owner/name[:folder][@revision]``, an archive, or a folder that was shared.
        out: New or empty folder; ``runs/NAME`` if not given.
        revision: Branch, tag or commit on the hub.
        max_bytes: Limit of the sizes of all files together; more is refused before it is fetched.
        tell: Callback for status messages.

    Raises:
        UsageError: If the source is malformed, or the folder is there already.
        SharingError: If something is missing, damaged, too large or not allowed; nothing is left of it.
    """
    target = Path(out) if out is not None else Path("runs") / _name(source)
    return sharing.receive(source, target, revision=revision, max_bytes=max_bytes, check=_check, tell=tell)


def _name(source: Path | str) -> str:
    address = sharing.hub_address(source)
    if address is not None:
        return Path(address.folder or address.repo).name
    name = Path(source).name
    return next(
        (name[: -len(end)] for end in (".tar.gz", ".tgz", ".zip", ".tar") if name.endswith(end)), name
    )


def _check(kind: Kind, folder: Path) -> None:
    """Read what was fetched: that it fits its manifest does not say that it is whole."""
    if kind == "plan":
        Plan.load(folder)
    elif kind == "monitor":
        Monitor.load(folder)
    else:
        interop.open_map(folder)


def contents_of(thing: Path | str, *, with_texts: bool = False) -> Contents:
    """Return the files of what is to be shared, opened and checked.

    Args:
        thing: Run folder, map folder, plan folder, monitor file, or folder of an imported release.
        with_texts: Whether to take the responses of a run.

    Raises:
        UsageError: If there is nothing that can be shared, or a run has no responses and they are asked for.
        StoreError: If a file is damaged.
    """
    path = Path(thing).expanduser()
    if with_texts and not RunLayout.of(path).has_responses:
        raise UsageError(f"{thing} has no responses", hint="leave --with-texts out")
    if path.is_file() or ((path / MONITOR_JSON).is_file() and not _has_map(path)):
        return _shared_monitor(path)
    if (path / "plan.json").is_file():
        plan = Plan.load(path)
        model = None if plan.model is None else (plan.model.id, plan.model.revision)
        return Contents("plan", {name: path / name for name in _PLAN}, plan, model)
    if interop.is_release(path):
        from personascope.interop import Released

        files = {
            name: path / name
            for name in ("released.json", "released.safetensors", "norms.json")
            if (path / name).is_file()
        }
        return Contents("release", files, Released.load(path), None)
    if not _has_map(path):
        raise UsageError(
            f"{thing} holds no map, plan, monitor or imported release",
            hint="name the folder, or the monitor's file, that such a command wrote",
        )
    return _shared_run(path, with_texts)


def _has_map(path: Path) -> bool:
    return (RunLayout.of(path).map / "map.json").is_file() or (path / "map.json").is_file()


def _shared_run(path: Path, with_texts: bool) -> Contents:
    persona_map = PersonaMap.open(path)
    persona_map.verify()
    # A map folder alone is shared as a run folder that holds it, so that it opens like any other.
    layout = RunLayout.of(path) if (path / MAP).is_dir() or path.name == MAP else None
    files = {f"{MAP}/{name}": persona_map.folder / name for name in ("map.json", "map.safetensors")}
    for traits in persona_map.traits:
        for file in sorted(traits.folder.glob("traits.*")):
            files[f"{MAP}/{file.relative_to(persona_map.folder).as_posix()}"] = file
    if layout is not None:
        found = [layout.norms, layout.monitor, layout.monitor_report]
        if layout.calibration.is_dir():
            found += [layout.recommended_plan / name for name in _PLAN]
        if with_texts:
            found += [layout.folder / name for name in _RUN_RECORDS]
            found += sorted(layout.folder.glob(f"{_UNITS}/*/*")) + sorted(layout.folder.glob(f"{_SUMS}/*"))
        files |= {
            file.relative_to(layout.folder).as_posix(): file
            for file in found
            if file.is_file() and ".tmp-" not in file.as_posix()
        }
    model = persona_map.model
    return Contents("run", files, persona_map, (model.id, model.revision), with_texts)


def _shared_monitor(path: Path) -> Contents:
    monitor = Monitor.load(path)
    file = path if path.is_file() else path / MONITOR_JSON
    files = {MONITOR_JSON: file}
    report = file.with_name(MONITOR_REPORT)
    if report.is_file():
        read_json(report)
        files[report.name] = report
    source = monitor.source
    return Contents("monitor", files, monitor, None if source is None else (source.model, source.revision))
