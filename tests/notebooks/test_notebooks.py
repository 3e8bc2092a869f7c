"""The notebooks run from top to bottom on the embedded model, made small, and each ends in a figure."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))

SMALL = """
MODEL, RUN = "smollm2-135m", "run"
SIZE = {
    "roles": 12, "questions": 4, "default_samples": 2, "max_new_tokens": 12, "keep": "all", "min_fully": 1,
    "role_information": False,
}
LENGTH = 12
TALKS, OUT = {"conversations": 2, "turns": 2, "max_new_tokens": 8}, NAME
ASKED, STRENGTHS = {"roles": 2, "prompts": 1, "n_random": 1}, (-0.2,)
TRAITS = {
    "names": ["abstract", "blunt"], "profile": "quick", "prompts": 1, "questions": 4, "max_new_tokens": 8,
    "min_pairs": 1,
}
OTHER_MODEL, OTHER_RUN, OTHER = MODEL, "other", {"seed": 0, "questions": 5}
"""
"""Values that stand in place of those of the cell tagged "parameters"."""


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]


def test_there_are_five() -> None:
    assert [path.name[0] for path in FILES] == list("12345")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_is_committed_without_outputs(path: Path) -> None:
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells(path)) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_installs_what_is_missing_first(path: Path) -> None:
    first, second = code(path)[:2]
    assert 'find_spec("personascope") is None' in first and "pip install" in first
    assert second.startswith("import personascope as ps\n")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """One kernel for all notebooks, emptied between them, so that torch is imported once."""
    pytest.importorskip("ipykernel", reason="the extra dev is not installed")
    from jupyter_client.manager import KernelManager

    folder = tmp_path_factory.mktemp("notebooks")
    manager = KernelManager(kernel_name="python3")
    # The kernel draws into the notebook unless another backend is asked for.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    manager.start_kernel(cwd=str(folder), env=environment)
    yield manager, folder
    manager.shutdown_kernel(now=True)


@pytest.mark.real
def test_all_run_and_end_in_a_figure(kernel: tuple[Any, Path]) -> None:
    import nbformat
    from nbclient import NotebookClient

    manager, folder = kernel
    for path in FILES:
        notebook: Any = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = f"import personascope as ps\nNAME = {path.stem!r}\n" + cell.source + SMALL
        notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
        where = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, km=manager, timeout=300, resources=where)
        client.execute(cleanup_kc=False)
        # The kernel goes on; the sockets of this client would else be closed by chance, in any test.
        client.kc.stop_channels()
        (*_, last) = [cell for cell in notebook.cells if cell.cell_type == "code"]
        kinds = {kind for output in last.outputs for kind in output.get("data", {})}
        assert kinds & {"image/png", "image/svg+xml"}, (path.name, last.outputs)
