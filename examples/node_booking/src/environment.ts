// Where the service is, and what this caller shows: from the environment.

import type { TlsFiles } from "./payments.ts";

export function address(): string {
  return process.env["PAYMENTS_ADDRESS"] ?? "127.0.0.1:50051";
}

/** All three files or none. */
export function tlsFiles(): TlsFiles | undefined {
  const { PAYMENTS_SERVICE_CA_FILE: authority, PAYMENTS_CLIENT_CERTIFICATE_FILE: certificate } = process.env;
  const { PAYMENTS_CLIENT_KEY_FILE: key } = process.env;
  if (!authority && !certificate && !key) return undefined;
  if (!authority || !certificate || !key) {
    throw new Error(
      "set all three or none: PAYMENTS_SERVICE_CA_FILE, PAYMENTS_CLIENT_CERTIFICATE_FILE, PAYMENTS_CLIENT_KEY_FILE",
    );
  }
  return { authority, certificate, key };
}
