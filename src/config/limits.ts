import { integer, mapping, size } from "./values.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;

/** Beyond it a process has neither the descriptors nor the memory. */
const MAX_CONNECTIONS = 1_000_000;

export const limitsSchema = mapping({
  manifestSize: size({ min: KIB, max: 64 * MIB })
    .prefault("4MiB")
    .describe("Of one manifest, and of any other document read from an upstream."),
  requestHeaders: size({ min: 8 * KIB, max: MIB })
    .prefault("32KiB")
    .describe("Of a client's request line and headers together."),
  responseHeaders: size({ min: 16 * KIB, max: MIB })
    .prefault("64KiB")
    .describe("Of an upstream's response headers; Google's redirects alone come near 16KiB."),
  connections: integer({ min: 16, max: MAX_CONNECTIONS })
    .prefault(16_384)
    .describe(
      "Clients' connections that one process has at once; half of the files that it may open, where that is less.",
    ),
  connectionsPerClient: integer({ min: 1, max: MAX_CONNECTIONS })
    .prefault(2_048)
    .describe("Of those, how many may come from one address, or from one /64 of IPv6; trusted proxies may have more."),
})
  .prefault({})
  .describe("Bounds on what others send.");
