"""Whether the ports that a person chose are free, said in terms of the flags that choose them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from development.postgres import HOST
from runtime.serving import Address, AddressTaken


def check_ports(wanted: Mapping[str, int | None]) -> None:
    """Before anything is started: AddressTaken names the port and its flag. One lost later is the part's to report."""
    for flag, port in wanted.items():
        if port is None:
            continue
        with socket.socket() as probe:
            # As servers do: connections of an earlier run that linger do not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                probe.listen(1)
            except OSError:
                raise AddressTaken(Address(HOST, port), flag) from None
