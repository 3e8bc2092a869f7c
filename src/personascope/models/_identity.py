"""Identity of a Transformers model in memory, derived from where it was loaded."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel

from personascope.errors import ModelError
from personascope.identity import ModelIdentity
from personascope.models._cache import sampled_fingerprint
from personascope.models._convert import MANIFEST


def model_identity(model: PreTrainedModel) -> ModelIdentity:
    """Return the identity that `load` gives the same model files.

    A hub model is identified by its commit, a folder by its fingerprint, and a converted GGUF file by its
    SHA-256. A model that was made from a configuration is identified by its name or class alone.

    Raises:
        ModelError: If the folder that it was loaded from cannot be read any more.
    """
    name = str(model.config.name_or_path or type(model).__name__)
    commit = getattr(model.config, "_commit_hash", None)
    if commit:
        return ModelIdentity(name, str(commit))
    folder = Path(name)
    if not (folder / "config.json").is_file():
        return ModelIdentity(name)
    try:
        record = folder / MANIFEST
        if record.is_file():
            return ModelIdentity(name, str(json.loads(record.read_text(encoding="utf-8"))["source_sha256"]))
        return ModelIdentity(name, sampled_fingerprint(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}, which the model was loaded from, cannot be read: {error}",
            hint="load the model again from files that are there",
        ) from error
