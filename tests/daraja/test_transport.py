"""Whether a byte was sent, proven with real sockets: every way a connection can end, before and after the first byte.

Each test plays the server by hand. What the server has read is the truth; what the client believes is compared with it.
"""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from development.slowness import slowness
from payment_service.daraja import transport
from payment_service.daraja.transport import HttpAnswer, NoAnswer, Timeouts, exchange, open_http

BODY = b'{"Amount": 1}'
TIMEOUTS = Timeouts(connect_seconds=5.0 * slowness(), total_seconds=20.0 * slowness())
# For a connection that cannot be had, and for an answer that does not come.
SHORT = Timeouts(connect_seconds=0.3, total_seconds=20.0)
SILENCE = Timeouts(connect_seconds=5.0 * slowness(), total_seconds=2.0 * slowness())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Played:
    """A server's own record."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/push"


Play = Callable[[Played, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[Played]:
    played = Played()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        played.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await play(played, reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    played.port = listening.sockets[0].getsockname()[1]
    try:
        yield played
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(played: Played, reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    played.requests.append(head + await reader.readexactly(length))


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def post(url: str, timeouts: Timeouts = TIMEOUTS) -> HttpAnswer | NoAnswer:
    async with open_http() as http:
        return await exchange(http, "POST", url, headers={}, content=BODY, timeouts=timeouts)


def after_reading(answer: bytes, *, then_reset: bool = False) -> Play:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        writer.write(answer)
        await writer.drain()
        if then_reset:
            reset(writer)

    return play


async def test_an_answer_comes_whole_and_the_request_says_who_asks() -> None:
    async with server(after_reading(OK)) as played:
        answer = await post(played.url)
    assert isinstance(answer, HttpAnswer)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"{}", "2")
    head, _, body = played.requests[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert b"user-agent: mpesa-payment-service" in head.lower()
    assert b"traceparent" not in head.lower()


# Before the first byte: it may be sent again.


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        answer = await post(f"http://127.0.0.1:{port}/push")
    assert answer == NoAnswer(may_have_been_sent=False, why="NOT_CONNECTED")


async def test_no_such_name() -> None:
    answer = await post("http://no-such-host.invalid/push", Timeouts(connect_seconds=5.0, total_seconds=10.0))
    assert isinstance(answer, NoAnswer)
    assert not answer.may_have_been_sent


async def test_nobody_accepts_within_the_connect_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", port))
            answer = await post(f"http://127.0.0.1:{port}/push", SHORT)
        finally:
            for one in waiting:
                one.close()
    assert answer == NoAnswer(may_have_been_sent=False, why="CONNECT_TIMEOUT")


async def test_a_certificate_that_we_do_not_trust(tmp_path: Path) -> None:
    async with server(after_reading(OK), own_certificate(tmp_path)) as played:
        answer = await post(f"https://127.0.0.1:{played.port}/push")
    assert answer == NoAnswer(may_have_been_sent=False, why="TLS_FAILED")
    assert played.requests == []


async def test_a_certificate_that_we_do_trust(tmp_path: Path) -> None:
    async with server(after_reading(OK), own_certificate(tmp_path)) as played:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        async with open_http(trusted) as http:
            url = f"https://127.0.0.1:{played.port}/push"
            answer = await exchange(http, "POST", url, headers={}, content=BODY, timeouts=TIMEOUTS)
    assert isinstance(answer, HttpAnswer)


async def test_a_server_that_speaks_no_tls_reads_no_byte_of_the_request() -> None:
    seen = bytearray()

    async def play(_played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(65_536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with server(play) as played:
        answer = await post(f"https://127.0.0.1:{played.port}/push")
    assert isinstance(answer, NoAnswer)
    assert not answer.may_have_been_sent
    assert b"Amount" not in seen


async def test_a_connection_closed_during_the_tls_handshake() -> None:
    async def play(_played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer)

    async with server(play) as played:
        answer = await post(f"https://127.0.0.1:{played.port}/push")
    assert isinstance(answer, NoAnswer)
    assert not answer.may_have_been_sent


async def test_no_place_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONNECTIONS_MAX", 1)
    go = asyncio.Event()

    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        await go.wait()
        writer.write(OK)

    async with server(play) as played, open_http() as http:
        first = asyncio.create_task(exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS))
        while not played.requests:
            await asyncio.sleep(0.01)
        second = await exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=SHORT)
        go.set()
        assert isinstance(await first, HttpAnswer)
    assert second == NoAnswer(may_have_been_sent=False, why="CONNECT_TIMEOUT")
    assert len(played.requests) == 1


async def test_it_has_become_too_late_to_send_once_connected() -> None:
    async def read_to_the_end(played: Played, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        played.requests.append(await reader.read())

    async with server(read_to_the_end) as played, open_http() as http:
        answer = await exchange(
            http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS, may_send=lambda: False
        )
        while not played.requests:
            await asyncio.sleep(0.01)
    assert answer == NoAnswer(may_have_been_sent=False, why="TOO_LATE_TO_SEND")
    assert played.requests == [b""]


# After the first byte: nobody knows.

HALF_HEADER = b"HTTP/1.1 200 OK\r\nContent-Le"
HALF_BODY = b'HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{"ResponseCode":'
HALF_CHUNK = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"ResponseCode":'
NO_HTTP = b"220 mail.example ESMTP\r\n\r\n"


@pytest.mark.parametrize("then_reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize(
    "answer", [b"", HALF_HEADER, HALF_BODY, HALF_CHUNK, NO_HTTP], ids=["none", "header", "body", "chunk", "no HTTP"]
)
async def test_the_request_was_read_and_the_answer_lost(answer: bytes, then_reset: bool) -> None:
    async with server(after_reading(answer, then_reset=then_reset)) as played:
        lost = await post(played.url)
    assert len(played.requests) == 1, "sent once, and not again"
    assert isinstance(lost, NoAnswer)
    assert lost.may_have_been_sent


@pytest.mark.parametrize("then_reset", [False, True], ids=["close", "reset"])
async def test_the_connection_was_accepted_and_closed_with_the_request_unread(then_reset: bool) -> None:
    async def play(_played: Played, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Long enough for the request to lie in the socket's buffer; nothing depends on it.
        await asyncio.sleep(0.1)
        if then_reset:
            reset(writer)

    async with server(play) as played:
        lost = await post(played.url)
    assert isinstance(lost, NoAnswer)
    assert lost.may_have_been_sent


@pytest.mark.parametrize("answer", [b"", HALF_HEADER, HALF_BODY], ids=["nothing", "header", "body"])
async def test_the_request_was_read_and_then_silence(answer: bytes) -> None:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        writer.write(answer)
        await reader.read()

    async with server(play) as played:
        lost = await post(played.url, SILENCE)
    assert isinstance(lost, NoAnswer)
    assert (lost.may_have_been_sent, lost.why) == (True, "NO_ANSWER_IN_TIME")


async def test_an_answer_that_trickles_ends_with_the_total_time() -> None:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with server(play) as played:
        lost = await post(played.url, SILENCE)
    assert isinstance(lost, NoAnswer)
    assert (lost.may_have_been_sent, lost.status) == (True, 200)


async def test_an_answer_that_is_far_too_long_is_not_read_on() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 200_000
    async with server(after_reading(endless)) as played:
        lost = await post(played.url)
    assert isinstance(lost, NoAnswer)
    assert (lost.may_have_been_sent, lost.why, len(lost.body)) == (True, "ANSWER_TOO_LONG", 64 * 1024)


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with server(after_reading(OK)) as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        async with server(after_reading(moved)) as played:
            answer = await post(played.url)
    assert isinstance(answer, HttpAnswer)
    assert (answer.status, elsewhere.connections) == (307, 0)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nPACK"
    async with server(after_reading(packed)) as played:
        answer = await post(played.url)
    assert isinstance(answer, HttpAnswer)
    assert answer.body == b"PACK"


async def test_a_cookie_is_not_kept() -> None:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await read_request(played, reader)
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: visid_incap=1; Path=/\r\n\r\n"))

    async with server(play) as played, open_http() as http:
        for _ in range(2):
            await exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS)
    assert len(played.requests) == 2
    assert b"cookie" not in played.requests[1].lower()


# The pool.


async def play_many(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(played, reader)
        writer.write(OK)


async def test_a_connection_is_used_again_at_once_but_not_after_two_idle_seconds() -> None:
    async with server(play_many) as played, open_http() as http:
        began = time.monotonic()
        for _ in range(5):
            await exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS)
        used = played.connections
        # More than one only where the machine itself was still for so long.
        assert used == 1 or time.monotonic() - began > transport.IDLE_MAX_SECONDS
        await asyncio.sleep(transport.IDLE_MAX_SECONDS + 0.2)
        await exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS)
    assert played.connections == used + 1
    assert len(played.requests) == 6


async def test_a_get_on_a_dying_connection_is_not_repeated_behind_our_back() -> None:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        played.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if len(played.requests) == 1:
            writer.write(OK)
            played.requests.append(await reader.readuntil(b"\r\n\r\n"))

    async with server(play) as played, open_http() as http:
        await exchange(http, "GET", played.url, headers={}, timeouts=TIMEOUTS)
        lost = await exchange(http, "GET", played.url, headers={}, timeouts=TIMEOUTS)
    assert isinstance(lost, NoAnswer)
    assert lost.may_have_been_sent
    assert len(played.requests) == 2


async def test_a_cancellation_goes_through_to_the_caller() -> None:
    async def play(played: Played, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        await reader.read()

    async with server(play) as played, open_http() as http:
        sending = asyncio.create_task(exchange(http, "POST", played.url, headers={}, content=BODY, timeouts=TIMEOUTS))
        while not played.requests:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_many_at_once_each_know_their_own_end() -> None:
    async def play(played: Played, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(played, reader)
        if played.requests[-1].endswith(b"1"):
            writer.write(OK)

    async with server(play) as played, open_http() as http:

        async def one(number: int) -> HttpAnswer | NoAnswer:
            url = played.url if number % 4 else "http://127.0.0.1:1/push"
            return await exchange(http, "POST", url, headers={}, content=b"%d" % (number % 2), timeouts=TIMEOUTS)

        answers = await asyncio.gather(*(one(number) for number in range(100)))
    for number, answer in enumerate(answers):
        if number % 4 == 0:
            assert isinstance(answer, NoAnswer)
            assert not answer.may_have_been_sent
        elif number % 2:
            assert isinstance(answer, HttpAnswer)
        else:
            assert isinstance(answer, NoAnswer)
            assert answer.may_have_been_sent


def own_certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "certificate.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context
