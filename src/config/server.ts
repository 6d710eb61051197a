import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import type { ServerConfig } from "./types.ts";
import { endpoint, filePath, later, listenAddress, mapping, network, value } from "./values.ts";

/** A machine with more cores has other things to do with them, and one storage under all of them. */
const MAX_WORKERS = 64;

/** Beyond it the storage and the network are what is slow. */
const MAX_AUTOMATIC_WORKERS = 4;

const workerCount = value(
  `a whole number from 1 to ${MAX_WORKERS}, or auto`,
  (input) => {
    if (input === "auto") {
      return Math.min(availableParallelism(), MAX_AUTOMATIC_WORKERS);
    }
    const count = typeof input === "string" ? Number(input) : input;
    const isCount = typeof count === "number" && Number.isInteger(count) && count >= 1 && count <= MAX_WORKERS;
    return isCount ? count : undefined;
  },
  { anyOf: [{ type: "integer", minimum: 1, maximum: MAX_WORKERS }, { type: "string" }] },
);

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
    clientCa: filePath
      .optional()
      .describe("PEM file with the authorities whose certificates clients may show; read again when it changes."),
  })
    .optional()
    .describe("Serves HTTPS; without it plain HTTP."),
  workers: workerCount
    .prefault(1)
    .describe("Processes that serve; auto is one for each core, up to four. More than one share listener and storage."),
  trustedProxies: z
    .array(network)
    .prefault([])
    .describe("Addresses and CIDRs of proxies in front: their X-Forwarded-For says who the client is."),
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
        : {
            certFile: resolve(cwd, parsed.tls.cert),
            keyFile: resolve(cwd, parsed.tls.key),
            clientCaFile: parsed.tls.clientCa === undefined ? undefined : resolve(cwd, parsed.tls.clientCa),
          },
    workers: parsed.workers,
    trustedProxies: parsed.trustedProxies,
  };
}
