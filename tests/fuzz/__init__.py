"""Damaged files and arguments by the thousand: an error of ours, never a traceback, a hang, another result.

``pytest tests/fuzz`` runs a short form (PERSONASCOPE_FUZZ=20000 a longer one), and
``python -m tests.fuzz [CASES] [SEED]`` the long one, by hand.
"""

import sys
from pathlib import Path

# The cases of other rooms' tests are what is damaged.
sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("", "interop", "mapping", "cli")]
