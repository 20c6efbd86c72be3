"""What operators see: the checker's findings, and the story of a payment.

On a terminal wrapped and coloured; otherwise plain lines, one for each thing,
that other programs can read. Nothing in the texts is taken for markup.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from payment_service.application.inspecting.check import Tallies, Tally
from payment_service.application.inspecting.explain_callback import CallbackLine, CallbackStory
from payment_service.application.inspecting.explain_payment import Explanation, Moment
from payment_service.application.inspecting.invariants import Invariant
from payment_service.application.recording.record_facts import Recorded
from payment_service.commands.lines import plain, show_text
from payment_service.domain.views import PaymentView


def show_tallies(console: Console, tallies: Tallies) -> None:
    """One line for each invariant, with its violations below it."""
    for invariant, tally in tallies.items():
        show_text(console, Text.assemble(*_verdict(tally), f"  {invariant.value}: ", _counted(tally)))
        for violation in tally.shown:
            show_text(console, plain(f"          {violation.subject}: {violation.what}"))
        if (more := tally.violations - len(tally.shown)) > 0:
            show_text(console, Text(f"          and {more} more"))
        for unvouched in tally.unvouched:
            show_text(console, plain(f"          not vouched for: {unvouched.subject}: {unvouched.what}"))
        if (more := tally.unvouched_count - len(tally.unvouched)) > 0:
            show_text(console, Text(f"          and {more} more that are not vouched for"))
    broken = sum(tally.violations > 0 for tally in tallies.values())
    payments = tallies[Invariant.VERSIONS].checked
    summary = f"{broken} of {len(tallies)} do not hold" if broken else f"all {len(tallies)} hold"
    show_text(console, Text(f"{summary}, over {payments} payments.", style="bold"))
    if unread := tallies[Invariant.UNREAD].waiting:
        said = "1 callback cannot be read and waits" if unread == 1 else f"{unread} callbacks cannot be read and wait"
        where = "payment-service cases list --kind UNREAD_CALLBACK"
        show_text(console, Text(f"{said} for a person: {where}"))


def show_explanation(console: Console, explanation: Explanation) -> None:
    """The payment as it stands, then what happened to it, the oldest first."""
    for line in _standing(explanation):
        show_text(console, plain(line))
    day = None
    for moment in explanation.moments:
        if not console.is_terminal:
            details = "; ".join(moment.details)
            show_text(console, plain(f"{_precisely(moment.at)}  {moment.what}  [{moment.by}]  {details}"))
            continue
        if day != (its := moment.at.astimezone(UTC).date()):
            day = its
            show_text(console, Text(f"{day} (UTC)", style="bold"))
        _show_moment(console, moment)
    if explanation.left_out:
        show_text(console, Text("There are more callbacks or exchanges than are shown here."))


def show_callbacks(console: Console, callbacks: Sequence[CallbackLine], *, more: bool) -> None:
    """One line for each callback: its id, its status, what it says, and what it waits for."""
    for one in callbacks:
        for_whom = f"payment {one.payment_id}" if one.payment_id else "no payment"
        line = f"{one.callback_id}  {one.status:<9}  {_precisely(one.received_at)}  {one.reference}  {for_whom}"
        show_text(console, plain(f"{line}  {one.says}; {one.standing}"))
    if not callbacks:
        show_text(console, Text("There is none."))
    if more:
        show_text(console, Text("There are more than are shown here: --limit shows more of them."))


def show_callback_story(console: Console, story: CallbackStory) -> None:
    """One callback as it came, what became of it, and what operators did."""
    line = story.line
    for text in (
        f"Callback {line.callback_id}, {story.kind}, for reference {line.reference}",
        f"  {line.status}: {line.standing}",
        f"  from {story.source_address}, received {_precisely(line.received_at)}, stored {_precisely(story.stored_at)}",
        f"  says {line.says}",
        f"  got {story.body}",
        *(f"  {_precisely(moment.at)}  {moment.what}  [{moment.by}]" for moment in story.moments),
    ):
        show_text(console, plain(text))


def show_replayed(console: Console, callback_id: UUID, recorded: Recorded) -> None:
    """What a replay has led to."""
    payment = recorded.payment
    if recorded.unread:
        outcome = "still cannot be read: its case is for a person"
    elif payment is not None:
        outcome = f"applied to payment {payment.payment_id}, which is {payment.state.value} now"
    else:
        outcome = "still for no payment: it waits until there is one"
    show_text(console, plain(f"Callback {callback_id}: {outcome}."))


def _verdict(tally: Tally) -> tuple[tuple[str, str], ...]:
    return (("VIOLATED", "bold red"),) if tally.violations else (("holds   ", "green"),)


def _counted(tally: Tally) -> str:
    found = f", {tally.violations} violation{'s' * (tally.violations != 1)}" if tally.violations else ""
    unvouched = f", {tally.unvouched_count} not vouched for" if tally.unvouched_count else ""
    return f"{tally.checked} {tally.of}{found}{unvouched}"


def _standing(explanation: Explanation) -> list[str]:
    payment = explanation.payment
    reason = f" ({payment.reason.value})" if payment.reason else ""
    money = f"receipt {payment.receipt}" if payment.receipt else "no receipt"
    certain = "certain" if payment.outcome_certain else "not certain"
    return [
        f"Payment {payment.payment_id}, reference {payment.reference}",
        f"  for booking {payment.booking_id} of {payment.caller}, attempt {payment.attempt}"
        + (f" after {payment.retry_of}" if payment.retry_of else ""),
        f"  KES {payment.amount} from {payment.masked_phone}; {money}{', paid late' if payment.paid_late else ''}",
        f"  {payment.status.value}{reason}, {certain}; the booking: {payment.booking_action.value}",
        *([f"  its money: {explanation.backing}"] if explanation.backing else []),
        f"  the passenger reads: {payment.advice.sentence.spoken(payment.language_code)} Next: {_next(payment)}",
        f"  created {_precisely(payment.created_at)}, version {payment.version} {_precisely(payment.updated_at)}",
    ]


def _next(payment: PaymentView) -> str:
    return payment.advice.next_step.value.replace("_", " ").lower()


def _show_moment(console: Console, moment: Moment) -> None:
    what = plain(moment.what)
    what.stylize(_style(moment))
    show_text(console, Text.assemble(f"{_precisely(moment.at)[11:]}  ", what, "  by ", plain(moment.by)))
    for detail in moment.details:
        text = plain(detail)
        text.stylize("dim")
        console.print(Padding(text, (0, 0, 0, 14)))


def _style(moment: Moment) -> str:
    if moment.what.startswith("version"):
        return "bold"
    return "red" if "case" in moment.what else ""


def _precisely(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
