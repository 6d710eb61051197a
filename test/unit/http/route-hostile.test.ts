import { describe, expect, test } from "vitest";
import { DIGEST, dynamic, get, permissive, refusal, summary, tableWith } from "./route-fixtures.ts";

describe("R2 what ns may be", () => {
  test.each([
    ["docker.io", "docker.io"],
    ["DOCKER.io", "docker.io"],
    ["docker.io.", "docker.io"],
    ["docker.io:443", "docker.io"],
    ["Docker.IO.:443", "docker.io"],
    ["docker.io%3A443", "docker.io"],
    ["registry-1.docker.io", "docker.io"],
    ["reg.example:5000", "reg.example:5000"],
    ["reg.example%3A5000", "reg.example:5000"],
    ["reg.example.:5000", "reg.example:5000"],
    ["REG.example%3a5000", "reg.example:5000"],
    ["[::1]:5000", "[::1]:5000"],
    ["%5B::1%5D:5000", "[::1]:5000"],
  ])("ns=%s means %s", (ns, upstream) => {
    const call = get(`/v2/a/b/manifests/1?ns=${ns}`);
    expect(summary(call)).toBe(`ns: ${upstream} a/b 1`);
    expect(call.ns).toBe(decodeURIComponent(ns));
    expect(call.linkQuery).toEqual({ ns: decodeURIComponent(ns) });
  });

  const unknown = [
    "169.254.169.254",
    "127.0.0.1:5000",
    "127.1",
    "2130706433",
    "0x7f000001",
    "localhost",
    "localhost:22",
    "[::1]",
    "[::1]:22",
    "[fe80::1]",
    "[::ffff:169.254.169.254]",
    "docker.io:80",
    "docker.io:5000",
    "reg.example",
    "reg.example:5001",
    "evil.example",
    "docker.io.evil.example",
    "xn--bcher-kva.example",
    "docker",
    "constructor",
  ];

  test.each(unknown)("ns=%s names nothing: 404", (ns) => {
    const err = refusal(`/v2/a/b/manifests/1?ns=${ns}`);
    expect([err.status, err.code]).toEqual([404, "NAME_UNKNOWN"]);
    expect(err.message).toContain(ns);
    expect(err.detail).toEqual({ host: ns });
  });

  test.each([
    ["empty", "ns="],
    ["without a value", "ns"],
    ["twice", "ns=docker.io&ns=docker.io"],
    ["twice and different", "ns=docker.io&ns=quay.io"],
    ["10 kB", `ns=${"a".repeat(10_000)}`],
    ["10 kB of labels", `ns=${"a.".repeat(5_000)}io`],
    ["IDN", "ns=b%C3%BCcher.example"],
    ["a Kelvin sign", "ns=doc%E2%84%AAer.io"],
    ["full-width letters", "ns=%EF%BD%84ocker.io"],
    ["encoded twice", "ns=docker%252Eio"],
    ["a colon encoded twice", "ns=reg.example%253A5000"],
    ["a URL", "ns=https://docker.io"],
    ["a path", "ns=docker.io/library"],
    ["an encoded path", "ns=docker.io%2F.."],
    ["user information", "ns=user@docker.io"],
    ["a bare IPv6 address", "ns=::1"],
    ["a wild card", "ns=*"],
    ["two dots", "ns=docker..io"],
    ["dots only", "ns=.."],
    ["a leading dot", "ns=.docker.io"],
    ["a blank", "ns=docker.io%20"],
    ["a plus", "ns=docker.io+"],
    ["a newline", "ns=docker.io%0D%0AX-Evil:1"],
    ["NUL", "ns=docker.io%00"],
    ["bad encoding", "ns=%FF%FE"],
    ["no port", "ns=docker.io:"],
    ["a long port", "ns=docker.io:443443"],
  ])("ns %s: 400", (_name, query) => {
    const err = refusal(`/v2/a/b/manifests/1?${query}`);
    expect([err.status, err.code]).toEqual([400, "NAME_INVALID"]);
    expect(err.message.length).toBeLessThan(400);
  });

  test.each([
    "169.254.169.254",
    "127.0.0.1:5000",
    "localhost",
    "localhost:22",
    "[::1]:22",
    "evil.example",
    "docker.io:80",
  ])("a prefix %s names nothing: 404", (host) => {
    for (const target of [`/v2/${host}/a/b/manifests/1`, `/${host}/v2/a/b/manifests/1`, `/v2/${host}/a/tags/list`]) {
      const err = refusal(target);
      expect([err.status, err.code]).toEqual([404, "NAME_UNKNOWN"]);
      expect(err.message).toContain(host);
    }
  });

  test("a prefix in front of /v2 that names nothing is refused with ns too", () => {
    expect(refusal("/proxy/v2/a/b/manifests/1?ns=docker.io").message).toContain('"proxy"');
    expect(refusal("/evil.example/v2/a/b/manifests/1", "hub.mirror.example").code).toBe("NAME_UNKNOWN");
  });
});

