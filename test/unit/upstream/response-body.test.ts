import { finished } from "node:stream/promises";
import { describe, expect, test } from "vitest";
import { ReceiveMemory } from "../../../src/upstream/receive-memory.ts";
import { type BodyFlow, ResponseBody } from "../../../src/upstream/response-body.ts";
import { seededBytes } from "../../support/images.ts";

const HALF = 256 * 1024;

function flowWithLedger(): { flow: BodyFlow; told: string[] } {
  const told: string[] = [];
  const flow = {
    pause: () => void told.push("pause"),
    resume: () => void told.push("resume"),
    abort: (reason: Error) => void told.push(`abort: ${reason.message}`),
  };
  return { flow, told };
}

/** A body of many pieces' size, of which the reader has `taken` pieces, and that is just receiving the next. */
async function underWay(
  taken: number,
): Promise<{ body: ResponseBody; pieces: AsyncIterator<Buffer>; memory: ReceiveMemory }> {
  const memory = new ReceiveMemory();
  const body = new ResponseBody(flowWithLedger().flow, undefined, memory);
  const pieces = body[Symbol.asyncIterator]();
  for (let n = 0; n < taken; n += 1) {
    const next = pieces.next();
    body.gather(Buffer.alloc(HALF, n));
    expect((await next).value?.at(-1)).toBe(n);
  }
  body.gather(Buffer.alloc(1000, taken));
  return { body, pieces, memory };
}

