"""Run by a test in a process of its own: one model over two workers, held to the Transformers engine."""

from __future__ import annotations

import sys
from pathlib import Path

from folder_case import compare

OPTIONS = {
    "tensor": {"tensor_parallel_size": 2},
    "pipeline": {"pipeline_parallel_size": 2},
}


def two_workers(engine) -> None:
    assert len(engine.llm.collective_rpc("personascope_stats")) == 2


if __name__ == "__main__":
    compare(Path(sys.argv[1]), two_workers, **OPTIONS[sys.argv[2]])
    print("2 workers, equal")
