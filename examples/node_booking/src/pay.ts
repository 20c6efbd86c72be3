// Asks for one payment, waits for its end, and says what the booking does.
//
//   node src/pay.ts BOOKING PHONE AMOUNT      with PAYMENTS_ADDRESS, and the files of TLS where they are wanted

import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookingAction, PaymentStatus } from "../gen/mpesa_payments/v1/payment_pb.js";
import { address, tlsFiles } from "./environment.ts";
import { outcome } from "./following.ts";
import { connect, explain, shillings } from "./payments.ts";

const TRIES = 5;
const [bookingId = "", phoneNumber = "", amount = ""] = process.argv.slice(2);

try {
  const payments = connect(address(), tlsFiles());
  // One id for all tries of one payment: asked again, it is the same payment and no second prompt.
  const request = { requestId: randomUUID(), bookingId, phoneNumber, amount: shillings(amount) };
  for (let tried = 1; ; tried++) {
    try {
      const { payment, cursor } = await payments.initiatePayment(request, { timeoutMs: 10_000 });
      if (!payment) throw new Error("the answer has no payment");
      console.log(`payment ${payment.reference}: ${payment.customerMessage}`);
      const end = await outcome(payments, payment.paymentId, cursor);
      console.log(`${PaymentStatus[end.status]}, so the booking does: ${BookingAction[end.bookingAction]}`);
      console.log(end.customerMessage);
      break;
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (tried === TRIES || (code !== Code.Unavailable && code !== Code.DeadlineExceeded)) throw error;
    }
  }
} catch (error) {
  console.error(explain(error).join("\n"));
  process.exitCode = 1;
}
