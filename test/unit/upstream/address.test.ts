import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { classifyAddress, compileAddressList } from "../../../src/upstream/address.ts";

describe("U3 classifying addresses", () => {
  test.each([
    ["8.8.8.8", "public"],
    ["2606:4700::1", "public"],
    ["10.0.0.1", "private"],
    ["172.31.255.255", "private"],
    ["172.32.0.1", "public"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "private"],
    ["fd00::1", "private"],
    ["127.0.0.1", "loopback"],
    ["127.255.0.3", "loopback"],
    ["::1", "loopback"],
    ["169.254.169.254", "link-local"],
    ["fe80::1", "link-local"],
    ["fe80::1%eth0", "link-local"],
    ["0.0.0.0", "other"],
    ["0.1.2.3", "other"],
    ["::", "other"],
    ["224.0.0.1", "other"],
    ["ff02::1", "other"],
    ["255.255.255.255", "other"],
    ["240.0.0.1", "other"],
    ["192.0.2.1", "other"],
    ["198.18.0.1", "other"],
    ["2001:db8::1", "other"],
    ["2001::1", "other"],
    ["::7f00:1", "other"],
    ["64:ff9b:1::7f00:1", "other"],
    ["not an address", "other"],
    ["", "other"],
  ])("%s is %s", (ip, expected) => {
    expect(classifyAddress(ip)).toBe(expected);
  });

  test.each([
    ["::ffff:127.0.0.1", "loopback"],
    ["::ffff:7f00:1", "loopback"],
    ["::ffff:169.254.169.254", "link-local"],
    ["::ffff:10.1.2.3", "private"],
    ["::ffff:8.8.8.8", "public"],
    ["::ffff:0:127.0.0.1", "loopback"],
    ["64:ff9b::127.0.0.1", "loopback"],
    ["64:ff9b::a9fe:a9fe", "link-local"],
    ["64:ff9b::8.8.8.8", "public"],
    ["2002:7f00:1::", "loopback"],
    ["2002:a00:1::1", "private"],
    ["2002:808:808::1", "public"],
  ])("%s counts as the IPv4 address it carries: %s", (ip, expected) => {
    expect(classifyAddress(ip)).toBe(expected);
  });

  test("an IPv4 address and its mapped form are always of one class", () => {
    fc.assert(
      fc.property(fc.ipV4(), (ip) => {
        expect(classifyAddress(`::ffff:${ip}`)).toBe(classifyAddress(ip));
      }),
    );
  });

  test("any text has a class", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV6()), (text) => {
        expect(["public", "private", "loopback", "link-local", "other"]).toContain(classifyAddress(text));
      }),
    );
  });
});

describe("lists of hosts, addresses and CIDRs", () => {
  const listed = compileAddressList([
    "Minio.Corp.Example",
    "10.1.0.0/16",
    "192.168.7.7",
    "[fd00::1]",
    "fd12::/16",
    "::1",
  ]);

  test.each([
    ["minio.corp.example", "10.200.0.1", true],
    ["MINIO.corp.example.", "10.200.0.1", true],
    ["x.minio.corp.example", "10.200.0.1", false],
    ["a.example", "10.1.255.255", true],
    ["a.example", "10.2.0.0", false],
    ["a.example", "::ffff:10.1.0.1", true],
    ["a.example", "192.168.7.7", true],
    ["a.example", "192.168.7.8", false],
    ["a.example", "fd00::1", true],
    ["a.example", "fd12:1::1", true],
    ["a.example", "fd13::1", false],
    ["a.example", "::1", true],
    ["a.example", "nonsense", false],
  ])("%s at %s: %s", (host, address, expected) => {
    expect(listed(host, address)).toBe(expected);
  });

  test("an IPv4-mapped entry means the IPv4 address", () => {
    expect(compileAddressList(["::ffff:10.0.0.9"])("h", "10.0.0.9")).toBe(true);
  });
});
