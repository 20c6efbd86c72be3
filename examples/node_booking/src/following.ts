// Streams that go on by themselves: each event once and in order, whatever cuts the connection.

import { setTimeout as pause } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookingAction, type Payment, type PaymentEvent } from "../gen/mpesa_payments/v1/payment_pb.js";
import { WatchPaymentsRequest_Position } from "../gen/mpesa_payments/v1/payment_service_pb.js";
import type { Payments } from "./payments.ts";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
// The service says something every 15 seconds: after three silences the connection is dead.
const SILENCE_MS = 45_000;
// What passes by itself. Everything else is a refusal, and asking again would not change it.
const PASSING = new Set([
  Code.Unavailable,
  Code.Aborted,
  Code.Internal,
  Code.Unknown,
  Code.Canceled,
  Code.ResourceExhausted,
]);

interface Batch {
  events: PaymentEvent[];
  cursor: string;
}

/** All events of this caller behind a cursor, for ever. Keep `event.cursor` with what you did about the event. */
export async function* events(payments: Payments, cursor: string): AsyncGenerator<PaymentEvent> {
  const open = (from: string, signal: AbortSignal) =>
    payments.watchPayments(
      {
        start: from
          ? { case: "cursor", value: from }
          : { case: "position", value: WatchPaymentsRequest_Position.EARLIEST },
      },
      { signal },
    );
  for await (const batch of resumed(cursor, open)) yield* batch.events;
}

/** One payment, each time it has changed, until the booking knows what to do. */
export async function outcome(payments: Payments, paymentId: string, cursor: string): Promise<Payment> {
  const open = (from: string, signal: AbortSignal) =>
    payments.watchPayment({ target: { case: "paymentId", value: paymentId }, cursor: from }, { signal });
  for await (const batch of resumed(cursor, open)) {
    const last = batch.events.at(-1)?.payment;
    if (last && last.bookingAction !== BookingAction.WAIT) return last;
  }
  throw new Error("unreachable: a stream that is resumed never ends");
}

async function* resumed<B extends Batch>(
  start: string,
  open: (cursor: string, signal: AbortSignal) => AsyncIterable<B>,
): AsyncGenerator<B> {
  let cursor = start;
  let attempt = 0;
  let seen = "";
  for (;;) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      for await (const batch of open(cursor, silence.signal)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        attempt = 0;
        // A message that was handed over when the connection was cut may come once more.
        const fresh = batch.events.filter((event) => event.eventId !== seen);
        seen = batch.events.at(-1)?.eventId ?? seen;
        cursor = batch.cursor;
        yield { ...batch, events: fresh };
      }
    } catch (error) {
      if (!PASSING.has(ConnectError.from(error).code)) throw error;
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt++, 10));
    await pause(longest * (0.5 + Math.random() / 2));
  }
}
