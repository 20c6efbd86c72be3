"""Reading the protocols between the parts, as far as it takes to tell where an exchange begins and ends.

PostgreSQL's frontend/backend protocol ("Message Formats" in its manual): an exchange is a COMMIT, named after what its
transaction has written. HTTP/1.1: an exchange is a request with its answer, named after its path. HTTP/2 (RFC 9113):
an exchange is a stream; a channel carries calls of one method, so all streams have one name.
"""

import struct
from collections import deque

from tests.proxy import Piece

COMMIT = "COMMIT of "
TOKEN = "the token"
FACTS = (
    "PaymentCreated",
    "SendClaimed",
    "PromptAccepted",
    "PromptRefused",
    "AnswerLost",
    "LeaseDead",
    "NotSent",
    "ResultReported",
    "DeadlinePassed",
    "CaseAccepted",
)
_ENDS = (b"COMMIT", b"ROLLBACK")
_ENCRYPTION_REQUESTS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest: answered by one bare byte, and followed by another start-up message."""


class PostgresWire:
    """Names each COMMIT after the facts whose events its transaction has appended."""

    def __init__(self) -> None:
        self._from_client, self._from_server = bytearray(), bytearray()
        self._started = False
        self._bare_answers = 0
        self._statements: dict[bytes, bytes] = {}
        self._written: set[str] = set()
        self._commit = bytearray()
        self._ends: deque[frozenset[str]] = deque()

    def requests(self, content: bytes) -> list[Piece]:
        """A COMMIT and its execution are one piece; all else passes as it comes."""
        self._from_client += content
        pieces: list[Piece] = []
        while (message := self._next_request()) is not None:
            kind = message[:1] if self._started else b""
            if self._commit or self._text(message, kind) in _ENDS:
                self._commit += message
                # A prepared statement is bound, described and executed, and it is the execution that counts.
                if kind in b"QE":
                    pieces.append(self._end_of_transaction())
                continue
            self._note(message, kind)
            pieces.append(Piece(message))
            if not kind:
                self._started = self._bare_answers == 0 or not _asks_for_encryption(message)
        return pieces

    def _end_of_transaction(self) -> Piece:
        whole = bytes(self._commit)
        self._commit.clear()
        committed = self._text(whole, whole[:1]) == b"COMMIT"
        names = frozenset(COMMIT + what for what in self._written) if committed else frozenset()
        self._written.clear()
        self._ends.append(names)
        return Piece(whole, names)

    def _next_request(self) -> bytes | None:
        offset = 1 if self._started else 0
        return _taken(self._from_client, offset)

    def _note(self, message: bytes, kind: bytes) -> None:
        if not kind and _asks_for_encryption(message):
            self._bare_answers += 1
        elif kind == b"B":
            self._written |= {fact for fact in FACTS if b'"%b"' % fact.encode() in message}
        elif kind == b"P":
            name, text, _ = message[5:].split(b"\0", 2)
            self._statements[name] = text
        if b"daraja_access_token" in (text := self._text(message, kind)) and not text.startswith(b"SELECT"):
            self._written.add(TOKEN)

    def _text(self, message: bytes, kind: bytes) -> bytes:
        """The statement that a message runs: a simple query, or a prepared one by its name, which may be empty."""
        if kind == b"Q":
            return message[5:-1]
        if kind == b"B":
            _portal, name, _ = message[5:].split(b"\0", 2)
            return self._statements.get(name, b"")
        return b""

    def answers(self, content: bytes) -> list[Piece]:
        """The word that a transaction has ended is one piece; all else passes as it comes."""
        self._from_server += content
        pieces: list[Piece] = []
        while self._bare_answers and self._from_server:
            pieces.append(Piece(bytes(self._from_server[:1])))
            del self._from_server[:1]
            self._bare_answers -= 1
        while (message := _taken(self._from_server, 1)) is not None:
            names: frozenset[str] = frozenset()
            if message[:1] == b"E":
                # What is in the pipeline behind an error is skipped without an answer.
                self._ends.clear()
            elif message[:1] == b"C" and message[5:-1] in _ENDS and self._ends:
                names = self._ends.popleft()
            pieces.append(Piece(message, names))
        return pieces


def _asks_for_encryption(message: bytes) -> bool:
    return len(message) == 8 and struct.unpack(">I", message[4:])[0] in _ENCRYPTION_REQUESTS


def _taken(buffer: bytearray, offset: int) -> bytes | None:
    """The first message of a buffer, if it is whole. Its length stands behind `offset` bytes and counts itself."""
    if len(buffer) < offset + 4:
        return None
    length: int = offset + struct.unpack_from(">I", buffer, offset)[0]
    if len(buffer) < length:
        return None
    message = bytes(buffer[:length])
    del buffer[:length]
    return message


class HttpWire:
    """Requests one after another, each with a Content-Length, as our parts and the simulator make them."""

    def __init__(self, names: dict[bytes, str]) -> None:
        """`names` by a part of the request's path."""
        self._names = names
        self._from_client, self._from_server = bytearray(), bytearray()
        self._asked: deque[frozenset[str]] = deque()

    def requests(self, content: bytes) -> list[Piece]:
        """Whole requests."""
        self._from_client += content
        pieces: list[Piece] = []
        while (message := _whole_http(self._from_client)) is not None:
            target = message.split(b" ", 2)[1]
            names = frozenset(name for part, name in self._names.items() if part in target)
            self._asked.append(names)
            pieces.append(Piece(message, names))
        return pieces

    def answers(self, content: bytes) -> list[Piece]:
        """Whole answers."""
        self._from_server += content
        pieces: list[Piece] = []
        while (message := _whole_http(self._from_server)) is not None:
            pieces.append(Piece(message, self._asked.popleft() if self._asked else frozenset()))
        return pieces


