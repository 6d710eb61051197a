import { describe, expect, test } from "vitest";
import { isLoopback, parseBaseUrl, serverUrl } from "../../../../src/http/setup/base-url.ts";
import { SetupError } from "../../../../src/http/setup/setup-error.ts";
import { configOf } from "./mirrors.ts";

const TLS = { cert: "a.pem", key: "b.pem" };

describe("where clients reach the cache", () => {
  test.each<[string, object, string | undefined, string]>([
    ["its own address", { listen: "127.0.0.1:5000" }, undefined, "http://127.0.0.1:5000"],
    [
      "its own address, whatever the asker calls it",
      { listen: "10.1.2.3:5000" },
      "weir.example",
      "http://10.1.2.3:5000",
    ],
    ["https with TLS", { listen: "[2001:db8::1]:443", tls: TLS }, undefined, "https://[2001:db8::1]"],
    ["the asker's word where it listens everywhere", { listen: ":5000" }, "weir.example", "http://weir.example:5000"],
    ["the same for IPv6", { listen: "[::]:5000" }, "[2001:db8::2]", "http://[2001:db8::2]:5000"],
    ["publicUrl before all", { listen: ":5000", publicUrl: "https://c.example" }, "weir.example", "https://c.example"],
    [
      "publicUrl also with a port of chance",
      { listen: ":0", publicUrl: "https://c.example" },
      undefined,
      "https://c.example",
    ],
  ])("%s", (_case, server, reachedAs, expected) => {
    expect(serverUrl(configOf({ server }).server, reachedAs).origin).toBe(expected);
  });

  test.each([
    [":5000", "0.0.0.0:5000"],
    ["[::]:5000", "[::]:5000"],
    ["127.0.0.1:0", "free port"],
  ])("nobody knows for %s, and the sentence says why and what to do", (listen, why) => {
    const ask = () => serverUrl(configOf({ server: { listen } }).server, undefined);
    expect(ask).toThrow(SetupError);
    expect(ask).toThrow(why);
    expect(ask).toThrow("--url");
  });
});

test.each([
  ["http://weir.example:5000", true],
  ["https://weir.example/", true],
  ["http://[::1]:5000", true],
  ["weir.example:5000", false],
  ["ftp://weir.example", false],
  ["http://weir.example/cache", false],
  ["http://weir.example?x", false],
  ["http://user:word@weir.example", false],
  ["http://weir.example:99999", false],
  ["http://we ir.example", false],
  ["http://", false],
])("%s as an address for clients: %s", (text, taken) => {
  expect(parseBaseUrl(text) !== undefined).toBe(taken);
});

test.each([
  ["http://127.0.0.1:5000", true],
  ["http://127.8.9.1", true],
  ["http://localhost.:5000", true],
  ["http://weir.localhost", true],
  ["http://[::1]:5000", true],
  ["http://10.0.0.1:5000", false],
  ["http://localhost.example", false],
])("%s leads to this machine only: %s", (url, loopback) => {
  expect(isLoopback(new URL(url))).toBe(loopback);
});
