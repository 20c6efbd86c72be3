"""One-line faults of the kind that loses money, and the tests that must notice each.

`old` stands exactly once in `file`; a test of this folder's own checks that, so
that a fault cannot quietly miss the code it is about.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A change that must not survive: `old` becomes `new` in `file`, and one of `tests` fails.

    Only where a hang is what the fault leads to, `hangs_after` says after how many seconds on a quiet machine one may
    be sure of it; without, tests that do not end have caught nothing.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    hangs_after: float | None = None


FIRST_CLAIM = "tests/application/collecting/test_first_claim.py"
RECORDING = "tests/application/recording/test_record_facts.py"
CLOCK = "tests/application/recording/test_database_clock.py"
CERTAINTY = "tests/domain/test_certainty.py"
SETTLING = "tests/application/settling"
KEPT = "tests/application/settling/test_apply_kept_callbacks.py"
PUSHES = "tests/end_to_end/test_push_answers.py"
START = "tests/end_to_end/test_start.py"
CASEWORK = "tests/application/casework/test_resolve_case.py"
SETTLED_CASES = "tests/domain/test_settling_cases.py"
APPROVALS = "tests/application/approving/test_approvals.py"
RETURNED = "tests/application/casework/test_return_money.py"
REFUNDS = "tests/domain/test_refunds.py"
AUTOMATIC = "tests/domain/test_automatic_refunds.py"
WATCHED_REFUNDS = "tests/application/refunding/test_watch_refunds.py"
AUTOMATIC_RECORDED = "tests/application/refunding/test_automatic_refunds.py"
PARTS = "tests/application/refunding/test_parts.py"
REFUND_CALLS = "tests/application/refunding/test_refund_payment.py"
RECORDED_REFUNDS = "tests/application/refunding/test_recorded_refunds.py"
TRIPS = "tests/commands/test_trip_refunds.py"
FLOAT = "tests/application/refunding/test_ask_float.py"
BOOKING_REFUNDS = "tests/application/refunding/test_refund_booking.py"
SENT_REFUNDS = "tests/application/refunding/test_send_refunds.py"
TAKEN_BACK = "tests/domain/test_taken_back.py"
IDENTITY = "tests/rpc/test_identity.py"
CORE_CHANNEL = "tests/callback_gateway/test_core_channel.py"

FAULTS = (
    Fault(
        "the log is appended to without its lock",
        "payment_service/store/migrations/versions/0001_payments.py",
        "PERFORM pg_advisory_xact_lock(7885070564180913007);",
        "PERFORM 1;",
        ("tests/store/test_log_order.py",),
    ),
    Fault(
        "a claim is granted while another is at work",
        "payment_service/domain/transitions.py",
        "CLAIM              S        no     no ",
        "CLAIM              S        S      no ",
        ("tests/application/recording/test_record_facts.py::test_only_one_of_many_claims_is_granted",),
    ),
    Fault(
        "a row that is locked from a console is waited for by everybody",
        "payment_service/store/payments.py",
        "FOR NO KEY UPDATE OF p SKIP LOCKED",
        "FOR NO KEY UPDATE OF p",
        (f"{RECORDING}::test_a_row_locked_from_a_console_holds_up_its_own_booking_only",),
    ),
    Fault(
        "a booking is decided on without the attempt that is locked",
        "payment_service/application/recording/known_rows.py",
        " for names in to_lock if names.payment_id not in mine}",
        " for names in to_lock if names.payment_id is None}",
        (f"{RECORDING}::test_a_locked_attempt_holds_up_the_other_attempts_of_its_booking",),
    ),
    Fault(
        "facts are decided by the clock of the process",
        "payment_service/application/recording/record_facts.py",
        "tools.clock.learn(asked_at, known.read_at)",
        "tools.clock.own_time()",
        (f"{CLOCK}::test_a_process_that_is_ahead_expires_no_live_payment",),
    ),
    Fault(
        "a payment is made by the clock of the process",
        "payment_service/application/collecting/create_payment.py",
        "now, taken = tools.clock.learn(asked_at, found.read_at), found.account_references",
        "now, taken = tools.clock.own_time(), found.account_references",
        (f"{CLOCK}::test_the_times_of_a_payment_are_the_databases_whichever_process_makes_it",),
    ),
    Fault(
        "a process whose clock is wrong claims sends",
        "payment_service/application/recording/record_facts.py",
        "if isinstance(fact, SendClaimed) and not self._tools.clock.agrees:",
        "if isinstance(fact, SendClaimed) and self._tools.clock is None:",
        (f"{CLOCK}::test_a_process_whose_clock_is_wrong_claims_no_send",),
    ),
    Fault(
        "a push whose answer was lost counts as not sent, and goes out again",
        "payment_service/application/collecting/send_prompt.py",
        "            return AnswerLost(claim_id)",
        '            return NotSent(claim_id, "LOST")',
        (f"{PUSHES}::test_a_lost_answer_without_a_callback_expires_and_is_never_pushed_again",),
    ),
    Fault(
        "whether a byte was sent is no longer asked at the socket",
        "payment_service/daraja/transport.py",
        "    wire.touched = True",
        "    wire.touched = False",
        ("tests/daraja/test_transport.py",),
    ),
    Fault(
        "the HTTP client sends again what got no answer",
        "payment_service/daraja/transport.py",
        "            return NoAnswer(wire.touched, _why(error), received.status, bytes(received.body))",
        "            if not content:\n"
        "                return NoAnswer(wire.touched, _why(error), received.status, bytes(received.body))\n"
        '            return await exchange(http, method, url, headers=headers, content=b"", timeouts=timeouts)',
        ("tests/daraja/test_transport.py::test_the_request_was_read_and_the_answer_lost",),
    ),
    Fault(
        "the gateway says 200 before the callback is committed",
        "callback_gateway/edge.py",
        "    outcome = Outcome.NOT_STORED\n    if pending is not None:",
        "    outcome = Outcome.STORED\n    if pending is None:",
        ("tests/callback_gateway/test_callbacks.py::test_no_answer_comes_before_the_core_has_stored_the_callback",),
    ),
    Fault(
        "the gateway says 200 before a callback is in the spool",
        "callback_gateway/spool.py",
        "                return await safe",
        "                return True",
        ("tests/callback_gateway/test_spool_folder.py::test_nothing_is_kept_before_the_disk_has_said_so",),
    ),
    Fault(
        "the spool does without fsync",
        "callback_gateway/spool_folder.py",
        "            self.sync(segment.descriptor)",
        "            segment.size += 0",
        ("tests/callback_gateway/test_spool_folder.py::test_a_group_whose_fsync_fails_does_not_count",),
    ),
    Fault(
        "what follows damage in the spool is given up",
        "callback_gateway/spool_records.py",
        "                mark = data.find(MARK, position + 1)",
        "                mark = -1",
        ("tests/callback_gateway/test_spool_records.py",),
    ),
    Fault(
        "a spooled callback that the core refuses is dropped",
        "callback_gateway/delivery.py",
        "                        await self._reject(name, record)",
        "                        await asyncio.sleep(0)",
        (
            "tests/callback_gateway/test_spool.py::test_what_the_core_refuses_for_good_is_set_aside_and_holds_up_no_other",
        ),
    ),
    Fault(
        "the gateway does not look at the token",
        "callback_gateway/edge.py",
        "    if kind_of(edge.keys, kind, reference, token) is None:",
        "    if not token:",
        ("tests/callback_gateway/test_callbacks.py",),
    ),
    Fault(
        "a process calls itself ready for payments before it has a token",
        "payment_service/readiness.py",
        "            missing = problem or first_token.problem\n",
        "            missing = problem\n",
        (f"{START}::test_a_start_without_daraja_takes_callbacks_and_is_ready_for_payments_once_daraja_answers",),
    ),
    Fault(
        "a process without a token calls itself not ready for callbacks",
        "payment_service/readiness.py",
        '"callbacks": problem is None',
        '"callbacks": missing is None',
        (f"{START}::test_a_start_without_daraja_takes_callbacks_and_is_ready_for_payments_once_daraja_answers",),
    ),
    Fault(
        "credentials that Daraja refuses pass for a Daraja that is away",
        "payment_service/application/calling/access_token.py",
        "(CredentialsRefused if answer.alarm is CREDENTIALS_REFUSED else NoAccessToken)",
        "NoAccessToken",
        (
            "tests/application/calling/test_first_token.py::test_refused_credentials_are_told_apart_from_a_daraja_that_is_away",
        ),
    ),
    Fault(
        "a refused query is only a warning",
        "payment_service/daraja/query.py",
        "        if said.alarm is not None:\n",
        "        if said.alarm is None:\n",
        ("tests/daraja/test_query.py::test_a_refusal_that_we_have_to_mend_is_an_alarm_with_a_name",),
    ),
    Fault(
        "one step that works again hides that another fails",
        "runtime/alarms.py",
        "raised.get(lasting.alarm.name, False) or lasting.raised",
        "lasting.raised",
        ("tests/runtime/test_alarms.py::test_an_alarm_that_several_things_share_lasts_while_any_of_them_raises_it",),
    ),
    Fault(
        "a part outlives its watchdog",
        "development/part_watchdog.py",
        "            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)\n",
        "            prctl(PR_SET_PDEATHSIG, 0)\n",
        ("tests/development/test_dev.py::test_a_part_that_is_killed_is_started_again_at_its_address",),
    ),
    Fault(
        "a password is taken from the arguments",
        "development/dev.py",
        'if parts.password or "password" in',
        'if "password" in',
        ("tests/development/test_dev.py::test_a_password_in_the_arguments_is_refused",),
    ),
    Fault(
        "an upgraded database takes another chain key",
        "payment_service/database.py",
        'return None if event_holds(newest.first_event, keys.chain) else "chain"',
        "return None",
        (f"{START}::test_a_database_from_before_the_check_values_proves_the_keys_by_a_payment",),
    ),
    Fault(
        "a hashed number fits everybody",
        "payment_service/domain/pull.py",
        "return digest.startswith(self.leading) and digest.endswith(self.trailing)",
        "return bool(digest)",
        ("tests/daraja/test_pull.py::test_a_number_that_is_hashed_fits_its_own_and_no_other",),
    ),
    Fault(
        "the core does not look at the token",
        "payment_service/application/settling/accept_callbacks.py",
        "kind = callback.kind and kind_of(tools.keys, callback.kind, callback.reference, callback.token)",
        "kind = callback.kind if callback.token else None",
        ("tests/application/settling/test_accept_callbacks.py::test_each_callback_stands_for_itself",),
    ),
    Fault(
        "a repeated request prompts again",
        "payment_service/application/collecting/create_payment.py",
        "        return Created(payment, replayed=True)",
        "        again = _prompt(tools, new, payment, account_reference)\n"
        "        return Created(payment, replayed=True, prompt=again)",
        ("tests/application/collecting/test_create_payment.py::test_the_same_request_gives_the_same_payment",),
    ),
    Fault(
        "other content under the same request id is taken for a repeat",
        "payment_service/application/recording/request_encoding.py",
        "    if hmac.compare_digest(fingerprint(",
        "    if kept.encoded or hmac.compare_digest(fingerprint(",
        (
            "tests/application/collecting/test_create_payment.py::test_other_content_is_a_conflict_that_names_the_fields",
        ),
    ),
    Fault(
        "a booking is not looked at before another attempt",
        "payment_service/domain/decisions.py",
        "        if payment.state in LIVE_STATES or payment.state in PAID_STATES:\n            return Bar.LIVE_OR_PAID",
        "        if payment.state in PAID_STATES and payment.version == 0:\n            return Bar.LIVE_OR_PAID",
        (
            "tests/application/collecting/test_create_payment.py::test_a_booking_has_one_live_payment_and_the_refused_id_stays_free",
        ),
    ),
    Fault(
        "a resumed watch begins with the event it has already seen",
        "payment_service/store/reads.py",
        "    conditions = [*_of(scope.caller, _e.caller), _e.position > after, _e.position <= upto]",
        "    conditions = [*_of(scope.caller, _e.caller), _e.position >= after, _e.position <= upto]",
        ("tests/application/following/test_watch_payments.py::test_each_events_own_cursor_resumes_right_after_it",),
    ),
    Fault(
        "the amount that was paid is not compared",
        "payment_service/domain/findings.py",
        "fact.amount not in (None, payment.amount)",
        "fact.amount in ()",
        ("tests/domain/test_table.py", "tests/end_to_end/test_odd_money.py"),
    ),
    Fault(
        "a code that nobody has listed counts as failed",
        "payment_service/daraja/result_codes.py",
        "_UNKNOWN = Meaning(Verdict.UNKNOWN)",
        "_UNKNOWN = Meaning(Verdict.FAILED, Reason.PAYMENT_NOT_ALLOWED)",
        ("tests/daraja/test_result_codes.py",),
    ),
    Fault(
        "money that comes after the end is dropped",
        "payment_service/domain/transitions.py",
        "receipt  $        K        K        K+case   K+case   K       $ ",
        "receipt  $        K        K        -        -        -       $ ",
        ("tests/application/recording/test_record_facts.py::test_success_after_a_decline_is_never_dropped",),
    ),
    Fault(
        "a withdrawal is granted after the send",
        "payment_service/domain/transitions.py",
        "CANCEL             X        no ",
        "CANCEL             X        X  ",
        (
            "tests/application/recording/test_request_ids.py::test_a_claimed_payment_cannot_be_withdrawn_and_the_id_stays_free",
        ),
    ),
    Fault(
        "a payment is made under an id that has withdrawn another",
        "payment_service/store/caller_requests.py",
        '"WHERE NOT EXISTS (SELECT FROM caller_requests k',
        '"WHERE true OR NOT EXISTS (SELECT FROM caller_requests k',
        ("tests/application/recording/test_request_ids.py::test_an_id_serves_one_method",),
    ),
    Fault(
        "making a payment does not share the lock of its request id",
        "payment_service/store/caller_requests.py",
        "pg_advisory_xact_lock_shared(1919250803, key)",
        "pg_advisory_xact_lock_shared(0, key)",
        (
            "tests/application/recording/test_request_ids.py::test_of_two_uses_of_an_id_the_later_waits_for_the_earlier_and_sees_it",
        ),
    ),
    Fault(
        "a refused withdrawal uses up its id",
        "payment_service/application/recording/record_facts.py",
        "        if not outcome.refused:\n            self._keep_request(request)",
        "        self._keep_request(request)",
        (
            "tests/application/recording/test_request_ids.py::test_a_claimed_payment_cannot_be_withdrawn_and_the_id_stays_free",
        ),
    ),
    Fault(
        "a retry is compared with what was copied into it",
        "payment_service/application/collecting/create_payment.py",
        "caller, request, warning, trace_parent, retry or request, claim_id)",
        "caller, request, warning, trace_parent, request, claim_id)",
        (
            "tests/application/recording/test_request_ids.py::test_a_retry_is_compared_with_what_was_asked_not_with_what_was_copied",
        ),
    ),
    Fault(
        "a callback that cannot be applied is tried for ever",
        "payment_service/application/settling/apply_kept_callbacks.py",
        "        if callback.tries + 1 < TRIES_MAX:",
        "        if callback.tries + 1 < 2 * TRIES_MAX:",
        (
            "tests/application/settling/test_apply_kept_callbacks.py::test_tries_are_further_and_further_apart_and_at_last_given_up",
        ),
    ),
    Fault(
        "a callback is given up, and nobody is told",
        "payment_service/application/settling/apply_kept_callbacks.py",
        "            await evidence.open_case(conn, case)\n",
        "            assert case\n",
        (
            "tests/application/settling/test_apply_kept_callbacks.py::test_tries_are_further_and_further_apart_and_at_last_given_up",
        ),
    ),
    Fault(
        "one callback that fails ends the step for all",
        "payment_service/application/settling/apply_kept_callbacks.py",
        "    except Exception as error:\n        # An alarm",
        "    except KeyError as error:\n        # An alarm",
        ("tests/application/settling/test_apply_kept_callbacks.py::test_callbacks_that_always_fail_hold_up_no_other",),
    ),
    Fault(
        "a parked callback passes for one that is known when its payment appears",
        "payment_service/store/event_log.py",
        "kind IN {UNAPPLIED_KINDS} AS unapplied",
        "false AS unapplied",
        (
            "tests/application/settling/test_apply_kept_callbacks.py::test_a_parked_callback_is_matched_when_its_payment_appears",
        ),
    ),
    Fault(
        "what a parked callback turns out to be is lost behind its first case",
        "payment_service/store/evidence.py",
        "WHERE cases.kind IN {UNAPPLIED_KINDS} AND EXCLUDED.kind NOT IN",
        "WHERE false AND cases.kind IN {UNAPPLIED_KINDS} AND EXCLUDED.kind NOT IN",
        (
            "tests/application/settling/test_apply_kept_callbacks.py::test_what_a_matched_callback_leads_to_takes_the_place_of_its_case",
        ),
    ),
    Fault(
        "a fact that is told again is applied again",
        "payment_service/application/recording/record_facts.py",
        "        if (payment.payment_id, fact.fact_id) in self._facts:",
        "        if (fact.fact_id, payment.payment_id) in self._facts:",
        (
            "tests/application/recording/test_record_facts.py::test_a_fact_told_again_changes_nothing",
            "tests/application/recording/test_record_facts.py::test_a_claim_whose_commit_was_uncertain_finds_itself_granted",
        ),
    ),
    Fault(
        "a callback that cannot be applied is answered and forgotten",
        "payment_service/application/settling/accept_callbacks.py",
        "        recorded = await facts.submit(replace(submission, only_keep=type(error).__name__))",
        "        recorded = Recorded(None)",
        (
            "tests/application/settling/test_accept_callbacks.py::test_a_callback_that_cannot_be_applied_is_kept_and_applied_later",
        ),
    ),
    Fault(
        "a caller that hangs up takes its transaction with it",
        "payment_service/application/recording/group_commit.py",
        "            elif waiter.answer.done():\n                continue",
        "            elif waiter.answer.done():\n                raise asyncio.CancelledError",
        ("tests/application/recording/test_group_commit.py::test_a_caller_that_goes_away_takes_nothing_with_it",),
    ),
    Fault(
        "a sender that died is taken for one that has sent nothing",
        "payment_service/domain/transitions.py",
        "ANSWER_LOST        -        U0     -",
        "ANSWER_LOST        -        C      -",
        (
            "tests/application/recording/test_record_facts.py::test_a_dead_lease_makes_the_payment_uncertain_and_never_sends_again",
        ),
    ),
    Fault(
        "one receipt pays for two payments",
        "payment_service/application/recording/record_facts.py",
        "receipt_holder=self._holders.of_receipt(fact),",
        "receipt_holder=None,",
        (
            "tests/application/recording/test_record_facts.py::test_one_receipt_told_of_two_payments_at_once_counts_once",
        ),
    ),
    Fault(
        "of several payments that the books may mean, the first is taken",
        "payment_service/domain/pull.py",
        "    fits = len(named) == 1 and",
        "    fits = len(named) >= 1 and",
        (
            "tests/application/settling/test_pull_transactions.py::test_two_payments_that_share_a_reference_are_never_guessed_between",
        ),
    ),
    Fault(
        "a page of the books counts as read although its rows could not be recorded",
        "payment_service/application/settling/record_pulled_rows.py",
        "            raise outcome",
        "            break",
        ("tests/application/settling/test_pull_transactions.py::test_a_store_that_is_away_costs_no_row",),
    ),
    Fault(
        "a row of an unlisted type is dropped although it has a reference of ours",
        "payment_service/domain/pull.py",
        "shelf.named.get(row.account_reference, ()) if row.account_reference else ()",
        "shelf.named.get(row.account_reference, ()) if row.account_reference and row.received else ()",
        (
            (
                "tests/application/settling/test_pull_transactions.py"
                "::test_a_row_of_another_type_with_a_reference_of_ours_is_never_dropped"
            ),
        ),
    ),
    Fault(
        "nothing found in the books counts as read although we hold receipts",
        "payment_service/application/settling/pull_transactions.py",
        "    if window.flaw is None and window.offset == 0",
        "    if window.flaw is not None and window.offset == 0",
        (
            (
                "tests/application/settling/test_pull_transactions.py"
                "::test_nothing_found_while_we_hold_receipts_is_a_contradiction_and_not_a_reading"
            ),
        ),
    ),
    Fault(
        "a page of the books that repeats is the end of a slice",
        "payment_service/domain/pull_window.py",
        "None if 0 < told <= before.offset else Reading.PAGE_REPEATED",
        "None",
        (
            (
                "tests/application/settling/test_pull_transactions.py"
                "::test_pages_that_are_not_all_there_is_do_not_count_as_read"
            ),
        ),
    ),
    Fault(
        "books that were read at once prove what is missing in them",
        "payment_service/store/pull_progress.py",
        "LEAST(end_at, read_at - CAST(:listed_within AS interval))",
        "end_at",
        ("tests/store/test_pull_progress.py::test_everything_else_proves_nothing",),
    ),
    Fault(
        "after an outage the oldest of the books is read first",
        "payment_service/domain/pull_spans.py",
        "    start, end = stretches[-1]",
        "    start, end = stretches[0]",
        ("tests/domain/test_pull_spans.py::test_after_an_outage_the_present_goes_first",),
    ),
    Fault(
        "the status of any transaction pays for the payment that was asked about",
        "payment_service/domain/findings.py",
        '(fact.merchant_request_id or "") != payment.merchant_request_id:',
        "fact.merchant_request_id is None:",
        ("tests/domain/test_table.py", "tests/application/settling/test_ask_status.py"),
    ),
    Fault(
        "a wrong password of the initiator is tried until it locks",
        "payment_service/application/settling/ask_status.py",
        "    if code is not None:",
        "    if code is not None and not results:",
        (
            "tests/application/settling/test_ask_status.py::test_a_wrong_password_is_tried_once_and_never_until_it_locks",
        ),
    ),
    Fault(
        "log lines are written as they are, phone numbers and all",
        "runtime/logs.py",
        "first | redact_line({",
        "first | dict({",
        ("tests/runtime/test_redaction.py",),
    ),
    Fault(
        "what is masked already is masked again in part",
        "runtime/redaction.py",
        "(?:bearer|basic)\\s{{1,8}})? ) (?:{_MASKED}|",
        "(?:bearer|basic)\\s{{1,8}})? ) (?:",
        ("tests/runtime/test_redaction.py::test_what_is_masked_twice_reads_as_masked_once",),
    ),
    Fault(
        "the log hashes a time in the zone in which it was decided",
        "payment_service/store/event_log.py",
        "return [value.astimezone(UTC) if isinstance(value, datetime) else value for value in values]",
        "return values",
        ("tests/application/inspecting/test_check.py::test_what_the_service_leaves_behind_keeps_every_promise",),
    ),
    Fault(
        "the amount in a refund's result is not looked at",
        "payment_service/domain/refunds.py",
        "if fact.receipt not in (None, refund.receipt) or fact.amount not in (None, refund.amount):",
        "if fact.receipt not in (None, refund.receipt):",
        ("tests/domain/test_refunds.py",),
    ),
    Fault(
        "a wrong password is tried by every refund that waits",
        "payment_service/application/refunding/send_refunds.py",
        "return 0 if tools.under_way or await store.order_on_its_way(conn, tools.operator.key) else 1",
        "return AT_ONCE - len(tools.under_way)",
        (f"{SENT_REFUNDS}::test_a_wrong_password_is_tried_once_however_many_refunds_wait",),
    ),
    Fault(
        "a refund is sent with a password that a question was refused for",
        "payment_service/store/status_questions.py",
        "select(question | refund)",
        "select(refund)",
        (f"{SENT_REFUNDS}::test_an_initiator_that_a_question_was_refused_sends_no_refund",),
    ),
    Fault(
        "the case of a refund under way can be dismissed, and the refund stays for ever",
        "payment_service/domain/findings.py",
        "case CaseKind.REFUND if column in (Standing.REFUNDING, Standing.COMPLETED) and payment.refund_under_way:",
        "case CaseKind.REFUND if column is Standing.CREATED:",
        (f"{SETTLED_CASES}::test_a_settled_case_leads_where_it_should",),
    ),
    Fault(
        "a refund that is not needed any more waits to be sent again",
        "payment_service/domain/refunds.py",
        "_denial(refund, fact, RefundFinding.ELSEWHERE if around.returned else RefundFinding.NOT_SENT)",
        "_denial(refund, fact, RefundFinding.NOT_SENT)",
        (f"{REFUNDS}::test_a_refund_that_is_not_needed_any_more_is_not_sent_again",),
    ),
    Fault(
        "check counts a refund that another has made needless",
        "payment_service/domain/refund.py",
        "(one.counts and one.receipt not in returned)",
        "one.counts",
        (f"{RECORDED_REFUNDS}::test_a_refund_that_another_has_made_needless_on_its_way_breaks_no_promise",),
    ),
    Fault(
        "check calls a booking broken whose refunded attempt was told before another confirmed",
        "payment_service/application/inspecting/invariants.py",
        "if payment.booking_action not in (due, told):",
        "if payment.booking_action is not due:",
        (f"{RECORDED_REFUNDS}::test_an_attempt_that_was_refunded_before_another_confirmed_breaks_no_promise",),
    ),
    Fault(
        "an amount that a callback does not name bars the refund",
        "payment_service/domain/facts.py",
        "asked if self.amount is None else None",
        "None",
        (f"{RECORDED_REFUNDS}::test_a_receipt_whose_callback_named_no_amount_can_be_refunded",),
    ),
    Fault(
        "a person has to decide about money that the payer has back",
        "payment_service/domain/cases.py",
        "isinstance(fact, RefundDone | TakenBack) and",
        "isinstance(fact, RefundDone) and",
        (f"{TAKEN_BACK}::test_nobody_has_to_decide_about_money_that_the_payer_has_back",),
    ),
    Fault(
        "a query takes a success back",
        "payment_service/domain/transitions.py",
        "FAILURE_QUERIED    U1       F0|X0  F0|X0  F0|X0  F0|X0  -      case     case ",
        "FAILURE_QUERIED    U1       F0|X0  F0|X0  F0|X0  F0|X0  -      F0|X0    case ",
        ("tests/application/settling/test_query_pushes.py::test_a_query_never_takes_a_success_back",),
    ),
    Fault(
        "an answer to a query that is no result counts as one",
        "payment_service/daraja/query.py",
        "    return NotYet(code) if meaning.verdict is Verdict.STILL_PROCESSING else Told(code, meaning)",
        "    return Told(code, meaning._replace(verdict=Verdict.FAILED) if code == '4999' else meaning)",
        ("tests/daraja/test_query.py::test_4999_is_not_yet_and_never_a_failure",),
    ),
    Fault(
        "two readings of one answer count as two looks",
        "payment_service/domain/effects.py",
        "    asked_at = (fact.asked_at if isinstance(fact, ResultReported) else None) or now",
        "    asked_at = now",
        ("tests/domain/test_query_schedule.py::test_two_readings_of_one_answer_are_one_look",),
    ),
    Fault(
        "each process has the whole rate to itself",
        "payment_service/application/calling/request_budget.py",
        "                stored = replace(stored, turns=stored.turns - got)\n",
        "",
        ("tests/application/calling/test_request_budget.py::test_two_processes_together_never_exceed_the_rate",),
    ),
    Fault(
        "the claim to ask is not committed before Safaricom is asked",
        "payment_service/store/push_queries.py",
        "        await conn.execute(_MOVE, ",
        "        await conn.execute(_MOVE.where(_p.version < 0), ",
        ("tests/application/settling/test_query_pushes.py::test_two_processes_ask_once_about_each",),
    ),
    Fault(
        "a payment that somebody has locked holds up every timer",
        "payment_service/store/due_timers.py",
        ".with_for_update(skip_locked=True, key_share=True)",
        ".with_for_update(key_share=True)",
        (
            (
                "tests/application/settling/test_run_timers.py"
                "::test_a_payment_that_a_person_has_locked_holds_up_no_other_timer"
            ),
        ),
    ),
    Fault(
        "prompts without any callback are no alarm",
        "payment_service/application/settling/watch_provider.py",
        "CALLED_BACK_MIN = 0.25",
        "CALLED_BACK_MIN = 0.0",
        (
            (
                "tests/application/settling/test_watch_provider.py"
                "::test_prompts_without_callbacks_are_one_alarm_that_ends_by_itself"
            ),
        ),
    ),
    Fault(
        "an id that cannot be read voids a success",
        "payment_service/daraja/callback.py",
        "    return text if text is not None and is_id(text) else None",
        '    if text is None or not is_id(text):\n        raise _NotAResult("no id")\n    return text',
        ("tests/daraja/test_callback.py::test_an_id_that_is_none_is_absent_and_costs_nothing_else",),
    ),
    Fault(
        "a failure that names a receipt is believed",
        "payment_service/daraja/callback.py",
        "    if receipt.value is not None and meaning.verdict is not Verdict.PAID:",
        "    if receipt.value is not None and meaning.verdict is Verdict.STILL_PROCESSING:",
        ("tests/daraja/test_callback.py::test_a_failure_that_names_a_receipt_is_not_believed",),
    ),
    Fault(
        "a failure that names two prompts is believed",
        "payment_service/daraja/callback.py",
        "    if contradictory and meaning.verdict is not Verdict.PAID:",
        "    if contradictory and meaning.verdict is Verdict.STILL_PROCESSING:",
        ("tests/daraja/test_callback.py::test_a_failure_that_names_two_prompts_is_not_believed",),
    ),
    Fault(
        "a code that may be a phone number is recorded in clear",
        "payment_service/daraja/result_codes.py",
        "    return UNLISTED_SHAPE if _DIGITS.fullmatch(text) else None",
        "    return text if _DIGITS.fullmatch(text) else None",
        ("tests/daraja/test_callback.py::test_a_code_that_may_be_a_phone_number_stands_nowhere_in_clear",),
    ),
    Fault(
        "the edge's page with 503 counts as proof that nothing was sent",
        "payment_service/daraja/sending.py",
        "    if status == 403 and value is None and is_edge_page(status, body):",
        "    if value is None and is_edge_page(status, body):",
        ("tests/daraja/test_push.py::test_the_page_of_the_edge_with_503_may_hide_an_answer",),
    ),
    Fault(
        "a success that does not say what was reversed counts as a reversal",
        "payment_service/daraja/reversal.py",
        "        case Ending.DONE if original is not None:",
        '        case Ending.DONE if (original := original or "TKA1B2C3D4"):',
        ("tests/daraja/test_reversal.py::test_nothing_else_proves_anything",),
    ),
    Fault(
        "the word that nobody knows what became of a reversal reads as a failure",
        "payment_service/daraja/orders.py",
        "    if not result.came_to_an_end:",
        '    if not result.came_to_an_end and result.code == "0":',
        ("tests/daraja/test_reversal.py::test_nothing_else_proves_anything",),
    ),
    Fault(
        "the result of another order proves a B2C payment",
        "payment_service/daraja/b2c.py",
        "    if result.originator_conversation_id != originator_conversation_id:",
        "    if result.originator_conversation_id is None:",
        ("tests/daraja/test_b2c.py::test_nothing_else_proves_anything",),
    ),
    Fault(
        "a system error is taken for a duplicate order",
        "payment_service/daraja/b2c.py",
        "    return error is not None and (error[0], normalise(error[1])) == _DUPLICATE",
        "    return error is not None and error[0] == _DUPLICATE[0]",
        ("tests/daraja/test_b2c.py::test_only_the_text_tells_a_duplicate_from_an_error_and_from_maintenance",),
    ),
    Fault(
        "money that is reserved counts as money to send",
        "payment_service/daraja/account_balance.py",
        "    spendable = _SHILLINGS.fullmatch(parts[3])",
        "    spendable = _SHILLINGS.fullmatch(parts[2])",
        ("tests/daraja/test_account_balance.py::test_what_may_be_spent_is_read_account_by_account",),
    ),
    Fault(
        "a placeholder is kept as the receipt of a reversal",
        "payment_service/daraja/results.py",
        "    return None if receipt is None or _PLACEHOLDER.fullmatch(receipt) else receipt",
        "    return receipt",
        ("tests/daraja/test_reversal.py::test_a_placeholder_is_no_receipt_of_the_reversal",),
    ),
    Fault(
        "an internal error counts as proof that a reversal was refused",
        "payment_service/daraja/orders.py",
        "        if row.code == _OF_PUSHES:",
        "        if row.code == what:",
        ("tests/daraja/test_orders.py::test_everything_else_is_uncertain",),
    ),
    Fault(
        "an answer about another push completes this one",
        "payment_service/daraja/query.py",
        '    if asked.merchant_request_id is not None and merchant not in (None, "", asked.merchant_request_id):',
        "    if asked.merchant_request_id is None and merchant is None and not value:",
        ("tests/daraja/test_query.py::test_nonsense_says_nothing",),
    ),
    Fault(
        "leaving a shortcode out and naming it are two requests",
        "payment_service/application/collecting/create_payment.py",
        "made_with=before.shortcode)",
        'made_with="")',
        ("tests/rpc/test_attempts.py::test_naming_the_shortcode_that_was_left_out_is_the_same_request",),
    ),
    Fault(
        "a retry goes to its shortcode whatever that takes by now",
        "payment_service/application/collecting/retry_payment.py",
        "if not limits.takes(earlier.amount):",
        "if earlier.amount < 0:",
        ("tests/rpc/test_attempts.py::test_a_retry_keeps_to_what_its_shortcode_takes_now",),
    ),
    Fault(
        "lists may take every connection",
        "payment_service/application/following/read_payments.py",
        "async with using.lists, reading(using) as connection:",
        "async with reading(using) as connection:",
        ("tests/rpc/test_methods.py::test_lists_leave_room_for_watches",),
    ),
    Fault(
        "a page is bounded by its rows alone",
        "payment_service/application/following/read_payments.py",
        "if room < 0 and page:",
        "if room < 0 and not page:",
        ("tests/rpc/test_methods.py::test_a_page_of_full_payments_fits_into_a_message",),
    ),
    Fault(
        "metadata may hold what drives a terminal",
        "payment_service/rpc/requests.py",
        "elif DRIVES_TERMINALS.search(value):",
        "elif DRIVES_TERMINALS.fullmatch(value):",
        ("tests/rpc/test_bad_input.py::test_metadata_that_would_act_on_a_screen_is_refused",),
    ),
    Fault(
        "a database that takes no writes counts as ready",
        "payment_service/readiness.py",
        "    if health.read_only:",
        "    if not health.now:",
        ("tests/end_to_end/test_start.py::test_a_database_that_takes_no_writes_is_not_ready",),
    ),
    Fault(
        "connections from before an outage are used as they are",
        "payment_service/store/engines.py",
        "pool_pre_ping=True,",
        "pool_pre_ping=False,",
        ("tests/rpc/test_methods.py::test_the_first_read_after_the_connections_were_lost_succeeds",),
    ),
    Fault(
        "the service runs as the owner of its log",
        "payment_service/app.py",
        "        await check_application_role(engine)\n",
        "",
        ("tests/end_to_end/test_start.py::test_the_owner_of_the_log_is_refused_for_the_service",),
    ),
    Fault(
        "a spool whose disk works again stays marked as failing",
        "callback_gateway/spool.py",
        "check=advice)\n        # The writer",
        "check=advice)\n        return\n        # The writer",
        ("tests/callback_gateway/test_spool.py::test_a_disk_that_was_slow_once_is_found_to_work_though_nothing_comes",),
    ),
    Fault(
        "a key file that everybody can read is used",
        "runtime/private_files.py",
        "    if not mode & OPEN_TO_OTHERS:",
        "    if mode:",
        ("tests/runtime/test_private_files.py::test_a_secret_that_others_may_read_is_told",),
    ),
    Fault(
        "a database elsewhere is reached in clear",
        "payment_service/config.py",
        '    if not here and given.get("sslmode") != ["verify-full"]:',
        '    if here and given.get("sslmode") == ["none"]:',
        ("tests/test_payment_settings.py::test_a_database_elsewhere_is_reached_by_checked_tls_only",),
    ),
    Fault(
        "a stop leaves the calls that arrive to gRPC",
        "payment_service/rpc/server.py",
        "    while gate.refused != refused and loop.time() < end:",
        "    while gate.refused < refused and loop.time() < end:",
        ("tests/rpc/test_server.py::test_whoever_calls_while_the_process_stops_is_told_why",),
    ),
    Fault(
        "silence until the end of the watch counts as proof",
        "payment_service/domain/findings.py",
        "    covered = fact.books_cover or payment.unpaid_seen_at is not None",
        "    covered = fact.books_cover or payment.unread_callback is False",
        (
            f"{CERTAINTY}::test_after_two_days_of_silence_a_person_is_asked_and_nothing_is_certain",
            "tests/application/settling/test_run_timers.py::test_a_dead_sender_leaves_an_uncertain_payment_that_expires",
        ),
    ),
    Fault(
        "a failure that one query told is believed at once",
        "payment_service/domain/transitions.py",
        "FAILURE_QUERIED    U1       F0|X0  F0|X0  F0|X0  F0|X0 ",
        "FAILURE_QUERIED    U1       F|X    F|X    F|X    F|X   ",
        (
            (
                "tests/domain/test_certainty.py"
                "::test_a_failure_that_only_a_query_told_allows_the_next_attempt_when_the_prompt_is_gone"
            ),
        ),
    ),
    Fault(
        "a callback that cannot be read keeps nothing from being certain",
        "payment_service/domain/decisions.py",
        "            return not after.unread_callback and (proven or was_certain)",
        "            return proven or was_certain",
        (f"{CERTAINTY}::test_nothing_without_money_is_certain_while_a_callback_is_unread",),
    ),
    Fault(
        "a doubt about money outlives its proof",
        "payment_service/domain/cases.py",
        "            return known is not None and known == case.receipt",
        "            return known is None and case.receipt is None",
        (
            (
                "tests/application/recording/test_record_facts.py"
                "::test_a_doubt_ends_in_the_transaction_that_records_the_proof"
            ),
        ),
    ),
    Fault(
        "one proof lifts the bar of another case about money",
        "payment_service/domain/transitions.py",
        "money_case_open=bool(about_money)",
        "money_case_open=False",
        ("tests/application/recording/test_record_facts.py::test_another_case_about_money_keeps_the_review",),
    ),
    Fault(
        "late is judged by when the news is applied",
        "payment_service/domain/facts.py",
        "        return min(now, self.asked_at or self.received_at or now)",
        "        return now",
        (
            (
                "tests/domain/test_certainty.py"
                "::test_a_success_that_reached_our_edge_in_time_is_not_late_however_late_it_is_applied"
            ),
        ),
    ),
    Fault(
        "after an outage payments are expired before what gateways kept has come",
        "payment_service/application/settling/catching_up.py",
        "        return now < min(quiet_since + self._quiet, back_since + self._longest)",
        "        return now < min(quiet_since, back_since)",
        (
            (
                "tests/application/settling/test_catching_up.py"
                "::test_payments_whose_callbacks_a_gateway_kept_are_confirmed_and_never_told_expired"
            ),
        ),
    ),
    Fault(
        "a receipt that is pending counts as certain",
        "payment_service/domain/decisions.py",
        "            return money_named(after)",
        "            return after.completed_at is not None",
        ("tests/domain/test_decisions.py::test_what_the_booking_may_do_in_every_standing",),
    ),
    Fault(
        "an expired payment is asked about before a live one",
        "payment_service/store/push_queries.py",
        "    .order_by(_TURN, _WANTED_BY.asc().nulls_last(), _p.query_at)",
        "    .order_by(_p.query_at)",
        (
            (
                "tests/application/settling/test_query_pushes.py"
                "::test_those_who_wait_are_asked_about_first_by_when_somebody_gives_up"
            ),
        ),
    ),
    Fault(
        "a callback that cannot be read is kept as applied",
        "payment_service/application/recording/record_facts.py",
        "        kept = CallbackStatus.UNREAD if unread else CallbackStatus.APPLIED",
        "        kept = CallbackStatus.APPLIED",
        (
            (
                "tests/commands/test_callbacks.py"
                "::test_what_cannot_be_read_is_listed_as_unread_and_stays_so_until_it_can_be"
            ),
        ),
    ),
    Fault(
        "a passenger whose payment is under review is asked for a PIN",
        "payment_service/domain/reasons.py",
        '    if booking_action == "REVIEW":',
        '    if booking_action == "REVIEW" and status == "COMPLETED":',
        ("tests/domain/test_reasons.py::test_a_passenger_under_review_is_never_asked_to_pay",),
    ),
    Fault(
        "a step that goes on failing is logged in full each time",
        "payment_service/schedule.py",
        "        if kind != self._kind:",
        "        if True:",
        ("tests/test_schedule.py::test_a_step_that_goes_on_failing_is_logged_once_in_full_and_then_counted",),
    ),
    Fault(
        "a service starts with the keys of another installation",
        "payment_service/database.py",
        "        if held.get((purpose, key_id), check) != check:",
        "        if False:",
        ("tests/end_to_end/test_start.py::test_a_start_with_other_keys_is_refused_and_a_rotated_key_is_not",),
    ),
    Fault(
        "an upgraded database takes any keys for its own",
        "payment_service/database.py",
        "    if known or newest is None:",
        "    if True:",
        ("tests/end_to_end/test_start.py::test_a_database_from_before_the_check_values_proves_the_keys_by_a_payment",),
    ),
    Fault(
        "page tokens end with the key that is current",
        "payment_service/rpc/cursors.py",
        " for key in keys.keys.values())",
        " for key in [keys.current_key])",
        ("tests/rpc/test_bad_input.py::test_a_page_token_outlives_the_rotation_of_its_key",),
    ),
    Fault(
        "a passenger is asked for the PIN of a booking that is paid",
        "payment_service/domain/transitions.py",
        "        after = after.but(reason=Reason.SIBLING_PAID)",
        "        pass",
        (
            (
                "tests/domain/test_certainty.py"
                "::test_an_attempt_that_ends_after_its_sibling_was_paid_offers_no_other_payment"
            ),
        ),
    ),
    Fault(
        "a paid sibling hides that an attempt was withdrawn",
        "payment_service/domain/transitions.py",
        "isinstance(fact, RefundRequested | CaseReturned) and payment.sent_at is None",
        "isinstance(fact, RefundRequested | CaseReturned) and payment.reason is Reason.WITHDRAWN",
        (f"{CERTAINTY}::test_an_attempt_whose_sibling_was_paid_can_be_withdrawn_twice",),
    ),
    Fault(
        "an answer makes certain what has money in doubt",
        "payment_service/domain/decisions.py",
        "            proven = after.unpaid_proof is not None and not after.money_case_open",
        "            proven = after.unpaid_proof is not None",
        (f"{CERTAINTY}::test_money_in_doubt_is_not_made_certain_by_an_answer_that_says_unpaid",),
    ),
    Fault(
        "a retry may start before its sentence says so",
        "payment_service/domain/reasons.py",
        "    Reason.REPEATED_TOO_SOON: timedelta(minutes=2),\n",
        "",
        ("tests/domain/test_reasons.py::test_the_sentence_says_as_long_a_wait_as_the_retry_has",),
    ),
    Fault(
        "a gateway with other keys than the service calls itself ready",
        "callback_gateway/edge.py",
        "    return edge.core.keys_agree and (",
        "    return (",
        (
            "tests/callback_gateway/test_callbacks.py::test_a_gateway_with_other_keys_than_the_core_is_not_ready_and_says_so",
        ),
    ),
    Fault(
        "a service does not miss its current key at the gateway",
        "runtime/callback_tokens.py",
        'b"" if key_id == keys.current_id else check',
        "check",
        ("tests/rpc/test_methods.py::test_the_gateways_keys_are_compared_by_id_without_being_shown",),
    ),
    Fault(
        "a watch ends as covered while a callback is not applied",
        "payment_service/domain/findings.py",
        "in_doubt = payment.unread_callback or payment.money_case_open or around.callback_waiting",
        "in_doubt = payment.unread_callback or payment.money_case_open",
        (f"{KEPT}::test_a_watch_does_not_end_as_covered_by_the_books_while_a_callback_is_kept",),
    ),
    Fault(
        "an end becomes certain while a callback is not applied",
        "payment_service/domain/decisions.py",
        " and not after.money_case_open and not around.callback_waiting",
        " and not after.money_case_open",
        (f"{KEPT}::test_no_end_becomes_certain_until_the_last_kept_callback_is_applied",),
    ),
    Fault(
        "callbacks that were given up bar nothing",
        "payment_service/store/payments.py",
        "IN ('PENDING', 'UNMATCHED', 'DEAD'))",
        "IN ('PENDING', 'UNMATCHED'))",
        (f"{KEPT}::test_a_callback_that_was_given_up_bars_certainty_until_it_is_replayed",),
    ),
    Fault(
        "a bar stays although its callback is applied",
        "payment_service/domain/transitions.py",
        " and not certain_by_now(payment, around):",
        ":",
        (f"{KEPT}::test_no_end_becomes_certain_until_the_last_kept_callback_is_applied",),
    ),
    Fault(
        "a payment is sent although a callback proves that it was",
        "payment_service/domain/findings.py",
        "        or payment.unread_callback\n        or around.callback_waiting\n",
        "",
        (f"{CERTAINTY}::test_a_payment_with_a_callback_of_its_own_is_never_sent",),
    ),
    Fault(
        "an unread callback bars what another attempt may do",
        "payment_service/domain/findings.py",
        "sibling.state in PAID_STATES or sibling.money_case_open for",
        "sibling.state in PAID_STATES or sibling.money_case_open or sibling.unread_callback for",
        (f"{CERTAINTY}::test_an_attempt_may_be_sent_exactly_where_it_may_be_started",),
    ),
    Fault(
        "the case of a silent watch outlives a receipt that follows the money",
        "payment_service/domain/cases.py",
        "(payment.state not in LIVE_STATES and not",
        "(payment.state not in LIVE_STATES and payment.completed_at is None and not",
        (f"{CERTAINTY}::test_the_case_of_a_silent_watch_ends_with_a_receipt_that_follows_the_money",),
    ),
    Fault(
        "an attempt whose sibling was paid offers another payment",
        "payment_service/domain/decisions.py",
        "        case _ if payment.reason is Reason.SIBLING_PAID:\n            return BookingAction.FOLLOW_SIBLING",
        "        case _ if payment.reason is Reason.SIBLING_PAID:\n            return BookingAction.OFFER_RETRY",
        (
            f"{CERTAINTY}::test_an_attempt_that_ends_after_its_sibling_was_paid_offers_no_other_payment",
            f"{CERTAINTY}::test_an_attempt_that_was_not_sent_when_its_sibling_was_paid_offers_no_other_payment",
        ),
    ),
    Fault(
        "a review gives the reason of what stood before it",
        "payment_service/domain/payment.py",
        "return self.review_reason if reviewed and self.review_reason is not None else self.reason",
        "return self.reason",
        ("tests/domain/test_decisions.py::test_every_review_says_why_and_what_stood_before_it_stands_again_after_it",),
    ),
    Fault(
        "the reason of a review outlives it",
        "payment_service/domain/payment.py",
        "if reviewed and self.review_reason is not None else",
        "if self.review_reason is not None else",
        ("tests/domain/test_every_pair.py::test_what_every_fact_does_is_whole_and_counted",),
    ),
    Fault(
        "a read gives another reason than the event",
        "payment_service/store/reads.py",
        '"status_reason": _SHOWN_REASON,',
        '"status_reason": _p.status_reason,',
        ("tests/application/settling/test_end_doubts.py",),
    ),
    Fault(
        "a doubt about foreign ids outlives the proof of its receipt",
        "payment_service/domain/cases.py",
        "case CaseKind.UNCLAIMED_MONEY | CaseKind.FOREIGN_IDS:",
        "case CaseKind.UNCLAIMED_MONEY:",
        (f"{CERTAINTY}::test_a_doubt_about_foreign_ids_ends_with_the_proof_whose_receipt_it_was",),
    ),
    Fault(
        "a receipt that another payment has ends the case that it was told again",
        "payment_service/store/evidence.py",
        "receipts.c.seen_at > cases.c.opened_at",
        "receipts.c.seen_at <= cases.c.opened_at",
        ("tests/application/settling/test_end_doubts.py",),
    ),
    Fault(
        "an unread callback takes an older certainty for ever",
        "payment_service/domain/decisions.py",
        "after.unpaid_proof or UnpaidProof.EARLIER",
        "after.unpaid_proof",
        (f"{CERTAINTY}::test_what_was_certain_before_proofs_were_recorded_is_so_again_after_an_unread_callback",),
    ),
    Fault(
        "one failed timer hides the others",
        "payment_service/application/settling/tell_each.py",
        "*(facts.submit(one) for one in submissions), return_exceptions=True)",
        "*(facts.submit(one) for one in submissions))",
        (
            f"{SETTLING}/test_run_timers.py::test_two_payments_that_cannot_be_read_hold_up_no_other",
            f"{SETTLING}/test_end_doubts.py::test_a_doubt_that_cannot_be_ended_holds_up_no_other_and_fails_the_step",
        ),
    ),
    Fault(
        "a step whose facts failed counts as done",
        "payment_service/application/settling/run_timers.py",
        "    if failures:\n",
        "    if not due:\n",
        (f"{SETTLING}/test_run_timers.py::test_two_payments_that_cannot_be_read_hold_up_no_other",),
    ),
    Fault(
        "books may be behind for twice the interval",
        "payment_service/application/settling/watch_pull.py",
        "max(BEHIND_MAX, watch.interval + READING_MAX)",
        "max(BEHIND_MAX, 2 * watch.interval)",
        (f"{SETTLING}/test_pull_transactions.py::test_books_that_are_behind_are_an_alarm_that_ends_by_itself",),
    ),
    Fault(
        "an operator decides on an old picture",
        "payment_service/application/recording/record_facts.py",
        "        if unagreed or case.settled_at is not None or submission.seen != self._marks(payment, case.version):",
        "        if unagreed or case.settled_at is not None:",
        (f"{CASEWORK}::test_a_decision_on_an_old_picture_is_refused_with_what_changed",),
    ),
    Fault(
        "a case is settled twice",
        "payment_service/application/recording/record_facts.py",
        "        if unagreed or case.settled_at is not None or submission.seen != self._marks(payment, case.version):",
        "        if submission.seen is None:",
        (f"{CASEWORK}::test_of_two_operators_at_once_one_settles_and_the_other_hears_who_did",),
    ),
    Fault(
        "money of a receipt that counts in doubt counts for nothing when it is accepted",
        "payment_service/application/recording/holders.py",
        "            self._writes.counted[receipt] = payment_id\n            return",
        "            return",
        (f"{CASEWORK}::test_a_wrong_amount_that_is_accepted_counts_from_then_on",),
    ),
    Fault(
        "money under another payment's receipt is accepted",
        "payment_service/domain/findings.py",
        "    return Finding.ACCEPTED_ANOTHERS if anothers else Finding.CASE_ACCEPTED",
        "    return Finding.CASE_ACCEPTED",
        (f"{SETTLED_CASES}::test_money_that_is_another_payments_is_not_accepted",),
    ),
    Fault(
        "a second attempt is accepted into a confirmation",
        "payment_service/domain/findings.py",
        "        return Finding.ACCEPTED_BESIDE",
        "        return Finding.OWN_ACCEPTED",
        (f"{SETTLED_CASES}::test_at_most_one_attempt_confirms_whatever_operators_accept",),
    ),
    Fault(
        "money is accepted for a seat that is released, and nobody gives it back",
        "payment_service/domain/findings.py",
        "    if _released_in_vain(payment):\n        return Finding.ACCEPTED_FREED\n",
        "",
        (
            f"{SETTLED_CASES}::test_money_whose_seat_is_released_is_not_accepted_after_its_return_has_failed",
            f"{RETURNED}::test_after_a_failed_return_the_money_is_not_accepted_for_a_seat_that_is_released",
        ),
    ),
    Fault(
        "money that no receipt names is returned out of the payment's own",
        "payment_service/application/casework/resolve_case.py",
        "    if isinstance(fact, CaseReturned) and case.receipt is None and not _names_own_money(case):",
        "    if isinstance(fact, CaseReturned) and case.receipt is None and case.kind in ():",
        (f"{RETURNED}::test_money_that_no_receipt_names_is_not_returned_out_of_other_money",),
    ),
    Fault(
        "a receipt that an operator gives for a return is ignored",
        "payment_service/application/casework/resolve_case.py",
        "    if asked.receipt not in (None, case.receipt) and not may_differ:",
        "    if asked.receipt not in (None, case.receipt) and not may_differ and not isinstance(fact, CaseReturned):",
        (f"{RETURNED}::test_a_receipt_does_not_say_that_other_money_is_returned_than_the_cases",),
    ),
    Fault(
        "late money that is dismissed confirms the booking",
        "payment_service/domain/findings.py",
        "        case CaseKind.LATE_PAYMENT | CaseKind.RECEIPT_OVERDUE:",
        "        case CaseKind.RECEIPT_OVERDUE:",
        (f"{SETTLED_CASES}::test_a_settled_case_leads_where_it_should",),
    ),
    Fault(
        "an unread callback holds its payment when its case is settled",
        "payment_service/domain/transitions.py",
        "    if any(case.kind == CaseKind.UNREAD_CALLBACK for case in ended):",
        "    if any(case.kind is CaseKind.UNREAD_CALLBACK for case in ended):",
        (f"{CASEWORK}::test_an_unread_callback_is_settled_by_what_a_person_reads_in_it",),
    ),
    Fault(
        "who settled a case can be altered",
        "payment_service/application/inspecting/decided_cases.py",
        "(case.operator is None or _end_due(case) != case.settled_by)",
        "case.operator is None",
        (f"{CASEWORK}::test_the_check_notices_who_or_why_that_was_altered",),
    ),
    Fault(
        "a case stays open when its money has gone back",
        "payment_service/domain/cases.py",
        "        return True\n    match case.kind:",
        "        return False\n    match case.kind:",
        (f"{RETURNED}::test_a_wrong_amount_is_returned_whole",),
    ),
    Fault(
        "a case is dismissed while its money is on its way back",
        "payment_service/domain/findings.py",
        "        case _ if case.refund_id is not None:",
        "        case _ if case.receipt == case.fact_id:",
        (f"{SETTLED_CASES}::test_nothing_else_is_decided_while_money_is_on_its_way_back",),
    ),
    Fault(
        "a case whose refund has failed stays as its refund left it",
        "payment_service/store/evidence.py",
        "r.refund_id = c.refund_id AND r.ended_at IS NULL",
        "r.refund_id = c.refund_id",
        (f"{RETURNED}::test_a_case_whose_refund_fails_is_decided_again",),
    ),
    Fault(
        "who asks for money to go back agrees to it as well",
        "payment_service/application/approving/decide_approval.py",
        "    if asked.decision is not Decision.WITHDRAW and is_asker:",
        "    if asked.decision is Decision.REFUSE and is_asker:",
        (f"{APPROVALS}::test_the_one_who_asked_agrees_under_no_name",),
    ),
    Fault(
        "the writer takes the asker for a second person",
        "payment_service/application/recording/approval_ledger.py",
        "row.asked_by == consent.asked_by != consent.by.proven",
        "row.asked_by == consent.asked_by",
        (f"{APPROVALS}::test_the_writer_takes_no_consent_of_the_asker_or_to_other_money",),
    ),
    Fault(
        "a second person agrees to what has changed since it was asked for",
        "payment_service/application/recording/record_facts.py",
        "        if submission.consent is not None and (order is None or submission.seen != self._marks(row.payment)):",
        "        if submission.consent is not None and order is None:",
        (f"{APPROVALS}::test_what_changes_between_the_look_and_the_lock_is_not_agreed_to",),
    ),
    Fault(
        "a second person agrees on an old picture",
        "payment_service/application/approving/decide_approval.py",
        "not approval.seen == approval.now == asked.seen",
        "not approval.seen == approval.now",
        (f"{APPROVALS}::test_an_etag_of_another_picture_agrees_to_nothing",),
    ),
    Fault(
        "much money goes back by one person's word",
        "payment_service/domain/refund_requests.py",
        "    return order.by_person and amount > approval_above and amount != order.approved",
        "    return order.by_person and amount > approval_above and amount == order.approved",
        (f"{APPROVALS}::test_a_refund_above_the_amount_is_done_once_another_certificate_agrees",),
    ),
    Fault(
        "who agreed that money goes back can be altered",
        "payment_service/application/inspecting/decided_cases.py",
        "    for mark in due.keys() - logged.keys():",
        "    for mark in due.keys() - due.keys():",
        (f"{APPROVALS}::test_who_agreed_is_what_the_log_vouches_for",),
    ),
    Fault(
        "the money of a case is sent back twice",
        "payment_service/application/recording/record_facts.py",
        "        if unagreed or case.settled_at is not None or submission.seen != self._marks(payment, case.version):",
        "        if unagreed or case.settled_at is not None:",
        (f"{RETURNED}::test_of_two_operators_at_once_one_returns_the_money_and_the_other_is_told",),
    ),
    Fault(
        "a refund whose answer was lost is sent again",
        "payment_service/domain/refunds.py",
        "LOST        -        U        U        -        -      -",
        "LOST        -        R        U        -        -      -",
        (f"{REFUNDS}::test_a_refund_is_sent_again_only_after_proof_that_it_was_not_and_what_is_done_stays_so",),
    ),
    Fault(
        "a refund is done by a result that names no receipt",
        "payment_service/domain/refunds.py",
        "            if fact.receipt is None:\n",
        '            if fact.receipt == "":\n',
        (f"{REFUNDS}::test_a_cell_does_what_it_promises",),
    ),
    Fault(
        "a refund is done by a result of another receipt",
        "payment_service/domain/refunds.py",
        "    if fact.receipt not in (None, refund.receipt) or",
        "    if fact.receipt == refund.payment_id or",
        (f"{REFUNDS}::test_a_cell_does_what_it_promises",),
    ),
    Fault(
        "the word that nobody knows of a refund is read as its result",
        "payment_service/daraja/callback.py",
        "            return RefundTimedOut(fact_id)",
        "            return read_reversal_post(body, fact_id)",
        (f"{SENT_REFUNDS}::test_the_token_of_one_address_is_worth_nothing_at_another",),
    ),
    Fault(
        "several refunds may promise the same money",
        "payment_service/store/migrations/versions/0015_refund_posts.py",
        "promised + NEW.amount > received",
        "NEW.amount > received",
        ("tests/store/test_refunds.py::test_two_transactions_at_once_cannot_promise_more_than_a_receipt_brought",),
    ),
    Fault(
        "a booking is confirmed again when its refund fails",
        "payment_service/domain/decisions.py",
        "        case State.COMPLETED if payment.seat_freed:",
        "        case State.COMPLETED if payment.seat_freed and payment.refund_under_way:",
        (f"{REFUNDS}::test_a_seat_that_was_given_up_is_not_confirmed_when_the_refund_fails",),
    ),
    Fault(
        "a refund is sent by whoever wanted its claim",
        "payment_service/application/refunding/send_refunds.py",
        "    if now is None or now.state is not RefundState.SENDING or now.claim_id != claim_id:",
        "    if now is None:",
        (f"{SENT_REFUNDS}::test_of_several_processes_one_sends_a_refund",),
    ),
    Fault(
        "refunds that are refused for their token stop the prompts",
        "payment_service/application/refunding/send_refunds.py",
        "NoAccessToken, Token, token_doubted",
        "NoAccessToken, Token, token_refused as token_doubted",
        (f"{SENT_REFUNDS}::test_an_app_without_reversals_holds_up_no_prompt_and_a_person_hears_of_it",),
    ),
    Fault(
        "the refund of one attempt frees the seat that another has confirmed",
        "payment_service/domain/decisions.py",
        "return BookingAction.FOLLOW_SIBLING if beside_confirmed else BookingAction.RELEASE",
        "return BookingAction.RELEASE if beside_confirmed else BookingAction.RELEASE",
        ("tests/domain/test_decisions.py::test_a_refund_never_frees_the_seat_that_another_attempt_has_confirmed",),
    ),
    Fault(
        "a refund that fails is taken for money that has arrived",
        "payment_service/domain/transitions.py",
        "before.state in (State.COMPLETED, State.REFUNDING):",
        "before.state is State.COMPLETED:",
        ("tests/domain/test_decisions.py::test_a_refund_of_late_or_double_money_that_fails_is_a_case_of_the_refund",),
    ),
    Fault(
        "refunds are sent on after the initiator was refused",
        "payment_service/store/status_questions.py",
        "sent.ended_at >= now - pause",
        "sent.ended_at < now - pause",
        (f"{SENT_REFUNDS}::test_a_refused_initiator_is_tried_once_and_a_corrected_one_at_once",),
    ),
    Fault(
        "a refund of ours in the books is taken for money that the payer took back",
        "payment_service/domain/pull.py",
        "    open_to_it = [candidate for candidate in meant if not candidate.refunded]",
        "    open_to_it = meant",
        (f"{TAKEN_BACK}::test_a_reversal_that_a_refund_of_ours_has_led_to_is_no_news",),
    ),
    Fault(
        "a booking travels on money that its payer has back",
        "payment_service/domain/pull.py",
        "    if row.reversal:",
        "    if row.reversal and row.received:",
        (f"{SETTLING}/test_taken_back.py::test_money_that_the_payer_has_back_releases_its_booking_and_calls_a_person",),
    ),
    Fault(
        "a second payment that went back takes the first one with it",
        "payment_service/domain/findings.py",
        "    if fact.in_doubt or another or (paid_twice and fact.receipt is None):",
        "    if fact.in_doubt:",
        (f"{TAKEN_BACK}::test_only_the_money_that_a_payment_stands_on_takes_it_away",),
    ),
    Fault(
        "a transaction that was reversed is taken for money",
        "payment_service/daraja/status.py",
        "    if status.lower() == _REVERSED:",
        "    if receipt == _REVERSED:",
        ("tests/daraja/test_status.py::test_a_reversed_transaction_is_money_that_went_back",),
    ),
    Fault(
        "the case of a refund that nobody knew of stays when it is known",
        "payment_service/domain/cases.py",
        "        case CaseKind.REFUND if isinstance(fact, RefundDone | RefundFailed):",
        "        case CaseKind.REFUND if isinstance(fact, RefundFailed):",
        (f"{SENT_REFUNDS}::test_a_result_that_comes_after_a_day_ends_the_case_that_nobody_knew",),
    ),
    Fault(
        "a refund is sent that its payment does not wait for",
        "payment_service/domain/refunds.py",
        "RefundFinding.CLAIM if around.awaited and not around.returned else RefundFinding.UNWANTED",
        "RefundFinding.CLAIM",
        (f"{REFUNDS}::test_a_refund_that_its_payment_does_not_wait_for_is_not_sent_and_lets_others_go_first",),
    ),
    Fault(
        "a refund that is not wanted any more holds up the others",
        "payment_service/domain/refunds.py",
        "UNWANTED    R        no       no       no       no     no",
        "UNWANTED    no       no       no       no       no     no",
        (
            "tests/application/refunding/test_parts.py::test_a_part_that_is_not_wanted_any_more_holds_up_no_other_refund",
        ),
    ),
    Fault(
        "a part that M-Pesa refuses is no alarm",
        "payment_service/application/settling/accept_callbacks.py",
        "    _raise_alarm(submission.fact, recorded.refund)",
        "    _raise_alarm(submission.fact, None)",
        (
            "tests/application/refunding/test_parts.py::test_a_part_that_fails_leaves_the_money_here_with_a_case",
            f"{SENT_REFUNDS}::test_a_refusal_leaves_the_money_here_with_a_case_and_an_alarm",
        ),
    ),
    Fault(
        "an answer ends the turn of the next question",
        "payment_service/store/status_questions.py",
        ".where(initiators.c.initiator == initiator, initiators.c.asked_at == asked_at)",
        ".where(initiators.c.initiator == initiator)",
        (f"{FLOAT}::test_an_answer_that_is_read_late_does_not_end_the_turn_of_the_next_question",),
    ),
    Fault(
        "a refund waits to be sent whose receipt another one has returned",
        "payment_service/domain/refunds.py",
        "OVERTAKEN   F        -        -        -        -      -",
        "OVERTAKEN   -        -        -        -        -      -",
        (f"{RECORDED_REFUNDS}::test_a_refund_that_turns_out_to_be_done_after_all_is_not_sent_a_second_time",),
    ),
    Fault(
        "two refunds of one receipt both count",
        "payment_service/domain/refunds.py",
        "            return RefundFinding.TWICE if around.returned else RefundFinding.DONE",
        "            return RefundFinding.DONE",
        (
            f"{RECORDED_REFUNDS}::test_two_refunds_of_one_receipt_that_are_both_said_to_be_done_count_once_with_a_case_about_money",
        ),
    ),
    Fault(
        "an answer that nothing was sent is believed against a post",
        "payment_service/domain/refunds.py",
        "    return says if refund.posted_at is None else RefundFinding.DENIED",
        "    return says",
        (f"{REFUNDS}::test_an_answer_that_nothing_was_sent_is_not_believed_after_a_post",),
    ),
    Fault(
        "an amount that nobody could read is refunded as the one asked for",
        "payment_service/store/refunds.py",
        "SELECT receipt, amount FROM mpesa_receipts",
        "SELECT receipt, COALESCE(amount, 500) FROM mpesa_receipts",
        (f"{RECORDED_REFUNDS}::test_money_whose_amount_nobody_could_read_is_not_refunded_as_the_amount_asked_for",),
    ),
    Fault(
        "a refund of nothing is recorded",
        "payment_service/domain/refund_requests.py",
        "    if left <= 0:",
        "    if left < 0:",
        (f"{RECORDED_REFUNDS}::test_a_payment_whose_money_is_all_promised_already_is_refused_as_under_way",),
    ),
    Fault(
        "what is left after a part is sent back by the receipt of the whole",
        "payment_service/domain/refund_requests.py",
        "RefundMethod.REVERSAL if amount == left == received else",
        "RefundMethod.REVERSAL if amount == left else",
        (f"{PARTS}::test_parts_that_add_up_to_all_return_the_payment",),
    ),
    Fault(
        "more goes back than came, where a part that had failed is done after all",
        "payment_service/domain/refunds.py",
        "awaited=wanted and (received is None or promised + refund.amount <= received),",
        "awaited=wanted,",
        (f"{PARTS}::test_nothing_more_is_sent_than_came_where_a_part_that_had_failed_is_done_after_all",),
    ),
    Fault(
        "the case of a part stays open when another part was told of since",
        "payment_service/domain/cases.py",
        "payment.unread_callback or payment.refund_under_way",
        "payment.unread_callback or payment.refund_status == 'PENDING'",
        (f"{PARTS}::test_the_case_of_a_part_that_nobody_knows_of_ends_when_it_is_known",),
    ),
    Fault(
        "parts that are asked for at once may add up to more than came",
        "payment_service/domain/refund_requests.py",
        "    if amount > left:",
        "    if amount > received:",
        (f"{REFUND_CALLS}::test_parts_that_are_asked_for_at_once_never_add_up_to_more_than_came",),
    ),
    Fault(
        "a part is ordered under another name than the one that was stored",
        "payment_service/application/refunding/send_refunds.py",
        'originator_conversation_id=refund.originator_conversation_id or "",',
        "originator_conversation_id=str(uuid7()),",
        (f"{PARTS}::test_a_part_goes_back_to_the_payer_and_the_payment_stays_completed",),
    ),
    Fault(
        "a booking that is cancelled for a fee keeps its seat",
        "payment_service/application/recording/refund_ledger.py",
        "frees_seat = amount == left or order.reason in GIVES_UP_THE_SEAT",
        "frees_seat = amount == left",
        (f"{PARTS}::test_a_part_that_fails_leaves_the_money_here_with_a_case",),
    ),
    Fault(
        "an upgrade that was broken off is never finished",
        "payment_service/store/migrations/versions/0013_casework.py",
        "ADD COLUMN IF NOT EXISTS resolution TEXT",
        "ADD COLUMN resolution TEXT",
        ("tests/store/test_migrations.py::test_an_upgrade_that_is_broken_off_in_an_index_can_be_run_again",),
    ),
    Fault(
        "a late payment is accepted beside the one that confirmed",
        "payment_service/domain/findings.py",
        "        return Finding.ACCEPTED_BESIDE if beside else Finding.OWN_ACCEPTED",
        "        return Finding.OWN_ACCEPTED",
        (f"{SETTLED_CASES}::test_of_a_late_payment_and_a_second_one_only_the_first_accepted_is_kept",),
    ),
    Fault(
        "a receipt that comes one too late for its booking calls nobody",
        "payment_service/domain/transitions.py",
        "too_many = named and beside and not looked_at",
        "too_many = named and beside and looked_at",
        (f"{SETTLED_CASES}::test_a_receipt_that_comes_after_another_attempt_has_confirmed_calls_a_person",),
    ),
    Fault(
        "a post about a refund breaks when it comes again after its case was dismissed",
        "payment_service/application/recording/known_rows.py",
        "[*told.fact_ids, *_doubts(told, refund_names)]",
        "told.fact_ids",
        (f"{RECORDED_REFUNDS}::test_a_post_that_comes_again_after_its_case_was_dismissed_is_no_news",),
    ),
    Fault(
        "the case of a refund's callback stays when the callback is applied",
        "payment_service/store/event_log.py",
        "    UNION SELECT payment_id, reference FROM refunds WHERE reference = ANY($2::text[]))",
        "    )",
        (f"{RECORDED_REFUNDS}::test_the_case_of_a_given_up_result_of_a_refund_ends_when_it_is_replayed",),
    ),
    Fault(
        "a refund's parked callback is never applied",
        "payment_service/store/inbox.py",
        "for table in (payments, refunds)]",
        "for table in (payments, payments)]",
        (
            f"{RECORDED_REFUNDS}::test_the_result_of_a_refund_that_the_database_had_lost_is_applied_once_it_is_there_again",
        ),
    ),
    Fault(
        "a new payment is made while prompts are stopped",
        "payment_service/application/collecting/create_payment.py",
        "elif found.stopped is not None:",
        "elif found.stopped is not None and not found.stopped.stopped:",
        ("tests/rpc/test_operations.py::test_stopped_prompts_bar_new_payments_and_nothing_else",),
    ),
    Fault(
        "a prompt that waits is sent while prompts are stopped",
        "payment_service/application/collecting/send_prompt.py",
        "await tools.check_allowed()",
        "pass",
        (f"{FIRST_CLAIM}::test_a_prompt_that_waits_is_not_sent_while_prompts_are_stopped",),
    ),
    Fault(
        "an old turn of the switch for prompts counts",
        "payment_service/store/prompt_switch.py",
        "ORDER BY position DESC",
        "ORDER BY position",
        ("tests/rpc/test_operations.py::test_stopped_prompts_bar_new_payments_and_nothing_else",),
    ),
    Fault(
        "late money of any amount goes back by itself",
        "payment_service/domain/automatic_refunds.py",
        "or left > allowed.amount_max",
        "or left < 0",
        (
            f"{AUTOMATIC}::test_above_the_set_amount_a_person_decides",
            f"{AUTOMATIC_RECORDED}::test_a_case_waits_for_a_person_where_nothing_goes_back_by_itself",
        ),
    ),
    Fault(
        "a seat is released while another attempt may still confirm it",
        "payment_service/domain/automatic_refunds.py",
        "return None if undecided else Reason.PAID_LATE",
        "return Reason.PAID_LATE",
        (f"{AUTOMATIC}::test_a_seat_is_not_released_while_another_attempt_may_confirm_it",),
    ),
    Fault(
        "a seat is released while the money of another attempt may lie with a gateway",
        "payment_service/domain/automatic_refunds.py",
        "or sibling.money_case_open or uncertain or given_up",
        "or sibling.money_case_open or given_up",
        (f"{AUTOMATIC}::test_an_attempt_whose_late_money_is_wanted_keeps_the_seat_open_however_late_it_is",),
    ),
    Fault(
        "late money goes back after a retry was withdrawn for it",
        "payment_service/domain/automatic_refunds.py",
        "or sibling.money_case_open or uncertain or given_up",
        "or sibling.money_case_open or uncertain",
        (
            f"{AUTOMATIC}::test_a_seat_is_not_released_after_another_attempt_was_given_up_for_the_money",
            f"{AUTOMATIC_RECORDED}::test_late_money_for_which_a_retry_was_withdrawn_waits_for_a_person",
        ),
    ),
    Fault(
        "money that an operator accepts goes back in the same moment",
        "payment_service/application/recording/record_facts.py",
        "if not isinstance(fact, CaseDecided):",
        "if fact is not None:",
        (f"{AUTOMATIC_RECORDED}::test_money_that_an_operator_accepts_does_not_go_back_by_itself",),
    ),
    Fault(
        "money that an operator has accepted goes back when its receipt comes",
        "payment_service/domain/automatic_refunds.py",
        "if not doubts or any(kind",
        "if any(kind",
        (f"{AUTOMATIC}::test_an_operator_who_accepted_the_money_keeps_it_when_its_receipt_comes",),
    ),
    Fault(
        "late money that goes back by itself stays a case for operators",
        "payment_service/domain/cases.py",
        "return sent_back or (isinstance",
        "return (isinstance",
        (f"{AUTOMATIC_RECORDED}::test_late_money_goes_back_in_the_transaction_that_records_it",),
    ),
    Fault(
        "a refund that gets no turn waits in silence",
        "payment_service/store/refunds.py",
        ".where(refunds.c.send_at.is_not(None), refunds.c.requested_at",
        ".where(refunds.c.not_sent_count > 0, refunds.c.requested_at",
        (f"{WATCHED_REFUNDS}::test_a_refund_that_the_rate_alone_holds_back_is_told_and_its_story_says_until_when",),
    ),
    Fault(
        "nobody is warned before the password of the initiator expires",
        "payment_service/application/refunding/watch_refunds.py",
        "today >= expires_on - WARN_BEFORE",
        "today >= expires_on",
        (
            f"{WATCHED_REFUNDS}::test_the_password_is_warned_of_two_weeks_before_it_expires_and_when_it_is_refused_after",
        ),
    ),
    Fault(
        "the case of a refund does not show what was sent",
        "payment_service/application/casework/show_cases.py",
        "elif refund is not None and row.operation in _OF_REFUNDS",
        "elif refund is None and row.operation in _OF_REFUNDS",
        (f"{WATCHED_REFUNDS}::test_the_case_of_a_refund_shows_what_was_sent_and_what_came",),
    ),
    Fault(
        "money for a seat that was released confirms it all the same",
        "payment_service/domain/decisions.py",
        "or s.said_confirm or went_back_late(s)",
        "or s.said_confirm",
        (f"{AUTOMATIC}::test_money_that_comes_after_the_release_of_late_money_confirms_nothing_by_itself",),
    ),
    Fault(
        "late money without a receipt is never sent back",
        "payment_service/application/recording/record_facts.py",
        "        if not isinstance(fact, CaseDecided):",
        "        if payment.state is not State.COMPLETED:",
        (f"{AUTOMATIC_RECORDED}::test_money_without_a_receipt_goes_back_when_the_receipt_comes",),
    ),
    Fault(
        "a refund by booking is not recognised when it is asked for again",
        "payment_service/domain/booking_refunds.py",
        "for request_id in ids if used.get(request_id) in by_id]",
        "for request_id in ids if request_id not in ids]",
        (f"{BOOKING_REFUNDS}::test_whoever_asks_however_often_there_is_one_refund",),
    ),
    Fault(
        "the float is asked for again after M-Pesa has refused the initiator",
        "payment_service/application/refunding/ask_float.py",
        "    await _end(tools, asked_at, initiator_refused(body))",
        "    await _end(tools, asked_at, None)",
        (f"{FLOAT}::test_after_a_refusal_of_the_initiator_nothing_is_asked_for_a_day",),
    ),
    Fault(
        "refunds are asked for that the float does not cover",
        "payment_service/commands/trip_plan.py",
        "= available - one.amount if one.amount <= available else 0",
        "= available",
        (f"{TRIPS}::test_the_float_pays_in_the_order_of_the_list_and_what_is_not_known_stops_nobody",),
    ),
    Fault(
        "a booking of another caller with the same id is refunded",
        "payment_service/application/refunding/refund_booking.py",
        "        if len(callers) > 1 and not asked.caller:",
        "        if not callers:",
        (f"{BOOKING_REFUNDS}::test_nothing_of_another_callers_booking_goes_back",),
    ),
    Fault(
        "a caller uses a request id of refunds by booking",
        "payment_service/rpc/fields.py",
        "    if text.startswith(RESERVED_PREFIX):",
        "    if text == RESERVED_PREFIX:",
        (f"{BOOKING_REFUNDS}::test_a_caller_cannot_use_the_request_ids_of_refunds_by_booking",),
    ),
    Fault(
        "a look at a booking's refund asks for it",
        "payment_service/application/refunding/refund_booking.py",
        "    if asked.only_look:",
        "    if asked.only_look and tried.refund:",
        (f"{BOOKING_REFUNDS}::test_a_look_says_what_would_go_back_and_leaves_nothing",),
    ),
    Fault(
        "of two paid attempts of a booking the later one is refunded unasked",
        "payment_service/domain/booking_refunds.py",
        "if len(holding) > 1:",
        "if len(holding) > 2:",
        (f"{BOOKING_REFUNDS}::test_what_cannot_be_refunded_is_refused_with_its_cause_and_leaves_nothing",),
    ),
    Fault(
        "refunds of a trip without a result are forgotten, and more are asked for",
        "payment_service/commands/trip_run.py",
        "turns >= 1 and len(self.asked_at) < UNDER_WAY_MAX",
        "turns >= 1 and len(self.asked_at) - self._older_than(self.times.result) < UNDER_WAY_MAX",
        ("tests/commands/test_refunds.py::test_a_trip_whose_refunds_are_held_up_stops_with_ten_under_way",),
    ),
    Fault(
        "a trip goes on beside a service that has forgotten it",
        "payment_service/commands/trip_run.py",
        "            raise LinesWrong([(listed.line, str(error))]) from error",
        "            found = not_possible(listed, str(error))",
        ("tests/commands/test_refunds.py::test_a_service_that_has_forgotten_its_bookings_stops_the_run",),
    ),
    Fault(
        "a list of bookings is shown as its bytes are",
        "payment_service/commands/booking_list.py",
        "one if one.isprintable() else",
        "one if one else",
        (f"{TRIPS}::test_what_a_file_says_moves_no_terminal",),
    ),
    Fault(
        "the log does not vouch for which operator asked for a refund",
        "payment_service/application/refunding/refund_payment.py",
        "RefundRequested(kept.kept_id, operator=asked.operator, why=asked.why)",
        "RefundRequested(kept.kept_id)",
        (f"{BOOKING_REFUNDS}::test_whoever_rewrites_who_asked_or_why_is_found_out",),
    ),
    Fault(
        "of two payments that hold money, another goes back than the one that is named",
        "payment_service/application/refunding/refund_booking.py",
        "        return named[0]",
        "        return attempts[-1]",
        (f"{BOOKING_REFUNDS}::test_what_each_payment_of_a_booking_holds_goes_back_by_its_name",),
    ),
    Fault(
        "money that has gone back otherwise counts as money that cannot go back",
        "payment_service/commands/trip_plan.py",
        "    RefundBar.REFUNDED: Standing.RETURNED,\n",
        "",
        (f"{TRIPS}::test_the_plan_says_how_many_how_much_and_what_cannot_go_back_and_why",),
    ),
    Fault(
        "a trip goes on when the float is gone",
        "payment_service/commands/trip_plan.py",
        "one.standing is Standing.FAILED and one.code == FLOAT_GONE for one in ended",
        "one.standing is Standing.DONE and one.code == FLOAT_GONE for one in ended",
        (f"{TRIPS}::test_a_run_stops_when_the_float_is_gone_and_when_refusals_follow_each_other",),
    ),
    Fault(
        "a certificate with two URIs is whoever it names first",
        "payment_service/rpc/identity.py",
        "len(shown.uris) != 1",
        "not shown.uris",
        (f"{IDENTITY}::test_no_method_answers_a_stranger",),
    ),
    Fault(
        "a caller is whoever its URI names up to a NUL byte",
        "payment_service/rpc/identity.py",
        "    return _Certificate(tuple(uris), ",
        '    return _Certificate(tuple(uri.partition("\\0")[0] for uri in uris), ',
        (f"{IDENTITY}::test_no_method_answers_a_stranger",),
    ),
    Fault(
        "a certificate is good for as long as its connection is open",
        "payment_service/rpc/identity.py",
        "if now > shown.ends:",
        "if False:",
        (f"{IDENTITY}::test_a_certificate_that_expires_on_an_open_connection_names_nobody_from_then_on",),
    ),
    Fault(
        "an operator's command speaks plaintext to another machine",
        "runtime/tls.py",
        "        if not address.is_loopback:\n            raise ChannelRefused(address)\n",
        "",
        ("tests/runtime/test_tls.py::test_nothing_is_said_to_another_machine_in_plaintext",),
    ),
    Fault(
        "a caller's payments are forgotten when it leaves the list",
        "payment_service/database.py",
        "        others = await others_at_work(conn, listed)",
        "        others = await others_at_work(conn, [*listed, 'agency', 'development'])",
        ("tests/end_to_end/test_start.py::test_a_list_of_callers_without_one_whose_payments_still_matter_is_refused",),
    ),
    Fault(
        "new certificates that cannot be used yet are never looked at again",
        "runtime/tls.py",
        "            self._unusable.set(True, why=str(error))\n",
        "            self._unusable.set(True, why=str(error))\n            self._looked_at = stamp\n",
        ("tests/runtime/test_tls.py::test_a_certificate_that_begins_in_a_moment_is_taken_then",),
    ),
    Fault(
        "a stream from the beginning tells of every caller's payments",
        "payment_service/store/reads.py",
        "[*_of(scope.caller, _e.caller), _e.position > after,",
        "[_e.position > after,",
        (f"{IDENTITY}::test_history_cursors_receipts_and_page_tokens_show_nothing_of_another_caller",),
    ),
    Fault(
        "a list by status tells of every caller's payments",
        "payment_service/store/reads.py",
        "newest_first.where(_p.caller == one, _p.status == status)",
        "newest_first.where(_p.status == status)",
        (f"{IDENTITY}::test_a_list_by_status_tells_a_caller_of_its_own_payments_and_an_operator_of_all",),
    ),
    Fault(
        "a stranger fills the log",
        "payment_service/rpc/identity.py",
        "        self.told_at[why] = now\n",
        "",
        (f"{IDENTITY}::test_operators_are_told_once_a_minute_who_was_refused",),
    ),
    Fault(
        "the alarm before the end of a certificate looks at one that is not in force",
        "runtime/tls.py",
        "_certificates(files.certificate, followed.in_force().certificate)[0]",
        "_certificates(files.certificate, _bytes_of(files.certificate))[0]",
        ("tests/runtime/test_tls.py::test_a_person_is_called_about_the_certificate_that_is_in_force",),
    ),
    Fault(
        "a gateway that is not on the list of callers blames the service",
        "callback_gateway/forwarding.py",
        "SERVICE_REFUSES_GATEWAY if refused else SERVICE_ANSWERS_WRONGLY",
        "SERVICE_ANSWERS_WRONGLY",
        ("tests/callback_gateway/test_core_channel.py::test_a_gateway_that_is_not_let_in_says_so",),
    ),
    Fault(
        "a private key stands in a repr",
        "runtime/tls.py",
        "    key: bytes = field(repr=False)",
        "    key: bytes",
        ("tests/runtime/test_tls.py::test_a_key_stands_in_no_repr",),
    ),
    Fault(
        "clients without a certificate are let in",
        "runtime/tls.py",
        "require_client_authentication=True",
        "require_client_authentication=False",
        (f"{IDENTITY}::test_no_method_answers_a_stranger",),
    ),
    Fault(
        "a stranger asks after the service's health",
        "payment_service/rpc/probes.py",
        "gate.door.allowed(CHECK, context)",
        "pass",
        (f"{IDENTITY}::test_no_method_answers_a_stranger",),
    ),
    Fault(
        "another caller's payment is shown",
        "payment_service/application/following/read_payments.py",
        "if row is None or caller not in (None, row.caller):",
        "if row is None:",
        (f"{IDENTITY}::test_a_caller_cannot_tell_anothers_payment_from_one_that_is_not_there",),
    ),
    Fault(
        "a booking service watches everybody's payments",
        "payment_service/rpc/methods.py",
        "return follow_all(core.reads, call.sees,",
        "return follow_all(core.reads, None,",
        (f"{IDENTITY}::test_streams_tell_a_caller_of_its_own_payments_and_a_notification_service_of_all",),
    ),
    Fault(
        "new certificates wait for a restart",
        "runtime/tls.py",
        "if stamp == self._looked_at:",
        "if True:",
        (f"{IDENTITY}::test_new_certificates_are_taken_under_load_and_bad_ones_are_an_alarm",),
    ),
    Fault(
        "the gateway takes whoever listens for the payment service",
        "runtime/tls.py",
        "return grpc.aio.secure_channel(target, credentials, options=CLIENT_OPTIONS)",
        "return grpc.aio.insecure_channel(target, options=CLIENT_OPTIONS)",
        (f"{CORE_CHANNEL}::test_whoever_takes_the_services_port_collects_no_token",),
    ),
    Fault(
        "the gateway goes on with the certificate that it was started with",
        "callback_gateway/core_channel.py",
        "core.take(open_channel(address, content))",
        "open_channel(address, content)",
        (f"{CORE_CHANNEL}::test_a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_an_alarm",),
        hangs_after=30,
    ),
    Fault(
        "an attempt to connect is given up within the pause before the next one",
        "runtime/grpc_options.py",
        '("grpc.min_reconnect_backoff_ms", CONNECT_WAIT_MS)',
        '("grpc.min_reconnect_backoff_ms", RECONNECT_BACKOFF_MIN_MS)',
        (
            "tests/runtime/test_grpc_options.py::test_a_connection_that_takes_longer_than_the_pauses_between_attempts_is_made",
        ),
    ),
    Fault(
        "nobody hears that a certificate expires soon",
        "runtime/tls.py",
        "soon = ends - now() < min(EXPIRES_SOON, (ends - begins) / 5)",
        "soon = ends < now()",
        ("tests/runtime/test_tls.py",),
    ),
    Fault(
        "a watch of health holds up the drain",
        "payment_service/rpc/calls.py",
        "if count and lane not in ENDLESS}",
        "if count}",
        ("tests/rpc/test_server.py::test_a_watch_of_health_does_not_hold_up_a_drain",),
    ),
    Fault(
        "a call that a busy process has not begun with is cut off by gRPC",
        "runtime/grpc_options.py",
        '    ("grpc.server_max_unrequested_time_in_server", NOT_BEGUN_MAX_SECONDS),',
        "",
        (
            "tests/runtime/test_grpc_options.py::test_a_call_to_a_process_that_is_busy_for_longer_than_grpc_waits_is_answered_in_the_end",
        ),
    ),
)
