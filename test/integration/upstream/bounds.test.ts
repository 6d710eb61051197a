import { describe, expect, test } from "vitest";
import type { ScriptReply } from "../../support/scripted-server.ts";
import { type Bench, failure, manifestReply, OCI_TYPE, o, openUpstream, serve, tag } from "./bench.ts";

async function registryWith(reply: ScriptReply): Promise<Bench> {
  return openUpstream((await serve([{ when: { path: "/v2/a/manifests/1" }, reply }])).url);
}

const get = (bench: Bench): Promise<unknown> => bench.upstream.getManifest("a", tag("1"), o());

/** Lets an upstream that goes on for ever write until the client hangs up. */
function endless(head: string, piece: () => string | Buffer): ScriptReply {
  return {
    raw: (socket) => {
      socket.write(head);
      const more = (): void => {
        while (!socket.destroyed && socket.write(piece()));
      };
      socket.on("drain", more);
      more();
    },
  };
}

describe("U9 bounds on what an upstream sends", () => {
  test("headers of 32 KiB pass", async () => {
    const headers = { ...manifestReply.headers, "x-long": "x".repeat(32 * 1024) };
    await get(await registryWith({ ...manifestReply, headers }));
  });

  test("headers beyond limits.responseHeaders do not, and the error names the key", async () => {
    const error = await failure(
      get(await registryWith({ ...manifestReply, headers: { "x-long": "x".repeat(70_000) } })),
    );
    expect(error.fault).toBe("bad-answer");
    expect(error.message).toContain("limits.responseHeaders");
  });

  test("1000 headers do not", async () => {
    const headers = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`x-${n}`, "1"]));
    const error = await failure(get(await registryWith({ ...manifestReply, headers })));
    expect(error.fault).toBe("bad-answer");
    expect(error.message).toContain("512");
  });

  test("nor do 1000 lines of one header", async () => {
    const headers = { "x-many": Array.from({ length: 1000 }, () => "1") };
    expect((await failure(get(await registryWith({ ...manifestReply, headers })))).fault).toBe("bad-answer");
  });

  test("a header without end is cut off", async () => {
    const bench = await registryWith(endless("HTTP/1.1 200 OK\r\nx-endless: ", () => "x".repeat(16 * 1024)));
    expect((await failure(get(bench))).fault).toBe("bad-answer");
  });

  test.each([
    ["no answer", { hang: true }],
    ["a header of which a byte comes now and then", { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\nx-slow: a") }],
    ["interim answers for ever", { raw: (socket) => socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(50)) }],
  ] satisfies [string, ScriptReply][])("%s: the time-out holds for the headers as a whole", async (_, reply) => {
    const registry = await serve([{ when: { path: "/v2/a/manifests/1" }, reply }]);
    const bench = openUpstream(registry.url);
    const failed = failure(get(bench));
    await expect.poll(() => registry.ledger.length).toBe(1);
    bench.clock.turn(15_000);
    expect(await failed).toMatchObject({ fault: "timeout", trouble: true });
    expect(bench.exchanges).toHaveLength(1);
    expect(bench.exchanges[0]).toMatchObject({ status: undefined, fault: "timeout", durationMs: 15_000 });
  });

  test("a manifest of 1 GiB is refused by its length, unread", async () => {
    const head = `HTTP/1.1 200 OK\r\ncontent-type: ${OCI_TYPE}\r\ncontent-length: ${2 ** 30}\r\n\r\n`;
    const bench = await registryWith(endless(head, () => Buffer.alloc(64 * 1024, "x")));
    const error = await failure(get(bench));
    expect(error.fault).toBe("bad-answer");
    expect(error.message).toContain("limits.manifestSize");
    expect(bench.received.get("manifest") ?? 0).toBeLessThan(1 << 20);
  });

  test("a chunked body without end is cut off at the limit", async () => {
    const head = `HTTP/1.1 200 OK\r\ncontent-type: ${OCI_TYPE}\r\ntransfer-encoding: chunked\r\n\r\n`;
    const bench = await registryWith(endless(head, () => `4000\r\n${"x".repeat(0x4000)}\r\n`));
    expect((await failure(get(bench))).fault).toBe("bad-answer");
    expect(bench.received.get("manifest")).toBeLessThan(6 << 20);
  });

  test("a body that trickles is given up, though it never stalls", async () => {
    const head = `HTTP/1.1 200 OK\r\ncontent-type: ${OCI_TYPE}\r\ncontent-length: 1000\r\n\r\n{`;
    const bench = await registryWith({ raw: (socket) => socket.write(head) });
    const failed = failure(get(bench));
    await expect.poll(() => bench.received.get("manifest")).toBe(1);
    bench.clock.turn(60_000);
    expect((await failed).fault).toBe("timeout");
  });

  test("an error page without end costs no more than an error", async () => {
    const head = "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n";
    const bench = await registryWith(endless(head, () => `4000\r\n${"x".repeat(0x4000)}\r\n`));
    expect((await failure(get(bench))).fault).toBe("absent");
    expect(bench.received.get("manifest")).toBeLessThan(1 << 20);
  });

  test("what is no HTTP at all", async () => {
    const bench = await registryWith({ raw: (socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n") });
    expect((await failure(get(bench))).fault).toBe("bad-answer");
  });
});

describe("no answer", () => {
  test("a port that nobody listens on", async () => {
    const gone = await serve([]);
    await gone.close();
    const bench = openUpstream(gone.url);
    const error = await failure(get(bench));
    expect(error).toMatchObject({ fault: "connect", trouble: true });
    expect(error.message).toContain("ECONNREFUSED");
    expect(bench.exchanges).toHaveLength(1);
  });

  test("a name that does not resolve", async () => {
    const lookup = (): Promise<never> => Promise.reject(Object.assign(new Error("x"), { code: "ENOTFOUND" }));
    const bench = openUpstream(new URL("http://reg.example"), {}, { lookup });
    expect(await failure(get(bench))).toMatchObject({ fault: "connect" });
  });

  test("a host that does not answer the handshake", async () => {
    const lookup = (): Promise<never> => new Promise(() => {});
    const timeouts = { connectMs: 50, headersMs: 15_000, bodyMs: 30_000 };
    const bench = openUpstream(new URL("http://reg.example"), { timeouts }, { lookup });
    expect(await failure(get(bench))).toMatchObject({ fault: "timeout" });
  });
});

test("connections are used again, also after answers whose body nobody wanted", async () => {
  const registry = await serve([
    { when: { path: "/v2/a/manifests/1" }, reply: { status: 404, body: "x".repeat(1000) }, once: true },
    { when: { path: "/v2/a/manifests/1" }, reply: { status: 307, headers: { location: "/x" }, body: "moved" } },
    { when: { path: "/x" }, reply: manifestReply },
  ]);
  const bench = openUpstream(registry.url);
  await failure(get(bench));
  await get(bench);
  await get(bench);
  expect(new Set(registry.ledger.map(({ connection }) => connection)).size).toBeLessThanOrEqual(2);
});
