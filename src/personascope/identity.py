"""Identify the model that a map, plan, monitor or probe belongs to, and compare it in one way."""

from __future__ import annotations

from dataclasses import dataclass

from personascope.errors import PersonascopeError


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Identity of a model, as far as it is known.

    Models are told apart by revision, because the same files may have another name; by name where a revision
    is unknown. Fields that are None are not compared.

    Attributes:
        id: Name by which the model was asked for.
        revision: Digest or commit of its files; "" if unknown.
        n_layers: Number of layers.
        d_model: Width of the residual stream.
        chat_digest: Digest of the chat format; "" for a model without one.
    """

    id: str
    revision: str = ""
    n_layers: int | None = None
    d_model: int | None = None
    chat_digest: str | None = None

    def differences(self, other: ModelIdentity) -> tuple[str, ...]:
        """Return the differences in words; empty for the same model."""
        known = bool(self.revision and other.revision)
        found: list[str] = []
        if known and self.revision != other.revision:
            found.append("another revision")
        if not known and self.id != other.id:
            found.append("another name")
        for name, mine, theirs in (
            ("number of layers", self.n_layers, other.n_layers),
            ("width", self.d_model, other.d_model),
        ):
            if None not in (mine, theirs) and mine != theirs:
                found.append(f"another {name}, {theirs} and not {mine}")
        if None not in (self.chat_digest, other.chat_digest) and self.chat_digest != other.chat_digest:
            found.append("another chat template")
        return tuple(found)

    def require_same(
        self, other: ModelIdentity, what: str, *, error: type[PersonascopeError], hint: str
    ) -> None:
        """Refuse another model.

        Args:
            other: Model at hand.
            what: Name of the thing that belongs to this model, for the message.
            error: Class of the error.
            hint: Hint of the error.

        Raises:
            PersonascopeError: If the models differ, as an ``error`` that names both models and what differs.
        """
        wrong = self.differences(other)
        if wrong:
            raise error(
                f"{what} is of the model {self.id!r} ({self.revision[:12]}), this is {other.id!r} "
                f"({other.revision[:12]}): {'; '.join(wrong)}",
                hint=hint,
            )
