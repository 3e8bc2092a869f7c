"""A tiny model of random weights whose replies are scripted, so that they think and answer as real ones do.

Activations, log-probabilities and plans are the model's own; only what is drawn is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import transformers

from personascope.engines import Request
from personascope.engines._transformers import _batch
from personascope.mapping import _model_check
from templates import Family
from tiny import family_tokenizer

if TYPE_CHECKING:
    from personascope.models import LoadedModel


def build_model(
    family: Family, *, eos: Sequence[str] = (), head_dim: int = 12
) -> transformers.PreTrainedModel:
    """Return a seeded LLaMA for a family's tokenizer; its generation config names what ends a reply."""
    tokenizer = family_tokenizer(family)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in eos or (family.eos,)]
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer) + (-len(tokenizer)) % 8,
        hidden_size=4 * head_dim,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=4096,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=ends,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = ends
    return model.eval()


def load_family(family: Family, *, eos: Sequence[str] = ()) -> LoadedModel:
    """Return the model of a family as a LoadedModel."""
    from personascope.models._load import assemble
    from personascope.models._source import ModelSource

    source = ModelSource("tests/scripted", "folder", (Path("scripted"),), revision="scripted")
    return assemble(build_model(family, eos=eos), family_tokenizer(family), source=source)


def save_family(family: Family, folder: Path, *, eos: Sequence[str] = (), head_dim: int = 12) -> Path:
    """Save the model and the tokenizer of a family into a folder."""
    build_model(family, eos=eos, head_dim=head_dim).save_pretrained(folder)
    family_tokenizer(family).save_pretrained(folder)
    return folder


def script_replies(patch: pytest.MonkeyPatch, reply: Callable[[Request], Sequence[int]]) -> None:
    """Let every reply of the Transformers engine be what ``reply`` says, its last token the end."""
    whole, draw = _batch.Batch._draw, _batch.draw
    wanted: list[int] = []

    def drawing(batch, rows, logits):  # type: ignore[no-untyped-def]
        scripts = [list(reply(row.queued.request)) for row in rows]
        wanted[:] = [
            script[min(len(row.tokens), len(script) - 1)] for row, script in zip(rows, scripts, strict=True)
        ]
        return whole(batch, rows, logits)

    def drawn(logits, *args):  # type: ignore[no-untyped-def]
        assert len(wanted) == len(draw(logits, *args))
        return torch.tensor(wanted, device=logits.device)

    patch.setattr(_batch.Batch, "_draw", drawing)
    # The check before a map would find out that the replies are not the model's own.
    patch.setattr(_model_check, "verify_model", lambda *_args, **_options: ())
    patch.setattr(_batch, "draw", drawn)
