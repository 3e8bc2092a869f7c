"""A proof on a GPU that needs no vLLM: the Triton kernel, CUDA graphs, and the Transformers engine.

    python benchmarks/gpu_transformers.py

It fetches no model, ends within five minutes on one GPU, and writes gpu_transformers.md there. Each section
runs in a process of its own, for no longer than its time. On a machine without a GPU it runs small, with the
kernel in Triton's interpreter, and prints its tables. Exit code 1: something that must be equal is not, or a
section broke. A goal of cost that is not met is a row of a table, and no failure.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass

import torch
from paired import write_page
from proof import BAD, Row, run_section, table

TOTAL = 285.0
"""Seconds that the sections may take together; the rest of five minutes is for the start."""


SMALL = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
"""What is set without a GPU: toys are slower on several threads, which wait for each other."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the proof.

    Attributes:
        title: Its heading.
        module: The script beside this one that holds it.
        seconds: What it may take on a GPU.
        small: What it may take on a CPU.
        needs_triton: Whether it runs Triton's kernels.
    """

    title: str
    module: str
    seconds: float
    small: float
    needs_triton: bool = True


SECTIONS = {
    "kernel": Section("The kernel against the dynamic flavour", "gpu_kernel", 75, 150),
    "graphs": Section("The kernel in recorded CUDA graphs", "gpu_graphs", 105, 100),
    "engine": Section("The Transformers engine", "gpu_engine", 80, 120, needs_triton=False),
}


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"sections: {', '.join(SECTIONS)}; all by default"
    )
    parser.add_argument("--section", nargs=2, metavar=("NAME", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    small = not torch.cuda.is_available()
    if given.section:
        name, seconds = given.section
        importlib.import_module(SECTIONS[name].module).section(small=small, seconds=float(seconds))
        return 0
    unknown = sorted(set(given.names) - set(SECTIONS))
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; sections are {', '.join(SECTIONS)}")
    return prove(given.names or list(SECTIONS), small=small)


def prove(names: list[str], *, small: bool) -> int:
    """Run sections, print their tables (all of them on a GPU: write the page), and return the exit code."""
    begun = time.monotonic()
    parts: list[str] = []
    verdicts: Counter[str] = Counter()
    triton = importlib.util.find_spec("triton") is not None
    for name in names:
        section = SECTIONS[name]
        environment = {"HF_HUB_OFFLINE": "1"} | (SMALL if small else {})
        if section.needs_triton and not triton:
            rows, took = [Row("the whole section", "Triton is not installed", verdict="skipped")], 0.0
        else:
            left = TOTAL - (time.monotonic() - begun)
            rows, took = run_section(
                __file__, name, section.small if small else section.seconds, left, environment
            )
        verdicts.update(row.verdict for row in rows if row.verdict)
        parts.append(f"## {section.title}\n\n{took:.0f} s.\n\n{table(rows)}")
        print(parts[-1], end="\n\n", flush=True)
    found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    summary = f"Rows: {found}. {time.monotonic() - begun:.0f} s in all."
    if small:
        print(f"{summary} No GPU: small, in Triton's interpreter. This is no result to publish.")
    elif names == list(SECTIONS):
        title = "The kernel, CUDA graphs and the Transformers engine on a GPU"
        write_page(__file__, title, "\n\n".join([summary, *parts]))
    else:
        print(summary)
    return int(any(verdicts[verdict] for verdict in BAD))


if __name__ == "__main__":
    sys.exit(main())
