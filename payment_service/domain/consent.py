"""Who is at work, and how the log of a payment vouches that a second person has agreed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_NAMES: Final = ":"
"""No name on the list of callers has it, so nobody there is taken for a person whom a desk names."""


@dataclass(frozen=True, slots=True)
class Person:
    """An operator at work."""

    proven: str
    """The name that the certificate of the call has on the list of callers; `desk:amina` for a person whom the desk
    that calls names. Whether two of these are two persons, `is_another` says."""
    called: str
    """As the command says, believed as it is."""
    why: str


@dataclass(frozen=True, slots=True)
class Consent:
    """That a second person agrees to what waits."""

    approval_id: UUID
    asked_by: str
    """Who the first person is, as it is proven."""
    by: Person

    @property
    def mark(self) -> str:
        """A digest of who has asked, who agrees and why: in the id of the fact, so that the log vouches for it."""
        return act_digest(["AGREED", str(self.approval_id), self.asked_by, self.by.proven, self.by.called, self.by.why])


def named_by(desk: str, name: str) -> str:
    """A person whom a desk names, as it is proven. A login may be typed in any case, and is one person's."""
    return f"{desk}{_NAMES}{name.lower()}"


def is_another(one: str, other: str) -> bool:
    """Whether two proven names are surely two persons.

    Whom a desk names and whom a certificate names may be the same person by two names.
    """
    return one != other and desk_of(one) == desk_of(other)


def desk_of(proven: str) -> str:
    """The desk that names a person; nothing where a certificate of their own does."""
    desk, names, _ = proven.partition(_NAMES)
    return desk if names else ""


def marked(fact_id: str, consent: str | None) -> str:
    """The id of a fact that a second person had to agree to."""
    return fact_id if consent is None else f"{fact_id}:agreed-{consent}"


def unmarked(fact_id: str) -> str:
    """The same without the second person."""
    return fact_id.partition(":agreed-")[0]


def mark_in(fact_id: str) -> str | None:
    """The digest of who has agreed, where the fact needed it."""
    return fact_id.partition(":agreed-")[2] or None


def act_digest(parts: Sequence[str]) -> str:
    """Stands for what an operator did, who it was and why, none of which can have a NUL."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
