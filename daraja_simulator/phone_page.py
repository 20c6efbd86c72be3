"""The phones as web pages: a handset for every number, on which a person answers the prompt and reads the messages.

Decides what a browser may do, beyond what visitors.py says. Only one on this machine is answered, by a name of this
machine, and what changes anything must come from a page of ours: other pages that the same browser has open can neither
read a phone, nor take it in hand, nor answer for its person. Without its script a page works by reloading.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web

from daraja_simulator.hands import CANCELLED, NO_FUNDS, PAID, THE_WRONG_PIN, WRONG_PIN
from daraja_simulator.ledger import Push
from daraja_simulator.menu import NOTHING, Typed, pay_bill
from daraja_simulator.phones import BY_NAME, PHONES, RANGE_PREFIX, virtual_phone
from daraja_simulator.texts import account_of, prompt_text, set_balance, written_kes
from daraja_simulator.visitors import is_loopback, own_origin, why_refused
from daraja_simulator.world import World

Page = Callable[[World, web.Request], Awaitable[web.StreamResponse]]

# The most that M-Pesa lets a customer have.
BALANCE_MAX_KES: Final = 500_000
EXAMPLE: Final = "0711234567"
# What a browser says of an address that a person typed or another program opened, and of a link of ours; old ones say
# nothing.
OPENED_BY_A_PERSON: Final = (None, "none", "same-origin")

_FOLDER: Final = Path(__file__).parent
_FILES: Final = {"phone_page.css": "text/css", "phone_page.js": "text/javascript"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # Within our pages the browser must say where a form stands.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# Only who reads a page of ours has it.
_TOKEN: Final = secrets.token_urlsafe(16)
_LOCAL: Final = re.compile(r"(?:\+?254|0)?([17][0-9]{8})")
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


async def choose_phone(world: World, _: web.Request) -> web.StreamResponse:
    return _list(world)


async def take_phone(world: World, request: web.Request) -> web.StreamResponse:
    """A number as people type it, for a phone to take in hand."""
    typed = str((await request.post()).get("number", ""))
    number = number_of(typed)
    if number is None:
        return _list(world, typed, "This is no number of a phone in Kenya. Type one such as 0711234567.", status=400)
    raise web.HTTPSeeOther(f"/phones/{number}")


async def show_phone(world: World, request: web.Request) -> web.StreamResponse:
    """The handset. Whoever opens it has the phone in hand; whom another page leads here, after pressing a button.

    Another page is one of another port of this machine, too.
    """
    number = _number(request)
    if request.headers.get("Sec-Fetch-Site") in OPENED_BY_A_PERSON:
        world.hands.hold(number)
    return _handset(world, number)


async def take_in_hand(world: World, request: web.Request) -> web.StreamResponse:
    """The button of a handset that nobody holds."""
    number = _number(request)
    if not secrets.compare_digest(str((await request.post()).get("token", "")).encode(), _TOKEN.encode()):
        # The page is of a simulator that has ended since.
        return _handset(world, number, status=403)
    world.hands.hold(number)
    raise web.HTTPSeeOther(f"/phones/{number}")


async def show_screen(world: World, request: web.Request) -> web.StreamResponse:
    """What the handset shows now, for the page's script."""
    text, state = _screen(world, _number(request))
    return _answer(text, state=state)


async def answer_prompt(world: World, request: web.Request) -> web.StreamResponse:
    """The PIN, or Cancel, for the prompt that the person has seen."""
    number, form = _number(request), await request.post()
    pin, push_number = str(form.get("pin", "")).strip(), str(form.get("push", ""))
    push = world.hands.prompt_on(number)
    if push is not None and push_number == str(push.number):
        if form.get("answer") == "cancel":
            world.hands.answer(number, push.number, CANCELLED)
        elif re.fullmatch(r"[0-9]{4}", pin, re.ASCII) is None:
            return _handset(world, number, "A PIN has four digits.", status=400)
        else:
            world.hands.answer(number, push.number, _after_pin(world, push, pin))
    # A prompt that has gone meanwhile is answered by nothing; the handset shows what became of it.
    raise web.HTTPSeeOther(f"/phones/{number}")


async def change_balance(world: World, request: web.Request) -> web.StreamResponse:
    number, typed = _number(request), str((await request.post()).get("balance", "")).replace(",", "").strip()
    if not (typed.isascii() and typed.isdigit() and len(typed) <= 6 and int(typed) <= BALANCE_MAX_KES):
        wrong = f"A balance is a whole number of shillings from 0 to {BALANCE_MAX_KES:,}."
        return _handset(world, number, balance_error=wrong, status=400)
    set_balance(world, number, int(typed))
    raise web.HTTPSeeOther(f"/phones/{number}")


async def pay_by_hand(world: World, request: web.Request) -> web.StreamResponse:
    """Pay Bill, in the menu of the handset."""
    number, form = _number(request), await request.post()
    typed = Typed(**{name: str(form.get(name, "")).strip() for name in ("business", "account", "amount", "pin")})
    if why_not := pay_bill(world, number, typed):
        return _handset(world, number, typed=typed, menu_error=why_not, status=400)
    raise web.HTTPSeeOther(f"/phones/{number}")


