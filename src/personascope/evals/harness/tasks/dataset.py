"""The questions of our tasks as Hugging Face datasets, as lm-evaluation-harness expects them.

The harness loads this file by path and calls a function with the task's metadata as keyword arguments.
"""

# pyright: standard
# (datasets comes without types.)

from __future__ import annotations

from dataclasses import asdict

import datasets

from personascope.corpus.datasets import load_basics, load_sums


def basics(**_metadata: object) -> datasets.DatasetDict:
    """Return the questions of ``personascope_basics``, with the split ``test``."""
    rows = [asdict(question) for question in load_basics()]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def sums(**_metadata: object) -> datasets.DatasetDict:
    """Return the questions of ``personascope_sums``, with the splits ``test`` and ``example``."""
    rows = [asdict(question) for question in load_sums()]
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list([row for row in rows if row["split"] == split])
            for split in ("test", "example")
        }
    )
