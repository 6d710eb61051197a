import { describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import type { Bucket, FilePart } from "../../../src/storage/s3/bucket.ts";
import { asStorageError, failureOf } from "../../../src/storage/s3/errors.ts";
import { retrying, SOMEBODY_WAITS } from "../../../src/storage/s3/retrying.ts";
import { FIRST_PART_BYTES, MultipartUpload, partBytes } from "../../../src/storage/s3/upload.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { s3Config } from "../../support/s3-store.ts";

const o = { signal: new AbortController().signal };
const MiB = 2 ** 20;

describe("S6 parts", () => {
  test("10,000 of them hold a layer of 50 GB, and every one is one that S3 takes", () => {
    let sum = 0;
    let parts = 0;
    for (; sum < 50e9; sum += partBytes(parts)) parts += 1;
    expect(parts).toBeLessThan(10_000);
    const all = Array.from({ length: 10_000 }, (_, index) => partBytes(index + 1));
    expect(Math.min(...all)).toBeGreaterThanOrEqual(5 * MiB);
    expect(Math.max(...all)).toBeLessThanOrEqual(5 * 1024 * MiB);
    expect(all.reduce((total, bytes) => total + bytes, 0)).toBeGreaterThan(400 * 1024 * MiB);
  });

  test("of a growing file are sent as they fill, a few at once, without gap or overlap", async () => {
    const sent: FilePart[] = [];
    let atOnce = 0;
    let most = 0;
    const bucket = {
      startUpload: async () => "id",
      async uploadPart(_key: string, _id: string, number: number, part: FilePart): Promise<string> {
        atOnce += 1;
        most = Math.max(most, atOnce);
        await new Promise(setImmediate);
        atOnce -= 1;
        sent[number - 1] = part;
        return `etag ${number}`;
      },
      async completeUpload(_key: string, _id: string, etags: readonly string[]): Promise<void> {
        expect(etags).toEqual(sent.map((_, index) => `etag ${index + 1}`));
      },
    } as unknown as Bucket;
    const upload = new MultipartUpload({ bucket, key: "key", path: "path", log: silentLog });
    const size = 1_100 * FIRST_PART_BYTES + 5;
    for (let there = 0; there < size; there += 300 * MiB) upload.advance(there);
    await upload.finish(size, o);
    let at = 0;
    for (const { start, end } of sent) {
      expect(start).toBe(at);
      at = end;
    }
    expect(at).toBe(size);
    expect(most).toBe(4);
  });
});

describe("failures", () => {
  const answered = (status: number, name: string) =>
    Object.assign(new Error(name), { name, $metadata: { httpStatusCode: status } });
  const config = s3Config(
    {
      endpoint: "http://127.0.0.1:1",
      bucket: "b",
      region: "r",
      accessKeyId: "KEY",
      secretAccessKey: "secret",
      place: "",
    },
    { credentials: { accessKeyId: "KEY", secretAccessKey: new Secret("secret"), sessionToken: undefined } },
  );

  test.each([
    [answered(404, "NoSuchKey"), "absent"],
    [answered(404, "NotFound"), "absent"],
    [answered(404, "NoSuchBucket"), "refused"],
    [answered(404, "NoSuchUpload"), "refused"],
    [answered(412, "PreconditionFailed"), "changed"],
    [answered(416, "InvalidRange"), "changed"],
    [answered(503, "SlowDown"), "passing"],
    [answered(500, "InternalError"), "passing"],
    [answered(400, "RequestTimeout"), "passing"],
    [answered(403, "RequestTimeTooSkewed"), "passing"],
    [answered(501, "NotImplemented"), "refused"],
    [answered(403, "AccessDenied"), "refused"],
    [answered(403, "QuotaExceeded"), "full"],
    [answered(507, "Whatever"), "full"],
    [Object.assign(new Error("x"), { name: "TimeoutError", code: "ECONNRESET" }), "passing"],
    [Object.assign(new Error("x"), { code: "ENOTFOUND" }), "refused"],
    [Object.assign(new Error("x"), { code: "SELF_SIGNED_CERT_IN_CHAIN" }), "refused"],
  ] as const)("S6 %s is %s", (error, kind) => {
    expect(failureOf(error).kind).toBe(kind);
  });

  test("A4 nothing of the SDK's error is kept but its code", () => {
    const leaky = Object.assign(answered(403, "SignatureDoesNotMatch"), {
      AWSAccessKeyId: "KEY",
      StringToSign: "what was signed",
    });
    const error = asStorageError(leaky, "reading x", config) as StorageError;
    expect(error).toBeInstanceOf(StorageError);
    expect(error.cause).toBeUndefined();
    expect(JSON.stringify(Object.entries(error))).not.toMatch(/KEY|signed/);
  });

  test("what passes is tried again with growing pauses, what does not is not", async () => {
    const clock = new ManualClock();
    const began = clock.now();
    const pauses: number[] = [];
    const pausing = {
      now: () => clock.now(),
      async sleep(ms: number, signal: AbortSignal): Promise<void> {
        if (ms === SOMEBODY_WAITS.deadlineMs) return await clock.sleep(ms, signal);
        pauses.push(ms);
      },
    };
    const deps = { clock: pausing, random: () => 1 };
    let attempts = 0;
    const failing = retrying(deps, SOMEBODY_WAITS, o, async () => {
      attempts += 1;
      throw answered(503, "SlowDown");
    });
    await expect(failing).rejects.toThrow("SlowDown");
    expect(attempts).toBe(SOMEBODY_WAITS.attempts);
    expect(pauses).toEqual([50, 100, 200, 400]);
    const refused = retrying(deps, SOMEBODY_WAITS, o, async () => {
      attempts += 1;
      throw answered(403, "AccessDenied");
    });
    await expect(refused).rejects.toThrow("AccessDenied");
    expect(attempts).toBe(SOMEBODY_WAITS.attempts + 1);
    expect(clock.sleepers).toBe(0);
    expect(clock.now()).toBe(began);
  });

  test("all attempts together have a deadline", async () => {
    const clock = new ManualClock();
    const waiting = retrying({ clock, random: () => 0 }, SOMEBODY_WAITS, o, async (signal) => {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("AbortError"))));
    });
    await clock.sleeping();
    clock.advance(SOMEBODY_WAITS.deadlineMs);
    const failure = asStorageError(await waiting.catch((error: unknown) => error), "reading x", config);
    expect(failure).toMatchObject({
      fault: "unavailable",
      message: "reading x: http://127.0.0.1:1 has not answered in time",
    });
  });
});
