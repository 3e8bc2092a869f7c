"""Send a thing to the hub, a folder or an archive."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from personascope import __version__
from personascope.errors import SharingError, UsageError
from personascope.sharing._address import HUB, HubAddress, hub_address, is_archive
from personascope.sharing._card import CARD, FOLDER, make_card
from personascope.sharing._contents import Contents
from personascope.sharing._folder import check_free, write_archive, write_folder
from personascope.sharing._hub import (
    OURS,
    Listing,
    commit_files,
    fetch_files,
    list_files,
    make_data_set,
    model_licence,
)
from personascope.sharing._licence import check_licence
from personascope.sharing._manifest import MANIFEST, Kind, manifest_record, read_manifest
from personascope.text import finds_secret

_KEYS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "VLLM_API_KEY")
_LONG = 8
"""Length from which the value of such a variable is taken for a key; shorter ones are placeholders."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where something was shared.

    Attributes:
        place: Folder, archive, or address on the hub with the commit.
        kind: Kind of the thing.
        files: Path -> size in bytes, without manifest and card.
        digest: SHA-256 of the manifest's content, the same wherever the same files are shared.
        licence: Licence of the model; "" if unknown.
        url: Page on the hub; "" elsewhere.
    """

    place: str
    kind: Kind
    files: Mapping[str, int]
    digest: str
    licence: str
    url: str = ""


def send(
    contents: Contents,
    to: Path | str,
    *,
    revision: str | None = None,
    private: bool = False,
    create: bool = False,
    licence: str | None = None,
    tell: Callable[[str], None],
) -> Pushed:
    """Share a thing with its manifest and card.

    On the hub everything is one commit, and a folder or archive is renamed when it is whole: after a failure
    nothing is half-written. Files of an earlier push that are no more are removed in the same commit.

    Args:
        contents: Files, and the opened thing.
        to: ``hub:owner/name`` (a data set), a new archive (.zip, .tar, .tar.gz), or a new folder.
        revision: Branch on the hub; the main one if not given.
        private: Whether a data set that is made is private. One that is public is refused then.
        create: Whether to make the data set, or its branch, where it is missing.
        licence: Licence of the model; looked up on the hub if not given.
        tell: Callback for status messages.

    Raises:
        UsageError: If the target is malformed or there already, or the licence is unknown and it goes to the
            hub.
        SharingError: If a file holds a credential, or the hub refuses something.
    """
    address = _target(to, revision, private=private, create=create)
    if address is None:
        check_free(Path(to))
    _check_secrets(contents)
    _tell_paths(contents, tell)
    known = _licence(contents, licence, address)
    record = manifest_record(
        contents.kind,
        contents.files,
        version=__version__,
        model=contents.model,
        licence=known,
        texts=contents.texts,
    )
    card = make_card(contents, record, address=FOLDER if address is None else str(address))
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    given: dict[str, Path | bytes] = {MANIFEST: text.encode(), CARD: card.encode(), **contents.files}
    sizes = {name: int(entry["size"]) for name, entry in record["files"].items()}
    if address is None:
        target = Path(to)
        (write_archive if is_archive(target) else write_folder)(target, given)
        return Pushed(str(to), contents.kind, sizes, record["checksum"], known)
    commit = _to_hub(address, given, private=private, create=create, kind=contents.kind, tell=tell)
    return Pushed(
        f"{HUB}{address.repo}@{commit}",
        contents.kind,
        sizes,
        record["checksum"],
        known,
        _page(address.repo),
    )


def _target(to: Path | str, revision: str | None, *, private: bool, create: bool) -> HubAddress | None:
    address = hub_address(to)
    if address is None:
        for name, given in (("--revision", revision), ("--private", private), ("--create", create)):
            if given:
                raise UsageError(f"{name} is for the hub, and {to} is none", hint="leave it out")
        return None
    if address.folder:
        raise UsageError(f"{to} names a folder in a data set", hint="a data set holds one thing")
    if address.revision and revision and address.revision != revision:
        raise UsageError(f"{to} and --revision {revision} name two branches", hint="name one")
    return HubAddress(address.repo, "", revision or address.revision)


def _check_secrets(contents: Contents) -> None:
    """Refuse files that hold a credential: once pushed, it would have to be revoked."""
    keys = [os.environ.get(name, "").strip() for name in _KEYS]
    keys = [key for key in keys if len(key) >= _LONG and not key.isalpha()]
    for name, path in contents.files.items():
        if name.endswith(".json") and finds_secret(path.read_text("utf-8", errors="replace"), keys):
            raise SharingError(
                f"{name} holds what looks like a key or a password ({path})",
                hint="make the thing again without it in the command line, and revoke the key if it got out",
            )


def _tell_paths(contents: Contents, tell: Callable[[str], None]) -> None:
    home = str(Path.home())
    found = [
        name
        for name, path in contents.files.items()
        if len(home) > 1
        and name.endswith(".json")
        and f"{home}{os.sep}" in path.read_text("utf-8", errors="replace")
    ]
    if found:
        tell(f"{', '.join(found[:3])} names paths below {home}, and is shared as it is")


def _licence(contents: Contents, given: str | None, address: HubAddress | None) -> str:
    if given is not None:
        return check_licence(given)
    model = "" if contents.model is None else contents.model[0]
    if address is None:
        return ""
    on_hub = hub_address(f"{HUB}{model}") if model.count("/") == 1 and " " not in model else None
    found = "" if on_hub is None or on_hub.revision or on_hub.folder else model_licence(model)
    if not found:
        whose = f"the licence of {model}" if model else "the licence of the model"
        raise UsageError(
            f"{whose} is not known, and what is made from a model falls under it",
            hint="look it up and give it, as in --licence apache-2.0",
        )
    return found


def _to_hub(
    address: HubAddress,
    given: Mapping[str, Path | bytes],
    *,
    private: bool,
    create: bool,
    kind: Kind,
    tell: Callable[[str], None],
) -> str:
    if create:
        make_data_set(address, private=private)
    there = list_files(address)
    if private and not there.private:
        raise SharingError(
            f"{address.repo} is public, and --private was asked for",
            hint="make it private on its page, or leave --private out",
        )
    gone = _earlier_files(address, there, tell) - set(given)
    size = sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in given.values())
    tell(f"sending {len(given)} files, {size / 1e6:.1f} MB, to {address} ...")
    return commit_files(
        address, given, gone=sorted(gone), parent=there.commit, message=f"Share a {kind} by personascope"
    )


def _earlier_files(address: HubAddress, there: Listing, tell: Callable[[str], None]) -> set[str]:
    """Return the files of an earlier push; none if its manifest is damaged, so that a push can mend it.

    Raises:
        SharingError: If the data set holds something that no push put there.
    """
    if MANIFEST not in there.files:
        foreign = sorted(set(there.files) - set(OURS))
        if foreign:
            raise SharingError(
                f"{address.repo} holds {foreign[0]} and was not made by personascope",
                hint="push to a data set of its own, as in hub:owner/name-map --create",
            )
        return set()
    with TemporaryDirectory() as folder:
        fetch_files(address, there.commit, [MANIFEST], Path(folder))
        try:
            earlier = read_manifest(Path(folder) / MANIFEST, str(address), max_bytes=2**63)
        except SharingError as error:
            tell(f"of the earlier push nothing is removed: {error.message}")
            return set()
    return set(earlier.files) & set(there.files)


def _page(repo: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{repo}"
