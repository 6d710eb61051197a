import fc from "fast-check";
import { expect, test } from "vitest";
import { foldUpstreamName, isLoopbackHost, parseHost } from "../../../src/config/hosts.ts";

test.each([
  ["docker.io", "docker.io"],
  ["Docker.IO.", "docker.io"],
  ["docker.io:443", "docker.io"],
  ["reg.example.:5000", "reg.example:5000"],
  ["registry:5000", "registry:5000"],
  // Without its port it would be the first part of a repository.
  ["registry:443", "registry:443"],
  ["localhost", "localhost"],
  ["10.0.0.1:5000", "10.0.0.1:5000"],
  ["xn--bcher-kva.example", "xn--bcher-kva.example"],
])("the upstream %s is %s", (written, expected) => {
  expect(foldUpstreamName(written)).toBe(expected);
});

test.each([
  [""],
  ["registry"],
  ["."],
  ["a..b"],
  ["-a.b"],
  ["a-.b"],
  ["a_b.c"],
  ["bücher.example"],
  ["a.b:"],
  ["a.b:0"],
  ["a.b:080"],
  ["a.b:65536"],
  ["a.b:5000:1"],
  ["[::1]"],
  ["a.b/c"],
  ["a.b@c"],
  ["a.b\n"],
  [`${"a".repeat(300)}.b`],
])("%j is no upstream's name", (written) => {
  expect(foldUpstreamName(written)).toBeUndefined();
});

test("folding twice changes nothing", () => {
  const part = fc.stringMatching(/^[A-Za-z0-9]{1,5}(-[a-z0-9]{1,3})?$/);
  const port = fc.constantFrom("", ".", ":443", ":5000", ".:443");
  fc.assert(
    fc.property(fc.array(part, { minLength: 2, maxLength: 4 }), port, (parts, end) => {
      const once = foldUpstreamName(parts.join(".") + end);
      expect(once).toBeDefined();
      expect(foldUpstreamName(once ?? "")).toBe(once);
    }),
  );
});

test.each([
  ["Auth.Example", "auth.example"],
  ["auth.example:443", "auth.example"],
  ["auth.example:8443", "auth.example:8443"],
  ["auth.example.", "auth.example"],
  ["gitlab", "gitlab"],
  ["[::1]:8443", "[::1]:8443"],
])("the host %s is %s", (written, expected) => {
  expect(parseHost(written)).toBe(expected);
});

test.each([[""], ["https://a.b"], ["a.b/c"], ["u@a.b"], ["a b"], ["a.b:x"], ["a.b:99999"], ["*.a.b"], ["[::1"]])(
  "%j is no host",
  (written) => {
    expect(parseHost(written)).toBeUndefined();
  },
);

test.each([
  ["localhost", true],
  ["127.0.0.1", true],
  ["127.1.2.3", true],
  ["[::1]", true],
  ["localhost.example", false],
  ["127.0.0.1.example", false],
  ["128.0.0.1", false],
  ["10.0.0.1", false],
])("what is sent to %s stays on the machine: %s", (host, expected) => {
  expect(isLoopbackHost(host)).toBe(expected);
});
