"""A TCP proxy that can strike at an exact point of an exchange, say after half of a request has gone through.

What an exchange is, the protocol's reader decides (see `tests/kill/wires.py`): it cuts both streams into pieces and
names those that are a whole request or a whole answer. Such a piece is held until it is complete, so every point of it
can be hit exactly. What happens at the point is the caller's: mostly a SIGKILL. The connection is then cut, and nothing
more goes through it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from development.slowness import slowness

CONNECT_WAIT_SECONDS = 5.0 * slowness()
CHUNK_BYTES = 65_536


class Point(StrEnum):
    """How far an exchange has gone through."""

    BEFORE_FIRST_BYTE = "before the first byte"
    MID_REQUEST = "mid-request"
    REQUEST_COMPLETE = "request complete"
    MID_ANSWER = "mid-answer"
    ANSWER_COMPLETE = "answer complete"


REQUEST_POINTS = frozenset({Point.BEFORE_FIRST_BYTE, Point.MID_REQUEST, Point.REQUEST_COMPLETE})
ANSWER_POINTS = frozenset({Point.MID_ANSWER, Point.ANSWER_COMPLETE})


@dataclass(frozen=True)
class Piece:
    """Some bytes of one direction. With names, they are one whole request or answer, of the exchanges named so."""

    content: bytes
    names: frozenset[str] = frozenset()


class Wire(Protocol):
    """One connection's protocol: bytes as they come, pieces as they are complete."""

    def requests(self, content: bytes) -> list[Piece]:
        """What the client has sent."""

    def answers(self, content: bytes) -> list[Piece]:
        """What the server has sent."""


@dataclass(frozen=True)
class Strike:
    """What to do at which point of the next exchange with this name."""

    name: str
    point: Point
    act: Callable[[], None]
    done: asyncio.Event = field(default_factory=asyncio.Event)


class _Struck(Exception):
    """The connection is to be cut."""


class Proxy:
    """One listening address; `upstream` may change, for connections to come."""

    def __init__(self, wire: Callable[[], Wire], upstream: tuple[str, int]) -> None:
        self._wire = wire
        self.upstream = upstream
        self.port = 0
        self.strike: Strike | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            async with asyncio.timeout(CONNECT_WAIT_SECONDS):
                server_reader, server_writer = await asyncio.open_connection(*self.upstream)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        wire = self._wire()
        pumps = {
            asyncio.create_task(self._pump(reader, server_writer, wire.requests, REQUEST_POINTS)),
            asyncio.create_task(self._pump(server_reader, writer, wire.answers, ANSWER_POINTS)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            # Closed, not aborted: what has gone through is to arrive.
            server_writer.close()
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pieces: Callable[[bytes], list[Piece]],
        points: frozenset[Point],
    ) -> None:
        with contextlib.suppress(OSError, _Struck):
            while content := await reader.read(CHUNK_BYTES):
                for piece in pieces(content):
                    strike = self.strike
                    if strike is not None and strike.name in piece.names and strike.point in points:
                        self.strike = None
                        await _hit(strike, piece, writer)
                    writer.write(piece.content)
                await writer.drain()


async def _hit(strike: Strike, piece: Piece, writer: asyncio.StreamWriter) -> None:
    whole = len(piece.content)
    match strike.point:
        case Point.BEFORE_FIRST_BYTE:
            through = 0
        case Point.MID_REQUEST | Point.MID_ANSWER:
            through = whole // 2
        case Point.REQUEST_COMPLETE | Point.ANSWER_COMPLETE:
            through = whole
    writer.write(piece.content[:through])
    await writer.drain()
    strike.act()
    strike.done.set()
    raise _Struck


@contextlib.asynccontextmanager
async def running_proxy(wire: Callable[[], Wire], upstream: tuple[str, int]) -> AsyncIterator[Proxy]:
    """A proxy on a free port of this machine."""
    proxy = Proxy(wire, upstream)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        # Cancelled only below, and asyncio would report a connection that ended so as a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await proxy.serve(reader, writer)
        connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for connection in list(connections):
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
