import { join, resolve } from "node:path";
import type { z } from "zod";
import { roomConfig, roomKeys } from "./room.ts";
import { s3Config, s3Schema } from "./storage-s3.ts";
import type { StorageConfig } from "./types.ts";
import { choice, filePath, flag, mapping } from "./values.ts";

export const storageSchema = mapping({
  driver: choice(["filesystem", "s3", "tiered"]).prefault("filesystem").describe("Where blobs are kept."),
  filesystem: mapping({
    root: filePath
      .prefault("./data")
      .describe("Folder of everything that is kept, in the layout of the CNCF distribution registry."),
    shared: flag
      .prefault(false)
      .describe("Whether other Weirs use the folder too, on a network filesystem with file locks; all of them say so."),
  })
    .prefault({})
    .describe("For the drivers filesystem and tiered: the disk."),
  spool: mapping({
    dir: filePath.optional().describe("Folder of downloads under way, on a local disk: <root>/spool."),
  })
    .prefault({})
    .describe("Downloads under way."),
  s3: s3Schema.optional().describe("For the drivers s3 and tiered: the bucket."),
  ...roomKeys,
})
  .prefault({})
  .describe("What is kept, and where.");

type Report = (path: readonly (string | number)[], message: string) => void;

/** Reports what does not go together. */
export function storageConfig(parsed: z.output<typeof storageSchema>, cwd: string, report: Report): StorageConfig {
  const root = resolve(cwd, parsed.filesystem.root);
  if (parsed.driver !== "filesystem" && parsed.s3 === undefined) {
    report(["s3"], `is missing, although storage.driver is ${parsed.driver}; it names at least the bucket`);
  }
  if (parsed.driver === "s3" && parsed.maxSize !== undefined) {
    report(["maxSize"], "bounds a disk, and there is none with storage.driver s3; the bucket's is storage.s3.maxSize");
  }
  if (parsed.driver === "tiered") tieredProblems(parsed, report);
  if (parsed.filesystem.shared && parsed.spool.dir === undefined) {
    report(["spool", "dir"], "is needed, since storage.filesystem.shared is true: name a folder on a local disk");
  }
  return {
    driver: parsed.driver,
    filesystem: { root, shared: parsed.filesystem.shared },
    s3: parsed.s3 && s3Config(parsed.s3, (path, message) => report(["s3", ...path], message)),
    room: roomConfig(parsed, report),
    spool: { dir: parsed.spool.dir === undefined ? join(root, "spool") : resolve(cwd, parsed.spool.dir) },
  };
}

function tieredProblems({ s3, filesystem }: z.output<typeof storageSchema>, report: Report): void {
  if (filesystem.shared) {
    report(["filesystem", "shared"], "does not go with storage.driver tiered: each Weir has a disk of its own there");
  }
  if (s3?.redirect === true) {
    report(["s3", "redirect"], "does not go with storage.driver tiered, where what is held is read from the disk");
  }
}