describe("dynamic upstreams", () => {
  test.each([
    ["/v2/a/b/manifests/1?ns=R1.dyn.example", "ns: r1.dyn.example a/b 1"],
    ["/v2/r1.dyn.example/a/b/manifests/1", "prefix: r1.dyn.example a/b 1"],
    ["/v2/r1.dyn.example:8443/a/b/manifests/1", "prefix: r1.dyn.example:8443 a/b 1"],
    ["/v2/r1.dyn.example.:443/a/b/manifests/1", "prefix: r1.dyn.example a/b 1"],
    ["/r1.dyn.example/v2/a/b/manifests/1", "prefix: r1.dyn.example a/b 1"],
    ["/v2/r1.dyn.example/a/b/manifests/1?ns=r1.DYN.example", "ns: r1.dyn.example a/b 1"],
    ["/v2/r2.dyn.example/b/manifests/1?ns=r1.dyn.example", "ns: r1.dyn.example r2.dyn.example/b 1"],
    ["/v2/registry-1.docker.io/a/b/manifests/1", "prefix: docker.io a/b 1"],
    ["/v2/nginx/manifests/1?ns=r1.dyn.example", "ns: r1.dyn.example nginx 1"],
  ])("%s", (target, expected) => {
    expect(summary(get(target, "m", dynamic))).toBe(expected);
  });

  test.each([
    "169.254.169.254",
    "169.254.169.254.",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "127.0.0.0x1",
    "2130706433",
    "0x7f000001",
    "localhost",
    "a.localhost",
    "[::1]",
    "[::ffff:169.254.169.254]",
    "[fd00::1]",
    "intranet",
    "169.254.169.254:80",
    "[::1]:80",
    "localhost:22",
  ])("R2 %s never becomes one, whatever the globs say", (host) => {
    for (const target of [`/v2/a/b/manifests/1?ns=${host}`, `/${host}/v2/a/b/manifests/1`]) {
      const err = refusal(target, "m", permissive);
      expect([err.status, err.code]).toEqual([404, "NAME_UNKNOWN"]);
    }
  });

  test("a glob without a port allows the default port only", () => {
    expect(summary(get("/v2/r1.dyn.example:443/a/manifests/1", "m", dynamic))).toBe("prefix: r1.dyn.example a 1");
    expect(refusal("/v2/r1.dyn.example:22/a/manifests/1", "m", dynamic).code).toBe("NAME_UNKNOWN");
    expect(refusal("/v2/evil.example:22/a/manifests/1", "m", tableWith(["**"])).code).toBe("NAME_UNKNOWN");
  });

  test("R4 not on a virtual host", () => {
    const target = "/v2/r1.dyn.example/a/b/manifests/1";
    expect(summary(get(target, "hub.mirror.example", dynamic))).toBe("virtual-host: docker.io r1.dyn.example/a/b 1");
    expect(refusal(`${target}?ns=r1.dyn.example`, "hub.mirror.example", dynamic).status).toBe(404);
  });
});

