import { z } from "zod";
import { Secret } from "../base/secret.ts";
import { listenAddress, mapping, network, value } from "./values.ts";

/** Short ones can be guessed by whoever reaches the address. */
const LEAST_TOKEN_LENGTH = 16;

/** As it can stand in an Authorization header (RFC 6750, 2.1). */
const TOKEN = /^[A-Za-z0-9._~+/=-]+$/;

const token = value(
  `a token of at least ${LEAST_TOKEN_LENGTH} letters, digits and . _ ~ + / = -; better from a variable or a file than written here`,
  (input) =>
    typeof input === "string" && input.length >= LEAST_TOKEN_LENGTH && TOKEN.test(input)
      ? new Secret(input)
      : undefined,
  { type: "string", minLength: 1 },
);

export const adminSchema = mapping({
  listen: listenAddress
    .prefault("127.0.0.1:5001")
    .describe("Where /metrics, /healthz, /readyz and the status page are; port 0 picks a free one."),
  allow: z
    .array(network)
    .prefault([])
    .describe(
      "Addresses and CIDRs that may come in; all of them when it is empty. /healthz and /readyz are open to all.",
    ),
  token: token
    .optional()
    .describe(
      "Opens the status page at /page, and /control/, by which weir gc, verify, stats, purge, refresh and import reach a running Weir.",
    ),
})
  .prefault({})
  .describe("The endpoint for operators.");
