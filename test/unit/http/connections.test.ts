import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { expect, test } from "vitest";
import { type Connection, Connections } from "../../../src/http/connections.ts";

const TOTAL = 4;

/** So many connections that none is left, by their names, and what has become of each newcomer's predecessor. */
function full() {
  const connections = new Connections({ total: TOTAL, perClient: TOTAL, clientOf: () => undefined });
  const destroyed: string[] = [];
  let port = 0;
  const open = (name: string): Connection | undefined => {
    port += 1;
    const raw = Object.assign(new EventEmitter(), {
      remoteAddress: "192.0.2.1",
      remotePort: port,
      localAddress: "192.0.2.2",
      localPort: 80,
      destroy: () => {
        destroyed.push(name);
        raw.emit("close");
      },
    }) as unknown as Socket;
    return connections.admit(raw, () => {}) ? connections.of(raw) : undefined;
  };
  const all = ["a", "b", "c", "d"].map((name) => {
    const connection = open(name);
    if (connection === undefined) throw new Error("there is no place");
    return connection;
  });
  return { connections, open, destroyed, all: all as [Connection, Connection, Connection, Connection] };
}

const response = {} as ServerResponse;

test("a newcomer takes the place of the one that was not used for longest, however it was used", () => {
  const { connections, open, destroyed, all } = full();
  const [a, b, c] = all;
  connections.used(b);
  connections.used(a);
  connections.began(c, response);
  connections.finished(c, response);
  connections.used(b);
  open("e");
  expect(destroyed).toEqual(["d"]);
  open("f");
  // Now that places are scarce, as before.
  connections.used(c);
  expect(destroyed).toEqual(["d", "a"]);
  open("g");
  open("h");
  expect(destroyed).toEqual(["d", "a", "b", "e"]);
});

test("also where places have become scarce again", () => {
  const { connections, open, destroyed, all } = full();
  open("e");
  for (const { raw } of all.slice(1)) raw.emit("close");
  const [f, g] = [open("f"), open("g")];
  const [h] = [open("h")];
  if (f === undefined || g === undefined || h === undefined) throw new Error("there is no place");
  connections.used(f);
  connections.used(h);
  connections.used(f);
  for (const name of ["i", "j", "k", "l"]) open(name);
  expect(destroyed).toEqual(["a", "e", "g", "h", "f"]);
});

test("one with an answer under way keeps its place, as does one that was used in the meantime of another answer", () => {
  const { connections, open, destroyed, all } = full();
  const [a, b, c, d] = all;
  for (const one of [a, b, c, d]) connections.began(one, response);
  connections.used(a);
  expect(open("e")).toBeUndefined();
  connections.finished(d, response);
  open("e");
  expect(destroyed).toEqual(["d"]);
});
