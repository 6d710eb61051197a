import { z } from "zod";
import { Secret } from "../base/secret.ts";
import { isLoopbackHost } from "./hosts.ts";
import { spaceOrNone } from "./room.ts";
import type { S3Config } from "./types.ts";
import { choice, duration, endpoint, flag, integer, mapping, network, TIMER, text, value } from "./values.ts";

/** The region of servers that have none. */
const DEFAULT_REGION = "us-east-1";

const bucketName = value(
  "a bucket's name, 3 to 63 of a-z, 0-9, . and -",
  (input) => (typeof input === "string" && /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(input) ? input : undefined),
  { type: "string", minLength: 3 },
);

const keyPrefix = value(
  "a prefix of keys such as weir or mirrors/weir, without empty, . and .. names",
  (input) => (typeof input === "string" ? parsePrefix(input) : undefined),
  { type: "string" },
);

export const s3Schema = mapping({
  bucket: bucketName.describe("The bucket. It has to be there."),
  region: text.prefault(DEFAULT_REGION).describe("The bucket's region; servers that have none do not mind."),
  endpoint: endpoint.optional().describe("Address of a server other than Amazon's own."),
  publicEndpoint: endpoint
    .optional()
    .describe("Where clients reach the server, if not at endpoint; they are redirected there."),
  prefix: keyPrefix.prefault("").describe("In front of every key, as a folder, so that several can share the bucket."),
  forcePathStyle: flag
    .optional()
    .describe(
      "Names the bucket in the path and not in the host: true where endpoint is set, unless it says otherwise.",
    ),
  accessKeyId: text
    .optional()
    .describe(
      "Access key; without it the AWS SDK looks in the environment, its files and the machine's or pod's role.",
    ),
  secretAccessKey: text
    .optional()
    .describe("Secret of accessKeyId; better from a variable or a file than written here."),
  sessionToken: text.optional().describe("Session token, where the access key is a temporary one."),
  serverSideEncryption: choice(["AES256", "aws:kms", "aws:kms:dsse"])
    .optional()
    .describe("Has the server encrypt what is kept; without it, as the bucket is set."),
  kmsKeyId: text.optional().describe("Key for aws:kms; without it the account's own."),
  storageClass: text.optional().describe("Storage class of new objects, such as INTELLIGENT_TIERING."),
  maxSize: spaceOrNone
    .prefault("none")
    .describe(
      "Water mark of what is held in the bucket, or none; all Weirs that use it say the same. What goes is marked first, and deleted half an hour later.",
    ),
  redirect: flag
    .prefault(false)
    .describe("Sends clients to the bucket for blobs that are held, by addresses that are good for 10 minutes."),
  redirectExcept: z
    .array(network)
    .prefault([])
    .describe("Addresses and CIDRs of clients that get the bytes from Weir all the same."),
  maxConnections: integer({ min: 1, max: 4096 })
    .prefault(256)
    .describe("Connections for the bodies of blobs, each way. Links and records have others."),
  timeouts: mapping({
    connect: duration(TIMER).prefault("5s").describe("To connect."),
    idle: duration(TIMER).prefault("30s").describe("Of silence on a connection in use."),
  })
    .prefault({})
    .describe("How long the server may take."),
});

type Report = (path: readonly (string | number)[], message: string) => void;

/** Reports what does not go together. */
export function s3Config(parsed: z.output<typeof s3Schema>, report: Report): S3Config {
  const { accessKeyId, secretAccessKey, sessionToken, timeouts, redirect, endpoint: at, publicEndpoint } = parsed;
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined)) {
    report([], "accessKeyId and secretAccessKey go together; one of them is missing");
  }
  if (sessionToken !== undefined && accessKeyId === undefined) {
    report(["sessionToken"], "belongs to an accessKeyId, which is missing");
  }
  if (parsed.kmsKeyId !== undefined && !parsed.serverSideEncryption?.startsWith("aws:kms")) {
    report(["kmsKeyId"], "has no effect unless serverSideEncryption is aws:kms or aws:kms:dsse");
  }
  if (redirect && publicEndpoint === undefined && at !== undefined && isLoopbackHost(at.hostname)) {
    report(
      ["redirect"],
      `clients cannot be sent to ${at.origin}, which is this machine to itself only; name an address that they reach in publicEndpoint, or leave redirect out`,
    );
  }
  return {
    bucket: parsed.bucket,
    region: parsed.region,
    endpoint: at,
    publicEndpoint,
    prefix: parsed.prefix,
    forcePathStyle: parsed.forcePathStyle ?? at !== undefined,
    credentials:
      accessKeyId === undefined || secretAccessKey === undefined
        ? undefined
        : {
            accessKeyId,
            secretAccessKey: new Secret(secretAccessKey),
            sessionToken: sessionToken === undefined ? undefined : new Secret(sessionToken),
          },
    serverSideEncryption: parsed.serverSideEncryption,
    kmsKeyId: parsed.kmsKeyId,
    storageClass: parsed.storageClass,
    maxSize: parsed.maxSize === "none" ? undefined : parsed.maxSize,
    redirect,
    redirectExcept: parsed.redirectExcept,
    maxConnections: parsed.maxConnections,
    timeouts: { connectMs: timeouts.connect, idleMs: timeouts.idle },
  };
}

/** Empty, or with one `/` at its end: `weir` must not take in what lies below `weir2/`. */
function parsePrefix(input: string): string | undefined {
  const names = input.replace(/^\/|\/$/g, "").split("/");
  if (names.length === 1 && names[0] === "") return "";
  const proper = names.every((name) => name !== "" && name !== "." && name !== ".." && /^[\x21-\x7e]+$/.test(name));
  return proper && input.length <= MAX_PREFIX ? `${names.join("/")}/` : undefined;
}

/** Keys have 1024 bytes at most, and those of the layout up to some 600. */
const MAX_PREFIX = 256;
