"""From where a callback came, and whether Safaricom is known to call from there.

The address of a connection is that of the hop in front, where there is one. What that hop says of the sender is
believed from it alone: anybody else could write the same header. An address on no list is told to a person, and never
refused: the list is incomplete and changes, and all of Safaricom's traffic may come by one host. The token decides.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callback_gateway.alarms import CALLBACK_SOURCE_UNLISTED
from runtime.alarms import raise_alarm
from runtime.networks import Networks, address_in, read_networks
from runtime.rarely import Rarely

SOURCE_HEADER = "X-Source-Address"
"""What the hop in front tells the sender's address by; the files in `deploy/` set it."""

SAFARICOM = read_networks(
    "196.201.214.200, 196.201.214.206, 196.201.214.207, 196.201.214.208, 196.201.213.114, 196.201.213.44,"
    " 196.201.212.127, 196.201.212.138, 196.201.212.129, 196.201.212.136, 196.201.212.74, 196.201.212.69,"
    " 196.201.212.128, 196.201.212.132"
)
"""Addresses that callbacks are published or recorded to come from."""


@dataclass(frozen=True)
class Sources:
    """The hop in front, and from where callbacks are expected."""

    proxies: Networks
    expected: Networks

    def of(self, peer: str | None, told: Sequence[str]) -> str:
        """The sender's address: what the hop tells, if it is the hop and tells one; else that of the connection."""
        connected = address_in(peer or "")
        if connected is None or not self.proxies.hold(connected) or len(told) != 1:
            return peer or ""
        sender = address_in(told[0].strip())
        return str(sender) if sender is not None else peer or ""

    def is_strange(self, source: str) -> bool:
        """Whether it is a public address that no callback is expected from. One that is not public is a hop of ours."""
        sender = address_in(source)
        return bool(self.expected) and sender is not None and sender.is_global and not self.expected.hold(sender)


class StrangeSources:
    """Tells a person of true tokens that came from an address on no list."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._seen = Rarely(now)

    def seen(self, source: str) -> None:
        """One more came. Whoever has a true URL can post to it as often as they like."""
        if seen := self._seen.happened():
            raise_alarm(CALLBACK_SOURCE_UNLISTED, source_address=source, callbacks=seen)
