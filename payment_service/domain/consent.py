"""Who is at work, and how the log of a payment vouches that a second person has agreed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Person:
    """An operator at work."""

    proven: str
    """The name that the certificate of the call has on the list of callers. Two persons are two of these."""
    called: str
    """As the command says, believed as it is."""
    why: str


@dataclass(frozen=True, slots=True)
class Consent:
    """That a second person agrees to what waits."""

    approval_id: UUID
    asked_by: str
    """As the first person's certificate says."""
    by: Person

    @property
    def mark(self) -> str:
        """A digest of who has asked, who agrees and why: in the id of the fact, so that the log vouches for it."""
        return act_digest(["AGREED", str(self.approval_id), self.asked_by, self.by.proven, self.by.called, self.by.why])


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
