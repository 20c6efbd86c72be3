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
    "Most pushes of the last minutes reached nobody, or got no answer that says what became of them.",
    "Check the network to Safaricom and its status page. No prompt is sent twice: callbacks settle these payments, and"
    " what reached nobody is sent again for as long as its payment waits.",
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

RULE_REFUSES_MANY = Alarm(
    "rule_refuses_many",
    "A rule against unwanted prompts has refused far more requests in ten minutes than it did the day before.",
    "Look at `payment-service risk show`, and at the log lines `rule objects`. If one caller is behind it, somebody may"
    " be misusing that service: block the phones that are rung, or stop all prompts. If passengers meet the rule, raise"
    " its limit, or set it to shadow.",
)
PULL_BEHIND = Alarm(
    "pull_behind",
    "Safaricom's own list of what arrived has not been read for more than a quarter of an hour.",
    "Look at the log lines `books not read`: they say what Safaricom answers, and what to check. Callbacks and queries"
    " go on; money that only this list shows is found late.",
)
PULL_INCOMPLETE = Alarm(
    "pull_incomplete",
    "A part of Safaricom's own list of what arrived could not be read to its end, so it does not count as read.",
    "Look at `why` in this line. CONTRADICTED: the list is empty although we hold receipts, so ask Safaricom whether"
    " Pull Transactions works for this shortcode. PAGE_REPEATED, ROWS_MISSING, ENDLESS: the list's pages are at fault,"
    " so report it to Safaricom. ROWS_UNREADABLE, NOT_RECORDED: read the log lines beside this one. Until it is read,"
    " payments of that time are not called certainly unpaid.",
)
PUSH_REFUSED = Alarm(
    "push_refused",
    "Safaricom refused a push for a reason that lies in our set-up.",
    "Do what `check` in this line says.",
)
NO_FIRST_TOKEN = Alarm(
    "no_first_token",
    "Daraja has given this process no access token for an app since it started: the payments to the app's `shortcodes`"
    " wait. Where it has none for any app, the process is not ready for payments.",
    "Look at `why` in this line. NAME_NOT_FOUND, NOT_CONNECTED, CONNECT_TIMEOUT, TLS_FAILED: check"
    " PAYMENTS_DARAJA_BASE_URL, and the way to that host. HTTP_500 and its like are Safaricom's, so look at its status"
    " page. The process asks again by itself, and the alarm ends when it has a token.",
)
CREDENTIALS_REFUSED = Alarm(
    "credentials_refused",
    "Daraja refuses the consumer key and secret of an app, so there is no access token for its `shortcodes`, and"
    " nothing can be sent for them.",
    "Check what `set_by` in this line names, and that it belongs to the environment of PAYMENTS_DARAJA_BASE_URL. The"
    " payments to other apps' shortcodes go on.",
)
TOKEN_UNREADABLE = Alarm(
    "token_unreadable",
    "Daraja's answer has an access token that is none: it should be 8 to 2,048 printable characters.",
    "Check PAYMENTS_DARAJA_BASE_URL, and what stands between us and that host.",
)
EDGE_BLOCKS = Alarm(
    "edge_blocks",
    "Safaricom's edge (Imperva) blocks our requests before they reach M-Pesa.",
    "Check that the address we send from is the one that was registered with Safaricom, and that nothing else at it"
    " misbehaves.",
)
TOKEN_REFUSED = Alarm(
    "token_refused",
    "Safaricom refuses access tokens that it has just issued.",
    "Check that the app of these `shortcodes` has the M-Pesa Express product, that its keys belong to"
    " this environment, and that nothing else uses them. Nothing is sent as this app for some time after this.",
)
RESULT_BLAMES_SETUP = Alarm(
    "result_blames_setup",
    "A prompt ended with a result whose reason lies in our set-up.",
    "Do what `check` in this line says.",
)
INITIATOR_REFUSED = Alarm(
    "initiator_refused",
    "M-Pesa refuses our initiator, so Transaction Status is not asked again for a day.",
    "Check the initiator's name and password (it expires after 90 days and locks after three wrong tries), that it may"
    " query transactions, and that the certificate is this environment's.",
)
REFUND_REFUSED = Alarm(
    "refund_refused",
    "M-Pesa refused a refund for a reason that lies in our set-up or our account.",
    "Do what `check` in this line says. The refund has failed with a case, and no money moved: ask for it again. While"
    " the initiator is refused no refund is sent for a day, or until its name or password is another.",
)
REFUND_HELD_UP = Alarm(
    "refund_held_up",
    "A refund could not be sent, and the cause will not pass by itself, or the refund was asked for 15 minutes ago.",
    "Do what `check` in this line says; `code` is what the request was answered with. With a code about the access"
    " token, see that the app has the product: Reversal for whole payments, B2C for parts. The refund is sent again by"
    " itself, and fails after a day.",
)
REFUNDS_WAIT = Alarm(
    "refunds_wait",
    "A refund was asked for 15 minutes ago or longer, and nothing of it is on its way.",
    "Look at `why` in this line. NO_TURN: more refunds wait than PAYMENTS_REFUNDS_PER_SECOND lets through, or there is"
    " no access token, of which other lines of the log tell. REACHED_NOBODY: `code` is what the last send met."
    " MONEY_NOT_BACKED: only a callback has told of the money or its receipt; it goes back once M-Pesa has told of it."
    " INITIATOR_REFUSED: give the service the right name and password; M-Pesa's refusal holds all refunds back for a"
    " day. NO_INITIATOR: set an initiator for the shortcode, with what belongs to it. Refunds that wait are sent"
    " by themselves when they can be, and one that has waited for a day fails, at `fails_at`, with a case.",
)
INITIATOR_PASSWORD_EXPIRES = Alarm(
    "initiator_password_expires",
    "The password of our operator of M-Pesa expires in 14 days or less: then no money goes back, and no status is"
    " asked for.",
    "Set a new one on the M-Pesa portal and put it into PAYMENTS_INITIATOR_PASSWORD_FILE, with that day in"
    " PAYMENTS_INITIATOR_PASSWORD_SET_ON, or into what the entry of the line's `shortcodes` names."
    " Start every process again at once: three wrong passwords lock the operator.",
)
INITIATOR_PASSWORD_EXPIRED = Alarm(
    "initiator_password_expired",
    "M-Pesa refuses our operator, and its password is older than the 90 days that it lives.",
    "Do what is said for `initiator_password_expires`. If the operator is locked as well, have its password reset on"
    " the M-Pesa portal. With the new password refunds are sent at once; those that failed meanwhile have cases.",
)
QUESTION_REFUSED = Alarm(
    "question_refused",
    "Safaricom refused to answer a question of ours for a reason that lies in our set-up.",
    "Do what `check` in this line says; `question` names what was asked. Until then the news of payments comes by other"
    " ways, and later.",
)
TAKEN_BACK = Alarm(
    "taken_back",
    "Safaricom's books show that a payer has the money of a payment back, and no refund of ours sent it.",
    "Settle the case: `payment-service cases list --kind TAKEN_BACK`. If it is the payment's own money, the payment has"
    " become REFUNDED, and its booking is told to RELEASE, or to follow another attempt that has confirmed it. See that"
    " nobody travels on a seat that is not paid.",
)
AUTOMATIC_REFUNDS_BOUNDED = Alarm(
    "automatic_refunds_bounded",
    "So much money has gone back without a person within an hour that no more does: a case waits for a person instead.",
    "Find out why so much money comes late or twice: a gateway or network that was away, one caller's payments, or"
    " forged callbacks. Then settle the cases: `payment-service cases list --kind LATE_PAYMENT`, and"
    " `--kind DUPLICATE_PAYMENT`. If it is right so, raise PAYMENTS_AUTOMATIC_REFUNDS_PER_HOUR or"
    " PAYMENTS_AUTOMATIC_REFUND_KES_PER_HOUR.",
)
APPROVALS_WAIT = Alarm(
    "approvals_wait",
    "Money that an operator wants to send back has waited for a second operator for hours.",
    "Look at `payment-service approvals list`. Somebody else than the one who has asked approves or refuses, or the one"
    " who has asked withdraws it.",
)
SUCCESS_UNBACKED = Alarm(
    "success_unbacked",
    "Only a callback told of a payment's money: M-Pesa itself denies it, or has not told of it in time.",
    "Somebody may have learned callback URLs, as from a proxy's log. Look the receipt up in the M-Pesa portal, and"
    " settle the case: `payment-service cases list --kind UNBACKED_MONEY`. If the money is not there, see that nobody"
    " travels on it, and who could read the URLs. Many at once with money that is there mean that M-Pesa could not be"
    " asked: set PAYMENTS_PULL_NOMINATED_NUMBER, or raise PAYMENTS_QUERIES_PER_MINUTE.",
)
CLOCKS_DIFFER = Alarm(
    "clocks_differ",
    "Another process has dated a budget of requests in the future, so the clocks of our machines differ.",
    "See that every machine takes its time from the network (NTP).",
)
STEP_FAILS = Alarm(
    "step_fails",
    "A step of the service that runs by itself fails again and again.",
    "Look at the line `background step failed` before this one: it has the traceback. With a database that is away all"
    " steps fail, and work again by themselves.",
)
PROGRAM_FAULT = Alarm(
    "program_fault",
    "Something failed by a fault of the program, or by what it found stored.",
    "Report the traceback in this line. Nothing is lost by it: what was not done is tried again, or has a case.",
)
CERTIFICATE_EXPIRES = Alarm(
    "certificate_expires",
    "The service's certificate expires soon. After that no caller can connect any more.",
    "Have a new certificate made, and put it and its key in place of the old ones: no restart is needed.",
)
TLS_FILES_UNUSABLE = Alarm(
    "tls_files_unusable",
    "The files of the service's certificate have changed, and cannot be used as they are. What was read before stays in"
    " force.",
    "Put right what the line names: `payment-service serve --check-config` tries the same files. Replace the"
    " certificate and its key together; the next connection reads them.",
)
KEY_FILES_UNUSABLE = Alarm(
    "key_files_unusable",
    "A file of keys has changed, and cannot be used as it is. The keys that were read before stay in use.",
    "Put right what the line names: `payment-service serve --check-config` tries the same files. They are read again"
    " within seconds, and no restart is needed.",
)
CONSUMER_BEHIND = Alarm(
    "consumer_behind",
    "A named consumer has left events unacknowledged for five minutes: bookings are paid and not confirmed, or"
    " passengers are not told.",
    "Look at `payment-service consumers list`, and see whether that program runs and what stops it: it goes on from"
    " where it was. If it is no more, `payment-service consumers forget` removes it.",
)
LOG_DIVERGED = Alarm(
    "log_diverged",
    "The log of payments is not the one that this process has read: the database was restored to an earlier point.",
    "This process ends: see that it is started again. Callers who follow payments get LOG_DIVERGED and have to start"
    " again. What the restore has lost stands in Safaricom's own list.",
)
CALLBACK_GIVEN_UP = Alarm(
    "callback_given_up",
    "A callback could not be applied in about a day of tries. It is kept as dead, with a case.",
    "Look at it with `payment-service callbacks show`, and replay it when what was in its way is mended.",
)

