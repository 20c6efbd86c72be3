"""A small receiver of callbacks: answers 200 to every POST and counts them; GET tells the count and the latest time."""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import cast

from runtime.serving import run, stop_requested, write_ready_file

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CONTENT_LENGTH = b"content-length:"


class Sink(asyncio.Protocol):
    """One connection. It reads as much of HTTP as the simulator's callbacks use, so that the sink costs little."""

    counted = 0
    latest = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so the type is only said.
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(CONTENT_LENGTH)
            length = int(head[at + len(CONTENT_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if head.startswith(b"get "):
                body = json.dumps({"callbacks": Sink.counted, "latest_time": Sink.latest}).encode()
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            else:
                Sink.counted += 1
                Sink.latest = time.time()
                self._transport.write(ANSWER)


async def serve(ready_file: Path) -> None:
    """Serve on a free port until told to stop."""
    stop = stop_requested()
    listener = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=1_024)
    write_ready_file(ready_file, {"address": f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"})
    await stop.wait()
    listener.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    run(serve(parser.parse_args().ready_file))


if __name__ == "__main__":
    main()
