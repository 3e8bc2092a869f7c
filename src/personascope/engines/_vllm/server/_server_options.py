"""What a vLLM server is told about plans, policy and logs, in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personascope.engines._http._policy import Policy, open_policy
from personascope.errors import UsageError
from personascope.store import problem_of

VARIABLE = "PERSONASCOPE_SERVER"
"""Environment variable with the options, as a JSON object."""


class ServerOptions(BaseModel):
    """Options of a server.

    Attributes:
        names: Name -> digest, for the plans that it was given.
        default_plan: Digest of the plan of requests that name none; None for no plan.
        require_plan: Whether no request may switch that plan off.
        policy: Policy file; None without one.
        maker: Function, as "module:name", that returns the maker of inline plans from ``maker_args``.
        maker_args: Texts that it gets.
        reader: Function, likewise, that returns the reader of the map and the page from ``reader_args``.
        reader_args: Texts that it gets.
        log_texts: Whether the log has the texts of requests and replies.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    names: dict[str, str] = Field(default_factory=dict)
    default_plan: str | None = None
    require_plan: bool = False
    policy: str | None = None
    maker: str | None = None
    maker_args: list[str] = Field(default_factory=list)
    reader: str | None = None
    reader_args: list[str] = Field(default_factory=list)
    log_texts: bool = False

    def variable(self) -> str:
        """Return the value of the environment variable, without what is at its default."""
        return json.dumps(self.model_dump(exclude_defaults=True), sort_keys=True)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> ServerOptions:
        """Read the options from the environment variable; without it, the defaults.

        Raises:
            UsageError: If it is malformed.
        """
        text = environment.get(VARIABLE, "{}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            found = problem_of(error, unions=True)
            raise UsageError(
                f"${VARIABLE} is wrong at {found.field or 'its beginning'}: {found.reason}",
                hint="take it from personascope serve --print-command",
            ) from None

    def read_policy(self) -> Policy:
        """Return the policy, in which a required plan is required of every key.

        Raises:
            UsageError: If the policy file is malformed, or contradicts the options.
        """
        if self.require_plan and self.default_plan is None:
            raise UsageError("a plan is required, and there is no default", hint="give --default-plan")
        return open_policy(self.policy, required=self.default_plan if self.require_plan else None)