ALARMS: tuple[Alarm, ...] = (
    CALLBACKS_MISSING,
    ANSWERS_MISSING,
    SAME_REFUSAL,
    SAME_UNLISTED_CODE,
    RULE_REFUSES_MANY,
    PULL_BEHIND,
    PULL_INCOMPLETE,
    PUSH_REFUSED,
    NO_FIRST_TOKEN,
    CREDENTIALS_REFUSED,
    TOKEN_UNREADABLE,
    EDGE_BLOCKS,
    TOKEN_REFUSED,
    RESULT_BLAMES_SETUP,
    INITIATOR_REFUSED,
    QUESTION_REFUSED,
    CONSUMER_BEHIND,
    LOG_DIVERGED,
    REFUND_REFUSED,
    REFUND_HELD_UP,
    REFUNDS_WAIT,
    INITIATOR_PASSWORD_EXPIRES,
    INITIATOR_PASSWORD_EXPIRED,
    TAKEN_BACK,
    AUTOMATIC_REFUNDS_BOUNDED,
    APPROVALS_WAIT,
    SUCCESS_UNBACKED,
    CALLBACK_GIVEN_UP,
    CLOCKS_DIFFER,
    STEP_FAILS,
    CERTIFICATE_EXPIRES,
    TLS_FILES_UNUSABLE,
    KEY_FILES_UNUSABLE,
    PROGRAM_FAULT,
)
