"""Check every class of the installed Transformers that generates text, tiny and random, against Transformers.

    python tools/model_sweep.py                     all classes, rewriting docs/models.md
    python tools/model_sweep.py --continue          the same, continuing an interrupted run
    python tools/model_sweep.py qwen3_5_text mamba  these model types, only printed

Each class is built from its own config, shrunk (tests/tiny_configs.py), and checked in a separate process as
``personascope doctor --model`` checks a user's model. The exit code is 1 if anything is SILENTLY_WRONG or a
CRASH.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

PAGE = ROOT / "docs" / "models.md"
RESULTS = ROOT / "build" / "model_sweep.json"
SECONDS = 60
CHUNK = 12
MARK = "RESULT "
# Classes whose text comes from, or goes into, something other than their own text decoder.
NO_TEXT_DECODER = {
    "blt": "reads bytes in patches of its own",
    "gemma4_assistant": "drafts for another model, whose states it reads",
    "gemma4_unified_assistant": "drafts for another model, whose states it reads",
    "moshi": "speaks audio",
    "musicgen": "makes audio",
    "musicgen_melody": "makes audio",
    "muse_glimmer_assistant": "drafts for another model, whose states it reads",
    "trocr": "the decoder of an image reader",
    "whisper": "the decoder of a speech recognizer",
}


def check(model_type: str) -> dict[str, object]:
    """Check one class in this process, and return its outcomes by operation."""
    import torch
    import transformers

    from personascope.engines import TransformersEngine, verify_model
    from personascope.errors import PersonascopeError
    from personascope.models._load import assemble
    from personascope.models._source import ModelSource
    from tiny import tiny_tokenizer
    from tiny_configs import tiny_of

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    try:
        model = tiny_of(model_type)
    except Exception as error:
        return {"not built": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    try:
        source = ModelSource(model_type, "folder", (Path("tiny"),), revision="tiny")
        loaded = assemble(model, tiny_tokenizer("chatml"), source=source)
    except PersonascopeError as error:
        return {"refused": error.message}
    checks = verify_model(TransformersEngine(loaded))
    return {"checks": {check.operation: (check.outcome, check.detail) for check in checks}}


def in_a_process(model_types: list[str]) -> dict[str, dict[str, object]]:
    """Check classes in a separate process; if it ends early, record a crash of the class it was checking."""
    results: dict[str, dict[str, object]] = {}
    while left := [model_type for model_type in model_types if model_type not in results]:
        command = [sys.executable, __file__, "--in-process", *left]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert process.stdout is not None
            clock = threading.Timer(SECONDS * len(left), process.kill)
            clock.start()
            for line in process.stdout:
                if line.startswith(MARK):
                    results |= json.loads(line.removeprefix(MARK))
            code = process.wait()
            clock.cancel()
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or [""]
        left = [model_type for model_type in model_types if model_type not in results]
        if left:
            results[left[0]] = {"crash": f"exit code {code} {last[0]}"}
    return results


def outcome(result: dict[str, object], operation: str) -> str:
    """Return the outcome of one operation of a class."""
    if "checks" in result:
        return result["checks"][operation][0]  # type: ignore[index]
    return "CRASH" if "crash" in result else "ERROR" if "refused" in result else "NOT_BUILT"


def page(classes: dict[str, str], wrappers: dict[str, str], results: dict[str, dict[str, object]]) -> str:
    """Return the text of docs/models.md."""
    import transformers

    from personascope.engines._transformers import OPERATIONS

    decoders = [t for t in classes if t not in NO_TEXT_DECODER]
    whole = [t for t in decoders if all(outcome(results[t], o) == "SUPPORTED" for o in OPERATIONS)]
    counts = Counter(outcome(results[t], o) for t in [*classes, *wrappers] for o in OPERATIONS)
    share = len(whole) / len(decoders)
    lines = [
        "# Models",
        "",
        "Made by `python tools/model_sweep.py`. Do not edit.",
        "",
        f"These are the {len(classes)} causal-LM classes of Transformers {transformers.__version__}, and the "
        f"{len(wrappers)} that put images",
        "before a text decoder.",
        "Each is built tiny, with random weights, from its own config, in float32.",
        "A real model has other widths and weights; `personascope doctor --model NAME` compares the same",
        "on it.",
        "",
        "- SUPPORTED: equal to Transformers itself to a relative 1e-3. The greedy text is held against",
        "  `generate`, pooled means against `hidden_states`, scores against the log-softmax of the logits,",
        "  steered and capped responses against an edit by a plain hook, a batch against each request alone.",
        "- ERROR: refused by name, with the reason in the last column.",
        "- SILENTLY_WRONG: differs. CRASH: fails in another way.",
        "- NOT_BUILT: no tiny model of the class could be made, which says nothing about a real one.",
        "",
        f"{len(whole)} of the {len(decoders)} causal-LM classes with a text decoder of their own are",
        f"SUPPORTED in every operation ({share:.0%}).",
        f"SILENTLY_WRONG: {counts['SILENTLY_WRONG']}. CRASH: {counts['CRASH']}.",
        "",
        "## Causal language models",
        "",
        *_table(classes, results),
        "",
        "## Models that put images before a text decoder",
        "",
        "Their text decoder is what is mapped and steered, on text alone.",
        "",
        *_table(wrappers, results),
    ]
    return "\n".join(lines) + "\n"


def _table(classes: dict[str, str], results: dict[str, dict[str, object]]) -> list[str]:
    from personascope.engines._transformers import OPERATIONS

    lines = [
        "| class | model type | " + " | ".join(OPERATIONS) + " | reason |",
        "|---|---|" + "---|" * len(OPERATIONS) + "---|",
    ]
    for model_type, name in sorted(classes.items(), key=lambda item: item[1].lower()):
        result = results[model_type]
        cells = [outcome(result, operation) for operation in OPERATIONS]
        lines.append(f"| {name} | {model_type} | {' | '.join(cells)} | {_reason(model_type, result)} |")
    return lines


def _reason(model_type: str, result: dict[str, object]) -> str:
    if model_type in NO_TEXT_DECODER:
        return NO_TEXT_DECODER[model_type]
    if "checks" in result:
        bad = [detail for kind, detail in result["checks"].values() if kind != "SUPPORTED"]  # type: ignore[attr-defined]
        text = bad[0] if bad else ""
    else:
        text = str(next(iter(result.values())))
    return text.replace("|", "\\|")[:160]


def main(asked: list[str]) -> int:
    """Check the given classes, or all of them, and return the exit code."""
    from tiny_configs import causal_classes, image_text_classes

    classes, wrappers = causal_classes(), image_text_classes()
    resumed = asked == ["--continue"]
    asked = [] if resumed else asked
    results: dict[str, dict[str, object]] = json.loads(RESULTS.read_text()) if resumed else {}
    chosen = [t for t in asked or [*classes, *wrappers] if t not in results]
    chunks = [chosen[start : start + CHUNK] for start in range(0, len(chosen), CHUNK)]
    RESULTS.parent.mkdir(exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for part in pool.map(in_a_process, chunks):
            results |= part
            RESULTS.write_text(json.dumps(results))
            for model_type, result in part.items():
                print(model_type, json.dumps(result)[:400], flush=True)
    if not asked:
        PAGE.write_text(page(classes, wrappers, results))
    bad = [
        t
        for t, result in results.items()
        if "crash" in result
        or any(kind in ("SILENTLY_WRONG", "CRASH") for kind, _ in result.get("checks", {}).values())  # type: ignore[attr-defined]
    ]
    print(f"{len(results)} classes, SILENTLY_WRONG or CRASH: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-process"]:
        for one in sys.argv[2:]:
            print(MARK + json.dumps({one: check(one)}), flush=True)
    else:
        sys.exit(main(sys.argv[1:]))
