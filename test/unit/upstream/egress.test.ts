import { describe, expect, test } from "vitest";
import { environmentProxies, parseProxyAddress } from "../../../src/config/proxies.ts";
import { createEgress } from "../../../src/upstream/egress.ts";

/** The proxy's host and port for an address, or `direct`. */
function way(url: string, env: NodeJS.ProcessEnv, configured?: string): string {
  const proxy = configured === undefined || configured === "none" ? configured : parseProxyAddress(configured);
  if (configured !== undefined && proxy === undefined) throw new Error("no proxy's address");
  return createEgress(proxy, environmentProxies(env)).proxyFor(new URL(url))?.url.host ?? "direct";
}

const HUB = "https://registry-1.docker.io/v2/";
const BOTH = { HTTPS_PROXY: "http://secure:3128", HTTP_PROXY: "http://plain:3128" };

describe("which proxy", () => {
  test.each([
    ["none without a word", HUB, {}, undefined, "direct"],
    ["HTTPS_PROXY for https", HUB, BOTH, undefined, "secure:3128"],
    ["HTTP_PROXY for http", "http://reg.example/v2/", BOTH, undefined, "plain:3128"],
    ["HTTP_PROXY not for https", HUB, { HTTP_PROXY: "http://plain:3128" }, undefined, "direct"],
    ["lower case", HUB, { https_proxy: "http://secure:3128" }, undefined, "secure:3128"],
    ["capitals first", HUB, { https_proxy: "http://x:1", HTTPS_PROXY: "http://y:1" }, undefined, "y:1"],
    ["an empty variable is unset", HUB, { HTTPS_PROXY: "", https_proxy: "http://x:1" }, undefined, "x:1"],
    ["without a scheme", HUB, { HTTPS_PROXY: "secure:3128" }, undefined, "secure:3128"],
    ["the upstream's own wins", HUB, BOTH, "https://own:8443", "own:8443"],
    ["the upstream's own, for anything", "http://127.0.0.1:5000/", { NO_PROXY: "*" }, "http://own:1", "own:1"],
    ["none", HUB, BOTH, "none", "direct"],
    ["never this machine", "https://localhost:5000/", BOTH, undefined, "direct"],
    ["never a loopback address", "http://127.9.9.9/", BOTH, undefined, "direct"],
    ["never a loopback address in IPv6", "https://[::1]:5000/", BOTH, undefined, "direct"],
  ])("%s", (_, url, env, configured, expected) => {
    expect(way(url, env, configured)).toBe(expected);
  });

  test.each([
    ["*", "https://any.example/", "direct"],
    ["example.com", "https://example.com/", "direct"],
    ["example.com", "https://reg.EXAMPLE.com./", "direct"],
    ["example.com", "https://badexample.com/", "secure:3128"],
    [".example.com", "https://example.com/", "secure:3128"],
    [".example.com", "https://reg.example.com/", "direct"],
    ["*.example.com", "https://reg.example.com/", "direct"],
    ["*.example.com", "https://example.com/", "secure:3128"],
    ["example.com:5000", "https://example.com:5000/", "direct"],
    ["example.com:5000", "https://example.com/", "secure:3128"],
    ["example.com:443", "https://example.com/", "direct"],
    ["10.0.0.0/8", "https://10.1.2.3:5000/", "direct"],
    ["10.0.0.0/8", "https://11.1.2.3/", "secure:3128"],
    ["192.0.2.7", "https://192.0.2.7/", "direct"],
    ["fd00::/8", "https://[fd12::1]:5000/", "direct"],
    ["a.example, b.example c.example", "https://c.example/", "direct"],
    ["", "https://a.example/", "secure:3128"],
  ])("NO_PROXY=%s, %s: %s", (NO_PROXY, url, expected) => {
    expect(way(url, { ...BOTH, NO_PROXY })).toBe(expected);
    expect(way(url, { ...BOTH, no_proxy: NO_PROXY })).toBe(expected);
  });
});

describe("a proxy's address", () => {
  test("A4 user name and password are kept apart from it, as a secret", () => {
    const proxy = parseProxyAddress("http://me:p%40ss%3Aword@proxy.example:3128/");
    expect(proxy?.url.href).toBe("http://proxy.example:3128/");
    expect(proxy?.authorization?.reveal()).toBe(`Basic ${Buffer.from("me:p@ss:word").toString("base64")}`);
    expect(JSON.stringify(proxy)).not.toMatch(/me:|ss/);
  });

  test.each([
    "",
    "proxy:3128",
    "socks5://proxy:1080",
    "http://proxy/path",
    "http://proxy?x=1",
    "http://%zz@proxy",
    "none",
  ])("%j is none", (text) => {
    expect(parseProxyAddress(text)).toBeUndefined();
  });

  test("A4 a variable that is none is named without its value", () => {
    const read = (): unknown => environmentProxies({ https_proxy: "socks5://me:s3cret@proxy:1080" });
    expect(read).toThrow("https_proxy is not a proxy's address: expected one such as http://proxy.example:3128");
  });
});
