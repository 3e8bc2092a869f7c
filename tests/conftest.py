"""Settings for every test: one torch thread, and nothing asked of a model hub."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch
from rich.logging import RichHandler

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_console() -> None:
    """Take away the console that a command line run in this process logs to: it is not for other tests."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, RichHandler)]:
        root.removeHandler(handler)
