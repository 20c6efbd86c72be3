"""Chance that can be repeated: every draw is a hash of the seed and of what it is for.

A draw is keyed by (seed, phone, nth push of that phone), never by arrival order, so the same seed gives the same
history however the pushes of different phones interleave.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from hashlib import blake2b
from typing import Final

_SLOTS: Final = struct.Struct("<32H")
SLOT_COUNT: Final = 32

# Answer times of 145 recorded sandbox calls: (share of calls answered by then, seconds). Linear in between.
_RECORDED_LATENCY: Final = ((0.0, 0.44), (0.25, 0.70), (0.5, 0.93), (0.75, 1.25), (0.95, 2.2), (1.0, 7.0))
_SHARES: Final = tuple(share for share, _ in _RECORDED_LATENCY)


class Draws:
    """32 independent fractions in [0, 1) for one occasion, addressed by slot."""

    __slots__ = ("_values",)

    def __init__(self, *key: object) -> None:
        digest = blake2b("|".join(map(str, key)).encode(), digest_size=_SLOTS.size).digest()
        self._values: tuple[int, ...] = _SLOTS.unpack(digest)

    def fraction(self, slot: int) -> float:
        return self._values[slot] / 65536.0

    def between(self, slot: int, low: float, high: float) -> float:
        return low + (high - low) * self.fraction(slot)


def recorded_latency_seconds(fraction: float) -> float:
    """Seconds until the answer, for a fraction drawn from [0, 1): median 0.93, p95 2.2, at most 7."""
    right = min(bisect_right(_SHARES, fraction), len(_SHARES) - 1)
    (low_share, low), (high_share, high) = _RECORDED_LATENCY[right - 1], _RECORDED_LATENCY[right]
    return low + (high - low) * (fraction - low_share) / (high_share - low_share)
