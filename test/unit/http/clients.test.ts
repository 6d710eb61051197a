import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { Clients } from "../../../src/http/clients.ts";

/** A gate that keeps what it was asked. */
function gateOf() {
  const asked: string[] = [];
  const state = { rules: {}, denied: "" };
  return {
    asked,
    state,
    addressOf(peer: string | undefined, forwardedFor: string | undefined) {
      asked.push(`address of ${peer}, ${forwardedFor}`);
      return forwardedFor ?? peer;
    },
    admit(client: string | undefined) {
      asked.push(`admit ${client}`);
      if (client === state.denied) throw new Error("denied");
    },
    mayRedirect(client: string | undefined) {
      asked.push(`redirect ${client}`);
      return client !== state.denied;
    },
    accelRedirect: () => undefined,
    rules: () => state.rules,
  };
}

const from = (socket: object, forwardedFor?: string): IncomingMessage =>
  ({ socket, headers: forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor } }) as never;

test("what is decided about a connection's other end is decided once", () => {
  const gate = gateOf();
  const clients = new Clients(gate);
  const socket = { remoteAddress: "192.0.2.1" };
  for (let i = 0; i < 3; i += 1) {
    const client = clients.of(from(socket));
    client.admit();
    expect([client.address, client.shown, client.scheme, client.mayRedirect]).toEqual([
      "192.0.2.1",
      "192.0.2.1",
      "http",
      true,
    ]);
  }
  expect(gate.asked).toEqual(["address of 192.0.2.1, undefined", "admit 192.0.2.1", "redirect 192.0.2.1"]);
  expect(clients.of(from({ remoteAddress: "192.0.2.2", encrypted: true }))).toMatchObject({
    address: "192.0.2.2",
    scheme: "https",
  });
});

test("who is refused is refused every time", () => {
  const gate = gateOf();
  gate.state.denied = "192.0.2.1";
  const clients = new Clients(gate);
  const socket = { remoteAddress: "192.0.2.1" };
  for (let i = 0; i < 3; i += 1) expect(() => clients.of(from(socket)).admit()).toThrow("denied");
});

test("it is decided anew by other rules, on connections that are open already", () => {
  const gate = gateOf();
  const clients = new Clients(gate);
  const socket = { remoteAddress: "192.0.2.1" };
  const before = clients.of(from(socket));
  before.admit();
  expect(before.mayRedirect).toBe(true);
  gate.state.rules = {};
  gate.state.denied = "192.0.2.1";
  const after = clients.of(from(socket));
  expect(() => after.admit()).toThrow("denied");
  expect(after.mayRedirect).toBe(false);
});

test("nothing is remembered of what others say of a client", () => {
  const gate = gateOf();
  gate.state.denied = "192.0.2.66";
  const clients = new Clients(gate);
  const socket = { remoteAddress: "127.0.0.1" };
  clients.of(from(socket)).admit();
  clients.of(from(socket, "192.0.2.1")).admit();
  expect(() => clients.of(from(socket, "192.0.2.66")).admit()).toThrow("denied");
  expect(clients.of(from(socket, "192.0.2.2")).address).toBe("192.0.2.2");
  expect(clients.of(from(socket)).address).toBe("127.0.0.1");
});

test("a connection that has ended has no address, and is not remembered without one", () => {
  const clients = new Clients(gateOf());
  const socket: { remoteAddress?: string } = {};
  expect(clients.of(from(socket)).shown).toBeUndefined();
  socket.remoteAddress = "192.0.2.1";
  expect(clients.of(from(socket)).shown).toBe("192.0.2.1");
});
