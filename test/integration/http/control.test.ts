import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CallOptions } from "../../../src/base/call.ts";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { createAdminServer } from "../../../src/http/admin.ts";
import { type Upkeep, UpkeepError } from "../../../src/proxy/upkeep/upkeep.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { fakePage } from "../../support/fake-page.ts";
import { fakeUpkeep } from "../../support/fake-upkeep.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";

const TOKEN = "configured-token-0123456789";
const HOLDERS = "a-token-for-this-start-only";

let stack: AsyncDisposableStack;
/** What the routes asked for. */
let asked: unknown[];

beforeEach(() => {
  stack = new AsyncDisposableStack();
  asked = [];
});

afterEach(() => stack.disposeAsync());

async function startAdmin(tokens: readonly string[], upkeep: Partial<Upkeep> = {}): Promise<string> {
  const told = (name: string) =>
    async function* ({ signal: _, ...question }: CallOptions) {
      asked.push({ [name]: question });
      yield { done: true } as never;
    };
  const server = createAdminServer({
    config: { listen: { host: "127.0.0.1", port: 0 } },
    metrics: { expose: () => Promise.reject(new Error("not asked for")) },
    observer: { denied: () => {} },
    admit: () => {},
    ready: () => ({ ready: true, reasons: [] }),
    setup: { config: () => Promise.reject(new Error("not asked for")) as never, server: () => ({}) as never },
    control: {
      upkeep: fakeUpkeep({
        gc: told("gc"),
        verify: told("verify"),
        stats: told("stats"),
        purge: told("purge"),
        refresh: told("refresh"),
        pin: told("pin"),
        unpin: told("unpin"),
        pins: told("pins"),
        import: told("import"),
        ...upkeep,
      }),
      tokens: tokens.map((token) => new Secret(token)),
    },
    page: fakePage(),
    log: silentLog,
    clock: systemClock,
    newRequestId: () => "id",
  });
  const { port } = await server.listen();
  stack.defer(() => server.stop(0));
  return `http://127.0.0.1:${port}`;
}

function post(url: string, body: string, token: string | undefined = TOKEN): Promise<HttpReply> {
  return httpRequest(url, {
    method: "POST",
    body: Buffer.from(body),
    headers: token === "" ? {} : { authorization: `Bearer ${token}` },
  });
}

function messageOf(reply: HttpReply): string {
  return JSON.parse(reply.body.toString()).errors[0].message;
}

describe("who may", () => {
  test("with no token at all nobody, and admin.token is named", async () => {
    const url = await startAdmin([]);
    const reply = await post(`${url}/control/gc`, "{}");
    expect(reply.status).toBe(403);
    expect(messageOf(reply)).toContain("admin.token");
  });

  test.each([
    ["no token", "", "admin.token"],
    ["another one", "something-else", "admin.token"],
    ["a part of it", TOKEN.slice(0, -1), "admin.token"],
  ])("%s is 401, and asks for one", async (_, token, named) => {
    const url = await startAdmin([TOKEN, HOLDERS]);
    for (const path of ["/control/gc", "/control/verify", "/control/purge", "/control/refresh", "/control/import"]) {
      const reply = await post(`${url}${path}`, "{}", token);
      expect([reply.status, reply.headers["www-authenticate"]]).toEqual([401, 'Bearer realm="weir"']);
      expect(messageOf(reply)).toContain(named);
      expect(reply.body.toString()).not.toContain(TOKEN);
    }
    expect((await httpRequest(`${url}/control/stats`)).status).toBe(401);
    expect(asked).toEqual([]);
  });

  test.each([TOKEN, HOLDERS])("each of the tokens opens it", async (token) => {
    const url = await startAdmin([TOKEN, HOLDERS]);
    expect((await post(`${url}/control/gc`, "", token)).status).toBe(200);
  });

  test("the other routes stay open, and say what there is", async () => {
    const url = await startAdmin([TOKEN]);
    expect((await httpRequest(`${url}/healthz`)).status).toBe(200);
    const wrong = await httpRequest(`${url}/control/gc`);
    expect([wrong.status, wrong.headers.allow]).toEqual([405, "POST"]);
    expect(messageOf(await httpRequest(`${url}/nothing`))).toContain("/control/");
  });
});

