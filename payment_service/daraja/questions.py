"""A question that is acknowledged now and answered later by a result: Transaction Status, and Account Balance.

Asking moves no money, so it may be asked again; that a wrong password locks is for the caller to mind. The answer to
the question only says that it was taken. What its result says is read beside the question.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.envelopes import NothingLearned, learned, lenient_json, read_nothing
from payment_service.daraja.initiator import Initiator
from payment_service.daraja.results import DONE
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind

_IDENTIFIER_TYPE = {ShortcodeKind.TILL: "2", ShortcodeKind.PAYBILL: "4"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The question was taken; its result comes later, or never."""


async def ask(
    client: DarajaClient,
    token: str,
    operation: str,
    path: str,
    fields: Mapping[str, object],
    *,
    initiator: Initiator,
    shortcode: Shortcode,
    token_alarm: str,
) -> tuple[Asked | NothingLearned, Exchange]:
    """Ask once, as our operator, about the shortcode. `token_alarm` is what to check when the token is refused."""
    answer, classified = await post(
        client,
        token,
        operation,
        path,
        {
            "Initiator": initiator.name,
            "SecurityCredential": initiator.credential(),
            "PartyA": shortcode.party_b,
            "IdentifierType": _IDENTIFIER_TYPE[shortcode.kind],
            **fields,
        },
        secret="SecurityCredential",
    )
    said = learned(answer, partial(read_acknowledgement, token_alarm=token_alarm))
    return said, classified(_name_of(said))


def _name_of(answer: Asked | NothingLearned) -> str:
    return f"NothingLearned {answer.code}" if isinstance(answer, NothingLearned) else "Asked"


def read_acknowledgement(
    status: int, headers: Mapping[str, str], body: bytes, token_alarm: str
) -> Asked | NothingLearned:
    """What the answer to the question itself says. `headers` is asked with lower-case names."""
    value = lenient_json(body)
    code = value.get("ResponseCode") if isinstance(value, dict) else None
    if status == 200 and (code == DONE or (type(code) is int and code == 0)):
        return Asked()
    return read_nothing(status, headers, body, token_alarm)
