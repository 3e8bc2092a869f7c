"""Write a corpus in the released JSON format."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from personascope.corpus._types import DEFAULT_NAME, Corpus, Question
from personascope.errors import CorpusError


def write_released(corpus: Corpus, folder: str | Path) -> Path:
    """Write a corpus as ``roles/<role>.json``, ``roles/default.json`` and ``questions.jsonl``.

    Descriptions and question ids are lost (ids become 0, 1, 2 ...). All that makes up requests is kept, so
    ``requests_digest`` survives the round trip. Groups, kinds and areas, by which a design draws, are written
    as fields that other readers ignore.

    Args:
        corpus: Corpus to write.
        folder: Folder that does not exist yet, or is empty. It appears whole or not at all.

    Returns:
        Path of the folder.

    Raises:
        CorpusError: If the folder holds something already, or cannot be written.
    """
    return write_whole(folder, lambda scratch: _write(corpus, scratch))


def write_whole(folder: str | Path, write: Callable[[Path], None]) -> Path:
    """Write a folder that appears whole or not at all.

    Args:
        folder: Folder that does not exist yet, or is empty.
        write: Function that writes the content into the folder that it is given.

    Returns:
        Path of the folder.

    Raises:
        CorpusError: If the folder holds something already, or cannot be written.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CorpusError(
            f"{target}: exists and is not an empty folder", hint="name a folder that does not exist yet"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise CorpusError(
            f"{target}: cannot be written ({error.strerror})", hint="name another folder"
        ) from error
    try:
        write(scratch)
        # mkdtemp admits this user alone, and others should be able to read a corpus.
        scratch.chmod(0o755)
        scratch.replace(target)
    except OSError as error:
        raise CorpusError(
            f"{target}: cannot be written ({error.strerror})", hint="name another folder"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _write(corpus: Corpus, folder: Path) -> None:
    roles = folder / "roles"
    roles.mkdir()
    questions = [question.text for question in corpus.questions]
    entries = [(role.name, role.prompts, role.eval_prompt, role.group) for role in corpus.roles]
    for name, prompts, eval_prompt, group in [*entries, (DEFAULT_NAME, corpus.default_prompts, None, "")]:
        data: dict[str, object] = {"instruction": [{"pos": text} for text in prompts], "questions": questions}
        if eval_prompt is not None:
            data["eval_prompt"] = eval_prompt
        if group:
            data["group"] = group
        text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        (roles / f"{name}.json").write_bytes(text.encode("utf-8"))
    write_questions(corpus.questions, folder)


def write_questions(questions: Sequence[Question], folder: Path) -> None:
    """Write questions in the released format."""
    lines = (
        json.dumps(
            {"question": question.text, "id": index}
            | {name: value for name, value in (("kind", question.kind), ("area", question.area)) if value},
            ensure_ascii=False,
        )
        for index, question in enumerate(questions)
    )
    (folder / "questions.jsonl").write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