describe("R6 malformed names, tags and digests", () => {
  const cases: [string, string][] = [
    // names
    ["/v2/a%2Fb/manifests/1", "NAME_INVALID"],
    ["/v2/quay.io%2Fa/b/manifests/1", "NAME_INVALID"],
    ["/v2/..%2F..%2Fetc/manifests/1", "NAME_INVALID"],
    ["/v2/a%252Fb/manifests/1", "NAME_INVALID"],
    ["/v2/../manifests/1", "NAME_INVALID"],
    ["/v2/a/../b/manifests/1", "NAME_INVALID"],
    ["/v2/a/%2e%2e/b/manifests/1", "NAME_INVALID"],
    ["/v2/quay.io/../docker.io/b/manifests/1", "NAME_INVALID"],
    ["/../v2/a/manifests/1", "NAME_INVALID"],
    ["/./v2/a/manifests/1", "NAME_INVALID"],
    ["//v2/a/manifests/1", "NAME_INVALID"],
    ["/%00/v2/a/manifests/1", "NAME_INVALID"],
    ["/docker.io%2Fx/v2/a/manifests/1", "NAME_INVALID"],
    ["/v2//a/manifests/1", "NAME_INVALID"],
    ["/v2/a//b/manifests/1", "NAME_INVALID"],
    ["/v2/a//manifests/1", "NAME_INVALID"],
    ["/v2/a/b/manifests//1", "NAME_INVALID"],
    ["/v2//", "NAME_INVALID"],
    ["/v2/../../etc/passwd", "NAME_INVALID"],
    ["/v2/a%00b/manifests/1", "NAME_INVALID"],
    ["/v2/a\u0000b/manifests/1", "NAME_INVALID"],
    ["/v2/a%0d%0ab/manifests/1", "NAME_INVALID"],
    ["/v2/a\u007f/manifests/1", "NAME_INVALID"],
    ["/v2/a\\b/manifests/1", "NAME_INVALID"],
    ["/v2/a%5Cb/manifests/1", "NAME_INVALID"],
    ["/v2/a%/manifests/1", "NAME_INVALID"],
    ["/v2/a%zz/manifests/1", "NAME_INVALID"],
    ["/v2/a%C0%AFb/manifests/1", "NAME_INVALID"],
    ["/v2/a+b/manifests/1", "NAME_INVALID"],
    ["/v2/a%20b/manifests/1", "NAME_INVALID"],
    ["/v2/Library/Nginx/manifests/1", "NAME_INVALID"],
    ["/v2/quay.io/Coreos/etcd/manifests/1", "NAME_INVALID"],
    ["/v2/%C3%A4/manifests/1", "NAME_INVALID"],
    ["/v2/_x/manifests/1", "NAME_INVALID"],
    ["/v2/a/_catalog", "NAME_INVALID"],
    ["/v2/a;x=y/manifests/1", "NAME_INVALID"],
    ["/v2/a#b/manifests/1", "NAME_INVALID"],
    [`/v2/${"a".repeat(300)}/manifests/1`, "NAME_INVALID"],
    [`/v2/quay.io/${"a/".repeat(150)}b/manifests/1`, "NAME_INVALID"],
    [`/v2/${"a.".repeat(5_000)}a/b/manifests/1`, "NAME_INVALID"],
    [`/v2/${"a".repeat(250)}/manifests/1`, "NAME_INVALID"], // with library/ it is too long
    ["/v2/manifests/1", "NAME_INVALID"],
    ["/v2/quay.io/manifests/1", "NAME_INVALID"],
    ["/v2/quay.io/tags/list", "NAME_INVALID"],
    ["/v2/blobs/uploads/", "NAME_INVALID"],
    // tags
    ["/v2/a/manifests/", "TAG_INVALID"],
    ["/v2/a/manifests/.hidden", "TAG_INVALID"],
    ["/v2/a/manifests/-x", "TAG_INVALID"],
    ["/v2/a/manifests/..", "TAG_INVALID"],
    ["/v2/a/manifests/1%2F2", "TAG_INVALID"],
    ["/v2/a/manifests/1%00", "TAG_INVALID"],
    ["/v2/a/manifests/1%0A", "TAG_INVALID"],
    ["/v2/a/manifests/1%", "TAG_INVALID"],
    ["/v2/a/manifests/1%252E", "TAG_INVALID"],
    ["/v2/a/manifests/1+1", "TAG_INVALID"],
    ["/v2/a/manifests/%C3%A4", "TAG_INVALID"],
    [`/v2/a/manifests/${"x".repeat(129)}`, "TAG_INVALID"],
    // digests
    ["/v2/a/manifests/sha256:abc", "DIGEST_INVALID"],
    [`/v2/a/manifests/md5:${"a".repeat(32)}`, "DIGEST_INVALID"],
    [`/v2/a/manifests/${DIGEST.toUpperCase()}`, "DIGEST_INVALID"],
    [`/v2/a/manifests/SHA256%3A${"a1".repeat(32)}`, "DIGEST_INVALID"],
    [`/v2/a/manifests/1@${DIGEST}`, "DIGEST_INVALID"],
    ["/v2/a/blobs/latest", "DIGEST_INVALID"],
    ["/v2/a/blobs/", "DIGEST_INVALID"],
    [`/v2/a/blobs/${DIGEST}%00`, "DIGEST_INVALID"],
    [`/v2/a/blobs/${DIGEST}a`, "DIGEST_INVALID"],
    [`/v2/a/blobs/sha256:${"A1".repeat(32)}`, "DIGEST_INVALID"],
    [`/v2/a/blobs/sha256:..%2F..%2F${"a".repeat(58)}`, "DIGEST_INVALID"],
    [`/v2/a/blobs/blake3:${"a1".repeat(32)}`, "DIGEST_INVALID"],
    ["/v2/a/referrers/latest", "DIGEST_INVALID"],
  ];

  test.each(cases)("R6 %j is %s", (target, code) => {
    const err = refusal(target);
    expect([err.status, err.code]).toEqual([400, code]);
    expect(err.message.length).toBeLessThan(600);
    expect(err.message).not.toMatch(/[\r\n\0]/);
  });

  test("the longest that is allowed", () => {
    const name = `a/${"b".repeat(253)}`;
    expect(summary(get(`/v2/quay.io/${name}/manifests/1`))).toBe(`prefix: quay.io ${name} 1`);
  });
});
