"""The token in a callback URL: how it is made, and whether it is ours.

Safaricom signs nothing, so the URL itself is the proof that its holder was told of the payment. The token is a MAC
over the kind of callback and the payment's reference; the gateway refuses a wrong one before it reads the body, and
the core checks again with the same function. Which payment a reference means, and what a callback changes, is
decided elsewhere.
"""

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.private_files import write_once
from runtime.serving import StartRefused

# No vowels and none of l, m, q, s: a random reference can spell none of the words (mpesa, sql, query, exec, cmd …)
# for which Safaricom refuses a whole URL. No 0 and 1 either, which people misread.
REFERENCE_ALPHABET = "23456789bcdfghjknprtvwxz"
# 24^12 ≈ 3.6e16 references, and 12 characters is the most that Daraja's AccountReference may have.
REFERENCE_LENGTH = 12
REFERENCE_PATTERN = re.compile(f"[{REFERENCE_ALPHABET}]{{{REFERENCE_LENGTH}}}")
KIND_PATTERN = re.compile(r"[a-z]{1,16}")

# Changes with the meaning of what is signed, so that a token of one version is never valid in another.
MAC_LABEL = b"mpesa-payments callback v1"
KEY_ID_PATTERN = re.compile(r"[0-9a-f]{2}")
KEY_BYTES = 32
# 128 bits: no one guesses it over HTTP, and the URL stays short.
MAC_HEX_CHARACTERS = 32
TOKEN_PATTERN = re.compile(rf"[0-9a-f]{{{2 + MAC_HEX_CHARACTERS}}}")


@dataclass(frozen=True)
class CallbackKeys:
    """The keys by their two-character ids: new tokens use `current`, any of them is accepted."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)


class CallbackKeysUnusable(StartRefused):
    """The file of callback keys cannot be used."""


def callback_token(keys: CallbackKeys, kind: str, reference: str) -> str:
    """The token for a callback URL, made with the current key."""
    if not KIND_PATTERN.fullmatch(kind) or not REFERENCE_PATTERN.fullmatch(reference):
        raise ValueError(f"a callback URL needs a kind of letters and a reference of 12 characters, not {kind!r}")
    return keys.current + _mac(keys.keys[keys.current], kind, reference)


def callback_path(keys: CallbackKeys, kind: str, reference: str) -> str:
    """The path of the callback URL to give to Daraja."""
    return f"/callbacks/{kind}/{reference}/{callback_token(keys, kind, reference)}"


def token_accepted(keys: CallbackKeys, kind: object, reference: object, token: object) -> bool:
    """Whether the token belongs to this kind and reference, for input of any shape; the comparison is constant-time."""
    if not (isinstance(kind, str) and isinstance(reference, str) and isinstance(token, str)):
        return False
    if not (KIND_PATTERN.fullmatch(kind) and REFERENCE_PATTERN.fullmatch(reference) and TOKEN_PATTERN.fullmatch(token)):
        return False
    key = keys.keys.get(token[:2])
    return key is not None and hmac.compare_digest(_mac(key, kind, reference), token[2:])


def _mac(key: bytes, kind: str, reference: str) -> str:
    # Neither part can hold a NUL (the patterns above), so no two pairs give the same text.
    text = b"\0".join((MAC_LABEL, kind.encode("ascii"), reference.encode("ascii")))
    return hmac.digest(key, text, "sha256").hex()[:MAC_HEX_CHARACTERS]


def create_callback_keys(path: Path) -> bool:
    """Write a file with one new key, readable by its owner only; False if there is one already, which stays."""
    key_id = secrets.token_hex(1)
    text = json.dumps({"current": key_id, "keys": {key_id: secrets.token_hex(KEY_BYTES)}}, indent=2) + "\n"
    return write_once(path, text)


def load_callback_keys(path: Path) -> CallbackKeys:
    """Read the file that `create_callback_keys` made, or an operator extended."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CallbackKeysUnusable(
            f"The callback keys cannot be read from {path}: {error.strerror}. "
            "Name the file that the payment service uses."
        ) from error
    except ValueError as error:
        raise CallbackKeysUnusable(
            f"The callback keys in {path} are not JSON. Restore the file from a backup."
        ) from error
    match document:
        case {"current": str(current), "keys": dict(texts)} if current in texts:
            keys = {key_id: _key(path, key_id, text) for key_id, text in texts.items()}
        case _:
            raise CallbackKeysUnusable(
                f'The callback keys in {path} must read {{"current": ID, "keys": {{ID: KEY, …}}}}, '
                'with "current" among the IDs.'
            )
    return CallbackKeys(current=current, keys=keys)


def _key(path: Path, key_id: str, text: object) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or not KEY_ID_PATTERN.fullmatch(key_id):
        raise CallbackKeysUnusable(
            f"The callback keys in {path}: each ID is two of 0-9a-f and each key {2 * KEY_BYTES} of 0-9a-f; "
            f"the entry {key_id[:8]!r} is not."
        )
    return key
