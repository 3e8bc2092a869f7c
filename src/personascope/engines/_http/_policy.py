"""Policy of a server: who may ask, under which plans, how much; read from a TOML or JSON file."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personascope.errors import UsageError
from personascope.store import problem_of

_HINT = "docs/policy.md has the form of a policy file"

NO_PLAN = "none"
"""Name that asks for no plan; in a list of allowed plans, requests without one."""

INLINE_PLANS = "inline"
"""Word in a list of allowed plans: any plan that a request writes or changes itself."""

_Count = Annotated[int, Field(ge=1, le=2**40)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _RulesRecord(_Strict):
    plans: list[_Name] | None = None
    default_plan: _Name | None = None
    require_plan: _Name | None = None
    read_only: bool | None = None
    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    max_concurrent: _Count | None = None


class _KeyRecord(_RulesRecord):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class _StoreRecord(_Strict):
    max_plans: _Count | None = None
    max_probes: _Count | None = None


class _PolicyRecord(_Strict):
    format: Annotated[int, Field(ge=1, le=1)]
    default: _RulesRecord = Field(default_factory=_RulesRecord)
    aliases: dict[_Name, _Name] = Field(default_factory=dict)
    store: _StoreRecord = Field(default_factory=_StoreRecord)
    keys: list[_KeyRecord] = Field(default_factory=list[_KeyRecord])


@dataclass(frozen=True, slots=True)
class Rules:
    """What the requests of one key may do.

    Attributes:
        name: Name of the key in logs and errors; "" for a server without named keys.
        plans: Names, aliases or digests of the plans that may be named, with `NO_PLAN` and `INLINE_PLANS` as
            words; None for all of these.
        default_plan: Plan of requests that name none; None for the server's.
        require_plan: Plan of requests that name none, which no request can switch off; None if there is none.
        read_only: Whether plans and probes may not be uploaded or deleted.
        requests_per_minute: Maximum number of requests in any 60 seconds; None for no limit.
        tokens_per_minute: Number of tokens, of prompts and replies, after which requests are refused for the
            rest of 60 seconds; None for no limit.
        max_concurrent: Maximum number of requests that are under way; None for no limit.
    """

    name: str = ""
    plans: tuple[str, ...] | None = None
    default_plan: str | None = None
    require_plan: str | None = None
    read_only: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        """Refuse rules that contradict themselves.

        Raises:
            UsageError: If so; the message names the rule.
        """
        of = f"the policy of the key {self.name!r}" if self.name else "the policy"
        if self.require_plan == NO_PLAN:
            raise UsageError(f"{of} requires the plan 'none'", hint="name a plan, or leave require_plan out")
        if self.require_plan is not None and self.default_plan not in (None, self.require_plan):
            raise UsageError(
                f"{of} requires {self.require_plan!r} and has the default {self.default_plan!r}",
                hint="a required plan is the default; leave default_plan out",
            )
        loose = sorted({NO_PLAN, INLINE_PLANS} & set(self.plans or ()))
        if self.require_plan is not None and loose:
            raise UsageError(
                f"{of} requires a plan and allows {loose[0]!r}",
                hint="with require_plan, plans may list other named plans only",
            )

    @property
    def first(self) -> str | None:
        """Plan of requests that name none; None for the server's default."""
        return self.require_plan or self.default_plan

    @property
    def pinned(self) -> tuple[str, ...]:
        """Names of all plans that the rules speak of."""
        named = (*(self.plans or ()), *(filter(None, (self.require_plan, self.default_plan))))
        return tuple(name for name in dict.fromkeys(named) if name not in (NO_PLAN, INLINE_PLANS))


