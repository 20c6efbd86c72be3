"""The passengers of the demonstration: what each one's phone does, and how that must end.

Decides the plot only: the simulator is told what the phones do, the service is told nothing. Whether it all came true
is judged in `demo_summary`, from what the stream said and what the simulator's ledger holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpesa_payments.v1 import payment_pb2

# Shortened for the demonstration; seconds. An answer may take 7 s (the longest recorded), so a prompt must live longer.
EXPIRE_AFTER_SECONDS = 10
WATCH_FOR_SECONDS = 22
PULL_INTERVAL_SECONDS = 1
PAID_LATE_SECONDS = 14
QUERY_AFTER_SECONDS = 4
# A query that is asked later and finds nothing paid is what makes an expired payment certain when its watch ends.
PROMPT_GONE_SECONDS = 12

_STATUS = payment_pb2.PaymentStatus
_EVENT = payment_pb2.PaymentEventType


@dataclass(frozen=True, slots=True)
class Story:
    """One passenger. `script` is for the simulator's control API; without one the phone's number decides."""

    title: str
    phone: str
    amount: int
    ends: payment_pb2.PaymentStatus.ValueType
    script: Mapping[str, Any] = field(default_factory=dict)
    reason: payment_pb2.StatusReason.ValueType = payment_pb2.STATUS_REASON_UNSPECIFIED
    # Types of event that must, or must not, be seen on the way: they tell this plot from a simpler one.
    sees: tuple[payment_pb2.PaymentEventType.ValueType, ...] = ()
    sees_not: tuple[payment_pb2.PaymentEventType.ValueType, ...] = ()
    prompts: int = 1
    callbacks: int = 1
    # How often the booking service asks, each time with the same request id.
    asked: int = 1

    @property
    def pays(self) -> bool:
        return self.ends == _STATUS.PAYMENT_STATUS_COMPLETED


STORIES: tuple[Story, ...] = (
    Story("Pays", "254700001234", 500, _STATUS.PAYMENT_STATUS_COMPLETED, {"callback_delay_seconds": 2}),
    Story(
        "Has no funds",
        "254700002001",
        1200,
        _STATUS.PAYMENT_STATUS_FAILED,
        {"ending": "no_funds", "callback_delay_seconds": 1.5},
        reason=payment_pb2.STATUS_REASON_INSUFFICIENT_FUNDS,
    ),
    Story(
        "Cancels on the phone",
        "254700003032",
        350,
        _STATUS.PAYMENT_STATUS_CANCELLED,
        {"ending": "cancelled", "callback_delay_seconds": 2.5},
        reason=payment_pb2.STATUS_REASON_DECLINED_BY_CUSTOMER,
    ),
    Story(
        "Types a wrong PIN",
        "254700004201",
        800,
        _STATUS.PAYMENT_STATUS_FAILED,
        {"ending": "wrong_pin", "callback_delay_seconds": 3},
        reason=payment_pb2.STATUS_REASON_WRONG_PIN,
    ),
    Story(
        "Has another prompt open",
        "254700005911",
        650,
        _STATUS.PAYMENT_STATUS_FAILED,
        {"error": "subscriber_locked"},
        reason=payment_pb2.STATUS_REASON_PHONE_BUSY,
        prompts=0,
        callbacks=0,
    ),
    Story(
        "Never answers",
        "254700006999",
        900,
        _STATUS.PAYMENT_STATUS_EXPIRED,
        # Asked when the prompt is gone, Safaricom says that nobody answered: without that it would stay uncertain.
        {"ending": "silent", "callback": "never", "callback_delay_seconds": PROMPT_GONE_SECONDS + 1},
        reason=payment_pb2.STATUS_REASON_NO_ANSWER,
        callbacks=0,
    ),
    Story(
        "Pays when all have given up",
        "254700007234",
        700,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"callback_delay_seconds": PAID_LATE_SECONDS},
        reason=payment_pb2.STATUS_REASON_PAID_LATE,
        sees=(_EVENT.PAYMENT_EVENT_TYPE_EXPIRED, _EVENT.PAYMENT_EVENT_TYPE_COMPLETED_LATE),
    ),
    Story(
        "Callback overtakes the answer",
        "254700008902",
        450,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"callback": "before_answer", "callback_delay_seconds": 1},
        sees_not=(_EVENT.PAYMENT_EVENT_TYPE_PROMPTED,),
    ),
    Story(
        "Callback lost, found by asking",
        "254700012998",
        750,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        # An answer to a query names no receipt; Safaricom's list of what arrived brings it, here some seconds later.
        {"callback": "never", "callback_delay_seconds": 1, "pull_delay_seconds": 8},
        sees=(_EVENT.PAYMENT_EVENT_TYPE_COMPLETED, _EVENT.PAYMENT_EVENT_TYPE_UPDATED),
        callbacks=0,
    ),
    Story(
        "Callback comes twice",
        "254700009903",
        550,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"callback": "twice", "callback_delay_seconds": 2, "callback_gap_seconds": 0.5},
        callbacks=2,
    ),
    Story(
        "Answer to the push is lost",
        "254700010901",
        1000,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"answer": "lost", "callback_delay_seconds": 4},
        sees=(_EVENT.PAYMENT_EVENT_TYPE_UNCERTAIN,),
    ),
    Story(
        "Answer and callback are both lost",
        "254700012901",
        1100,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"answer": "lost", "callback": "never", "callback_delay_seconds": 1},
        sees=(_EVENT.PAYMENT_EVENT_TYPE_UNCERTAIN,),
        callbacks=0,
    ),
    Story(
        "Booking asks three times at once",
        "254700011234",
        300,
        _STATUS.PAYMENT_STATUS_COMPLETED,
        {"callback_delay_seconds": 3},
        asked=3,
    ),
)
