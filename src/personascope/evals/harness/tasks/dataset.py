"""The questions of our tasks, in the form that lm-evaluation-harness asks for.

The harness loads this file by its path and calls a function with the task's metadata as keywords.
"""

# pyright: standard
# (datasets comes without types.)

from __future__ import annotations

from dataclasses import asdict

import datasets

from personascope.corpus.datasets import load_basics, load_sums


def basics(**_metadata: object) -> datasets.DatasetDict:
    """Return ``personascope_basics``: one split, ``test``."""
    rows = [asdict(question) for question in load_basics()]
    return datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)})


def sums(**_metadata: object) -> datasets.DatasetDict:
    """Return ``personascope_sums``: the splits ``test`` and ``example``."""
    rows = [asdict(question) for question in load_sums()]
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list([row for row in rows if row["split"] == split])
            for split in ("test", "example")
        }
    )
