"""Solvers of our tasks."""

from __future__ import annotations

import numpy as np
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, multiple_choice, solver


@solver
def of_map(map: str) -> Solver:
    """Check that a personascope model is the map's; models of other providers are not checked.

    Args:
        map: Folder of the map.
    """
    from personascope.space import PersonaMap

    persona_map = PersonaMap.open(map)
    checked: set[int] = set()

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001
        from personascope.evals.inspect._provider import PersonascopeAPI

        api = get_model().api
        if isinstance(api, PersonascopeAPI) and id(api) not in checked:
            info = api.info
            persona_map.check_model(
                model_id=info.model_id,
                revision=info.model_revision,
                n_layers=info.n_layers,
                d_model=info.d_model,
                chat_digest=info.chat_digest,
            )
            checked.add(id(api))
        return state

    return solve


@solver
def rank_choices() -> Solver:
    """Mark the choice that is the most likely continuation of the sample's text.

    The text is continued verbatim, without a chat template. Models of other providers are asked for a letter
    instead, because they give no log-probabilities here.
    """
    by_letter = multiple_choice()

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        from personascope.evals.inspect._provider import PersonascopeAPI

        api = get_model().api
        if not isinstance(api, PersonascopeAPI):
            return await by_letter(state, generate)
        texts = [choice.value for choice in state.choices]
        ranked = await api.continuations(state.input_text, [f" {text}" for text in texts])
        best = int(np.argmax(ranked))
        for index in range(len(texts)):
            state.choices.mark_choice(index, index == best)
        state.output = ModelOutput.from_content(str(state.model), texts[best])
        state.output.metadata = {
            "plan_digest": None if api.plan is None else api.plan.digest,
            "logprobs": dict(zip(texts, ranked, strict=True)),
        }
        state.messages.append(state.output.message)
        state.completed = True
        return state

    return solve