async def put_down(world: World, request: web.Request) -> web.StreamResponse:
    world.hands.put_down(_number(request))
    raise web.HTTPSeeOther("/phones")


async def send_file(_: World, request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    return _answer((_FOLDER / name).read_text(encoding="utf-8"), content_type=_FILES[name])


ROUTES: Final[tuple[tuple[str, str, Page], ...]] = (
    ("GET", "/phones", choose_phone),
    ("POST", "/phones", take_phone),
    ("GET", "/phones/files/{name}", send_file),
    ("GET", "/phones/{number}", show_phone),
    ("GET", "/phones/{number}/screen", show_screen),
    ("POST", "/phones/{number}/take", take_in_hand),
    ("POST", "/phones/{number}/prompt", answer_prompt),
    ("POST", "/phones/{number}/balance", change_balance),
    ("POST", "/phones/{number}/pay-bill", pay_by_hand),
    ("POST", "/phones/{number}/put-down", put_down),
)


def bind_page(world: World, page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A page as an HTTP handler that answers this machine's browsers only, and our own forms only."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if not is_loopback(request.remote or ""):
            return _answer("The phones are shown to this machine only, at 127.0.0.1 or localhost.", 403, "text/plain")
        if (why := why_refused(request)) is not None:
            return _answer(why, 403, "text/plain")
        if request.method == "POST" and request.headers.get("Origin") != own_origin(request):
            return _answer("This form was not sent by a page of the phones.", 403, "text/plain")
        try:
            return await page(world, request)
        except web.HTTPSeeOther as elsewhere:
            elsewhere.headers.update(_HEADERS)
            raise

    return answer


def number_of(typed: str) -> str | None:
    """As M-Pesa writes it, 2547XXXXXXXX or 2541XXXXXXXX; None when it is no such number."""
    match = _LOCAL.fullmatch(re.sub(r"[\s()-]", "", typed)) if typed.isascii() else None
    return None if match is None else f"254{match[1]}"


def _number(request: web.Request) -> str:
    """The phone of a path; a number in another form leads to the one that its phone has."""
    typed = request.match_info["number"]
    number = number_of(typed)
    if number is None:
        raise web.HTTPSeeOther("/phones")
    if number != typed:
        raise web.HTTPSeeOther(f"/phones/{number}")
    return number


def _after_pin(world: World, push: Push, pin: str) -> str:
    if pin == THE_WRONG_PIN:
        return WRONG_PIN
    return PAID if account_of(world, push.phone).balance_kes >= push.amount else NO_FUNDS


def _list(world: World, typed: str = EXAMPLE, error: str = "", status: int = 200) -> web.Response:
    held = sorted(number for number in world.hands.by_phone if world.hands.holds(number))
    scripted = [(f"{RANGE_PREFIX}00{phone.digits}", phone.text) for phone in PHONES]
    page = _TEMPLATES.get_template("phones.html").render(typed=typed, error=error, held=held, scripted=scripted)
    return _answer(page, status)


def _handset(
    world: World,
    number: str,
    pin_error: str = "",
    balance_error: str = "",
    status: int = 200,
    typed: Typed = NOTHING,
    menu_error: str = "",
) -> web.Response:
    _, state = _screen(world, number)
    page = _TEMPLATES.get_template("phone.html").render(
        _shown(world, number),
        state=state,
        pin_error=pin_error,
        balance_error=balance_error,
        wrong_pin=THE_WRONG_PIN,
        typed=typed,
        menu_error=menu_error,
    )
    return _answer(page, status)


def _screen(world: World, number: str) -> tuple[str, str]:
    """The changing part of the handset, and a short name of its state: the script replaces it when that is new."""
    text = _TEMPLATES.get_template("phone_screen.html").render(_shown(world, number))
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(world: World, number: str) -> dict[str, Any]:
    account, push = account_of(world, number), world.hands.prompt_on(number)
    return {
        "number": number,
        "held": world.hands.holds(number),
        "token": _TOKEN,
        "by_itself": virtual_phone(number).text or "pays",
        "balance": written_kes(account.balance_kes),
        "balance_kes": account.balance_kes,
        "messages": account.messages,
        "push": push,
        "prompt": prompt_text(world, push) if push is not None else "",
        "ended": _last_end(world, number),
    }


def _last_end(world: World, number: str) -> str:
    """How the last prompt ended, in the words of the list of phones; empty before the first."""
    pushes = world.ledger.pushes_by_phone.get(number, ())
    push = next((push for push in reversed(pushes) if push.prompted_time is not None), None)
    if push is None or push.ended_time is None:
        return ""
    name = next((name for name, ending in BY_NAME.items() if ending.result_code == push.result_code), "ended")
    return f"Ksh {push.amount}.00: {name.replace('_', ' ')} ({push.result_code}, {push.result_desc})"


def _answer(text: str, status: int = 200, content_type: str = "text/html", state: str = "") -> web.Response:
    headers = {**_HEADERS, **({"X-Screen-State": state} if state else {})}
    return web.Response(text=text, status=status, content_type=content_type, charset="utf-8", headers=headers)
