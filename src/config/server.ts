import { resolve } from "node:path";
import type { z } from "zod";
import type { ServerConfig } from "./types.ts";
import { endpoint, filePath, later, listenAddress, mapping, NOT_BUILT_YET, Refusal, value } from "./values.ts";

export const serverSchema = mapping({
  listen: listenAddress
    .prefault("127.0.0.1:5000")
    .describe("Where clients reach the /v2/ endpoint; port 0 picks a free one."),
  publicUrl: endpoint
    .optional()
    .describe("Where clients reach it when that is not listen: in front of a balancer, or listening on every address."),
  tls: mapping({
    cert: filePath.describe("PEM file with the certificate chain; read again when it changes."),
    key: filePath.describe("PEM file with the private key; read again when it changes."),
    clientCa: later("sign-in by client certificate"),
  })
    .optional()
    .describe("Serves HTTPS; without it plain HTTP."),
  workers: value(
    "a whole number",
    (input) => {
      const count = Number(input);
      if (typeof input === "boolean" || !Number.isInteger(count) || count < 1) {
        return undefined;
      }
      return count === 1 ? count : new Refusal(`serving with ${count} workers ${NOT_BUILT_YET}; expected 1`);
    },
    { type: ["integer", "string"], minimum: 1, maximum: 1 },
  )
    .prefault(1)
    .describe("Processes that serve: one."),
  trustedProxies: later("taking client addresses from trusted proxies"),
  accelRedirect: later("handing bodies to a web server in front"),
})
  .prefault({})
  .describe("The endpoint for clients.");

export function serverConfig(parsed: z.output<typeof serverSchema>, cwd: string): ServerConfig {
  return {
    listen: parsed.listen,
    publicUrl: parsed.publicUrl,
    tls:
      parsed.tls === undefined
        ? undefined
        : { certFile: resolve(cwd, parsed.tls.cert), keyFile: resolve(cwd, parsed.tls.key) },
  };
}
