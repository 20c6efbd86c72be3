"""A trip before anything is asked of the service: how its list is read, and what its parts add up to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from mpesa_payments.v1 import operations_service_pb2 as pb
from mpesa_payments.v1 import payment_pb2
from mpesa_payments.v1.money_pb2 import Money

from payment_service.commands.booking_list import BOOKINGS_MAX, ListedBooking, ListRefused, parse_bookings
from payment_service.commands.trip_plan import (
    WENT_BACK,
    Float,
    Passenger,
    Standing,
    Sum,
    covered,
    covered_by_now,
    passenger,
    refused,
    sum_of,
    to_ask_for,
    why_to_stop,
)
from payment_service.commands.trip_screens import (
    as_json,
    float_lines,
    plan_lines,
    progress_line,
    question,
    report_lines,
)

DONE, FAILED = payment_pb2.REFUND_STATUS_DONE, payment_pb2.REFUND_STATUS_FAILED


def test_a_list_is_read_in_its_order_whatever_wrote_it() -> None:
    wanted = [ListedBooking(2, "BK-2"), ListedBooking(4, "BK-1")]
    assert parse_bookings("booking_id\nBK-2\n\nBK-1\n") == wanted
    assert parse_bookings('booking_id\r\n"BK-2"\r\n\r\nBK-1') == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the heading booking_id, and one booking on each line below it"),
        ("BK-1\nBK-2\n", "line 1: expected the heading booking_id and no other column, found BK-1"),
        (
            "booking_id,amount\nBK-1,500\n",
            "line 1: expected the heading booking_id and no other column, found booking_id, amount",
        ),
        ("booking_id\n", "line 1: expected one booking on each line below the heading, found none"),
        ("booking_id\nBK-1\nBK-2,500\n", "line 3: expected one value, found 2"),
        ("booking_id\nBK-1\nBK-2\nBK-1\n", "line 4: booking BK-1 stands on line 2 already"),
        ('booking_id\n"BK-1\n', "line 2: expected CSV: "),
        ("booking_id\n" + "BK-1\n" * (BOOKINGS_MAX + 1), f"line {BOOKINGS_MAX + 2}: expected at most {BOOKINGS_MAX}"),
    ],
)
def test_what_is_wrong_with_a_list_is_named_by_its_line(text: str, said: str) -> None:
    with pytest.raises(ListRefused) as refusal:
        parse_bookings(text)
    assert f"\n{said}" in str(refusal.value)


def test_everything_that_is_wrong_is_named_at_once_up_to_a_page() -> None:
    with pytest.raises(ListRefused) as refusal:
        parse_bookings("booking_id\n" + "BK-1\n" * 30)
    lines = str(refusal.value).splitlines()
    assert (len(lines), lines[1], lines[-1]) == (22, "line 3: booking BK-1 stands on line 2 already", "and 9 more")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\x1b]0;x\x07\nBK-1\n", "found \\x1b]0;x\\x07"),
        ("booking_id\nB\x1b[2J\nB\x1b[2J\n", "booking B\\x1b[2J stands"),
        ("booking_id\nB\u202e1\nB\u202e1\n", "booking B\\u202e1 stands"),
        ('booking_id\n"B\r\nline 9: 1"\n"B\r\nline 9: 1"\n', "booking B\\r\\nline 9: 1 stands"),
    ],
)
def test_what_a_file_says_moves_no_terminal(text: str, said: str) -> None:
    with pytest.raises(ListRefused) as refusal:
        parse_bookings(text)
    assert said in str(refusal.value)
    assert all(line.isprintable() for line in str(refusal.value).split("\n"))


def test_a_value_that_is_as_long_as_a_page_is_cut() -> None:
    with pytest.raises(ListRefused, match=r"found x{80}…$"):
        parse_bookings("x" * 1_000)


def answered(booking: int, status: int | None = None, code: str = "") -> Passenger:
    refund = payment_pb2.Refund(status=status) if status is not None else None  # type: ignore[arg-type]  # a number of the enum
    answer = pb.RefundBookingResponse(
        payment=pb.FoundPayment(caller="development", payment=payment_pb2.Payment(masked_phone="2547*****678")),
        amount=Money(currency_code="KES", units=1_500),
        refund=refund,
        provider_result_code=code,
        shortcode="174379",
    )
    return passenger(ListedBooking(booking + 1, f"BK-{booking}"), answer)


TRIP = [
    answered(1),
    answered(2, payment_pb2.REFUND_STATUS_PENDING),
    answered(3, DONE),
    answered(4, FAILED, "1"),
    refused(ListedBooking(6, "BK-5"), "REFUNDED", "It has gone back already."),
    refused(ListedBooking(7, "BK-6"), "NOT_PAID_YET", "Some may still come."),
    refused(ListedBooking(8, "BK-7"), "UNDER_REVIEW", "An operator decides first."),
]


def test_the_plan_says_how_many_how_much_and_what_cannot_go_back_and_why() -> None:
    assert [one.standing for one in TRIP] == list(Standing)
    assert [one.listed.booking_id for one in to_ask_for(TRIP)] == ["BK-1", "BK-4"]
    assert sum_of(TRIP, Standing.TO_REFUND, Standing.FAILED) == Sum(2, 3_000)
    assert list(plan_lines("7 bookings in bookings.csv", TRIP)) == [
        "7 bookings in bookings.csv",
        "  caller: development",
        "  to be refunded: 1, KES 1,500",
        "  under way: 1, KES 1,500",
        "  refunded: 1, KES 1,500",
        "  failed, and asked for again: 1, KES 1,500",
        "  returned already, otherwise: 1",
        "  may still be paid: 1",
        "  cannot be refunded from here: 1",
        "  line 7  BK-6  Some may still come.",
        "  line 8  BK-7  An operator decides first.",
    ]


def test_money_that_goes_back_by_another_refund_is_under_way() -> None:
    other = refused(ListedBooking(2, "BK-1"), "REFUND_UNDER_WAY", "A refund of this payment is under way already.")
    assert other.standing is Standing.UNDER_WAY
    assert sum_of([other, *TRIP], *WENT_BACK).bookings == 2


def test_a_fee_is_said_before_it_is_kept() -> None:
    trip = [replace(answered(number), amount=1_350, fee=150) for number in (1, 2)]
    assert list(plan_lines("2 bookings", trip))[2] == "  to be refunded: 2, KES 2,700, and KES 300 kept as a fee"
    asked = question(sum_of(trip), "the driver is ill")
    assert asked == 'Send KES 2,700 back to 2 passengers, and keep KES 300, because "the driver is ill"?'


def test_the_report_says_why_it_stopped_what_failed_and_what_is_left() -> None:
    assert list(report_lines(TRIP, "The float is gone.")) == [
        "Stopped: The float is gone.",
        "  left: 1, KES 1,500",
        "  under way: 1, KES 1,500",
        "  refunded: 1, KES 1,500",
        "  failed: 1, KES 1,500",
        "  returned already, otherwise: 1",
        "  may still be paid: 1",
        "  cannot be refunded from here: 1",
        "  line 5  BK-4  KES 1500, code 1",
        "  line 7  BK-6  Some may still come.",
        "  line 8  BK-7  An operator decides first.",
        "Start it again with the same words: nobody is refunded twice.",
        "What is under way ends by itself: `payment-service refunds show` says how, or the same command again.",
    ]
    assert progress_line(TRIP) == "1 refunded, 1 under way, 1 to come, 1 failed"
    report = json.loads(as_json(TRIP, {}, "The float is gone."))
    assert report["sums"]["DONE"] == {"bookings": 1, "amount_kes": 1500}
    assert [(one["line"], one["state"]) for one in report["bookings"]] == [
        (2, "TO_REFUND"),
        (3, "UNDER_WAY"),
        (4, "DONE"),
        (5, "FAILED"),
        (6, "RETURNED"),
        (7, "MAY_STILL_PAY"),
        (8, "NOT_POSSIBLE"),
    ]


def test_the_float_pays_in_the_order_of_the_list_and_what_is_not_known_stops_nobody() -> None:
    trip = [answered(1), TRIP[-1], answered(2, FAILED, "1"), answered(3, DONE), answered(4)]
    for available, bookings in ((10_000, 3), (4_500, 3), (4_499, 2), (1_500, 1), (0, 0), (None, 3)):
        paid = covered(trip, {"174379": Float("174379", available)})
        assert [one.listed.booking_id for one in paid] == ["BK-1", "BK-2", "BK-4"][:bookings]
    assert list(float_lines({"174379": Float("174379", 1_500)}, Sum(2, 3_000))) == [
        "  float of 174379: KES 1,500",
        "  not covered by the float, and left: 2, KES 3,000",
    ]
    # Parts may be paid from one account, whichever was paid to.
    assert covered(
        [answered(1), replace(answered(2), shortcode="600000")],
        {"174379": Float("3000000", 1_500), "600000": Float("3000000", 1_500)},
    ) == [answered(1)]
    unknown = Float("174379", None, "M-Pesa has not told it within 15 seconds.")
    assert list(float_lines({"174379": unknown}, Sum(0, 0))) == [
        "  float of 174379: not known. M-Pesa has not told it within 15 seconds."
    ]


def test_what_waits_for_a_second_operator_takes_nothing_from_the_float_of_the_others() -> None:
    """A group's booking takes nearly all of the float, until the service answers that it waits."""
    group, others = replace(answered(1), amount=95_000), [replace(answered(n), amount=2_000) for n in range(2, 22)]
    trip, floats = [group, *others], {"174379": Float("174379", 100_000)}
    assert covered(trip, floats) == [group, *others[:2]]
    by_now = {one.listed.booking_id: one for one in trip}
    assert covered_by_now(trip, by_now, floats) == [group, *others[:2]]
    by_now["BK-1"] = replace(group, standing=Standing.NOT_POSSIBLE)
    assert covered_by_now(trip, by_now, floats) == others


def test_a_run_stops_when_the_float_is_gone_and_when_refusals_follow_each_other() -> None:
    done, refused = answered(1, DONE), answered(2, FAILED, "21")
    assert why_to_stop([]) == why_to_stop([done, refused, refused]) == why_to_stop([refused, refused, done]) == ""
    assert why_to_stop([done, answered(3, FAILED, "1")]).startswith("M-Pesa says that too little money is left")
    assert why_to_stop([done, refused, refused, refused]) == "3 refunds in a row were refused, with code 21."
