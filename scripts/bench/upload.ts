/**
 * What a serving Weir takes of memory while a client pulls a large blob that nobody has pulled before, and Weir keeps it in S3: on
 * a radosgw of its own, everything on 127.0.0.1 and in folders that are removed. `npm run bench:upload` (needs what the S3 tests need).
 *
 *   --size GIB       of the blob (5)
 *   --drivers A,B    filesystem, s3, tiered (s3)
 *   --clients N      who pull it at the same time (1)
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startBlobOrigin } from "../../test/support/blob-origin.ts";
import { stampedBlob } from "../../test/support/fill-sources.ts";
import { tempFolder } from "../../test/support/processes.ts";
import { startS3 } from "../../test/support/radosgw.ts";
import { objectsBelow, s3Config, s3Section } from "../../test/support/s3-store.ts";
import { heldBlobs } from "../../test/support/store-files.ts";
import { download, printTable, stopServer } from "./measure.ts";
import { startWeir } from "./peers.ts";

const GiB = 2 ** 30;
const MAIN = new URL("../../dist/main.js", import.meta.url).pathname;

/** Longer than any upload here takes. */
const KEPT_MS = 15 * 60_000;

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "5" },
    drivers: { type: "string", default: "s3" },
    clients: { type: "string", default: "1" },
  },
});
const size = Math.round(Number(flags.size) * GiB);
const clients = Number(flags.clients);

/** In MiB: what the process has now, or the most that it ever had. */
function memoryOf(pid: number, line: "VmRSS" | "VmHWM"): string {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return (Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024).toFixed(0);
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + KEPT_MS;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`it takes too long: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

await using stack = new AsyncDisposableStack();
// The server's own memory is its disk.
const server = await startS3(stack, { deviceBytes: flags.drivers.split(",").length * 1.25 * size + 4 * GiB });
const origin = await startBlobOrigin(stack);
const blob = stampedBlob("large", size);
origin.add("library/large", blob);
const rows: string[][] = [];
for (const driver of flags.drivers.split(",")) {
  const folder = await tempFolder(stack);
  const s3 = s3Config(server);
  const { child, base } = await startWeir(folder, origin.registryUrl, {
    main: ["--max-semi-space-size=16", MAIN],
    workers: 1,
    storage: {
      driver,
      s3: s3Section(s3),
      spool: { dir: join(folder, "spool") },
      ...(driver === "s3" ? {} : { filesystem: { root: join(folder, "data") } }),
    },
    upstream: origin.upstream,
  });
  try {
    const { pid } = child;
    if (pid === undefined) throw new Error("weir has no process");
    const before = memoryOf(pid, "VmRSS");
    const startMs = performance.now();
    const pulls = await Promise.all(
      Array.from({ length: clients }, () => download(`${base}/v2/origin.test/library/large/blobs/${blob.digest}`)),
    );
    const pulledMs = performance.now() - startMs;
    if (pulls.some(({ bytes }) => bytes !== size)) throw new Error("what was pulled is not the blob");
    const key = `/${blob.digest.slice(7)}/data`;
    const isKept = async (): Promise<boolean> =>
      driver === "filesystem"
        ? (await heldBlobs(join(folder, "data"))).includes(blob.digest)
        : (await objectsBelow(server, `${s3.prefix}docker/registry/v2/blobs/`)).some((name) => name.endsWith(key));
    await until("keeping it", isKept);
    const keptMs = performance.now() - startMs;
    const fetched = origin.sent / size;
    origin.forget();
    rows.push([
      driver,
      before,
      memoryOf(pid, "VmHWM"),
      (pulledMs / 1000).toFixed(0),
      (keptMs / 1000).toFixed(0),
      fetched.toFixed(2),
    ]);
  } finally {
    await stopServer(child);
  }
}
console.log(`a cold blob of ${flags.size} GiB, pulled by ${clients} at once, by one process`);
printTable(["driver", "MiB before", "MiB at most", "s to pull", "s to keep", "times fetched"], rows);
