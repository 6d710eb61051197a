import { mapping, size } from "./values.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;

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
})
  .prefault({})
  .describe("Bounds on what others send.");
