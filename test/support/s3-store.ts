/** Weir's own storage on the S3 server of the tests, each in a place of its own in the bucket. */
import { randomUUID } from "node:crypto";
import { DeleteObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import type { S3Config } from "../../src/config/types.ts";
import { type Bucket, openBucket } from "../../src/storage/s3/bucket.ts";
import { createS3BlobStore } from "../../src/storage/s3/s3-blob-store.ts";
import { S3_TOOLS, type S3Server, s3Client, startS3 } from "./radosgw.ts";
import { missing, toolTest } from "./tools.ts";

export interface DescribeS3Options {
  /** The tests put a proxy in front of the server, which speaks plain HTTP only. */
  readonly proxied?: boolean;
}

/** A group of tests with one S3 server. Where there is none to be had, one test says so. */
export function describeS3(name: string, define: (server: () => S3Server) => void, o: DescribeS3Options = {}): void {
  const named = process.env.WEIR_TEST_S3_ENDPOINT;
  if (o.proxied === true && named?.startsWith("https:") === true) {
    const reason = "WEIR_TEST_S3_ENDPOINT is HTTPS, and the proxy that breaks connections is not";
    test(name, (context) => {
      if (process.env.WEIR_TEST_REQUIRE_ALL === "1") throw new Error(`${name}: ${reason}`);
      console.log(`skipped: ${name}: ${reason}`);
      context.skip(reason);
    });
    return;
  }
  if (missing(S3_TOOLS) !== undefined) {
    toolTest(S3_TOOLS, name, () => {});
    return;
  }
  describe(name, () => {
    const stack = new AsyncDisposableStack();
    let server: S3Server | undefined;
    beforeAll(async () => {
      const started = await startS3(stack);
      server = started;
      // One of our own is thrown away as a whole.
      if (named !== undefined) stack.defer(() => emptyPlace(started));
    });
    afterAll(() => stack.disposeAsync());
    define(() => {
      if (server === undefined) throw new Error("the S3 server has not been started");
      return server;
    });
  });
}

/** The configuration of a Weir that keeps its things in the server's bucket; left out, under a prefix of its own. */
export function s3Config(server: S3Server, o: Partial<S3Config> = {}): S3Config {
  const { endpoint, bucket, region, accessKeyId, secretAccessKey, place } = server;
  return {
    bucket,
    region,
    endpoint: new URL(endpoint),
    publicEndpoint: undefined,
    prefix: `${place}/${randomUUID()}/`,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey: new Secret(secretAccessKey), sessionToken: undefined },
    serverSideEncryption: undefined,
    kmsKeyId: undefined,
    storageClass: undefined,
    maxSize: undefined,
    redirect: false,
    redirectExcept: [],
    maxConnections: 64,
    timeouts: { connectMs: 5_000, idleMs: 30_000 },
    ...o,
  };
}

/** As `storage.s3` of a configuration file. */
export function s3Section(config: S3Config): Record<string, unknown> {
  const { credentials, endpoint, publicEndpoint, timeouts, ...rest } = config;
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.origin }),
    ...(publicEndpoint === undefined ? {} : { publicEndpoint: publicEndpoint.origin }),
    ...(credentials === undefined
      ? {}
      : { accessKeyId: credentials.accessKeyId, secretAccessKey: credentials.secretAccessKey.reveal() }),
    timeouts: { connect: `${timeouts.connectMs}ms`, idle: `${timeouts.idleMs}ms` },
  };
}

/** Closed with `stack`. */
export async function openTestBucket(stack: AsyncDisposableStack, config: S3Config): Promise<Bucket> {
  const bucket = await openBucket(config, { clock: systemClock, random: Math.random });
  stack.defer(async () => {
    bucket.close();
  });
  return bucket;
}

export function s3BlobStore(bucket: Bucket) {
  return createS3BlobStore({ bucket, clock: systemClock, random: Math.random, redirect: false, log: silentLog });
}

/** The keys of uploads that nobody has finished, in order. */
export async function unfinishedUploads(bucket: Bucket): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of bucket.uploads("", { signal: new AbortController().signal })) keys.push(key);
  return keys.sort();
}

/** What the bucket has under a prefix, seen from beside Weir. */
export async function objectsBelow(server: S3Server, prefix: string): Promise<string[]> {
  const client = s3Client(server);
  try {
    const keys: string[] = [];
    for (let token: string | undefined; ; ) {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: server.bucket, Prefix: prefix, ContinuationToken: token }),
      );
      for (const { Key = "" } of page.Contents ?? []) keys.push(Key);
      token = page.NextContinuationToken;
      if (token === undefined) return keys;
    }
  } finally {
    client.destroy();
  }
}

/** Removes what the tests have put into a bucket that outlives them. */
async function emptyPlace(server: S3Server): Promise<void> {
  const client = s3Client(server);
  try {
    for (const Key of await objectsBelow(server, server.place)) {
      await client.send(new DeleteObjectCommand({ Bucket: server.bucket, Key }));
    }
  } finally {
    client.destroy();
  }
}
