"""The token in a callback URL: how it is made, and whether it is ours.

Safaricom signs nothing, so the URL itself is the proof that its holder was told of the payment. The token is a MAC
over the kind of callback and the reference of the payment or refund; the gateway refuses a wrong one before it reads
the body, and the core checks again with the same function. What a reference means, and what a callback changes, is
decided elsewhere.
"""

import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.key_rings import KeyRing, load_key_ring

# No vowels and none of l, m, q, s: a random reference can spell none of the words (mpesa, sql, query, exec, cmd …)
# for which Safaricom refuses a whole URL. No 0 and 1 either, which people misread.
REFERENCE_ALPHABET = "23456789bcdfghjknprtvwxz"
# 24^12 ≈ 3.6e16 references, and 12 characters is the most that Daraja's AccountReference may have.
REFERENCE_LENGTH = 12
REFERENCE_PATTERN = re.compile(f"[{REFERENCE_ALPHABET}]{{{REFERENCE_LENGTH}}}")
KIND_PATTERN = re.compile(r"[a-z][a-z0-9]{0,15}")

# What is posted to each path. Each kind has tokens of its own, so that what comes to one address never passes for what
# was to come to another: the word that nobody knows what became of a reversal has the shape of its result.
KINDS_AT: Mapping[str, Sequence[str]] = {
    "stk": ("stk",),
    "result": (
        "result",
        *("reversal", "reversaltimeout", "reversalstatus"),
        *("balance", "balancetimeout"),
        *("b2c", "b2ctimeout", "b2cstatus"),
    ),
}

# Changes with the meaning of what is signed, so that a token of one version is never valid in another.
MAC_LABEL = b"mpesa-payments callback v1"
KEY_CHECK_LABEL = b"mpesa-payments callback key check v1"
# Enough to tell keys apart, and far too little to be of use against one of 32 random bytes.
KEY_CHECK_BYTES = 8
# 128 bits: no one guesses it over HTTP, and the URL stays short.
MAC_HEX_CHARACTERS = 32
TOKEN_PATTERN = re.compile(rf"[0-9a-f]{{{2 + MAC_HEX_CHARACTERS}}}")


class CallbackKeys(KeyRing):
    """The keys for callback tokens: new tokens use the current one, any of them is accepted."""


def new_reference() -> str:
    """A reference that nobody can guess."""
    return "".join(secrets.choice(REFERENCE_ALPHABET) for _ in range(REFERENCE_LENGTH))


def callback_token(keys: CallbackKeys, kind: str, reference: str) -> str:
    """The token for a callback URL, made with the current key."""
    if not KIND_PATTERN.fullmatch(kind) or not REFERENCE_PATTERN.fullmatch(reference):
        raise ValueError(f"a callback URL needs a kind of a-z and 0-9 and a reference of 12 characters, not {kind!r}")
    return keys.current_id + _mac(keys.keys[keys.current_id], kind, reference)


def callback_path(keys: CallbackKeys, kind: str, reference: str) -> str:
    """The path of the callback URL to give to Daraja."""
    word = next(word for word, kinds in KINDS_AT.items() if kind in kinds)
    return f"/callbacks/{word}/{reference}/{callback_token(keys, kind, reference)}"


def kind_of(keys: CallbackKeys, word: str, reference: str, token: str) -> str | None:
    """The kind of callback that a path's token is for; None where it is for none of those that come there."""
    accepted = [kind for kind in KINDS_AT.get(word, ()) if token_accepted(keys, kind, reference, token)]
    return accepted[0] if accepted else None


def token_accepted(keys: CallbackKeys, kind: object, reference: object, token: object) -> bool:
    """Whether the token belongs to this kind and reference, for input of any shape; the comparison is constant-time."""
    if not (isinstance(kind, str) and isinstance(reference, str) and isinstance(token, str)):
        return False
    if not (KIND_PATTERN.fullmatch(kind) and REFERENCE_PATTERN.fullmatch(reference) and TOKEN_PATTERN.fullmatch(token)):
        return False
    key = keys.keys.get(token[:2])
    return key is not None and hmac.compare_digest(_mac(key, kind, reference), token[2:])


def key_unknown(keys: CallbackKeys, token: str) -> bool:
    """Whether this may be a token by a key that is not here."""
    return TOKEN_PATTERN.fullmatch(token) is not None and token[:2] not in keys.keys


def key_checks(keys: CallbackKeys) -> dict[str, bytes]:
    """A value of each key, by its id, that tells whether two programs hold the same key, and no more."""
    return {key_id: hmac.digest(key, KEY_CHECK_LABEL, "sha256")[:KEY_CHECK_BYTES] for key_id, key in keys.keys.items()}


def differing_keys(keys: CallbackKeys, checks: Mapping[str, bytes]) -> list[str]:
    """The ids of keys for which `checks` tell of another key, and of the current one if they do not tell of it.

    Another key that only one side has is no fault: a new one is given to each program in turn.
    """
    return [
        key_id
        for key_id, check in key_checks(keys).items()
        if checks.get(key_id, b"" if key_id == keys.current_id else check) != check
    ]


def _mac(key: bytes, kind: str, reference: str) -> str:
    # Neither part can hold a NUL (the patterns above), so no two pairs give the same text.
    text = b"\0".join((MAC_LABEL, kind.encode("ascii"), reference.encode("ascii")))
    return hmac.digest(key, text, "sha256").hex()[:MAC_HEX_CHARACTERS]


def load_callback_keys(path: Path) -> CallbackKeys:
    """Read the file of callback keys; KeyRingUnusable says why it cannot be used."""
    ring = load_key_ring(path, "callback keys", "Name the file that the payment service uses.")
    return CallbackKeys(ring.current_id, ring.keys)
