/** A DNS server on loopback that answers from a list, the next answer to each next question, with no time to live. */
import { createSocket } from "node:dgram";
import { promises as dns } from "node:dns";
import { once } from "node:events";
import type { Lookup } from "../../src/upstream/transport.ts";

export interface DnsServer {
  /** Names that were asked for, in order. */
  readonly questions: readonly string[];
  /** Asks this server for IPv4 addresses, anew each time. */
  readonly lookup: Lookup;
}

const TYPE_A = 1;
const CLASS_IN = 1;
/** Response, recursion desired and available. */
const ANSWERED = 0x8180;
const NAME_ERROR = 3;
/** The name in the question, as a compressed one (RFC 1035 4.1.4). */
const SAME_NAME = 0xc00c;

/**
 * @param table by name the addresses of each answer in turn; the last one stays
 */
export async function startDnsServer(
  stack: AsyncDisposableStack,
  table: Readonly<Record<string, readonly (readonly string[])[]>>,
): Promise<DnsServer> {
  const questions: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => {
    const { name, end } = readName(message);
    const asked = questions.filter((question) => question === name).length;
    questions.push(name);
    const answers = table[name] ?? [];
    const addresses = answers[Math.min(asked, answers.length - 1)];
    socket.send(respond(message, end, addresses), from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  stack.defer(async () => {
    const closed = once(socket, "close");
    socket.close();
    await closed;
  });
  const resolver = new dns.Resolver();
  resolver.setServers([`127.0.0.1:${socket.address().port}`]);
  return {
    questions,
    lookup: async (hostname) => (await resolver.resolve4(hostname)).map((address) => ({ address, family: 4 })),
  };
}

/** The name of the first question, and where the question ends. */
function readName(message: Buffer): { readonly name: string; readonly end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message.readUInt8(at); length !== 0; length = message.readUInt8(at)) {
    labels.push(message.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join("."), end: at + 5 };
}

function respond(query: Buffer, questionEnd: number, addresses: readonly string[] | undefined): Buffer {
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(addresses === undefined ? ANSWERED | NAME_ERROR : ANSWERED, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(addresses?.length ?? 0, 6);
  const records = (addresses ?? []).map((address) => {
    const record = Buffer.alloc(16);
    record.writeUInt16BE(SAME_NAME, 0);
    record.writeUInt16BE(TYPE_A, 2);
    record.writeUInt16BE(CLASS_IN, 4);
    record.writeUInt16BE(4, 10);
    Buffer.from(address.split(".").map(Number)).copy(record, 12);
    return record;
  });
  return Buffer.concat([head, query.subarray(12, questionEnd), ...records]);
}
