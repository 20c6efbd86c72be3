"""Who may use what the simulator has beside Daraja's paths: the control API, and the pages of the phones.

Decides the one thing that both rest on: what a browser may send here. Any page that is open in a browser on this
machine can call a port of this machine, and a name of somebody else's can be made to lead here. So nothing is answered
to a page of another origin, and on loopback nothing to a name that is not this machine's. Programs send no Origin.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web


def why_refused(request: web.Request) -> str | None:
    """In a sentence, why this request is not answered; None when it is."""
    if request.headers.get("Origin", own_origin(request)) != own_origin(request):
        return "A page of another site sent this, and the simulator answers only its own pages and programs."
    if _came_by_loopback(request) and not _names_this_machine(request):
        return "This machine answers by its own name only: 127.0.0.1 or localhost."
    return None


def own_origin(request: web.Request) -> str:
    """What a browser calls the simulator's own pages."""
    return f"http://{request.host}"


def _names_this_machine(request: web.Request) -> bool:
    try:
        host = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or is_loopback(host)


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _came_by_loopback(request: web.Request) -> bool:
    """Whether it reached an address of this machine alone, as everything does that reaches a listener on loopback."""
    bound = None if request.transport is None else request.transport.get_extra_info("sockname")
    return bound is not None and is_loopback(str(bound[0]))
