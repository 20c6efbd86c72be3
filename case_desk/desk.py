"""What every page needs: who asks, the service, the forms, and how an answer is made."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, NoReturn, TypeVar

import grpc.aio
import jinja2
from aiohttp import web
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1.operations_service_pb2_grpc import OperationsServiceStub

from case_desk import sentences
from case_desk.config import DeskSettings
from case_desk.forms import FormRefused, Forms, check_origin
from case_desk.persons import Strangers

CALL_SECONDS: Final = 30.0
"""The longest that the service takes for a call."""
FORM_TIME_S: Final = 10.0
"""The longest that a form may take to arrive, whose header is here."""
KEPT_FOR_S: Final = 900.0
KEPT_MAX: Final = 1_000
KEPT_OF_ONE_MAX: Final = 100
"""Of one person, whose oldest then makes room: nobody drives out what others have sent."""

Thing = TypeVar("Thing")


class KeptNoMore(Exception):
    """What was sent is too old, or another person's."""


class TooSlow(Exception):
    """A form did not arrive in time. Nothing was done."""


class CoreChannel:
    """The stub of the channel that is in force. Ask for it anew for each call."""

    operations: OperationsServiceStub

    def take(self, channel: grpc.aio.Channel) -> None:
        """From now on, call through this channel."""
        self.operations = OperationsServiceStub(channel)


@dataclass(slots=True)
class Kept(Generic[Thing]):
    """What a person has sent, by an address that says nothing of it: numbers and reasons never stand in a URL.

    So each page that a form leads to is read by an address of its own, and the back button finds it again.
    """

    _things: OrderedDict[str, tuple[str, float, Thing]] = field(default_factory=OrderedDict)

    def keep(self, person: str, thing: Thing) -> str:
        """The name under which this person finds it again, for a while."""
        for old in [old for old, (_, until, _) in self._things.items() if time.monotonic() >= until]:
            del self._things[old]
        theirs = [old for old, (whose, _, _) in self._things.items() if whose == person]
        if len(theirs) >= KEPT_OF_ONE_MAX:
            del self._things[theirs[0]]
        name = secrets.token_urlsafe(16)
        self._things[name] = (person, time.monotonic() + KEPT_FOR_S, thing)
        if len(self._things) > KEPT_MAX:
            self._things.popitem(last=False)
        return name

    def of(self, person: str, name: str) -> Thing:
        """What this person has sent; KeptNoMore for another person's, and for what is too old."""
        whose, until, thing = self._things.get(name, ("", 0.0, None))
        if thing is None or whose != person or time.monotonic() >= until:
            raise KeptNoMore
        return thing


@dataclass(frozen=True, slots=True)
class Sure:
    """What a person is asked once, before it is done."""

    words: list[str]
    fields: dict[str, str]
    action: str
    back: str


@dataclass(frozen=True, slots=True)
class Desk:
    """The desk's parts."""

    settings: DeskSettings
    core: CoreChannel
    forms: Forms = field(default_factory=Forms)
    strangers: Strangers = field(default_factory=Strangers)
    searches: Kept[pb.FindPaymentsRequest] = field(default_factory=Kept)
    questions: Kept[Sure] = field(default_factory=Kept)


DESK: Final = web.AppKey("desk", Desk)
PERSON: Final = web.RequestKey("person", str)


def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("case_desk"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.globals["say"] = sentences
    made.globals["pb"] = pb
    return made


_TEMPLATES: Final = _templates()


def page(request: web.Request, name: str, status: int = 200, **shown: object) -> web.Response:
    """A page of this template, for the person who asks."""
    person = request.get(PERSON, "")
    desk = request.app[DESK]

    def token(action: str) -> str:
        return desk.forms.token(person, action)

    text = _TEMPLATES.get_template(f"{name}.html").render(person=person, token=token, **shown)
    return web.Response(text=text, status=status, content_type="text/html")


@dataclass(frozen=True, slots=True)
class Sent:
    """A form that a person has sent."""

    request_id: str
    fields: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "").strip()


async def sent_form(request: web.Request) -> Sent:
    """The form, once it is known that this person was shown it by this desk; else FormRefused, or TooSlow."""
    desk = request.app[DESK]
    check_origin(request, desk.settings.origin)
    try:
        async with asyncio.timeout(FORM_TIME_S):
            sent = await request.post()
        fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    except TimeoutError as error:
        raise TooSlow from error
    except (ValueError, LookupError) as error:
        # Not in UTF-8, or in an encoding that nobody knows: no browser sends this from a page of the desk.
        raise FormRefused from error
    return Sent(desk.forms.check(fields.get("token", ""), request[PERSON], request.path), fields)


def ask_once(request: web.Request, sent: Sent, words: list[str], back: str) -> NoReturn:
    """Lead to a page that says in words what will happen; sent from there, the form is done."""
    kept = {name: sent[name] for name in sent.fields if name != "token"}
    question = request.app[DESK].questions.keep(request[PERSON], Sure(words, kept, request.path, back))
    raise web.HTTPSeeOther(f"/sure/{question}")


async def show_question(request: web.Request) -> web.Response:
    """What will happen, in words."""
    sure = request.app[DESK].questions.of(request[PERSON], request.match_info["question"])
    return page(request, "sure", title="Is this right?", sure=sure)