describe("a response's body", () => {
  test("is made of copies: the connection's buffer is used again after each call", async () => {
    const bytes = seededBytes("body", 3_000_000);
    const body = new ResponseBody(flowWithLedger().flow, undefined, new ReceiveMemory());
    const reading = (async () => {
      const got: Buffer[] = [];
      for await (const piece of body as AsyncIterable<Uint8Array>) got.push(Buffer.from(piece));
      return Buffer.concat(got);
    })();
    const buffer = Buffer.alloc(100_000);
    for (let at = 0; at < bytes.length; at += buffer.length) {
      const length = bytes.copy(buffer, 0, at);
      body.gather(buffer.subarray(0, length));
      buffer.fill(0);
      if (at % 300_000 === 0) await Promise.resolve();
    }
    body.complete();
    expect((await reading).equals(bytes)).toBe(true);
  });

  test("leaves a piece alone until the next is asked for, whatever arrives meanwhile", async () => {
    const { flow } = flowWithLedger();
    const body = new ResponseBody(flow, undefined, new ReceiveMemory());
    const pieces = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (const value of [1, 2, 3, 4]) {
      const next = pieces.next();
      body.gather(Buffer.alloc(1000, value));
      const { value: piece } = await next;
      const before = Buffer.from(piece);
      for (let n = 0; n < 10; n += 1) body.gather(Buffer.alloc(1000, 100 + n));
      await new Promise(setImmediate);
      expect(piece.equals(before)).toBe(true);
    }
  });

  test("leaves the first piece alone as well, where it was there before anybody listened", async () => {
    const body = new ResponseBody(flowWithLedger().flow, undefined, new ReceiveMemory());
    body.gather(Buffer.alloc(1000, 1));
    const pieces = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (let value = 2; value < 10; value += 1) {
      const { value: piece } = await pieces.next();
      const before = Buffer.from(piece);
      // The stream asks for a piece ahead when the reader begins to listen, a turn later.
      await new Promise(setImmediate);
      for (let n = 0; n < 3; n += 1) body.gather(Buffer.alloc(1000, value));
      expect(piece.equals(before)).toBe(true);
    }
  });

  test("gives a reader who was busy everything in one piece", async () => {
    const body = new ResponseBody(flowWithLedger().flow, undefined, new ReceiveMemory());
    for (const text of ["one ", "two ", "three"]) body.gather(Buffer.from(text));
    body.complete();
    const pieces: string[] = [];
    for await (const piece of body as AsyncIterable<Buffer>) pieces.push(piece.toString());
    expect(pieces).toEqual(["one two three"]);
  });

  test("pauses what nobody reads, and takes what comes all the same", async () => {
    const { flow, told } = flowWithLedger();
    const body = new ResponseBody(flow, undefined, new ReceiveMemory());
    body.gather(Buffer.alloc(HALF - 1));
    expect(told).toEqual([]);
    body.gather(Buffer.alloc(1));
    expect(told).toEqual(["pause"]);
    body.gather(Buffer.alloc(4 * HALF, 7));
    const { value } = await (body[Symbol.asyncIterator]() as AsyncIterator<Buffer>).next();
    expect([value?.length, value?.[HALF], value?.at(-1)]).toEqual([5 * HALF, 7, 7]);
    expect(told.at(-1)).toBe("resume");
  });

  test("never pauses what fits, so that its connection is free before anybody reads it", async () => {
    const { flow, told } = flowWithLedger();
    const body = new ResponseBody(flow, 2 * HALF, new ReceiveMemory());
    body.gather(Buffer.alloc(2 * HALF));
    body.complete();
    for await (const piece of body as AsyncIterable<Buffer>) expect(piece.length).toBe(2 * HALF);
    await finished(body);
    expect(told.filter((what) => what !== "resume")).toEqual([]);
  });

  test("that breaks before anybody looks at it fails its reader, and nothing else", async () => {
    const body = new ResponseBody(flowWithLedger().flow, 10, new ReceiveMemory());
    body.destroy(new Error("broken"));
    await new Promise(setImmediate);
    await expect((body[Symbol.asyncIterator]() as AsyncIterator<Buffer>).next()).rejects.toThrow("broken");
  });

  test("that is let go of early ends its connection; one that is complete does not", () => {
    const early = flowWithLedger();
    new ResponseBody(early.flow, undefined, new ReceiveMemory()).destroy();
    expect(early.told).toEqual([expect.stringContaining("abort")]);
    const late = flowWithLedger();
    const body = new ResponseBody(late.flow, undefined, new ReceiveMemory());
    body.complete();
    body.destroy();
    expect(late.told).toEqual([]);
  });

  describe("gives back what its pieces were in", () => {
    test("as the reader goes on, so that a long body needs no more than three", async () => {
      const { pieces, memory } = await underWay(50);
      await pieces.return?.();
      expect(memory.freePieces).toBe(3);
    });

    test("at its end, when the reader has asked for more", async () => {
      const { body, pieces, memory } = await underWay(3);
      body.complete();
      expect((await pieces.next()).value?.length).toBe(1000);
      await new Promise(setImmediate);
      const free = memory.freePieces;
      expect(await pieces.next()).toEqual({ done: true, value: undefined });
      expect([free < 3, memory.freePieces]).toEqual([true, 3]);
    });

    test("when the loop over it is left", async () => {
      const { body, memory } = await underWay(3);
      for await (const piece of body) {
        expect(piece.length).toBe(1000);
        break;
      }
      expect([body.destroyed, memory.freePieces]).toEqual([true, 3]);
    });

    test("when it broke, as soon as the reader has seen it", async () => {
      const { body, pieces, memory } = await underWay(3);
      body.destroy(new Error("broken"));
      // What nobody was given yet; the reader may be busy with the rest.
      expect(memory.freePieces).toBe(1);
      await expect(pieces.next()).rejects.toThrow("broken");
      expect(memory.freePieces).toBe(3);
    });

    test("once, however often it is let go of", async () => {
      const { body, pieces, memory } = await underWay(3);
      body.destroy();
      body.release();
      await pieces.return?.();
      body.release();
      expect(memory.freePieces).toBe(3);
      expect(new Set(Array.from({ length: 3 }, () => memory.takePiece())).size).toBe(3);
    });

    test("not while the reader is busy with the last of them", async () => {
      const { body, pieces, memory } = await underWay(1);
      const { value: piece } = await pieces.next();
      body.complete();
      await new Promise(setImmediate);
      body.destroy(new Error("aborted"));
      const other = new ResponseBody(flowWithLedger().flow, undefined, memory);
      for (let n = 0; n < 5; n += 1) {
        other.gather(Buffer.alloc(HALF, 100 + n));
        other.read();
      }
      expect(piece?.equals(Buffer.alloc(1000, 1))).toBe(true);
    });
  });

  test("keeps small bodies out of the memory for large ones", async () => {
    const memory = new ReceiveMemory();
    const body = new ResponseBody(flowWithLedger().flow, 1000, memory);
    body.gather(Buffer.alloc(1000, 1));
    body.complete();
    for await (const piece of body) expect(piece.buffer.byteLength).toBe(1000);
    expect(memory.freePieces).toBe(0);
  });
});
