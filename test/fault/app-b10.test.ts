import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, type CdnAnswer, startBlobOrigin } from "../support/blob-origin.ts";
import { type RawReply, rawExchange } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { heldBlobs } from "../support/store-files.ts";

const MiB = 1024 * 1024;
const SIZE = 3 * MiB;
/** Bytes at a blob's end that nobody gets before the digest agrees. */
const TAIL = 64 * 1024;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: TestApp;
let blob: BlobContent;

beforeEach(async (context) => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startTestApp(stack, {
    config: {
      upstreams: { "registry.example": origin.upstream },
      download: { stalledAttempts: 1 },
    },
  });
  blob = seededBlob(context.task.name, SIZE);
  origin.add("app", blob);
});

afterEach(() => stack.disposeAsync());

function pull(version: "1.0" | "1.1"): Promise<RawReply> {
  const path = `/v2/registry.example/app/blobs/${blob.digest}`;
  return rawExchange(weir.url, `GET ${path} HTTP/${version}\r\nHost: a\r\nConnection: close\r\n\r\n`);
}

/** The content of a body in chunks, and whether its last chunk says that it is the last. */
function dechunked(body: Buffer): { content: Buffer; ended: boolean } {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; ) {
    const lineEnd = body.indexOf("\r\n", at);
    if (lineEnd < 0) break;
    const length = Number.parseInt(body.toString("latin1", at, lineEnd), 16);
    if (length === 0) return { content: Buffer.concat(parts), ended: true };
    parts.push(body.subarray(lineEnd + 2, lineEnd + 2 + length));
    at = lineEnd + 2 + length + 2;
  }
  return { content: Buffer.concat(parts), ended: false };
}

const CASES: readonly [string, CdnAnswer, "1.0" | "1.1"][] = [
  ["HTTP/1.1 with a length", {}, "1.1"],
  ["HTTP/1.1 without a length", { chunked: true }, "1.1"],
  ["HTTP/1.0 with a length", {}, "1.0"],
  ["HTTP/1.0 without a length", { chunked: true }, "1.0"],
];

describe.each(CASES)("B10 %s", (_, answer, version) => {
  const chunked = answer.chunked === true && version === "1.1";

  test("a right body ends in order", async () => {
    origin.answer(blob, answer);
    const { head, body, end } = await pull(version);
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    // To HTTP/1.0 the length is always told: it could not tell the end from a break.
    const told = answer.chunked !== true || version === "1.0";
    expect(/^content-length: (\d+)\r$/im.exec(head)?.[1]).toBe(told ? String(SIZE) : undefined);
    expect(/^transfer-encoding: chunked\r$/im.test(head)).toBe(chunked);
    const content = chunked ? dechunked(body) : { content: body, ended: true };
    expect(content.ended).toBe(true);
    expect(content.content.equals(blob.read(0, SIZE))).toBe(true);
    expect(end).toBe("fin");
    expect(origin.ledger).toEqual([[0, SIZE]]);
    await fillsOver(weir);
    expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  });

  test.each<[string, CdnAnswer[]]>([
    ["wrong bytes", [{ ...answer, wrongByteAt: SIZE - 1 }]],
    ["an upstream that is gone for good", [{ ...answer, cutAt: SIZE - 1 }, { status: 500 }, { status: 500 }]],
  ])("%s: the tail is held back and the connection reset, with nothing said into the body", async (_name, answers) => {
    origin.answer(blob, ...answers);
    const { head, body, end } = await pull(version);
    expect(end).toBe(version === "1.0" && answer.chunked === true ? "fin" : "rst");
    if (end === "fin") {
      // Nobody was told anything before the end was known.
      expect(head).toMatch(/^HTTP\/1\.1 502 /);
      expect(JSON.parse(body.toString())).toMatchObject({ errors: [{ code: "UNAVAILABLE" }] });
      return;
    }
    const content = chunked ? dechunked(body) : { content: body, ended: false };
    expect(content.ended).toBe(false);
    expect(content.content.length).toBeLessThanOrEqual(SIZE - TAIL);
    expect(content.content.equals(blob.read(0, content.content.length))).toBe(true);
    await fillsOver(weir);
    expect(await heldBlobs(weir.root)).toEqual([]);
  });
});
