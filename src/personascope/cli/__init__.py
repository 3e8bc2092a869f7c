"""The command line: ``personascope map | show | project | report | corpus | doctor``.

Exit codes: 0 all done, 1 failed, 2 wrong usage, 3 partly done (the same command takes it up again).
"""

from personascope.cli._app import app, main

__all__ = ["app", "main"]
