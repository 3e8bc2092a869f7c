"""Check a release of vLLM, from its source alone, for all that the plugin takes hold of.

    python tools/vllm_seams.py vllm-0.33.0-cp38-abi3-manylinux1_x86_64.whl

It takes a wheel, an unpacked one, or the folder of an installed vLLM. No module of it is imported, so a build
for another machine can be checked. It exits with 1 if something is missing.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from personascope.engines._vllm.worker._runner_hooks import V1, V2

SOURCE = Path(__file__).parents[1] / "src" / "personascope"

RUNNERS = {"vllm/v1/worker/gpu_model_runner.py": V1, "vllm/v1/worker/gpu/model_runner.py": V2}
"""File of each model runner, and the methods that are hooked, with their leading parameters."""

READ = {
    "vllm/v1/worker/gpu_model_runner.py": ("requests", "input_batch", "query_start_loc", "input_ids"),
    "vllm/v1/worker/gpu_input_batch.py": ("req_ids", "num_reqs", "num_computed_tokens_cpu"),
    "vllm/v1/worker/gpu/input_batch.py": (
        "req_ids",
        "query_start_loc_np",
        "num_computed_tokens_np",
        "input_ids",
    ),
    "vllm/v1/request.py": ("num_output_tokens", "max_tokens"),
    "vllm/v1/core/sched/output.py": ("scheduled_new_reqs", "finished_req_ids", "prompt_token_ids"),
    "vllm/v1/engine/async_llm.py": ("output_processor", "engine_core", "collective_rpc", "shutdown"),
    "vllm/v1/engine/output_processor.py": ("process_outputs",),
    "vllm/v1/engine/core_client.py": ("get_output_async",),
    "vllm/entrypoints/openai/api_server.py": ("__main__",),
}
"""Attributes that are read from objects of vLLM, by the file that defines them."""


@dataclass(frozen=True)
class Seam:
    """Something of vLLM that the plugin needs.

    Attributes:
        file: File of vLLM, from its root.
        name: Name in this file.
        problem: What is wrong; "" if it is there.
    """

    file: str
    name: str
    problem: str


def check(read: Callable[[str], str | None]) -> list[Seam]:
    """Return all seams of a release; ``read`` returns the text of a file, or None if there is none."""
    trees: dict[str, ast.Module | None] = {}

    def tree(file: str) -> ast.Module | None:
        if file not in trees:
            text = read(file)
            trees[file] = None if text is None else ast.parse(text)
        return trees[file]

    def whole(file: str) -> Iterator[ast.Module]:
        """Yield a module and those whose names it takes over with a star."""
        parsed = tree(file)
        if parsed is not None:
            yield parsed
            for node in parsed.body:
                if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                    folder = file.rpartition("/")[0] if node.level else "."
                    path = f"{folder}/{str(node.module).replace('.', '/')}".removeprefix("./")
                    yield from whole(f"{path}.py")

    found: list[Seam] = []
    for module, name in sorted(set(_imports())):
        file = module.replace(".", "/")
        where = next((path for path in (f"{file}.py", f"{file}/__init__.py") if tree(path)), "")
        if name and read(f"{file}/{name}.py") is not None:
            where, name = f"{file}/{name}.py", ""
        parsed = tree(where) if where else None
        there = parsed is not None and (not name or any(name in _names(one) for one in whole(where)))
        found.append(Seam(where or f"{file}.py", name, "" if there else "is not there"))
    for file, hooks in RUNNERS.items():
        for name, parameters in hooks.items():
            parsed = tree(file)
            found.append(Seam(file, f"{name}({', '.join(parameters)})", _hook(parsed, name, parameters)))
    for file, names in READ.items():
        text = read(file)
        found += [Seam(file, name, "" if text and name in text else "is not there") for name in names]
    return found


def _imports() -> Iterator[tuple[str, str]]:
    """Yield the modules and names that the package imports from vLLM."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
                yield from ((str(node.module), alias.name) for alias in node.names)


def _names(module: ast.Module) -> set[str]:
    """Return every name that a module defines, imports, or hands on by a table of strings."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)
    return names


def _hook(module: ast.Module | None, name: str, parameters: tuple[str, ...]) -> str:
    if module is None:
        return "the file is not there"
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            got = tuple(arg.arg for arg in node.args.args[1:])
            return "" if got[: len(parameters)] == parameters else f"takes ({', '.join(got)})"
    return "is not there"


def reader(place: Path) -> Callable[[str], str | None]:
    """Return how a release's files are read: from a wheel, or from the folder that holds ``vllm``."""
    if place.suffix == ".whl":
        wheel = zipfile.ZipFile(place)
        members = set(wheel.namelist())
        return lambda file: wheel.read(file).decode() if file in members else None
    root = place.parent if place.name == "vllm" else place
    return lambda file: (root / file).read_text() if (root / file).is_file() else None


def main(argv: list[str]) -> int:
    """Print every seam that is missing, and a count."""
    if len(argv) != 1 or not Path(argv[0]).exists():
        print(__doc__, file=sys.stderr)
        return 2
    seams = check(reader(Path(argv[0])))
    missing = [seam for seam in seams if seam.problem]
    for seam in missing:
        print(f"{seam.file}: {seam.name} {seam.problem}")
    print(f"{len(seams) - len(missing)} of {len(seams)} seams are there")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
