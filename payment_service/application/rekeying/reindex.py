"""The blind indexes of all payments are made anew with another key, while no service runs.

Rows are found, and kept unique, by their index: while some had one key's and some another's, a CheckoutRequestID could
be recorded twice and a payer not be found. So all of it is one transaction that holds the table: after a kill, either
nothing or everything has happened.
"""

from uuid import UUID

from payment_service.security.keys import Keys
from payment_service.security.sealing import CHECKOUT_REQUEST_ID, PHONE_NUMBER, Sealer
from payment_service.store.payments import CHECKOUT_INDEX, PHONE_INDEX
from payment_service.store.pipeline import Connection
from payment_service.store.sealed_values import (
    IndexedValues,
    hold_payments,
    next_indexed,
    replace_indexes,
    replace_phones_by_index,
)
from runtime.key_rings import KeyRing

BATCH = 1_000


async def reindex(conn: Connection, keys: Keys, key_id: str) -> tuple[int, int]:
    """Make all indexes anew with this key; SealBroken where a value cannot be opened.

    How many payments there are, and how many listed phones have none: these have to be listed again.
    """
    new = Keys(keys.sealing, KeyRing(key_id, keys.index.keys), keys.fingerprint, keys.chain)
    sealer, count, after = Sealer(new), 0, UUID(int=0)
    async with conn.transaction():
        await hold_payments(conn)
        while rows := await next_indexed(conn, after, BATCH):
            await replace_indexes(conn, [_indexes(sealer, row) for row in rows])
            after, count = rows[-1].payment_id, count + len(rows)
        forgotten = await replace_phones_by_index(conn)
    return count, forgotten


def _indexes(sealer: Sealer, row: IndexedValues) -> tuple[UUID, bytes, bytes | None]:
    row_id, checkout = row.payment_id.bytes, row.checkout_request_id
    phone = sealer.index(PHONE_INDEX, sealer.open(PHONE_NUMBER, row_id, row.phone_number))
    if checkout is None:
        return row.payment_id, phone, None
    return row.payment_id, phone, sealer.index(CHECKOUT_INDEX, sealer.open(CHECKOUT_REQUEST_ID, row_id, checkout))
