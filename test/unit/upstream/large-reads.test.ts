import { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { type BodyOnItsWay, LargeReads, type ReadingConnection } from "../../../src/upstream/large-reads.ts";
import { ReceiveMemory } from "../../../src/upstream/receive-memory.ts";

const KiB = 1024;

/** A connection as Node and a parser use it: `arrive` is a read, `parser` is called for what it brings. */
class Wire {
  readonly socket = new Socket();
  readonly #connection: ReadingConnection;
  #buffer: Uint8Array;
  parser: (socket: Socket) => void = () => {};

  constructor(reads: LargeReads) {
    this.#connection = reads.connection();
    this.#buffer = this.#ask();
    this.#connection.attach(this.socket);
    this.socket.on("readable", () => this.parser(this.socket));
  }

  /** What the next read goes into. */
  get room(): number {
    return this.#buffer.length;
  }

  arrive(length: number, value: number): boolean {
    const { callback } = this.#connection.options.onread;
    this.#buffer.fill(value, 0, length);
    const goOn = callback(length, this.#buffer);
    this.#buffer = this.#ask();
    return goOn;
  }

  #ask(): Uint8Array {
    const { buffer } = this.#connection.options.onread;
    return buffer instanceof Uint8Array ? buffer : buffer();
  }
}

interface Parsing {
  readonly wire: Wire;
  readonly body: BodyOnItsWay | undefined;
  readonly got: Buffer[];
  paused: boolean;
}

/** Has read the headers of a body of `length` bytes; keeps what it gets as it is. */
function inBody(reads: LargeReads, length: number | undefined): Parsing {
  const wire = new Wire(reads);
  let body: BodyOnItsWay | undefined;
  const got: Buffer[] = [];
  const parsing = { wire, got, paused: false };
  wire.parser = (socket) => {
    socket.read();
    body = reads.bodyBegins(length, () => parsing.paused);
  };
  wire.arrive(100, 1);
  wire.parser = (socket) => {
    for (let read = parsing.paused ? null : socket.read(); read !== null; read = socket.read()) {
      got.push(read);
      body?.took(read.length);
    }
  };
  return Object.assign(parsing, { body });
}

describe("connections that read into memory that all of them use", () => {
  test("use large memory in bodies that are long, and only there", () => {
    const reads = new LargeReads(new ReceiveMemory());
    expect(new Wire(reads).room).toBe(64 * KiB);
    expect(inBody(reads, 64 * KiB).wire.room).toBe(64 * KiB);
    expect(inBody(reads, undefined).wire.room).toBe(64 * KiB);
    const { wire } = inBody(reads, 1000 * KiB);
    const rooms = [wire.room];
    for (const kib of [256, 256, 256, 180, 52]) {
      wire.arrive(kib * KiB, 2);
      rooms.push(wire.room);
    }
    expect(rooms).toEqual([256, 256, 256, 256, 64, 64].map((kib) => kib * KiB));
  });

  test("hand a body's bytes on as they are, before anybody else reads", () => {
    const memory = new ReceiveMemory();
    const { wire, got } = inBody(new LargeReads(memory), 1000 * KiB);
    expect(wire.arrive(200 * KiB, 2)).toBe(true);
    expect([got.length, got[0]?.buffer === memory.large.buffer]).toEqual([1, true]);
  });

  test("are forgotten when their body ends before its length, as one without a body has it", () => {
    const { wire, body } = inBody(new LargeReads(new ReceiveMemory()), 1000 * KiB);
    body?.ended();
    expect(wire.arrive(256 * KiB, 2)).toBe(true);
    expect(wire.room).toBe(64 * KiB);
  });

  test("copy headers, which are kept until they are complete", () => {
    const reads = new LargeReads(new ReceiveMemory());
    const [one, other] = [new Wire(reads), new Wire(reads)];
    const kept: Buffer[] = [];
    one.parser = (socket) => void kept.push(socket.read());
    one.arrive(64 * KiB, 1);
    other.arrive(64 * KiB, 2);
    expect(kept.map((read) => read.equals(Buffer.alloc(64 * KiB, 1)))).toEqual([true]);
  });

  test("copy what lies beyond the body's end", () => {
    const memory = new ReceiveMemory();
    const { wire, got } = inBody(new LargeReads(memory), 100 * KiB);
    wire.arrive(101 * KiB, 2);
    expect(got.map((read) => read.buffer === memory.large.buffer)).toEqual([false]);
  });

  test("copy what a reader leaves lying, and stop before it is much", () => {
    const reads = new LargeReads(new ReceiveMemory());
    const one = inBody(reads, 1000 * KiB);
    one.wire.parser = () => {};
    expect(one.wire.arrive(200 * KiB, 2)).toBe(false);
    inBody(reads, 1000 * KiB).wire.arrive(256 * KiB, 3);
    expect((one.wire.socket.read() as Buffer).equals(Buffer.alloc(200 * KiB, 2))).toBe(true);
  });

  test("stop reading when the reader has paused, and lose nothing of what comes all the same", () => {
    const reads = new LargeReads(new ReceiveMemory());
    const one = inBody(reads, 1000 * KiB);
    const parser = one.wire.parser;
    one.wire.parser = (socket) => {
      parser(socket);
      one.paused = true;
    };
    expect(one.wire.arrive(200 * KiB, 2)).toBe(false);
    expect(one.wire.room).toBe(64 * KiB);
    expect([one.wire.arrive(10 * KiB, 3), one.wire.arrive(60 * KiB, 4)]).toEqual([false, false]);
    inBody(reads, 1000 * KiB).wire.arrive(64 * KiB, 5);
    const left: Buffer = one.wire.socket.read();
    expect(left.equals(Buffer.concat([Buffer.alloc(10 * KiB, 3), Buffer.alloc(60 * KiB, 4)]))).toBe(true);
  });
});
