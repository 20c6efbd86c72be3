// Follows the events of all payments, and goes on after a restart where it was.
//
//   node src/events.ts CURSOR_FILE

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { BookingAction, PaymentEventType } from "../gen/mpesa_payments/v1/payment_pb.js";
import { address, tlsFiles } from "./environment.ts";
import { events } from "./following.ts";
import { connect, explain } from "./payments.ts";

const [file = "cursor"] = process.argv.slice(2);

try {
  const cursor = existsSync(file) ? readFileSync(file, "utf8") : "";
  for await (const event of events(connect(address(), tlsFiles()), cursor)) {
    const { payment } = event;
    // Do here what the event asks for. With a database, the cursor belongs into the same transaction: then each event
    // has its effect exactly once. With a file it is at least once, and `eventId` tells a repeat.
    console.log(
      event.eventId,
      PaymentEventType[event.type],
      payment?.bookingId,
      payment && BookingAction[payment.bookingAction],
    );
    writeFileSync(`${file}.new`, event.cursor);
    renameSync(`${file}.new`, file);
  }
} catch (error) {
  console.error(explain(error).join("\n"));
  process.exitCode = 1;
}
