"""The command line, in this process as a rule, and in one of its own where the process is what is tested."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

# Read when the consoles are made: tables as wide as their words.
os.environ["COLUMNS"] = "200"

from personascope.cli import run


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def personascope(*args: object, given: str = "") -> Ran:
    """Run the command line in this process.

    Args:
        args: Arguments.
        given: Standard input.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "stdin", io.StringIO(given)),
        ):
            code = run([str(arg) for arg in args])
    finally:
        # The command line logs to its console, and the tests that follow must not.
        root.handlers[:] = handlers
        root.setLevel(level)
    return Ran(code, out.getvalue(), err.getvalue())


def personascope_process(*args: object, limit_file_size: int | None = None, **env: str) -> Ran:
    """Run the command line in a process of its own.

    Args:
        args: Arguments.
        limit_file_size: Bytes that a file may have at most: writing more fails as on a full disk.
        env: More environment.
    """

    def limit() -> None:
        import resource

        if limit_file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))

    done = subprocess.run(
        [sys.executable, "-m", "personascope", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **env},
        preexec_fn=limit,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