@dataclass(frozen=True, slots=True)
class Quota:
    """Maximum numbers of entries of the plan store; None for no limit."""

    plans: int | None = None
    probes: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Keys of a server with their rules.

    Attributes:
        rules: Rules of requests where there are no keys.
        keys: SHA-256 of each key, and its rules; a server with keys answers nobody else.
        aliases: Further names of plans -> name or digest.
        quota: Limits of the plan store.
    """

    rules: Rules = field(default_factory=Rules)
    keys: tuple[tuple[bytes, Rules], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    quota: Quota = field(default_factory=Quota)

    @classmethod
    def of_key(cls, key: str | None, rules: Rules | None = None) -> Policy:
        """Return the policy of a server with one key, or none."""
        return cls(rules or Rules()).with_key(key)

    def with_key(self, key: str | None) -> Policy:
        """Return the policy with one key, which has the rules of requests without any."""
        if not key:
            return self
        return replace(self, keys=((hashlib.sha256(key.encode()).digest(), self.rules),))

    def requiring(self, plan: str) -> Policy:
        """Return the policy in which every request has a required plan: its key's default, or else this one.

        Raises:
            UsageError: If a key allows requests without a plan.
        """

        def required(rules: Rules) -> Rules:
            if rules.require_plan is not None:
                return rules
            return replace(rules, require_plan=rules.default_plan or plan)

        return replace(
            self,
            rules=required(self.rules),
            keys=tuple((digest, required(rules)) for digest, rules in self.keys),
        )

    @property
    def all_rules(self) -> tuple[Rules, ...]:
        """Rules of every key, and those without a key."""
        return (self.rules, *(rules for _, rules in self.keys))

    def rules_of(self, authorization: bytes) -> Rules | None:
        """Return the rules of a request by its ``Authorization`` header; None if its key is missing or wrong.

        Digests are compared in constant time, and all of them, so that the time tells nothing of a key.
        """
        if not self.keys:
            return self.rules
        scheme, _, key = authorization.partition(b" ")
        given = hashlib.sha256(key.strip()).digest()
        found: Rules | None = None
        for digest, rules in self.keys:
            if hmac.compare_digest(given, digest):
                found = rules
        return found if scheme.lower() == b"bearer" else None


def open_policy(path: Path | str | None, *, required: str | None) -> Policy:
    """Return the policy of a server: that of a file, or one that allows all.

    Args:
        path: Policy file; None for none.
        required: Digest of a plan that every request has if its key has no default of its own, or None.

    Raises:
        UsageError: If the file is malformed (`read_policy`), or a key allows requests without a plan.
    """
    policy = Policy() if path is None else read_policy(path)
    return policy if required is None else policy.requiring(required)


def read_policy(path: Path | str, environment: Mapping[str, str] | None = None) -> Policy:
    """Read a policy file.

    Args:
        path: File, TOML or, if its name ends with .json, JSON.
        environment: Environment variables, which hold keys that the file names; those of the process if not
            given.

    Raises:
        UsageError: If the file cannot be read, has an unknown or malformed field, contradicts itself, or
            names a variable that is not set.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
        value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"the policy {path} cannot be read: {error.strerror}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the policy {path} is malformed: {error}"[:300], hint=_HINT) from error
    try:
        # Validate as JSON, where the strict mode takes no other types.
        record = _PolicyRecord.model_validate_json(json.dumps(value, default=str))
    except ValidationError as error:
        found = problem_of(error, unions=True)
        # A value that is refused may be a key in clear, so it is not shown.
        reason = "is unknown" if found.kind == "extra_forbidden" else f"is wrong: {found.reason}"
        if found.kind == "missing":
            reason = "is missing"
        raise UsageError(f"the policy {path}: the field {found.field!r} {reason}", hint=_HINT) from None
    names = [key.name for key in record.keys]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the policy {path} has the key {twice!r} twice", hint="give each key its own name")
    keys = [(_digest(key, path, environment), _rules(key, record.default)) for key in record.keys]
    digests = [digest for digest, _ in keys]
    same = [rules.name for digest, rules in keys if digests.count(digest) > 1]
    if same:
        raise UsageError(f"the policy {path} gives {' and '.join(same[:2])} one key", hint=_HINT)
    quota = Quota(record.store.max_plans, record.store.max_probes)
    return Policy(_rules(record.default, record.default), tuple(keys), dict(record.aliases), quota)


def _digest(key: _KeyRecord, path: Path, environment: Mapping[str, str] | None) -> bytes:
    if (key.env is None) == (key.sha256 is None):
        raise UsageError(
            f"the policy {path}: the key {key.name!r} has {'both' if key.env else 'neither'} env and sha256",
            hint="give the name of an environment variable (env), or the SHA-256 of the key (sha256)",
        )
    if key.sha256 is not None:
        return bytes.fromhex(key.sha256)
    value = (os.environ if environment is None else environment).get(str(key.env), "")
    if not value:
        raise UsageError(
            f"the policy {path}: the key {key.name!r} is in ${key.env}, which is not set",
            hint="set the variable before the server starts",
        )
    return hashlib.sha256(value.encode()).digest()


def _rules(record: _RulesRecord, base: _RulesRecord) -> Rules:
    """Return the rules of a record; what it leaves out is the file's default."""
    own = record.model_dump(exclude_none=True, exclude={"env", "sha256"})
    # A required plan replaces the plans of the default, which may contradict it, and the other way round.
    inherited = base.model_dump(exclude_none=True)
    if {"require_plan", "default_plan"} & set(own):
        inherited.pop("default_plan", None)
    if "require_plan" in own and "plans" not in own:
        inherited.pop("plans", None)
    return Rules(**{name: _frozen(value) for name, value in (inherited | own).items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
