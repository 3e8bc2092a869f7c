"""Build the site: ``python -m tools.docsite [OUT]``; the folder is ``build/site`` if not given."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.docsite._llms import write_llms
from tools.docsite._stage import ROOT, stage


def build(out: Path) -> int:
    """Stage all pages beside ``out``, build them without a warning, and write what agents read.

    Returns:
        Exit code: 0, or that of the generator if a page, link or anchor is wrong.
    """
    work = out.parent / f"{out.name}-pages"
    pages = stage(work)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--clean",
        "--strict",
        "--config-file",
        "mkdocs.yml",
    ]
    done = subprocess.run(command, cwd=work, check=False)
    if done.returncode:
        return done.returncode
    write_llms(pages, work / "pages", work / "html")
    shutil.rmtree(out, ignore_errors=True)
    (work / "html").rename(out)
    print(f"{len(pages)} pages: {out / 'index.html'}")
    return 0


def main() -> int:
    """Read the arguments, and build."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    return build(out.resolve())


if __name__ == "__main__":
    sys.exit(main())
