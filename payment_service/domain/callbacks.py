"""What callbacks are, and how they stand. What one says is read in `daraja.callback`."""

from enum import StrEnum


class CallbackKind(StrEnum):
    """What a callback answers. Its token is made for it."""

    STK = "stk"
    """A push."""
    RESULT = "result"
    """A question for the status of a transaction."""
    REVERSAL = "reversal"
    """A reversal."""
    REVERSAL_TIMEOUT = "reversaltimeout"
    """A reversal, of which nobody knows what became."""
    REVERSAL_STATUS = "reversalstatus"
    """A question for the status of a reversal."""
    BALANCE = "balance"
    """A question for what our account has, asked because of a payment: it says nothing of the payment itself."""
    BALANCE_TIMEOUT = "balancetimeout"
    """The same, of which there is no answer."""
    B2C = "b2c"
    """A B2C payment."""
    B2C_TIMEOUT = "b2ctimeout"
    """A B2C payment, of which nobody knows what became."""
    B2C_STATUS = "b2cstatus"
    """A question for the status of a B2C payment."""


class CallbackStatus(StrEnum):
    """What has become of a callback that was kept."""

    APPLIED = "APPLIED"
    PENDING = "PENDING"
    """It could not be applied, and is tried again."""
    UNMATCHED = "UNMATCHED"
    """It names a payment that the database does not know."""
    UNREAD = "UNREAD"
    """Its body cannot be read. It may tell of money, so a person looks; a later release may read it, by a replay."""
    DEAD = "DEAD"
    """It was tried for as long as it makes sense, and waits for a person."""
