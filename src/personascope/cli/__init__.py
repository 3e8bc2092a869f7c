"""The command line, as a program and as a function.

Exit codes: 0 all done, 1 failed, 2 wrong usage, 3 partly done (the same command takes it up again).
"""

from personascope.cli._app import main, run

__all__ = ["main", "run"]