def _whole_http(buffer: bytearray) -> bytes | None:
    end_of_head = buffer.find(b"\r\n\r\n")
    if end_of_head < 0:
        return None
    head = bytes(buffer[:end_of_head]).lower()
    _, found, after = head.partition(b"\r\ncontent-length:")
    length = end_of_head + 4 + (int(after.partition(b"\r\n")[0]) if found else 0)
    if len(buffer) < length:
        return None
    message = bytes(buffer[:length])
    del buffer[:length]
    return message


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _DATA = 1, 0
_END_STREAM = 1


class Http2Wire:
    """Whole streams in both directions: from the first HEADERS until every stream opened meanwhile has ended."""

    def __init__(self, name: str) -> None:
        self._names = frozenset({name})
        self._from_client, self._from_server = bytearray(), bytearray()
        self._preface_seen = False
        self._requests, self._answers = _Streams(self._names), _Streams(self._names)

    def requests(self, content: bytes) -> list[Piece]:
        """Whole requests, and what stands between them."""
        self._from_client += content
        pieces: list[Piece] = []
        if not self._preface_seen:
            if len(self._from_client) < len(_PREFACE):
                return pieces
            self._preface_seen = True
            pieces.append(Piece(bytes(self._from_client[: len(_PREFACE)])))
            del self._from_client[: len(_PREFACE)]
        return pieces + self._requests.pieces(self._from_client)

    def answers(self, content: bytes) -> list[Piece]:
        """Whole answers, and what stands between them."""
        self._from_server += content
        return self._answers.pieces(self._from_server)


class _Streams:
    """The frames of one direction. The order of header blocks must not change, so what is held holds up the rest."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held = bytearray()
        self._open: set[int] = set()

    def pieces(self, buffer: bytearray) -> list[Piece]:
        pieces: list[Piece] = []
        while len(buffer) >= 9 and len(buffer) >= (length := 9 + int.from_bytes(buffer[:3], "big")):
            frame = bytes(buffer[:length])
            del buffer[:length]
            kind, flags, stream = frame[3], frame[4], int.from_bytes(frame[5:9], "big")
            if kind in (_HEADERS, _DATA):
                self._open.add(stream)
                if flags & _END_STREAM:
                    self._open.discard(stream)
                self._held += frame
            elif self._held:
                self._held += frame
            else:
                pieces.append(Piece(frame))
            if self._held and not self._open:
                pieces.append(Piece(bytes(self._held), self._names))
                self._held.clear()
        return pieces
