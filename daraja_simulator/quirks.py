"""The catalogue of quirks: what Daraja varies without telling, how often, and how often this run has shown it.

A quirk with a share happens by itself at that share and is of the kind a correct client never notices. A quirk with
share 0 loses, delays or contradicts something: it happens only where a script, a virtual phone or the
client's own mistake asks for it, and is counted when it does. Every quirk says where its share comes from:

  recorded   counted in recorded traffic
  assumed    the behaviour is recorded or documented, how often is not
  scripted   share 0: only on request
  client     share 0: answers a mistake of the client, or its rate
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from daraja_simulator.draws import SLOT_COUNT, Draws

Origin = Literal["recorded", "assumed", "scripted", "client"]


@dataclass(frozen=True, slots=True)
class Quirk:
    """One listed peculiarity. Neighbours with the same choice exclude each other and share one draw."""

    id: str
    share: float
    origin: Origin
    text: str
    choice: str = ""


QUIRKS: Final[tuple[Quirk, ...]] = (
    Quirk("token.number", 0.25, "assumed", "expires_in is a JSON number instead of a string"),
    Quirk("token.3600", 0.25, "assumed", "expires_in says 3600 instead of 3599"),
    Quirk("token.empty_400", 0.25, "assumed", "wrong consumer key: HTTP 400 with an empty body", "wrong_key"),
    Quirk("token.refused_401_002_01", 0.2, "assumed", "bad token on a call: 401.002.01 / HTTP 401", "bad_token"),
    Quirk("token.refused_400_003_01", 0.2, "assumed", "bad token on a call: 400.003.01 / HTTP 400", "bad_token"),
    Quirk("token.refused_401_003_01", 0.2, "assumed", "bad token on a call: 401.003.01 / HTTP 401", "bad_token"),
    Quirk("token.expired_early", 0.0, "scripted", "every token dies before its time"),
    Quirk("token.request_failed", 0.0, "scripted", "the token request itself fails"),
    Quirk("push.merchant_id_old", 0.1, "assumed", "MerchantRequestID in the form used until July 2024"),
    Quirk("push.checkout_id_old", 0.05, "assumed", "CheckoutRequestID in the old ws_CO_DMZ_ form"),
    Quirk("push.key_order", 0.1, "assumed", "the answer's keys come in another order"),
    Quirk("push.no_customer_message", 0.05, "assumed", "the answer has no CustomerMessage"),
    Quirk("push.int_response_code", 0.05, "assumed", "ResponseCode is an integer"),
    Quirk("push.other_wording", 0.05, "assumed", "ResponseDescription is worded differently"),
    Quirk("push.phone_typo", 0.2, "assumed", "a wrong phone number is refused as 'Invalid PhoneNumer'"),
    Quirk("push.merchant_validate", 0.3, "assumed", "wrong credentials come with the prefix [MerchantValidate] -"),
    Quirk(
        "push.error",
        0.0,
        "scripted",
        "a push gets an error or an edge page (recorded: 18 of 146, most of them wrong credentials)",
    ),
    Quirk("push.subscriber_locked", 0.0, "client", "a prompt is already open on the phone"),
    Quirk("push.raw_answer", 0.0, "scripted", "a push gets an answer of arbitrary bytes"),
    Quirk("push.answer_late", 0.0, "scripted", "the prompt is on the phone, the answer comes late"),
    Quirk("push.answer_lost", 0.0, "scripted", "the prompt is on the phone, the connection closes without an answer"),
    Quirk("push.answer_cut", 0.0, "scripted", "the prompt is on the phone, the answer breaks off in header or body"),
    Quirk("push.says_refused", 0.0, "scripted", "the push is refused, yet the phone is prompted"),
    Quirk("push.says_accepted", 0.0, "scripted", "the push is accepted, yet no phone is prompted"),
    Quirk("push.closed_unread", 0.0, "scripted", "the connection closes before the push is read"),
    Quirk("callback.amount_float", 0.2, "assumed", "Amount is 1.0 instead of 1"),
    Quirk("callback.amount_string", 0.0, "scripted", "Amount is a string", "amount"),
    Quirk("callback.balance_missing", 0.1, "assumed", "there is no Balance item", "balance"),
    Quirk("callback.balance_string", 0.05, "assumed", "Balance carries a string", "balance"),
    Quirk("callback.balance_struct", 0.02, "assumed", "Balance carries {Amount={BasicAmount=…}}", "balance"),
    Quirk("callback.item_order", 0.1, "assumed", "the metadata items come in another order"),
    Quirk("callback.extra_item", 0.03, "assumed", "the metadata carries an item nobody announced"),
    Quirk("callback.date_string", 0.02, "assumed", "TransactionDate is a string"),
    Quirk("callback.phone_masked", 0.05, "assumed", "PhoneNumber is masked with stars", "phone"),
    Quirk("callback.phone_masked_c2b", 0.03, "assumed", "PhoneNumber is masked as in C2B v2: 2547 ***** 126", "phone"),
    Quirk("callback.phone_masked_sms", 0.03, "assumed", "PhoneNumber is masked as in an SMS: 0722000***", "phone"),
    Quirk("callback.phone_missing", 0.02, "assumed", "there is no PhoneNumber item", "phone"),
    Quirk("callback.old_prefix", 0.1, "assumed", "a failure's ResultDesc starts with [STK_CB - ]"),
    Quirk("callback.other_wording", 0.3, "assumed", "ResultDesc uses another known wording for the same code"),
    Quirk("callback.code_string", 0.0, "scripted", "ResultCode is a string"),
    Quirk("callback.no_receipt", 0.0, "scripted", "success without MpesaReceiptNumber"),
    Quirk("callback.no_metadata", 0.0, "scripted", "success without CallbackMetadata"),
    Quirk("callback.wrong_amount", 0.0, "scripted", "Amount is not what was asked for"),
    Quirk("callback.foreign_ids", 0.0, "scripted", "the callback carries other ids than the answer did"),
    Quirk("callback.other_payments_ids", 0.0, "scripted", "the callback carries the ids of another payment"),
    Quirk("callback.date_future", 0.0, "scripted", "TransactionDate is a day ahead of the clock"),
    Quirk("callback.raw", 0.0, "scripted", "the callback's body is arbitrary bytes"),
    Quirk("callback.never", 0.0, "scripted", "the callback never comes"),
    Quirk("callback.twice", 0.0, "scripted", "the callback comes twice"),
    Quirk("callback.before_answer", 0.0, "scripted", "the callback arrives before the push is answered"),
    Quirk("callback.reordered", 0.0, "scripted", "the callback waits until a later payment's has gone"),
    Quirk("callback.held", 0.0, "scripted", "the callback waits until it is released or sent again"),
    Quirk(
        "query.being_processed", 0.4, "assumed", "pending: 500.001.1001 The transaction is being processed", "pending"
    ),
    Quirk("query.4999", 0.4, "assumed", "pending: HTTP 200 with ResultCode 4999", "pending"),
    Quirk("query.empty_error", 0.08, "assumed", "pending: HTTP 200 with an error envelope without text", "pending"),
    Quirk("query.invalid_checkout", 0.06, "assumed", "pending: 400.002.02 Invalid CheckoutRequestID", "pending"),
    Quirk("query.does_not_exist", 0.06, "assumed", "pending: 500.001.1001 The transaction does not Exist", "pending"),
    Quirk(
        "query.error_after_end", 0.21, "recorded", "finished, yet 500.001.1001 (4 of 19 polls); a later query is right"
    ),
    Quirk("query.typo", 0.3, "assumed", "ResponseDescription says successsfully, as it did until 2025"),
    Quirk("query.customer_message", 0.05, "assumed", "an extra, empty CustomerMessage"),
    Quirk("query.int_codes", 0.0, "scripted", "ResponseCode and ResultCode are integers"),
    Quirk("query.rate_limited", 0.0, "client", "more than 5 queries a minute: HTTP 429 with an Apigee fault"),
    Quirk("query.says_failed", 0.0, "scripted", "the phone paid, the query says that it did not"),
    Quirk("query.says_paid", 0.0, "scripted", "the phone did not pay, the query says that it did"),
    Quirk("query.html", 0.0, "scripted", "HTTP 200 with an HTML page"),
    Quirk("query.empty", 0.0, "scripted", "HTTP 200 with an empty body"),
    Quirk("query.wrong_types", 0.0, "scripted", "HTTP 200 with values of the wrong JSON types"),
    Quirk("query.raw_answer", 0.0, "scripted", "a query gets an answer of arbitrary bytes"),
    Quirk("status.code_string", 0.2, "assumed", "ResultCode is a string"),
    Quirk("status.type_string", 0.2, "assumed", "ResultType is a string"),
    Quirk("status.amount_float", 0.5, "assumed", "Amount is 1.0 instead of 1", "amount"),
    Quirk("status.amount_string", 0.2, "assumed", "Amount is a string", "amount"),
    Quirk("status.date_string", 0.15, "assumed", "times are fourteen digits as a string", "date"),
    Quirk("status.date_dotted", 0.15, "assumed", "times are written 06.07.2024 22:48:52", "date"),
    Quirk("status.no_value", 0.9, "assumed", "keys without a value have no Value at all, instead of an empty one"),
    Quirk("status.repeated_key", 0.3, "assumed", "DebitPartyName comes twice, the second time for the payee"),
    Quirk("status.spaced_keys", 0.1, "assumed", "Conversation ID and Originator Conversation ID, with spaces"),
    Quirk("status.map_text", 0.05, "assumed", "CreditPartyCharges is {Amount={BasicAmount=…}}"),
    Quirk("status.party_masked", 0.05, "assumed", "the payer's number in DebitPartyName is masked"),
    Quirk("status.parameter_order", 0.2, "assumed", "the parameters come in another order"),
    Quirk("status.reference_array", 0.2, "assumed", "ReferenceItem is an array instead of an object"),
    Quirk("status.failure_parameters", 0.3, "assumed", "a failure carries a parameter all the same"),
    Quirk("status.single_parameter", 0.5, "assumed", "a single ResultParameter is an object instead of an array"),
    Quirk("status.only_receipt", 0.0, "scripted", "success with ReceiptNo alone"),
    Quirk("status.bare_list", 0.0, "scripted", "ResultParameters is the list itself"),
    Quirk("status.swapped_names", 0.0, "scripted", "ResultParameter and ResultParameters have changed places"),
    Quirk("status.receipt_unknown", 0.0, "client", "2032: no such receipt, or not with this party"),
    Quirk("status.conversation_unknown", 0.0, "client", "2033: no such conversation, or its prompt is still open"),
    Quirk("status.initiator_wrong", 0.0, "client", "2001: a wrong initiator or password"),
    Quirk("status.initiator_locked", 0.0, "client", "8006: the third wrong password in a row has locked it"),
    Quirk("status.error", 0.0, "scripted", "a status query gets an error or an edge page"),
    Quirk("status.raw_answer", 0.0, "scripted", "a status query gets an answer of arbitrary bytes"),
    Quirk("status.content", 0.0, "scripted", "the result says something else than the ledger"),
    Quirk("status.raw_result", 0.0, "scripted", "the result's body is arbitrary bytes"),
    Quirk("status.never", 0.0, "scripted", "the result never comes"),
    Quirk("status.twice", 0.0, "scripted", "the result comes twice"),
    Quirk("status.late", 0.0, "scripted", "the result comes late"),
    Quirk("status.queue_timeout", 0.0, "scripted", "a post to QueueTimeOutURL instead: the outcome is unknown"),
    Quirk("status.held", 0.0, "scripted", "the result waits until it is released, be it a day"),
    Quirk("status.reversed_unsaid", 0.0, "scripted", "a payment that went back is still called Completed"),
    Quirk("order.code_string", 0.2, "assumed", "ResultCode is a string"),
    Quirk("order.type_string", 0.2, "assumed", "ResultType is a string"),
    Quirk("order.amount_float", 0.5, "assumed", "the amount is 1.0 instead of 1", "order_amount"),
    Quirk("order.amount_string", 0.2, "assumed", "the amount is a string", "order_amount"),
    Quirk("order.date_string", 0.15, "assumed", "times are fourteen digits as a string", "order_date"),
    Quirk("order.date_dotted", 0.15, "assumed", "times are written 06.07.2024 22:48:52", "order_date"),
    Quirk("order.parameter_order", 0.2, "assumed", "the parameters come in another order"),
    Quirk("order.reference_array", 0.2, "assumed", "ReferenceItem is an array instead of an object"),
    Quirk("order.failure_parameters", 0.2, "assumed", "a failure carries a parameter all the same"),
    Quirk("order.single_parameter", 0.5, "assumed", "a single ResultParameter is an object instead of an array"),
    Quirk("order.placeholder_id", 0.1, "assumed", "a success has the TransactionID of a failure, which names nothing"),
    Quirk("order.misspelt_id", 0.1, "assumed", "the acknowledgement says OriginatorCoversationID"),
    Quirk("order.local_number", 0.3, "assumed", "the customer's number is written 0722… instead of 254722…"),
    Quirk("order.bare_list", 0.0, "scripted", "ResultParameters is the list itself"),
    Quirk("order.swapped_names", 0.0, "scripted", "ResultParameter and ResultParameters have changed places"),
    Quirk("order.initiator_wrong", 0.0, "client", "2001: a wrong initiator or password"),
    Quirk("order.initiator_locked", 0.0, "client", "8006: the third wrong password in a row has locked it"),
    Quirk("order.initiator_not_allowed", 0.0, "client", "21: the initiator has no role that sends money"),
    Quirk("order.float_short", 0.0, "client", "1: the account that sends the money has too little"),
    Quirk("order.error", 0.0, "scripted", "an order gets an error or an edge page"),
    Quirk("order.raw_answer", 0.0, "scripted", "an order gets an answer of arbitrary bytes"),
    Quirk("order.answer_late", 0.0, "scripted", "the order is taken, the answer comes late"),
    Quirk("order.answer_lost", 0.0, "scripted", "the order is taken, the connection closes without an answer"),
    Quirk("order.answer_cut", 0.0, "scripted", "the order is taken, the answer breaks off in header or body"),
    Quirk("order.says_refused", 0.0, "scripted", "an order gets an error, such as a system error, and is carried out"),
    Quirk(
        "order.says_done",
        0.0,
        "scripted",
        "an order is taken and forgotten; its result, if one comes, says 0 and nothing more",
    ),
    Quirk("order.content", 0.0, "scripted", "the result says something else than the books"),
    Quirk("order.raw_result", 0.0, "scripted", "the result's body is arbitrary bytes"),
    Quirk("order.never", 0.0, "scripted", "the order is carried out, the result never comes"),
    Quirk("order.twice", 0.0, "scripted", "the result comes twice"),
    Quirk("order.late", 0.0, "scripted", "the order is carried out late, and so comes its result"),
    Quirk("order.held", 0.0, "scripted", "the result waits until it is released, be it a day"),
    Quirk("order.queue_timeout", 0.0, "scripted", "a post to QueueTimeOutURL instead of the result"),
    Quirk("reversal.right_spelling", 0.0, "client", "ReceiverIdentifierType, spelt right, is refused"),
    Quirk("reversal.amount_differs", 0.0, "client", "the amount is not that of the payment"),
    Quirk("reversal.receipt_unknown", 0.0, "client", "R000002: no such receipt, or not with this party"),
    Quirk("reversal.already_reversed", 0.0, "client", "R000001: the payment has gone back already"),
    Quirk("reversal.no_original", 0.0, "scripted", "success without OriginalTransactionID"),
    Quirk("reversal.taken_back", 0.0, "scripted", "Safaricom sends a payment back at the payer's request"),
    Quirk("b2c.duplicate", 0.0, "client", "500.002.1001: M-Pesa has taken an order with this OriginatorConversationID"),
    Quirk("b2c.below_minimum", 0.0, "client", "2: less than KSh 10"),
    Quirk("b2c.not_registered", 0.0, "client", "2040: the number has no M-Pesa account"),
    Quirk("b2c.no_receipt", 0.0, "scripted", "success without TransactionReceipt"),
    Quirk("balance.code_string", 0.5, "assumed", "ResultCode is a string"),
    Quirk("balance.type_string", 0.5, "assumed", "ResultType is a string"),
    Quirk("balance.date_string", 0.5, "assumed", "the time is fourteen digits as a string"),
    Quirk("balance.reference_array", 0.2, "assumed", "ReferenceItem is an array instead of an object"),
    Quirk("balance.failure_parameters", 0.5, "assumed", "a failure carries a parameter all the same"),
    Quirk("balance.reserved", 0.3, "assumed", "an account has more than may be spent: some of it is reserved"),
    Quirk("balance.account_order", 0.2, "assumed", "the accounts come in another order"),
    Quirk("balance.swapped_names", 0.1, "assumed", "ResultParameter and ResultParameters have changed places"),
    Quirk("balance.initiator_wrong", 0.0, "client", "2001: a wrong initiator or password"),
    Quirk("balance.initiator_locked", 0.0, "client", "8006: the third wrong password in a row has locked it"),
    Quirk("balance.error", 0.0, "scripted", "a question for the balance gets an error or an edge page"),
    Quirk("balance.raw_answer", 0.0, "scripted", "a question for the balance gets an answer of arbitrary bytes"),
    Quirk("balance.content", 0.0, "scripted", "the result says something else than the books"),
    Quirk("balance.raw_result", 0.0, "scripted", "the result's body is arbitrary bytes"),
    Quirk("balance.never", 0.0, "scripted", "the result never comes"),
    Quirk("balance.twice", 0.0, "scripted", "the result comes twice"),
    Quirk("balance.late", 0.0, "scripted", "the result comes late"),
    Quirk("balance.held", 0.0, "scripted", "the result waits until it is released, be it a day"),
    Quirk("balance.queue_timeout", 0.0, "scripted", "a post to QueueTimeOutURL instead of the result"),
    Quirk("pull.code_number", 0.1, "assumed", "ResponseCode or ResponseStatus is a number"),
    Quirk("pull.request_id", 0.3, "assumed", "the answer names a RequestID instead of a ResponseRefID"),
    Quirk("pull.spaced_keys", 0.3, "assumed", "registering: Response Status and Response Description, with spaces"),
    Quirk("pull.empty_nested", 0.3, "assumed", "nothing found: 1001 with [[]]", "empty"),
    Quirk("pull.empty_text", 0.2, "assumed", 'nothing found: 1001 with "Transaction": "[[]]"', "empty"),
    Quirk("pull.empty_success", 0.1, "assumed", "nothing found: 1000 with [[]]", "empty"),
    Quirk("pull.empty_500", 0.1, "assumed", "nothing found: HTTP 500 with error code 500", "empty"),
    Quirk("pull.empty_list", 0.1, "assumed", "nothing found: 1000 with []", "empty"),
    Quirk("pull.flat", 0.05, "assumed", "the rows are in one list instead of a list of lists", "nesting"),
    Quirk("pull.several_lists", 0.1, "assumed", "the rows are spread over several inner lists", "nesting"),
    Quirk("pull.amount_number", 0.1, "assumed", "amount is a number", "pull_amount"),
    Quirk("pull.amount_whole", 0.1, "assumed", "amount is text without cents", "pull_amount"),
    Quirk("pull.msisdn_number", 0.1, "assumed", "msisdn is a number without 254", "msisdn"),
    Quirk("pull.msisdn_text", 0.1, "assumed", "msisdn is text without 254", "msisdn"),
    Quirk("pull.date_nairobi", 0.2, "assumed", "trxDate is Nairobi time, without a zone", "pull_date"),
    Quirk("pull.date_offset", 0.1, "assumed", "trxDate is Nairobi time and says +03:00", "pull_date"),
    Quirk("pull.date_fraction", 0.1, "assumed", "trxDate has fractions of a second", "pull_date"),
    Quirk("pull.date_digits", 0.1, "assumed", "trxDate is 14 digits of Nairobi time", "pull_date"),
    Quirk("pull.type_cut", 0.1, "assumed", "transactiontype is another one, cut to 16 characters: c2b-paybill-debi"),
    Quirk("pull.totals", 0.1, "assumed", "the page says CurrentPage, PageSize, TotalPages and TotalRecords"),
    Quirk("pull.type_other", 0.0, "scripted", "transactiontype is none of a customer's payment that anybody lists"),
    Quirk("pull.not_working", 0.0, "scripted", "1001, No records found or Organization Name not available, with rows"),
    Quirk("pull.failed_200", 0.0, "scripted", "HTTP 200 with ResponseCode 500: Failed to retrieve transactions"),
    Quirk("pull.offset_ignored", 0.0, "scripted", "every offset brings the first page"),
    Quirk("pull.totals_above", 0.0, "scripted", "TotalRecords is 50 more than there are rows"),
    Quirk("pull.date_false_zone", 0.0, "scripted", "trxDate is Nairobi time and says Z, three hours ahead"),
    Quirk("pull.registered_before", 0.0, "client", "1001: the shortcode is registered already"),
    Quirk("pull.not_registered", 0.0, "client", "400.001: a pull for a shortcode that was never registered"),
    Quirk("pull.get", 0.0, "client", "405.001: GET, as the page has it, is refused"),
    Quirk("pull.window_cut", 0.0, "client", "more than 48 hours were asked for; the older ones are left out"),
    Quirk("pull.row_never", 0.0, "scripted", "money moved and there is no row"),
    Quirk("pull.row_late", 0.0, "scripted", "money moved and its row is not there yet"),
    Quirk("pull.row_twice", 0.0, "scripted", "a row is there twice"),
    Quirk("pull.reversal_by_original", 0.0, "scripted", "a reversal's row has the receipt of its payment"),
    Quirk("pull.error", 0.0, "scripted", "a pull gets an error or an edge page"),
    Quirk("pull.raw_answer", 0.0, "scripted", "a pull gets an answer of arbitrary bytes"),
)

BY_ID: Final = {quirk.id: quirk for quirk in QUIRKS}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One draw: where its fraction lies, and up to which bounds it picks which quirk."""

    slot: int
    total: float
    bounds: tuple[tuple[float, str], ...]


