"""The provider's books, asked for page by page: Pull Transactions, and the registration that it needs once.

What is asked is decided here, from "Daraja: Pull Transactions"; the page there has GET, the live service wants POST.
What an answer means is decided in `book_messages`; when to ask, and for which window, in `pull_transactions`.
Nothing that is asked here moves money, so all of it may be asked again.
"""

from datetime import datetime

from payment_service.daraja.book_messages import (
    NothingLearned,
    NotRegistered,
    Page,
    PullAnswer,
    RegisterAnswer,
    read_page,
    read_registration,
)
from payment_service.daraja.client import DarajaClient, Exchange, post
from payment_service.daraja.messages import NAIROBI
from payment_service.daraja.transport import HttpAnswer, NoAnswer

REGISTER_PATH = "/pulltransactions/v1/register"
PULL_PATH = "/pulltransactions/v1/query"

PAGE_MAX_BYTES = 1024 * 1024
"""A row has some 260 bytes. The documentation counts pages in hundreds, and no limit is written anywhere."""


async def register_pull(
    client: DarajaClient, token: str, shortcode: str, nominated_number: str, callback_url: str
) -> tuple[RegisterAnswer, Exchange]:
    """Register a shortcode for Pull. Repeating it changes nothing."""
    fields = {
        "ShortCode": shortcode,
        "RequestType": "Pull",
        "NominatedNumber": nominated_number,
        "CallBackURL": callback_url,
    }
    return await post(client, token, "register-pull", REGISTER_PATH, fields, read=_registration, name=_name_of)


async def pull(
    client: DarajaClient, token: str, shortcode: str, start: datetime, end: datetime, offset: int
) -> tuple[PullAnswer, Exchange]:
    """The rows of a window from the `offset`th on. The window goes by the second and includes both ends."""
    fields = {
        "ShortCode": shortcode,
        "StartDate": _written(start),
        "EndDate": _written(end),
        "OffSetValue": str(offset),
    }
    return await post(
        client, token, "pull", PULL_PATH, fields, read=_page, name=_name_of, answer_max_bytes=PAGE_MAX_BYTES
    )


def _written(moment: datetime) -> str:
    return moment.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M:%S")


def _page(answer: HttpAnswer | NoAnswer) -> PullAnswer:
    return (
        NothingLearned(answer.why)
        if isinstance(answer, NoAnswer)
        else read_page(answer.status, answer.headers, answer.body)
    )


def _registration(answer: HttpAnswer | NoAnswer) -> RegisterAnswer:
    if isinstance(answer, NoAnswer):
        return NothingLearned(answer.why)
    return read_registration(answer.status, answer.headers, answer.body)


def _name_of(answer: PullAnswer | RegisterAnswer) -> str:
    match answer:
        case Page():
            return f"Page of {answer.length}"
        case NothingLearned(code=code) | NotRegistered(code=code):
            return f"{type(answer).__name__} {code}"
        case _:
            return type(answer).__name__
