"""Who may use what the simulator has beside Daraja's paths: the control API, and the pages of the phones.

Decides the one thing that both rest on: what a browser may send here. Any page that is open in a browser on this
machine can call a port of this machine, and a name of somebody else's can be made to lead here. So nothing is answered
to a page of another origin, and nothing to a name that may be somebody else's: on loopback any but this machine's own,
elsewhere any with a dot in it that is no address, since nobody owns a name without one. Programs send no Origin.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web


def why_refused(request: web.Request) -> str | None:
    """In a sentence, why this request is not answered; None when it is."""
    if request.headers.get("Origin", own_origin(request)) != own_origin(request):
        return "A page of another site sent this, and the simulator answers only its own pages and programs."
    return why_name_refused(_name_in(request.host), by_loopback=_came_by_loopback(request))


def why_name_refused(name: str, *, by_loopback: bool) -> str | None:
    """In a sentence, why nothing is answered to this name, in a request that came so; None when it is."""
    if by_loopback:
        known = name == "localhost" or is_loopback(name)
        return None if known else "This machine answers by its own name only: 127.0.0.1 or localhost."
    if name and ("." not in name or _is_address(name)):
        return None
    return "The simulator answers by an address, or by a name without a dot: others can be made to lead here."


def own_origin(request: web.Request) -> str:
    """What a browser calls the simulator's own pages."""
    return f"http://{request.host}"


def _name_in(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _came_by_loopback(request: web.Request) -> bool:
    """Whether it reached an address of this machine alone, as everything does that reaches a listener on loopback."""
    bound = None if request.transport is None else request.transport.get_extra_info("sockname")
    return bound is not None and is_loopback(str(bound[0]))
