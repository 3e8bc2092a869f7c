"""The harness's own command line, with our model and tasks registered.

Every command and flag is the harness's. ``--model personascope`` selects our model, and our own tasks are
available along with those of ``--include_path``.
"""

from __future__ import annotations

import sys

from lm_eval._cli import HarnessCLI
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.utils import setup_logging

from personascope.errors import PersonascopeError
from personascope.evals.harness._register import register, task_paths
from personascope.text import escape_controls


def main() -> None:
    """Run the harness; a `PersonascopeError` ends it with its message and exit code."""
    setup_logging()
    register()
    cli = HarnessCLI()
    args = cli.parse_args()
    if hasattr(args, "include_path"):
        theirs = args.include_path
        if theirs is None and getattr(args, "config", None):
            theirs = EvaluatorConfig.load_yaml_config(args.config).get("include_path")
        more = theirs if isinstance(theirs, list) else [theirs] if theirs else []
        args.include_path = task_paths(*more)
    try:
        cli.execute(args)
    except PersonascopeError as error:
        print(escape_controls(f"error: {error}"), file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
