"""Data sets on the Hugging Face hub, through huggingface_hub, which alone reads the token.

What is shared goes into data sets: a map is measurements of a model and no model, so nothing may load it as
one or count it as one, and the authors' vectors are a data set too.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.errors import SharingError
from personascope.hub import hub_errors
from personascope.sharing._address import HubAddress, is_commit
from personascope.text import shorten

TYPE = "dataset"
OURS = (".gitattributes", "README.md")
"""Files that the hub itself puts into a data set, or that its owner writes there."""
_THREADS = 4


class UnreachableError(SharingError):
    """The hub cannot be reached: what was fetched before may be used in its place."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a data set at one commit.

    Attributes:
        commit: Commit.
        private: Whether the data set is private.
        files: Path -> size in bytes.
    """

    commit: str
    private: bool
    files: Mapping[str, int]


@contextmanager
def reaching(address: HubAddress, doing: str) -> Generator[None]:
    """Convert what fails at the hub to a SharingError that says what to do.

    Args:
        address: Data set.
        doing: What is being done, such as "fetched".

    Raises:
        UnreachableError: If the hub cannot be reached.
        SharingError: If anything else fails there.
    """
    with hub_errors(
        SharingError,
        address.repo,
        what="data set",
        doing=doing,
        revision=address.revision,
        unreachable=UnreachableError,
        missing="push --create makes it",
    ):
        yield


def list_files(address: HubAddress) -> Listing:
    """Return the files of a data set with their sizes, without fetching one.

    Raises:
        SharingError: If there is no such data set or revision, or it may not be seen.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    with reaching(address, "read"):
        info = api.dataset_info(address.repo, revision=address.revision)
        entries = api.list_repo_tree(address.repo, recursive=True, revision=info.sha, repo_type=TYPE)
        files = {entry.path: int(entry.size) for entry in entries if isinstance(entry, RepoFile)}
    commit = str(info.sha)
    if not is_commit(commit):
        # It becomes the name of a folder.
        raise SharingError(
            f"the hub names {shorten(commit)} as a commit of {address.repo}", hint="check HF_ENDPOINT"
        )
    return Listing(commit, bool(info.private), files)


def fetch_files(address: HubAddress, commit: str, names: Collection[str], folder: Path) -> None:
    """Fetch files of a data set at a commit into a folder.

    Raises:
        SharingError: If one cannot be fetched.
    """
    from huggingface_hub import HfApi

    api = HfApi()

    def fetch(name: str) -> None:
        api.hf_hub_download(address.repo, name, repo_type=TYPE, revision=commit, local_dir=folder)

    with reaching(address, "fetched"), ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(fetch, names))


def make_data_set(address: HubAddress, *, private: bool) -> None:
    """Make a data set, and the branch that the address names; do nothing where they are there.

    Args:
        address: Data set, and branch.
        private: Whether a data set that is made is private; otherwise it is what its owner's settings say.

    Raises:
        SharingError: If you may not.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with reaching(address, "made"):
        api.create_repo(address.repo, repo_type=TYPE, private=private or None, exist_ok=True)
        if address.revision:
            api.create_branch(address.repo, branch=address.revision, repo_type=TYPE, exist_ok=True)


def commit_files(
    address: HubAddress,
    given: Mapping[str, Path | bytes],
    *,
    gone: Collection[str],
    parent: str,
    message: str,
) -> str:
    """Put files into a data set in one commit, which is made whole or not at all; return it.

    Args:
        address: Data set and branch.
        given: Path -> local file, or content.
        gone: Files of an earlier push to remove.
        parent: Commit that it must follow: if another was made meanwhile, this one is refused.
        message: Message of the commit.

    Raises:
        SharingError: If it cannot be made.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    operations: list[Any] = [CommitOperationDelete(name, is_folder=False) for name in gone]
    operations += [CommitOperationAdd(name, content) for name, content in given.items()]
    with reaching(address, "written"):
        made = HfApi().create_commit(
            address.repo,
            operations,
            commit_message=message,
            repo_type=TYPE,
            revision=address.revision,
            parent_commit=parent,
        )
    return str(made.oid)


def model_licence(model_id: str) -> str:
    """Return the licence that a model's card on the hub names; "" if it cannot be told."""
    from huggingface_hub import HfApi

    address = HubAddress(model_id)
    try:
        with reaching(address, "read"):
            card = HfApi().model_info(model_id).card_data
    except SharingError:
        # Not on the hub, or out of reach: the caller asks for the licence instead.
        return ""
    found = None if card is None else card.get("license")
    named = None if card is None else card.get("license_name")
    value = named if found == "other" else found
    return value if isinstance(value, str) and value != "unknown" else ""
