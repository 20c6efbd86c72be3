"""A TCP relay between a client and whatever serves: it can cut every connection, go silent, and change sides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536


@dataclass
class Relay:
    """One listening address. `upstream` is where connections to come lead."""

    upstream: str
    address: str = ""
    connections: int = 0
    silent: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Reset every connection that is open."""
        for writer in list(self._open):
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        host, _, port = self.upstream.rpartition(":")
        try:
            answers, requests = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, requests}
        pumps = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, requests), (answers, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, requests):
                end.transport.abort()
                self._open.discard(end)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(CHUNK_BYTES):
                if self.silent:
                    # A network that has gone: nothing arrives, and nobody is told.
                    continue
                writer.write(content)
                await writer.drain()


@contextlib.asynccontextmanager
async def running_relay(upstream: str) -> AsyncIterator[Relay]:
    """A relay on a free port of this machine."""
    relay = Relay(upstream)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Cancelled only below, and asyncio would report a connection that ended so as a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await relay.carry(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
