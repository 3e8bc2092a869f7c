"""Check that this engine gives the results of the model's own library on one model.

Every operation is compared with plain forward passes of the model itself, with simple hooks and no cache:
the greedy text with ``generate``, pooled means with ``hidden_states``, scores with the log-softmax of the
logits, plans with the same edit by a hook, and a batch with each request alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from personascope.chat import ChatFormat, Message
from personascope.engines._contract import Capture, Completion, Request, Sampling, ScoreRequest
from personascope.engines._transformers._engine import TransformersEngine
from personascope.errors import EngineError, PersonascopeError
from personascope.interventions import Cap, Plan, Steer
from personascope.models import block_output, replace_block_output, steered

Outcome = Literal["SUPPORTED", "ERROR", "SILENTLY_WRONG", "CRASH"]

OPERATIONS = ("run", "observe", "score", "follow", "steered", "cap")

# Two computations of the same number differ by the rounding of the weights' dtype in every layer.
_TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 6e-2}
_TEXTS = (
    "The sea is calm.",
    "Who wrote the letter that the keeper of the lighthouse found at dawn?",
    "A pirate, a poet and a planner walked into the harbour, and each told another story of the storm.",
)
_REPLY = "It was the old accountant, who counts the waves."


@dataclass(frozen=True, slots=True)
class OperationCheck:
    """Result of checking one operation.

    Attributes:
        operation: "run", "observe", "score", "follow", "steered" or "cap".
        outcome: SUPPORTED if it equals the model's own library; ERROR if a personascope error was raised;
            SILENTLY_WRONG if it differs; CRASH if any other exception was raised.
        detail: Greatest difference, or what is wrong.
    """

    operation: str
    outcome: Outcome
    detail: str


class _Wrong(Exception):  # noqa: N818 - it ends a check and never leaves this file
    """Signal that a value differs from the reference."""


def verify_model(engine: TransformersEngine, *, short: bool = False) -> list[OperationCheck]:
    """Check every operation of an engine on its model.

    Args:
        engine: Engine to check; its model is run a few dozen times on short texts.
        short: Whether to check only ``run`` and ``observe``, which a map needs, on fewer tokens.

    Returns:
        Result of each operation, in the order of `OPERATIONS`.
    """
    check = _Checks(engine, tokens=4 if short else 8)
    operations = ("run", "observe") if short else OPERATIONS
    return [_outcome(name, getattr(check, name)) for name in operations]


def _outcome(name: str, check: Callable[[], str]) -> OperationCheck:
    try:
        return OperationCheck(name, "SUPPORTED", check())
    except _Wrong as wrong:
        return OperationCheck(name, "SILENTLY_WRONG", str(wrong))
    except PersonascopeError as error:
        return OperationCheck(name, "ERROR", error.message)
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        return OperationCheck(name, "CRASH", f"{type(error).__name__}: {text}")


class _Checks:
    """Checks of one engine, each of which returns the greatest difference or raises `_Wrong`."""

    def __init__(self, engine: TransformersEngine, *, tokens: int) -> None:
        chat = engine.chat or ChatFormat.transcript(engine.loaded.tokenizer)
        self.loaded = engine.loaded
        self.engine = engine.with_format(chat)
        self.chat = chat
        self.tokens = tokens
        self.tolerance = _TOLERANCE.get(engine.loaded.dtype, 6e-2)
        self.prompts = [self.engine.encode(text) for text in _TEXTS]
        self.layer = engine.loaded.n_layers // 2
        rng = np.random.default_rng(7)
        self.direction = rng.standard_normal(engine.loaded.d_model).astype(np.float32)

    def run(self) -> str:
        """Compare greedy responses and their pooled means with ``generate`` and ``hidden_states``."""
        together = self._complete(None)
        worst = self._compare(together, None)
        for completion, prompt in zip(together, self.prompts, strict=True):
            alone = self._complete(None, [prompt])[0]
            self._same_text(alone.token_ids, completion.token_ids, prompt, "alone and in a batch")
            if completion.pooled is not None and alone.token_ids == completion.token_ids:
                worst = max(worst, self._near(alone.pooled, completion.pooled, "a batch's pooled means"))
            self._same_text(completion.token_ids, self._own_text(prompt), prompt, "here and by generate")
        return f"greatest difference {worst:.1e}"

    def observe(self) -> str:
        """Compare the means of a conversation's turns with ``hidden_states``."""
        conversation = (Message("user", _TEXTS[1]), Message("assistant", _REPLY))
        rendered = self.chat.render_with_spans(conversation, add_generation_prompt=False)
        stream, _ = self._forward(rendered.token_ids)
        worst = 0.0
        for turn, span in zip(
            self.engine.observe(conversation, capture=Capture()), rendered.spans, strict=True
        ):
            wanted = stream[:, span.start : span.end].mean(1)
            worst = max(worst, self._near(turn.pooled, wanted, f"the means of the {turn.role}'s turn"))
        return f"greatest difference {worst:.1e}"

    def score(self) -> str:
        """Compare scores of continuations that share prompts with the log-softmax of the logits."""
        continuations = [self.engine.encode(text)[-6:] for text in (_REPLY, _TEXTS[0], _TEXTS[2])]
        asked = {
            f"{p}/{c}": ScoreRequest(f"{p}/{c}", prompt, continuation)
            for p, prompt in enumerate(self.prompts)
            for c, continuation in enumerate(continuations)
        }
        worst = 0.0
        for scored in self.engine.score(asked.values()):
            request = asked[scored.id]
            _, logits = self._forward((*request.prompt, *request.continuation))  # pyright: ignore[reportArgumentType]
            drawn = logits[len(request.prompt) - 1 : -1].log_softmax(-1)
            wanted = drawn.gather(-1, torch.tensor(request.continuation)[:, None])[:, 0].numpy()
            worst = max(worst, self._near(scored.logprobs, wanted, "log-probabilities"))
        return f"greatest difference {worst:.1e}"

    def follow(self) -> str:
        """Compare a conversation that is read in two steps with one that is read at once."""
        chat = (Message("user", _TEXTS[0]), Message("assistant", _REPLY))
        chat = (*chat, Message("user", _TEXTS[1]), Message("assistant", _TEXTS[0]))
        follower = self.engine.follow(capture=Capture())
        follower.read(chat[:2])
        follower.read(chat)
        worst = 0.0
        for mine, whole in zip(follower.turns, self.engine.observe(chat, capture=Capture()), strict=True):
            worst = max(worst, self._near(mine.pooled, whole.pooled, "the means of a followed turn"))
        return f"greatest difference {worst:.1e}"

    def steered(self) -> str:
        """Compare steered responses, of the engine and of ``generate``, with an edit by a plain hook."""
        worst = 0.0
        self._own_text(self.prompts[1])
        for where in ("all", "response", "prompt"):
            plan = Plan((Steer(self.layer, self.direction, 0.5, self._norm(), tokens=where),))
            completions = self._complete(plan)
            worst = max(worst, self._compare(completions, plan))
            with steered(self.loaded, plan):
                theirs = self._generated(self.prompts[1])
            self._same_text(
                completions[1].token_ids, theirs, self.prompts[1], f"here and by generate under {where}", plan
            )
        return f"greatest difference {worst:.1e}"

    def cap(self) -> str:
        """Compare capped responses with an edit by a plain hook, and report how often the cap fired."""
        stream, _ = self._forward(self.prompts[1])
        unit = self.direction / np.linalg.norm(self.direction)
        # About half of the tokens are moved.
        floor = float(np.median(stream[self.layer] @ unit))
        plan = Plan((Cap(self.layer, self.direction, floor=floor, tokens="response"),))
        completions = self._complete(plan)
        worst = self._compare(completions, plan)
        fired = sum(c.cap_stats.capped_tokens for c in completions if c.cap_stats is not None)
        return f"greatest difference {worst:.1e}, fired on {fired} tokens"

    def _complete(
        self, plan: Plan | None, prompts: Sequence[tuple[int, ...]] | None = None
    ) -> list[Completion]:
        prompts = self.prompts if prompts is None else prompts
        sampling = Sampling(temperature=0.0, max_new_tokens=self.tokens, min_new_tokens=2)
        requests = [
            Request(str(number), prompt, sampling, plan=plan, capture=Capture())
            for number, prompt in enumerate(prompts)
        ]
        return sorted(self.engine.run(requests), key=lambda completion: int(completion.id))

    def _compare(self, completions: Sequence[Completion], plan: Plan | None) -> float:
        """Compare each response with a plain forward pass, and return the greatest difference."""
        worst = 0.0
        for completion, prompt in zip(completions, self.prompts, strict=True):
            stream, logits = self._forward((*prompt, *completion.token_ids), plan, len(prompt))
            for step, token in enumerate(completion.token_ids):
                if step >= 2 or token not in self.loaded.eos_token_ids:
                    self._check_token(logits[len(prompt) - 1 + step], token, step)
            if completion.pooled is not None:
                wanted = stream[:, len(prompt) :].mean(1)
                worst = max(worst, self._near(completion.pooled, wanted, "pooled means"))
        return worst

    def _check_token(self, logits: Tensor, token: int, step: int) -> None:
        if step < 2:
            logits = logits.clone()
            logits[sorted(self.loaded.eos_token_ids)] = -torch.inf
        if float(logits.max() - logits[token]) > self._tie(logits):
            raise _Wrong(
                f"token {step} of a response is {token}, the model's own choice is {int(logits.argmax())}"
            )

    def _same_text(
        self,
        mine: Sequence[int],
        other: Sequence[int],
        prompt: tuple[int, ...],
        what: str,
        plan: Plan | None = None,
    ) -> None:
        """Raise if two greedy texts differ by more than rounding explains."""
        for step, (a, b) in enumerate(zip(mine, other, strict=False)):
            if a != b:
                _, logits = self._forward((*prompt, *mine[:step]), plan, len(prompt))
                if float((logits[-1, a] - logits[-1, b]).abs()) > self._tie(logits[-1]):
                    raise _Wrong(f"a response differs {what}: {list(mine)} and {list(other)}")
                return
        if len(mine) != len(other):
            raise _Wrong(f"a response differs {what}: {list(mine)} and {list(other)}")

    def _own_text(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """Return the response of ``generate``, after checking that it agrees with the model's plain passes.

        Raises:
            EngineError: If it does not agree or cannot run, so that there is no reference for the engine.
        """
        try:
            theirs = self._generated(prompt)
        except Exception as error:  # no code of this project runs here
            raise EngineError(
                f"the model's own generate cannot run: {type(error).__name__}: {error}",
                hint="check the model's config, or try another release of Transformers",
            ) from error
        _, logits = self._forward((*prompt, *theirs))
        for step, token in enumerate(theirs):
            here = logits[len(prompt) - 1 + step]
            if step >= 2 and float(here.max() - here[token]) > self._tie(here):
                raise EngineError(
                    f"the model's own generate gives token {token}, its plain pass {int(here.argmax())}",
                    hint="this Transformers is at odds with itself on this model: try another release",
                )
        return theirs

    def _tie(self, logits: Tensor) -> float:
        """Return the difference of two logits up to which rounding may decide between their tokens."""
        finite = logits[logits.isfinite()]
        # The greatest logit is far above the mean, and its rounding error grows with its size.
        return 0.5 * self.tolerance * float(finite.max() - finite.mean())

    def _near(self, mine: np.ndarray | None, wanted: np.ndarray | None, what: str) -> float:
        """Return the greatest relative difference of rows; raise if it exceeds the tolerance."""
        if mine is None or wanted is None or mine.shape != wanted.shape:
            raise _Wrong(f"{what} are missing or of another shape")
        difference = np.linalg.norm(mine - wanted, axis=-1) / np.maximum(
            np.linalg.norm(wanted, axis=-1), 1e-6
        )
        worst = float(np.max(difference))
        if not worst <= self.tolerance:
            raise _Wrong(f"{what} differ from the model's own by {worst:.1e}")
        return worst

    def _norm(self) -> float:
        stream, _ = self._forward(self.prompts[1])
        return float(np.linalg.norm(stream[self.layer], axis=-1).mean())

    @torch.inference_mode()
    def _generated(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """Return the greedy response of the model's own ``generate``, without its end token."""
        model: Any = self.loaded.model
        ids = torch.tensor([prompt], device=self.loaded.device)
        ends = sorted(self.loaded.eos_token_ids)
        # The engine does not use penalties and limits of the model's generation config.
        before, model.generation_config = model.generation_config, GenerationConfig()
        try:
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=self.tokens,
                min_new_tokens=2,
                eos_token_id=ends,
                pad_token_id=ends[0] if ends else 0,
            )
        finally:
            model.generation_config = before
        made = out[0, len(prompt) :].tolist()
        return tuple(made[:-1] if made and made[-1] in self.loaded.eos_token_ids else made)

    @torch.inference_mode()
    def _forward(
        self, ids: tuple[int, ...], plan: Plan | None = None, prompt: int = 0
    ) -> tuple[np.ndarray, Tensor]:
        """Pass tokens through the model itself; return residual streams [layers, tokens, d] and logits."""
        blocks = self.loaded.stack.blocks
        seen: dict[int, np.ndarray] = {}
        with _hooks(blocks, seen, plan, prompt):
            shape = self.loaded.stack.call
            options = {"use_cache": False} if shape.use_cache else {}
            output = self.loaded.model(
                input_ids=torch.tensor([ids], device=self.loaded.device), output_hidden_states=True, **options
            )
        stream = np.stack([seen[layer] for layer in range(len(blocks))])
        states = getattr(output, "hidden_states", None)
        if plan is None and states is not None and len(states) > len(blocks):
            self._check_states(stream, [state[0].float().cpu().numpy() for state in states])
        return stream, output.logits[0].float().cpu()

    def _check_states(self, stream: np.ndarray, states: list[np.ndarray]) -> None:
        """Compare block outputs with the library's ``hidden_states``, whose last entry is after the norm."""
        # In most families the first entry is the embeddings; in the Mamba families it is the first block.
        for first in (1, 0):
            theirs = np.stack(states[first : first + len(stream) - 1])
            if np.allclose(theirs, stream[:-1], rtol=1e-3, atol=1e-3 * float(np.abs(theirs).max())):
                return
        raise _Wrong("the blocks' outputs are not the model's hidden_states")


@contextmanager
def _hooks(
    blocks: Sequence[torch.nn.Module], seen: dict[int, np.ndarray], plan: Plan | None, prompt: int
) -> Generator[None]:
    """Edit one sequence by a plain form of the plan's operations, and record each block's output."""

    def hook(layer: int) -> Callable[..., Any]:
        def act(_module: Any, _inputs: Any, output: Any) -> Any:
            stream = block_output(output)[0].float()
            places = torch.arange(stream.shape[0], device=stream.device)
            for op in () if plan is None else plan.ops:
                if op.layer != layer:
                    continue
                unit = torch.from_numpy(op.direction.copy()).to(stream.device)
                along = stream @ unit
                move = torch.full_like(along, op.amount) if isinstance(op, Steer) else torch.zeros_like(along)
                if isinstance(op, Cap):
                    move = (float(op.floor or 0.0) - along).clamp(min=0.0)
                inside = {"all": places >= 0, "prompt": places < prompt, "response": places >= prompt}[
                    op.tokens
                ]
                stream = stream + torch.where(inside, move, 0.0)[:, None] * unit
                output = replace_block_output(output, stream[None].to(block_output(output).dtype))
            seen[layer] = block_output(output)[0].float().cpu().numpy()
            return output

        return act

    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
