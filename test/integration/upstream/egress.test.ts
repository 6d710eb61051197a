import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import { type Authority, type Certificate, createAuthority } from "../../support/certificates.ts";
import { startConnectProxy } from "../../support/connect-proxy.ts";
import { until } from "../../support/processes.ts";
import { serve } from "./bench.ts";
import { openTransport } from "./transport-bench.ts";

let stack: AsyncDisposableStack;
let authority: Authority;
let certificate: Certificate;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  authority = await createAuthority(stack);
  certificate = await authority.issue(["reg.example", "cdn.example", "127.0.0.1"]);
});

afterEach(() => stack.disposeAsync());

const HELLO = { when: { path: "/hello" }, reply: { body: "hello" } };

/** No name is known to this machine: whoever gets through was resolved by the proxy. */
const nothing = async (hostname: string): Promise<never> => {
  throw Object.assign(new Error(`${hostname} was looked up`), { code: "ENOTFOUND" });
};

async function registry() {
  return await serve([HELLO], { tls: certificate });
}

async function fault(call: Promise<unknown>): Promise<[string, string]> {
  const error = await call.catch((reason: unknown) => reason);
  if (!(error instanceof UpstreamError)) throw new Error(`not an UpstreamError: ${String(error)}`);
  return [error.fault, error.message];
}

describe("https through a proxy", () => {
  test("is a tunnel to the name, and TLS in it is the registry's own", async () => {
    const { port, ledger } = await registry();
    const proxy = await startConnectProxy(stack);
    const { get } = openTransport(stack, {
      upstream: { proxy: proxy.url.href, tls: { ca: authority.caFile } },
      lookup: nothing,
    });
    for (let i = 0; i < 6; i += 1) {
      expect(await get(`https://reg.example:${port}/hello`, "own", { authorization: "Bearer t" })).toEqual([
        200,
        "hello",
      ]);
    }
    // A tunnel is used again like any connection.
    const connections = new Set(ledger.map(({ connection }) => connection)).size;
    expect(connections).toBeLessThan(6);
    expect(proxy.lines).toEqual(Array(connections).fill(`CONNECT reg.example:${port}`));
    expect(proxy.ledger[0]?.headers).toEqual({ host: `reg.example:${port}`, connection: expect.anything() });
  });

  test("A4 the proxy's user name and password go to the proxy, and the registry's to the registry", async () => {
    const { port, ledger } = await registry();
    const proxy = await startConnectProxy(stack, { account: "me:s3cret" });
    const { get } = openTransport(stack, {
      upstream: { proxy: proxy.url.href.replace("//", "//me:s3cret@"), tls: { ca: authority.caFile } },
    });
    await get(`https://127.0.0.1:${port}/hello`, "own", { authorization: "Bearer t" });
    expect(proxy.ledger[0]).toMatchObject({ credentials: `Basic ${Buffer.from("me:s3cret").toString("base64")}` });
    expect(JSON.stringify(proxy.ledger)).not.toContain("Bearer");
    expect(ledger[0]?.headers).toMatchObject({ authorization: "Bearer t" });
    expect(JSON.stringify(ledger[0]?.headers)).not.toContain("proxy-authorization");
  });

  test("the way to the proxy may be https itself", async () => {
    const { port } = await registry();
    const proxy = await startConnectProxy(stack, { tls: certificate });
    const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href, tls: { ca: authority.caFile } } });
    expect(await get(`https://127.0.0.1:${port}/hello`)).toEqual([200, "hello"]);
    expect(proxy.lines).toEqual([`CONNECT 127.0.0.1:${port}`]);
  });

  test("insecureSkipVerify is about the upstream: the proxy's certificate is checked all the same", async () => {
    const { port } = await registry();
    const proxy = await startConnectProxy(stack, { tls: certificate });
    const { get } = openTransport(stack, {
      upstream: { proxy: proxy.url.href, tls: { insecureSkipVerify: true } },
    });
    const [kind, message] = await fault(get(`https://127.0.0.1:${port}/hello`));
    expect([kind, proxy.lines]).toEqual(["connect", []]);
    expect(message).toContain(`the proxy ${proxy.url.host} cannot be reached`);
  });

  test("the environment's is used, and its exceptions are not", async () => {
    const { port } = await registry();
    const proxy = await startConnectProxy(stack);
    const { get } = openTransport(stack, {
      upstream: { tls: { ca: authority.caFile } },
      env: { HTTPS_PROXY: proxy.url.href, no_proxy: "cdn.example" },
      lookup: async () => [{ address: "127.0.0.1", family: 4 }],
    });
    await get(`https://reg.example:${port}/hello`);
    await get(`https://cdn.example:${port}/hello`);
    expect(proxy.lines).toEqual([`CONNECT reg.example:${port}`]);
  });
});

