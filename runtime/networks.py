"""Addresses and networks, as settings list them: whose word is believed, and from where requests are expected."""

import ipaddress
from typing import Annotated

from pydantic import PlainValidator
from pydantic_settings import NoDecode

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Networks(tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]):
    """Addresses and networks, written as they are set."""

    __slots__ = ()

    def hold(self, address: IpAddress) -> bool:
        """Whether the address is one of these."""
        return any(address in network for network in self)

    def __str__(self) -> str:
        return ", ".join(str(one.network_address if one.num_addresses == 1 else one) for one in self)


def read_networks(text: object) -> Networks:
    """Those that a text lists, with commas between; ValueError says what was expected."""
    if isinstance(text, Networks):
        return text
    try:
        return Networks(ipaddress.ip_network(part.strip()) for part in str(text).split(",") if part.strip())
    except ValueError:
        raise ValueError("expected addresses or networks like 10.0.0.5 or 10.0.0.0/28, with commas between") from None


# The type of a setting that lists addresses and networks.
NetworksSetting = Annotated[Networks, NoDecode, PlainValidator(read_networks)]


def address_in(text: str) -> IpAddress | None:
    """The address that a text is; an IPv4 address that came over IPv6 is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
