"""A file of records that is cut anywhere, or has a flipped bit anywhere, gives up every record that it still holds."""

import os
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_gateway.spool_records import MARK, RECORD_MAX_BYTES, RecordSealer
from runtime.key_rings import KeyRing
from tests.callback_gateway.spools import a_callback

OLD = KeyRing("01", {"01": bytes(32)})
SEALER = RecordSealer(KeyRing("02", {**OLD.keys, "02": bytes([7] * 32)}))
CALLBACKS = [a_callback(body) for body in (b"one", b"", b"three" + MARK + b"in the midst", b"four")]
SEALED = [SEALER.seal(callback) for callback in CALLBACKS]
FILE = b"".join(SEALED)
ENDS = list(accumulate(map(len, SEALED)))


def test_records_are_read_as_they_were_sealed() -> None:
    contents = SEALER.read(FILE)
    assert [record.callback for record in contents.records] == CALLBACKS
    assert [record.end for record in contents.records] == ENDS
    assert contents.unreadable_bytes == 0


@pytest.mark.parametrize("secret", ["reference", "token", "body"])
def test_nothing_of_a_callback_stands_in_its_record(secret: str) -> None:
    callback = a_callback(b'{"PhoneNumber":254712345678}')
    value = getattr(callback, secret)
    assert (value if isinstance(value, bytes) else value.encode()) not in SEALER.seal(callback)


def test_the_largest_callback_fits_the_room_that_is_kept_for_one() -> None:
    callback = a_callback(os.urandom(65_536))
    callback.source_address = "f" * 45
    assert len(SEALER.seal(callback)) <= RECORD_MAX_BYTES


def test_a_file_cut_at_any_byte_gives_up_every_record_before_the_cut() -> None:
    for cut in range(len(FILE)):
        contents = SEALER.read(FILE[:cut])
        whole = sum(end <= cut for end in ENDS)
        assert [record.callback for record in contents.records] == CALLBACKS[:whole], cut
        assert contents.unreadable_bytes == cut - ([0, *ENDS][whole]), cut


def test_a_file_that_has_lost_its_beginning_gives_up_every_record_after_the_cut() -> None:
    for cut in range(len(FILE)):
        contents = SEALER.read(FILE[cut:])
        lost = sum(end - len(sealed) < cut for end, sealed in zip(ENDS, SEALED, strict=True))
        assert [record.callback for record in contents.records] == CALLBACKS[lost:], cut


def test_any_flipped_bit_costs_the_one_record_that_it_is_in() -> None:
    for position in range(len(FILE)):
        hit = sum(end <= position for end in ENDS)
        for bit in range(8):
            damaged = bytearray(FILE)
            damaged[position] ^= 1 << bit
            contents = SEALER.read(bytes(damaged))
            intact = [callback for number, callback in enumerate(CALLBACKS) if number != hit]
            assert [record.callback for record in contents.records] == intact, (position, bit)
            assert contents.unreadable_bytes == len(SEALED[hit]), (position, bit)


@given(st.lists(st.sampled_from([MARK, MARK[:4], SEALED[0], SEALED[3][:40], SEALED[3]]) | st.binary(max_size=60)))
def test_no_bytes_at_all_can_stop_the_reading(parts: list[bytes]) -> None:
    data = b"".join(parts)
    contents = SEALER.read(data)
    whole = sum(part in (SEALED[0], SEALED[3]) for part in parts)
    assert len(contents.records) == whole
    assert sum(record.end - record.start for record in contents.records) + contents.unreadable_bytes == len(data)


def test_what_an_older_key_has_sealed_opens_and_what_another_has_does_not() -> None:
    callback = a_callback(b"{}")
    assert SEALER.read(RecordSealer(OLD).seal(callback)).records[0].callback == callback
    stranger = RecordSealer(KeyRing("02", {"02": bytes([8] * 32)}))
    assert SEALER.read(stranger.seal(callback)).records == ()
