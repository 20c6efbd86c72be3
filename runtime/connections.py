"""Which connections may stay open, and for how long.

aiohttp waits for ever for a client that sends nothing, or half a header. Here every connection is in one of two
states, and each has a bound:

- *waiting*: no complete header of an unanswered request has arrived. From the first byte of a header (for a new
  connection: from its opening) the rest must come within `header_time_s` and HEADER_MAX_BYTES. Between requests a
  connection may idle for `idle_time_s`.
- *in hand*: a request is being answered; its body has a bound of its own, where it is read. A client that sends request
  after request and reads no answer is dropped once its answers have been stuck for `UNREAD_TIME_S`.

A client that was answered before it had sent its body waits like any other, but what it still sends is no header:
aiohttp reads it away for `LINGERING_TIME_S` and then closes.

Whoever answers says so by `answered`, request by request. Over TLS a connection begins here once the handshake is over,
which has a bound of its own in `renewed_site`.

When all places are taken, the connection that has waited longest gives up its own to the newcomer. So ten thousand
stalled sockets keep out no one who sends a whole request: it is in hand as soon as it has arrived. Only if every place
is in hand is a newcomer turned away.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import StreamReader, web

from runtime.alarms import Alarm, raise_alarm

# Safaricom's whole header is under 1 KiB.
HEADER_MAX_BYTES = 16_384
HEADER_LINE_MAX_BYTES = 8_190
HEADERS_MAX = 64
# How long an answered client may go on sending a body that nobody wants. Closing at once would reset the connection,
# and the client might never see the answer.
LINGERING_TIME_S = 1.0
# How long a closed connection may take to deliver what was written to it; a client that reads nothing gets no more.
FLUSH_TIME_S = 1.0
# How long answers may be stuck, with every buffer on the way full of them. No honest client gets there: it would have
# to leave thousands of answers unread.
UNREAD_TIME_S = 5.0


@dataclass(eq=False)
class Connections:
    """The open connections of one program."""

    header_time_s: float
    idle_time_s: float
    connections_max: int
    server_name: str
    """As its answers say it."""
    fault: Alarm
    """Raised for what goes wrong outside of any handler."""
    counts: Counter[str] = field(default_factory=Counter)
    draining: bool = False
    # In the order in which they began to wait.
    waiting: dict["BoundedConnection", None] = field(default_factory=dict)
    in_hand: set["BoundedConnection"] = field(default_factory=set)

    def admit(self, connection: "BoundedConnection") -> bool:
        """Find a place for a new connection, or say that there is none."""
        if len(self.waiting) + len(self.in_hand) >= self.connections_max:
            if not self.waiting:
                self.counts["turned_away"] += 1
                return False
            longest = next(iter(self.waiting))
            self.counts["displaced"] += 1
            longest.drop()
        self.waiting[connection] = None
        return True

    def close_waiting(self) -> None:
        """Close every connection that is between requests; for the drain."""
        for connection in list(self.waiting):
            if connection.is_idle:
                connection.drop()


class BoundedConnection(web.RequestHandler):
    """aiohttp's connection, with the bounds above."""

    __slots__ = (
        "_answered",
        "_answered_body",
        "_connections",
        "_half_closed",
        "_header_bytes",
        "_header_timer",
        "_unread_timer",
        "_when_left",
    )

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=connections.idle_time_s,
            lingering_time=LINGERING_TIME_S,
            max_line_size=HEADER_LINE_MAX_BYTES,
            max_field_size=HEADER_LINE_MAX_BYTES,
            max_headers=HEADERS_MAX,
            # Kept as received; and nothing small may unfold into something huge.
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp tests it for truth, and documents None as "off"
        )
        self._connections = connections
        self._answered = 0
        self._answered_body: StreamReader | None = None
        self._header_bytes = 0
        self._half_closed = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._when_left: Callable[[], object] | None = None

    @property
    def is_in_hand(self) -> bool:
        """Whether a request has arrived that is not answered yet."""
        return self._request_count > self._answered

    @property
    def is_idle(self) -> bool:
        """Whether nothing of an unanswered request has arrived."""
        return not self.is_in_hand and self._header_bytes == 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, and start the clock for the first header."""
        super().connection_made(transport)
        if self._connections.admit(self):
            self._start_header_timer()
        else:
            self.drop()

    def data_received(self, data: bytes) -> None:
        """Parse, and notice when a header begins and when it is complete."""
        # Asked before parsing, which may end the body.
        is_body = self._answered_body is not None and not self._answered_body.is_eof()
        super().data_received(data)
        if not data or self.transport is None:
            return
        if self.is_in_hand:
            self._header_bytes = 0
            self._stop_header_timer()
            self._connections.waiting.pop(self, None)
            self._connections.in_hand.add(self)
            return
        if is_body:
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_MAX_BYTES:
            self._connections.counts["malformed"] += 1
            self.drop()
        elif self._header_timer is None:
            self._start_header_timer()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio asks for a bool, aiohttp returns None
        """A client that has sent its last byte still gets the answer to what it sent, unless that answer never ends."""
        self._half_closed = True
        return self.is_in_hand and self._when_left is None

    def pause_writing(self) -> None:
        """The client has stopped reading: it may not keep its place for long."""
        super().pause_writing()
        self._unread_timer = asyncio.get_running_loop().call_later(UNREAD_TIME_S, self._time_over)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stop_unread_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._forget()
        super().connection_lost(exc)
        if self._when_left is not None:
            self._when_left()

    def answer_until_left(self, when_left: Callable[[], object]) -> None:
        """`when_left` is called once the client has left, which an answer that goes on for minutes would not notice.

        A client that closes its sending side meanwhile has left as well: nothing that it still waits for would end.
        """
        self._when_left = when_left
        if self._half_closed:
            when_left()

    def answered(self, body: StreamReader) -> None:
        """A request has its answer, be its body read or not: wait for the next one, unless there can be none."""
        self._answered += 1
        self._when_left = None
        self._answered_body = body
        if self._half_closed or self._connections.draining:
            self.close()
        if not self.is_in_hand and self.transport is not None:
            self._connections.in_hand.discard(self)
            self._connections.waiting[self] = None

    def drop(self) -> None:
        """Close; an answer that is already written still goes out, if its reader takes it."""
        self._forget()
        transport = self.transport
        self.force_close()
        if transport is not None:
            asyncio.get_running_loop().call_later(FLUSH_TIME_S, transport.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP without repeating it, to the client or in the log."""
        if status >= 500 and exc is not None:
            raise_alarm(self._connections.fault, exc_info=exc)
        else:
            self._connections.counts["malformed"] += 1
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        answer = web.Response(status=status, headers={"Server": self._connections.server_name})
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, exc_info: BaseException, **values: Any) -> None:
        """Log what aiohttp could not deal with, but not a body nobody wants whose connection has lost its place.

        aiohttp reads on from the closed connection, and any stranger could fill the log with that.
        """
        if not (isinstance(exc_info, RuntimeError) and self.transport is None):
            super().log_exception(*args, exc_info=exc_info, **values)

    def _start_header_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._header_timer = loop.call_later(self._connections.header_time_s, self._time_over)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _time_over(self) -> None:
        self._connections.counts["timed_out"] += 1
        self.drop()

    def _forget(self) -> None:
        self._stop_header_timer()
        self._stop_unread_timer()
        self._connections.waiting.pop(self, None)
        self._connections.in_hand.discard(self)
