// The payment service, as this booking service calls it.

import { readFileSync } from "node:fs";
import { ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema, LocalizedMessageSchema } from "../gen/google/rpc/error_details_pb.js";
import { PaymentService } from "../gen/mpesa_payments/v1/payment_service_pb.js";

export type Payments = Client<typeof PaymentService>;

/** PEM files: who signed the service's certificate, and our own certificate with its key. */
export interface TlsFiles {
  authority: string;
  certificate: string;
  key: string;
}

/** A client of HOST:PORT. Without files it is plaintext, which the service takes from its own machine only. */
export function connect(address: string, tls?: TlsFiles): Payments {
  const transport = createGrpcTransport({
    baseUrl: `${tls ? "https" : "http"}://${address}`,
    // The service ends connections that ping more often than every 10 seconds.
    pingIntervalMs: 30_000,
    pingIdleConnection: true,
    ...(tls && {
      nodeOptions: {
        ca: readFileSync(tls.authority),
        cert: readFileSync(tls.certificate),
        key: readFileSync(tls.key),
        minVersion: "TLSv1.3" as const,
      },
    }),
  });
  return createClient(PaymentService, transport);
}

/**
 * An amount from its decimal text, "500" or "500.00".
 *
 * Never from a number: a field of 64 bits takes 499.99 as 499 in some of JavaScript's libraries, without a word. So the
 * text goes along, and the service refuses it unless it says what `units` says.
 */
export function shillings(text: string): { currencyCode: string; units: bigint; decimalText: string } {
  const [whole = ""] = text.split(".");
  if (!/^[0-9]+(\.[0-9]{1,2})?$/.test(text)) {
    throw new RangeError(`amount: expected shillings such as "500" or "500.00", not "${text}"`);
  }
  return { currencyCode: "KES", units: BigInt(whole), decimalText: text };
}

/** What the service says about a refusal, in lines for a log. An error of the transport alone has only a code. */
export function explain(error: unknown): string[] {
  const refusal = ConnectError.from(error);
  const lines = [refusal.message];
  for (const info of refusal.findDetails(ErrorInfoSchema)) lines.push(`reason: ${info.reason}`);
  for (const bad of refusal.findDetails(BadRequestSchema)) {
    for (const violation of bad.fieldViolations) lines.push(`${violation.field}: ${violation.description}`);
  }
  for (const sentence of refusal.findDetails(LocalizedMessageSchema)) {
    lines.push(`for the passenger: ${sentence.message}`);
  }
  return lines;
}