def _choices() -> dict[str, list[_Choice]]:
    """Per group, the draws to make; what chance never picks needs none."""
    table: dict[str, list[_Choice]] = {}
    for group, members in groupby(QUIRKS, key=lambda quirk: quirk.id.partition(".")[0]):
        choices = table.setdefault(group, [])
        alternatives = groupby(members, key=lambda quirk: quirk.choice or quirk.id)
        for slot, (_, quirks) in enumerate(alternatives):
            total, bounds = 0.0, []
            for quirk in quirks:
                total += quirk.share
                bounds.append((total, quirk.id))
            if total > 0:
                assert slot < SLOT_COUNT - 3, "the last three slots are for times and variants"
                choices.append(_Choice(slot, total, tuple(bounds)))
    return table


_CHOICES: Final = _choices()

# The slots of a group's draws that no quirk uses.
LATENCY_SLOT: Final = SLOT_COUNT - 1
DELAY_SLOT: Final = SLOT_COUNT - 2
VARIANT_SLOT: Final = SLOT_COUNT - 3


def drawn(group: str, draws: Draws) -> frozenset[str]:
    """The quirks of a group that chance picks on this occasion."""
    picked = []
    for choice in _CHOICES[group]:
        fraction = draws.fraction(choice.slot)
        if fraction < choice.total:
            picked.append(next(quirk_id for bound, quirk_id in choice.bounds if fraction < bound))
    return frozenset(picked)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The quirks that apply to one message; taking one counts it, so only what was really shown is counted."""

    ids: AbstractSet[str]
    hits: Counter[str]

    def take(self, quirk_id: str) -> bool:
        if quirk_id not in self.ids:
            return False
        self.hits[quirk_id] += 1
        return True


def listing(hits: Counter[str]) -> list[dict[str, Any]]:
    """Every quirk with its share and how often it was shown, in catalogue order."""
    return [
        {"id": quirk.id, "share": quirk.share, "origin": quirk.origin, "text": quirk.text, "hits": hits[quirk.id]}
        for quirk in QUIRKS
    ]
