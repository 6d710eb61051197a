import { type BlobStore, StorageError } from "../../src/storage/blob-store.ts";
import type { Spool, SpoolFile } from "../../src/storage/spool.ts";
import { createMemoryBlobStore } from "./memory-store.ts";

/** A spool on a disk that is full when `room()` says so: no file can be made with less than 0, none grow past the rest. */
export function spoolWithRoom(real: Spool, room: () => number): Spool {
  return {
    dir: real.dir,
    async create() {
      if (room() < 0) throw noSpace("open");
      return withRoom(await real.create(), room);
    },
    leftovers: () => real.leftovers(),
    close: () => real.close(),
  };
}

function withRoom(file: SpoolFile, room: () => number): SpoolFile {
  return {
    path: file.path,
    hold: () => file.hold(),
    release: () => file.release(),
    read: (buffer, position) => file.read(buffer, position),
    async write(parts, position) {
      const bytes = parts.reduce((sum, part) => sum + part.length, 0);
      if (position + bytes > room()) throw noSpace("write");
      await file.write(parts, position);
    },
    sync: () => file.sync(),
    truncate: (length) => file.truncate(length),
    annotate: (note) => file.annotate(note),
    keep: (note) => file.keep(note),
    remove: () => file.remove(),
  };
}

/** A store that takes nothing more. */
export function fullStore(): BlobStore {
  return {
    ...createMemoryBlobStore(),
    async ingest() {
      throw new StorageError("no-space", "the disk is full");
    },
  };
}

function noSpace(syscall: string): Error {
  return Object.assign(new Error(`ENOSPC: no space left on device, ${syscall}`), { code: "ENOSPC", syscall });
}
