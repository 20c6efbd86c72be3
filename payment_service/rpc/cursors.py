"""Cursors and page tokens: bookmarks as callers carry them, opaque and in text that survives any transport.

A cursor names a log, a position and the random tag of the event there. It is
not secret and needs no signature: whether the log holds that event is looked up
when it comes back. A page token carries the filters' fingerprint, and a MAC,
because nothing else could tell a forged one.

The cursors of a consumer that was moved back also say how often that was done. Until then all cursors are as they
always were, so that every process of an upgrade reads them.
"""

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

from payment_service.application.following.event_feed import Bookmark
from payment_service.domain.errors import CursorInvalid, PageTokenInvalid
from payment_service.store.event_log import TAG_BYTES
from runtime.key_rings import KeyRing

VERSION = 1
_CURSOR = struct.Struct(f">B16sQ{TAG_BYTES}s")
_BEGINNING = bytes(TAG_BYTES)
REWOUND_VERSION = 2
_REWOUND_CURSOR = struct.Struct(f">B16sQ{TAG_BYTES}sI")
POSITION_MAX = 2**63 - 1

FINGERPRINT_BYTES = 16
MAC_BYTES = 16
_PAGE = struct.Struct(f">B{FINGERPRINT_BYTES}s16s{_CURSOR.size}s")


@dataclass(frozen=True, slots=True)
class Page:
    """Where the next page begins: before this payment, with the bookmark of the first page."""

    before: UUID
    bookmark: Bookmark


def cursor_text(bookmark: Bookmark) -> str:
    """The cursor of a bookmark."""
    return _text(_packed(bookmark))


def read_cursor(text: str) -> Bookmark:
    """The bookmark in a cursor, or CursorInvalid."""
    try:
        return _unpacked(_bytes(text))
    except (ValueError, struct.error) as error:
        raise CursorInvalid from error


def page_token(page: Page, filters: bytes, keys: KeyRing) -> str:
    """The token for the page that follows. `filters` is an encoding of everything the caller asked for."""
    content = _PAGE.pack(VERSION, _fingerprint(filters), page.before.bytes, _packed(page.bookmark))
    return _text(content + _mac(keys.current_key, content))


def read_page_token(text: str, filters: bytes, keys: KeyRing) -> Page:
    """The page that a token asks for, whichever of the keys it was made with, or PageTokenInvalid."""
    try:
        token = _bytes(text)
        content, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
        version, fingerprint, before, cursor = _PAGE.unpack(content)
        bookmark = _unpacked(cursor)
    except (ValueError, struct.error) as error:
        raise PageTokenInvalid from error
    genuine = any(hmac.compare_digest(mac, _mac(key, content)) for key in keys.keys.values())
    if version != VERSION or not genuine or fingerprint != _fingerprint(filters):
        raise PageTokenInvalid
    return Page(UUID(bytes=before), bookmark)


def _packed(bookmark: Bookmark) -> bytes:
    place = (bookmark.log_id.bytes, bookmark.position, bookmark.tag)
    if bookmark.rewinds:
        return _REWOUND_CURSOR.pack(REWOUND_VERSION, *place, bookmark.rewinds)
    return _CURSOR.pack(VERSION, *place)


def _unpacked(content: bytes) -> Bookmark:
    rewinds = 0
    if content[:1] == bytes([REWOUND_VERSION]):
        version, log_id, position, tag, rewinds = _REWOUND_CURSOR.unpack(content)
    else:
        version, log_id, position, tag = _CURSOR.unpack(content)
    if (version == REWOUND_VERSION) != (rewinds > 0) or version > REWOUND_VERSION or position > POSITION_MAX:
        raise ValueError("not a cursor of these versions")
    return Bookmark(UUID(bytes=log_id), position, tag if tag != _BEGINNING else b"", rewinds)


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    content = text.encode("ascii")
    decoded = base64.b64decode(content + b"=" * (-len(content) % 4), altchars=b"-_", validate=True)
    # One place has one cursor: left-over bits or other spellings are not ours.
    if _text(decoded) != text:
        raise binascii.Error("not in canonical form")
    return decoded


def _fingerprint(filters: bytes) -> bytes:
    return hmac.digest(b"filters", filters, "sha256")[:FINGERPRINT_BYTES]


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, b"page token|" + content, "sha256")[:MAC_BYTES]
