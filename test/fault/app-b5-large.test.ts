import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobContent, stampedBlob } from "../support/fill-sources.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { until } from "../support/processes.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";
import { startWeir, usualNodeOptions, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
const SIZE = 4096 * MiB;
/** Read all of it, one of them joining when half is there. All hundred would be 400 GiB through one loopback. */
const WHOLE_READERS = 6;
/** Stop after so many times their number and stand still, every one at a place of its own, until the others are done. */
const STEP = 4 * MiB;
const READERS = 100;
const MAX_RSS_MIB = 300;
/** Bytes compared at the start of each piece of the body; one reader hashes all of it. */
const SAMPLE = 64;

/** A client that takes `bytes` of the blob as fast as it can, comparing samples, and then stands still. */
class SampledReader {
  /** Resolves when it has so many bytes; rejects at a wrong one, or when the connection ends before. */
  readonly done: Promise<void>;
  readonly leave: () => void;
  #at = 0;

  constructor(weir: WeirProcess, blob: BlobContent, bytes: number, onBytes: (bytes: Uint8Array) => void = () => {}) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.done = promise;
    const [host = "", port = ""] = weir.host.split(":");
    let head = "";
    let inBody = false;
    const socket = connect({
      host,
      port: Number(port),
      onread: {
        buffer: Buffer.allocUnsafe(MiB / 2),
        callback: (length, buffer) => {
          let body = buffer.subarray(0, length);
          if (!inBody) {
            // The headers are flushed before there is a body.
            const end = Buffer.from(body).indexOf("\r\n\r\n");
            head += Buffer.from(body).toString("latin1", 0, end < 0 ? length : end);
            if (end < 0) return true;
            inBody = true;
            if (!head.startsWith("HTTP/1.1 200 ")) reject(new Error(head));
            body = body.subarray(end + 4);
          }
          const sample = Math.min(SAMPLE, body.length);
          if (!blob.read(this.#at, this.#at + sample).equals(body.subarray(0, sample))) {
            reject(new Error(`a wrong byte behind ${this.#at}`));
          }
          onBytes(body);
          this.#at += body.length;
          if (this.#at < bytes) return true;
          resolve();
          return false;
        },
      },
    });
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`the connection ended after ${this.#at} bytes`)));
    socket.write(`GET /v2/registry.example/app/blobs/${blob.digest} HTTP/1.1\r\nHost: ${weir.host}\r\n\r\n`);
    this.leave = () => socket.destroy();
  }
}

/** The most memory that the process has had so far. */
function peakRssMiB(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

test("B5 a hundred HTTP clients of one cold blob of 4 GiB: one download, in less than 300 MiB of memory", async () => {
  await using stack = new AsyncDisposableStack();
  const origin = await startBlobOrigin(stack);
  const weir = await startWeir(stack, {
    nodeOptions: usualNodeOptions(),
    config: { upstreams: { "registry.example": origin.upstream } },
  });
  const blob = stampedBlob("b5", SIZE);
  origin.add("app", blob);
  origin.sendUpTo(0);
  const hash = createHash("sha256");
  const whole = [new SampledReader(weir, blob, SIZE, (bytes) => hash.update(bytes))];
  while (whole.length < WHOLE_READERS - 1) whole.push(new SampledReader(weir, blob, SIZE));
  const standing = Array.from(
    { length: READERS - WHOLE_READERS },
    (_, index) => new SampledReader(weir, blob, (index + 1) * STEP),
  );
  const ends = Promise.all([...whole, ...standing].map(({ done }) => done));
  const readers = async (): Promise<number> => await metricOf(weir.adminUrl, "weir_fill_readers");
  await until("all but the last to be reading", async () => (await readers()) === READERS - 1);
  origin.sendUpTo(SIZE / 2);
  await until("half of it to be sent", () => origin.sent === SIZE / 2, 240_000);
  const last = new SampledReader(weir, blob, SIZE);
  await until("the last to be reading", async () => (await readers()) === READERS);
  origin.sendUpTo(SIZE);
  await Promise.all([ends, last.done]);
  expect(`sha256:${hash.digest("hex")}`).toBe(blob.digest);
  await fillsOver(weir);
  expect(origin.ledger).toEqual([[0, SIZE]]);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  expect(peakRssMiB(weir.process.pid)).toBeLessThan(MAX_RSS_MIB);
  expect(await readers()).toBe(READERS - WHOLE_READERS);
  for (const reader of standing) reader.leave();
  await until("everybody to have left", async () => (await readers()) === 0);
  for (const reader of [...whole, last]) reader.leave();
  expect(await spooledFiles(weir.root)).toEqual([]);
}, 480_000);