describe("plain http through a proxy", () => {
  test("A4 is asked for by its whole address, with the proxy's credentials on each request", async () => {
    const { port, ledger } = await serve([HELLO]);
    const proxy = await startConnectProxy(stack, { account: "me:s3cret" });
    const { get } = openTransport(stack, {
      upstream: { proxy: proxy.url.href.replace("//", "//me:s3cret@") },
      lookup: nothing,
    });
    for (let i = 0; i < 2; i += 1) {
      expect(await get(`http://reg.example:${port}/hello?x=1`)).toEqual([200, "hello"]);
    }
    expect(proxy.lines).toEqual(Array(2).fill(`GET http://reg.example:${port}/hello?x=1`));
    expect(ledger.map(({ headers }) => headers.host)).toEqual(Array(2).fill(`reg.example:${port}`));
    expect(JSON.stringify(ledger.map(({ headers }) => headers))).not.toContain("proxy-authorization");
  });

  test("407 is the proxy's, whatever the registry is", async () => {
    const proxy = await startConnectProxy(stack, { account: "me:s3cret" });
    const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href } });
    const [kind, message] = await fault(get("http://127.0.0.1:1/hello"));
    expect(kind).toBe("connect");
    expect(message).toContain(`the proxy ${proxy.url.host} wants a user name and password`);
  });
});

describe("a proxy that fails is a connect fault that names it", () => {
  test.each([
    ["refuses by its rules", { refuse: 403 }, /answers 403 when asked for reg\.example:443/],
    ["cannot reach it", { refuse: 502 }, /answers 502/],
    ["wants to know who asks", { account: "me:s3cret" }, /wants a user name and password/],
    ["says something before TLS", { chatter: "hello" }, /sends bytes that nobody asked for/],
  ])("%s", async (_, options, why) => {
    const proxy = await startConnectProxy(stack, { ...options, resolve: () => "127.0.0.1" });
    const port = "chatter" in options ? `:${(await registry()).port}` : "";
    const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href }, lookup: nothing });
    const [kind, message] = await fault(get(`https://reg.example${port}/hello`));
    expect(kind).toBe("connect");
    expect(message).toContain(`the proxy ${proxy.url.host} `);
    expect(message).toMatch(why);
  });

  test("A4 is not there, and its password is in no message", async () => {
    const { get } = openTransport(stack, { upstream: { proxy: "http://me:s3cret@127.0.0.1:1" } });
    const [kind, message] = await fault(get("https://reg.example/hello"));
    expect(kind).toBe("connect");
    expect(message).toContain("the proxy 127.0.0.1:1 cannot be reached (ECONNREFUSED)");
    expect(message).not.toMatch(/s3cret|me:/);
  });

  test("takes the request and never answers", async () => {
    const proxy = await startConnectProxy(stack, { hang: true });
    const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href, timeouts: { connect: "1s" } } });
    const [kind, message] = await fault(get("https://127.0.0.1:1/hello"));
    expect(kind).toBe("connect");
    expect(message).toContain("does not answer when asked for 127.0.0.1:1");
  });
});

test("TLS that fails in a tunnel is the registry's fault, and takes the tunnel along", async () => {
  const { port } = await registry();
  const proxy = await startConnectProxy(stack);
  const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href } });
  expect((await fault(get(`https://127.0.0.1:${port}/hello`)))[0]).toBe("tls");
  await until("the tunnel to be closed", () => proxy.connections === 0);
});

describe("U3 address rules behind a proxy", () => {
  test("literal addresses are judged as anywhere, and the proxy is not asked", async () => {
    const proxy = await startConnectProxy(stack);
    const { get } = openTransport(stack, { upstream: { proxy: proxy.url.href } });
    for (const url of ["https://169.254.169.254/x", "http://127.0.0.1/x", "https://[::ffff:10.0.0.1]/x"]) {
      expect((await fault(get(url, "foreign")))[0]).toBe("refused");
    }
    expect(proxy.ledger).toEqual([]);
  });

  test("names that mean this machine are not the proxy's to resolve, unless they are listed", async () => {
    const { port } = await registry();
    const proxy = await startConnectProxy(stack);
    const upstream = { proxy: proxy.url.href, tls: { insecureSkipVerify: true } };
    const url = `https://localhost:${port}/hello`;
    expect((await fault(openTransport(stack, { upstream }).get(url, "foreign")))[0]).toBe("refused");
    expect(proxy.ledger).toEqual([]);
    const listed = { ...upstream, redirects: { allow: ["localhost"] } };
    expect(await openTransport(stack, { upstream: listed }).get(url, "foreign")).toEqual([200, "hello"]);
  });

  test("R2 a dynamic upstream's name is resolved here, and the proxy gets the address", async () => {
    const { port } = await registry();
    const proxy = await startConnectProxy(stack);
    const addresses = new Map([
      ["reg.example", "127.0.0.1"],
      ["cdn.example", "10.0.0.1"],
    ]);
    const { get } = openTransport(stack, {
      upstream: { proxy: proxy.url.href, tls: { ca: authority.caFile } },
      dynamic: true,
      classify: (address) => (address === "127.0.0.1" ? "public" : "private"),
      lookup: async (hostname) => {
        const address = addresses.get(hostname);
        return address === undefined ? await nothing(hostname) : [{ address, family: 4 }];
      },
    });
    expect(await get(`https://reg.example:${port}/hello`)).toEqual([200, "hello"]);
    expect((await fault(get(`https://cdn.example:${port}/hello`, "foreign")))[0]).toBe("refused");
    expect((await fault(get(`https://nowhere.example:${port}/hello`)))[0]).toBe("connect");
    expect((await fault(get(`http://reg.example:${port}/hello`)))[0]).toBe("refused");
    expect(proxy.lines).toEqual([`CONNECT 127.0.0.1:${port}`]);
  });
});