describe("what is asked", () => {
  test.each([
    ["gc", "", { dryRun: false }],
    ["gc", '{"dryRun":true}', { dryRun: true }],
    ["verify", '{"rate":4096}', { bytesPerS: 4096 }],
    ["purge", '{"reference":"a/b:c","dryRun":true}', { reference: "a/b:c", dryRun: true }],
    ["refresh", '{"reference":"**"}', { reference: "**" }],
    ["pin", '{"reference":"a/b:c"}', { reference: "a/b:c" }],
    ["unpin", '{"reference":"a/b:c"}', { reference: "a/b:c" }],
    [
      "import",
      '{"folder":"/var/lib/registry","as":"docker.io","fromProxy":true}',
      { folder: "/var/lib/registry", as: "docker.io", fromProxy: true, verify: false, dryRun: false },
    ],
  ])("%s %s", async (name, body, question) => {
    const url = await startAdmin([TOKEN]);
    const reply = await post(`${url}/control/${name}`, body);
    expect([reply.status, reply.headers["content-type"]]).toEqual([200, "application/x-ndjson"]);
    expect(reply.body.toString()).toBe('{"done":true}\n');
    expect(asked).toEqual([{ [name]: question }]);
  });

  test("pins", async () => {
    const url = await startAdmin([TOKEN]);
    expect((await httpRequest(`${url}/control/pins`)).status).toBe(401);
    const reply = await httpRequest(`${url}/control/pins`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect([reply.status, reply.body.toString()]).toEqual([200, '{"done":true}\n']);
    expect(asked).toEqual([{ pins: {} }]);
  });

  test("stats", async () => {
    const url = await startAdmin([TOKEN]);
    const headers = { authorization: `bearer ${TOKEN}` };
    expect((await httpRequest(`${url}/control/stats?repositories=5`, { headers })).status).toBe(200);
    expect((await httpRequest(`${url}/control/stats?repositories=x`, { headers })).status).toBe(400);
    expect(asked).toEqual([{ stats: { repositories: 5 } }]);
  });

  test.each([
    ["gc", '{"dryrun":true}', "dryrun"],
    ["gc", '{"dryRun":"yes"}', "dryRun"],
    ["gc", "[]", "JSON object"],
    ["gc", "{", "JSON object"],
    ["gc", `{"dryRun":${" ".repeat(20_000)}true}`, "16384 bytes"],
    ["verify", '{"rate":-1}', "rate"],
    ["purge", "{}", "reference"],
    ["pin", '{"ref":"a/b:c"}', "reference"],
    ["import", '{"folder":7,"as":"docker.io"}', "folder"],
  ])("%s %s is 400, and nothing is done", async (name, body, named) => {
    const url = await startAdmin([TOKEN]);
    const reply = await post(`${url}/control/${name}`, body);
    expect(reply.status).toBe(400);
    expect(messageOf(reply)).toContain(named);
    expect(asked).toEqual([]);
  });
});

describe("what is answered", () => {
  test("lines come while the work goes on, and the work ends when the caller leaves", async () => {
    const ended = Promise.withResolvers<unknown>();
    const url = await startAdmin([TOKEN], {
      async *verify({ signal }) {
        try {
          yield { event: "first" } as never;
          await new Promise((_, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
          });
        } catch (error) {
          ended.resolve(error);
          throw error;
        }
      },
    });
    const leaving = new AbortController();
    const response = await fetch(`${url}/control/verify`, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}` },
      signal: leaving.signal,
    });
    const reader = response.body?.getReader();
    const { value } = (await reader?.read()) ?? {};
    expect(Buffer.from(value ?? []).toString()).toBe('{"event":"first"}\n');
    leaving.abort();
    expect(await ended.promise).toBeInstanceOf(Error);
  });

  test("a question that makes no sense is 400 with its sentence", async () => {
    const url = await startAdmin([TOKEN], {
      // biome-ignore lint/correctness/useYield: it never comes to that
      async *purge() {
        throw new UpkeepError("this is no reference");
      },
    });
    const reply = await post(`${url}/control/purge`, '{"reference":"%"}');
    expect([reply.status, messageOf(reply)]).toEqual([400, "this is no reference"]);
  });

  test.each([
    [new StorageError("unavailable", "the disk is on fire"), "the disk is on fire"],
    [new Error("secret detail"), "its log says why"],
  ])("a failure on the way is the last line", async (error, told) => {
    const url = await startAdmin([TOKEN], {
      async *gc() {
        yield { event: "first" } as never;
        throw error;
      },
    });
    const lines = (await post(`${url}/control/gc`, "{}")).body.toString().trim().split("\n");
    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[1] ?? "").error).toContain(told);
    expect(lines[1]).not.toContain("secret detail");
  });
});
