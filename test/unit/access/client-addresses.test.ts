import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ClientAddresses, createAddressGate } from "../../../src/access/client-addresses.ts";
import { AccessDeniedError } from "../../../src/access/denied-error.ts";
import { clientNetwork, compileNetworks } from "../../../src/access/networks.ts";

describe("who a request is from", () => {
  const clients = new ClientAddresses(["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);

  test.each([
    ["the peer, where nothing is forwarded", "10.0.0.1", undefined, "10.0.0.1"],
    ["the peer, where it is not trusted", "203.0.113.9", "8.8.8.8", "203.0.113.9"],
    ["whom a trusted peer names", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
    ["the right-most that is not trusted", "10.0.0.1", "1.1.1.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"],
    ["the left-most, where all are trusted", "10.0.0.1", "10.5.5.5,fd00::1", "10.5.5.5"],
    ["IPv4 in IPv6 as IPv4", "::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"],
    ["an address with its port", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
    ["an IPv6 address with its port", "fd12::1", "[2001:db8::1]:4711", "2001:db8::1"],
    ["an IPv6 address with its zone", "fe80::1%eth0", undefined, "fe80::1"],
    ["nobody, where a trusted proxy names no address", "10.0.0.1", "203.0.113.9, unknown", undefined],
    ["nobody, for an obfuscated name", "10.0.0.1", "_hidden", undefined],
    ["nobody, for an empty header", "10.0.0.1", "", undefined],
    ["nobody, for short and odd IPv4", "10.0.0.1", "0x0a000001", undefined],
    ["what is left of garbage does not matter", "10.0.0.1", "<script>, 203.0.113.9", "203.0.113.9"],
    ["nobody, where the peer is gone", undefined, "203.0.113.9", undefined],
  ])("%s", (_, peer, forwardedFor, client) => {
    expect(clients.of(peer, forwardedFor)).toBe(client);
  });

  test("without trusted proxies the header counts for nothing", () => {
    expect(new ClientAddresses([]).of("10.0.0.1", "203.0.113.9")).toBe("10.0.0.1");
  });

  test("what a client writes in front never decides", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), { maxLength: 5 }), (made) => {
        expect(clients.of("10.0.0.1", [...made, "203.0.113.9", "192.0.2.7"].join(", "))).toBe("203.0.113.9");
      }),
    );
  });
});

describe("who may come in", () => {
  function verdict(lists: { allow?: string[]; deny?: string[] }, client: string | undefined): unknown {
    try {
      createAddressGate("access", { allow: [], deny: [], ...lists }).admit(client);
      return "in";
    } catch (error) {
      expect(error).toBeInstanceOf(AccessDeniedError);
      expect(error).toMatchObject({ code: "DENIED", status: 403, reason: "address" });
      return error instanceof AccessDeniedError ? error.detail?.key : error;
    }
  }

  test.each([
    [{}, "8.8.8.8", "in"],
    [{}, undefined, "in"],
    [{ allow: ["10.0.0.0/8"] }, "10.255.0.1", "in"],
    [{ allow: ["10.0.0.0/8"] }, "11.0.0.1", "access.allow"],
    [{ allow: ["10.0.0.0/8"] }, undefined, "access.allow"],
    [{ deny: ["10.1.0.0/16", "10.2.3.4"] }, "10.2.3.4", "access.deny[1]"],
    [{ deny: ["10.1.0.0/16"] }, "10.2.3.4", "in"],
    [{ deny: ["10.1.0.0/16"] }, undefined, "access.deny"],
    [{ allow: ["10.0.0.0/8"], deny: ["10.1.0.0/16"] }, "10.1.2.3", "access.deny[0]"],
    [{ allow: ["10.0.0.0/8"] }, "::ffff:10.1.2.3", "in"],
    [{ allow: ["::ffff:10.0.0.0/104"] }, "10.1.2.3", "in"],
    [{ allow: ["::ffff:10.1.2.3"] }, "10.1.2.3", "in"],
    // Who comes from 6to4 or NAT64 is not at the IPv4 address in theirs.
    [{ allow: ["10.0.0.0/8"] }, "2002:0a00:0001::1", "access.allow"],
    [{ allow: ["10.0.0.0/8"] }, "64:ff9b::a00:1", "access.allow"],
    [{ allow: ["0.0.0.0/0"] }, "2001:db8::1", "access.allow"],
    [{ allow: ["2001:db8::/32"] }, "2001:DB8:1::1", "in"],
    [{ deny: ["fe80::/10"] }, "fe80::1%eth0", "access.deny[0]"],
  ])("%j, %s: %s", (lists, client, expected) => {
    expect(verdict(lists, client)).toBe(expected);
  });

  test("text that is no address is in no network, whatever it is", () => {
    const everything = compileNetworks(["0.0.0.0/0", "::/0"]);
    fc.assert(
      fc.property(fc.string(), (text) => {
        if (!/^[\d.]+$|:/.test(text)) expect(everything.find(text)).toBeUndefined();
      }),
    );
    expect(everything.find("1.2.3.4")).toBe(0);
  });
});

test.each([
  ["10.1.2.3", "10.1.2.3"],
  ["::ffff:10.1.2.3", "10.1.2.3"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"],
  ["2001:db8:1:3::9", "2001:db8:1:3::/64"],
  ["fe80::1%eth0", "fe80::/64"],
  ["", undefined],
  ["nowhere", undefined],
])("%s is one client with all of %s", (address, network) => {
  expect(clientNetwork(address)).toBe(network);
});
