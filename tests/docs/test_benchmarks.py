"""The scripts of ``benchmarks``, whose folder comes first on the path when one of them runs."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "benchmarks"

TRIED = {"coverage"}
"""Modules that libraries import where they find them: numba takes any ``coverage`` for the real one."""


def test_no_script_stands_before_a_module_that_others_import():
    names = {path.stem for path in SCRIPTS.glob("*.py")}
    assert len(names) > 20
    assert not names & (TRIED | set(sys.stdlib_module_names) | set(packages_distributions()))
