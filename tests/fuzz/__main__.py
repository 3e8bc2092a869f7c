"""The long form: ``python -m tests.fuzz [CASES] [SEED]``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest as _conftest  # noqa: F401 - one thread, and nothing asked of a hub


def main(cases: int = 25_000, seed: int = 0) -> int:
    """Run the cases, one in ten of arguments, and print what must not be."""
    from fuzz.arguments import fuzz_arguments
    from fuzz.harness import Found, fuzz_files
    from fuzz.targets import make_targets

    found, begun = Found(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        at = Path(place) / "files"
        at.mkdir()
        targets = make_targets(at)
        fuzz_files(targets, at, cases - cases // 10, seed, found)
        print(f"{found.cases} files, {time.monotonic() - begun:.0f} s", flush=True)
        fuzz_arguments(at, cases // 10, seed, found)
    for line in found.wrong:
        print(line)
    print(f"{found.cases} cases of {len(targets)} kinds of file and the command line in "
          f"{time.monotonic() - begun:.0f} s: {len(found.wrong)} wrong; {dict(found.outcomes)}")  # fmt: skip
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
