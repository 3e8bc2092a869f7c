"""Read logs of Inspect AI by Inspect's own reader, as one transcript per sample."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from personascope.errors import InteropError
from personascope.interop._entries import Transcript, Unreadable, clean, read_entries

# Fields without conversation; the events of an agent's sample can take most of a log.
_SKIPPED = {"events", "store"}


def is_inspect_log(value: object) -> bool:
    """Return whether the value of a JSON file is an Inspect log."""
    return isinstance(value, Mapping) and isinstance(value.get("eval"), Mapping) and "status" in value


def read_inspect_log(path: Path, name: str, value: Any = None) -> Iterator[Transcript | Unreadable]:
    """Yield a transcript per sample of a log; an unreadable sample does not stop the others.

    Args:
        path: .eval file, whose samples are read one at a time, or .json file.
        name: Name of the file in ids.
        value: Value of a .json file; None for an .eval file.

    Raises:
        InteropError: If inspect_ai is not installed.
    """
    try:
        import inspect_ai.log as logs
    except ImportError as error:
        raise InteropError(
            f"{path} is a log of Inspect, and the package inspect_ai is not installed",
            hint="pip install 'personascope[evals]'",
        ) from error
    place = clean(name)
    try:
        if value is None:
            header = logs.read_eval_log(path, header_only=True)
            listed = [(one.id, one.epoch) for one in logs.read_eval_log_sample_summaries(path)]
        else:
            header = logs.read_eval_log(path, resolve_attachments="core")
            listed = [(sample.id, sample.epoch) for sample in header.samples or []]
    except Exception as error:
        # A damaged archive or record can fail in any way, and none is worth a traceback.
        if value is None:
            yield Unreadable(place, f"is no readable log of Inspect ({_first_line(error)})")
        else:
            yield from _one_by_one(logs, value, name)
        return
    if not listed:
        yield Unreadable(place, f"is a log of Inspect without samples (status {header.status})")
    for number, (id_, epoch) in enumerate(listed):
        where = f"sample {id_}, epoch {epoch}"
        try:
            if value is None:
                sample = logs.read_eval_log_sample(
                    path, id_, epoch, resolve_attachments="core", exclude_fields=_SKIPPED
                )
            else:
                sample = (header.samples or [])[number]
        except Exception as error:
            yield Unreadable(clean(f"{name}: {where}"), f"cannot be read ({_first_line(error)})")
            continue
        yield _sample(sample, header.eval, name)


def _one_by_one(logs: Any, value: Mapping[str, Any], name: str) -> Iterator[Transcript | Unreadable]:
    """Read a .json log that Inspect refuses as a whole, sample by sample, to find which cannot be read."""
    samples = value.get("samples")
    for number, sample in enumerate(samples if isinstance(samples, list) else [None], start=1):
        one = json.dumps({**value, "samples": [sample]}).encode()
        try:
            log = logs.read_eval_log(io.BytesIO(one), format="json", resolve_attachments="core")
        except Exception as error:
            why = f"cannot be read ({_first_line(error)})"
            yield Unreadable(clean(f"{name}: sample number {number}"), why)
        else:
            yield _sample(log.samples[0], log.eval, name)


def _sample(sample: Any, of: Any, name: str) -> Transcript | Unreadable:
    scores = {key: score.value for key, score in (sample.scores or {}).items()}
    more: dict[str, Any] = {
        "id": f"{sample.id}/{sample.epoch}",
        "sample": sample.id,
        "epoch": sample.epoch,
        "scores": scores,
        "task": of.task,
        "model": of.model,
        "sample_metadata": dict(sample.metadata or {}),
    }
    if sample.error is not None:
        more["error"] = sample.error.message
    messages = [message.model_dump(mode="json") for message in sample.messages]
    where = f"sample {sample.id}, epoch {sample.epoch}"
    return next(read_entries(messages, file=name, where=where, more=more))


def _first_line(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160])
