"""Where the cells of the table lead: every change of state that some fact can bring about.

Read off `TABLE`, so that whoever checks the log and whoever draws the table agree with what decides.
"""

from payment_service.domain.finding import Finding
from payment_service.domain.payment import State
from payment_service.domain.standings import Standing
from payment_service.domain.transitions import HEADINGS, TABLE

STATE_OF = {
    Standing.CREATED: State.CREATED,
    Standing.SENDING: State.SENDING,
    Standing.PROMPTED: State.PROMPTED,
    Standing.UNCERTAIN_NO_RESULT: State.UNCERTAIN,
    Standing.UNCERTAIN_RESULT_SEEN: State.UNCERTAIN,
    Standing.UNDER_REVIEW: State.UNCERTAIN,
    Standing.RECEIPT_PENDING: State.COMPLETED,
    Standing.COMPLETED_BY_CALLBACK: State.COMPLETED,
    Standing.COMPLETED: State.COMPLETED,
    Standing.REFUTED: State.COMPLETED,
    Standing.FAILED_BY_QUERY: State.FAILED,
    Standing.CANCELLED_BY_QUERY: State.CANCELLED,
    Standing.FAILED: State.FAILED,
    Standing.CANCELLED: State.CANCELLED,
    Standing.EXPIRED: State.EXPIRED,
    Standing.REFUNDING: State.REFUNDING,
    Standing.REFUNDED: State.REFUNDED,
}

_WITHOUT_RECEIPT = frozenset({Finding.PAID_NO_RECEIPT, Finding.QUERY_PAID})


def targets(row: Finding, column: Standing) -> tuple[Standing, ...]:
    """The standings that a cell can lead to, other than the one it is in."""
    cell = TABLE[row][column].partition("+")[0]
    match cell:
        case "K" if row in _WITHOUT_RECEIPT:
            leads_to: tuple[Standing, ...] = (Standing.RECEIPT_PENDING,)
        case "K" | "receipt" if row is Finding.PAID_NEW_RECEIPT:
            leads_to = (Standing.COMPLETED_BY_CALLBACK, Standing.COMPLETED)
        case "receipt" | "backed":
            leads_to = (Standing.COMPLETED,)
        case "refuted":
            leads_to = (Standing.REFUTED,)
        case "F|X":
            leads_to = (Standing.FAILED, Standing.CANCELLED)
        case "F0|X0":
            leads_to = (Standing.FAILED_BY_QUERY, Standing.CANCELLED_BY_QUERY)
        case "cert" | "agrees" if column is Standing.FAILED_BY_QUERY:
            leads_to = (Standing.FAILED,)
        case "cert" | "agrees" if column is Standing.CANCELLED_BY_QUERY:
            leads_to = (Standing.CANCELLED,)
        case "back":
            leads_to = (Standing.COMPLETED_BY_CALLBACK, Standing.COMPLETED, Standing.UNDER_REVIEW)
        case name if name in HEADINGS:
            leads_to = (HEADINGS[name],)
        case _:
            leads_to = ()
    return tuple(standing for standing in leads_to if standing is not column)


def edges() -> frozenset[tuple[State, State]]:
    """Every change of state that some cell of the table can bring about."""
    return frozenset(
        (STATE_OF[column], STATE_OF[target])
        for row in Finding
        for column in Standing
        for target in targets(row, column)
        if STATE_OF[column] is not STATE_OF[target]
    )
