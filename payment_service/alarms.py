"""Everything for which this program calls a person. `docs/alarms.md` is made from this list."""

from runtime.alarms import Alarm

CALLBACKS_MISSING = Alarm(
    "callbacks_missing",
    "Safaricom accepted prompts, and far too few callbacks came for them.",
    "Check that Safaricom reaches the callback gateway: its certificate, the proxy in front of it, and"
    " PAYMENTS_CALLBACK_BASE_URL. Meanwhile payments are settled by query, later than usual.",
)
ANSWERS_MISSING = Alarm(
    "answers_missing",
    "Most pushes of the last minutes got no answer that says what became of them.",
    "Check the network to Safaricom and its status page. No prompt is sent twice; callbacks settle these payments.",
)
SAME_REFUSAL = Alarm(
    "same_refusal",
    "Safaricom refused one push after the other in the same way.",
    "Read the answer with `payment-service explain` on one of the payments: such a row means a wrong set-up (shortcode,"
    " passkey, till number, product of the app), not the passengers' doing.",
)
SAME_UNLISTED_CODE = Alarm(
    "same_unlisted_code",
    "One result after the other came with a code that the list of codes does not have.",
    "Ask Safaricom what the code means. Until it is listed, such payments stay uncertain and are not offered again.",
)

ALARMS: tuple[Alarm, ...] = (CALLBACKS_MISSING, ANSWERS_MISSING, SAME_REFUSAL, SAME_UNLISTED_CODE)
