import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import type { ServerConfig, StorageConfig } from "./types.ts";
import { endpoint, filePath, listenAddress, mapping, network, Refusal, value } from "./values.ts";

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

/** Names that mean the same to whoever decodes paths, and to whoever does not. */
const PLAIN_PATH = /^\/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*\/)+$/;

const accelPath = value(
  "a path that begins and ends with / and needs no escapes, such as /internal-blobs/",
  (input) => {
    if (typeof input !== "string" || !PLAIN_PATH.test(input)) {
      return undefined;
    }
    return /^\/v2\//.test(input)
      ? new Refusal(
          "is where clients send their requests to; give the files a path of their own, such as /internal-blobs/",
        )
      : input;
  },
  { type: "string", pattern: "^/.+/$|\\$\\{" },
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
  accelRedirect: accelPath
    .optional()
    .describe(
      "Path below which the nginx in front, one of trustedProxies, has the storage's files: it is sent there for held blobs (X-Accel-Redirect).",
    ),
})
  .prefault({})
  .describe("The endpoint for clients.");

type Report = (path: readonly (string | number)[], message: string) => void;

export function serverConfig(
  parsed: z.output<typeof serverSchema>,
  storage: Pick<StorageConfig, "driver">,
  cwd: string,
  report: Report,
): ServerConfig {
  if (parsed.accelRedirect !== undefined && parsed.trustedProxies.length === 0) {
    report(
      ["accelRedirect"],
      "needs the address of the nginx in server.trustedProxies: nobody else is sent to the files",
    );
  }
  if (parsed.accelRedirect !== undefined && storage.driver === "s3") {
    report(
      ["accelRedirect"],
      "needs files on a disk, which storage.driver: s3 has none of; storage.s3.redirect sends clients to the bucket instead",
    );
  }
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
    accelRedirect: parsed.accelRedirect,
  };
}
